//! The round trips seen lately: the fastest, and how late the others usually are. What a round trip takes longer than the fastest
//! bounds how much later its request arrived.

use std::collections::VecDeque;

use super::log::{Micros, SECOND};

/// The fastest is forgotten after so many spans, so that a longer way is learnt.
const SPANS: usize = 8;
const SPAN: Micros = 8 * SECOND;

/// How late a request may be before anything is known.
const FIRST: Micros = 30_000;

/// Nobody counts for later than this in the usual lateness: one slow answer must not make all others late.
const MOST: Micros = SECOND;

/// Weight of one round trip in the usual ones.
const WEIGHT: i64 = 32;

/// Learns how much round trips differ.
#[derive(Debug)]
pub(super) struct Trips {
    /// The fastest of each span, the newest last, with the span's end.
    fastest: VecDeque<(Micros, Micros)>,
    /// How late they are on average, and how far they stray from that.
    late: Micros,
    stray: Micros,
    seen: i64,
}

impl Default for Trips {
    fn default() -> Self {
        Self { fastest: VecDeque::with_capacity(SPANS), late: FIRST / 2, stray: FIRST / 4, seen: 0 }
    }
}

impl Trips {
    /// One more round trip.
    pub(super) fn add(&mut self, trip: Micros, now: Micros) {
        match self.fastest.back_mut() {
            Some((fastest, end)) if now < *end => *fastest = trip.min(*fastest),
            _ => {
                self.fastest.push_back((trip, now + SPAN));
                if self.fastest.len() > SPANS {
                    self.fastest.pop_front();
                }
            }
        }
        let late = (trip - self.fastest()).clamp(0, MOST);
        self.stray += ((late - self.late).abs() - self.stray) / WEIGHT;
        self.late += (late - self.late) / WEIGHT;
        self.seen += 1;
    }

    /// The fastest round trip of the last minute.
    pub(super) fn fastest(&self) -> Micros {
        self.fastest.iter().map(|(fastest, _)| *fastest).min().unwrap_or(0)
    }

    /// How late a request with this round trip arrived at most, compared with the fastest: however long it was, it is out of a window
    /// by one length after its answer.
    pub(super) fn lateness(&self, trip: u32) -> Micros {
        (Micros::from(trip) - self.fastest()).max(0)
    }

    /// How much faster than the fastest seen a way may be: less and less, the more have been seen.
    pub(super) fn doubt(&self) -> Micros {
        self.stray / 12 + 8 * self.late / (8 + self.seen)
    }

    /// How late a request must be taken for until it is answered.
    pub(super) fn allowance(&self) -> Micros {
        (self.late + 2 * self.stray).min(MOST)
    }

    /// How late a request must be taken for that has waited so long for its answer: it may have arrived as much later as its answer is late.
    pub(super) fn lateness_so_far(&self, waited: Micros) -> Micros {
        let so_far = if self.seen > 0 { (waited - self.fastest()).min(MOST) } else { 0 };
        so_far.max(self.allowance())
    }

    /// Of the requests that arrived with one answered so long ago, the others are answered too.
    pub(super) fn is_settled(&self, since: Micros) -> bool {
        since > self.allowance() + FIRST
    }

    /// Few answers take this long; that none does of several requests says that the gateway stands still.
    pub(super) fn is_overdue(&self, waited: Micros) -> bool {
        self.seen > 0 && self.fastest() + self.allowance() + FIRST < waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1000;

    /// Round trips of these lengths in turn, one in 100 ms, for so many seconds from then on.
    fn hear(trips: &mut Trips, lengths: &[Micros], from: Micros, seconds: i64) {
        let times = (0..seconds * 10).map(|n| from + n * 100 * MS);
        times.zip(lengths.iter().cycle()).for_each(|(now, trip)| trips.add(*trip, now));
    }

    #[test]
    fn before_anything_is_known_nobody_is_overdue_and_all_may_be_late() {
        let trips = Trips::default();
        assert_eq!((trips.fastest(), trips.lateness(7), trips.allowance()), (0, 7, FIRST));
        assert!(!trips.is_overdue(MOST));
        assert!(trips.doubt() >= FIRST / 2, "there may be a way half as late");
    }

    #[test]
    fn late_is_what_takes_longer_than_the_fastest() {
        let mut trips = Trips::default();
        hear(&mut trips, &[50 * MS, 20 * MS, 30 * MS], 0, 5);
        assert_eq!(trips.fastest(), 20 * MS);
        assert_eq!([5_000, 20_000, 50_000, 9_020_000].map(|trip| trips.lateness(trip)), [0, 0, 30 * MS, 9 * SECOND]);
    }

    #[test]
    fn a_steady_way_leaves_no_doubt() {
        let mut trips = Trips::default();
        hear(&mut trips, &[20 * MS], 0, 60);
        assert!(trips.allowance() < MS, "{}", trips.allowance());
        assert!(trips.doubt() < MS / 10, "{}", trips.doubt());
        assert!(!trips.is_overdue(50 * MS) && trips.is_overdue(52 * MS));
    }

    #[test]
    fn an_uneven_way_leaves_room_for_what_is_usual() {
        let mut trips = Trips::default();
        hear(&mut trips, &[20 * MS, 40 * MS], 0, 60);
        // 10 ms late on average, and as far from it
        assert!((28 * MS..=32 * MS).contains(&trips.allowance()), "{}", trips.allowance());
        assert!((800..=1100).contains(&trips.doubt()), "{}", trips.doubt());
        assert!(!trips.is_overdue(75 * MS) && trips.is_overdue(85 * MS));
        assert!(!trips.is_settled(55 * MS) && trips.is_settled(65 * MS));
    }

    #[test]
    fn who_is_not_answered_yet_is_as_late_as_his_answer_up_to_a_second() {
        let mut trips = Trips::default();
        assert_eq!(trips.lateness_so_far(900 * MS), FIRST, "nothing is known");
        hear(&mut trips, &[800 * MS], 0, 60);
        assert!(trips.lateness_so_far(500 * MS) < MS);
        assert_eq!([1000 * MS, 9000 * MS].map(|waited| trips.lateness_so_far(waited)), [200 * MS, SECOND]);
    }

    #[test]
    fn one_slow_answer_makes_the_others_little_later() {
        let mut trips = Trips::default();
        hear(&mut trips, &[20 * MS], 0, 60);
        trips.add(30 * SECOND, 60 * SECOND);
        assert!(trips.allowance() < 100 * MS, "{}", trips.allowance());
    }

    #[test]
    fn a_longer_way_is_learnt_after_about_a_minute_and_a_shorter_at_once() {
        let mut trips = Trips::default();
        hear(&mut trips, &[20 * MS], 0, 10);
        hear(&mut trips, &[40 * MS], 10 * SECOND, 60);
        assert_eq!(trips.fastest(), 20 * MS, "it may come back");
        hear(&mut trips, &[40 * MS], 70 * SECOND, 20);
        assert_eq!(trips.fastest(), 40 * MS);
        trips.add(10 * MS, 90 * SECOND);
        assert_eq!(trips.fastest(), 10 * MS);
    }
}
