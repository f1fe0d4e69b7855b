//! What holds a campaign or an account: a pause that merges, ends by time or by a person, and may end in a probation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::campaign::Pause;

/// Open, held by a pause, or on probation (one job at a time until one succeeds).
#[derive(Debug, Default)]
pub(super) struct Gate {
    pause: Option<Pause>,
    /// The pause's end on the monotonic clock, so that a jump of the wall clock neither ends nor stretches it.
    over_at: Option<Instant>,
    probing: bool,
    /// When a person last resumed: replies to older requests no longer pause, they tell of what was mended since.
    resumed_at: Option<Instant>,
    closed: Arc<AtomicBool>,
}

impl Gate {
    /// A gate held by a pause that was stored; open without one.
    pub(super) fn restored(pause: Option<Pause>, now: Instant, wall: Timestamp) -> Self {
        let mut gate = Self::default();
        if let Some(pause) = pause {
            gate.close(pause, now, wall);
        }
        gate
    }

    pub(super) const fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// Tells a request that is about to leave whether it still may.
    pub(super) fn closed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.closed)
    }

    pub(super) const fn is_open(&self) -> bool {
        self.pause.is_none()
    }

    pub(super) const fn is_probing(&self) -> bool {
        self.probing && self.pause.is_none()
    }

    /// Puts a pause in force; together with one already there, the later end wins. Returns what now holds.
    pub(super) fn close(&mut self, pause: Pause, now: Instant, wall: Timestamp) -> Pause {
        let merged = match self.pause.take() {
            Some(old) => old.merge(pause),
            None => pause,
        };
        self.over_at = merged.until.map(|until| now + Duration::try_from(until.duration_since(wall)).unwrap_or_default());
        self.pause = Some(merged.clone());
        self.closed.store(true, Ordering::Relaxed);
        merged
    }

    /// Whether a reply to a request begun at `begun` may still pause: not if a person resumed since.
    pub(super) fn heeds(&self, begun: Instant) -> bool {
        self.resumed_at.is_none_or(|resumed| begun >= resumed)
    }

    /// Ends a pause whose time is over; gives it back.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Pause> {
        self.over_at.filter(|over| *over <= now)?;
        self.over_at = None;
        let pause = self.pause.take()?;
        self.closed.store(false, Ordering::Relaxed);
        self.probing = pause.probe;
        Some(pause)
    }

    /// A person lifts the pause; gives it back.
    pub(super) fn resume(&mut self, now: Instant) -> Option<Pause> {
        self.over_at = None;
        self.probing = false;
        self.resumed_at = Some(now);
        self.closed.store(false, Ordering::Relaxed);
        self.pause.take()
    }

    /// A message was accepted: probation is over.
    pub(super) const fn succeeded(&mut self) {
        self.probing = false;
    }

    /// When it opens by itself.
    pub(super) const fn opens_at(&self) -> Option<Instant> {
        self.over_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::later;

    fn pause(until: Option<Timestamp>, probe: bool) -> Pause {
        Pause { probe, ..Pause::example(until) }
    }

    #[test]
    fn a_shorter_pause_never_shortens_a_longer_one() {
        let (now, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut gate = Gate::default();
        gate.close(pause(Some(later(wall, Duration::from_secs(60))), false), now, wall);
        gate.close(pause(Some(later(wall, Duration::from_secs(5))), false), now, wall);
        assert!(gate.expire(now + Duration::from_secs(59)).is_none());
        gate.close(pause(None, false), now, wall);
        assert!(gate.expire(now + Duration::from_secs(3600)).is_none(), "until resumed means until resumed");
    }

    #[test]
    fn a_timed_pause_may_end_in_probation_until_a_success() {
        let (now, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut gate = Gate::default();
        gate.close(pause(Some(later(wall, Duration::from_secs(60))), true), now, wall);
        assert!(!gate.is_open() && !gate.is_probing());
        assert!(gate.expire(now + Duration::from_secs(60)).is_some());
        assert!(gate.is_open() && gate.is_probing());
        gate.succeeded();
        assert!(!gate.is_probing());
    }

    #[test]
    fn replies_to_requests_from_before_a_resume_no_longer_pause() {
        let now = Instant::now();
        let mut gate = Gate::default();
        assert!(gate.heeds(now));
        gate.resume(now + Duration::from_secs(1));
        assert!(!gate.heeds(now));
        assert!(gate.heeds(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_stored_pause_holds_after_a_start_keeps_back_what_is_about_to_leave_and_ends_in_time() {
        let (now, wall, minute) = (Instant::now(), Timestamp::UNIX_EPOCH, Duration::from_secs(60));
        let stored = pause(Some(later(wall, minute)), false);
        let mut gate = Gate::restored(Some(stored.clone()), now, wall);
        let closed = gate.closed();
        assert!(!gate.is_open() && closed.load(Ordering::Relaxed));
        assert_eq!((gate.pause(), gate.opens_at()), (Some(&stored), Some(now + minute)));
        assert_eq!(gate.expire(now + minute), Some(stored));
        assert!(gate.is_open() && !closed.load(Ordering::Relaxed));
        assert_eq!((gate.pause(), gate.opens_at()), (None, None));
    }
}
