//! From durable attempt to request: attempts are written a little ahead of their turns and of the requests under way, so that the disk
//! costs no time; one that may not leave any more is taken back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::roll::Roll;
use super::{Key, Lane};
use crate::campaign::{JobState, Phase};
use crate::gateway::Request;
use crate::outcome::Settle;

/// Longest further wait of an attempt that is opened: found after a crash it would count as unknown, so it is rather taken back.
const LONGEST_OPEN: Duration = Duration::from_secs(1);

/// Of the requests that may be under way, the part (one in so many) that may be written ahead of them at most: after a crash these are
/// in doubt too.
const MOST_AHEAD: usize = 2;

/// How many attempts may be opened beyond the requests that may be under way: as many as lately were answered from one flush to the next.
/// Fewer would leave places empty while attempts are written; more would only be in doubt after a crash. An account with a limit needs
/// none: its turns are given ahead, and they are fewer than the places.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    freed: usize,
    most: usize,
}

impl Ahead {
    /// A request under way was answered.
    pub(super) const fn freed(&mut self) {
        self.freed += 1;
    }

    /// A group of attempts and outcomes is on disk. Up at once, down slowly.
    pub(super) fn flushed(&mut self) {
        let freed = std::mem::take(&mut self.freed);
        self.most = freed.max((self.most * 7 + freed) / 8);
    }

    /// Nothing is answered any more.
    const fn stalled(&mut self) {
        self.most = 0;
    }

    /// Most attempts ahead now, when so many requests may be under way at this rate.
    pub(super) fn most(&self, places: usize, rate: Option<f64>) -> usize {
        if rate.is_some() { 0 } else { self.most.min(places / MOST_AHEAD) }
    }
}

impl Lane {
    /// The attempt is durable: the request leaves once its turn has come and a place is free.
    pub(super) fn send_in_turn(&mut self, key: Key, now: Instant) {
        let Some((active, slot)) = self.active.get(&key).and_then(|active| Some((active, active.slot?))) else { return };
        self.pacer.written(now.saturating_duration_since(active.begun));
        if !self.may_leave(&key) {
            return self.unsend(key, now);
        }
        self.leave_at(slot.at, key);
        self.send_due(now);
    }

    fn leave_at(&mut self, at: Instant, key: Key) {
        let place = self.leaving.partition_point(|(other, _)| *other <= at);
        self.leaving.insert(place, (at, key));
    }

    /// Sends what is written and whose turn has come, as many as there are places; when the next turn comes if there is one.
    pub(super) fn send_due(&mut self, now: Instant) -> Option<Instant> {
        let places = self.pacer.most_in_flight(self.max_in_flight);
        while let Some((at, key)) = self.leaving.pop_front() {
            if at > now {
                self.leaving.push_front((at, key));
                return Some(at);
            }
            if self.sends.len() < places {
                self.take_turn(key, now);
            } else if now.saturating_duration_since(at) <= LONGEST_OPEN {
                self.leaving.push_front((at, key));
                return None; // until a request under way is answered
            } else {
                self.ahead.stalled();
                self.unsend(key, now);
            }
        }
        None
    }

    /// Sends in the turn the attempt has, or in another if that is long past.
    fn take_turn(&mut self, key: Key, now: Instant) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let Some(slot) = active.slot else { return self.send(key, now) };
        match self.pacer.renew(slot, now) {
            Ok(slot) => {
                active.slot = Some(slot);
                if slot.at <= now { self.send(key, now) } else { self.leave_at(slot.at, key) }
            }
            Err(at) if at.saturating_duration_since(now) <= LONGEST_OPEN => self.leave_at(at, key),
            Err(_) => self.unsend(key, now),
        }
    }

    /// The request leaves, unless something has paused it meanwhile.
    fn send(&mut self, key: Key, now: Instant) {
        let (Ok(gateway), true) = (self.gateway.clone(), self.may_leave(&key)) else { return self.unsend(key, now) };
        let Some(active) = self.active.get_mut(&key) else { return };
        active.begun = now;
        if let Some(slot) = &mut active.slot {
            self.pacer.departed(*slot, now);
            slot.at = now; // what it waited for a place is not the gateway's latency
        }
        let Some(job) = &active.job else { return };
        let Some(roll) = self.rolls.get(&key.0) else { return };
        let options = roll.campaign.options;
        let request = Request { body: job.request_body(), sandbox: options.sandbox, mmlite: options.mmlite };
        tracing::debug!(campaign = %key.0, job = %key.1, account = %self.account, attempt = active.attempts, to = %job.to, "sending");
        let closed = [self.gate.closed(), roll.gate.closed()];
        let send = async move {
            // Pushed is not begun: an answer read in between may have paused it.
            let may_leave = || !closed.iter().any(|closed| closed.load(Ordering::Relaxed));
            (key, gateway.send_if(request, &may_leave).await)
        };
        self.sends.push(send.boxed());
    }

    /// While its attempt was being written, a job may have been paused or cancelled, or become late.
    fn may_leave(&self, key: &Key) -> bool {
        let sends = |roll: &Roll| roll.gate.is_open() && roll.campaign.phase == Phase::Running;
        let limit = self.active.get(key).and_then(|active| active.job.as_ref()?.not_after);
        let in_time = limit.is_none_or(|limit| limit >= self.clock.wall());
        !self.stopping && self.is_open() && in_time && self.rolls.get(&key.0).is_some_and(sends)
    }

    /// Takes back what is written and may not leave now: what is paused, cancelled or stopped has no open attempts that would be in
    /// doubt after a crash.
    pub(super) fn take_back(&mut self, now: Instant) {
        for (at, key) in std::mem::take(&mut self.leaving) {
            if self.may_leave(&key) { self.leaving.push_back((at, key)) } else { self.unsend(key, now) }
        }
    }

    /// An opened attempt that was never sent is taken back; it is not counted.
    pub(super) fn unsend(&mut self, key: Key, now: Instant) {
        self.landed(&key.0);
        if let Some(slot) = self.active.get(&key).and_then(|active| active.slot) {
            self.pacer.forget(slot);
        }
        let attempts = self.active.get(&key).map_or(0, |active| active.attempts.saturating_sub(1));
        self.conclude(key, JobState::Waiting, attempts, Settle::Return, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_written_ahead_as_are_answered_during_a_flush_but_no_more_than_a_part() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.most(128, None), 0);
        (0..20).for_each(|_| ahead.freed());
        ahead.flushed();
        assert_eq!((ahead.most(128, None), ahead.most(16, None), ahead.most(128, Some(80.0))), (20, 8, 0));
        ahead.flushed();
        assert_eq!(ahead.most(128, None), 17, "down slowly");
        (0..40).for_each(|_| ahead.flushed());
        assert_eq!(ahead.most(128, None), 0);
    }

    #[test]
    fn nothing_is_written_ahead_of_a_gateway_that_hangs() {
        let mut ahead = Ahead::default();
        (0..20).for_each(|_| ahead.freed());
        ahead.flushed();
        ahead.stalled();
        assert_eq!(ahead.most(128, None), 0);
    }
}
