//! The times the gateway stood still: what was under way then arrived at once when it went on, however long before it had left.

use std::collections::VecDeque;
use std::ops::Range;

use super::log::{MINUTE, Micros};

/// Kept at most, the newest.
const MOST: usize = 64;

/// More in a row, and nothing in between answered as fast as usual, are a gateway that has become slower.
const IN_A_ROW: u32 = 2;

/// One standstill that is over.
#[derive(Debug)]
pub(super) struct Standstill {
    /// The requests that were under way, by number.
    pub(super) caught: Range<u64>,
    /// Whatever left by then had arrived at the end of it.
    pub(super) went_on: Micros,
}

/// Those that a window may hold still, in order.
#[derive(Debug, Default)]
pub(super) struct Standstills {
    over: VecDeque<Standstill>,
    /// How many ended since a request was answered as fast as usual.
    in_a_row: u32,
}

impl Standstills {
    /// The first request that no known standstill caught.
    fn since(&self) -> u64 {
        self.over.back().map_or(0, |last| last.caught.end)
    }

    /// Whether the request can be the first that another standstill caught.
    pub(super) fn may_begin(&self, number: u64) -> bool {
        self.in_a_row < IN_A_ROW && number >= self.since()
    }

    /// A standstill is over, as is seen `now`.
    pub(super) fn over(&mut self, last: Standstill, now: Micros) {
        self.over.push_back(last);
        self.in_a_row += 1;
        while self.over.len() > MOST || self.over.front().is_some_and(|first| first.went_on + 2 * MINUTE < now) {
            self.over.pop_front();
        }
    }

    /// A request was answered as fast as usual.
    pub(super) fn prompt(&mut self, number: u64) {
        if number >= self.since() {
            self.in_a_row = 0;
        }
    }

    /// When the gateway went on that had held up the request.
    pub(super) fn went_on(&self, number: u64) -> Option<Micros> {
        self.over.iter().rev().find(|standstill| standstill.caught.contains(&number)).map(|standstill| standstill.went_on)
    }

    /// How many requests numbered below `before` may have arrived later than `from`.
    pub(super) fn caught(&self, from: Micros, before: u64) -> u64 {
        let late = self.over.iter().rev().take_while(|standstill| standstill.went_on > from);
        late.map(|standstill| before.min(standstill.caught.end).saturating_sub(standstill.caught.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(all: impl IntoIterator<Item = (Range<u64>, Micros)>) -> Standstills {
        let mut standstills = Standstills::default();
        all.into_iter().for_each(|(caught, went_on)| standstills.over(Standstill { caught, went_on }, went_on));
        standstills
    }

    #[test]
    fn whoever_left_before_a_window_that_began_before_the_gateway_went_on_may_be_in_it() {
        let standstills = after([(10..20, 1_000), (30..40, 2_000)]);
        assert_eq!([5, 15, 25, 35, 45].map(|before| standstills.caught(500, before)), [0, 5, 10, 15, 20]);
        assert_eq!([35, 45].map(|before| standstills.caught(1_500, before)), [5, 10], "the first was over by then");
        assert_eq!(standstills.caught(2_000, 45), 0);
        assert_eq!([9, 10, 20, 39].map(|number| standstills.went_on(number)), [None, Some(1_000), None, Some(2_000)]);
    }

    #[test]
    fn a_gateway_that_has_become_slower_stands_still_no_more_until_it_is_fast_again() {
        let mut standstills = after([(10..20, 1_000)]);
        assert!(standstills.may_begin(20) && !standstills.may_begin(19), "none is held up twice");
        standstills.over(Standstill { caught: 20..30, went_on: 2_000 }, 2_000);
        assert!(!standstills.may_begin(30));
        standstills.prompt(29);
        assert!(!standstills.may_begin(30), "one that was held up says nothing");
        standstills.prompt(30);
        assert!(standstills.may_begin(31));
    }

    #[test]
    fn none_is_kept_longer_than_a_window_can_hold_it_and_no_more_than_some() {
        let seldom = after((0..9).map(|n| (n..n + 1, Micros::try_from(n).unwrap() * MINUTE)));
        assert_eq!(seldom.over.len(), 3);
        assert_eq!(after((0..1000).map(|n| (n..n + 1, 0))).over.len(), MOST);
    }
}
