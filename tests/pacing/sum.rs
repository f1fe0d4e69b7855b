//! What came of a case over all seeds, what must hold of it, and which run to repeat when it does not.

use crate::case::Case;
use crate::world::{Report, World};

/// Seeds of every case; `PACING_SEEDS` asks for more, `PACING_FIRST` starts elsewhere.
const SEEDS: u64 = 6;

/// From this second on a run has settled.
const SETTLED: u64 = 5;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What came of one seed.
struct Run {
    seed: u64,
    /// Requests let through per second.
    rate: f64,
    ours: usize,
    refused: usize,
    theirs: u64,
    their_refused: u64,
}

impl Run {
    /// Of 10,000 of ours.
    fn refused(&self) -> f64 {
        per_10_000(self.refused as u64, self.ours as u64)
    }

    /// Of 10,000 of others'.
    fn theirs(&self) -> f64 {
        per_10_000(self.their_refused, self.theirs)
    }
}

/// What came of all seeds.
pub(crate) struct Sum {
    name: String,
    runs: Vec<Run>,
}

impl Sum {
    /// Runs the case with every seed and prints its figures.
    pub(crate) fn of(name: &str, case: &Case, rate: impl Fn(&Report) -> f64) -> Self {
        Self::by_seed(name, |_| case.clone(), |_, report| rate(report))
    }

    /// The same of a case that the seed decides.
    pub(crate) fn by_seed(name: &str, case: impl Fn(u64) -> Case, rate: impl Fn(&Case, &Report) -> f64) -> Self {
        let one = |seed| {
            let case = case(seed);
            run(&case, seed, |report| Run {
                seed,
                rate: rate(&case, report),
                ours: report.ours.len(),
                refused: report.refused.len(),
                theirs: report.theirs,
                their_refused: report.their_refused,
            })
        };
        let sum = Self { name: name.into(), runs: seeds().map(one).collect() };
        let (theirs, their_refused) = sum.theirs();
        println!("{name}: {:.2}, refused {:.2} in 10,000; of others {their_refused} of {theirs}", sum.rate(), sum.refused());
        sum.print_worst();
        sum
    }

    /// The worst run of each kind, by its seed.
    fn print_worst(&self) {
        let worst = |badness: fn(&Run) -> f64| self.runs.iter().max_by(|a, b| badness(a).total_cmp(&badness(b)));
        if let (Some(slowest), Some(ours), Some(theirs)) = (worst(|run| -run.rate), worst(Run::refused), worst(Run::theirs)) {
            print!("  worst: {:.2} (seed {}), ", slowest.rate, slowest.seed);
            print!("refused {:.2} in 10,000 (seed {}); ", ours.refused(), ours.seed);
            println!("of others {} of {} (seed {})", theirs.their_refused, theirs.theirs, theirs.seed);
        }
    }

    /// The same of a case and its rate once it has settled.
    pub(crate) fn settled(name: &str, case: &Case) -> Self {
        Self::of(name, case, |report| report.rate(SETTLED, case.seconds))
    }

    pub(crate) fn rate(&self) -> f64 {
        self.runs.iter().map(|run| run.rate).sum::<f64>() / self.runs.len() as f64
    }

    /// Of 10,000.
    fn refused(&self) -> f64 {
        let (refused, ours) = self.runs.iter().fold((0, 0), |(refused, ours), run| (refused + run.refused, ours + run.ours));
        per_10_000(refused as u64, ours as u64)
    }

    /// All of others, and those of them that were refused.
    fn theirs(&self) -> (u64, u64) {
        self.runs.iter().fold((0, 0), |(theirs, refused), run| (theirs + run.theirs, refused + run.their_refused))
    }

    /// At least this rate, on average over the seeds.
    pub(crate) fn at_least(self, least: f64) -> Self {
        let rate = self.rate();
        self.must(rate >= least, &format!("{rate:.3} is less than {least:.3}"), |run| -run.rate)
    }

    /// At most this rate.
    pub(crate) fn at_most(self, most: f64) -> Self {
        let rate = self.rate();
        self.must(rate <= most, &format!("{rate:.3} is more than {most:.3}"), |run| run.rate)
    }

    /// At most so many of 10,000 of ours refused.
    pub(crate) fn refused_at_most(self, most: f64) -> Self {
        let refused = self.refused();
        let what = format!("{refused:.2} refusals in 10,000 are more than {most}");
        self.must(refused <= most, &what, Run::refused)
    }

    /// At most so many of 10,000 of others' refused.
    pub(crate) fn theirs_refused_at_most(self, most: f64) -> Self {
        let (theirs, refused) = self.theirs();
        let what = format!("{refused} of {theirs} of others' refused are more than {most} in 10,000");
        self.must(per_10_000(refused, theirs) <= most, &what, Run::theirs)
    }

    /// The worst run breaks whatever all of them together break.
    fn must(self, fine: bool, what: &str, badness: impl Fn(&Run) -> f64) -> Self {
        let worst = self.runs.iter().max_by(|a, b| badness(a).total_cmp(&badness(b))).map_or(0, |run| run.seed);
        assert!(fine, "{}: {what}; the worst run is {}", self.name, repeat(worst));
        self
    }
}

fn per_10_000(part: u64, whole: u64) -> f64 {
    part as f64 * 10_000.0 / whole.max(1) as f64
}

/// What must hold of every run by itself.
pub(crate) fn each(case: &Case, check: impl Fn(&Report)) {
    seeds().for_each(|seed| run(case, seed, &check));
}

fn seeds() -> std::ops::Range<u64> {
    let first = from_env("PACING_FIRST", 0);
    first..first + from_env("PACING_SEEDS", SEEDS)
}

fn run<T>(case: &Case, seed: u64, look: impl FnOnce(&Report) -> T) -> T {
    let _repeat = Repeat(seed);
    look(&World::run(case, seed))
}

/// Says on a panic how to repeat the run.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", repeat(self.0));
        }
    }
}

/// The command that repeats a run: the test has a thread of its own, named after it, unless all of them run in the first.
fn repeat(seed: u64) -> String {
    let thread = std::thread::current();
    let case = thread.name().filter(|name| *name != "main").map(|name| format!(" CASE={name}")).unwrap_or_default();
    format!("repeated by: make pacing SEEDS=1 FIRST={seed}{case}")
}
