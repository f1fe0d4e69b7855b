//! Limits: of the minute, changing ones, low ones, and what is reserved of them.

use campaignd::pacer::{Limits, Pace, Plan, Reserve};

use crate::case::{Case, Way};
use crate::sum::{Sum, each};
use crate::world::{MS, Report, SECOND};

const LOW: Limits = Limits { second: Some(40), minute: Some(2400) };

#[test]
fn a_minute_limit_far_below_the_second_limit_is_used_to_the_full() {
    let case = Case { seconds: 180, ..Case::new(100, 1000) };
    let smooth = Sum::of("100/s and 1,000/min", &case, |report| report.rate(60, 180));
    smooth.at_least(0.995 * 1000.0 / 60.0).refused_at_most(1.0);
    let burst = Case { plan: Plan { pace: Pace::Burst, ..case.plan }, ..case };
    Sum::of("the same in bursts, first ten seconds", &burst, |report| report.rate(0, 10)).at_least(90.0);
    let all = Sum::of("the same in bursts", &burst, |report| report.rate(0, 180));
    all.at_least(0.98 * 1000.0 / 60.0).refused_at_most(1.0);
}

#[test]
fn bursts_keep_the_limits_at_a_latency_of_half_a_second() {
    for (way, least) in [(Way::Uniform(240 * MS, 260 * MS), 85.0), (Way::Uniform(100 * MS, 400 * MS), 65.0)] {
        let case = Case { seconds: 180, up: way, down: way, ..Case::new(100, 1000) };
        let burst = Case { plan: Plan { pace: Pace::Burst, ..case.plan }, ..case };
        Sum::of("bursts at 500 ms, first ten seconds", &burst, |report| report.rate(0, 10)).at_least(least);
        let all = Sum::of("bursts at 500 ms", &burst, |report| report.rate(0, 180));
        all.at_least(0.98 * 1000.0 / 60.0).refused_at_most(1.0);
    }
}

#[test]
fn a_changed_limit_is_followed_within_a_second_both_ways() {
    let whole = Case::default().plan.limits;
    let case = Case { limits: vec![(0, whole), (20, LOW), (40, whole)], ..Case::default() };
    Sum::of("half the limit", &case, |report| report.rate(22, 40)).at_least(0.99 * 40.0 / 1.02);
    Sum::of("the whole limit again", &case, |report| report.rate(41, 60)).at_least(0.98 * 80.0 / 1.02);
}

/// Nobody can know of it before the first refusal is read, and what has left by then cannot be called back.
#[test]
fn a_fallen_limit_refuses_only_what_had_left_before_anybody_could_know() {
    let whole = Case::default().plan.limits;
    for (fall, seconds) in [(20, 40), (70, 150)] {
        let case = Case { seconds, limits: vec![(0, whole), (fall, LOW)], ..Case::default() };
        each(&case, |report| only_what_had_left_is_refused(report, fall));
    }
}

fn only_what_had_left_is_refused(report: &Report, fall: u64) {
    let upon_fall = report.refused.iter().zip(&report.refused_left).filter(|(at, _)| **at >= fall * SECOND);
    let left: Vec<u64> = upon_fall.map(|(_, left)| *left).collect();
    let read = report.refusals_read.iter().copied().find(|(at, _)| *at >= fall * SECOND).unwrap();
    assert!(left.iter().all(|left| *left <= read.0), "some left after the refusal was read: {left:?}, {read:?}");
    // two ways of 35 ms and the gap before
    assert!(left.len() <= 8, "{} refused", left.len());
    // The hold is over, at the latest, so long after the last of them was read.
    let again = report.ours.iter().copied().find(|at| *at > read.0 + read.1).unwrap();
    let quarter = report.ours.iter().filter(|at| (again..again + SECOND / 4).contains(*at)).count();
    // ten by the rate, two that had been written already, two at once
    assert!(quarter <= 15, "{quarter} in the first quarter of a second after the hold");
}

#[test]
fn at_one_a_second_a_lost_answer_does_not_cost_the_whole_timeout() {
    let limits = Limits { second: Some(1), minute: Some(60) };
    let case = Case { seconds: 600, plan: limits.into(), limits: vec![(0, limits)], lost: 0.02, ..Case::default() };
    Sum::settled("1/s, 2 % of answers lost", &case).at_least(0.9).refused_at_most(100.0);
}

#[test]
fn a_reserved_number_stays_that_number_when_the_limit_falls() {
    let low = Limits { second: Some(40), minute: Some(4800) };
    let plan = Plan { reserve: Reserve::Requests(20), ..Case::default().plan };
    let case = Case { plan, limits: vec![(0, low)], ..Case::default() };
    Sum::settled("20 reserved of 40", &case).at_least(0.95 * 20.0).at_most(20.5).refused_at_most(1.0);
    let plan = Plan { reserve: Reserve::Share(0.25), ..plan };
    Sum::settled("a quarter reserved of 40", &Case { plan, ..case }).at_least(0.95 * 30.0).refused_at_most(1.0);
}
