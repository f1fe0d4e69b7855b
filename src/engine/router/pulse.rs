//! How the engine is doing, put together from its lanes: for readiness, the status line and the watchdog.

use std::sync::atomic::Ordering;

use super::Router;
use crate::engine::lane::Gauge;

impl Router {
    /// The engine lives while every lane's loop turns.
    pub(super) fn beat(&mut self, intake_open: bool) {
        let load = |gauge: &Gauge| gauge.beat.load(Ordering::Relaxed);
        let beats: Vec<u64> = self.lanes.values().map(|lane| load(&lane.gauge)).collect();
        let alive = beats.len() != self.beats.len() || beats.iter().zip(&self.beats).all(|(now, before)| now > before);
        self.beats = beats;
        let status = self.status(intake_open);
        self.pulse.send_modify(|pulse| {
            pulse.ready = intake_open;
            pulse.status = status;
            pulse.beat += u64::from(alive);
        });
    }

    fn status(&self, intake_open: bool) -> String {
        let sum = |of: fn(&Gauge) -> usize| self.lanes.values().map(|lane| of(&lane.gauge)).sum::<usize>();
        if !intake_open {
            return "waiting for the broker".into();
        }
        if self.lanes.values().any(|lane| lane.gauge.stuck.load(Ordering::Relaxed)) {
            return "waiting for the state directory: it does not take writes".into();
        }
        let running = sum(|gauge| gauge.running.load(Ordering::Relaxed));
        let paused = sum(|gauge| gauge.paused.load(Ordering::Relaxed));
        let unlinked = sum(|gauge| gauge.unlinked.load(Ordering::Relaxed));
        let waiting = if unlinked > 0 { format!(", {unlinked} waiting for their queue") } else { String::new() };
        format!("{running} campaigns running, {paused} paused{waiting}")
    }
}
