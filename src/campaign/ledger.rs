//! What the ledger knows of one job, and the records it is written in.

use jiff::Timestamp;

use super::counts::batch_bit;
use crate::broker::Death;
use crate::job::JobId;

/// What is known of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub state: JobState,
    /// Attempts used up so far.
    pub attempts: u32,
    /// Attempts in a row, before the one that is open, during which the daemon died.
    pub lost: u32,
    /// The release it belongs to: how often a person has let it out of the dead letters.
    pub release: u32,
    /// The campaign's batches it was seen in, one bit each.
    pub batches: u64,
    /// How often the campaign's ledger had been lost when this was written.
    pub era: u32,
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// An attempt was opened and has no outcome yet. Found after a restart, this means *unknown*.
    Opened,
    /// Surely not sent, and at the broker: put back, or released from the dead letters.
    Waiting,
    /// Surely not sent; to be tried again at this time.
    Delayed {
        /// Not before this.
        until: Timestamp,
    },
    /// Accepted by the gateway.
    Sent {
        /// Meta's message id.
        wamid: String,
    },
    /// In the dead letters.
    Dead(Death),
    /// Its campaign was cancelled before it was sent.
    Cancelled,
    /// Its `not_after` passed before it was sent.
    Expired,
}

/// [`JobState`] without what belongs to it; the numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StateTag {
    /// [`JobState::Opened`]
    Opened = 1,
    /// [`JobState::Waiting`]
    Waiting = 2,
    /// [`JobState::Delayed`]
    Delayed = 3,
    /// [`JobState::Sent`]
    Sent = 4,
    /// [`JobState::Dead`]
    Dead = 5,
    /// [`JobState::Cancelled`]
    Cancelled = 6,
    /// [`JobState::Expired`]
    Expired = 7,
}

impl JobState {
    /// Its tag.
    #[must_use]
    pub const fn tag(&self) -> StateTag {
        match self {
            Self::Opened => StateTag::Opened,
            Self::Waiting => StateTag::Waiting,
            Self::Delayed { .. } => StateTag::Delayed,
            Self::Sent { .. } => StateTag::Sent,
            Self::Dead(_) => StateTag::Dead,
            Self::Cancelled => StateTag::Cancelled,
            Self::Expired => StateTag::Expired,
        }
    }

    /// Nothing more will be done for the job, unless a person releases it.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Sent { .. } | Self::Dead(_) | Self::Cancelled | Self::Expired)
    }
}

/// One change to one job. Holds what it was before, so that counts are a plain sum over records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which job.
    pub job: JobId,
    /// Its state before; none when the ledger had not heard of it.
    pub was: Option<StateTag>,
    /// The batch (index) in which the job is counted from now on, when this record is the first to do so.
    pub counted_in: Option<u8>,
    /// What holds from now on.
    pub now: Entry,
}

impl Record {
    /// A change of `job` from `before` to `state`, seen in batch `batch`, in a ledger that had been lost `era` times.
    #[must_use]
    pub fn new(job: JobId, before: Option<&Entry>, batch: u8, state: JobState, attempts: u32, release: u32, era: u32) -> Self {
        let known = before.map_or(0, |entry| entry.batches);
        let bit = batch_bit(batch);
        // opened again without an outcome in between: the daemon died while the attempt before was open
        let lost =
            before.filter(|entry| entry.state == JobState::Opened && state == JobState::Opened).map_or(0, |entry| entry.lost + 1);
        Self {
            job,
            was: before.map(|entry| entry.state.tag()),
            counted_in: (known & bit == 0).then_some(batch),
            now: Entry { state, attempts, lost, release, batches: known | bit, era },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_attempts_are_counted_in_a_row() {
        let mut entry: Option<Entry> = None;
        let mut step = |state: JobState| {
            let record = Record::new("j".parse().unwrap(), entry.as_ref(), 0, state, 1, 0, 0);
            entry = Some(record.now.clone());
            record.now.lost
        };
        assert_eq!([step(JobState::Opened), step(JobState::Opened), step(JobState::Opened)], [0, 1, 2]);
        assert_eq!(step(JobState::Waiting), 0);
        assert_eq!([step(JobState::Opened), step(JobState::Opened)], [0, 1], "an outcome in between begins anew");
    }
}
