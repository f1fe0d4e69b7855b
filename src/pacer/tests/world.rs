//! A gateway in told time: it counts each request in both windows when it arrives, as the real one does, and answers after a while.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

/// What becomes of a request that has its turn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// It leaves so long after its turn, takes so long to arrive, and its answer so long to come back.
    Answered { after: Duration, up: Duration, down: Duration },
    /// It arrives, and its answer never comes.
    Lost,
    /// It never leaves.
    Stays,
}

/// There and back in so long, half of it on the way there; it leaves in its turn.
pub(super) fn back_in(trip: Duration) -> Way {
    Way::Answered { after: Duration::ZERO, up: trip / 2, down: trip - trip / 2 }
}

/// The same, but what would arrive between these times arrives when the gateway goes on.
pub(super) fn held_up(from: Duration, until: Duration, trip: Duration) -> impl FnMut(usize, Duration) -> Way {
    move |_, since| {
        let up = if (from..until).contains(&(since + trip / 2)) { until - since } else { trip / 2 };
        Way::Answered { after: Duration::ZERO, up, down: trip / 2 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Leaves,
    Arrives,
    Comes,
    Other,
}

/// When requests were refused, and when ours arrived.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) refused: Vec<Duration>,
    pub(super) arrived: Vec<Duration>,
    pub(super) left: Vec<Duration>,
}

impl Run {
    /// How many of ours left in this part of the run.
    pub(super) fn between(&self, from: Duration, until: Duration) -> usize {
        self.left.iter().filter(|at| (from..until).contains(*at)).count()
    }
}

/// The gateway, and the pacer under test.
pub(super) struct World {
    pub(super) pacer: Pacer,
    start: Instant,
    limits: Limits,
    windows: [VecDeque<Instant>; 2],
    events: BinaryHeap<Reverse<(Instant, Event, usize)>>,
    sent: Vec<(Slot, Way, Windows, bool)>,
    under_way: usize,
    run: Run,
}

impl World {
    pub(super) fn new(plan: impl Into<Plan>) -> Self {
        let (start, plan) = (Instant::now(), plan.into());
        Self {
            pacer: Pacer::new(plan, start),
            start,
            limits: plan.limits,
            windows: Default::default(),
            events: BinaryHeap::new(),
            sent: Vec::new(),
            under_way: 0,
            run: Run::default(),
        }
    }

    /// Somebody else's requests arrive at these times.
    pub(super) fn with_others(mut self, at: impl IntoIterator<Item = Duration>) -> Self {
        self.events.extend(at.into_iter().map(|at| Reverse((self.start + at, Event::Other, 0))));
        self
    }

    /// Sends as much as the pacer lets out for so long; `way` says what becomes of the n-th, whose turn is so long after the start.
    pub(super) fn run(&mut self, length: Duration, mut way: impl FnMut(usize, Duration) -> Way) -> Run {
        let mut now = self.start;
        while now < self.start + length {
            while let Some(Reverse((at, event, number))) = self.events.pop() {
                if at > now {
                    self.events.push(Reverse((at, event, number)));
                    break;
                }
                self.happens(event, number, at);
            }
            let asked = self.pacer.try_take(now);
            let next = self.events.peek().map(|Reverse((at, ..))| *at);
            now = match asked {
                Ok(slot) => {
                    self.begin(slot, way(self.sent.len(), slot.at - self.start));
                    now
                }
                Err(at) => {
                    assert!(at > now, "told to ask again in the past");
                    next.map_or(at, |next| next.min(at)).max(now)
                }
            };
        }
        std::mem::take(&mut self.run)
    }

    /// Those whose answer has not come and never does by itself.
    pub(super) fn unanswered(&self) -> Vec<Slot> {
        self.sent.iter().filter(|(_, way, ..)| matches!(way, Way::Lost)).map(|(slot, ..)| *slot).collect()
    }

    fn begin(&mut self, slot: Slot, way: Way) {
        let after = match way {
            Way::Answered { after, .. } => after,
            Way::Lost => Duration::ZERO,
            Way::Stays => return self.pacer.forget(slot),
        };
        self.events.push(Reverse((slot.at + after, Event::Leaves, self.sent.len())));
        self.sent.push((slot, way, Windows::default(), false));
    }

    fn happens(&mut self, event: Event, number: usize, now: Instant) {
        if event == Event::Other {
            self.count(now);
            return;
        }
        let (slot, way, ..) = self.sent[number];
        let (up, down) = match way {
            Way::Answered { up, down, .. } => (up, Some(down)),
            Way::Lost | Way::Stays => (Duration::ZERO, None),
        };
        match event {
            Event::Leaves => {
                self.pacer.departed(slot, now);
                self.under_way += 1;
                self.run.left.push(now - self.start);
                self.sent[number].0.at = now; // as the lane does
                self.events.push(Reverse((now + up, Event::Arrives, number)));
            }
            Event::Arrives => {
                let (windows, full) = self.count(now);
                (self.sent[number].2, self.sent[number].3) = (windows, full);
                self.run.arrived.push(now - self.start);
                if full {
                    self.run.refused.push(now - self.start);
                }
                if let Some(down) = down {
                    self.events.push(Reverse((now + down, Event::Comes, number)));
                }
            }
            Event::Comes | Event::Other => {
                let (_, _, windows, full) = self.sent[number];
                let reply = if full { Reply::Refused(Refusal::default()) } else { Reply::Accepted { wamid: String::new() } };
                self.pacer.answered(slot, self.under_way, now, &Answer { reply, windows });
                if full {
                    self.pacer.hold(Duration::from_secs(1), now); // as the policy says
                }
                self.under_way -= 1;
            }
        }
    }

    /// One more in the windows: what the headers say, and whether it is one too many.
    fn count(&mut self, now: Instant) -> (Windows, bool) {
        let limits = [(self.limits.second, 1), (self.limits.minute, 60)];
        let mut told = [None, None];
        let mut full = false;
        for (which, (limit, seconds)) in limits.into_iter().enumerate() {
            let window = &mut self.windows[which];
            while window.front().is_some_and(|at| *at + Duration::from_secs(seconds) <= now) {
                window.pop_front();
            }
            window.push_back(now);
            let Some(limit) = limit else { continue };
            let used = u32::try_from(window.len()).unwrap();
            full |= used > limit;
            told[which] = Some(Window { limit, remaining: limit.saturating_sub(used) });
        }
        (Windows { second: told[0], minute: told[1] }, full)
    }
}
