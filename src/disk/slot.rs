//! A place for a database that is closed after an error and opened again later. A panic of sled's is an error here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use super::open::panic_text;
use super::{Database, Fault, WriteBatch};

/// Whether a write waits until it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// It does.
    Now,
    /// The next flush takes it along.
    Later,
}

/// Holds an open database, or none after an error: sled answers every call with its first error until it is opened again.
pub(crate) struct Slot(RwLock<Option<Database>>);

impl Slot {
    pub(crate) const fn new(database: Database) -> Self {
        Self(RwLock::new(Some(database)))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn refill(&self, database: Database) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
    }

    pub(crate) fn read<R, E: From<Fault>>(&self, read: impl FnOnce(&Database) -> Result<R, E>) -> Result<R, E> {
        let place = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let database = place.as_ref().ok_or_else(closed)?;
        catch_unwind(AssertUnwindSafe(|| read(database))).unwrap_or_else(|panic| Err(Fault::Damaged(panic_text(&*panic)).into()))
    }

    /// Writes a batch; an error closes the database, unless a full disk was seen before anything was touched.
    pub(crate) fn write(&self, batch: WriteBatch, flush: Flush) -> Result<(), Fault> {
        let result = {
            let place = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let database = place.as_ref().ok_or_else(closed)?;
            database.check_room()?;
            let write = || database.apply(batch).and_then(|()| if flush == Flush::Now { database.flush() } else { Ok(()) });
            catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|panic| Err(Fault::Damaged(panic_text(&*panic))))
        };
        if result.is_err() {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    /// Lets a test fail writes, or lose the database as an error would.
    #[cfg(test)]
    pub(crate) fn meddle(&self, meddle: impl FnOnce(&mut Option<Database>)) {
        meddle(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn closed() -> Fault {
    Fault::Io("the database was closed after an error and is opened again with the next write".into())
}
