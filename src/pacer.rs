//! Waits for the account's turn: governor smooths, a sliding log of our own guarantees.
//!
//! The gateway counts requests in any trailing second and minute, at their arrival. Requests leave evenly but arrive with jitter,
//! so a plain token bucket at the limit is now and then one over, and each refusal costs a second. The log never lets more than
//! the limit leave within a window lengthened by a margin, and the margin is the spread of the round trips seen lately.
//! Synchronous, and told the time.

mod bucket;
mod log;
mod spread;

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::Windows;
use crate::policy::SlowDown;
use bucket::Bucket;
use log::SlidingLog;
use spread::Spread;

/// An account's rate limit: requests allowed in any trailing second and in any trailing 60 seconds; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In any second; at least 1.
    pub second: Option<u32>,
    /// In any 60 seconds; at least 1.
    pub minute: Option<u32>,
}

/// The lowest share of the limit that slowing down can reach, so that an account never comes to a standstill by it.
const SLOWEST: f64 = 0.05;

/// Longest hold, so that an absurd answer cannot stop an account for good.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);

/// Decides when an account's next request may leave.
#[derive(Debug)]
pub struct Pacer {
    configured: Limits,
    limits: Limits,
    bucket: Bucket,
    log: SlidingLog,
    spread: Spread,
    held_until: Instant,
    slowed: Option<Slowed>,
}

#[derive(Debug)]
struct Slowed {
    factor: f64,
    until: Instant,
}

impl Pacer {
    /// A pacer that behaves as if the account had been sending evenly at its limit until `now`: another process may have.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            configured: limits,
            limits,
            bucket: Bucket::new(rate(limits), now),
            log: SlidingLog::as_if_busy(limits, now),
            spread: Spread::default(),
            held_until: now,
            slowed: None,
        }
    }

    /// Takes the next turn.
    ///
    /// # Errors
    /// The earliest time worth asking again.
    pub fn try_take(&mut self, now: Instant) -> Result<(), Instant> {
        if now < self.held_until {
            return Err(self.held_until);
        }
        self.recover(now);
        self.log.free_at(self.limits, self.spread.margin(), now).map_or(Ok(()), Err)?;
        self.bucket.try_take(now)?;
        self.log.push(now);
        Ok(())
    }

    /// The request that took its turn at `taken` leaves only `now`, once its attempt is on disk: the windows count it from then,
    /// and how long disks take needs no margin.
    pub fn departed(&mut self, taken: Instant, now: Instant) {
        self.log.departed(taken, now);
    }

    /// Lets nothing leave for `wait` from now. A hold in force is never shortened.
    pub fn hold(&mut self, wait: Duration, now: Instant) {
        self.held_until = self.held_until.max(now + wait.min(LONGEST_HOLD));
    }

    /// How much longer the account is held.
    #[must_use]
    pub fn held_for(&self, now: Instant) -> Option<Duration> {
        self.held_until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Lowers the rate for a while; on top of what is already in force, down to a twentieth of the limit.
    pub fn slow_down(&mut self, order: SlowDown, now: Instant) {
        let current = self.slowed.as_ref().map_or(1.0, |slowed| slowed.factor);
        let until = now + order.length;
        let until = self.slowed.as_ref().map_or(until, |slowed| slowed.until.max(until));
        self.slowed = Some(Slowed { factor: (current * order.factor).max(SLOWEST), until });
        self.rebuild(now);
    }

    /// Learns from an answer to a request that left at `left`.
    pub fn answered(&mut self, left: Instant, now: Instant, windows: Windows) {
        self.spread.add(now.saturating_duration_since(left));
        let lower = |ours: Option<u32>, theirs: Option<crate::gateway::Window>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs.limit.max(1))),
            (ours, _) => ours,
        };
        let second = windows.second.map_or(self.limits.second, |w| lower(self.configured.second, Some(w)));
        let minute = windows.minute.map_or(self.limits.minute, |w| lower(self.configured.minute, Some(w)));
        let limits = Limits { second, minute };
        if limits != self.limits {
            self.limits = limits;
            self.rebuild(now);
        }
    }

    /// The limits in force: those configured, or lower ones the gateway told us of.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Requests of ours in the trailing second and minute.
    #[must_use]
    pub fn used(&self, now: Instant) -> (u32, u32) {
        self.log.used(now)
    }

    /// Requests per second it lets out in the long run; none when unlimited.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        rate(self.limits).map(|rate| rate * self.slowed.as_ref().map_or(1.0, |slowed| slowed.factor))
    }

    fn recover(&mut self, now: Instant) {
        if self.slowed.as_ref().is_some_and(|slowed| slowed.until <= now) {
            self.slowed = None;
            self.rebuild(now);
        }
    }

    /// governor's quota is fixed for life, so another rate is another bucket.
    fn rebuild(&mut self, now: Instant) {
        self.bucket = Bucket::new(self.rate(), now);
    }
}

/// The smooth rate under both limits, per second.
fn rate(limits: Limits) -> Option<f64> {
    let second = limits.second.map(f64::from);
    let minute = limits.minute.map(|n| f64::from(n) / 60.0);
    match (second, minute) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::Window;

    const MS: Duration = Duration::from_millis(1);
    const DEFAULT: Limits = Limits { second: Some(80), minute: Some(4800) };

    /// Takes every turn it can for `length`, asking again when told to; the times of the turns.
    fn drive(pacer: &mut Pacer, from: Instant, length: Duration) -> Vec<Instant> {
        let mut taken = Vec::new();
        let mut now = from;
        while now < from + length {
            match pacer.try_take(now) {
                Ok(()) => taken.push(now),
                Err(at) => {
                    assert!(at > now, "told to ask again in the past");
                    now = at;
                }
            }
        }
        taken
    }

    fn most_in_any(taken: &[Instant], window: Duration) -> usize {
        (0..taken.len()).map(|i| taken[i..].iter().take_while(|t| **t < taken[i] + window).count()).max().unwrap_or(0)
    }

    #[test]
    fn uses_the_limit_and_never_more() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let taken = drive(&mut pacer, start, Duration::from_secs(130));
        assert!(most_in_any(&taken, Duration::from_secs(1)) <= 80);
        assert!(most_in_any(&taken, Duration::from_secs(60)) <= 4800);
        let bound = 130.0 * 80.0 / 1.03; // a first margin of 30 ms lengthens the window
        assert!(taken.len() as f64 > bound * 0.995, "{} of {bound}", taken.len());
    }

    #[test]
    fn what_counts_is_when_a_request_leaves_not_when_it_took_its_turn() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let (mut waiting, mut left) = (Vec::new(), Vec::new());
        for ms in 0..30_000 {
            let now = start + ms * MS;
            while pacer.try_take(now).is_ok() {
                waiting.push(now);
            }
            // a disk that takes 3 ms, and at times 90
            if ms % 1000 / 90 != 4 && ms % 3 == 0 {
                left.extend(waiting.drain(..).map(|taken| {
                    pacer.departed(taken, now);
                    now
                }));
            }
        }
        assert!(most_in_any(&left, Duration::from_secs(1)) <= 80);
        let bound = 30.0 * 80.0 / 1.03;
        assert!(left.len() as f64 > bound * 0.93, "{} of {bound}", left.len());
    }

    #[test]
    fn starts_smoothly_as_if_it_had_been_sending_before() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let first = drive(&mut pacer, start, 250 * MS).len();
        assert!((15..=22).contains(&first), "{first}");
    }

    #[test]
    fn a_minute_limit_far_below_the_second_limit_sets_the_pace() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Limits { second: Some(100), minute: Some(1000) }, start);
        let taken = drive(&mut pacer, start, Duration::from_secs(120));
        assert!(most_in_any(&taken, Duration::from_secs(60)) <= 1000);
        assert!(most_in_any(&taken, Duration::from_secs(5)) <= 86, "bursts instead of a smooth pace");
        assert!(taken.len() > 1950, "{}", taken.len());
    }

    #[test]
    fn unlimited_never_waits() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Limits { second: None, minute: None }, start);
        assert!((0..100_000).all(|_| pacer.try_take(start).is_ok()));
    }

    #[test]
    fn a_hold_is_kept_and_never_shortened() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        pacer.hold(1000 * MS, start);
        pacer.hold(10 * MS, start + 5 * MS);
        assert_eq!(pacer.try_take(start + 999 * MS), Err(start + 1000 * MS));
        let after = drive(&mut pacer, start + 1000 * MS, 100 * MS).len();
        assert!(after <= 10, "burst of {after} after a hold");
    }

    #[test]
    fn slowing_down_lowers_the_rate_and_passes() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        pacer.slow_down(SlowDown { factor: 0.5, length: Duration::from_secs(10) }, start);
        let slow = drive(&mut pacer, start, Duration::from_secs(10)).len();
        assert!((390..=410).contains(&slow), "{slow}");
        let normal = drive(&mut pacer, start + Duration::from_secs(10), Duration::from_secs(10)).len();
        assert!(normal > 770, "{normal}");
    }

    #[test]
    fn a_lower_limit_in_the_headers_is_obeyed_and_a_higher_one_is_not() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let says = |limit| Windows { second: Some(Window { limit, remaining: 1 }), minute: None };
        pacer.answered(start, start, says(40));
        assert_eq!(pacer.limits().second, Some(40));
        pacer.answered(start, start, says(500));
        assert_eq!(pacer.limits().second, Some(80));
        pacer.answered(start, start, Windows::default());
        assert_eq!(pacer.limits(), DEFAULT);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_window_ever_holds_more_than_its_limit(
            second in 1u32..200, minute in 1u32..3000,
            steps in proptest::collection::vec((0u64..400, 0u8..10, 0u64..120), 1..200),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut pacer = Pacer::new(Limits { second: Some(second), minute: Some(minute) }, now);
            let mut taken = Vec::new();
            for (wait, what, rtt) in steps {
                now += Duration::from_millis(wait);
                match what {
                    0 => pacer.hold(Duration::from_millis(rtt * 5), now),
                    1 => pacer.slow_down(SlowDown { factor: 0.5, length: Duration::from_secs(1) }, now),
                    2 => pacer.answered(now, now + Duration::from_millis(rtt), Windows::default()),
                    _ => while pacer.try_take(now).is_ok() { taken.push(now) },
                }
            }
            prop_assert!(most_in_any(&taken, Duration::from_secs(1)) <= second as usize);
            prop_assert!(most_in_any(&taken, Duration::from_secs(60)) <= minute as usize);
        }
    }
}
