//! The sliding log of our own sends: the guarantee that no window, lengthened by a margin, ever holds more than its limit.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Limits, rate};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Entries kept at most, whatever the limits say; beyond it the oldest go first, so a minute limit above this is not guaranteed.
const MOST_ENTRIES: usize = 1 << 20;

/// When each request of the last minute left.
#[derive(Debug, Default)]
pub(super) struct SlidingLog {
    sent: VecDeque<Instant>,
    keep: usize,
}

impl SlidingLog {
    /// A log as if requests had been leaving evenly at the limit until `now`, so that room appears at the limit's own pace.
    pub(super) fn as_if_busy(limits: Limits, now: Instant) -> Self {
        let keep = limits.minute.or(limits.second).unwrap_or(0) as usize;
        let keep = keep.max(limits.second.unwrap_or(0) as usize).min(MOST_ENTRIES);
        let mut sent = VecDeque::with_capacity(keep);
        if let Some(rate) = rate(limits) {
            let window = if limits.minute.is_some() { MINUTE } else { SECOND };
            let gap = Duration::from_secs_f64(1.0 / rate);
            let past = |i: u32| now.checked_sub(gap.saturating_mul(i));
            let most = u32::try_from(keep).unwrap_or(u32::MAX);
            sent.extend((1..=most).rev().filter(|i| gap.saturating_mul(*i) <= window).filter_map(past));
        }
        Self { sent, keep }
    }

    /// A request leaves.
    pub(super) fn push(&mut self, now: Instant) {
        if self.keep == 0 {
            return;
        }
        while self.sent.len() >= self.keep {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }

    /// The request that took its turn at `taken` leaves only `now`.
    pub(super) fn departed(&mut self, taken: Instant, now: Instant) {
        // Requests leave in the order of their turns, so it is among the newest, and what is behind it is not older.
        if let Some(entry) = self.sent.iter_mut().rev().take_while(|at| **at >= taken).find(|at| **at == taken) {
            *entry = now;
        }
    }

    /// When there is room for one more in both windows, each lengthened by `margin`; none if that is now.
    pub(super) fn free_at(&self, limits: Limits, margin: Duration, now: Instant) -> Option<Instant> {
        let second = self.free_in(limits.second, SECOND + margin, now);
        let minute = self.free_in(limits.minute, MINUTE + margin, now);
        second.max(minute)
    }

    fn free_in(&self, limit: Option<u32>, window: Duration, now: Instant) -> Option<Instant> {
        let limit = limit? as usize;
        let oldest = self.sent.get(self.sent.len().checked_sub(limit)?)?;
        Some(*oldest + window).filter(|free| *free > now)
    }

    /// Requests in the trailing second and minute.
    pub(super) fn used(&self, now: Instant) -> (u32, u32) {
        let within = |window| {
            let n = self.sent.iter().rev().take_while(|t| now.saturating_duration_since(**t) < window).count();
            u32::try_from(n).unwrap_or(u32::MAX)
        };
        (within(SECOND), within(MINUTE))
    }
}
