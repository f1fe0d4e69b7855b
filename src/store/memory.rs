//! The store in memory, for simulations: tells apart what is durable and what is not, crashes on demand, fails on demand.
//!
//! No threads, no real time, ordered maps only: the same run gives the same answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Change, Contents, Mark, Store, StoreError};
use crate::campaign::{Campaign, Counts, Entry, Pause, PauseTarget};
use crate::job::{AccountName, CampaignId, JobId, Recipient};

/// Failed commits that are there all the same, remembered in case they are repeated.
const REMEMBERED: usize = 4096;

/// What becomes of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fate {
    /// It is written.
    #[default]
    Written,
    /// It fails and nothing of it is there.
    Lost(StoreError),
    /// It fails, yet all of it is there.
    Kept(StoreError),
}

/// How a commit goes: after a delay (tokio time), to its fate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    /// Before it is durable.
    pub delay: Duration,
    /// What becomes of it.
    pub fate: Fate,
}

type Steer = Box<dyn FnMut(&[Change]) -> Course + Send>;

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    durable: Durable,
    steer: Option<Steer>,
    /// Kept despite an error, until the same commit is repeated: it must not count twice.
    there: VecDeque<Arc<[Change]>>,
}

/// What would survive a crash.
#[derive(Debug, Clone, PartialEq, Default)]
struct Durable {
    campaigns: BTreeMap<CampaignId, Campaign>,
    ledgers: BTreeMap<CampaignId, Ledger>,
    pauses: BTreeMap<PauseTarget, Pause>,
    suppressed: BTreeSet<(AccountName, Recipient)>,
    mark: Mark,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Ledger {
    entries: BTreeMap<JobId, Entry>,
    counts: Counts,
}

impl MemoryStore {
    /// An empty store whose commits all succeed at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `steer` says how each commit goes.
    pub fn steer(&self, steer: impl FnMut(&[Change]) -> Course + Send + 'static) {
        self.inner().steer = Some(Box::new(steer));
    }

    /// What a new process would find: all that is durable, none of what is being committed. This store may go on; nothing it
    /// commits from now on reaches the new one.
    #[must_use]
    pub fn crash(&self) -> Self {
        let durable = self.inner().durable.clone();
        Self { inner: Mutex::new(Inner { durable, ..Inner::default() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, changes: Arc<[Change]>) -> Result<(), StoreError> {
        let course = self.inner().steer.as_mut().map_or_else(Course::default, |steer| steer(&changes));
        if !course.delay.is_zero() {
            tokio::time::sleep(course.delay).await;
        }
        let mut inner = self.inner();
        if let Fate::Lost(error) = course.fate {
            return Err(error);
        }
        if let Some(known) = inner.there.iter().position(|commit| *commit == changes) {
            inner.there.remove(known);
        } else {
            inner.durable.apply(&changes);
        }
        match course.fate {
            Fate::Kept(error) => {
                inner.there.push_back(changes);
                if inner.there.len() > REMEMBERED {
                    inner.there.pop_front();
                }
                Err(error)
            }
            Fate::Written | Fate::Lost(_) => Ok(()),
        }
    }

    fn find(&self, campaign: &CampaignId, job: &JobId) -> Result<Option<Entry>, StoreError> {
        Ok(self.inner().durable.ledgers.get(campaign).and_then(|ledger| ledger.entries.get(job)).cloned())
    }

    fn load(&self) -> Result<Contents, StoreError> {
        Ok(self.inner().durable.contents())
    }

    fn mark(&self) -> Mark {
        self.inner().durable.mark
    }
}

impl Durable {
    fn apply(&mut self, changes: &[Change]) {
        self.mark.commits += 1;
        for change in changes.iter().cloned() {
            match change {
                Change::Campaign(campaign) => drop(self.campaigns.insert(campaign.id.clone(), campaign)),
                Change::Ledger(id, records) => {
                    let ledger = self.ledgers.entry(id).or_default();
                    for record in records {
                        ledger.counts.apply(&record);
                        ledger.entries.insert(record.job, record.now);
                    }
                }
                Change::Pause(target, pause) => drop(self.pauses.insert(target, pause)),
                Change::Resume(target) => drop(self.pauses.remove(&target)),
                Change::Suppress(account, recipient) => drop(self.suppressed.insert((account, recipient))),
                Change::DropLedger(id) => drop(self.ledgers.remove(&id)),
            }
        }
    }

    fn contents(&self) -> Contents {
        let with_counts = |campaign: &Campaign| {
            let mut campaign = campaign.clone();
            campaign.recount(self.ledgers.get(&campaign.id).map(|ledger| &ledger.counts));
            campaign
        };
        Contents {
            campaigns: self.campaigns.values().map(with_counts).collect(),
            pauses: self.pauses.iter().map(|(target, pause)| (target.clone(), pause.clone())).collect(),
            suppressed: self.suppressed.iter().cloned().collect(),
            behind: false,
        }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("durable", &self.inner().durable).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{JobState, Options, Record};

    fn commit_of(n: u32) -> Arc<[Change]> {
        let record = Record::new(n.to_string().parse().unwrap(), None, 0, JobState::Opened, 1, 0, 0);
        [Change::Ledger("c".parse().unwrap(), vec![record])].into()
    }

    fn find(store: &MemoryStore, n: u32) -> Option<Entry> {
        store.find(&"c".parse().unwrap(), &n.to_string().parse().unwrap()).unwrap()
    }

    fn with_campaign() -> Arc<[Change]> {
        let created = jiff::Timestamp::UNIX_EPOCH;
        [Change::Campaign(Campaign::new("c".parse().unwrap(), "a".parse().unwrap(), Options::default(), created))].into()
    }

    #[tokio::test]
    async fn a_failed_commit_is_there_or_not_as_steered_and_its_repeat_counts_once() {
        let store = MemoryStore::new();
        store.commit(with_campaign()).await.unwrap();
        let full = StoreError::Full("no space".into());
        let mut fates = vec![Fate::Written, Fate::Kept(full.clone()), Fate::Written, Fate::Lost(full.clone())];
        store.steer(move |_| Course { fate: fates.pop().unwrap_or_default(), ..Course::default() });
        assert_eq!(store.commit(commit_of(1)).await, Err(full.clone()));
        assert_eq!(find(&store, 1), None);
        store.commit(commit_of(1)).await.unwrap();
        assert_eq!(store.commit(commit_of(2)).await, Err(full));
        assert!(find(&store, 2).is_some());
        store.commit(commit_of(2)).await.unwrap();
        assert_eq!(store.load().unwrap().campaigns[0].counts.in_flight, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_forgets_what_was_being_committed() {
        let store = MemoryStore::new();
        store.commit(commit_of(1)).await.unwrap();
        store.steer(|_| Course { delay: Duration::from_millis(10), ..Course::default() });
        let second = store.commit(commit_of(2));
        let crash = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            store.crash()
        };
        let (done, after) = tokio::join!(second, crash);
        done.unwrap();
        assert!(find(&after, 1).is_some());
        assert_eq!(find(&after, 2), None);
        assert!(find(&store, 2).is_some());
    }
}
