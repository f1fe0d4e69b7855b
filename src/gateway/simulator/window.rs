//! The gateway's true sliding window log: one entry per request, expired ones pruned before counting.

use std::collections::VecDeque;

/// Entries kept at most (8 MB). More could only matter to a limit above it.
const MAX_ENTRIES: usize = 1_000_000;

/// One window. It is told the time, in microseconds, never going back.
#[derive(Debug)]
pub(super) struct Window {
    limit: Option<u32>,
    length: u64,
    entries: VecDeque<u64>,
}

/// What the window made of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// Requests allowed in the window.
    pub(super) limit: u32,
    /// Free ones left, this request counted.
    pub(super) remaining: u32,
    /// This request is one too many.
    pub(super) full: bool,
}

impl Window {
    /// An empty window of `length` microseconds.
    pub(super) const fn new(limit: Option<u32>, length: u64) -> Self {
        Self { limit, length, entries: VecDeque::new() }
    }

    /// Counts one request, also one that is refused. Without a limit nothing is kept.
    pub(super) fn count(&mut self, now: u64) -> Option<Count> {
        let limit = self.limit?;
        while self.entries.front().is_some_and(|&entry| entry + self.length <= now) || self.entries.len() >= MAX_ENTRIES {
            self.entries.pop_front();
        }
        let earlier = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push_back(now);
        Some(Count { limit, remaining: limit.saturating_sub(earlier.saturating_add(1)), full: earlier >= limit })
    }

    /// Changes the limit; what was counted stays counted.
    pub(super) const fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    /// The limit now.
    pub(super) const fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// Forgets every request.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_limit_holds_in_any_second_not_in_clock_seconds() {
        let mut window = Window::new(Some(2), SECOND);
        let mut full = |now| window.count(now).unwrap().full;
        assert!(!full(900_000));
        assert!(!full(950_000));
        assert!(full(1_050_000)); // a new clock second, but the third within one second; it counts too
        assert!(full(1_899_999));
        assert!(full(1_950_000)); // the two refused ones are still there
        assert!(!full(2_899_999)); // 1_899_999 left just now, 1_950_000 is still in
    }

    #[test]
    fn an_entry_leaves_exactly_one_length_later() {
        let mut window = Window::new(Some(1), SECOND);
        assert!(!window.count(0).unwrap().full);
        let mut other = Window::new(Some(1), SECOND);
        assert!(!other.count(0).unwrap().full);
        assert!(window.count(SECOND - 1).unwrap().full);
        assert!(!other.count(SECOND).unwrap().full);
    }

    #[test]
    fn remaining_counts_this_request_and_stops_at_zero() {
        let mut window = Window::new(Some(2), SECOND);
        let remaining: Vec<u32> = (0..4).map(|now| window.count(now).unwrap().remaining).collect();
        assert_eq!(remaining, [1, 0, 0, 0]);
        assert_eq!(Window::new(None, SECOND).count(0), None);
    }

    #[test]
    fn a_changed_limit_sees_what_was_counted() {
        let mut window = Window::new(Some(1), SECOND);
        window.count(0);
        window.set_limit(Some(2));
        assert!(!window.count(1).unwrap().full);
        assert!(window.count(2).unwrap().full);
        window.clear();
        assert!(!window.count(3).unwrap().full);
    }

    proptest! {
        #[test]
        fn agrees_with_counting_by_hand(limit in 1u32..6, gaps in proptest::collection::vec(0u64..700_000, 1..60)) {
            let mut window = Window::new(Some(limit), SECOND);
            let (mut now, mut all) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                let earlier = all.iter().filter(|&&t| t + SECOND > now).count();
                let count = window.count(now).unwrap();
                prop_assert_eq!(count.full, earlier >= limit as usize);
                all.push(now);
            }
        }
    }
}
