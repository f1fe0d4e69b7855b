//! What holds for any bytes that a damaged or foreign database may hold, and for everything we write.

use super::ledger::StoredJob;
use super::memory::{Memory, Replay};
use super::{campaign, dropped, ledger, meta, pause, suppression};
use crate::campaign::{Counts, Entry, JobState, Record, StateTag};
use crate::disk::fields::{Fields, put_time, put_varint};
use crate::job::{CampaignId, JobId};
use crate::laws::Choices;

/// The commit that writes what is written here.
const COMMIT: u64 = 300;

/// Any key and value is read or refused, never a panic; what is read and written again reads the same; what we write comes back as
/// it was, and the counts in memory are those of the records.
///
/// The first byte says what the rest is.
pub fn hold(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind {
        b'l' => ledger_value(rest),
        b'c' => {
            if let Ok(read) = campaign::decode(rest) {
                let written = campaign::encode(&read).unwrap_or_default();
                assert_eq!(campaign::decode(&written).ok(), Some(read));
            }
        }
        b'p' => {
            if let Ok(read) = pause::decode(rest) {
                let written = pause::encode(&read).unwrap_or_default();
                assert_eq!(pause::decode(&written).ok(), Some(read));
            }
        }
        b'k' => keys(rest),
        b'r' => records(&mut Choices::new(rest)),
        _ => fields(rest),
    }
}

fn keys(key: &[u8]) {
    if let Some((name, number)) = ledger::parse_key(key)
        && let Ok(id) = name.parse::<CampaignId>()
    {
        assert_eq!(ledger::key(&id, number), key);
    }
    if let Some((account, recipient)) = suppression::parse(key) {
        assert_eq!(suppression::key(&account, recipient), key);
    }
    if let Some(id) = dropped::parse(key) {
        assert_eq!(dropped::key(&id), key);
    }
    if let Some(target) = pause::target(key) {
        assert_eq!(pause::key(&target), key);
    }
    if let Some((meta::FORMAT, mark)) = meta::decode(key) {
        assert_eq!(meta::decode(&meta::encode(mark)), Some((meta::FORMAT, mark)));
    }
    let _ = dropped::decode(key);
}

/// A record as it would be written again; none where its job id is none.
fn record(stored: &ledger::StoredRecord<'_>) -> Option<Record> {
    let job = match stored.job {
        StoredJob::Given(text) => text.parse().ok()?,
        StoredJob::Derived(bytes) => bytes.iter().fold("r".to_owned(), |text, byte| format!("{text}{byte:02x}")).parse().ok()?,
    };
    Some(Record { job, was: stored.was, counted_in: stored.counted_in, now: stored.entry()? })
}

fn read(value: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    for stored in ledger::read(value).ok()?.1 {
        records.push(record(&stored.ok()?)?);
    }
    Some(records)
}

fn written(records: &[Record]) -> Vec<u8> {
    let mut value = ledger::begin(COMMIT);
    records.iter().for_each(|record| ledger::encode(record, &mut value));
    value
}

fn ledger_value(value: &[u8]) {
    if let Some(records) = read(value) {
        let value = written(&records);
        assert_eq!(read(&value).as_ref(), Some(&records), "what was read is written so that it reads the same");
        check_memory(&records, &value);
    }
    let mut taken = Replay::default();
    let whole = ledger::read(value).is_ok_and(|(_, mut records)| records.all(|record| record.is_ok()));
    assert_eq!(taken.take(1, value).is_ok(), whole, "half a value is never taken for a whole one");
}

fn check_memory(records: &[Record], value: &[u8]) {
    let mut counts = Counts::default();
    records.iter().for_each(|record| counts.apply(record));
    let Ok(id) = "c".parse() else { return };
    let (mut memory, mut replay) = (Memory::default(), Replay::default());
    assert_eq!(replay.take(7, value), Ok(COMMIT));
    *memory.ledger(&id) = replay.finish();
    assert_eq!((memory.counts(&id), memory.next(&id)), (Some(&counts), 8));
    for record in records {
        let job = StoredJob::of(&record.job);
        assert_eq!(memory.last_value_of(&id, job), Some(7));
        let last = records.iter().rev().find(|other| other.job == record.job).map(|last| last.now.clone());
        assert_eq!(super::last_of(value, job), Ok(last), "the last word on a job counts");
    }
}

fn records(choices: &mut Choices<'_>) {
    let mut records = Vec::new();
    while !choices.is_empty() && records.len() < 64 {
        let Some(job) = job(choices) else { continue };
        let was =
            choices.pick(&[None, Some(StateTag::Opened), Some(StateTag::Waiting), Some(StateTag::Dead), Some(StateTag::Delayed)]);
        let counted_in = choices.maybe(|choices| choices.below(70));
        let state = state(choices);
        let (attempts, lost, release) = (choices.number32(), choices.number32(), choices.number32());
        let (batches, era) = (choices.number(), choices.number32());
        let now = Entry { state, attempts, lost, release, batches, era };
        records.push(Record { job, was: was.flatten(), counted_in, now });
    }
    let value = written(&records);
    assert_eq!(read(&value).as_ref(), Some(&records), "what is written comes back as it was");
    check_memory(&records, &value);
}

fn job(choices: &mut Choices<'_>) -> Option<JobId> {
    match choices.below(4) {
        0 => choices.text().parse().ok(),
        1 => format!("r{:032x}", choices.number()).parse().ok(),
        2 => format!("r{:032X}", choices.number()).parse().ok(),
        _ => choices.pick(&["a", "b", "c"])?.parse().ok(),
    }
}

fn state(choices: &mut Choices<'_>) -> JobState {
    match choices.below(7) {
        0 => JobState::Opened,
        1 => JobState::Waiting,
        2 => JobState::Delayed { until: choices.time() },
        3 => JobState::Sent { wamid: choices.text() },
        4 => JobState::Dead(choices.death()),
        5 => JobState::Cancelled,
        _ => JobState::Expired,
    }
}

fn fields(bytes: &[u8]) {
    let mut fields = Fields::new(bytes);
    if let Some(time) = fields.time() {
        let mut out = Vec::new();
        put_time(&mut out, time);
        assert_eq!(Fields::new(&out).time(), Some(time));
    }
    if let Some(number) = fields.varint() {
        let mut out = Vec::new();
        put_varint(&mut out, number);
        assert!(out.len() <= 10);
        assert_eq!(Fields::new(&out).varint(), Some(number));
    }
    let before = fields.rest().len();
    if let Some(taken) = fields.bytes() {
        assert!(taken.len() + fields.rest().len() < before);
    }
    let _ = (fields.optional(), fields.text());
}
