//! The spread of the round trips seen lately. It bounds the jitter on the way up, which is what the gateway's windows feel.

use std::collections::VecDeque;
use std::time::Duration;

/// Round trips remembered.
const SAMPLES: usize = 512;
/// Round trips between two looks at the spread.
const LOOK_EVERY: usize = 32;
/// What the margin is before anything is known, and its bounds: timers tick in milliseconds, and nobody should lose a fifth of
/// the limit to a few slow answers.
const FIRST: Duration = Duration::from_millis(30);
const LEAST: Duration = Duration::from_millis(5);
const MOST: Duration = Duration::from_millis(200);

/// Learns how much round trips differ.
#[derive(Debug)]
pub(super) struct Spread {
    trips: VecDeque<Duration>,
    unseen: usize,
    margin: Duration,
}

impl Default for Spread {
    fn default() -> Self {
        Self { trips: VecDeque::with_capacity(SAMPLES), unseen: 0, margin: FIRST }
    }
}

impl Spread {
    /// One more round trip.
    pub(super) fn add(&mut self, trip: Duration) {
        if self.trips.len() == SAMPLES {
            self.trips.pop_front();
        }
        self.trips.push_back(trip);
        self.unseen += 1;
        if self.unseen >= LOOK_EVERY {
            self.unseen = 0;
            self.margin = self.look();
        }
    }

    /// How much longer than the gateway's a window of ours must be.
    pub(super) const fn margin(&self) -> Duration {
        self.margin
    }

    /// Three quarters of what lies between the fastest and all but the slowest hundredth. Single stragglers say little about the
    /// next request; and the spread is that of both ways, of which only the way up counts: half of it, if they are alike.
    fn look(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.trips.iter().copied().collect();
        sorted.sort_unstable();
        let slow = sorted.get(sorted.len().saturating_sub(1 + sorted.len() / 100)).copied().unwrap_or_default();
        let fast = sorted.first().copied().unwrap_or_default();
        (slow.saturating_sub(fast) * 3 / 4).clamp(LEAST, MOST)
    }
}
