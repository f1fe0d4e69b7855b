//! A queue's record. Key `q` + queue name; value: layout byte 1, declared byte, varints next number, messages stored, marked.
//!
//! A queue name is `i` for the intake, `j` + campaign for its jobs, `d` + campaign for its dead letters.

use crate::broker::Source;
use crate::disk::fields::{Fields, put_varint};
use crate::job::CampaignId;

pub(super) const PREFIX: &[u8] = b"q";

const LAYOUT: u8 = 1;

/// A queue by the name it is stored under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct QueueName(String);

impl QueueName {
    pub(super) fn intake() -> Self {
        Self("i".into())
    }

    pub(super) fn jobs(campaign: &CampaignId) -> Self {
        Self(format!("j{campaign}"))
    }

    pub(super) fn dead(campaign: &CampaignId) -> Self {
        Self(format!("d{campaign}"))
    }

    pub(super) fn of(source: &Source) -> Self {
        match source {
            Source::Intake => Self::intake(),
            Source::Jobs(campaign) => Self::jobs(campaign),
            Source::Dead(campaign) => Self::dead(campaign),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Jobs only go to a campaign's queue once it was prepared; the intake and dead letters need no such thing.
    pub(super) fn needs_declaring(&self) -> bool {
        self.0.starts_with('j')
    }
}

/// What is remembered of a queue besides its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// Jobs are routed here.
    pub(super) declared: bool,
    /// The number of the next message.
    pub(super) next: u64,
    /// How many messages it holds.
    pub(super) stored: u64,
    /// Messages below this number may have been delivered.
    pub(super) marked: u64,
}

pub(super) fn key(name: &QueueName) -> Vec<u8> {
    [PREFIX, name.as_str().as_bytes()].concat()
}

pub(super) fn parse_key(key: &[u8]) -> Option<QueueName> {
    let name = std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?;
    Some(QueueName(name.to_owned()))
}

pub(super) fn encode(record: &Record) -> Vec<u8> {
    let mut out = vec![LAYOUT, u8::from(record.declared)];
    put_varint(&mut out, record.next);
    put_varint(&mut out, record.stored);
    put_varint(&mut out, record.marked);
    out
}

pub(super) fn decode(value: &[u8]) -> Option<Record> {
    let mut fields = Fields::new(value);
    let (LAYOUT, declared @ (0 | 1)) = (fields.byte()?, fields.byte()?) else { return None };
    Some(Record { declared: declared == 1, next: fields.varint()?, stored: fields.varint()?, marked: fields.varint()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was(declared: bool, next: u64, stored: u64, marked: u64) {
            let record = Record { declared, next, stored, marked };
            prop_assert_eq!(decode(&encode(&record)), Some(record));
        }
    }

    #[test]
    fn stored_bytes_never_change() {
        assert_eq!(encode(&Record { declared: true, next: 300, stored: 2, marked: 0 }), [1, 1, 0xac, 2, 2, 0]);
        assert_eq!(key(&QueueName::jobs(&"spring".parse().unwrap())), b"qjspring");
        assert_eq!(key(&QueueName::intake()), b"qi");
        assert_eq!(parse_key(b"qjspring"), Some(QueueName::jobs(&"spring".parse().unwrap())));
    }
}
