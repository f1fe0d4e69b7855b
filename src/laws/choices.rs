//! Choices drawn from bytes: the same bytes always choose the same, so a fuzzer can steer what it cannot write as text.

use crate::broker::Death;

/// What is left to choose from. Once the bytes are used up, everything chosen is the first, the smallest, or empty.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been used.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// One of 0 to `count` - 1.
    pub(crate) fn below(&mut self, count: u8) -> u8 {
        self.byte() % count.max(1)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn number(&mut self) -> u64 {
        let length = usize::from(self.below(9)).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    pub(crate) fn number32(&mut self) -> u32 {
        self.number() as u32
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = usize::from(self.byte()).checked_rem(from.len())?;
        from.get(index).copied()
    }

    /// Up to 31 bytes as text; what is no UTF-8 is replaced.
    pub(crate) fn text(&mut self) -> String {
        let length = usize::from(self.below(32)).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(taken).into_owned()
    }

    pub(crate) fn maybe<T>(&mut self, choose: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(choose(self)) } else { None }
    }

    /// A time between the years 1938 and 2106, with nanoseconds.
    pub(crate) fn time(&mut self) -> jiff::Timestamp {
        let seconds = i64::from(self.number32()) - 1_000_000_000;
        let nanos = i32::try_from(self.number32() % 1_000_000_000).unwrap_or_default();
        jiff::Timestamp::new(seconds, if seconds < 0 { -nanos } else { nanos }).unwrap_or_default()
    }

    /// Why somebody's job may have failed.
    pub(crate) fn death(&mut self) -> Death {
        Death {
            at: self.time(),
            reason: self.text(),
            code: self.maybe(Self::text),
            meta: self.maybe(Self::number32),
            http_status: self.maybe(|choices| choices.number() as u16),
            may_have_been_sent: self.flag(),
            description: self.text(),
        }
    }
}
