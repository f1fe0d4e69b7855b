//! What a run says: how much of what is possible was used, what was refused, how soon a changed limit was followed.

use super::case::Case;
use super::plot::{Line, Plot};
use super::run::Run;

/// Most refusals for each 10,000 requests, ours and others'.
const MOST_REFUSED: f64 = 10.0;

/// Of what another sender leaves free, at least this share is used.
const LEAST_OF_FREE: f64 = 0.95;

/// A changed limit is followed within this many seconds.
const SOON: f64 = 1.0;

/// Between two points of a plot, in seconds.
const STEP: f64 = 0.5;

/// The head of the table.
pub(crate) const HEAD: [&str; 8] = [
    "case",
    "requests",
    "refused per 10,000",
    "others' requests",
    "others' refused",
    "used of what is free",
    "of the possible",
    "followed in, s",
];

/// The figures of one case.
pub(crate) struct Figures<'a> {
    case: &'a Case,
    run: &'a Run,
    ours: usize,
    refused: usize,
    their_refused: usize,
    /// Accepted, of what the limit and the others leave.
    of_free: f64,
    /// The same, of what a sender can use that knows only J.
    of_possible: f64,
    followed: Vec<f64>,
}

impl<'a> Figures<'a> {
    pub(crate) fn of(case: &'a Case, run: &'a Run) -> Self {
        let count = |all: &[(f64, bool)]| all.iter().filter(|(_, refused)| *refused).count();
        let (ours, their_refused) = (run.all.len().saturating_sub(run.theirs.len()), count(&run.theirs));
        let refused = count(&run.all).saturating_sub(their_refused);
        let free = case.allowed() * run.seconds - run.theirs.len() as f64;
        let of_free = (ours - refused) as f64 / free;
        let followed = case.changes.iter().map(|(from, limit)| followed(case, run, from * run.seconds, *limit)).collect();
        Self { case, run, ours, refused, their_refused, of_free, of_possible: of_free / case.bound(), followed }
    }

    pub(crate) fn row(&self) -> Vec<String> {
        let others = |count: usize| if self.case.other.is_some() { count.to_string() } else { String::new() };
        let followed: Vec<String> = self.followed.iter().map(|seconds| format!("{seconds:.1}")).collect();
        vec![
            self.case.name.to_owned(),
            self.ours.to_string(),
            format!("{:.1}", per_10_000(self.refused, self.ours)),
            others(self.run.theirs.len()),
            others(self.their_refused),
            format!("{:.1} %", self.of_free * 100.0),
            format!("{:.3}", self.of_possible),
            followed.join(", "),
        ]
    }

    /// What is not as it must be.
    pub(crate) fn broken(&self) -> Vec<String> {
        let Self { case, .. } = self;
        let mut broken = Vec::new();
        let mut check = |fine: bool, what: String| {
            if !fine {
                broken.push(format!("{}: {what}", case.name));
            }
        };
        check(self.of_possible >= case.least, format!("{:.3} of the possible is less than {}", self.of_possible, case.least));
        if case.changes.is_empty() {
            let refused = per_10_000(self.refused, self.ours);
            check(refused <= MOST_REFUSED, format!("{refused:.1} refused in 10,000 are more than {MOST_REFUSED}"));
        }
        if case.other.is_some() {
            let refused = per_10_000(self.their_refused, self.run.theirs.len());
            check(refused <= MOST_REFUSED, format!("{} of another sender's requests were refused", self.their_refused));
        }
        if case.other.is_some_and(|other| other.from == 0.0) {
            check(self.of_free >= LEAST_OF_FREE, format!("{:.3} of what is left free is used", self.of_free));
        }
        for seconds in &self.followed {
            check(*seconds <= SOON, format!("a changed limit was followed only after {seconds:.1} s"));
        }
        broken
    }

    pub(crate) fn plot(&self) -> Plot {
        let (case, run) = (self.case, self.run);
        let all: Vec<f64> = run.all.iter().map(|(at, _)| *at).collect();
        let limit = |at: f64| f64::from(case.limit_at(at / run.seconds));
        let mut lines = vec![Line {
            name: "all requests in the second".into(),
            colour: "#1f6fb4",
            points: peaks(&all, run.seconds, 1.0, limit),
        }];
        if case.other.is_some() {
            let theirs: Vec<f64> = run.theirs.iter().map(|(at, _)| *at).collect();
            lines.push(Line {
                name: "the other sender's".into(),
                colour: "#e08214",
                points: peaks(&theirs, run.seconds, 1.0, limit),
            });
        }
        if case.by_the_minute() {
            let minute = |_| f64::from(case.limits.1);
            lines.push(Line {
                name: "all requests in the minute".into(),
                colour: "#4d9221",
                points: peaks(&all, run.seconds, 60.0, minute),
            });
        }
        let refused = run.all.iter().filter(|(_, refused)| *refused).map(|(at, _)| *at).collect();
        Plot { title: case.title.into(), seconds: run.seconds, lines, refused }
    }
}

fn per_10_000(part: usize, whole: usize) -> f64 {
    part as f64 * 10_000.0 / whole.max(1) as f64
}

/// The highest use of a trailing window in each step, in per cent of the limit.
fn peaks(at: &[f64], seconds: f64, window: f64, limit: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let (mut first, mut points, mut peak, mut end) = (0, Vec::new(), 0.0_f64, STEP);
    for (number, now) in at.iter().enumerate() {
        while *now >= end {
            points.push((end, peak));
            // what is left of it when the step begins
            let left = at.iter().take(number).rev().take_while(|then| **then > end - window).count();
            (peak, end) = (left as f64 * 100.0 / limit(end), end + STEP);
        }
        while at.get(first).is_some_and(|then| *then <= now - window) {
            first += 1;
        }
        peak = peak.max((number + 1 - first) as f64 * 100.0 / limit(*now));
    }
    while end <= seconds {
        points.push((end, peak));
        let left = at.iter().rev().take_while(|then| **then > end - window).count();
        (peak, end) = (left as f64 * 100.0 / limit(end), end + STEP);
    }
    points
}

/// From the change until a second begins whose requests are as many as the new limit allows: no more, and 95 % of the possible.
fn followed(case: &Case, run: &Run, changed: f64, limit: u32) -> f64 {
    let from = run.all.partition_point(|(at, _)| *at < changed);
    let later = run.all.get(from..).unwrap_or_default();
    let fits = |begin: f64| {
        let count = later.iter().filter(|(at, _)| (begin..begin + 1.0).contains(at)).count() as f64;
        count <= f64::from(limit) && count >= 0.95 * f64::from(limit) * case.bound()
    };
    (0..200).map(|tenth| f64::from(tenth) / 10.0).find(|seconds| fits(changed + seconds)).unwrap_or(f64::INFINITY)
}
