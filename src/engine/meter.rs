//! Events per second over the last few seconds, for people to look at.

use std::time::Duration;

use tokio::time::Instant;

const SECONDS: usize = 10;

/// Counts events in a ring of seconds.
#[derive(Debug)]
pub(super) struct Meter {
    start: Instant,
    ring: [u32; SECONDS],
    second: u64,
}

impl Meter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { start: now, ring: [0; SECONDS], second: 0 }
    }

    pub(super) fn add(&mut self, now: Instant) {
        self.advance(now);
        let at = (self.second % SECONDS as u64) as usize;
        if let Some(slot) = self.ring.get_mut(at) {
            *slot = slot.saturating_add(1);
        }
    }

    pub(super) fn per_second(&mut self, now: Instant) -> f64 {
        self.advance(now);
        let seen = now.saturating_duration_since(self.start).min(Duration::from_secs(SECONDS as u64));
        let all: u32 = self.ring.iter().sum();
        f64::from(all) / seen.as_secs_f64().max(1.0)
    }

    fn advance(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        for passed in (self.second + 1)..=second.min(self.second + SECONDS as u64) {
            if let Some(slot) = self.ring.get_mut((passed % SECONDS as u64) as usize) {
                *slot = 0;
            }
        }
        self.second = second;
    }
}
