//! governor's token bucket on our clock: spreads requests evenly. Burst 2, because timers tick in whole milliseconds and a burst
//! of 1 would lose what they round away.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// A token bucket, or no bucket at all when the rate is unlimited.
#[derive(Debug)]
pub(super) struct Bucket {
    start: Instant,
    clock: Told,
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, Told, governor::middleware::NoOpMiddleware<Nanos>>>,
    /// A token in hand, from when on.
    token: Option<Instant>,
}

/// A clock that is told the time: governor's own would read the machine's.
#[derive(Debug, Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn set(&self, now: Nanos) {
        self.0.store(now.as_u64(), Ordering::Relaxed);
    }
}

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

impl Bucket {
    /// A full bucket at `rate` requests per second; none is unlimited.
    pub(super) fn new(rate: Option<f64>, now: Instant) -> Self {
        let clock = Told::default();
        let quota = rate.and_then(|rate| Quota::with_period(Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6))));
        let limiter = quota.map(|quota| RateLimiter::direct_with_clock(quota.allow_burst(BURST), clock.clone()));
        Self { start: now, clock, limiter, token: None }
    }

    /// Goes on at another rate. governor's quota is fixed for life, so it is another bucket, with as many tokens as there are now: a rate
    /// that changes often gives nothing away and takes nothing away.
    pub(super) fn go_on_at(&mut self, rate: Option<f64>, now: Instant) {
        if self.limiter.is_none() {
            *self = Self::new(rate, now);
            // one token, not two at once: what left before a start is not known
            self.limiter.iter().for_each(|limiter| drop(limiter.check()));
            return;
        }
        let soonest = rate.map_or(now, |rate| now + Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6)));
        let in_hand = self.free_at(now).min(soonest);
        let left = self.draw(now);
        *self = Self::new(rate, now);
        self.clock.set(Nanos::from(in_hand.saturating_duration_since(now)));
        for _ in left..BURST.get() {
            if let Some(limiter) = &self.limiter {
                drop(limiter.check());
            }
        }
        self.token = Some(in_hand);
    }

    /// Takes every token out; how many there were.
    fn draw(&self, now: Instant) -> u32 {
        self.clock.set(Nanos::from(now.saturating_duration_since(self.start)));
        let taken = |_: &u32| self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_ok());
        u32::try_from((0..BURST.get()).take_while(taken).count()).unwrap_or(0)
    }

    /// When there is a token: now, or later. It is kept in hand until it is taken.
    pub(super) fn free_at(&mut self, now: Instant) -> Instant {
        let Some(limiter) = &self.limiter else { return now };
        let token = self.token.get_or_insert_with(|| {
            let now = Nanos::from(now.saturating_duration_since(self.start));
            self.clock.set(now);
            let at = limiter.check().map_or_else(|not_yet| not_yet.earliest_possible(), |()| now);
            if at > now {
                self.clock.set(at);
                // By its own word there is one then.
                drop(limiter.check());
            }
            self.start + Duration::from_nanos(at.as_u64())
        });
        now.max(*token)
    }

    /// Takes the token in hand.
    pub(super) const fn take(&mut self) {
        self.token = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_changes_all_the_time_gives_nothing_away_and_takes_nothing_away() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(10.0), start);
        let mut taken = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            if ms % 7 == 0 {
                bucket.go_on_at(Some(if ms % 2 == 0 { 10.0 } else { 10.1 }), now);
            }
            if bucket.free_at(now) <= now {
                bucket.take();
                taken += 1;
            }
        }
        assert!((98..=103).contains(&taken), "{taken} in ten seconds at ten a second");
    }

    const MS: Duration = Duration::from_millis(1);

    /// When the next tokens are there, taken one after the other.
    fn next(bucket: &mut Bucket, now: Instant, count: usize) -> Vec<Duration> {
        let mut take = || {
            let at = bucket.free_at(now);
            bucket.take();
            at.saturating_duration_since(now)
        };
        (0..count).map(|_| take()).collect()
    }

    #[test]
    fn what_is_left_gives_two_at_once_and_then_one_by_one_and_outlasts_another_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(10.0), start);
        assert_eq!(next(&mut bucket, start, 4), [0, 0, 100, 200].map(|ms| ms * MS));
        let later = start + Duration::from_secs(5);
        bucket.go_on_at(Some(100.0), later);
        assert_eq!(next(&mut bucket, later, 3), [0, 0, 10].map(|ms| ms * MS));
    }

    #[test]
    fn nobody_waits_at_the_old_pace_once_the_rate_has_risen() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(0.1), start);
        next(&mut bucket, start, 2);
        assert_eq!(bucket.free_at(start), start + Duration::from_secs(10));
        bucket.go_on_at(Some(100.0), start);
        assert_eq!(bucket.free_at(start), start + 10 * MS);
    }
}
