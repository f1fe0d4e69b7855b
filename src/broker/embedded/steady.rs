//! Time for delays: follows the wall clock forward and never goes back, so that a clock set back strands nobody.

use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

use crate::clock::Clock;

/// Milliseconds since 1970, never fewer than before.
pub(super) struct Steady {
    clock: Clock,
    last_ms: u64,
    at: Instant,
}

impl Steady {
    pub(super) fn new(clock: Clock) -> Self {
        let (last_ms, at) = (wall_ms(&clock), clock.now());
        Self { clock, last_ms, at }
    }

    pub(super) fn now_ms(&mut self) -> u64 {
        let at = self.clock.now();
        let passed = whole_ms(at.saturating_duration_since(self.at));
        let now = wall_ms(&self.clock).max(self.last_ms.saturating_add(passed));
        if now > self.last_ms {
            (self.last_ms, self.at) = (now, at);
        }
        now
    }

    /// When something is due that must wait `delay`: never early, so parts of milliseconds count as whole ones.
    pub(super) fn due_ms(&mut self, delay: Duration) -> u64 {
        self.now_ms().saturating_add(1).saturating_add(delay_ms(delay))
    }
}

/// A delay in milliseconds, rounded up.
pub(super) fn delay_ms(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn wall_ms(clock: &Clock) -> u64 {
    u64::try_from(clock.wall().as_duration().as_millis())
        .unwrap_or_else(|_| if clock.wall() < Timestamp::UNIX_EPOCH { 0 } else { u64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_does_not_stop_time_and_one_set_forward_moves_it() {
        let clock = Clock::simulated("2026-11-22T12:00:00Z".parse().unwrap());
        let mut steady = Steady::new(clock.clone());
        let start = steady.now_ms();
        let due = steady.due_ms(Duration::from_millis(1500));
        clock.step_wall(-3_600_000);
        tokio::time::advance(Duration::from_millis(1499)).await;
        assert!(steady.now_ms() < due);
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(steady.now_ms() >= due);
        clock.step_wall(2 * 3_600_000);
        assert!(steady.now_ms() > start + 3_500_000);
    }
}
