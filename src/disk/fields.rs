//! Bytes of stored values: varints (LEB128), length-prefixed bytes, times. What is written here is read back for ever.

use jiff::Timestamp;

/// Appends an unsigned number, 1 to 10 bytes.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a presence byte and, if there is one, the text.
pub(crate) fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_bytes(out, text.as_bytes());
    }
}

/// Appends a time: zigzag seconds, then nanoseconds within that second.
pub(crate) fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    let nanos = time.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
    put_varint(out, ((seconds << 1) ^ (seconds >> 63)) as u64);
    put_varint(out, nanos.rem_euclid(1_000_000_000) as u64);
}

/// Reads fields one after the other; `None` where the bytes end early or make no sense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn varint32(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// An optional text: outer `None` is a mistake in the bytes, inner `None` is an absent text.
    pub(crate) fn optional(&mut self) -> Option<Option<&'a str>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.text().map(Some),
            _ => None,
        }
    }

    pub(crate) fn time(&mut self) -> Option<Timestamp> {
        let zigzag = self.varint()?;
        let seconds = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let nanos = self.varint().filter(|n| *n < 1_000_000_000)?;
        Timestamp::from_nanosecond(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_come_back(n: u64, bytes: Vec<u8>, text in proptest::option::of(".*"), seconds in -377_705_023_201_i64..=253_402_207_200, nanos in 0_i32..1_000_000_000) {
            let time = Timestamp::from_second(seconds).unwrap() + jiff::SignedDuration::from_nanos(i64::from(nanos));
            let mut out = Vec::new();
            put_varint(&mut out, n);
            put_bytes(&mut out, &bytes);
            put_optional(&mut out, text.as_deref());
            put_time(&mut out, time);
            let mut fields = Fields::new(&out);
            prop_assert_eq!(fields.varint(), Some(n));
            prop_assert_eq!(fields.bytes(), Some(bytes.as_slice()));
            prop_assert_eq!(fields.optional(), Some(text.as_deref()));
            prop_assert_eq!(fields.time(), Some(time));
            prop_assert!(fields.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut fields = Fields::new(&bytes);
            let _ = (fields.optional(), fields.time(), fields.bytes(), fields.varint());
        }
    }
}
