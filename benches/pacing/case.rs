//! The cases: what the gateway is like, who else sends, and what must come of it.

/// One case.
pub(crate) struct Case {
    /// In `BENCH_CASES`, and the plot's file name.
    pub(crate) name: &'static str,
    /// What it is, for the plot.
    pub(crate) title: &'static str,
    /// The gateway's limits and the account's: of the second, of the minute.
    pub(crate) limits: (u32, u32),
    /// How long the ways take: arguments of `campaignd simulate`.
    pub(crate) ways: &'static [&'static str],
    /// J: the slowest way up less the fastest, in seconds.
    pub(crate) spread: f64,
    /// Further lines of the account's configuration.
    pub(crate) account: &'static str,
    /// Somebody else on the same key.
    pub(crate) other: Option<Other>,
    /// From this share of the run on, the gateway allows so many in a second.
    pub(crate) changes: &'static [(f64, u32)],
    /// Least share of the possible that must be used.
    pub(crate) least: f64,
}

/// A sender of single messages, evenly, and when it is there: shares of the run.
#[derive(Clone, Copy)]
pub(crate) struct Other {
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) from: f64,
    pub(crate) until: f64,
}

impl Case {
    /// The minute's limit sets the pace, not the second's.
    pub(crate) fn by_the_minute(&self) -> bool {
        self.limits.1 < self.limits.0 * 60
    }

    /// The second's limit at this share of the run.
    pub(crate) fn limit_at(&self, share: f64) -> u32 {
        self.changes.iter().rev().find(|(from, _)| *from <= share).map_or(self.limits.0, |(_, limit)| *limit)
    }

    /// Requests per second that are allowed, on average over the run.
    pub(crate) fn allowed(&self) -> f64 {
        if self.by_the_minute() {
            return f64::from(self.limits.1) / 60.0;
        }
        let ends = self.changes.iter().map(|(from, _)| *from).skip(1).chain([1.0]);
        let first = self.changes.first().map_or(1.0, |(from, _)| *from) * f64::from(self.limits.0);
        first + self.changes.iter().zip(ends).map(|((from, limit), until)| (until - from) * f64::from(*limit)).sum::<f64>()
    }

    /// A sender that knows no more than J and wants no refusal can use this share of the limit.
    pub(crate) fn bound(&self) -> f64 {
        1.0 / (1.0 + if self.by_the_minute() { self.spread / 60.0 } else { self.spread })
    }
}

const USUAL: &[&str] = &["--latency", "50ms", "--jitter", "20ms"];

const PLAIN: Case = Case {
    name: "plain",
    title: "80/s and 4,800/min, latency 50 ± 20 ms",
    limits: (80, 4800),
    ways: USUAL,
    spread: 0.020,
    account: "",
    other: None,
    changes: &[],
    least: 0.97,
};

/// All of them.
pub(crate) const CASES: &[Case] = &[
    PLAIN,
    Case {
        name: "tails",
        title: "each way 10 to 40 ms, 3 % of ways up to 300 ms",
        ways: &["--latency", "50ms", "--jitter", "30ms", "--tail", "260ms=3"],
        spread: 0.290,
        ..PLAIN
    },
    Case {
        name: "other",
        title: "another sender of 10/s on the same key, reserve = 11",
        account: "reserve = 11\n",
        other: Some(Other { rate: 10.0, from: 0.0, until: 1.0 }),
        ..PLAIN
    },
    Case {
        name: "other-visits",
        title: "another sender of 10/s comes and goes, reserve = 4",
        account: "reserve = 4\n",
        other: Some(Other { rate: 10.0, from: 1.0 / 3.0, until: 2.0 / 3.0 }),
        least: 0.93,
        ..PLAIN
    },
    Case { name: "smooth", title: "100/s and 1,000/min, smooth", limits: (100, 1000), ..PLAIN },
    Case { name: "burst", title: "100/s and 1,000/min, in bursts", limits: (100, 1000), account: "pace = \"burst\"\n", ..PLAIN },
    Case {
        name: "changes",
        title: "the gateway's limit falls from 80/s to 40/s and comes back",
        changes: &[(1.0 / 3.0, 40), (2.0 / 3.0, 80)],
        ..PLAIN
    },
    Case {
        name: "fast",
        title: "80/s and 4,800/min, latency 20 ± 5 ms",
        ways: &["--latency", "20ms", "--jitter", "5ms"],
        spread: 0.005,
        ..PLAIN
    },
    Case {
        name: "slow",
        title: "80/s and 4,800/min, latency 2 s ± 20 ms",
        ways: &["--latency", "2s", "--jitter", "20ms"],
        ..PLAIN
    },
];
