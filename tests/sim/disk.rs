//! A store whose disk is slow, fails, is full for a while, and at whose n-th call the daemon dies: before or after it is durable.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use campaignd::campaign::{Entry, JobState, PauseTarget, Phase};
use campaignd::clock::Clock;
use campaignd::dice::Dice;
use campaignd::job::{CampaignId, JobId};
use campaignd::store::memory::{Course, Fate, MemoryStore};
use campaignd::store::{Change, Contents, Mark, Store, StoreError};
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::plan::DiskFaults;
use crate::witness::Witness;

struct State {
    dice: Dice,
    faults: DiskFaults,
    /// Every write fails until then.
    full_until: Instant,
    /// Every write takes until then.
    stalled_until: Instant,
    /// Commits left before the daemon dies of the next.
    dies_after: Option<u32>,
}

/// The disk of one life of the daemon.
pub(crate) struct SimDisk {
    memory: MemoryStore,
    state: Mutex<State>,
    /// Says that the daemon has died at a call.
    pub(crate) died: Arc<Notify>,
    clock: Clock,
    witness: Witness,
}

impl SimDisk {
    /// An empty disk.
    pub(crate) fn new(clock: Clock, witness: Witness) -> Self {
        Self::of(MemoryStore::new(), 0, DiskFaults::default(), None, clock, witness)
    }

    fn of(memory: MemoryStore, seed: u64, faults: DiskFaults, dies_after: Option<u32>, clock: Clock, witness: Witness) -> Self {
        let now = Instant::now();
        let dice = Dice::seed_from_u64(seed);
        let state = Mutex::new(State { dice, faults, full_until: now, stalled_until: now, dies_after });
        let disk = Self { memory, state, died: Arc::default(), clock, witness };
        disk.steer(seed, faults);
        disk
    }

    /// What the next life finds, and how its disk behaves.
    pub(crate) fn next_life(&self, seed: u64, faults: DiskFaults, dies_after: Option<u32>) -> Self {
        Self::of(self.memory.crash(), seed, faults, dies_after, self.clock.clone(), self.witness.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn steer(&self, seed: u64, faults: DiskFaults) {
        let mut dice = Dice::seed_from_u64(seed);
        let witness = self.witness.clone();
        self.memory.steer(move |_| {
            let delay = Duration::from_millis(dice.random_range(0..=faults.slow_ms));
            let fails = faults.failing > 0.0 && dice.random_bool(faults.failing);
            let kept = fails && dice.random_bool(0.5);
            let error = StoreError::Io("simulated".into());
            let fate = match (fails, kept) {
                (true, true) => Fate::Kept(error),
                (true, false) => Fate::Lost(error),
                _ => Fate::Written,
            };
            if fails {
                witness.fired(if kept { "a failed commit is on the disk" } else { "a commit fails" });
            }
            Course { delay, fate }
        });
    }

    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.faults = DiskFaults::default();
        state.full_until = Instant::now();
        state.stalled_until = Instant::now();
        state.dies_after = None;
        self.steer(0, DiskFaults::default());
    }

    pub(crate) fn fill(&self, length: Duration) {
        self.lock().full_until = Instant::now() + length;
    }

    pub(crate) fn stall(&self, length: Duration) {
        self.lock().stalled_until = Instant::now() + length;
    }

    pub(crate) fn contents(&self) -> Contents {
        self.memory.load().unwrap()
    }

    /// What is on the disk about a job.
    pub(crate) fn entry(&self, campaign: &CampaignId, job: &JobId) -> Option<Entry> {
        self.memory.find(campaign, job).unwrap()
    }

    pub(crate) fn is_open(&self, campaign: &CampaignId, job: &JobId) -> bool {
        self.entry(campaign, job).is_some_and(|entry| entry.state == JobState::Opened)
    }

    /// What is paused on the disk until a person resumes it.
    pub(crate) fn paused_for_good(&self) -> impl Iterator<Item = PauseTarget> {
        self.contents().pauses.into_iter().filter(|(_, pause)| pause.until.is_none()).map(|(target, _)| target)
    }

    /// Campaigns cancelled on the disk.
    pub(crate) fn cancelled(&self) -> BTreeSet<CampaignId> {
        let campaigns = self.contents().campaigns.into_iter();
        campaigns.filter(|campaign| campaign.phase == Phase::Cancelled).map(|campaign| campaign.id).collect()
    }

    /// Whether the daemon dies at this call.
    fn is_the_last(&self) -> bool {
        let mut state = self.lock();
        let last = state.dies_after == Some(0);
        state.dies_after = state.dies_after.map(|left| left.saturating_sub(1));
        last
    }

    async fn die(&self, when: &str) -> ! {
        self.witness.note(|| when.to_owned());
        self.witness.fired(when);
        self.died.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl Store for SimDisk {
    async fn commit(&self, changes: Arc<[Change]>) -> Result<(), StoreError> {
        self.witness.writes(&changes);
        let (stalled, last, early) = {
            let stalled = self.lock().stalled_until;
            (stalled, self.is_the_last(), self.lock().dice.random_bool(0.5))
        };
        if last && early {
            self.die("death before a commit").await;
        }
        if Instant::now() < stalled {
            self.witness.fired("the disk does not answer for a while");
        }
        tokio::time::sleep_until(stalled).await;
        let result = if Instant::now() < self.lock().full_until {
            self.witness.fired("the disk is full");
            tokio::time::sleep(Duration::from_millis(2)).await;
            Err(StoreError::Full("simulated".into()))
        } else {
            self.memory.commit(Arc::clone(&changes)).await
        };
        if result.is_ok() {
            self.witness.written(&changes, self.clock.wall());
        }
        if last {
            self.die("death after a commit").await;
        }
        self.witness.note(|| format!("commit of {} changes: {}", changes.len(), result.is_ok()));
        result
    }

    fn find(&self, campaign: &CampaignId, job: &JobId) -> Result<Option<Entry>, StoreError> {
        let unreadable = {
            let mut state = self.lock();
            let chance = state.faults.unreadable;
            chance > 0.0 && state.dice.random_bool(chance)
        };
        if unreadable {
            self.witness.fired("the ledger cannot be read");
            return Err(StoreError::Io("simulated".into()));
        }
        self.memory.find(campaign, job)
    }

    fn load(&self) -> Result<Contents, StoreError> {
        self.memory.load()
    }

    fn mark(&self) -> Mark {
        self.memory.mark()
    }
}
