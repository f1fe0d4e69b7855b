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
            Some((fastest, end)) if *end > now => *fastest = trip.min(*fastest),
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

    /// Of the requests that arrived with one answered so long ago, the others are answered too.
    pub(super) fn is_settled(&self, since: Micros) -> bool {
        since > self.allowance() + FIRST
    }

    /// Few answers take this long; that none does of several requests says that the gateway stands still.
    pub(super) fn is_overdue(&self, waited: Micros) -> bool {
        self.seen > 0 && waited > self.fastest() + self.allowance() + FIRST
    }
}
