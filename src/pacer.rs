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
mod trips;

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::{Answer, Reply, Window, Windows};
use crate::policy::SlowDown;
use bucket::Bucket;
use flight::Flight;
use log::{Micros, SlidingLog};
use others::Others;
use trips::Trips;

/// An account's rate limit: requests allowed in any trailing second and in any trailing 60 seconds; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In any second; at least 1.
    pub second: Option<u32>,
    /// In any 60 seconds; at least 1.
    pub minute: Option<u32>,
}

/// How an account is to be paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// What the gateway allows at most.
    pub limits: Limits,
    /// What of it is left to other programs on the same key.
    pub reserve: Reserve,
    /// How requests are spread.
    pub pace: Pace,
}

impl From<Limits> for Plan {
    fn from(limits: Limits) -> Self {
        Self { limits, reserve: Reserve::default(), pace: Pace::Smooth }
    }
}

/// Room left to other programs that use the same key. They find it free at any moment; when they need more, they get that too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reserve {
    /// So many requests of the second; of the minute the same part. Without a limit by the second, of the minute.
    Requests(u32),
    /// This part of each limit, from 0 to below 1.
    Share(f64),
}

impl Default for Reserve {
    fn default() -> Self {
        Self::Requests(0)
    }
}

impl Reserve {
    /// The part of each limit.
    #[must_use]
    pub fn share(self, limits: Limits) -> f64 {
        match self {
            Self::Requests(requests) => {
                limits.second.or(limits.minute).map_or(0.0, |limit| f64::from(requests) / f64::from(limit))
            }
            Self::Share(share) => share,
        }
    }
}

/// How requests are spread when the minute's limit is lower than the second's for a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// Evenly over the minute.
    #[default]
    Smooth,
    /// As fast as the second's limit allows, until the minute is used up.
    Burst,
}

/// The lowest share of the limit that slowing down can reach, so that an account never comes to a standstill by it.
const SLOWEST: f64 = 0.05;

/// Longest hold, so that an absurd answer cannot stop an account for good.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);

/// Longest time ahead that a turn is given: how long the disk may take without cost.
const LONGEST_LEAD: Duration = Duration::from_millis(30);

/// Requests that left up to this much after their turn still fit the windows; later ones would leave on top of others.
const LATEST: Duration = Duration::from_millis(500);

/// So much less than a whole request is one still, when a number went through a share.
const ROUNDING: f64 = 1e-9;

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
            if free > from {
                at = self.log.instant(free);
            }
        }
        if at > ahead {
            return Err((at - self.lead).max(now + Duration::from_micros(1)));
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
        let at = if free > from { self.log.instant(free) } else { now };
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
        }
        let windows = answer.windows;
        if slot.number >= self.told_by {
            self.told_by = slot.number;
            self.heed(windows);
        }
        let Some(left) = self.log.left(slot.number) else { return };
        let trip = (at - left).max(0);
        // A refusal may come sooner, and trouble at any time: neither says how long the way usually is.
        if matches!(answer.reply, Reply::Accepted { .. }) {
            self.trips.add(trip, at);
        }
        self.log.answered(slot.number, trip);
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
            others.add(counted as f64 - ours as f64 - past.min(not_ours) as f64, doubt, full, at);
        }
    }

    /// What is open to us in each window: the limits less what is reserved for others, or less what they need if that is more.
    fn open(&self) -> Limits {
        let share = self.plan.reserve.share(self.plan.limits);
        let [second, minute] = &self.others;
        let less = |limit: Option<u32>, others: &Others| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than the limit")]
            let reserved = |limit: u32| (f64::from(limit) * share - ROUNDING).ceil() as u32;
            limit.map(|limit| limit.saturating_sub(reserved(limit).max(others.expected())).max(1))
        };
        Limits { second: less(self.limits.second, second), minute: less(self.limits.minute, minute) }
    }

    /// Most requests under way now, up to this ceiling: what holds the rate at the gateway's latency, and some more.
    pub fn most_in_flight(&mut self, ceiling: usize) -> usize {
        self.flight.most(ceiling)
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
                Ok(slot) => taken.push(slot.at),
                Err(at) => {
                    assert!(at > now, "told to ask again in the past");
                    now = at;
                }
            }
        }
        taken
    }

    fn accepted(windows: Windows) -> Answer {
        Answer { reply: Reply::Accepted { wamid: String::new() }, windows }
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
        let bound = 130.0 * 80.0 / 1.05; // unanswered, each is taken for some 45 ms late
        assert!(taken.len() as f64 > bound * 0.995, "{} of {bound}", taken.len());
    }

    #[test]
    fn what_a_disk_held_back_does_not_leave_all_at_once() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let mut ready: Vec<(Slot, Instant)> = Vec::new();
        let mut left = Vec::new();
        for ms in 0..20_000 {
            let now = start + ms * MS;
            if let Ok(slot) = pacer.try_take(now) {
                ready.push((slot, slot.at));
            }
            if (4_000..7_000).contains(&ms) {
                continue; // the disk stands still
            }
            for (slot, ask_at) in std::mem::take(&mut ready) {
                match if ask_at <= now { pacer.renew(slot, now) } else { Err(ask_at) } {
                    Ok(slot) if slot.at <= now => {
                        pacer.departed(slot, now);
                        pacer.answered(slot, 1, now, &accepted(Windows::default()));
                        left.push(now);
                    }
                    Ok(slot) => ready.push((slot, slot.at)),
                    Err(at) => ready.push((slot, at)),
                }
            }
        }
        assert!(most_in_any(&left, Duration::from_secs(1)) <= 80, "{}", most_in_any(&left, Duration::from_secs(1)));
        assert!(ready.len() < 500, "{} never left", ready.len());
        assert!(left.len() > 17 * 80 * 9 / 10, "{} left", left.len());
    }

    #[test]
    fn what_is_ready_to_leave_waits_through_a_hold() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let now = start + 100 * MS;
        let slot = pacer.try_take(now).unwrap();
        pacer.hold(1000 * MS, now);
        assert_eq!(pacer.renew(slot, now), Err(now + 1000 * MS));
        assert!(pacer.renew(slot, now + 1000 * MS).is_ok());
    }

    #[test]
    fn what_counts_is_when_a_request_leaves_and_what_the_disk_takes_costs_nothing() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let (mut waiting, mut left) = (Vec::new(), Vec::new());
        for ms in 0..30_000 {
            let now = start + ms * MS;
            while let Ok(slot) = pacer.try_take(now) {
                waiting.push((slot, now));
            }
            // a disk that takes 3 ms, and at times 90
            if ms % 1000 / 90 == 4 || ms % 3 != 0 {
                continue;
            }
            for (_, taken) in waiting.iter().filter(|(_, taken)| *taken + 3 * MS <= now) {
                pacer.written(now - *taken);
            }
            waiting.retain(|(slot, taken)| {
                let leaves = slot.at <= now && *taken + 3 * MS <= now;
                if leaves {
                    pacer.departed(*slot, now);
                    pacer.answered(*slot, 1, now, &accepted(Windows::default()));
                    left.push(now);
                }
                !leaves
            });
        }
        assert!(most_in_any(&left, Duration::from_secs(1)) <= 80);
        assert!(left.len() as f64 > 30.0 * 80.0 * 0.93, "{}", left.len());
    }

    #[test]
    fn what_never_left_takes_no_room() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Limits { second: Some(10), minute: None }, start);
        let late = start + Duration::from_secs(5);
        for n in 0..100 {
            let slot = pacer.try_take(late + n * 200 * MS).unwrap();
            pacer.forget(slot);
        }
        let now = late + 20_000 * MS;
        let taken = drive(&mut pacer, now, 1000 * MS).len();
        assert!((10..=12).contains(&taken), "{taken}");
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
        assert!(normal > 750, "{normal}");
    }

    fn drive_one(pacer: &mut Pacer, from: Instant) -> Slot {
        let mut now = from;
        loop {
            match pacer.try_take(now) {
                Ok(slot) => return slot,
                Err(at) => now = at,
            }
        }
    }

    #[test]
    fn an_idle_account_may_use_its_room_once_the_gateway_says_so() {
        let start = Instant::now();
        let limits = Limits { second: Some(100), minute: Some(1000) };
        for (remaining, least, most) in [(999, 95, 101), (0, 10, 25)] {
            let mut pacer = Pacer::new(Plan { pace: Pace::Burst, ..limits.into() }, start);
            let slot = drive_one(&mut pacer, start);
            let second = Some(Window { limit: 100, remaining: 99 });
            let windows = Windows { second, minute: Some(Window { limit: 1000, remaining }) };
            pacer.answered(slot, 1, slot.at + 50 * MS, &accepted(windows));
            let taken = drive(&mut pacer, slot.at + 50 * MS, 1000 * MS).len();
            assert!((least..=most).contains(&taken), "{taken} with {remaining} free");
        }
    }

    #[test]
    fn the_reserve_stays_free() {
        let start = Instant::now();
        for reserve in [Reserve::Requests(12), Reserve::Share(0.15)] {
            let mut pacer = Pacer::new(Plan { reserve, ..DEFAULT.into() }, start);
            let taken = drive(&mut pacer, start, Duration::from_secs(65));
            assert!(most_in_any(&taken, Duration::from_secs(1)) <= 68);
            assert!(most_in_any(&taken, Duration::from_secs(60)) <= 4080);
            assert!(taken.len() > 65 * 64, "{}", taken.len());
        }
    }

    #[test]
    fn a_lower_limit_in_the_headers_is_obeyed_and_a_higher_one_is_not() {
        let start = Instant::now();
        let mut pacer = Pacer::new(DEFAULT, start);
        let says = |limit| Windows { second: Some(Window { limit, remaining: 1 }), minute: None };
        let now = start + 100 * MS;
        let [first, second, third] = [0, 1, 2].map(|_| drive_one(&mut pacer, now));
        pacer.answered(second, 1, now, &accepted(says(40)));
        assert_eq!(pacer.limits().second, Some(40));
        pacer.answered(first, 1, now, &accepted(says(80)));
        assert_eq!(pacer.limits().second, Some(40), "told by an answer that was overtaken");
        pacer.answered(third, 1, now, &accepted(says(500)));
        assert_eq!(pacer.limits().second, Some(80));
        pacer.answered(third, 1, now, &accepted(Windows::default()));
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
            let (mut taken, mut open) = (Vec::new(), Vec::new());
            for (wait, what, rtt) in steps {
                now += Duration::from_millis(wait);
                match what {
                    0 => pacer.hold(Duration::from_millis(rtt * 5), now),
                    1 => pacer.slow_down(SlowDown { factor: 0.5, length: Duration::from_secs(1) }, now),
                    2 => for (slot, _) in open.drain(..) {
                        pacer.answered(slot, 1, now.max(slot.at) + Duration::from_millis(rtt), &accepted(Windows::default()));
                    },
                    _ => while let Ok(slot) = pacer.try_take(now) {
                        open.push((slot, now));
                        taken.push(slot.at);
                    },
                }
            }
            prop_assert!(most_in_any(&taken, Duration::from_secs(1)) <= second as usize);
            prop_assert!(most_in_any(&taken, Duration::from_secs(60)) <= minute as usize);
        }
    }
}
