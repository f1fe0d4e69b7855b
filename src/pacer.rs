//! Waits for the account's turn: governor smooths, a sliding log of our own guarantees, the gateway's headers correct.
//!
//! The gateway counts requests in any trailing second and minute, at their arrival. Requests leave evenly but arrive with jitter,
//! so a plain token bucket at the limit is now and then one over, and each refusal costs a second. The log counts every request from
//! the latest time at which it can have arrived, and the answers' `X-RateLimit-*` headers tell how many others the windows hold.
//! Synchronous, and told the time.

mod bucket;
mod flight;
mod log;
mod others;
mod plan;
mod standstill;
mod trips;

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::{Answer, Reply, Window, Windows};
use crate::policy::SlowDown;
use bucket::Bucket;
use flight::Flight;
use log::{Micros, SlidingLog};
use others::Others;
use plan::rate;
pub use plan::{Limits, Pace, Plan, Reserve};
use trips::Trips;

/// The lowest share of the limit that slowing down can reach, so that an account never comes to a standstill by it.
const SLOWEST: f64 = 0.05;

/// Longest hold, so that an absurd answer cannot stop an account for good.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);

/// Longest time ahead that a turn is given: how long the disk may take without cost.
const LONGEST_LEAD: Duration = Duration::from_millis(30);

/// Requests that left up to this much after their turn still fit the windows; later ones would leave on top of others.
const LATEST: Duration = Duration::from_millis(500);

/// One request's place in the gateway's windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    number: u64,
    /// Not before this may the request leave.
    pub at: Instant,
}

/// Decides when an account's next request may leave.
#[derive(Debug)]
pub struct Pacer {
    plan: Plan,
    /// In force: those of the plan, or lower ones the gateway told us of.
    limits: Limits,
    bucket: Bucket,
    /// What the bucket was made for.
    paced: Option<f64>,
    log: SlidingLog,
    trips: Trips,
    flight: Flight,
    /// In the second, in the minute.
    others: [Others; 2],
    /// The last request whose answer told the limits: answers overtake each other.
    told_by: u64,
    /// How long attempts lately took to be written, rather more than less.
    lead: Duration,
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
    pub fn new(plan: impl Into<Plan>, now: Instant) -> Self {
        let plan = plan.into();
        let mut pacer = Self {
            plan,
            limits: plan.limits,
            bucket: Bucket::new(None, now),
            paced: None,
            log: SlidingLog::as_if_busy(plan.limits, now),
            trips: Trips::default(),
            flight: Flight::default(),
            others: [Others::default(), Others::default()],
            told_by: 0,
            lead: Duration::ZERO,
            held_until: now,
            slowed: None,
        };
        pacer.log = SlidingLog::as_if_busy(pacer.open(), now);
        pacer
    }

    /// Goes on by another plan. What left still counts while the same windows are limited; where one comes or goes, it is as after a start.
    /// A hold stays.
    pub fn replan(&mut self, plan: Plan, now: Instant) {
        let old = std::mem::replace(&mut self.plan, plan).limits;
        // What the gateway told of a lower limit is still so.
        let told = |old: Option<u32>, in_force: Option<u32>, new: Option<u32>| match (old, in_force, new) {
            (Some(old), Some(in_force), Some(new)) if in_force < old => Some(new.min(in_force)),
            _ => new,
        };
        self.limits.second = told(old.second, self.limits.second, plan.limits.second);
        self.limits.minute = told(old.minute, self.limits.minute, plan.limits.minute);
        let windows = |limits: Limits| (limits.second.is_some(), limits.minute.is_some());
        if windows(old) != windows(plan.limits) {
            // they keep times of the log
            (self.trips, self.others) = (Trips::default(), [Others::default(), Others::default()]);
            self.log.begin_anew(self.open(), now);
        }
    }

    /// Takes the next turn. It may lie a little ahead, so that the attempt can be written meanwhile.
    ///
    /// # Errors
    /// The earliest time worth asking again.
    pub fn try_take(&mut self, now: Instant) -> Result<Slot, Instant> {
        if now < self.held_until {
            return Err(self.held_until);
        }
        self.recover(now);
        self.pace(now);
        let ahead = now + self.lead;
        let mut at = self.bucket.free_at(now);
        if at <= ahead {
            let (from, latest) = (self.log.micros(at), self.log.micros(ahead));
            let free = self.log.free_at(self.open(), &self.trips, from, latest);
            at = self.log.instant(free);
        }
        if at > ahead {
            return Err(at - self.lead);
        }
        self.bucket.take();
        Ok(Slot { number: self.log.push(self.log.micros(at)), at })
    }

    /// The turn of a request that is ready to leave: the one it has, or another if that is long past. What a slow disk held back must
    /// not leave all at once.
    ///
    /// # Errors
    /// The earliest time worth asking again: the account is held, or the windows are full.
    pub fn renew(&mut self, slot: Slot, now: Instant) -> Result<Slot, Instant> {
        if now < self.held_until {
            return Err(self.held_until);
        }
        if now.saturating_duration_since(slot.at) <= LATEST {
            return Ok(slot);
        }
        self.log.forget(slot.number);
        let (from, latest) = (self.log.micros(now), self.log.micros(now + LONGEST_LEAD));
        let free = self.log.free_at(self.open(), &self.trips, from, latest);
        let at = self.log.instant(free);
        if free > latest { Err(at) } else { Ok(Slot { number: self.log.push(free), at }) }
    }

    /// An attempt took this long to be written, counted from its turn.
    pub fn written(&mut self, took: Duration) {
        let took = took.min(LONGEST_LEAD);
        self.lead = if took > self.lead { (self.lead * 3 + took) / 4 } else { (self.lead * 31 + took) / 32 };
    }

    /// The request leaves `now`: the windows count it from then.
    pub fn departed(&mut self, slot: Slot, now: Instant) {
        self.log.departed(slot.number, self.log.micros(now));
    }

    /// The request never left, or surely never arrived.
    pub fn forget(&mut self, slot: Slot) {
        self.log.forget(slot.number);
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
    }

    /// Learns from the answer to a request; `in_flight` were under way with it.
    pub fn answered(&mut self, slot: Slot, in_flight: usize, now: Instant, answer: &Answer) {
        let at = self.log.micros(now);
        // Trouble may come at any time and says nothing about the gateway's latency.
        if matches!(answer.reply, Reply::Accepted { .. } | Reply::Refused(_)) {
            self.flight.answered(now.saturating_duration_since(slot.at), in_flight, self.paced, self.lead);
            self.log.heard(slot.number, at, &self.trips);
        }
        let windows = answer.windows;
        if slot.number >= self.told_by {
            self.told_by = slot.number;
            self.heed(windows);
        }
        let Some(left) = self.log.left(slot.number) else { return };
        let trip = (at - left).max(0);
        // A refusal may come sooner, trouble at any time, and what was held up late: none says how long the way usually is.
        if matches!(answer.reply, Reply::Accepted { .. }) && !self.log.was_caught(slot.number) {
            self.trips.add(trip, at);
        }
        self.log.answered(slot.number, trip, at);
        self.count_others(slot.number, windows, at);
    }

    /// The limits as the gateway says, never above those configured.
    fn heed(&mut self, windows: Windows) {
        let told = |configured: Option<u32>, ours: Option<u32>, theirs: Option<Window>| match (configured, theirs) {
            (Some(configured), Some(theirs)) => Some(configured.min(theirs.limit.max(1))),
            _ => ours,
        };
        self.limits.second = told(self.plan.limits.second, self.limits.second, windows.second);
        self.limits.minute = told(self.plan.limits.minute, self.limits.minute, windows.minute);
    }

    /// What the gateway counted when the request arrived, less what we know of.
    fn count_others(&mut self, number: u64, windows: Windows, at: Micros) {
        let Some(left) = self.log.left(number) else { return };
        let doubt = 2.0 + self.paced.unwrap_or(0.0) * self.trips.allowance() as f64 / log::SECOND as f64;
        for (which, window) in [windows.second, windows.minute].into_iter().enumerate() {
            let view = if which == 0 { &self.log.second } else { &self.log.minute };
            let (Some(window), Some(view), Some(others)) = (window, view, self.others.get_mut(which)) else { continue };
            let Some(ours) = self.log.ours(view, number) else { continue };
            let held_up = self.log.held_up(view, number) as f64;
            let past = view.past(left);
            let counted = window.limit.saturating_sub(window.remaining) as usize;
            let full = window.remaining == 0;
            let not_ours = counted.saturating_sub(ours);
            if past > not_ours && !full {
                let view = if which == 0 { &mut self.log.second } else { &mut self.log.minute };
                if let Some(view) = view {
                    view.limit_past(not_ours);
                }
            }
            let unexplained = counted as f64 - ours as f64 - past.min(not_ours) as f64;
            // What was held up has its place in our log already. Of a window that one of them met, we know too little to take others for gone.
            let or_more = full || self.log.was_caught(number);
            others.add(unexplained - unexplained.clamp(0.0, held_up), doubt, or_more, at);
        }
    }

    /// What is open to us in each window: the limits less what is reserved for others, or less what they need if that is more.
    fn open(&self) -> Limits {
        let [second, minute] = &self.others;
        let less = |configured: Option<u32>, in_force: Option<u32>, others: &Others| {
            let taken = |limit| self.plan.reserved(configured, limit).max(others.expected());
            in_force.map(|limit| limit.saturating_sub(taken(limit)).max(1))
        };
        let (configured, in_force) = (self.plan.limits, self.limits);
        Limits {
            second: less(configured.second, in_force.second, second),
            minute: less(configured.minute, in_force.minute, minute),
        }
    }

    /// Most requests under way now, up to this ceiling: what holds the rate at the gateway's latency, and some more.
    pub fn most_in_flight(&mut self, ceiling: usize) -> usize {
        self.flight.most(self.paced, ceiling)
    }

    /// Of each limit, what is left to other programs on the same key: the reserve, or more while they use more.
    #[must_use]
    pub fn left_to_others(&self) -> Limits {
        let open = self.open();
        let rest = |limit: Option<u32>, open: Option<u32>| Some(limit?.saturating_sub(open?));
        Limits { second: rest(self.limits.second, open.second), minute: rest(self.limits.minute, open.minute) }
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
        rate(self.open()).map(|rate| rate * self.slow())
    }

    fn slow(&self) -> f64 {
        self.slowed.as_ref().map_or(1.0, |slowed| slowed.factor)
    }

    fn recover(&mut self, now: Instant) {
        self.slowed.take_if(|slowed| slowed.until <= now);
    }

    fn pace(&mut self, now: Instant) {
        let open = self.open();
        let smooth = if self.plan.pace == Pace::Burst {
            Limits { minute: open.minute.filter(|_| open.second.is_none()), ..open }
        } else {
            open
        };
        let rate = rate(smooth).map(|rate| rate * self.slow());
        if rate != self.paced {
            self.paced = rate;
            self.bucket.go_on_at(rate, now);
        }
    }
}

#[cfg(test)]
mod tests;
