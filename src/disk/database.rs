//! An open sled database: every answer of sled's turned into a [`Fault`], and flushes that reach the disk itself.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::Fault;

/// Writing stops while the file system has less room than this: sled must never meet a full disk itself, since a failed write can
/// leave its flush waiting for ever.
const ROOM_BYTES: u64 = 8 << 20;

/// Keys in a page of sled's that was filled in order, at least: of 17 the first nine stay together (sled 0.34.7, `node.rs`).
pub(crate) const LEAF_KEYS: u32 = 8;

/// Lookups after which sled makes room (`lru.rs`).
const LOOKUPS: usize = 64;

/// Keys to be put and taken away, all of them or none.
#[derive(Debug, Default)]
pub(crate) struct WriteBatch(Vec<(sled::IVec, Option<sled::IVec>)>);

impl WriteBatch {
    pub(crate) fn insert(&mut self, key: impl Into<sled::IVec>, value: impl Into<sled::IVec>) {
        self.0.push((key.into(), Some(value.into())));
    }

    pub(crate) fn remove(&mut self, key: impl Into<sled::IVec>) {
        self.0.push((key.into(), None));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An open database. Dropping it writes what is left.
pub(crate) struct Database {
    db: sled::Db,
    file: File,
    dir: PathBuf,
    room_bytes: u64,
    #[cfg(test)]
    trouble: std::sync::Mutex<Option<InjectedFault>>,
}

/// What a test wants the next write to suffer.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// It fails before anything is written.
    Lost,
    /// It fails when all of it is on disk.
    Kept,
}

impl Database {
    pub(super) fn new(db: sled::Db, dir: &Path) -> io::Result<Self> {
        let file = File::open(dir.join("db"))?;
        Ok(Self {
            db,
            file,
            dir: dir.to_owned(),
            room_bytes: ROOM_BYTES,
            #[cfg(test)]
            trouble: std::sync::Mutex::default(),
        })
    }

    /// Refuses writes as if the disk were full when less than `bytes` are free.
    #[cfg(test)]
    pub(crate) const fn want_room(&mut self, bytes: u64) {
        self.room_bytes = bytes;
    }

    #[cfg(test)]
    pub(crate) fn suffer(&self, trouble: InjectedFault) {
        *self.trouble.lock().unwrap() = Some(trouble);
    }

    #[cfg(test)]
    fn suffers(&self, trouble: InjectedFault) -> Result<(), Fault> {
        let mut next = self.trouble.lock().unwrap();
        if *next == Some(trouble) {
            *next = None;
            return Err(Fault::Io("a test wanted this".into()));
        }
        Ok(())
    }

    /// Whether the disk has room to go on. Nothing has been touched when it has not.
    pub(crate) fn check_room(&self) -> Result<(), Fault> {
        let free = rustix::fs::statvfs(&self.dir).map_err(|e| Fault::Io(format!("{}: {e}", self.dir.display())))?;
        let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
        if free_bytes < self.room_bytes {
            return Err(Fault::Full(format!(
                "{}: {} MiB free, {} needed",
                self.dir.display(),
                free_bytes >> 20,
                self.room_bytes >> 20
            )));
        }
        Ok(())
    }

    /// Applies a batch: all of it or nothing will be there after a crash. Not on disk before [`Database::flush`].
    ///
    /// A single key goes without sled's own batch, which would be one more buffer to write, to sync, and to wake its threads for.
    pub(crate) fn apply(&self, batch: WriteBatch) -> Result<(), Fault> {
        #[cfg(test)]
        self.suffers(InjectedFault::Lost)?;
        let applied = match <[_; 1]>::try_from(batch.0) {
            Ok([(key, Some(value))]) => self.db.insert(key, value).map(drop),
            Ok([(key, None)]) => self.db.remove(key).map(drop),
            Err(changes) => {
                let mut batch = sled::Batch::default();
                for (key, value) in changes {
                    match value {
                        Some(value) => batch.insert(key, value),
                        None => batch.remove(key),
                    }
                }
                self.db.apply_batch(batch)
            }
        };
        applied.map_err(|e| self.fault(e))
    }

    /// Everything applied before is on disk when this returns.
    pub(crate) fn flush(&self) -> Result<(), Fault> {
        self.db.flush().map_err(|e| self.fault(e))?;
        // sled's flush on Linux is sync_file_range(2), which leaves the drive's cache and the file's size out
        self.file.sync_data().map_err(|e| self.io_fault(&e))?;
        #[cfg(test)]
        self.suffers(InjectedFault::Kept)?;
        Ok(())
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, Fault> {
        self.db.get(key).map_err(|e| self.fault(e))
    }

    /// Keys from `from` up to, not including, `to`; from the end when reversed.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(sled::IVec, sled::IVec), Fault>> + '_ {
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        self.db.range::<&[u8], _>(bounds).map(|item| item.map_err(|e| self.fault(e)))
    }

    /// Keys that start with `prefix`.
    pub(crate) fn prefixed(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(sled::IVec, sled::IVec), Fault>> + '_ {
        self.db.scan_prefix(prefix).map(|item| item.map_err(|e| self.fault(e)))
    }

    /// Passes every key that starts with `prefix` to `each`, in memory that does not grow with their number.
    ///
    /// Reading a large database once would otherwise keep all of it.
    pub(crate) fn read_through<E: From<Fault>>(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (count, item) in self.prefixed(prefix).enumerate() {
            let (key, value) = item?;
            each(&key, &value)?;
            if count % LEAF_KEYS as usize == 0 {
                self.make_room(&key)?;
            }
        }
        Ok(())
    }

    /// Of the pages of sled's that share a place in its cache with this key's, only this one stays in memory.
    ///
    /// sled counts a page as used once it was looked up, but makes room only after 64 lookups in the page's group (one of 256), so pages
    /// that are filled or read once and then left alone add up. Hence this key is looked up that often.
    pub(crate) fn make_room(&self, key: &[u8]) -> Result<(), Fault> {
        for _ in 0..LOOKUPS {
            self.get(key)?;
        }
        Ok(())
    }

    fn fault(&self, error: sled::Error) -> Fault {
        match error {
            sled::Error::Io(e) => self.io_fault(&e),
            sled::Error::Corruption { .. } => Fault::Damaged(format!("{}: a checksum does not match", self.dir.display())),
            other => Fault::Damaged(format!("{}: {other}", self.dir.display())),
        }
    }

    fn io_fault(&self, error: &io::Error) -> Fault {
        let text = format!("{}: {error}", self.dir.display());
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Fault::Full(text) } else { Fault::Io(text) }
    }
}

/// `prefix`, then `name`, then a zero byte (which no name holds), then a number that sorts as it counts.
pub(crate) fn key_between(prefix: u8, name: &str, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 10);
    key.push(prefix);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The first key after all those that start with `prefix` and a name and a zero byte.
pub(crate) fn prefix_end(prefix: u8, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 2);
    key.push(prefix);
    key.extend_from_slice(name.as_bytes());
    key.push(1);
    key
}
