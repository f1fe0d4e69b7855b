//! A job that comes back later. Key `w` + due (u64, big endian, milliseconds since 1970) + serial (u64) + piece; value: a piece of
//! layout byte 1 · varint delay in milliseconds · length and campaign id · the message, cut like messages in queues are.
//!
//! The delay is kept besides the due time so that a wall clock set back while the process was down is noticed.

use crate::disk::fields::{Fields, put_bytes, put_varint};
use crate::job::CampaignId;

pub(super) const PREFIX: u8 = b'w';

const LAYOUT: u8 = 1;

/// A waiting job, its message still in stored form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Waiting<'a> {
    pub(super) delay_ms: u64,
    pub(super) campaign: CampaignId,
    pub(super) message: &'a [u8],
}

pub(super) fn key(due_ms: u64, serial: u64, piece: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.push(PREFIX);
    key.extend_from_slice(&due_ms.to_be_bytes());
    key.extend_from_slice(&serial.to_be_bytes());
    key.push(piece);
    key
}

/// The first key after all waiting jobs.
pub(super) fn end() -> Vec<u8> {
    vec![PREFIX + 1]
}

/// Due time and serial of a key.
pub(super) fn parse_key(key: &[u8]) -> Option<(u64, u64)> {
    let (due, rest) = key.strip_prefix(&[PREFIX])?.split_first_chunk::<8>()?;
    let (serial, _piece) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*due), u64::from_be_bytes(*serial)))
}

pub(super) fn encode(delay_ms: u64, campaign: &CampaignId, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 80);
    out.push(LAYOUT);
    put_varint(&mut out, delay_ms);
    put_bytes(&mut out, campaign.as_str().as_bytes());
    out.extend_from_slice(message);
    out
}

pub(super) fn decode(stored: &[u8]) -> Option<Waiting<'_>> {
    let mut fields = Fields::new(stored);
    if fields.byte()? != LAYOUT {
        return None;
    }
    Some(Waiting { delay_ms: fields.varint()?, campaign: fields.text()?.parse().ok()?, message: fields.rest() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was(delay_ms: u64, campaign in "[a-z0-9][a-z0-9._-]{0,63}", message: Vec<u8>, due: u64, serial: u64, piece: u8) {
            let campaign: CampaignId = campaign.parse().unwrap();
            let stored = encode(delay_ms, &campaign, &message);
            prop_assert_eq!(decode(&stored), Some(Waiting { delay_ms, campaign, message: &message }));
            prop_assert_eq!(parse_key(&key(due, serial, piece)), Some((due, serial)));
        }

        #[test]
        fn keys_sort_by_due_time(a: u64, b: u64, serial: u64) {
            prop_assert_eq!(key(a, serial, 0).cmp(&key(b, serial, 0)), a.cmp(&b));
        }
    }
}
