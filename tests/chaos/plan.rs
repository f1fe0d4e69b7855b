//! What goes wrong in a round and when, drawn from its seed.

use std::fmt;
use std::time::Duration;

use campaignd::dice::Dice;
use campaignd::gateway::simulator::Fault as Reply;
use rand::{RngExt, SeedableRng};

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9, started again at once.
    Kill,
    /// SIGTERM, started again when it has gone.
    Terminate,
    /// Ctrl-C.
    Interrupt,
    /// SIGSTOP for longer than the broker waits for a heartbeat, then SIGCONT.
    Stop,
    /// kill -9 of RabbitMQ, started again on its data.
    BrokerKill,
    /// The broker's connections are closed.
    BrokerCut,
    /// The broker's connections are silent.
    BrokerSilent,
    /// The broker's connections are slow.
    BrokerSlow,
    /// The gateway's connections are closed.
    GatewayCut,
    /// The gateway's connections are silent for longer than a request may take.
    GatewaySilent,
    /// The gateway's connections are slow.
    GatewaySlow,
    /// The gateway refuses connections.
    GatewayDown,
    /// The state directory's disk is full.
    DiskFull,
    /// kill -9 of `enqueue`; the same command again.
    EnqueueKill,
}

/// Where in the life of a campaign it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Right after the process was started.
    Start,
    /// While the jobs are published.
    Enqueue,
    /// In the middle of it.
    Sending,
    /// While a person has paused it.
    Paused,
    /// Right after a person has resumed it.
    Resumed,
    /// After SIGTERM, before it is gone.
    Drain,
    /// When the last few are under way.
    Finish,
}

const FAULTS: [Fault; 13] = [
    Fault::Kill,
    Fault::EnqueueKill,
    Fault::GatewayCut,
    Fault::DiskFull,
    Fault::BrokerCut,
    Fault::Stop,
    Fault::BrokerKill,
    Fault::GatewaySilent,
    Fault::Kill,
    Fault::BrokerSilent,
    Fault::Terminate,
    Fault::GatewayDown,
    Fault::BrokerSlow,
];

const MOMENTS: [Moment; 7] =
    [Moment::Sending, Moment::Start, Moment::Paused, Moment::Enqueue, Moment::Drain, Moment::Resumed, Moment::Finish];

const SEND_FAULTS: [Fault; 10] = [
    Fault::Kill,
    Fault::GatewayCut,
    Fault::DiskFull,
    Fault::Kill,
    Fault::Interrupt,
    Fault::GatewaySilent,
    Fault::Stop,
    Fault::Kill,
    Fault::GatewayDown,
    Fault::GatewaySlow,
];

const SEND_MOMENTS: [Moment; 4] = [Moment::Start, Moment::Sending, Moment::Drain, Moment::Finish];

/// Refused for good.
const REFUSED: [(&str, u32); 1] = [("meta:131026", 0)];
/// And those who are put off once.
const TROUBLED: [(&str, u32); 4] = [("meta:131026", 0), ("unavailable", 1), ("RATE_001", 1), ("AUTH_004", 1)];

/// One fault at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strike {
    pub(crate) fault: Fault,
    pub(crate) at: Moment,
    /// Per cent of the messages that are accepted by then.
    pub(crate) share: u64,
    /// From the moment to the fault.
    pub(crate) after: Duration,
    /// How long it lasts, if it lasts.
    pub(crate) lasts: Duration,
    /// The process is killed in the middle of it.
    pub(crate) and_kill: bool,
}

/// A round.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Recipients of the campaign that parks what nobody knows.
    pub(crate) park: Vec<u64>,
    /// Recipients of the campaign that sends it again.
    pub(crate) resend: Vec<u64>,
    /// Messages a second.
    pub(crate) rate: u64,
    pub(crate) in_flight: u64,
    pub(crate) latency: Duration,
    /// Published before the daemon is there.
    pub(crate) early: bool,
    /// In the order in which they come.
    pub(crate) strikes: Vec<Strike>,
}

impl Plan {
    /// A round of the daemon. Five in a row have every fault, thirty-one every fault at every moment.
    pub(crate) fn daemon(seed: u64) -> Self {
        Self::draw(seed, &FAULTS, &MOMENTS, (250, 100))
    }

    /// A round of `campaignd send`, by turns of either kind. Four in a row have every fault, fourteen every fault at every moment.
    pub(crate) fn send(seed: u64) -> Self {
        let people = if seed.is_multiple_of(2) { (300, 0) } else { (0, 300) };
        Self::draw(seed, &SEND_FAULTS, &SEND_MOMENTS, people)
    }

    /// A campaign of this size to which nothing happens by itself.
    pub(crate) fn calm(jobs: u64) -> Self {
        let (park, resend, latency) = (recipients(0, jobs, &REFUSED), Vec::new(), Duration::from_millis(5));
        Self { seed: 0, park, resend, rate: 5_000, in_flight: 64, latency, early: false, strikes: Vec::new() }
    }

    fn draw(seed: u64, faults: &[Fault], moments: &[Moment], (park, resend): (u64, u64)) -> Self {
        let mut dice = Dice::seed_from_u64(seed);
        let extra = dice.random_range(0..2);
        let mut strikes: Vec<Strike> = (0..3 + extra)
            .map(|nth| {
                let turn = if nth < 3 { seed * 3 + nth } else { dice.random_range(0..1_000) };
                let fault = faults[(turn % faults.len() as u64) as usize];
                // RabbitMQ takes its time to start: once a round will do.
                let fault = if nth >= 3 && fault == Fault::BrokerKill { Fault::BrokerCut } else { fault };
                let moment = moments[((turn + 3 * (turn / faults.len() as u64)) % moments.len() as u64) as usize];
                Strike::draw(fault, moment, &mut dice)
            })
            .collect();
        strikes.sort_by_key(|strike| strike.share);
        let mut people = |kind: u64, count: u64| {
            let count = if count == 0 { 0 } else { dice.random_range(count * 4 / 5..count * 8 / 5) };
            recipients(kind, count, &TROUBLED)
        };
        let (park, resend) = (people(0, park), people(1, resend));
        Self {
            seed,
            park,
            resend,
            rate: dice.random_range(80..200),
            in_flight: dice.random_range(4..32),
            latency: Duration::from_millis(dice.random_range(5..80)),
            early: dice.random_bool(0.3),
            strikes,
        }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.strikes.iter().any(|strike| strike.fault == fault)
    }
}

impl Strike {
    fn draw(fault: Fault, moment: Moment, dice: &mut Dice) -> Self {
        let at = if fault == Fault::EnqueueKill { Moment::Enqueue } else { moment };
        let (share, after) = match at {
            // A first start, or a later one.
            Moment::Start => (if dice.random_bool(0.5) { 0 } else { dice.random_range(10..70) }, dice.random_range(0..1_500_000)),
            Moment::Enqueue => (0, dice.random_range(0..400_000)),
            Moment::Paused | Moment::Resumed => (dice.random_range(5..80), dice.random_range(0..500_000)),
            Moment::Drain => (dice.random_range(5..80), dice.random_range(0..100_000)),
            Moment::Sending => (dice.random_range(3..95), dice.random_range(0..30_000)),
            Moment::Finish => (100, dice.random_range(0..100_000)),
        };
        let lasts = match fault {
            Fault::Stop | Fault::BrokerSilent => dice.random_range(2_500..4_500),
            Fault::GatewaySilent => dice.random_range(500..3_000),
            Fault::BrokerKill => dice.random_range(0..1_000),
            _ => dice.random_range(300..1_800),
        };
        let (after, lasts) = (Duration::from_micros(after), Duration::from_millis(lasts));
        Self { fault, at, share, after, lasts, and_kill: fault.lasts() && dice.random_bool(0.3) }
    }
}

impl Fault {
    const fn lasts(self) -> bool {
        !matches!(self, Self::Kill | Self::Terminate | Self::Interrupt | Self::BrokerCut | Self::GatewayCut | Self::EnqueueKill)
    }

    /// Requests under way when it comes may stay without an answer that is on disk. The ends of the process count for themselves.
    pub(crate) const fn leaves_unknown(self) -> bool {
        matches!(self, Self::Stop | Self::GatewayCut | Self::GatewaySilent | Self::GatewayDown | Self::DiskFull)
    }
}

/// Ordinary ones, and now and then one who meets one of these replies: dead letters and delays are to meet the faults too.
fn recipients(kind: u64, count: u64, replies: &[(&str, u32)]) -> Vec<u64> {
    let magic = |n: u64| {
        let serial = (kind * 5_000 + n) as u32; // four digits tell them apart
        let (name, times) = replies[n as usize % replies.len()];
        let reply: Reply = name.parse().unwrap();
        if times == 0 { reply.recipient(serial) } else { reply.recipient_times(times, serial) }
    };
    let one = |n: u64| if n % 25 == 12 { magic(n / 25) } else { 905_320_000_000 + kind * 1_000_000 + n };
    (0..count).map(one).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Terminate => "term",
            Self::Interrupt => "ctrl-c",
            Self::Stop => "stop",
            Self::BrokerKill => "broker-kill",
            Self::BrokerCut => "broker-cut",
            Self::BrokerSilent => "broker-silent",
            Self::BrokerSlow => "broker-slow",
            Self::GatewayCut => "gateway-cut",
            Self::GatewaySilent => "gateway-silent",
            Self::GatewaySlow => "gateway-slow",
            Self::GatewayDown => "gateway-down",
            Self::DiskFull => "disk-full",
            Self::EnqueueKill => "enqueue-kill",
        })
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let and = if self.and_kill { "+kill" } else { "" };
        let at = match self.at {
            Moment::Start => "start",
            Moment::Enqueue => "enqueue",
            Moment::Sending => "sending",
            Moment::Paused => "paused",
            Moment::Resumed => "resumed",
            Moment::Drain => "drain",
            Moment::Finish => "finish",
        };
        write!(f, "{}{and}@{at}", self.fault)
    }
}
