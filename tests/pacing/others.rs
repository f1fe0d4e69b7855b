//! Others who send with the same key.

use campaignd::pacer::{Plan, Reserve};

use crate::case::{Case, How, Other, Way};
use crate::sum::Sum;
use crate::world::{MS, SECOND};

fn with_others(reserve: u32, rate: f64, how: How) -> Case {
    visited(reserve, Other { from: 0, until: 60, rate, how })
}

fn visited(reserve: u32, other: Other) -> Case {
    let plan = Plan { reserve: Reserve::Requests(reserve), ..Case::default().plan };
    Case { plan, others: vec![other], ..Case::default() }
}

#[test]
fn a_steady_sender_on_the_same_key_is_left_alone() {
    // With its own jitter it sends at most 11 in any second.
    let evenly = Sum::settled("10/s, reserve 11", &with_others(11, 10.0, How::Evenly));
    evenly.at_least(0.95 * 70.0).refused_at_most(1.0).theirs_refused_at_most(0.0);
    let unevenly = Sum::settled("10/s unevenly, reserve 14", &with_others(14, 10.0, How::Unevenly));
    unevenly.at_least(62.0).refused_at_most(1.0).theirs_refused_at_most(1.0);
}

#[test]
fn without_a_reserve_others_are_found_and_yielded_to() {
    let evenly = Sum::settled("10/s, no reserve", &with_others(0, 10.0, How::Evenly));
    evenly.at_least(0.95 * 70.0).refused_at_most(1.0).theirs_refused_at_most(10.0);
    let by_chance = Sum::settled("10/s by chance, no reserve", &with_others(0, 10.0, How::Independently));
    by_chance.at_least(55.0).refused_at_most(10.0).theirs_refused_at_most(50.0);
    let bursts = Sum::settled("bursts of 5, no reserve", &with_others(0, 10.0, How::InBursts(5)));
    bursts.at_least(40.0).refused_at_most(50.0).theirs_refused_at_most(300.0);
}

#[test]
fn one_who_comes_finds_the_reserve_and_soon_what_he_needs() {
    for how in [How::Evenly, How::Unevenly] {
        let case = visited(4, Other { from: 20, until: 40, rate: 10.0, how });
        let name = format!("10/s {how:?} come and go, reserve 4");
        let during = Sum::of(&name, &case, |report| report.rate(21, 40));
        during.at_least(0.92 * 70.0).refused_at_most(1.0).theirs_refused_at_most(1.0);
    }
}

#[test]
fn room_is_given_at_once_and_taken_back() {
    let case = visited(4, Other { from: 20, until: 40, rate: 20.0, how: How::Evenly });
    Sum::of("before 20/s come, reserve 4", &case, |report| report.rate(5, 20)).at_least(0.995 * 76.0 / 1.02);
    Sum::of("while they are there", &case, |report| report.rate(25, 40)).at_least(0.92 * 60.0).at_most(60.0);
    // The minute holds what they sent still, so its even pace is 4,400 in 60 s.
    let after = Sum::of("after they have gone", &case, |report| report.rate(52, 60));
    // The reserve is used up before anybody can know: at 20/s within a fifth of a second.
    after.at_least(0.99 * 4400.0 / 60.0).refused_at_most(2.0).theirs_refused_at_most(15.0);
}

#[test]
fn several_at_once_are_one_to_the_gateway() {
    let other = |from, until, rate, how| Other { from, until, rate, how };
    let others = vec![other(0, 60, 5.0, How::Evenly), other(15, 30, 8.0, How::Unevenly), other(25, 50, 4.0, How::Independently)];
    let plan = Plan { reserve: Reserve::Requests(8), ..Case::default().plan };
    let sum = Sum::settled("5/s, then 8/s, then 4/s by chance, reserve 8", &Case { plan, others, ..Case::default() });
    sum.at_least(60.0).refused_at_most(3.0).theirs_refused_at_most(10.0);
}

/// What was held up is ours, and who is there meanwhile is not.
#[test]
fn a_gateway_that_stands_still_hides_nobody() {
    for (latency, length) in [(20, 1), (20, 4), (200, 1), (200, 4)] {
        let way = Way::Uniform(latency * MS / 2, latency * MS / 2 + 10 * MS);
        for (reserve, theirs) in [(11, 0.5), (0, 5.0)] {
            let others = with_others(reserve, 10.0, How::Evenly);
            let case = Case { up: way, down: way, still: Some((3.0, length * SECOND)), still_from: 5, ..others };
            let name = format!("10/s, reserve {reserve}, standing still for up to {length} s, latency {latency} ms");
            let least = if length == 1 { 62.0 } else { 54.0 };
            Sum::settled(&name, &case).at_least(least).refused_at_most(2.0).theirs_refused_at_most(theirs);
        }
    }
}

#[test]
fn one_who_comes_between_standstills_is_found() {
    let visit = visited(4, Other { from: 20, until: 40, rate: 10.0, how: How::Evenly });
    let case = Case { still: Some((20.0, SECOND)), still_from: 5, ..visit };
    let during = Sum::of("10/s come between standstills, reserve 4", &case, |report| report.rate(21, 40));
    during.at_least(45.0).refused_at_most(2.0).theirs_refused_at_most(30.0);
}
