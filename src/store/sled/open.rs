//! Opening the store: locking, reading everything once, moving aside what cannot be read.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rand::RngExt;

use super::copy::{self, Copy};
use super::memory::{Memory, Replay};
use super::witness::{self, Witness};
use super::writer::{Beside, Writer};
use super::{Lost, Opened, Shared, SledStore, campaign, dropped, ledger, meta, pause, suppression};
use crate::clock::Clock;
use crate::dice;
use crate::disk::{
    Database, Fault, Group, Lock, OpenError, OpenFault, Opening, Slot, WriteBatch, move_aside, open_database, prepare_dir, shown,
};
use crate::job::CampaignId;
use crate::store::{Contents, Mark};

const DIRECTORY: &str = "ledger";
const LOCK: &str = "ledger.lock";

/// What reading a database gives.
pub(super) struct Found {
    pub(super) memory: Memory,
    /// Ledgers to be removed, below these numbers.
    pub(super) drops: VecDeque<(CampaignId, u32)>,
}

pub(super) fn open(state_dir: &Path, clock: &Clock) -> Result<Opened, OpenError> {
    prepare_dir(state_dir)?;
    let lock = Lock::take(state_dir, LOCK)?;
    let dir = state_dir.join(DIRECTORY);
    let known = witness::read(state_dir);
    let mut lost = None;
    let opening = match open_known(&dir, known) {
        Err(OpenFault::Damaged(reason)) => {
            let moved_to = out_of_the_way(&dir, clock)
                .map_err(|e| OpenError::io(&dir, format!("{reason}, and it cannot be moved aside: {e}")))?;
            let found = Lost { reason, moved_to };
            tracing::error!(database = %shown(&dir), "{found}; starting with an empty one");
            lost = Some(found);
            open_database(&dir, read_all)
        }
        opening => opening,
    };
    let Opening { database, read: Found { memory, drops } } = opening.map_err(|fault| match fault {
        OpenFault::Newer(found) => OpenError::Newer { dir: shown(&dir), found, supported: meta::FORMAT },
        OpenFault::Busy(reason) | OpenFault::Io(reason) | OpenFault::Damaged(reason) => OpenError::io(&dir, reason),
    })?;
    let io = |e: io::Error| OpenError::io(state_dir, e);
    let behind = lost.is_none() && known.is_some_and(|known| !memory.mark.covers(known));
    let beside = Beside { witness: Witness::open(state_dir).map_err(io)?, copy: Copy::open(state_dir).map_err(io)? };
    if !behind {
        // one that is behind stays witnessed against until the engine has written down that it is
        beside.witness.write(memory.mark).and_then(|()| beside.witness.sync(state_dir)).map_err(io)?;
    }
    let shared = Arc::new(Shared { database: Slot::new(database), memory: RwLock::new(memory), behind });
    let mut writer = Writer::new(Arc::clone(&shared), dir.clone(), drops, beside);
    writer.even_out_suppressed(&copy::read(state_dir).map_err(io)?).map_err(|e| OpenError::io(state_dir, e))?;
    let writer = Group::start("ledger", move |group| writer.write(&group)).map_err(|e| OpenError::io(&dir, e))?;
    Ok(Opened { store: SledStore { writer, shared, _lock: lock }, lost })
}

/// Opens the database of which `known` is known; one that must be there and is not is damaged.
pub(super) fn open_known(dir: &Path, known: Option<Mark>) -> Result<Opening<Found>, OpenFault> {
    if known.is_none() {
        return open_database(dir, read_all);
    }
    if !dir.join("db").exists() {
        return Err(OpenFault::Damaged("its files are gone".into()));
    }
    open_database(dir, |database| {
        if database.get(meta::KEY)?.is_none() {
            return Err(OpenFault::Damaged("nothing in it can be read".into()));
        }
        read_all(database)
    })
}

/// Moves what is there aside, if anything is.
fn out_of_the_way(dir: &Path, clock: &Clock) -> io::Result<Option<PathBuf>> {
    if dir.exists() { move_aside(dir, clock.wall()).map(Some) } else { Ok(None) }
}

/// Reads every key once: what cannot be read is found now, not in the middle of a campaign.
fn read_all(database: &Database) -> Result<Found, OpenFault> {
    let noted = check_format(database)?;
    let mut drops = BTreeMap::new();
    for item in database.prefixed(dropped::PREFIX) {
        let (key, value) = item?;
        let (campaign, below) = dropped::parse(&key).zip(dropped::decode(&value)).ok_or_else(|| unreadable("d"))?;
        drops.insert(campaign, below);
    }
    let memory = read_ledgers(database, &drops, noted)?;
    contents(database, &memory)?;
    Ok(Found { memory, drops: drops.into_iter().collect() })
}

/// Which ledger it is, and how far it is noted to have come; an empty database becomes one.
fn check_format(database: &Database) -> Result<Mark, OpenFault> {
    let Some(value) = database.get(meta::KEY)? else {
        if database.prefixed(b"").next().is_some() {
            return Err(OpenFault::Damaged("its format number is missing".into()));
        }
        let mark = Mark { ledger: dice::unforeseen().random(), commits: 0 };
        let mut batch = WriteBatch::default();
        batch.insert(meta::KEY, meta::encode(mark));
        database.apply(batch)?;
        database.flush()?;
        return Ok(mark);
    };
    match meta::decode(&value) {
        Some((1..=meta::FORMAT, mark)) => Ok(mark),
        Some((newer, _)) if newer > meta::FORMAT => Err(OpenFault::Newer(newer)),
        _ => Err(unreadable("m").into()),
    }
}

fn read_ledgers(database: &Database, drops: &BTreeMap<CampaignId, u32>, noted: Mark) -> Result<Memory, Fault> {
    let mut memory = Memory::default();
    memory.mark = noted;
    let mut replay = Replay::default();
    let mut current: Option<(CampaignId, u32)> = None;
    database.read_through(&[ledger::PREFIX], |key, value| {
        let (name, number) = ledger::parse_key(key).ok_or_else(|| unreadable("l"))?;
        if current.as_ref().is_none_or(|(id, _)| id.as_str() != name) {
            let id: CampaignId = name.parse().map_err(|_| unreadable("l"))?;
            let below = drops.get(&id).copied().unwrap_or(0);
            if let Some((id, _)) = current.replace((id, below)) {
                *memory.ledger(&id) = replay.finish();
            }
        }
        let below = current.as_ref().map_or(0, |(_, below)| *below);
        replay.next = replay.next.max(below);
        if number < below {
            return Ok(());
        }
        if replay.next > 0 && number != replay.next {
            return Err(Fault::Damaged(format!("ledger values before number {number} are missing")));
        }
        let commit = replay.take(number, value).map_err(|_| unreadable("l"))?;
        memory.mark.commits = memory.mark.commits.max(commit);
        Ok(())
    })?;
    if let Some((id, _)) = current {
        *memory.ledger(&id) = replay.finish();
    }
    Ok(memory)
}

/// Everything but the ledgers, with the counts of those that are there.
pub(super) fn contents(database: &Database, memory: &Memory) -> Result<Contents, Fault> {
    let mut contents = Contents::default();
    for item in database.prefixed(campaign::PREFIX) {
        let mut campaign = campaign::decode(&item?.1).map_err(|_| unreadable("c"))?;
        campaign.recount(memory.counts(&campaign.id));
        contents.campaigns.push(campaign);
    }
    for item in database.prefixed(pause::PREFIX) {
        let (key, value) = item?;
        let target = pause::target(&key).ok_or_else(|| unreadable("p"))?;
        contents.pauses.push((target, pause::decode(&value).map_err(|_| unreadable("p"))?));
    }
    for item in database.prefixed(suppression::PREFIX) {
        contents.suppressed.push(suppression::parse(&item?.0).ok_or_else(|| unreadable("s"))?);
    }
    Ok(contents)
}

fn unreadable(prefix: &str) -> Fault {
    Fault::Damaged(format!("a key or value under `{prefix}` cannot be read"))
}
