//! The whole database. Key `m`; value: varint format number, 8 bytes the ledger's own number, varint commits so far. Commits of ledger
//! records alone leave it as it is: those say themselves how far the ledger has come.
//!
//! The format number rises when an older program could misread what a newer one wrote. Numbers in use: 1, in which every commit wrote
//! `m`, and 2.

use crate::disk::fields::{Fields, put_varint};
use crate::store::Mark;

/// The format this program writes and the newest it reads.
pub(super) const FORMAT: u64 = 2;

pub(super) const KEY: &[u8] = b"m";

pub(super) fn encode(mark: Mark) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    put_varint(&mut out, FORMAT);
    out.extend_from_slice(&mark.ledger.to_be_bytes());
    put_varint(&mut out, mark.commits);
    out
}

/// Format and mark; of a newer format only its number is ours to read.
pub(super) fn decode(value: &[u8]) -> Option<(u64, Mark)> {
    let mut fields = Fields::new(value);
    let format = fields.varint()?;
    if format > FORMAT {
        return Some((format, Mark::default()));
    }
    let ledger = u64::from_be_bytes(fields.take(8)?.try_into().ok()?);
    Some((format, Mark { ledger, commits: fields.varint()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_never_change() {
        let mark = Mark { ledger: 258, commits: 300 };
        assert_eq!(KEY, b"m");
        assert_eq!(encode(mark), [2, 0, 0, 0, 0, 0, 0, 1, 2, 0xac, 2]);
        assert_eq!(decode(&encode(mark)), Some((FORMAT, mark)));
        assert_eq!(decode(&[1, 0, 0, 0, 0, 0, 0, 1, 2, 0xac, 2]), Some((1, mark)));
        assert_eq!(decode(&[9]), Some((9, Mark::default())));
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[1, 2, 3]), None);
    }
}
