//! One process per directory: a lock file that says who holds it. The lock dies with its process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::OpenError;

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock `dir/name`.
    pub(crate) fn take(dir: &Path, name: &str) -> Result<Self, OpenError> {
        let path = dir.join(name);
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open().map_err(|e| OpenError::io(&path, e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked { dir: super::shown(dir), by: read_pid(&mut file) });
            }
            Err(e) => return Err(OpenError::io(&path, e)),
        }
        // who holds it is only told to people, so a disk too full for a pid does not keep us from starting
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_is_told_who_holds_it_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), "lock").unwrap();
        let refused = Lock::take(dir.path(), "lock").unwrap_err();
        assert_eq!(refused, OpenError::Locked { dir: dir.path().display().to_string(), by: Some(std::process::id()) });
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        Lock::take(dir.path(), "lock").unwrap();
    }
}
