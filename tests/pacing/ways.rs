//! What the ways and the gateway's latency cost.

use crate::case::{Case, Way};
use crate::sum::{Sum, each};
use crate::world::{MS, SECOND};
use campaignd::pacer::Limits;

#[test]
fn jitter_costs_what_it_must_and_not_more() {
    Sum::settled("20 ms", &Case::default()).at_least(0.995 * 80.0 / 1.02).refused_at_most(1.0);
    let wide = Way::Uniform(5 * MS, 85 * MS);
    Sum::settled("80 ms", &Case::with_way(wide, wide)).at_least(0.99 * 80.0 / 1.08).refused_at_most(1.0);
    let way = Way::Uniform(25 * MS, 25 * MS);
    Sum::settled("none", &Case::with_way(way, way)).at_least(0.995 * 80.0).refused_at_most(1.0);
}

#[test]
fn tails_cost_their_average_and_not_their_length() {
    let tails = [
        ("lognormal", Way::Lognormal(10 * MS, 15_000.0, 0.7), 0.955),
        ("lognormal with a long tail", Way::Lognormal(10 * MS, 15_000.0, 1.5), 0.82),
        ("3 % up to 300 ms", Way::Tail(10 * MS, 40 * MS, 0.03, 300 * MS), 0.93),
    ];
    for (name, tail, least) in tails {
        Sum::settled(name, &Case::with_way(tail, tail)).at_least(least * 80.0).refused_at_most(1.0);
    }
    let still = Case { still: Some((6.0, 150 * MS)), ..Case::default() };
    Sum::settled("standing still", &still).at_least(0.965 * 80.0).refused_at_most(1.0);
}

/// Such an answer is late when its request is about to leave the window, and says so by not being there.
#[test]
fn a_tail_upon_a_latency_little_below_the_window_is_foreseen() {
    let tail = Way::Tail(400 * MS, 415 * MS, 0.02, 675 * MS);
    Sum::settled("latency 0.8 s, 2 % up to 0.3 s more", &Case::with_way(tail, tail)).at_least(0.9 * 80.0).refused_at_most(1.0);
}

#[test]
fn what_varies_on_the_way_back_alone_costs_its_average() {
    // An answer that comes late may be a request that came late: nobody can tell from the round trip.
    let up = Way::Uniform(25 * MS, 25 * MS);
    let back = Case::with_way(up, Way::Uniform(5 * MS, 85 * MS));
    Sum::settled("way back 5 to 85 ms", &back).at_least(0.94 * 80.0).refused_at_most(1.0);
    let back = Case::with_way(up, Way::Lognormal(10 * MS, 40_000.0, 1.0));
    Sum::settled("way back with a tail", &back).at_least(0.9 * 80.0).refused_at_most(1.0);
}

#[test]
fn a_gateway_that_stands_still_for_seconds_is_not_flooded_when_it_goes_on() {
    for (name, latency) in [("20 ms", 20 * MS), ("200 ms", 200 * MS), ("500 ms", 500 * MS)] {
        let way = Way::Uniform(latency / 2, latency / 2 + 10 * MS);
        for (length, least) in [(1000 * MS, 0.8), (4000 * MS, 0.6)] {
            let still = Case { still: Some((3.0, length)), ..Case::with_way(way, way) };
            let name = format!("standing still for up to {} s, latency {name}", length / SECOND);
            Sum::settled(&name, &still).at_least(least * 80.0).refused_at_most(10.0);
        }
    }
}

#[test]
fn a_latency_of_seconds_is_learnt_whatever_the_windows() {
    let way = Way::Uniform(2000 * MS, 2050 * MS);
    for minute in [None, Some(4800)] {
        let limits = Limits { second: Some(80), minute };
        let case = Case { plan: limits.into(), limits: vec![(0, limits)], in_flight: 1000, ..Case::with_way(way, way) };
        let sum = Sum::of(&format!("latency 4 s, by the minute {minute:?}"), &case, |report| report.rate(20, 60));
        sum.at_least(0.95 * 80.0 / 1.05).refused_at_most(1.0);
    }
}

#[test]
fn the_rate_is_held_from_the_start_at_a_latency_of_20_ms_and_of_2_s_alike() {
    for (name, way, jitter) in [("20 ms", Way::Uniform(7_500, 12_500), 0.005), ("2 s", Way::Uniform(990 * MS, 1010 * MS), 0.02)] {
        let case = Case { seconds: 12, ..Case::with_way(way, way) };
        let first = Sum::of(&format!("latency {name}, ten seconds from the first arrival on"), &case, |report| {
            let from = report.ours[0];
            report.ours.iter().filter(|at| **at < from + 10 * SECOND).count() as f64 / 10.0
        });
        first.at_least(0.975 * 80.0 / (1.0 + jitter)).refused_at_most(1.0);
    }
}

#[test]
fn a_gateway_that_hangs_from_the_start_gets_no_more_than_some_seconds_requests() {
    each(&Case { seconds: 25, lost: 1.0, ..Case::default() }, |report| {
        assert!((160..=220).contains(&report.ours.len()), "{}", report.ours.len());
    });
    let slow = Limits { second: Some(1), minute: None };
    each(&Case { plan: slow.into(), limits: vec![(0, slow)], seconds: 25, lost: 1.0, ..Case::default() }, |report| {
        assert!(report.ours.len() <= 12, "{}", report.ours.len());
    });
}
