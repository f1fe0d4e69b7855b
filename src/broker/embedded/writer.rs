//! The writing side, on the group commit's thread: what is published, settled and noted, and jobs coming back from waiting.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::message::{self, assemble};
use super::open::{Found, opened_again};
use super::queue::{self, QueueName, Record};
use super::state::Taken;
use super::steady::{Steady, delay_ms};
use super::{Shared, note, wait};
use crate::disk::{Fault, Flush, WriteBatch, Written};
use crate::job::CampaignId;

/// Jobs that come back from waiting in one batch.
const HOME_JOBS: usize = 256;
const HOME_BYTES: usize = 1 << 20;

/// While jobs wait, the clock is looked at this often: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Settled messages are taken off after this time at the latest, or when there are this many, or with the next write.
const SETTLE_AFTER: Duration = Duration::from_millis(50);
const SETTLE_MANY: usize = 512;

/// After an error.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Something to write.
pub(super) enum Op {
    /// A message into a queue; one whose campaign has no queue goes to the intake.
    Publish(QueueName, Vec<u8>),
    /// A job that comes back after a delay.
    Wait(CampaignId, Duration, Vec<u8>),
    /// Messages to be taken off for good.
    Settle(QueueName, Vec<Taken>),
    /// Messages below this number may have been delivered from now on.
    Mark(QueueName, u64),
    /// The campaign's jobs go to a queue of their own from now on; answers whether they did before.
    Declare(CampaignId, oneshot::Sender<bool>),
    /// The campaign's queue goes, if it is empty; answers whether it did.
    Remove(CampaignId, oneshot::Sender<bool>),
    /// A note about a campaign; an empty one takes it away.
    Note(CampaignId, Vec<u8>),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    dir: PathBuf,
    steady: Steady,
    records: BTreeMap<QueueName, Record>,
    settled: Vec<(QueueName, Taken)>,
    /// The earliest time at which a waiting job may be due.
    next_due_ms: Option<u64>,
    serial: u64,
}

/// A batch being put together.
#[derive(Default)]
struct Draft {
    batch: WriteBatch,
    records: BTreeMap<QueueName, Record>,
    next_due_ms: Option<u64>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, dir: PathBuf, steady: Steady, found: Found) -> Self {
        let serial = found.opened << 40;
        Self { shared, dir, steady, records: found.records, settled: Vec::new(), next_due_ms: found.next_due_ms, serial }
    }

    pub(super) fn write(&mut self, group: Vec<Op>) -> Written {
        let (settle, ops): (Vec<_>, Vec<_>) = group.into_iter().partition(|op| matches!(op, Op::Settle(..)));
        let due = self.next_due_ms.is_some_and(|due| due <= self.steady.now_ms());
        // an empty group means that time has passed or the end has come: nothing is left for later then
        let idle = settle.is_empty() && ops.is_empty();
        let closed = idle && !self.shared.slot.is_open();
        for op in settle {
            if let Op::Settle(name, taken) = op {
                self.settled.extend(taken.into_iter().map(|at| (name.clone(), at)));
            }
        }
        let late = idle && !self.settled.is_empty() || self.settled.len() >= SETTLE_MANY;
        let result = if !ops.is_empty() || due || late || closed { self.write_batch(ops, due) } else { Ok(()) };
        let again = self.again(result.is_err());
        Written { result, again }
    }

    fn again(&mut self, failed: bool) -> Option<Duration> {
        if failed {
            return Some(TRY_AGAIN);
        }
        let settle = (!self.settled.is_empty()).then_some(SETTLE_AFTER);
        let home = self.next_due_ms.map(|due| Duration::from_millis(due.saturating_sub(self.steady.now_ms())).min(LOOK_AGAIN));
        settle.into_iter().chain(home).min()
    }

    fn write_batch(&mut self, ops: Vec<Op>, due: bool) -> Result<(), Fault> {
        self.reopen_after_error()?;
        let mut draft = Draft { next_due_ms: self.next_due_ms, ..Draft::default() };
        let mut answers = Vec::new();
        let only_settled = ops.is_empty() && !due;
        for (name, at) in &self.settled {
            draft.settle(&self.records, name, *at);
        }
        if due {
            self.bring_home(&mut draft)?; // before what is put to wait now, which no look at the database finds yet
        }
        for op in ops {
            answers.extend(self.draft(&mut draft, op)?);
        }
        for (name, record) in &draft.records {
            draft.batch.insert(queue::key(name), queue::encode(record));
        }
        // what is lost of settlements comes again, and the ledger knows it
        self.shared.slot.write(draft.batch, if only_settled { Flush::Later } else { Flush::Now })?;
        let mut taken_off: BTreeMap<QueueName, u64> = BTreeMap::new();
        self.settled.drain(..).for_each(|(name, _)| *taken_off.entry(name).or_default() += 1);
        self.next_due_ms = draft.next_due_ms;
        for (name, record) in draft.records {
            self.shared.queue(&name).written(&record, taken_off.get(&name).copied().unwrap_or(0));
            self.records.insert(name, record);
        }
        for (answer, value) in answers {
            let _ = answer.send(value);
        }
        Ok(())
    }

    fn draft(&mut self, draft: &mut Draft, op: Op) -> Result<Option<(oneshot::Sender<bool>, bool)>, Fault> {
        match op {
            Op::Publish(name, stored) => draft.publish(&self.records, name, &stored),
            Op::Wait(campaign, delay, stored) => {
                self.serial += 1;
                let due_ms = self.steady.due_ms(delay);
                draft.wait(due_ms, self.serial, &wait::encode(delay_ms(delay), &campaign, &stored));
            }
            Op::Mark(name, number) => {
                let record = draft.record(&self.records, &name);
                record.marked = record.marked.max(number);
            }
            Op::Declare(campaign, answer) => {
                let record = draft.record(&self.records, &QueueName::jobs(&campaign));
                let existed = std::mem::replace(&mut record.declared, true);
                return Ok(Some((answer, existed)));
            }
            Op::Remove(campaign, answer) => {
                let record = draft.record(&self.records, &QueueName::jobs(&campaign));
                let empty = record.stored == 0;
                record.declared &= !empty;
                return Ok(Some((answer, empty)));
            }
            Op::Note(campaign, note) if note.is_empty() => draft.batch.remove(note::key(&campaign)),
            Op::Note(campaign, note) => draft.batch.insert(note::key(&campaign), note),
            Op::Settle(name, taken) => taken.into_iter().for_each(|at| draft.settle(&self.records, &name, at)),
        }
        Ok(None)
    }

    /// Moves jobs whose time has come to the end of their queue, a bounded number at a time.
    fn bring_home(&mut self, draft: &mut Draft) -> Result<(), Fault> {
        let now = self.steady.now_ms();
        let (from, to) = (wait::key(0, 0, 0), wait::key(now.saturating_add(1), 0, 0));
        let due = self.shared.slot.read(|db| assemble(db.range(&from, &to), HOME_JOBS, HOME_BYTES))?;
        for whole in &due {
            let waiting = wait::decode(&whole.stored).ok_or_else(|| Fault::Damaged("a waiting job cannot be read".into()))?;
            draft.publish(&self.records, QueueName::jobs(&waiting.campaign), waiting.message);
            let (due_ms, serial) = wait::parse_key(&whole.key).unwrap_or_default();
            (0..whole.pieces).for_each(|piece| draft.batch.remove(wait::key(due_ms, serial, piece)));
        }
        let last = due.back().and_then(|whole| wait::parse_key(&whole.key));
        let after = last.map_or_else(|| to.clone(), |(due_ms, serial)| wait::key(due_ms, serial, u8::MAX));
        let next = self.shared.slot.read(|db| first_due(db.range(&after, &wait::end())))?;
        draft.next_due_ms = draft.next_due_ms.filter(|due| *due > now).into_iter().chain(next).min();
        Ok(())
    }

    fn reopen_after_error(&mut self) -> Result<(), Fault> {
        if self.shared.slot.is_open() {
            return Ok(());
        }
        let found = opened_again(&self.dir, &self.shared.slot)?;
        self.records = found.records;
        self.next_due_ms = found.next_due_ms;
        self.serial = self.serial.max(found.opened << 40);
        // what failed may be on disk all the same: only what is still there can be taken off
        let slot = &self.shared.slot;
        let there = |(name, at): &(QueueName, Taken)| slot.read(|db| db.get(&message::key(name, at.number, 0)));
        let there = self.settled.iter().map(|settled| Ok(there(settled)?.is_some())).collect::<Result<Vec<_>, Fault>>()?;
        let mut gone: BTreeMap<QueueName, u64> = BTreeMap::new();
        for ((name, at), there) in std::mem::take(&mut self.settled).into_iter().zip(there) {
            if there { self.settled.push((name, at)) } else { *gone.entry(name).or_default() += 1 }
        }
        for (name, record) in &self.records {
            self.shared.queue(name).written(record, gone.get(name).copied().unwrap_or(0));
        }
        Ok(())
    }
}

/// The due time of the first of some waiting jobs.
pub(super) fn first_due<V: AsRef<[u8]>>(mut items: impl Iterator<Item = Result<(V, V), Fault>>) -> Result<Option<u64>, Fault> {
    let Some(item) = items.next() else { return Ok(None) };
    Ok(wait::parse_key(item?.0.as_ref()).map(|(due, _)| due))
}

impl Draft {
    fn record(&mut self, known: &BTreeMap<QueueName, Record>, name: &QueueName) -> &mut Record {
        self.records.entry(name.clone()).or_insert_with(|| known.get(name).copied().unwrap_or_default())
    }

    fn publish(&mut self, known: &BTreeMap<QueueName, Record>, name: QueueName, stored: &[u8]) {
        let routed =
            !name.needs_declaring() || self.records.get(&name).or_else(|| known.get(&name)).is_some_and(|record| record.declared);
        let name = if routed { name } else { QueueName::intake() };
        let record = self.record(known, &name);
        let number = record.next;
        record.next += 1;
        record.stored += 1;
        for (piece, value) in message::pieces(stored) {
            self.batch.insert(message::key(&name, number, piece), value);
        }
    }

    fn settle(&mut self, known: &BTreeMap<QueueName, Record>, name: &QueueName, at: Taken) {
        let record = self.record(known, name);
        record.stored = record.stored.saturating_sub(1);
        (0..at.pieces).for_each(|piece| self.batch.remove(message::key(name, at.number, piece)));
    }

    pub(super) fn wait(&mut self, due_ms: u64, serial: u64, stored: &[u8]) {
        for (piece, value) in message::pieces(stored) {
            self.batch.insert(wait::key(due_ms, serial, piece), value);
        }
        self.next_due_ms = Some(self.next_due_ms.map_or(due_ms, |next| next.min(due_ms)));
    }
}
