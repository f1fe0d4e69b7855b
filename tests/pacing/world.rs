//! A sender that asks the pacer, a way up and down, others on the same key, and a gateway with true sliding windows. All of it in
//! simulated microseconds, decided by a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use campaignd::dice::Dice;
use campaignd::gateway::{Answer, Refusal, Reply, Trouble, TroubleKind, Window, Windows};
use campaignd::pacer::{Limits, Pacer, Plan, Slot};
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MS: u64 = 1_000;

/// How long an answer is waited for.
const TIMEOUT: u64 = 30 * SECOND;

/// How long a way takes, one way, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// Anything between these.
    Uniform(u64, u64),
    /// Least, median above it, sigma.
    Lognormal(u64, f64, f64),
}

impl Way {
    fn roll(self, dice: &mut Dice) -> u64 {
        match self {
            Self::Uniform(least, most) => dice.random_range(least..=most),
            Self::Lognormal(least, median, sigma) => {
                // the sum of twelve dice is as good as normal
                let normal = (0..12).map(|_| dice.random::<f64>()).sum::<f64>() - 6.0;
                least + (median * (sigma * normal).exp()) as u64
            }
        }
    }
}

/// Somebody else who sends with the same key, from and until these seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Other {
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// Requests per second on average.
    pub(crate) rate: f64,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// Evenly, and a way with 20 ms of jitter.
    Evenly,
    /// Each half a gap to one and a half after the one before.
    Unevenly,
    /// Each independent of the others.
    Independently,
    /// So many at once.
    InBursts(u32),
}

/// What a run is like.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) seconds: u64,
    /// What the pacer is told.
    pub(crate) plan: Plan,
    /// The gateway's limits, each from that second on.
    pub(crate) limits: Vec<(u64, Limits)>,
    pub(crate) up: Way,
    pub(crate) down: Way,
    /// The gateway stands still about so often per minute, for so long.
    pub(crate) still: Option<(f64, u64)>,
    /// So much of all answers is lost: read as a timeout after [`TIMEOUT`].
    pub(crate) lost: f64,
    pub(crate) others: Vec<Other>,
    /// A sender that dies and begins anew at these seconds, with a new pacer.
    pub(crate) restarts: Vec<u64>,
    /// How long attempts take to be written.
    pub(crate) disk: (u64, u64),
    pub(crate) in_flight: usize,
}

impl Case {
    pub(crate) fn new(second: u32, minute: u32) -> Self {
        let limits = Limits { second: Some(second), minute: Some(minute) };
        Self {
            seconds: 60,
            plan: limits.into(),
            limits: vec![(0, limits)],
            up: Way::Uniform(15 * MS, 35 * MS),
            down: Way::Uniform(15 * MS, 35 * MS),
            still: None,
            lost: 0.0,
            others: Vec::new(),
            restarts: Vec::new(),
            disk: (MS / 2, 3 * MS),
            in_flight: 256,
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Requests of ours that the gateway counted, and those it refused, by time.
    pub(crate) ours: Vec<u64>,
    pub(crate) refused: Vec<u64>,
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
            report: Report::default(),
        };
        world.others();
        for at in &case.restarts {
            world.at(at * SECOND, What::Restart);
        }
        world.at(0, What::Look);
        while let Some(Reverse((now, _, what))) = world.events.pop() {
            if now >= case.seconds * SECOND {
                break;
            }
            world.on(now, what);
        }
        world.report
    }

    fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_micros(at)
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
                    self.requests.push(Request { slot, begun: now, answer: None, life: self.life });
                    self.in_flight += 1;
                    let written = now + self.dice.random_range(self.case.disk.0..=self.case.disk.1);
                    self.at(written, What::Written(number));
                }
                Err(at) => {
                    assert!(at > self.instant(now), "told to ask again in the past");
                    let at = at.duration_since(self.start).as_micros() as u64;
                    let tick = self.dice.random_range(0..200);
                    self.next_look = at.next_multiple_of(MS) + tick;
                    self.at(self.next_look, What::Look);
                    break;
                }
            }
        }
    }

    fn leave(&mut self, now: u64, number: usize) {
        let Request { slot, begun, life, .. } = self.requests[number];
        if life != self.life {
            return;
        }
        if begun != u64::MAX {
            self.pacer.written(Duration::from_micros(now - begun));
            self.requests[number].begun = u64::MAX;
        }
        let at = slot.at.duration_since(self.start).as_micros() as u64;
        if at > now {
            return self.at(at.next_multiple_of(MS), What::Written(number));
        }
        self.pacer.departed(slot, self.instant(now));
        let up = self.case.up.roll(&mut self.dice);
        let arrives = self.through(now + up);
        self.at(arrives, What::Arrived(Some(number)));
    }

    /// What comes while the gateway stands still arrives when it goes on.
    fn through(&mut self, at: u64) -> u64 {
        if let Some((times, length)) = self.case.still
            && at > self.still_until
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
        }
    }
}
