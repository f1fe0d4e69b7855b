//! What the store keeps in memory of every ledger: where to find a job, and the counts its records add up to.

use std::collections::BTreeMap;

use super::index::{Filling, Fingerprint, Index};
use super::ledger::{self, StoredJob, StoredRecord};
use crate::campaign::Counts;
use crate::job::CampaignId;
use crate::store::Mark;

/// One campaign's ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    index: Index,
    /// A sum over the records, from nothing.
    pub(super) counts: Counts,
    /// The number of the next value.
    pub(super) next: u32,
}

/// Every campaign's ledger.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Which ledger it is, and how far it is on disk.
    pub(super) mark: Mark,
    ledgers: BTreeMap<CampaignId, Ledger>,
}

impl Memory {
    /// The number of the ledger value that spoke last of a job, or of one that shares its fingerprint.
    pub(super) fn last_value_of(&self, campaign: &CampaignId, job: StoredJob<'_>) -> Option<u32> {
        self.ledgers.get(campaign)?.index.get(Fingerprint::of(job))
    }

    pub(super) fn counts(&self, campaign: &CampaignId) -> Option<&Counts> {
        self.ledgers.get(campaign).map(|ledger| &ledger.counts)
    }

    pub(super) fn next(&self, campaign: &CampaignId) -> u32 {
        self.ledgers.get(campaign).map_or(0, |ledger| ledger.next)
    }

    pub(super) fn ledger(&mut self, campaign: &CampaignId) -> &mut Ledger {
        self.ledgers.entry(campaign.clone()).or_default()
    }
}

impl Ledger {
    pub(super) fn point(&mut self, fingerprint: Fingerprint, number: u32) {
        self.index.put(fingerprint, number);
    }

    /// Forgets everything but which numbers were used.
    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}

/// A campaign's ledger while it is read from disk.
#[derive(Debug, Default)]
pub(super) struct Replay {
    index: Filling,
    counts: Counts,
    /// The number of the next value.
    pub(super) next: u32,
}

impl Replay {
    /// Takes in a value read from disk; the number of the commit that wrote it, as far as it says so.
    pub(super) fn take(&mut self, number: u32, value: &[u8]) -> Result<u64, ledger::NoRecord> {
        let (commit, records) = ledger::read(value)?;
        for record in records {
            let StoredRecord { job, was, tag, counted_in, .. } = record?;
            self.index.put(Fingerprint::of(job), number);
            self.counts.shift(was, tag, counted_in);
        }
        self.next = self.next.max(number.saturating_add(1));
        Ok(commit)
    }

    /// What was taken in; it begins again with nothing.
    pub(super) fn finish(&mut self) -> Ledger {
        Ledger { index: self.index.finish(), counts: std::mem::take(&mut self.counts), next: std::mem::take(&mut self.next) }
    }
}
