//! A small disk that can be filled: a tmpfs in a mount namespace of its own, for root and for everybody who may make one.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SIZE_KIB: u64 = 64 * 1024;

/// Unmounted when dropped, or when this program is gone.
pub(crate) struct SmallDisk {
    keeper: Child,
    root: PathBuf,
}

impl SmallDisk {
    /// Mounts one over the directory `at`.
    ///
    /// # Errors
    /// When this user may not; says why.
    pub(crate) fn mount(at: &Path) -> Result<Self, String> {
        Self::try_mount(at, &["--mount"]).or_else(|_| Self::try_mount(at, &["--mount", "--user", "--map-root-user"]))
    }

    fn try_mount(at: &Path, how: &[&str]) -> Result<Self, String> {
        let script = format!(r#"mount -t tmpfs -o size={SIZE_KIB}k,mode=700 tmpfs "$1" && echo mounted && read -r _"#);
        let mut command = Command::new("unshare");
        command.args(how).args(["sh", "-c", &script, "sh"]).arg(at);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut keeper = spawned.map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        let _ = BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line);
        // The namespace belongs to the shell; from outside it is entered by way of its root.
        let root = PathBuf::from(format!("/proc/{}/root{}", keeper.id(), at.display()));
        let disk = Self { keeper, root };
        let proved =
            line.trim() == "mounted" && fs::write(disk.path().join("proof"), "here").is_ok() && !at.join("proof").exists();
        if proved { Ok(disk) } else { Err("no mount namespace with a tmpfs can be had here".into()) }
    }

    /// Where it is for processes outside of the namespace.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// Fills it up to the last `leave` bytes.
    pub(crate) fn fill(&self, leave: u64) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let chunk = vec![1; 64 * 1024];
        let mut size = 0;
        while let Ok(written) = ballast.write(&chunk) {
            size += written as u64;
        }
        ballast.set_len(size.saturating_sub(leave)).unwrap();
    }

    /// Makes room again.
    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take()); // the shell ends at the end of its input
        let _ = self.keeper.wait();
    }
}

#[test]
fn a_small_disk_fills_up_and_has_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let Ok(disk) = SmallDisk::mount(dir.path()) else { return }; // the rounds say that they leave it out
    disk.fill(0);
    assert!(fs::write(disk.path().join("more"), vec![0; 128 * 1024]).is_err());
    disk.free();
    fs::write(disk.path().join("more"), vec![0; 128 * 1024]).unwrap();
    assert!(!dir.path().join("more").exists(), "it is nobody's disk but ours");
}
