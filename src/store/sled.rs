//! The store on sled: one tree, one file per stored key, group commit.
//!
//! | key | holds | file |
//! |---|---|---|
//! | `m` | format of the whole, which ledger it is, commits that wrote more than ledger records | `meta` |
//! | `c` campaign | its record | `campaign` |
//! | `p` kind name | a pause | `pause` |
//! | `s` account recipient | a suppressed recipient | `suppression` |
//! | `l` campaign number | a commit's ledger records of that campaign | `ledger` |
//! | `d` campaign | its ledger is being removed | `dropped` |
//!
//! Beside the database stand a witness that there is one (`witness`) and a plain copy of the suppression list (`copy`).

mod campaign;
mod copy;
mod dropped;
mod index;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod ledger;
mod memory;
mod meta;
mod open;
mod pause;
mod suppression;
mod witness;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;

use super::{Change, Contents, Mark, Store, StoreError};
use crate::campaign::Entry;
use crate::clock::Clock;
pub use crate::disk::OpenError;
use crate::disk::{Database, Fault, Group, Lock, Slot, prefix_end};
use crate::job::{CampaignId, JobId};
use ledger::StoredJob;
use memory::Memory;

/// The store on disk. Dropping it writes what was handed to it and closes the database.
pub struct SledStore {
    // in this order: the writer must be done before the database closes, and that before another process may open it
    writer: Group<Arc<[Change]>>,
    shared: Arc<Shared>,
    _lock: Lock,
}

/// A store that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SledStore,
    /// The ledger that was here is lost, and the store began again empty.
    pub lost: Option<Lost>,
}

/// A ledger that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What was wrong with it.
    pub reason: String,
    /// Where its files are now; none when they were gone.
    pub moved_to: Option<PathBuf>,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.moved_to {
            Some(target) => write!(f, "the ledger was damaged ({}) and moved aside to {}", self.reason, target.display()),
            None => write!(f, "the ledger is lost: {}", self.reason),
        }
    }
}

/// What readers and the writer share.
struct Shared {
    database: Slot,
    memory: RwLock<Memory>,
    /// It was found to lack something when it was opened.
    behind: bool,
}

impl SledStore {
    /// Opens the database `ledger` in the state directory `dir`, or makes one. One that is damaged, or empty though it was not, is
    /// moved aside, and an empty one takes its place. Takes as long as reading the whole ledger does: some 0.5 s for a million jobs.
    ///
    /// # Errors
    /// When another process has it, a newer version wrote it, or the file system refuses.
    pub fn open(dir: &Path, clock: &Clock) -> Result<Opened, OpenError> {
        open::open(dir, clock)
    }
}

#[async_trait]
impl Store for SledStore {
    async fn commit(&self, changes: Arc<[Change]>) -> Result<(), StoreError> {
        Ok(self.writer.write(changes).await?)
    }

    fn find(&self, campaign: &CampaignId, job: &JobId) -> Result<Option<Entry>, StoreError> {
        let stored = StoredJob::of(job);
        let Some(number) = read(&self.shared.memory).last_value_of(campaign, stored) else { return Ok(None) };
        self.shared.database.read(|database| {
            let value = database.get(&ledger::key(campaign, number))?;
            let last = value.map_or(Ok(None), |value| last_of(&value, stored))?;
            last.map_or_else(|| search(database, campaign, stored), |entry| Ok(Some(entry)))
        })
    }

    fn load(&self) -> Result<Contents, StoreError> {
        let contents = self.shared.database.read(|database| open::contents(database, &read(&self.shared.memory)))?;
        Ok(Contents { behind: self.shared.behind, ..contents })
    }

    fn mark(&self) -> Mark {
        read(&self.shared.memory).mark
    }
}

/// The last record of a job in one value.
fn last_of(value: &[u8], job: StoredJob<'_>) -> Result<Option<Entry>, StoreError> {
    let unreadable = |_| StoreError::Damaged("a ledger value cannot be read".into());
    let mut last = None;
    for record in ledger::read(value).map_err(unreadable)?.1 {
        let record = record.map_err(unreadable)?;
        if record.job == job {
            last = Some(record);
        }
    }
    last.map(|record| record.entry().ok_or_else(|| unreadable(ledger::NoRecord))).transpose()
}

/// The whole ledger, latest first: for a job that shares its fingerprint with another.
fn search(database: &Database, campaign: &CampaignId, job: StoredJob<'_>) -> Result<Option<Entry>, StoreError> {
    let (from, to) = (ledger::key(campaign, 0), prefix_end(ledger::PREFIX, campaign.as_str()));
    for item in database.range(&from, &to).rev() {
        if let Some(entry) = last_of(&item?.1, job)? {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full(text) => Self::Full(text),
            Fault::Io(text) => Self::Io(text),
            Fault::Damaged(text) => Self::Damaged(text),
        }
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
