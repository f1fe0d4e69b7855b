//! A campaign's ledger. Key `l` + campaign id + 0 + number (u64, big endian); value: layout byte 2, varint number of the commit it belongs
//! to, then records to the end. Layout 1, which is still read, has no commit number.
//!
//! All records of a campaign that share a commit share a value, because sled's price is per key; and because the value says how far the
//! ledger has come, nothing else need be written with it. A record is:
//! flags (bits 0-2 state now, 3 counted in a batch, 4-6 state before or 0, 7 derived job id) · job id (16 bytes when derived, else
//! length and text) · batch index (when counted) · varints attempts, lost, release, batches, era · for delayed, sent and dead: length and what
//! belongs to the state. State numbers are those of [`StateTag`].

use crate::broker::Death;
use crate::campaign::{Entry, JobState, Record, StateTag};
use crate::disk::fields::{Fields, put_bytes, put_optional, put_time, put_varint};
use crate::disk::key_between;
use crate::job::{CampaignId, JobId};

pub(super) const PREFIX: u8 = b'l';

/// The layout of values written from now on.
const LAYOUT: u8 = 2;

/// The layout before it: no commit number.
const UNNUMBERED: u8 = 1;

const COUNTED: u8 = 1 << 3;
const DERIVED: u8 = 1 << 7;

pub(super) fn key(campaign: &CampaignId, number: u32) -> Vec<u8> {
    key_between(PREFIX, campaign.as_str(), u64::from(number))
}

/// Reads a key without making an id of its campaign.
pub(super) fn parse_key(key: &[u8]) -> Option<(&str, u32)> {
    let (name, number) = key.strip_prefix(&[PREFIX])?.split_last_chunk::<8>()?;
    let name = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?;
    Some((name, u64::from_be_bytes(*number).try_into().ok()?))
}

/// A job id as it is stored: what is compared and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StoredJob<'a> {
    /// `r` and 32 hexadecimal digits, as [`JobId::derived`] makes them.
    Derived([u8; 16]),
    /// Any other.
    Given(&'a str),
}

impl<'a> StoredJob<'a> {
    pub(super) fn of(job: &'a JobId) -> Self {
        unhex(job.as_str()).map_or_else(|| Self::Given(job.as_str()), Self::Derived)
    }
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let digits = text.strip_prefix('r')?.as_bytes();
    let mut out = [0; 16];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = unhex_digit(*high)? << 4 | unhex_digit(*low)?;
    }
    Some(out)
}

const fn unhex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

const fn tag(number: u8) -> Option<StateTag> {
    Some(match number {
        1 => StateTag::Opened,
        2 => StateTag::Waiting,
        3 => StateTag::Delayed,
        4 => StateTag::Sent,
        5 => StateTag::Dead,
        6 => StateTag::Cancelled,
        7 => StateTag::Expired,
        _ => return None,
    })
}

/// The beginning of a value that commit `number` writes.
pub(super) fn begin(number: u64) -> Vec<u8> {
    let mut out = vec![LAYOUT];
    put_varint(&mut out, number);
    out
}

/// Appends a record to a value.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let job = StoredJob::of(&record.job);
    let derived = if matches!(job, StoredJob::Derived(_)) { DERIVED } else { 0 };
    let counted = if record.counted_in.is_some() { COUNTED } else { 0 };
    out.push(record.now.state.tag() as u8 | counted | record.was.map_or(0, |was| (was as u8) << 4) | derived);
    match job {
        StoredJob::Derived(bytes) => out.extend_from_slice(&bytes),
        StoredJob::Given(text) => put_bytes(out, text.as_bytes()),
    }
    out.extend(record.counted_in);
    put_varint(out, u64::from(record.now.attempts));
    put_varint(out, u64::from(record.now.lost));
    put_varint(out, u64::from(record.now.release));
    put_varint(out, record.now.batches);
    put_varint(out, u64::from(record.now.era));
    match &record.now.state {
        JobState::Opened | JobState::Waiting | JobState::Cancelled | JobState::Expired => {}
        JobState::Sent { wamid } => put_bytes(out, wamid.as_bytes()),
        JobState::Delayed { until } => {
            let mut detail = Vec::with_capacity(10);
            put_time(&mut detail, *until);
            put_bytes(out, &detail);
        }
        JobState::Dead(death) => put_bytes(out, &encode_death(death)),
    }
}

/// Time, reason, code, Meta number, HTTP status (both 0 when absent, else one more), description, whether it may have been sent.
fn encode_death(death: &Death) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_time(&mut out, death.at);
    put_bytes(&mut out, death.reason.as_bytes());
    put_optional(&mut out, death.code.as_deref());
    put_varint(&mut out, death.meta.map_or(0, |n| u64::from(n) + 1));
    put_varint(&mut out, death.http_status.map_or(0, |n| u64::from(n) + 1));
    put_bytes(&mut out, death.description.as_bytes());
    put_varint(&mut out, death.may_have_been_sent.into());
    out
}

fn decode_death(bytes: &[u8]) -> Option<Death> {
    let mut fields = Fields::new(bytes);
    Some(Death {
        at: fields.time()?,
        reason: fields.text()?.to_owned(),
        code: fields.optional()?.map(str::to_owned),
        meta: fields.varint()?.checked_sub(1).map(u32::try_from).transpose().ok()?,
        http_status: fields.varint()?.checked_sub(1).map(u16::try_from).transpose().ok()?,
        description: fields.text()?.to_owned(),
        may_have_been_sent: fields.varint().is_some_and(|flag| flag > 0), // what was written before it was known has none
    })
}

/// A record still in its stored form: cheap to pass over.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredRecord<'a> {
    pub(super) job: StoredJob<'a>,
    pub(super) was: Option<StateTag>,
    pub(super) counted_in: Option<u8>,
    pub(super) tag: StateTag,
    attempts: u32,
    lost: u32,
    release: u32,
    batches: u64,
    era: u32,
    detail: &'a [u8],
}

impl StoredRecord<'_> {
    /// What the ledger knows since this record.
    pub(super) fn entry(&self) -> Option<Entry> {
        let state = match self.tag {
            StateTag::Opened => JobState::Opened,
            StateTag::Waiting => JobState::Waiting,
            StateTag::Cancelled => JobState::Cancelled,
            StateTag::Expired => JobState::Expired,
            StateTag::Delayed => JobState::Delayed { until: Fields::new(self.detail).time()? },
            StateTag::Sent => JobState::Sent { wamid: std::str::from_utf8(self.detail).ok()?.to_owned() },
            StateTag::Dead => JobState::Dead(decode_death(self.detail)?),
        };
        Some(Entry {
            state,
            attempts: self.attempts,
            lost: self.lost,
            release: self.release,
            batches: self.batches,
            era: self.era,
        })
    }
}

/// The records of a value, in the order they were written.
pub(super) struct Records<'a>(Fields<'a>);

/// What was read is no ledger value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRecord;

/// The number of the commit that wrote a value, 0 when it does not say so, and its records.
pub(super) fn read(value: &[u8]) -> Result<(u64, Records<'_>), NoRecord> {
    let mut fields = Fields::new(value);
    let commit = match fields.byte() {
        Some(LAYOUT) => fields.varint().ok_or(NoRecord)?,
        Some(UNNUMBERED) => 0,
        _ => return Err(NoRecord),
    };
    Ok((commit, Records(fields)))
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<StoredRecord<'a>, NoRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = read_record(&mut self.0).ok_or(NoRecord);
        if record.is_err() {
            self.0 = Fields::new(&[]);
        }
        Some(record)
    }
}

fn read_record<'a>(fields: &mut Fields<'a>) -> Option<StoredRecord<'a>> {
    let flags = fields.byte()?;
    let tag_now = tag(flags & 7)?;
    let was = match flags >> 4 & 7 {
        0 => None,
        number => Some(tag(number)?),
    };
    let job = if flags & DERIVED == 0 {
        StoredJob::Given(fields.text()?)
    } else {
        StoredJob::Derived(fields.take(16)?.try_into().ok()?)
    };
    let counted_in = if flags & COUNTED == 0 { None } else { Some(fields.byte()?) };
    let (attempts, lost, release) = (fields.varint32()?, fields.varint32()?, fields.varint32()?);
    let (batches, era) = (fields.varint()?, fields.varint32()?);
    let detail = match tag_now {
        StateTag::Delayed | StateTag::Sent | StateTag::Dead => fields.bytes()?,
        _ => &[],
    };
    Some(StoredRecord { job, was, counted_in, tag: tag_now, attempts, lost, release, batches, era, detail })
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn any_state() -> impl Strategy<Value = JobState> {
        let time = (-1_000_000_000_i64..4_000_000_000, 0_i32..1_000_000_000)
            .prop_map(|(s, n)| Timestamp::new(s, if s < 0 { -n } else { n }).unwrap());
        let death = (
            time.clone(),
            "[a-z-]{1,30}",
            option::of("[A-Z_0-9]{1,12}"),
            option::of(any::<u32>()),
            option::of(any::<u16>()),
            any::<bool>(),
            ".{0,300}",
        );
        let death = death.prop_map(|(at, reason, code, meta, http_status, may_have_been_sent, description)| Death {
            at,
            reason,
            code,
            meta,
            http_status,
            may_have_been_sent,
            description,
        });
        prop_oneof![
            Just(JobState::Opened),
            Just(JobState::Waiting),
            Just(JobState::Cancelled),
            Just(JobState::Expired),
            time.prop_map(|until| JobState::Delayed { until }),
            "wamid\\.[A-Za-z0-9=]{0,80}".prop_map(|wamid| JobState::Sent { wamid }),
            death.prop_map(JobState::Dead),
        ]
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let job = prop_oneof!["[A-Za-z0-9._:-]{1,128}", "r[0-9a-f]{32}", "r[0-9A-F]{32}"];
        (job, option::of(1_u8..8), option::of(0_u8..64), any_state(), any::<[u32; 4]>(), any::<u64>()).prop_map(
            |(job, was, counted_in, state, [attempts, lost, release, era], batches)| Record {
                job: job.parse().unwrap(),
                was: was.and_then(tag),
                counted_in,
                now: Entry { state, attempts, lost, release, batches, era },
            },
        )
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were(written in proptest::collection::vec(any_record(), 0..20), commit: u64) {
            let mut value = begin(commit);
            for record in &written {
                encode(record, &mut value);
            }
            let (stored, records) = read(&value).unwrap();
            prop_assert_eq!(stored, commit);
            let read: Vec<_> = records.map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), written.len());
            for (read, written) in read.iter().zip(&written) {
                prop_assert_eq!(read.job, StoredJob::of(&written.job));
                prop_assert_eq!((read.was, read.counted_in, read.tag), (written.was, written.counted_in, written.now.state.tag()));
                prop_assert_eq!(read.entry().unwrap(), written.now.clone());
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes: Vec<u8>) {
            let _ = parse_key(&bytes);
            bytes.insert(0, 0);
            for layout in [LAYOUT, UNNUMBERED] {
                bytes[0] = layout;
                for record in read(&bytes).into_iter().flat_map(|(_, records)| records).flatten() {
                    let _ = record.entry();
                }
            }
        }

        #[test]
        fn keys_sort_as_their_numbers(a: u32, b: u32) {
            let id: CampaignId = "spring".parse().unwrap();
            prop_assert_eq!(key(&id, a).cmp(&key(&id, b)), a.cmp(&b));
            let stored = key(&id, a);
            prop_assert_eq!(parse_key(&stored), Some(("spring", a)));
        }
    }

    /// Whatever else were taken for one would come back as another id.
    #[test]
    fn only_r_and_32_small_digits_are_a_derived_id() {
        let stored = |text: &str| text.parse::<JobId>().map(|job| matches!(StoredJob::of(&job), StoredJob::Derived(_)));
        let digits = "0123456789abcdef".repeat(3);
        for length in [0, 1, 2, 30, 31, 33, 34] {
            assert_eq!(stored(&format!("r{}", &digits[..length])), Ok(false), "{length}");
        }
        assert_eq!(stored(&format!("r{}", &digits[..32])), Ok(true));
        assert_eq!(stored(&format!("r{}", digits[..32].to_uppercase())), Ok(false));
        assert_eq!(stored(&format!("s{}", &digits[..32])), Ok(false));
    }

    #[test]
    fn stored_bytes_never_change() {
        let now = |state| Entry { state, attempts: 1, lost: 3, release: 2, batches: 1, era: 4 };
        let opened = Record { job: "a1".parse().unwrap(), was: None, counted_in: Some(0), now: now(JobState::Opened) };
        let sent = Record {
            job: "a1".parse().unwrap(),
            was: Some(StateTag::Opened),
            counted_in: None,
            now: now(JobState::Sent { wamid: "w".into() }),
        };
        let mut value = begin(300);
        encode(&opened, &mut value);
        encode(&sent, &mut value);
        let stored = [0x09, 2, b'a', b'1', 0, 1, 3, 2, 1, 4, 0x14, 2, b'a', b'1', 1, 3, 2, 1, 4, 1, b'w'];
        assert_eq!(value, [&[2, 0xac, 2][..], &stored].concat());
        let unnumbered = [&[1][..], &stored].concat();
        let (commit, records) = read(&unnumbered).unwrap();
        assert_eq!(commit, 0, "the layout before says nothing of commits");
        assert_eq!(records.map(|record| record.unwrap().entry().unwrap()).collect::<Vec<_>>(), [opened.now.clone(), sent.now]);
        let derived = "r0123456789abcdef0123456789abcdef";
        value.truncate(3);
        encode(&Record { job: derived.parse().unwrap(), ..opened }, &mut value);
        let digits = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        assert_eq!(value, [&[2, 0xac, 2, 0x89][..], &digits, &digits, &[0, 1, 3, 2, 1, 4]].concat());
        assert_eq!(key(&"c".parse().unwrap(), 258), [b'l', b'c', 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(read(&[2]).err(), Some(NoRecord));
        assert_eq!(read(&[3, 0]).err(), Some(NoRecord));
    }
}
