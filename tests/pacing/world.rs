//! A sender that asks the pacer, a way up and down, others on the same key, and a gateway with true sliding windows. All of it in
//! simulated microseconds, decided by a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use campaignd::dice::Dice;
use campaignd::gateway::{Answer, Refusal, Reply, Trouble, TroubleKind, Window, Windows};
use campaignd::pacer::{Pacer, Slot};
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::case::{Case, How};

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MS: u64 = 1_000;

/// How long an answer is waited for.
const TIMEOUT: u64 = 30 * SECOND;

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Requests of ours that the gateway counted, and those it refused, by time.
    pub(crate) ours: Vec<u64>,
    pub(crate) refused: Vec<u64>,
    /// When the refused ones had left, and when their answers were read, with how long they asked to wait.
    pub(crate) refused_left: Vec<u64>,
    pub(crate) refusals_read: Vec<(u64, u64)>,
    /// Those of others.
    pub(crate) theirs: u64,
    pub(crate) their_refused: u64,
}

impl Report {
    /// Ours that were let through between these seconds, per second.
    pub(crate) fn rate(&self, from: u64, until: u64) -> f64 {
        let within = |all: &[u64]| all.iter().filter(|at| (from * SECOND..until * SECOND).contains(at)).count();
        (within(&self.ours) - within(&self.refused)) as f64 / (until - from) as f64
    }
}

#[derive(Debug, Default)]
struct Log(VecDeque<u64>);

impl Log {
    fn count(&mut self, now: u64, length: u64, limit: Option<u32>) -> Option<(Window, bool)> {
        let limit = limit?;
        while self.0.front().is_some_and(|at| at + length <= now) {
            self.0.pop_front();
        }
        let full = self.0.len() >= limit as usize;
        self.0.push_back(now);
        Some((Window { limit, remaining: (limit as usize).saturating_sub(self.0.len()) as u32 }, full))
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Written(usize),
    Arrived(Option<usize>),
    Back(usize),
    Restart,
    Look,
}

struct Request {
    slot: Slot,
    begun: u64,
    left: u64,
    answer: Option<(Answer, Option<Duration>)>,
    life: u32,
}

pub(crate) struct World<'a> {
    case: &'a Case,
    dice: Dice,
    start: Instant,
    pacer: Pacer,
    life: u32,
    events: BinaryHeap<Reverse<(u64, u64, What)>>,
    order: u64,
    next_look: u64,
    requests: Vec<Request>,
    in_flight: usize,
    second: Log,
    minute: Log,
    still_until: u64,
    /// When the sender's machine stands still: from, until.
    naps: Vec<(u64, u64)>,
    report: Report,
}

impl<'a> World<'a> {
    pub(crate) fn run(case: &'a Case, seed: u64) -> Report {
        let start = Instant::now();
        let mut world = World {
            case,
            dice: Dice::seed_from_u64(seed),
            start,
            pacer: Pacer::new(case.plan, start),
            life: 0,
            events: BinaryHeap::new(),
            order: 0,
            next_look: 0,
            requests: Vec::new(),
            in_flight: 0,
            second: Log::default(),
            minute: Log::default(),
            still_until: 0,
            naps: Vec::new(),
            report: Report::default(),
        };
        world.others();
        world.naps();
        for at in &case.restarts {
            world.at(at * SECOND, What::Restart);
        }
        world.at(0, What::Look);
        while let Some(Reverse((now, _, what))) = world.events.pop() {
            if now >= case.seconds * SECOND {
                break;
            }
            match world.nap_until(now, &what) {
                Some(until) => world.sleep(until, what),
                None => world.on(now, what),
            }
        }
        world.report
    }

    /// What the sender's clock shows then.
    fn instant(&self, at: u64) -> Instant {
        let slept: u64 = self.stood().map(|(from, until)| at.clamp(from, until) - from).sum();
        self.start + Duration::from_micros(((at - slept) as f64 * (1.0 + self.case.drift)) as u64)
    }

    /// When the sender's clock shows this, or a little later.
    fn when(&self, at: Instant) -> u64 {
        let shown = (at.duration_since(self.start).as_micros() as f64 / (1.0 + self.case.drift)).ceil() as u64;
        self.stood().fold(shown, |at, (from, until)| if at > from { at + until - from } else { at })
    }

    /// When the sender's clock stands still.
    fn stood(&self) -> impl Iterator<Item = (u64, u64)> {
        let stands = self.case.nap.is_some_and(|nap| nap.clock_too);
        self.naps.iter().copied().filter(move |_| stands)
    }

    fn naps(&mut self) {
        let Some(nap) = self.case.nap else { return };
        let mut at = 0;
        loop {
            at += (-(1.0 - self.dice.random::<f64>()).ln() * 60.0 / nap.times * SECOND as f64) as u64;
            if at >= self.case.seconds * SECOND {
                return;
            }
            let from = at;
            at += self.dice.random_range(nap.length / 2..=nap.length);
            self.naps.push((from, at));
        }
    }

    /// When the sender wakes, if this is his and he sleeps.
    fn nap_until(&self, now: u64, what: &What) -> Option<u64> {
        let theirs = matches!(what, What::Arrived(_) | What::Restart);
        self.naps.iter().find(|(from, until)| !theirs && (*from..*until).contains(&now)).map(|(_, until)| *until)
    }

    /// What comes while the sender sleeps is seen when he wakes; timers that are over ring then too.
    fn sleep(&mut self, until: u64, what: What) {
        if what == What::Look {
            self.next_look = until;
        }
        self.at(until, what);
    }

    fn at(&mut self, at: u64, what: What) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, what)));
    }

    fn others(&mut self) {
        for other in self.case.others.clone() {
            let mut at = other.from as f64 * SECOND as f64;
            while at < (other.until * SECOND) as f64 {
                let gap = SECOND as f64 / other.rate;
                let dice = self.dice.random::<f64>();
                let (gap, times) = match other.how {
                    How::Evenly => (gap, 1),
                    How::Unevenly => (gap * (0.5 + dice), 1),
                    How::Independently => (-gap * (1.0 - dice).ln(), 1),
                    How::InBursts(times) => (-gap * f64::from(times) * (1.0 - dice).ln(), times),
                };
                at += gap;
                let way = (dice * 20.0) as u64 * MS;
                for _ in 0..times {
                    self.at(at as u64 + way, What::Arrived(None));
                }
            }
        }
    }

    fn on(&mut self, now: u64, what: What) {
        match what {
            What::Look if now != self.next_look => return, // another look has been asked for since
            What::Look => {}
            What::Written(number) => self.leave(now, number),
            What::Arrived(Some(number)) => self.arrive(now, number),
            What::Arrived(None) => {
                self.report.theirs += 1;
                self.report.their_refused += u64::from(self.count(now).1.is_some());
                return;
            }
            What::Back(number) => self.back(now, number),
            What::Restart => {
                self.pacer = Pacer::new(self.case.plan, self.instant(now));
                self.life += 1;
                self.in_flight = 0;
            }
        }
        self.look(now);
    }

    /// The lane's loop: begins what may be begun, and sleeps until it is worth looking again; timers tick in milliseconds.
    fn look(&mut self, now: u64) {
        while self.in_flight < self.pacer.most_in_flight(self.case.in_flight) {
            match self.pacer.try_take(self.instant(now)) {
                Ok(slot) => {
                    let number = self.requests.len();
                    self.requests.push(Request { slot, begun: now, left: 0, answer: None, life: self.life });
                    self.in_flight += 1;
                    let written = now + self.dice.random_range(self.case.disk.0..=self.case.disk.1);
                    self.at(written, What::Written(number));
                }
                Err(at) => {
                    assert!(at > self.instant(now), "told to ask again in the past");
                    let at = self.when(at).max(now + 1);
                    let tick = self.dice.random_range(0..200);
                    self.next_look = at.next_multiple_of(MS) + tick;
                    self.at(self.next_look, What::Look);
                    break;
                }
            }
        }
    }

    fn leave(&mut self, now: u64, number: usize) {
        let Request { mut slot, begun, life, .. } = self.requests[number];
        if life != self.life {
            return;
        }
        if begun != u64::MAX {
            self.pacer.written(self.instant(now).duration_since(self.instant(begun)));
            self.requests[number].begun = u64::MAX;
        }
        let shown = self.instant(now);
        if slot.at <= shown {
            // as in the lane: a turn that is long past is given anew, and a hold is waited through
            match self.pacer.renew(slot, shown) {
                Ok(renewed) => slot = renewed,
                Err(at) => return self.at(self.when(at).max(now + 1), What::Written(number)),
            }
            self.requests[number].slot = slot;
        }
        if slot.at > shown {
            return self.at(self.when(slot.at).max(now + 1).next_multiple_of(MS), What::Written(number));
        }
        self.pacer.departed(slot, shown);
        self.requests[number].left = now;
        let up = self.case.up.roll(&mut self.dice);
        let arrives = self.through(now + up);
        self.at(arrives, What::Arrived(Some(number)));
    }

    /// What comes while the gateway stands still arrives when it goes on.
    fn through(&mut self, at: u64) -> u64 {
        if let Some((times, length)) = self.case.still
            && at > self.still_until.max(self.case.still_from * SECOND)
            && self.dice.random::<f64>() < times / 60.0 / 80.0
        {
            self.still_until = at + self.dice.random_range(length / 2..=length);
        }
        at.max(self.still_until)
    }

    fn count(&mut self, now: u64) -> (Windows, Option<Duration>) {
        let limits = self.case.limits.iter().rev().find(|(from, _)| from * SECOND <= now).unwrap().1;
        let second = self.second.count(now, SECOND, limits.second);
        let minute = self.minute.count(now, 60 * SECOND, limits.minute);
        let full = |count: Option<(Window, bool)>| count.is_some_and(|(_, full)| full);
        let wait = if full(second) { Some(Duration::from_secs(1)) } else { full(minute).then_some(Duration::from_secs(60)) };
        (Windows { second: second.map(|(window, _)| window), minute: minute.map(|(window, _)| window) }, wait)
    }

    fn arrive(&mut self, now: u64, number: usize) {
        let (windows, wait) = self.count(now);
        self.report.ours.push(now);
        let reply = match wait {
            None => Reply::Accepted { wamid: String::new() },
            Some(_) => {
                self.report.refused.push(now);
                self.report.refused_left.push(self.requests[number].left);
                Reply::Refused(Refusal {
                    code: Some("RATE_001".into()),
                    http_status: 429,
                    retry_after: wait,
                    ..Refusal::default()
                })
            }
        };
        let (mut answer, mut back) = (Answer { reply, windows }, now + self.case.down.roll(&mut self.dice));
        if self.case.lost > 0.0 && self.dice.random_bool(self.case.lost) {
            let trouble = Trouble { kind: TroubleKind::Timeout, http_status: None, detail: String::new(), retry_after: None };
            (answer, back) = (Answer { reply: Reply::Unknown(trouble), windows: Windows::default() }, now + TIMEOUT);
        }
        self.requests[number].answer = Some((answer, wait));
        self.at(back, What::Back(number));
    }

    fn back(&mut self, now: u64, number: usize) {
        let at = self.instant(now);
        let request = &mut self.requests[number];
        let Some((answer, wait)) = request.answer.take() else { return };
        if request.life != self.life {
            return;
        }
        let slot = request.slot;
        let in_flight = self.in_flight;
        self.in_flight -= 1;
        self.pacer.answered(slot, in_flight, at, &answer);
        if let Some(wait) = wait {
            self.pacer.hold(wait, at);
            self.report.refusals_read.push((now, wait.as_micros() as u64));
        }
    }
}
