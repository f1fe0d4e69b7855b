//! A ledger on its way out: its values below a number are being removed bit by bit. Key `d` + campaign id; value: varint, the number.

use crate::disk::fields::{Fields, put_varint};
use crate::job::CampaignId;

pub(super) const PREFIX: &[u8] = b"d";

pub(super) fn key(id: &CampaignId) -> Vec<u8> {
    [PREFIX, id.as_str().as_bytes()].concat()
}

pub(super) fn parse(key: &[u8]) -> Option<CampaignId> {
    std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?.parse().ok()
}

pub(super) fn encode(below: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(below));
    out
}

pub(super) fn decode(value: &[u8]) -> Option<u32> {
    Fields::new(value).varint32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was() {
        let id: CampaignId = "spring".parse().unwrap();
        assert_eq!(key(&id), b"dspring");
        assert_eq!(parse(&key(&id)), Some(id));
        for below in [0, 1, 300, u32::MAX] {
            assert_eq!(decode(&encode(below)), Some(below));
        }
    }
}
