//! Opening the broker's database. It holds jobs that exist nowhere else, so what is damaged is refused, never replaced.

use std::collections::BTreeMap;
use std::path::Path;

use super::message::assemble;
use super::queue::{self, QueueName, Record};
use super::writer::first_due;
use super::{meta, wait};
use crate::clock::Clock;
use crate::disk::{Database, Fault, OpenError, OpenFault, Opening, Slot, WriteBatch, open_database, shown};

/// Waiting jobs looked at in one go.
const LOOK_JOBS: usize = 256;
const LOOK_BYTES: usize = 1 << 20;

/// What reading a database gives.
pub(super) struct Found {
    pub(super) records: BTreeMap<QueueName, Record>,
    pub(super) next_due_ms: Option<u64>,
    /// How often it has been opened, this time included.
    pub(super) opened: u64,
}

pub(super) fn open(dir: &Path, clock: &Clock) -> Result<Opening<Found>, OpenError> {
    let now_ms = u64::try_from(clock.wall().as_millisecond()).unwrap_or(0);
    open_database(dir, move |database| {
        let found = read_all(database)?;
        unstrand(database, now_ms)?;
        let next_due_ms = next_due(database)?;
        Ok(Found { next_due_ms, ..found })
    })
    .map_err(|fault| match fault {
        OpenFault::Newer(found) => OpenError::Newer { dir: shown(dir), found, supported: meta::FORMAT },
        OpenFault::Damaged(reason) => OpenError::Damaged { dir: shown(dir), reason },
        OpenFault::Busy(reason) | OpenFault::Io(reason) => OpenError::io(dir, reason),
    })
}

/// Opens it again after an error and fills the slot.
pub(super) fn opened_again(dir: &Path, slot: &Slot) -> Result<Found, Fault> {
    let opening = open_database(dir, read_all).map_err(|fault| match fault {
        OpenFault::Busy(text) | OpenFault::Io(text) => Fault::Io(text),
        OpenFault::Damaged(text) => Fault::Damaged(text),
        OpenFault::Newer(found) => Fault::Damaged(format!("format {found} appeared while it was in use")),
    })?;
    slot.refill(opening.database);
    Ok(opening.read)
}

fn read_all(database: &Database) -> Result<Found, OpenFault> {
    let opened = 1 + match database.get(meta::KEY)? {
        None if database.prefixed(b"").next().is_some() => return Err(OpenFault::Damaged("its format number is missing".into())),
        None => 0,
        Some(value) => match meta::decode(&value) {
            Some((meta::FORMAT, opened)) => opened,
            Some((newer, _)) if newer > meta::FORMAT => return Err(OpenFault::Newer(newer)),
            _ => return Err(unreadable("m").into()),
        },
    };
    let mut batch = WriteBatch::default();
    batch.insert(meta::KEY, meta::encode(opened));
    database.check_room()?;
    database.apply(batch)?;
    database.flush()?;
    let mut records = BTreeMap::new();
    for item in database.prefixed(queue::PREFIX) {
        let (key, value) = item?;
        let (name, mut record) = queue::parse_key(&key).zip(queue::decode(&value)).ok_or_else(|| unreadable("q"))?;
        // numbers that were marked but never used stay unused: a new message must not look redelivered
        record.next = record.next.max(record.marked);
        records.insert(name, record);
    }
    Ok(Found { records, next_due_ms: next_due(database)?, opened })
}

fn next_due(database: &Database) -> Result<Option<u64>, Fault> {
    first_due(database.prefixed(&[wait::PREFIX]))
}

/// A job due later than its whole delay from now was put there before the wall clock was set back: its wait begins anew.
fn unstrand(database: &Database, now_ms: u64) -> Result<(), Fault> {
    let mut from = wait::key(now_ms, 0, 0);
    loop {
        let waiting = assemble(database.range(&from, &wait::end()), LOOK_JOBS, LOOK_BYTES)?;
        let Some(last) = waiting.back() else { return Ok(()) };
        let (due_ms, serial) = wait::parse_key(&last.key).ok_or_else(|| unreadable("w"))?;
        from = wait::key(due_ms, serial, u8::MAX);
        let mut batch = WriteBatch::default();
        let mut moved = false;
        for whole in &waiting {
            let (due_ms, serial) = wait::parse_key(&whole.key).ok_or_else(|| unreadable("w"))?;
            let delay_ms = wait::decode(&whole.stored).ok_or_else(|| unreadable("w"))?.delay_ms;
            let latest = now_ms.saturating_add(delay_ms).saturating_add(1);
            if due_ms > latest {
                moved = true;
                (0..whole.pieces).for_each(|piece| batch.remove(wait::key(due_ms, serial, piece)));
                super::message::pieces(&whole.stored)
                    .for_each(|(piece, value)| batch.insert(wait::key(latest, serial, piece), value));
            }
        }
        if moved {
            database.check_room()?;
            database.apply(batch)?;
            database.flush()?;
        }
    }
}

fn unreadable(prefix: &str) -> Fault {
    Fault::Damaged(format!("a key or value under `{prefix}` cannot be read"))
}
