//! Opening sled without trusting it: on a thread of its own, where a panic is an answer and a hang has a limit.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::{Database, Fault, OpenError, OpenFault, Opening};

/// sled's own page cache; it holds about twice this in memory.
const CACHE_BYTES: u64 = 4 << 20;

/// A database that has not opened by then never will.
const OPEN_LIMIT: Duration = Duration::from_secs(600);

/// How long a database that was just closed may keep its file lock: sled's background threads let go of it last.
const BUSY_TRIES: u32 = 100;
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// Makes the directory, for this user alone.
pub(crate) fn prepare_dir(dir: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| OpenError::io(dir, e))
}

/// Opens the database in `dir` and reads it with `read`. Neither a panic nor a hang in either gets out.
pub(crate) fn open_database<T, F>(dir: &Path, read: F) -> Result<Opening<T>, OpenFault>
where
    T: Send + 'static,
    F: Fn(&Database) -> Result<T, OpenFault> + Send + Clone + 'static,
{
    let mut tries = BUSY_TRIES;
    loop {
        let (owned, read) = (dir.to_owned(), read.clone());
        match contained("sled-open", OPEN_LIMIT, move || open_and_read(&owned, &read)) {
            Ok(Err(OpenFault::Busy(_))) if tries > 0 => tries -= 1,
            Ok(done) => return done,
            Err(fault) => return Err(fault),
        }
        thread::sleep(BUSY_WAIT);
    }
}

fn open_and_read<T>(dir: &Path, read: &impl Fn(&Database) -> Result<T, OpenFault>) -> Result<Opening<T>, OpenFault> {
    let fresh = !dir.join("db").exists();
    drop_unfinished_snapshots(dir).map_err(|e| OpenFault::Io(e.to_string()))?;
    // flush_every_ms also drives sled's cleaning of half-empty segments
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(Some(500));
    let db = config.open().map_err(|e| match e {
        sled::Error::Io(e) if e.kind() == io::ErrorKind::Other && e.to_string().contains("acquire lock") => {
            OpenFault::Busy(e.to_string())
        }
        sled::Error::Io(e) if is_refusal(&e) => OpenFault::Io(e.to_string()),
        other => OpenFault::Damaged(other.to_string()),
    })?;
    let database = Database::new(db, dir).map_err(|e| OpenFault::Io(e.to_string()))?;
    if fresh {
        sync_names(dir).map_err(|e| OpenFault::Io(e.to_string()))?;
    }
    let read = read(&database)?;
    Ok(Opening { database, read })
}

/// Errors that say something of the file system and nothing of what is in the files.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), NotADirectory | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

/// sled takes a snapshot it was writing when it was killed for the newest one and does not open (spacejam/sled#1527). The one before
/// is still there, and the log has all that is newer, so the unfinished one is of no use.
fn drop_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    let entries = match dir.read_dir() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// New files survive a power cut only once their directory has been synced.
fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Runs `work` on a thread; a panic or no answer within `limit` means damage. A thread that hangs is left behind.
pub(crate) fn contained<T: Send + 'static>(
    name: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OpenFault> {
    let (sender, receiver) = sync_channel(1);
    let run = move || {
        let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(&*panic));
        let _ = sender.send(result);
    };
    thread::Builder::new().name(name.into()).spawn(run).map_err(|e| OpenFault::Io(format!("no thread to open it on: {e}")))?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result.map_err(OpenFault::Damaged),
        Err(RecvTimeoutError::Timeout) => Err(OpenFault::Damaged(format!("no answer within {} s", limit.as_secs()))),
        Err(RecvTimeoutError::Disconnected) => Err(OpenFault::Damaged("its thread died".into())),
    }
}

/// What a panic said, in one bounded line.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "unknown panic".into());
    let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    format!("sled panicked: {line}")
}

/// Renames a database that cannot be used to `<name>.damaged-<time>`; gives the new path.
pub(crate) fn move_aside(dir: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    for attempt in 1..1000_u32 {
        let suffix = if attempt == 1 { String::new() } else { format!("-{attempt}") };
        let target = dir.with_file_name(format!("{name}.damaged-{stamp}{suffix}"));
        if !target.exists() {
            std::fs::rename(dir, &target)?;
            return Ok(target);
        }
    }
    Err(io::Error::other("too many damaged databases stand aside already; remove some"))
}

impl From<Fault> for OpenFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full(text) | Fault::Io(text) => Self::Io(text),
            Fault::Damaged(text) => Self::Damaged(text),
        }
    }
}
