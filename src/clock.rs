//! The one clock: monotonic time for waiting and pacing, wall time for what is stored or shown.
//!
//! Monotonic time is tokio's, so a test can pause it. Wall time may jump both ways; nothing waits on it directly.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time. Cheap to clone; clones agree.
#[derive(Debug, Clone)]
pub struct Clock {
    wall: Wall,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    Simulated { base: Timestamp, start: Instant, skew_ms: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's own clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { wall: Wall::System }
    }

    /// A wall clock that starts at `base`, runs with tokio's (pausable) time and moves only when [`Clock::step_wall`] says so.
    #[must_use]
    pub fn simulated(base: Timestamp) -> Self {
        Self { wall: Wall::Simulated { base, start: Instant::now(), skew_ms: Arc::default() } }
    }

    /// Monotonic now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wall-clock now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn wall(&self) -> Timestamp {
        match &self.wall {
            Wall::System => Timestamp::now(),
            Wall::Simulated { base, start, skew_ms } => {
                let run = SignedDuration::try_from(start.elapsed()).unwrap_or(SignedDuration::MAX);
                let skew = SignedDuration::from_millis(skew_ms.load(Ordering::Relaxed));
                base.saturating_add(run).and_then(|t| t.saturating_add(skew)).unwrap_or(*base)
            }
        }
    }

    /// Lets a simulated wall clock jump by `milliseconds` (either way). The system clock does not move.
    pub fn step_wall(&self, milliseconds: i64) {
        if let Wall::Simulated { skew_ms, .. } = &self.wall {
            skew_ms.fetch_add(milliseconds, Ordering::Relaxed);
        }
    }
}
