//! What a run is like: the ways, the gateway, who else sends, the sender's machine.

use campaignd::dice::Dice;
use campaignd::pacer::{Limits, Plan};
use rand::RngExt;

use super::world::MS;

/// How long a way takes, one way, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// Anything between these.
    Uniform(u64, u64),
    /// Least, median above it, sigma.
    Lognormal(u64, f64, f64),
    /// Anything between these, but for so much of all ways that take up to so long.
    Tail(u64, u64, f64, u64),
}

impl Way {
    pub(crate) fn roll(self, dice: &mut Dice) -> u64 {
        match self {
            Self::Uniform(least, most) => dice.random_range(least..=most),
            Self::Lognormal(least, median, sigma) => {
                // the sum of twelve dice is as good as normal
                let normal = (0..12).map(|_| dice.random::<f64>()).sum::<f64>() - 6.0;
                least + (median * (sigma * normal).exp()) as u64
            }
            Self::Tail(least, most, share, longest) => {
                let most = if dice.random_bool(share) { longest } else { most };
                dice.random_range(least..=most)
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

/// The sender's machine stands still, about so often per minute, for half to all of so long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nap {
    pub(crate) times: f64,
    pub(crate) length: u64,
    /// Its monotonic clock stands still too, as it does while a machine is suspended.
    pub(crate) clock_too: bool,
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
    /// It does not before this second.
    pub(crate) still_from: u64,
    /// So much of all answers is lost: read as a timeout after [`TIMEOUT`].
    pub(crate) lost: f64,
    pub(crate) others: Vec<Other>,
    /// A sender that dies and begins anew at these seconds, with a new pacer.
    pub(crate) restarts: Vec<u64>,
    /// How long attempts take to be written.
    pub(crate) disk: (u64, u64),
    pub(crate) in_flight: usize,
    pub(crate) nap: Option<Nap>,
    /// The sender's clock is faster than the gateway's by this part.
    pub(crate) drift: f64,
}

impl Default for Case {
    fn default() -> Self {
        Self::new(80, 4800)
    }
}

impl Case {
    pub(crate) fn with_way(up: Way, down: Way) -> Self {
        Self { up, down, ..Self::default() }
    }

    pub(crate) fn new(second: u32, minute: u32) -> Self {
        let limits = Limits { second: Some(second), minute: Some(minute) };
        Self {
            seconds: 60,
            plan: limits.into(),
            limits: vec![(0, limits)],
            up: Way::Uniform(15 * MS, 35 * MS),
            down: Way::Uniform(15 * MS, 35 * MS),
            still: None,
            still_from: 0,
            lost: 0.0,
            others: Vec::new(),
            restarts: Vec::new(),
            disk: (MS / 2, 3 * MS),
            in_flight: 256,
            nap: None,
            drift: 0.0,
        }
    }
}
