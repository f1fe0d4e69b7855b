//! governor's token bucket on our clock: spreads requests evenly. Burst 2, because timers tick in whole milliseconds and a burst
//! of 1 would lose what they round away.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
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
}

/// A clock that is told the time: governor's own would read the machine's.
#[derive(Debug, Clone, Default)]
struct Told(Arc<AtomicU64>);

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
        Self { start: now, clock, limiter }
    }

    /// Takes a token, or says when there will be one.
    pub(super) fn try_take(&self, now: Instant) -> Result<(), Instant> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let since = now.saturating_duration_since(self.start);
        self.clock.0.store(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        limiter.check().map_err(|not_yet| {
            let at = not_yet.earliest_possible().duration_since(Nanos::from(0));
            self.start + Duration::from_nanos(at.as_u64()).max(since + Duration::from_nanos(1))
        })
    }
}
