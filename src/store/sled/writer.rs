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
use crate::disk::{Fault, Flush, OpenFault, Written};
use crate::job::{AccountName, CampaignId, Recipient};
use crate::store::{Change, Mark};

/// A ledger value is closed once it is this long. sled keeps up to 17 values together and puts anything above 128 KiB into a file
/// of its own, which it does not sync.
const VALUE_BYTES: usize = 4096;

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
    there: Vec<Vec<Change>>,
}

/// What is kept beside the database.
pub(super) struct Beside {
    pub(super) witness: Witness,
    pub(super) copy: Copy,
}

/// A failed batch: it is on disk as a whole or not at all, and only opening the database again tells.
struct Doubt {
    commits: Vec<Vec<Change>>,
    /// Where the ledger stands if it is there.
    mark: Mark,
}

/// A batch being put together, and what to remember once it is on disk.
#[derive(Default)]
struct Draft {
    batch: sled::Batch,
    ledgers: BTreeMap<CampaignId, LedgerDraft>,
}

struct LedgerDraft {
    value: Vec<u8>,
    number: u32,
    touched: Vec<(Fingerprint, u32)>,
    dropped_below: Option<u32>,
}

impl Writer {
    pub(super) const fn new(shared: Arc<Shared>, dir: PathBuf, drops: VecDeque<(CampaignId, u32)>, beside: Beside) -> Self {
        Self { shared, dir, drops, beside, doubt: None, there: Vec::new() }
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
        let mut batch = sled::Batch::default();
        let mut unlisted = copy.difference(&listed).peekable();
        if unlisted.peek().is_none() {
            return Ok(());
        }
        unlisted.for_each(|(account, recipient)| batch.insert(suppression::key(account, *recipient), &[] as &[u8]));
        self.shared.database.write(batch, Flush::Now)
    }

    pub(super) fn write(&mut self, group: &[Vec<Change>]) -> Written {
        let result = if group.is_empty() { Ok(()) } else { self.write_group(group) };
        // trouble with dropping is nobody's commit: it is tried again by itself
        let troubled = result.is_err() || self.drop_some().is_err();
        let again = (!self.drops.is_empty()).then_some(if troubled { TRY_AGAIN } else { Duration::ZERO });
        Written { result, again }
    }

    fn write_group(&mut self, group: &[Vec<Change>]) -> Result<(), Fault> {
        self.reopen_after_error()?;
        let (there, new): (Vec<_>, Vec<_>) = group.iter().partition(|commit| self.there.contains(commit));
        if !new.is_empty() {
            self.commit(&new)?;
        }
        self.there.retain(|commit| !there.contains(&commit));
        Ok(())
    }

    fn commit(&mut self, commits: &[&Vec<Change>]) -> Result<(), Fault> {
        let mut draft = Draft::default();
        for change in commits.iter().copied().flatten() {
            self.draft(&mut draft, change)?;
        }
        for (id, ledger) in &mut draft.ledgers {
            ledger.close(id, &mut draft.batch)?;
        }
        let before = super::read(&self.shared.memory).mark;
        let mark = Mark { commits: before.commits + 1, ..before };
        draft.batch.insert(meta::KEY, meta::encode(mark));
        if let Err(fault) = self.shared.database.write(draft.batch, Flush::Now) {
            // a disk found full before anything was touched leaves no doubt
            if !self.shared.database.is_open() {
                self.doubt = Some(Doubt { commits: commits.iter().copied().cloned().collect(), mark });
            }
            return Err(fault);
        }
        self.remember(commits, draft.ledgers, mark);
        self.write_beside(commits, mark);
        Ok(())
    }

    /// What cannot be written here now is made up for when the store is opened again.
    fn write_beside(&mut self, commits: &[&Vec<Change>], mark: Mark) {
        let suppressed = commits.iter().copied().flatten().filter_map(|change| match change {
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
                let Draft { batch, ledgers } = draft;
                let ledger =
                    ledgers.entry(id.clone()).or_insert_with(|| LedgerDraft::new(super::read(&self.shared.memory).next(id)));
                for record in records {
                    ledger.add(id, record, batch)?;
                }
            }
            Change::DropLedger(id) => {
                let Draft { batch, ledgers } = draft;
                let ledger =
                    ledgers.entry(id.clone()).or_insert_with(|| LedgerDraft::new(super::read(&self.shared.memory).next(id)));
                ledger.close(id, batch)?;
                ledger.touched.clear();
                ledger.dropped_below = Some(ledger.number);
                batch.insert(dropped::key(id), dropped::encode(ledger.number));
            }
        }
        Ok(())
    }

    /// Only now, with everything on disk, may readers know.
    fn remember(&mut self, commits: &[&Vec<Change>], drafts: BTreeMap<CampaignId, LedgerDraft>, mark: Mark) {
        let mut memory = self.shared.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.mark = mark;
        for change in commits.iter().copied().flatten() {
            match change {
                Change::Ledger(id, records) => records.iter().for_each(|record| memory.ledger(id).counts.apply(record)),
                Change::DropLedger(id) => memory.ledger(id).clear(),
                _ => {}
            }
        }
        for (id, draft) in drafts {
            let ledger = memory.ledger(&id);
            ledger.next = draft.number;
            for (fingerprint, number) in draft.touched {
                ledger.point(fingerprint, number);
            }
            if let Some(below) = draft.dropped_below {
                self.drops.retain(|(other, _)| *other != id);
                self.drops.push_back((id, below));
            }
        }
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
        self.drops = drops;
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
        let mut batch = sled::Batch::default();
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

impl LedgerDraft {
    fn new(number: u32) -> Self {
        Self { value: vec![ledger::LAYOUT], number, touched: Vec::new(), dropped_below: None }
    }

    fn add(&mut self, id: &CampaignId, record: &Record, batch: &mut sled::Batch) -> Result<(), Fault> {
        ledger::encode(record, &mut self.value);
        self.touched.push((Fingerprint::of(StoredJob::of(&record.job)), self.number));
        if self.value.len() >= VALUE_BYTES { self.close(id, batch) } else { Ok(()) }
    }

    fn close(&mut self, id: &CampaignId, batch: &mut sled::Batch) -> Result<(), Fault> {
        if self.value.len() > 1 {
            let value = std::mem::replace(&mut self.value, vec![ledger::LAYOUT]);
            batch.insert(ledger::key(id, self.number), value);
            self.number =
                self.number.checked_add(1).ok_or_else(|| Fault::Io(format!("campaign {id} has used up its ledger's numbers")))?;
        }
        Ok(())
    }
}
