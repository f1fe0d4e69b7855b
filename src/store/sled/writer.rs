//! The writing side, on the group commit's thread: changes to one batch, one flush, then the memory of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::copy::Copy;
use super::index::Fingerprint;
use super::ledger::StoredJob;
use super::open::{Found, open_known};
use super::witness::Witness;
use super::{Shared, campaign, dropped, ledger, meta, pause, suppression};
use crate::campaign::Record;
use crate::disk::{Fault, Flush, LEAF_KEYS, OpenFault, WriteBatch, Written};
use crate::job::{AccountName, CampaignId, Recipient};
use crate::store::{Change, Mark};

/// Longest ledger value: a full commit of one lane takes a few. sled keeps up to 17 values together, at least 256 times that in memory, and
/// puts anything above 128 KiB into a file of its own, which it does not sync. With 7,000 bytes the daemon took 84 MiB after a million jobs
/// instead of 60, at the same CPU time.
const VALUE_BYTES: usize = 2_000;

/// Keys removed at a time when a ledger is dropped.
const DROP_KEYS: usize = 256;

/// After an error.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Failed commits that turned out to be on disk after all, remembered in case they are repeated.
const REMEMBERED: usize = 4096;

pub(super) struct Writer {
    shared: Arc<Shared>,
    dir: PathBuf,
    drops: VecDeque<(CampaignId, u32)>,
    beside: Beside,
    doubt: Option<Doubt>,
    /// Reported as failed, but on disk: to be answered, not written again.
    there: Vec<Arc<[Change]>>,
    /// The mark has been written by itself since the database was opened: a format older than ours has become ours.
    noted: bool,
}

/// What is kept beside the database.
pub(super) struct Beside {
    pub(super) witness: Witness,
    pub(super) copy: Copy,
}

/// A failed batch: it is on disk as a whole or not at all, and only opening the database again tells.
struct Doubt {
    commits: Vec<Arc<[Change]>>,
    /// Where the ledger stands if it is there.
    mark: Mark,
}

/// A batch being put together, and what to remember once it is on disk.
struct Draft {
    batch: WriteBatch,
    ledgers: BTreeMap<CampaignId, LedgerDraft>,
    /// The mark that holds once it is written.
    mark: Mark,
}

struct LedgerDraft {
    /// Which commit it belongs to.
    commit: u64,
    /// The value being filled; empty before its first record.
    value: Vec<u8>,
    /// Its number.
    number: u32,
    touched: Vec<(Fingerprint, u32)>,
    dropped_below: Option<u32>,
}

impl Writer {
    pub(super) const fn new(shared: Arc<Shared>, dir: PathBuf, drops: VecDeque<(CampaignId, u32)>, beside: Beside) -> Self {
        Self { shared, dir, drops, beside, doubt: None, there: Vec::new(), noted: false }
    }

    /// Whoever stands on the suppression list or on its `copy` stands on both from now on.
    pub(super) fn even_out_suppressed(&mut self, copy: &BTreeSet<(AccountName, Recipient)>) -> Result<(), Fault> {
        let mut listed = BTreeSet::new();
        self.shared.database.read(|database| {
            for item in database.prefixed(suppression::PREFIX) {
                listed.extend(suppression::parse(&item?.0));
            }
            Ok::<_, Fault>(())
        })?;
        let uncopied = listed.difference(copy).map(|(account, recipient)| (account, *recipient));
        self.beside.copy.append(uncopied).map_err(|e| Fault::Io(e.to_string()))?;
        let mut batch = WriteBatch::default();
        let mut unlisted = copy.difference(&listed).peekable();
        if unlisted.peek().is_none() {
            return Ok(());
        }
        unlisted.for_each(|(account, recipient)| batch.insert(suppression::key(account, *recipient), &[] as &[u8]));
        self.shared.database.write(batch, Flush::Now)
    }

    pub(super) fn write(&mut self, group: &[Arc<[Change]>]) -> Written {
        let result = if group.is_empty() { Ok(()) } else { self.write_group(group) };
        // trouble with dropping is nobody's commit: it is tried again by itself
        let troubled = result.is_err() || self.drop_some().is_err();
        let again = (!self.drops.is_empty()).then_some(if troubled { TRY_AGAIN } else { Duration::ZERO });
        Written { result, again }
    }

    fn write_group(&mut self, group: &[Arc<[Change]>]) -> Result<(), Fault> {
        self.reopen_after_error()?;
        let (there, new): (Vec<_>, Vec<_>) = group.iter().partition(|commit| self.there.contains(commit));
        if !new.is_empty() {
            self.commit(&new)?;
        }
        self.there.retain(|commit| !there.contains(&commit));
        Ok(())
    }

    fn commit(&mut self, commits: &[&Arc<[Change]>]) -> Result<(), Fault> {
        let before = super::read(&self.shared.memory).mark;
        let mark = Mark { commits: before.commits + 1, ..before };
        let mut draft = Draft { batch: WriteBatch::default(), ledgers: BTreeMap::new(), mark };
        for change in changes(commits) {
            self.draft(&mut draft, change)?;
        }
        for (id, ledger) in &mut draft.ledgers {
            ledger.close(id, &mut draft.batch)?;
        }
        // records say themselves how far the ledger has come
        let records_alone = changes(commits).all(|change| matches!(change, Change::Ledger(..))) && !draft.batch.is_empty();
        if !records_alone || !self.noted {
            draft.batch.insert(meta::KEY, meta::encode(mark));
        }
        if let Err(fault) = self.shared.database.write(draft.batch, Flush::Now) {
            // a disk found full before anything was touched leaves no doubt
            if !self.shared.database.is_open() {
                self.doubt = Some(Doubt { commits: commits.iter().copied().cloned().collect(), mark });
            }
            return Err(fault);
        }
        self.noted = true;
        let filled = self.remember(commits, draft.ledgers, mark);
        self.write_beside(commits, mark);
        // what went wrong here shows with the next write
        let _ = self.shared.database.read(|database| filled.iter().try_for_each(|key| database.make_room(key)));
        Ok(())
    }

    /// What cannot be written here now is made up for when the store is opened again.
    fn write_beside(&mut self, commits: &[&Arc<[Change]>], mark: Mark) {
        let suppressed = changes(commits).filter_map(|change| match change {
            Change::Suppress(account, recipient) => Some((account, *recipient)),
            _ => None,
        });
        let written = self.beside.copy.append(suppressed).and_then(|()| self.beside.witness.write(mark));
        if let Err(error) = written {
            tracing::warn!(%error, "the ledger's witness cannot be written");
        }
    }

    fn draft(&self, draft: &mut Draft, change: &Change) -> Result<(), Fault> {
        let json = |e: serde_json::Error| Fault::Io(format!("a record cannot be written as JSON: {e}"));
        match change {
            Change::Campaign(record) => draft.batch.insert(campaign::key(&record.id), campaign::encode(record).map_err(json)?),
            Change::Pause(target, pause) => draft.batch.insert(pause::key(target), pause::encode(pause).map_err(json)?),
            Change::Resume(target) => draft.batch.remove(pause::key(target)),
            Change::Suppress(account, recipient) => draft.batch.insert(suppression::key(account, *recipient), &[] as &[u8]),
            Change::Ledger(id, records) => {
                let (ledger, batch) = self.ledger_draft(draft, id);
                for record in records {
                    ledger.add(id, record, batch)?;
                }
            }
            Change::DropLedger(id) => {
                let (ledger, batch) = self.ledger_draft(draft, id);
                ledger.close(id, batch)?;
                ledger.touched.clear();
                ledger.dropped_below = Some(ledger.number);
                batch.insert(dropped::key(id), dropped::encode(ledger.number));
            }
        }
        Ok(())
    }

    fn ledger_draft<'a>(&self, draft: &'a mut Draft, id: &CampaignId) -> (&'a mut LedgerDraft, &'a mut WriteBatch) {
        let Draft { batch, ledgers, mark } = draft;
        let next = || LedgerDraft::new(mark.commits, super::read(&self.shared.memory).next(id));
        (ledgers.entry(id.clone()).or_insert_with(next), batch)
    }

    /// Only now, with everything on disk, may readers know. Gives back keys in pages that are full: they are seldom read again.
    fn remember(&mut self, commits: &[&Arc<[Change]>], drafts: BTreeMap<CampaignId, LedgerDraft>, mark: Mark) -> Vec<Vec<u8>> {
        let mut memory = self.shared.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.mark = mark;
        for change in changes(commits) {
            match change {
                Change::Ledger(id, records) => records.iter().for_each(|record| memory.ledger(id).counts.apply(record)),
                Change::DropLedger(id) => memory.ledger(id).clear(),
                _ => {}
            }
        }
        let mut filled = Vec::new();
        for (id, draft) in drafts {
            let ledger = memory.ledger(&id);
            // the page being filled holds up to two of these steps
            let steps = ledger.next / LEAF_KEYS + 1..=draft.number / LEAF_KEYS;
            filled.extend(steps.filter_map(|step| Some(ledger::key(&id, step.checked_sub(3)? * LEAF_KEYS))));
            ledger.next = draft.number;
            for (fingerprint, number) in draft.touched {
                ledger.point(fingerprint, number);
            }
            if let Some(below) = draft.dropped_below {
                self.drops.retain(|(other, _)| *other != id);
                self.drops.push_back((id, below));
            }
        }
        filled
    }

    fn reopen_after_error(&mut self) -> Result<(), Fault> {
        if self.shared.database.is_open() {
            return Ok(());
        }
        let known = super::read(&self.shared.memory).mark;
        let opening = open_known(&self.dir, Some(known)).map_err(|fault| match fault {
            OpenFault::Busy(text) | OpenFault::Io(text) => Fault::Io(text),
            OpenFault::Damaged(text) => Fault::Damaged(format!("{text}; restart campaignd to begin with an empty ledger")),
            OpenFault::Newer(found) => Fault::Damaged(format!("format {found} appeared while it was in use")),
        })?;
        if !opening.read.memory.mark.covers(known) {
            // only a start tells every campaign that its ledger is lost; until then the witness stays as it is
            return Err(Fault::Damaged("it came back without its end; restart campaignd to go on with what is left".into()));
        }
        if let Some(Doubt { commits, mark }) = self.doubt.take()
            && opening.read.memory.mark.covers(mark)
        {
            self.there.extend(commits);
            let excess = self.there.len().saturating_sub(REMEMBERED);
            self.there.drain(..excess);
        }
        let Found { memory, drops } = opening.read;
        (self.drops, self.noted) = (drops, false);
        *self.shared.memory.write().unwrap_or_else(PoisonError::into_inner) = memory;
        self.shared.database.refill(opening.database);
        Ok(())
    }

    /// Removes a bounded part of what is to be dropped, so that nobody's commit waits long.
    fn drop_some(&mut self) -> Result<(), Fault> {
        if self.drops.is_empty() {
            return Ok(());
        }
        self.reopen_after_error()?;
        let Some((id, below)) = self.drops.front() else { return Ok(()) };
        let mut batch = WriteBatch::default();
        let mut keys = 0;
        self.shared.database.read(|database| {
            for item in database.range(&ledger::key(id, 0), &ledger::key(id, *below)).take(DROP_KEYS) {
                batch.remove(item?.0);
                keys += 1;
            }
            Ok::<_, Fault>(())
        })?;
        let done = keys < DROP_KEYS;
        if done {
            batch.remove(dropped::key(id));
        }
        self.shared.database.write(batch, Flush::Now)?;
        if done {
            self.drops.pop_front();
        }
        Ok(())
    }
}

fn changes<'a>(commits: &'a [&Arc<[Change]>]) -> impl Iterator<Item = &'a Change> {
    commits.iter().flat_map(|commit| commit.iter())
}

impl LedgerDraft {
    fn new(commit: u64, number: u32) -> Self {
        Self { commit, value: Vec::new(), number, touched: Vec::new(), dropped_below: None }
    }

    fn add(&mut self, id: &CampaignId, record: &Record, batch: &mut WriteBatch) -> Result<(), Fault> {
        let before = self.value.len();
        if before == 0 {
            self.value = ledger::begin(self.commit);
        }
        ledger::encode(record, &mut self.value);
        if before > 0 && self.value.len() > VALUE_BYTES {
            let record = self.value.split_off(before);
            self.close(id, batch)?;
            self.value = [ledger::begin(self.commit), record].concat();
        }
        self.touched.push((Fingerprint::of(StoredJob::of(&record.job)), self.number));
        Ok(())
    }

    fn close(&mut self, id: &CampaignId, batch: &mut WriteBatch) -> Result<(), Fault> {
        if !self.value.is_empty() {
            batch.insert(ledger::key(id, self.number), std::mem::take(&mut self.value));
            self.number =
                self.number.checked_add(1).ok_or_else(|| Fault::Io(format!("campaign {id} has used up its ledger's numbers")))?;
        }
        Ok(())
    }
}
