//! The sliding log of our own requests: the guarantee that no window holds more than its limit, wherever in it a request arrives.
//!
//! A request is in a window from the latest time at which it can have arrived, counted as if the fastest way up took no time. Until
//! its answer that is a guess; its answer makes it exact, as a rule long before it leaves the window. A turn costs no more than a few
//! steps, however much is under way: requests are kept in the order they leave, and only those whose window is nearly over are sorted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::plan::{Limits, rate};
use super::standstill::{Standstill, Standstills};
use super::trips::Trips;

/// Microseconds since the log was begun; before that, less than zero.
pub(super) type Micros = i64;

pub(super) const SECOND: Micros = 1_000_000;
pub(super) const MINUTE: Micros = 60 * SECOND;

/// How much longer than its window an entry is kept that is answered: the longest way for which others can be told from ours.
const GRACE: Micros = 15 * SECOND;

/// How long an entry is kept for its answer: longer than any request is waited for.
const PATIENCE: Micros = 120 * SECOND;

/// A window is taken for longer by this part, for what timers and clocks round away.
const GRAIN: Micros = 2_000;

/// How soon to look again whether a gateway that stands still has answered.
const STANDSTILL: Micros = 10_000;

/// While it stands still, one request is given up for lost after each such time, so that another may find out.
const PROBE: Micros = 2 * SECOND;

/// While it stands still, one place in so many of the second is kept for these: what was given up for lost may yet arrive with them.
const SPARE: u32 = 20;

/// A standstill is seen by so many more than one that wait: a single one is only slow.
const SEVERAL: u64 = 3;

/// Entries kept at most, whatever the limits say; a limit above it is not guaranteed.
const MOST_ENTRIES: usize = 1 << 20;

/// What is known of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// No answer yet.
    Open,
    /// Answered after so many microseconds.
    Answered(u32),
    /// It never left.
    Void,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    left: Micros,
    fate: Fate,
}

/// The requests of the last minute, and the gateway's two windows as they look from here.
#[derive(Debug)]
pub(super) struct SlidingLog {
    epoch: Instant,
    /// In the order they leave; the first has the number `first`.
    sent: VecDeque<Sent>,
    first: u64,
    /// When the last one left that is not kept any more.
    forgotten: Micros,
    /// The last one answered some time ago: whatever left before it is not held up by a gateway that stands still.
    overtaken: u64,
    /// Those answered since, and when; in order. When a gateway goes on, answers come in any order.
    overtakers: VecDeque<(Micros, u64)>,
    /// What arrived at once, and when.
    standstills: Standstills,
    /// Up to when the windows have been looked at; turns are given in order.
    reached: Micros,
    pub(super) second: Option<View>,
    pub(super) minute: Option<View>,
}

/// One of the gateway's windows.
#[derive(Debug)]
pub(super) struct View {
    length: Micros,
    /// The first request that is surely still inside, since it left less than the window's length ago.
    next: u64,
    /// Those before it that may have arrived late enough to be inside still: until when, and which.
    late: BinaryHeap<Reverse<(Micros, u64)>>,
    /// Those given up for lost: they hold no place, until they are answered after all.
    lost: BTreeSet<u64>,
    /// Of the rest, how many never left.
    void: usize,
    /// Requests of somebody before us.
    past: Past,
}

/// How late somebody's requests before us may still have arrived.
const PAST_LATE: Micros = 50_000;

/// As if requests had been leaving evenly before the log was begun, the newest one gap ago.
#[derive(Debug, Clone, Copy)]
struct Past {
    gap: Micros,
    count: usize,
}

impl Past {
    /// How many of them are in a window that began at `from`.
    fn after(self, from: Micros) -> usize {
        // The i-th is at PAST_LATE - i * gap.
        usize::try_from((PAST_LATE - from).div_euclid(self.gap)).unwrap_or(0).min(self.count)
    }
}

impl SlidingLog {
    /// A log as if requests had been leaving evenly at the limit until `now`, so that room appears at the limit's own pace.
    pub(super) fn as_if_busy(limits: Limits, now: Instant) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a small number")]
        let gap = rate(limits).map_or(SECOND, |rate| (SECOND as f64 / rate) as Micros).max(1);
        let view = |limit: Option<u32>, length| {
            limit.map(|limit| {
                let past = Past { gap, count: limit as usize };
                View { length, next: 0, late: BinaryHeap::new(), lost: BTreeSet::new(), void: 0, past }
            })
        };
        let (second, minute) = (view(limits.second, SECOND), view(limits.minute, MINUTE));
        Self {
            epoch: now,
            sent: VecDeque::new(),
            first: 0,
            forgotten: Micros::MIN,
            overtaken: 0,
            overtakers: VecDeque::new(),
            standstills: Standstills::default(),
            reached: 0,
            second,
            minute,
        }
    }

    /// Begins again as if busy: there are other windows to keep from now on. Requests keep their numbers; those that left before are no
    /// longer known.
    pub(super) fn begin_anew(&mut self, limits: Limits, now: Instant) {
        let first = self.total() + 1; // without limits, the last numbers given out were not kept
        *self = Self { first, ..Self::as_if_busy(limits, now) };
        for view in self.second.iter_mut().chain(&mut self.minute) {
            view.next = first;
        }
    }

    pub(super) fn micros(&self, at: Instant) -> Micros {
        let length = at.saturating_duration_since(self.epoch).as_micros();
        Micros::try_from(length).unwrap_or(Micros::MAX)
    }

    pub(super) fn instant(&self, at: Micros) -> Instant {
        self.epoch + Duration::from_micros(u64::try_from(at).unwrap_or(0))
    }

    fn total(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    fn get(&self, number: u64) -> Option<&Sent> {
        self.sent.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Sent> {
        self.sent.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// A request is to leave at `at`: its number.
    pub(super) fn push(&mut self, at: Micros) -> u64 {
        let number = self.total();
        if !self.limits_anything() {
            return number; // without limits nothing needs to be remembered, nor told apart
        }
        let keep = GRACE + if self.minute.is_some() { MINUTE } else { SECOND };
        let over = |sent: &Sent| sent.left + if sent.fate == Fate::Open { PATIENCE } else { keep } < at;
        while self.sent.front().is_some_and(over) || self.sent.len() >= MOST_ENTRIES {
            self.forgotten = self.sent.pop_front().map_or(self.forgotten, |sent| sent.left);
            self.first += 1;
        }
        // What was forgotten cannot be looked at any more.
        for view in self.second.iter_mut().chain(&mut self.minute) {
            view.next = view.next.max(self.first);
            while let Some(number) = view.lost.range(..self.first).next().copied() {
                view.lost.remove(&number);
            }
        }
        self.sent.push_back(Sent { left: at, fate: Fate::Open });
        number
    }

    /// The request leaves only at `at`.
    pub(super) fn departed(&mut self, number: u64, at: Micros) {
        if let Some(sent) = self.get_mut(number) {
            sent.left = sent.left.max(at);
        }
    }

    /// The request never leaves, or surely never arrived.
    pub(super) fn forget(&mut self, number: u64) {
        let Some(sent) = self.get_mut(number).filter(|sent| sent.fate != Fate::Void) else { return };
        sent.fate = Fate::Void;
        for view in self.second.iter_mut().chain(&mut self.minute) {
            view.void += usize::from(number >= view.next);
        }
    }

    /// The request is answered at `at`, after `trip`.
    pub(super) fn answered(&mut self, number: u64, trip: Micros, at: Micros) {
        let trip = u32::try_from(trip).unwrap_or(u32::MAX);
        if let Some(sent) = self.get_mut(number).filter(|sent| sent.fate == Fate::Open) {
            sent.fate = Fate::Answered(trip);
        }
        if self.overtakers.back().map_or(self.overtaken, |(_, last)| *last) < number {
            self.overtakers.push_back((at, number));
        }
    }

    /// The gateway answers one at `at`. If it answered nothing since several were due, it had been standing still.
    pub(super) fn heard(&mut self, number: u64, at: Micros, trips: &Trips) {
        for view in self.second.iter_mut().chain(&mut self.minute) {
            if view.lost.remove(&number) {
                view.late.push(Reverse((at, number))); // it has arrived after all
            }
        }
        let unanswered = self.first_unanswered();
        if self.standstills.may_begin(unanswered) && self.is_overdue(unanswered + SEVERAL, trips, at) == Some(true) {
            let went_on = at - trips.fastest();
            self.standstills.over(Standstill { caught: unanswered..self.total(), went_on }, at);
            for view in self.second.iter_mut().chain(&mut self.minute) {
                let arrived = view.lost.split_off(&unanswered);
                view.late.extend(arrived.into_iter().map(|number| Reverse((at, number))));
            }
        } else if self.is_overdue(number, trips, at) == Some(false) {
            self.standstills.prompt(number);
        }
    }

    /// The first request of those of which none is answered; one that never left is none of them.
    fn first_unanswered(&self) -> u64 {
        let after = self.overtakers.back().map_or(self.overtaken, |(_, last)| *last) + 1;
        (after..self.total()).find(|number| self.get(*number).is_none_or(|sent| sent.fate != Fate::Void)).unwrap_or(after)
    }

    fn is_overdue(&self, number: u64, trips: &Trips, at: Micros) -> Option<bool> {
        let sent = self.get(number).filter(|sent| sent.fate != Fate::Void)?;
        Some(trips.is_overdue(at - sent.left))
    }

    /// When the request left.
    pub(super) fn left(&self, number: u64) -> Option<Micros> {
        self.get(number).map(|sent| sent.left)
    }

    /// When the next request may leave: not before `at`, and not before the turns given already. Beyond `ahead` it is only the
    /// earliest time worth asking again.
    pub(super) fn free_at(&mut self, limits: Limits, trips: &Trips, at: Micros, ahead: Micros) -> Micros {
        let mut at = at.max(self.reached);
        while at <= ahead {
            self.reached = at;
            self.advance(trips, at);
            let free = |view: &Option<View>, limit| {
                view.as_ref().zip(limit).and_then(|(view, limit)| self.free_in(view, limit, trips, at))
            };
            let stands = self.is_overdue(self.first_unanswered(), trips, at) == Some(true);
            let second = limits.second.map(|limit| if stands { limit - limit / SPARE } else { limit });
            match free(&self.second, second).max(free(&self.minute, limits.minute)) {
                Some(free) => at = free,
                None => break,
            }
        }
        at
    }

    const fn limits_anything(&self) -> bool {
        self.second.is_some() || self.minute.is_some()
    }

    /// Lets go of what has left the windows by `at`.
    fn advance(&mut self, trips: &Trips, at: Micros) {
        while let Some((_, number)) = self.overtakers.pop_front_if(|(since, _)| trips.is_settled(at - *since)) {
            self.overtaken = number;
        }
        let mut second = self.second.take();
        let mut minute = self.minute.take();
        for view in second.iter_mut().chain(&mut minute) {
            self.advance_view(view, trips, at);
        }
        (self.second, self.minute) = (second, minute);
    }

    fn advance_view(&self, view: &mut View, trips: &Trips, at: Micros) {
        while let Some(sent) = self.get(view.next).filter(|sent| sent.left + view.length <= at) {
            match sent.fate {
                Fate::Void => view.void = view.void.saturating_sub(1),
                _ => view.late.push(Reverse((at, view.next))),
            }
            view.next += 1;
        }
        while let Some(&Reverse((until, number))) = view.late.peek().filter(|Reverse((until, _))| *until <= at) {
            view.late.pop();
            // An answer may have come since, or still be missing.
            let sent = self.get(number);
            let until = sent.map_or(until, |sent| self.leaves(view, number, *sent, trips, at));
            if until > at {
                view.late.push(Reverse((until, number)));
            } else if sent.is_some_and(|sent| sent.fate == Fate::Open) {
                view.lost.insert(number);
            }
        }
    }

    /// When a request leaves the window, as far as one can tell at `at`.
    fn leaves(&self, view: &View, number: u64, sent: Sent, trips: &Trips, at: Micros) -> Micros {
        let late = match sent.fate {
            Fate::Void => return sent.left,
            Fate::Answered(trip) => trips.lateness(trip),
            // Nothing that left since is answered either: the gateway stands still, and all of it arrives at once when it goes on.
            Fate::Open if self.stands(number, at - sent.left) && trips.is_overdue(at - sent.left) => return at + STANDSTILL,
            // It arrived by then at the latest, answered or not.
            Fate::Open => {
                let went_on = self.standstills.went_on(number).unwrap_or(sent.left);
                trips.lateness_so_far(at - sent.left).max(went_on - sent.left)
            }
        };
        sent.left + late + trips.doubt() + view.length + view.length / GRAIN
    }

    /// The first request not overtaken may be lost itself, and so, ever less likely, those after it.
    fn stands(&self, number: u64, waited: Micros) -> bool {
        let behind = Micros::try_from(number.saturating_sub(self.overtaken)).unwrap_or(Micros::MAX);
        waited < PROBE.saturating_mul(behind)
    }

    fn in_window(&self, view: &View, at: Micros) -> usize {
        let surely = usize::try_from(self.total().saturating_sub(view.next)).unwrap_or(usize::MAX);
        surely.saturating_sub(view.void) + view.late.len() + view.past.after(at - view.length)
    }

    /// When the next one leaves the window, if it is full. There may be more than one too many: then asking again helps.
    fn free_in(&self, view: &View, limit: u32, trips: &Trips, at: Micros) -> Option<Micros> {
        if self.in_window(view, at) < limit as usize {
            return None;
        }
        let past = view.past.after(at - view.length);
        let past = (past > 0).then(|| PAST_LATE + view.length - view.past.gap * Micros::try_from(past).unwrap_or(Micros::MAX));
        let mut soonest = [past, view.late.peek().map(|Reverse((until, _))| *until)].into_iter().flatten().min();
        let (mut number, mut reached) = (view.next, at);
        while let Some(sent) = self.get(number) {
            // One that left later than its turn is let go of before those behind it.
            reached = reached.max(sent.left + view.length);
            if soonest.is_some_and(|soonest| reached >= soonest) {
                break;
            }
            if sent.fate != Fate::Void {
                let leaves = self.leaves(view, number, *sent, trips, at).max(reached);
                soonest = Some(soonest.map_or(leaves, |soonest| soonest.min(leaves)));
            }
            number += 1;
        }
        Some(soonest.unwrap_or(at).max(at + 1))
    }

    /// Ours among the requests of a window that ends with this one, counted by when they left: on average the ways up are alike. None
    /// if some of them are forgotten.
    pub(super) fn ours(&self, view: &View, number: u64) -> Option<usize> {
        let from = self.left(number)? - view.length;
        if self.forgotten > from {
            return None;
        }
        let upto = usize::try_from(number - self.first).ok()?;
        let before = self.sent.partition_point(|sent| sent.left <= from);
        Some((upto + 1).saturating_sub(before))
    }

    /// Ours that left before that window began but were held up by a gateway that stood still: they arrived in it.
    pub(super) fn held_up(&self, view: &View, number: u64) -> usize {
        let Some(left) = self.left(number) else { return 0 };
        let from = left - view.length;
        let before = self.first + self.sent.partition_point(|sent| sent.left <= from) as u64;
        usize::try_from(self.standstills.caught(from, before)).unwrap_or(usize::MAX)
    }

    /// The request was held up in a standstill.
    pub(super) fn was_caught(&self, number: u64) -> bool {
        self.standstills.went_on(number).is_some()
    }

    /// Requests of ours in the trailing second and minute.
    pub(super) fn used(&self, now: Instant) -> (u32, u32) {
        let at = self.micros(now);
        let within = |length| {
            let before = self.sent.partition_point(|sent| sent.left <= at - length);
            u32::try_from(self.sent.len() - before).unwrap_or(u32::MAX)
        };
        (within(SECOND), within(MINUTE))
    }
}

impl View {
    /// What is taken for somebody's requests before us, in a window that ends at `at`.
    pub(super) fn past(&self, at: Micros) -> usize {
        self.past.after(at - self.length)
    }

    /// The gateway counts no more than this many of them in the window that ends at `at`: the oldest are forgotten.
    pub(super) fn limit_past(&mut self, most: usize) {
        self.past.count = self.past.count.min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One request in so long, answered 40 ms later; how many are remembered after all of them.
    fn remembered(limits: Limits, gap: Micros, requests: i64) -> usize {
        let mut log = SlidingLog::as_if_busy(limits, Instant::now());
        let trips = Trips::default();
        for n in 0..requests {
            let at = log.free_at(limits, &trips, n * gap, n * gap);
            let number = log.push(at);
            log.answered(number, 40_000, at + 40_000);
        }
        log.sent.len() + log.overtakers.len()
    }

    #[test]
    fn no_more_is_remembered_than_the_windows_need() {
        let (second, minute) = (Some(1000), Some(60_000));
        assert!((600..=760).contains(&remembered(Limits { second, minute }, SECOND / 10, 3000)));
        assert!((10..=170).contains(&remembered(Limits { second, minute: None }, SECOND / 10, 3000)));
        assert_eq!(remembered(Limits { second: None, minute: None }, SECOND / 10, 3000), 0);
    }

    #[test]
    fn what_was_given_up_for_lost_is_forgotten_with_the_rest() {
        let limits = Limits { second: Some(1000), minute: None };
        let mut log = SlidingLog::as_if_busy(limits, Instant::now());
        let trips = Trips::default();
        let send = |log: &mut SlidingLog, at: Micros| {
            log.free_at(limits, &trips, at, at);
            log.push(at);
            log.second.as_ref().unwrap().lost.len()
        };
        let lost = (0..100).map(|n| send(&mut log, n * SECOND / 10)).last();
        assert!(lost > Some(80), "{lost:?}");
        assert_eq!(send(&mut log, PATIENCE + 5 * SECOND), 100 - 50, "of the first fifty no answer is waited for any more");
        assert_eq!(send(&mut log, 3 * PATIENCE), 0);
    }

    /// Of ten requests only the last is answered, once the gateway goes on: that tells when all of them arrived.
    #[test]
    fn what_a_standstill_held_up_keeps_its_place_for_a_window_from_when_it_arrived_and_no_longer() {
        let limits = Limits { second: Some(10), minute: None };
        let mut log = SlidingLog::as_if_busy(limits, Instant::now());
        let trips = used_to(400_000);
        let first = log.push(4 * SECOND);
        log.answered(first, 400_000, 4_400_000);
        let held_up = [(); 10].map(|()| log.push(5 * SECOND));
        let (last, answered) = (held_up[9], 9 * SECOND);
        log.heard(last, answered, &trips);
        log.answered(last, answered - 5 * SECOND, answered);
        let arrived = answered - trips.fastest();
        let free = log.free_at(limits, &trips, answered + 100_000, 20 * SECOND);
        assert!((arrived + SECOND..arrived + SECOND * 11 / 10).contains(&free), "{free}");
        for n in 0..10 {
            let at = arrived + SECOND * 12 / 10 + n;
            assert_eq!(log.free_at(limits, &trips, at, 20 * SECOND), at, "the places of all ten are free");
            log.push(at);
        }
    }

    /// Ten requests leave at once, and are answered so much later; whether the gateway is seen to have stood still.
    fn ten_answered_after(log: &mut SlidingLog, trips: &Trips, left: Micros, trip: Micros) -> bool {
        let numbers = [(); 10].map(|()| log.push(left));
        for number in numbers {
            log.heard(number, left + trip, trips);
            log.answered(number, trip, left + trip);
        }
        log.was_caught(numbers[9])
    }

    fn used_to(trip: Micros) -> Trips {
        let mut trips = Trips::default();
        (0..1000).for_each(|n| trips.add(trip, n * 1000));
        trips
    }

    #[test]
    fn a_gateway_that_stays_slow_stands_still_no_more_until_one_request_is_answered_fast() {
        let mut log = SlidingLog::as_if_busy(Limits { second: Some(80), minute: None }, Instant::now());
        let (trips, mut left) = (used_to(20_000), 5 * SECOND);
        let mut answered_after = |trip: Micros| {
            left += SECOND;
            ten_answered_after(&mut log, &trips, left, trip)
        };
        assert_eq!([20_000, 500_000, 500_000].map(&mut answered_after), [false, true, true]);
        assert_eq!([500_000; 3].map(&mut answered_after), [false; 3], "it has become slower");
        assert_eq!([20_000, 500_000].map(&mut answered_after), [false, true]);
    }

    #[test]
    fn while_the_answers_of_a_backlog_come_in_any_order_none_of_it_is_given_up() {
        let limits = Limits { second: Some(9), minute: None };
        let mut log = SlidingLog::as_if_busy(limits, Instant::now());
        let trips = used_to(20_000);
        for seconds in [5, 6, 7] {
            ten_answered_after(&mut log, &trips, seconds * SECOND, 500_000); // it has become slower
        }
        log.free_at(limits, &trips, 9 * SECOND, 9 * SECOND);
        let held_up = [(); 10].map(|()| log.push(10 * SECOND));
        let went_on = 13 * SECOND;
        log.heard(held_up[9], went_on, &trips);
        log.answered(held_up[9], 3 * SECOND, went_on);
        let soon = went_on + 1000;
        assert!(log.free_at(limits, &trips, soon, soon) > soon, "all but the first, sent to find out, have their places");
        let later = went_on + SECOND / 2;
        assert_eq!(log.free_at(limits, &trips, later, later), later, "they are lost");
    }
}
