//! Opening the store: locking, reading everything once, moving aside what cannot be read.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, RwLock};

use super::memory::{Ledger, Memory};
use super::writer::Writer;
use super::{Opened, Shared, SledStore, campaign, dropped, ledger, meta, pause, suppression};
use crate::clock::Clock;
use crate::disk::{
    Database, Fault, Group, Lock, OpenError, OpenFault, Opening, Slot, move_aside, open_database, prepare_dir, shown,
};
use crate::job::CampaignId;
use crate::store::Contents;

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
    let mut moved_aside = None;
    let opening = match open_database(&dir, read_all) {
        Err(OpenFault::Damaged(reason)) => {
            let target = move_aside(&dir, clock.wall())
                .map_err(|e| OpenError::io(&dir, format!("{reason}, and it cannot be moved aside: {e}")))?;
            tracing::error!(database = %shown(&dir), moved_to = %shown(&target), reason, "the ledger is damaged; starting with an empty one");
            moved_aside = Some(target);
            open_database(&dir, read_all)
        }
        opening => opening,
    };
    let Opening { database, read: Found { memory, drops }, fresh } = opening.map_err(|fault| match fault {
        OpenFault::Newer(found) => OpenError::Newer { dir: shown(&dir), found, supported: meta::FORMAT },
        OpenFault::Busy(reason) | OpenFault::Io(reason) | OpenFault::Damaged(reason) => OpenError::io(&dir, reason),
    })?;
    let shared = Arc::new(Shared { database: Slot::new(database), memory: RwLock::new(memory) });
    let mut writer = Writer::new(Arc::clone(&shared), dir.clone(), drops);
    let writer = Group::start("ledger", move |group| writer.write(&group)).map_err(|e| OpenError::io(&dir, e))?;
    let fresh = fresh && moved_aside.is_none();
    Ok(Opened { store: SledStore { writer, shared, _lock: lock }, moved_aside, fresh })
}

/// Reads every key once: what cannot be read is found now, not in the middle of a campaign.
pub(super) fn read_all(database: &Database) -> Result<Found, OpenFault> {
    check_format(database)?;
    let mut drops = BTreeMap::new();
    for item in database.prefixed(dropped::PREFIX) {
        let (key, value) = item?;
        let (campaign, below) = dropped::parse(&key).zip(dropped::decode(&value)).ok_or_else(|| unreadable("d"))?;
        drops.insert(campaign, below);
    }
    let memory = read_ledgers(database, &drops)?;
    contents(database, &memory)?;
    Ok(Found { memory, drops: drops.into_iter().collect() })
}

fn check_format(database: &Database) -> Result<(), OpenFault> {
    let Some(value) = database.get(meta::KEY)? else {
        if database.prefixed(b"").next().is_some() {
            return Err(OpenFault::Damaged("its format number is missing".into()));
        }
        let mut batch = sled::Batch::default();
        batch.insert(meta::KEY, meta::encode());
        database.apply(batch)?;
        return Ok(database.flush()?);
    };
    match meta::decode(&value) {
        Some(meta::FORMAT) => Ok(()),
        Some(newer) if newer > meta::FORMAT => Err(OpenFault::Newer(newer)),
        _ => Err(unreadable("m").into()),
    }
}

fn read_ledgers(database: &Database, drops: &BTreeMap<CampaignId, u32>) -> Result<Memory, Fault> {
    let mut memory = Memory::default();
    let mut current: Option<(CampaignId, u32, Ledger)> = None;
    database.read_through(&[ledger::PREFIX], |key, value| {
        let (name, number) = ledger::parse_key(key).ok_or_else(|| unreadable("l"))?;
        if current.as_ref().is_none_or(|(id, ..)| id.as_str() != name) {
            let id: CampaignId = name.parse().map_err(|_| unreadable("l"))?;
            let below = drops.get(&id).copied().unwrap_or(0);
            if let Some((id, _, done)) = current.replace((id, below, Ledger::default())) {
                *memory.ledger(&id) = done;
            }
        }
        let Some((_, below, ledger)) = &mut current else { return Ok(()) };
        ledger.next = ledger.next.max(*below);
        if number < *below {
            return Ok(());
        }
        if ledger.next > 0 && number != ledger.next {
            return Err(Fault::Damaged(format!("ledger values before number {number} are missing")));
        }
        ledger.take(number, value).map_err(|_| unreadable("l"))
    })?;
    if let Some((id, _, done)) = current {
        *memory.ledger(&id) = done;
    }
    Ok(memory)
}

/// Everything but the ledgers, with the counts of those that are there.
pub(super) fn contents(database: &Database, memory: &Memory) -> Result<Contents, Fault> {
    let mut contents = Contents::default();
    for item in database.prefixed(campaign::PREFIX) {
        let mut campaign = campaign::decode(&item?.1).map_err(|_| unreadable("c"))?;
        if !campaign.ledger_gone {
            campaign.counts = match memory.counts(&campaign.id) {
                Some(replayed) => campaign.counts.with_replayed(replayed),
                None => campaign.counts.before_any_record(),
            };
        }
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
