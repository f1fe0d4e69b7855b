//! The format of the whole database. Key `m`; value: varint format number.
//!
//! The number rises when an older program could misread what a newer one wrote. Numbers in use: 1.

use crate::disk::fields::{Fields, put_varint};

/// The format this program writes and the newest it reads.
pub(super) const FORMAT: u64 = 1;

pub(super) const KEY: &[u8] = b"m";

pub(super) fn encode() -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, FORMAT);
    out
}

pub(super) fn decode(value: &[u8]) -> Option<u64> {
    Fields::new(value).varint()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_never_change() {
        assert_eq!(KEY, b"m");
        assert_eq!(encode(), [1]);
        assert_eq!(decode(&encode()), Some(FORMAT));
        assert_eq!(decode(&[]), None);
    }
}
