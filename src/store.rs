//! What must be remembered: campaigns, pauses, the ledger, the suppression list. What it holds may be lost without losing a job.

pub mod memory;
pub mod sled;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::campaign::{Campaign, Entry, Pause, PauseTarget, Record};
use crate::job::{AccountName, CampaignId, JobId, Recipient};

/// Durable memory. One engine writes; reads see what has been committed.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes all changes or none. Once this returns `Ok` they are on disk and survive kill -9 and power loss.
    ///
    /// Commits that arrive while another is being flushed share the next flush. After an error nothing of it can be relied on to be
    /// there or not there; repeating the same commit is safe.
    async fn commit(&self, changes: Arc<[Change]>) -> Result<(), StoreError>;

    /// What the ledger knows of a job. Fast when it knows nothing.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn find(&self, campaign: &CampaignId, job: &JobId) -> Result<Option<Entry>, StoreError>;

    /// Everything but the ledger, with each campaign's counts as its ledger says.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn load(&self) -> Result<Contents, StoreError>;

    /// Which ledger this is, and how far it has come.
    fn mark(&self) -> Mark;
}

/// Names a ledger and says how far it had come, so that an older copy of it is told from the ledger itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// The ledger's own number, drawn when it was made.
    pub ledger: u64,
    /// Commits so far.
    pub commits: u64,
}

impl Mark {
    /// A ledger with this mark holds everything a ledger with the `other` one held.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.ledger == other.ledger && self.commits >= other.commits
    }
}

/// One change within a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Puts a campaign's record.
    Campaign(Campaign),
    /// Appends to a campaign's ledger, in this order.
    Ledger(CampaignId, Vec<Record>),
    /// Puts a pause.
    Pause(PauseTarget, Pause),
    /// Takes a pause away.
    Resume(PauseTarget),
    /// Puts a recipient on the account's suppression list.
    Suppress(AccountName, Recipient),
    /// Drops a campaign's ledger; its record stays, with its counts.
    DropLedger(CampaignId),
}

/// What a store holds, the ledger apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contents {
    /// Every campaign ever registered.
    pub campaigns: Vec<Campaign>,
    /// Pauses in force when they were written.
    pub pauses: Vec<(PauseTarget, Pause)>,
    /// Recipients who get nothing more, by account.
    pub suppressed: Vec<(AccountName, Recipient)>,
    /// Something that was once on disk is missing: an older copy was put in its place, or it lost its end.
    pub behind: bool,
}

/// Why the store did not work. Worth repeating after a while: space may come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("no space left for the state directory: {0}")]
    Full(String),
    /// Any other failure of the disk.
    #[error("the state directory cannot be read or written: {0}")]
    Io(String),
    /// What was read makes no sense.
    #[error("the state directory is damaged: {0}")]
    Damaged(String),
}
