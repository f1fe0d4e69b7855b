//! The pacer against a simulated gateway, over many seeds: how often it is refused, and how much of what is possible it uses.
//!
//! What is possible: a sender that knows no more than J, the slowest way up less the fastest, and wants no refusal can use 1/(1+J) of
//! the limit.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]
#![expect(clippy::print_stdout, reason = "the figures are what is wanted of a long run")]

mod world;

use campaignd::pacer::{Limits, Pace, Plan, Reserve};
use world::{Case, How, MS, Other, Report, Way, World};

/// Seeds of every case; `PACING_SEEDS` asks for more, `PACING_FIRST` starts elsewhere.
const SEEDS: u64 = 6;

/// From this second on a run has settled.
const SETTLED: u64 = 5;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What came of all seeds.
#[derive(Default)]
struct Sum {
    /// Requests let through per second, in each run.
    rates: Vec<f64>,
    ours: usize,
    refused: usize,
    theirs: u64,
    their_refused: u64,
}

impl Sum {
    fn of(name: &str, case: &Case, rate: impl Fn(&Report) -> f64) -> Self {
        let mut sum = Self::default();
        let first = from_env("PACING_FIRST", 0);
        for seed in first..first + from_env("PACING_SEEDS", SEEDS) {
            let report = World::run(case, seed);
            sum.rates.push(rate(&report));
            sum.ours += report.ours.len();
            sum.refused += report.refused.len();
            sum.theirs += report.theirs;
            sum.their_refused += report.their_refused;
        }
        let (refused, theirs) = (sum.refused(), sum.their_refused);
        println!("{name}: {:.2}/s, refused {refused:.2} in 10,000; of others {theirs} of {}", sum.rate(), sum.theirs);
        sum
    }

    fn rate(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }

    /// Of 10,000.
    fn refused(&self) -> f64 {
        self.refused as f64 * 10_000.0 / self.ours as f64
    }
}

fn settled(case: &Case) -> impl Fn(&Report) -> f64 {
    let until = case.seconds;
    move |report| report.rate(SETTLED, until)
}

/// Runs the case: at least this rate, and at most so many refusals in 10,000.
fn check(name: &str, case: &Case, least: f64, most_refused: f64) -> Sum {
    let sum = Sum::of(name, case, settled(case));
    assert!(sum.rate() >= least, "{name}: {:.2}/s is less than {least:.2}/s", sum.rate());
    assert!(sum.refused() <= most_refused, "{name}: {:.2} refusals in 10,000", sum.refused());
    sum
}

fn default() -> Case {
    Case::new(80, 4800)
}

fn with_way(up: Way, down: Way) -> Case {
    Case { up, down, ..default() }
}

fn with_others(reserve: u32, rate: f64, how: How) -> Case {
    let plan = Plan { reserve: Reserve::Requests(reserve), ..default().plan };
    Case { plan, others: vec![Other { from: 0, until: 60, rate, how }], ..default() }
}

#[test]
fn jitter_costs_what_it_must_and_not_more() {
    check("20 ms", &default(), 0.995 * 80.0 / 1.02, 1.0);
    let wide = Way::Uniform(5 * MS, 85 * MS);
    check("80 ms", &with_way(wide, wide), 0.99 * 80.0 / 1.08, 1.0);
    let way = Way::Uniform(25 * MS, 25 * MS);
    check("none", &with_way(way, way), 0.995 * 80.0, 1.0);
}

#[test]
fn tails_cost_their_average_and_not_their_length() {
    let tail = Way::Lognormal(10 * MS, 15_000.0, 0.7);
    check("lognormal", &with_way(tail, tail), 0.955 * 80.0, 1.0);
    check("standing still", &Case { still: Some((6.0, 150 * MS)), ..default() }, 0.965 * 80.0, 1.0);
}

#[test]
fn a_steady_sender_on_the_same_key_is_left_alone() {
    // With its own jitter it sends at most 11 in any second.
    let sum = check("10/s, reserve 11", &with_others(11, 10.0, How::Evenly), 0.95 * 70.0, 1.0);
    assert_eq!(sum.their_refused, 0, "of {}", sum.theirs);
    let sum = check("10/s unevenly, reserve 14", &with_others(14, 10.0, How::Unevenly), 62.0, 1.0);
    assert!(sum.their_refused * 1000 <= sum.theirs, "{} of {}", sum.their_refused, sum.theirs);
}

#[test]
fn without_a_reserve_others_are_found_and_yielded_to() {
    let evenly = check("10/s, no reserve", &with_others(0, 10.0, How::Evenly), 0.93 * 70.0, 10.0);
    assert!(evenly.their_refused * 100 <= evenly.theirs, "{} of {}", evenly.their_refused, evenly.theirs);
    let sum = check("10/s by chance, no reserve", &with_others(0, 10.0, How::Independently), 50.0, 50.0);
    assert!(sum.their_refused * 50 <= sum.theirs, "{} of {}", sum.their_refused, sum.theirs);
    check("bursts of 5, no reserve", &with_others(0, 10.0, How::InBursts(5)), 40.0, 100.0);
}

#[test]
fn room_is_given_at_once_and_taken_back() {
    let others = vec![Other { from: 20, until: 40, rate: 20.0, how: How::Evenly }];
    let plan = Plan { reserve: Reserve::Requests(4), ..default().plan };
    let case = Case { plan, others, ..default() };
    let before = Sum::of("before others come", &case, |report| report.rate(5, 20)).rate();
    let during = Sum::of("while they send 20/s", &case, |report| report.rate(25, 40)).rate();
    let after = Sum::of("after they have gone", &case, |report| report.rate(52, 60));
    assert!(before > 0.995 * 76.0 / 1.02, "{before}");
    assert!((53.0..60.0).contains(&during), "{during}");
    // The minute holds what they sent still, so its even pace is 4,400 in 60 s.
    assert!(after.rate() > 0.99 * 4400.0 / 60.0, "{}", after.rate());
    assert!(after.their_refused * 100 <= after.theirs, "{} of {}", after.their_refused, after.theirs);
}

#[test]
fn a_minute_limit_far_below_the_second_limit_is_used_to_the_full() {
    let case = Case { seconds: 180, ..Case::new(100, 1000) };
    let sum = Sum::of("100/s and 1,000/min", &case, |report| report.rate(60, 180));
    assert!(sum.rate() > 0.995 * 1000.0 / 60.0, "{}", sum.rate());
    assert!(sum.refused() <= 1.0, "{}", sum.refused());
    let burst = Case { plan: Plan { pace: Pace::Burst, ..case.plan }, ..case };
    let first = Sum::of("the same in bursts, first ten seconds", &burst, |report| report.rate(0, 10));
    assert!(first.rate() > 90.0, "{}", first.rate());
    let all = Sum::of("the same in bursts", &burst, |report| report.rate(0, 180));
    assert!(all.rate() > 0.98 * 1000.0 / 60.0, "{}", all.rate());
    assert!(all.refused() <= 1.0, "{}", all.refused());
}

#[test]
fn a_changed_limit_is_followed_within_a_second_both_ways() {
    let low = Limits { second: Some(40), minute: Some(2400) };
    let case = Case { limits: vec![(0, default().plan.limits), (20, low), (40, default().plan.limits)], ..default() };
    let down = Sum::of("half the limit", &case, |report| report.rate(22, 40));
    assert!(down.rate() > 0.99 * 40.0 / 1.02, "{}", down.rate());
    let up = Sum::of("the whole limit again", &case, |report| report.rate(41, 60));
    assert!(up.rate() > 0.98 * 80.0 / 1.02, "{}", up.rate());
    // Those under way when the limit fell.
    assert!(up.refused <= 8 * up.rates.len(), "{} in {} runs", up.refused, up.rates.len());
}

#[test]
fn a_restart_neither_bursts_nor_stalls() {
    check("restarts", &Case { restarts: vec![20, 40], ..default() }, 0.99 * 80.0 / 1.02, 2.0);
}

#[test]
fn what_varies_on_the_way_back_alone_costs_its_average() {
    // An answer that comes late may be a request that came late: nobody can tell from the round trip.
    let up = Way::Uniform(25 * MS, 25 * MS);
    check("way back 5 to 85 ms", &with_way(up, Way::Uniform(5 * MS, 85 * MS)), 0.94 * 80.0, 1.0);
    check("way back with a tail", &with_way(up, Way::Lognormal(10 * MS, 40_000.0, 1.0)), 0.9 * 80.0, 1.0);
}

#[test]
fn a_gateway_that_stands_still_for_seconds_is_not_flooded_when_it_goes_on() {
    for (name, latency) in [("20 ms", 20 * MS), ("200 ms", 200 * MS), ("500 ms", 500 * MS)] {
        let way = Way::Uniform(latency / 2, latency / 2 + 10 * MS);
        let still = Case { still: Some((3.0, 4000 * MS)), ..with_way(way, way) };
        check(&format!("standing still for 2 to 4 s, latency {name}"), &still, 0.6 * 80.0, 10.0);
    }
}

#[test]
fn a_latency_of_seconds_is_learnt_whatever_the_windows() {
    let way = Way::Uniform(2000 * MS, 2050 * MS);
    for minute in [None, Some(4800)] {
        let limits = Limits { second: Some(80), minute };
        let case = Case { plan: limits.into(), limits: vec![(0, limits)], in_flight: 1000, ..with_way(way, way) };
        let sum = Sum::of(&format!("latency 4 s, by the minute {minute:?}"), &case, |report| report.rate(20, 60));
        assert!(sum.rate() > 0.95 * 80.0 / 1.05, "{}", sum.rate());
        assert!(sum.refused() <= 1.0, "{}", sum.refused());
    }
}

#[test]
fn at_one_a_second_a_lost_answer_does_not_cost_the_whole_timeout() {
    let limits = Limits { second: Some(1), minute: Some(60) };
    let case = Case { seconds: 600, plan: limits.into(), limits: vec![(0, limits)], lost: 0.02, ..default() };
    check("1/s, 2 % of answers lost", &case, 0.9, 100.0);
}

#[test]
fn bursts_keep_the_limits_at_a_latency_of_half_a_second() {
    for (way, least) in [(Way::Uniform(240 * MS, 260 * MS), 85.0), (Way::Uniform(100 * MS, 400 * MS), 65.0)] {
        let case = Case { seconds: 180, up: way, down: way, ..Case::new(100, 1000) };
        let burst = Case { plan: Plan { pace: Pace::Burst, ..case.plan }, ..case };
        let first = Sum::of("bursts at 500 ms, first ten seconds", &burst, |report| report.rate(0, 10));
        assert!(first.rate() > least, "{}", first.rate());
        let all = Sum::of("bursts at 500 ms", &burst, |report| report.rate(0, 180));
        assert!(all.rate() > 0.98 * 1000.0 / 60.0, "{}", all.rate());
        assert!(all.refused() <= 1.0, "{}", all.refused());
    }
}

#[test]
fn a_reserved_number_stays_that_number_when_the_limit_falls() {
    let low = Limits { second: Some(40), minute: Some(4800) };
    let plan = Plan { reserve: Reserve::Requests(20), ..default().plan };
    let case = Case { plan, limits: vec![(0, low)], ..default() };
    let sum = check("20 reserved of 40", &case, 0.95 * 20.0, 1.0);
    assert!(sum.rate() < 20.5, "{}", sum.rate());
    let plan = Plan { reserve: Reserve::Share(0.25), ..plan };
    check("a quarter reserved of 40", &Case { plan, ..case }, 0.95 * 30.0, 1.0);
}
