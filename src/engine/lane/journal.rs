//! Group commit: what many jobs have to write goes to the store together, and each step follows once it is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::campaign::Record;
use crate::job::CampaignId;
use crate::store::{Change, Store, StoreError};

/// Steps in a group that is worth a flush of its own: to wait for more would only make jobs wait.
const FULL: usize = 128;

/// Wait before a failed commit is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A commit that takes longer than this is worth telling a person.
const SLOW: Duration = Duration::from_secs(30);

/// Collects changes, commits them one group at a time, and gives back the steps that waited for them.
pub(super) struct Journal<Step> {
    store: Arc<dyn Store>,
    linger: Duration,
    pending: Group<Step>,
    pending_since: Option<Instant>,
    /// Something waits that is to be durable as soon as can be.
    urgent: bool,
    last_start: Option<Instant>,
    running: Option<Running<Step>>,
    failed: Option<Failed<Step>>,
}

struct Group<Step> {
    ledger: BTreeMap<CampaignId, Vec<Record>>,
    others: Vec<Change>,
    steps: Vec<Step>,
}

impl<Step> Default for Group<Step> {
    fn default() -> Self {
        Self { ledger: BTreeMap::new(), others: Vec::new(), steps: Vec::new() }
    }
}

struct Running<Step> {
    commit: BoxFuture<'static, Result<(), StoreError>>,
    changes: Arc<[Change]>,
    steps: Vec<Step>,
    since: Instant,
}

/// A commit that failed, kept whole: it is tried again until the disk takes it.
struct Failed<Step> {
    changes: Arc<[Change]>,
    steps: Vec<Step>,
    retry_at: Instant,
}

impl<Step> Journal<Step> {
    pub(super) fn new(store: Arc<dyn Store>, linger: Duration) -> Self {
        Self {
            store,
            linger,
            pending: Group::default(),
            pending_since: None,
            urgent: false,
            last_start: None,
            running: None,
            failed: None,
        }
    }

    /// How far apart groups that are not full start, from now on.
    pub(super) const fn set_linger(&mut self, linger: Duration) {
        self.linger = linger;
    }

    /// A ledger record, and the step that waits for it.
    pub(super) fn record(&mut self, campaign: &CampaignId, record: Record, step: Option<Step>, now: Instant) {
        match self.pending.ledger.get_mut(campaign) {
            Some(records) => records.push(record),
            None => drop(self.pending.ledger.insert(campaign.clone(), vec![record])),
        }
        self.pending.steps.extend(step);
        self.pending_since.get_or_insert(now);
    }

    /// Any other change, and the step that waits for it. It does not wait for more: these are rare, and people wait for them.
    pub(super) fn change(&mut self, change: Change, step: Option<Step>, now: Instant) {
        self.pending.others.push(change);
        self.urgent = true;
        self.pending.steps.extend(step);
        self.pending_since.get_or_insert(now);
    }

    /// A step without a change of its own: it follows what was written so far.
    pub(super) fn follow(&mut self, step: Step, now: Instant) {
        self.pending.steps.push(step);
        self.pending_since.get_or_insert(now);
    }

    /// Nothing is pending or under way.
    pub(super) const fn is_idle(&self) -> bool {
        self.pending_since.is_none() && self.running.is_none() && self.failed.is_none()
    }

    /// The last commit failed and has not come through since.
    pub(super) const fn is_stuck(&self) -> bool {
        self.failed.is_some()
    }

    /// The disk has not answered for long.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        self.running.as_ref().is_some_and(|running| now.saturating_duration_since(running.since) > SLOW)
    }

    /// Starts a commit if one is due. After a while without any it goes at once; then they start a little apart, so that what comes
    /// meanwhile shares a flush.
    pub(super) fn start(&mut self, now: Instant) {
        if self.running.is_some() || self.due_at().is_none_or(|due| due > now) {
            return;
        }
        let (changes, steps) = match self.failed.take() {
            Some(failed) => (failed.changes, failed.steps),
            None => {
                (self.pending_since, self.last_start, self.urgent) = (None, Some(now), false);
                let group = std::mem::take(&mut self.pending);
                let ledger = group.ledger.into_iter().map(|(campaign, records)| Change::Ledger(campaign, records));
                (ledger.chain(group.others).collect(), group.steps)
            }
        };
        let (store, shared) = (Arc::clone(&self.store), Arc::clone(&changes));
        let commit = async move { if shared.is_empty() { Ok(()) } else { store.commit(shared).await } }.boxed();
        self.running = Some(Running { commit, changes, steps, since: now });
    }

    /// When the next commit is due; none while one is running or nothing is pending.
    pub(super) fn due_at(&self) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        if let Some(failed) = &self.failed {
            return Some(failed.retry_at);
        }
        let since = self.pending_since?;
        if self.urgent || self.pending.steps.len() >= FULL {
            return Some(since);
        }
        Some(self.last_start.map_or(since, |last| since.max(last + self.linger)))
    }

    /// The steps whose changes are durable now, or why they are not yet. Pends for ever while no commit is running.
    pub(super) async fn committed(&mut self) -> Result<Vec<Step>, StoreError> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let result = (&mut running.commit).await;
        let Some(done) = self.running.take() else { return Ok(Vec::new()) };
        match result {
            Ok(()) => Ok(done.steps),
            Err(error) => {
                let retry_at = Instant::now() + RETRY_AFTER;
                self.failed = Some(Failed { changes: done.changes, steps: done.steps, retry_at });
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{JobState, Pause, PauseTarget};
    use crate::store::memory::{Course, Fate, MemoryStore};

    fn pause() -> Change {
        Change::Pause(PauseTarget::Account("a".parse().unwrap()), Pause::example(None))
    }

    #[tokio::test(start_paused = true)]
    async fn steps_follow_once_their_changes_are_durable() {
        let mut journal = Journal::new(Arc::new(MemoryStore::default()), Duration::from_millis(10));
        let now = Instant::now();
        journal.change(pause(), Some(1), now);
        journal.follow(2, now);
        journal.start(now);
        assert_eq!(journal.committed().await.unwrap(), [1, 2]);
        assert!(journal.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_journal_waits_for_more_to_share_a_flush() {
        let mut journal = Journal::new(Arc::new(MemoryStore::default()), Duration::from_millis(10));
        let now = Instant::now();
        journal.follow(1, now);
        assert_eq!(journal.due_at(), Some(now), "the first after a while");
        journal.start(now);
        journal.committed().await.unwrap();
        journal.follow(1, now);
        assert_eq!(journal.due_at(), Some(now + Duration::from_millis(10)));
        (0..FULL).for_each(|_| journal.follow(1, now));
        assert_eq!(journal.due_at(), Some(now), "enough to flush");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_waits_for_no_others() {
        let mut journal = Journal::new(Arc::new(MemoryStore::default()), Duration::from_millis(10));
        let now = Instant::now();
        journal.follow(1, now);
        journal.start(now);
        journal.committed().await.unwrap();
        let soon = now + Duration::from_millis(5);
        journal.follow(2, soon);
        assert_eq!(journal.due_at(), Some(now + Duration::from_millis(10)));
        journal.change(pause(), None, soon);
        assert_eq!(journal.due_at(), Some(soon));
    }

    const MS: Duration = Duration::from_millis(1);

    fn opened() -> Record {
        Record::new("j".parse().unwrap(), None, 0, JobState::Opened, 1, 0, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_in_the_ledger_when_its_step_follows_and_the_journal_is_idle_only_then() {
        let store = Arc::new(MemoryStore::default());
        let mut journal = Journal::new(Arc::clone(&store) as Arc<dyn Store>, 10 * MS);
        let now = Instant::now();
        assert!(journal.is_idle() && journal.due_at().is_none());
        let campaign = "c".parse().unwrap();
        journal.record(&campaign, opened(), Some(1), now);
        assert!(!journal.is_idle(), "pending");
        journal.start(now);
        assert!(!journal.is_idle() && journal.due_at().is_none(), "under way");
        assert_eq!(journal.committed().await.unwrap(), [1]);
        assert!(journal.is_idle() && !journal.is_stuck());
        assert!(store.find(&campaign, &"j".parse().unwrap()).unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_disk_did_not_take_is_tried_again_whole_a_second_later() {
        let store = MemoryStore::default();
        let mut fates = vec![Fate::Lost(StoreError::Full("no space".into()))];
        store.steer(move |_| Course { fate: fates.pop().unwrap_or_default(), ..Course::default() });
        let mut journal = Journal::new(Arc::new(store), 10 * MS);
        let now = Instant::now();
        journal.change(pause(), Some(1), now);
        journal.start(now);
        assert!(journal.committed().await.is_err());
        assert!(journal.is_stuck() && !journal.is_idle());
        assert_eq!(journal.due_at(), Some(now + RETRY_AFTER));
        journal.start(now + RETRY_AFTER - MS);
        assert!(journal.is_stuck(), "too early");
        journal.start(now + RETRY_AFTER);
        assert_eq!(journal.committed().await.unwrap(), [1]);
        assert!(journal.is_idle() && !journal.is_stuck());
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_has_not_answered_for_half_a_minute_is_slow_and_nothing_else_is_begun_meanwhile() {
        let store = MemoryStore::default();
        store.steer(|_| Course { delay: 2 * SLOW, ..Course::default() });
        let mut journal = Journal::new(Arc::new(store), 10 * MS);
        let now = Instant::now();
        assert!(!journal.is_slow(now + 2 * SLOW), "nothing is under way");
        journal.change(pause(), Some(1), now);
        journal.start(now);
        journal.change(pause(), Some(2), now);
        journal.start(now + MS);
        assert_eq!(journal.due_at(), None);
        assert!(!journal.is_slow(now + SLOW) && journal.is_slow(now + SLOW + MS));
        assert_eq!(journal.committed().await.unwrap(), [1]);
        assert_eq!(journal.due_at(), Some(now), "what came meanwhile is due");
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_starts_when_it_is_due_and_not_before() {
        let mut journal = Journal::new(Arc::new(MemoryStore::default()), 10 * MS);
        let now = Instant::now();
        journal.follow(1, now);
        journal.start(now + 50 * MS);
        assert_eq!(journal.committed().await.unwrap(), [1]);
        journal.follow(2, now + 51 * MS);
        let due = now + 60 * MS;
        assert_eq!(journal.due_at(), Some(due));
        journal.start(due - MS);
        assert_eq!(journal.due_at(), Some(due), "not begun");
        journal.start(due);
        assert_eq!(journal.due_at(), None, "begun");
        assert_eq!(journal.committed().await.unwrap(), [2]);
    }
}
