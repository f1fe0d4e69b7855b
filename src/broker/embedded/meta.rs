//! The whole database. Key `m`; value: varints format number, times opened.
//!
//! The format number rises when an older program could misread what a newer one wrote. Numbers in use: 1. The count of openings
//! makes serial numbers of waiting jobs unique.

use crate::disk::fields::{Fields, put_varint};

/// The format this program writes and the newest it reads.
pub(super) const FORMAT: u64 = 1;

pub(super) const KEY: &[u8] = b"m";

pub(super) fn encode(opened: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, FORMAT);
    put_varint(&mut out, opened);
    out
}

/// Format and times opened.
pub(super) fn decode(value: &[u8]) -> Option<(u64, u64)> {
    let mut fields = Fields::new(value);
    let format = fields.varint()?;
    // what a newer format writes after its number is not ours to read
    if format > FORMAT { Some((format, 0)) } else { Some((format, fields.varint()?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_never_change() {
        assert_eq!(encode(7), [1, 7]);
        assert_eq!(decode(&[1, 7]), Some((1, 7)));
        assert_eq!(decode(&[9]), Some((9, 0)));
        assert_eq!(decode(&[]), None);
    }
}
