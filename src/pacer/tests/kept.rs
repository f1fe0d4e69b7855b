//! The limit is kept as the gateway counts it, and used, whatever the way does.

use super::world::{Way, World, back_in, held_up};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Numbers below `most`, the same in every run.
fn some(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |most| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    }
}

fn uneven(up: Duration, down: Duration) -> Way {
    Way::Answered { after: Duration::ZERO, up, down }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Late by up to what the answer tells in time, at whatever rate: the gateway never counts one too many, and nothing stalls.
    #[test]
    fn however_uneven_the_way_no_request_is_one_too_many(
        second in 5u32..60, trip in 4u64..300, stray in 0u64..400, rare in 1u64..20, seed: u64,
    ) {
        let mut some = some(seed);
        let mut world = World::new(Limits { second: Some(second), minute: None });
        let run = world.run(12 * SECOND, |n, since| {
            let late = if n > 20 && since > 2 * SECOND && some(rare) == 0 { some(stray + 1) } else { 0 };
            uneven(Duration::from_millis(trip / 2 + late), Duration::from_millis(trip / 2))
        });
        prop_assert!(run.refused.is_empty(), "refused at {:?}", run.refused);
        let least = 10.0 * f64::from(second) * 1000.0 / (1050.0 + stray as f64);
        prop_assert!(run.between(2 * SECOND, 12 * SECOND) as f64 > least - 2.0, "{} of {least}", run.left.len());
    }
}

#[test]
fn on_a_steady_way_the_limit_is_used_to_less_than_a_hundredth() {
    let run = World::new(DEFAULT).run(200 * SECOND, |_, _| back_in(40 * MS));
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    let (first, last) = (run.between(5 * SECOND, 65 * SECOND), run.between(140 * SECOND, 200 * SECOND));
    assert!(first > 4752 && last > 4752, "{first} and {last} of 4,800 a minute");
}

#[test]
fn the_minute_is_kept_and_used_when_requests_burst() {
    let plan = Plan { pace: Pace::Burst, ..Limits { second: Some(100), minute: Some(1000) }.into() };
    let run = World::new(plan).run(300 * SECOND, |n, _| uneven(Duration::from_millis(20 + n as u64 % 7 * 9), 20 * MS));
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    let used = run.between(120 * SECOND, 300 * SECOND);
    assert!(used > 2950, "{used} of 3,000 in three minutes");
}

/// What leaves long after its turn must not leave on top of those whose turn that is.
#[test]
fn what_leaves_late_counts_from_when_it_left() {
    let run = World::new(Limits { second: Some(40), minute: None }).run(20 * SECOND, |_, since| {
        // in each second the disk takes until 300 ms for whatever had its turn before
        let within = since.subsec_millis();
        let after = Duration::from_millis(u64::from(300_u32.saturating_sub(within)));
        Way::Answered { after, up: 10 * MS, down: 1500 * MS }
    });
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    assert!(run.left.len() > 20 * 40 * 8 / 10, "{}", run.left.len());
}

#[test]
fn what_never_left_makes_room_for_as_many_others() {
    let plan = Plan { pace: Pace::Burst, ..Limits { second: Some(100), minute: Some(1000) }.into() };
    let mut world = World::new(plan);
    let run = world
        .run(220 * SECOND, |_, since| if (62 * SECOND..70 * SECOND).contains(&since) { Way::Stays } else { back_in(20 * MS) });
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    assert_eq!(run.between(62 * SECOND, 70 * SECOND), 0);
    let after = run.between(70 * SECOND, 80 * SECOND);
    assert!(after >= 795, "{after} of 800");
}

/// For three seconds it takes requests and counts none: all of them arrive when it goes on.
#[test]
fn a_gateway_that_stands_still_gets_no_more_than_a_window_at_once_and_goes_on_at_once() {
    for (second, trip) in [(80, 20), (80, 300), (20, 100)] {
        let (from, until) = (5 * SECOND, 8 * SECOND);
        let mut world = World::new(Limits { second: Some(second), minute: None });
        let run = world.run(12 * SECOND, |n, since| {
            let up = Duration::from_millis(trip / 2);
            let stands = (from..until).contains(&(since + up));
            // they come out of its backlog in any order
            let up = if stands { until - since + Duration::from_micros(n as u64 % 3 * 100) } else { up };
            // and so do their answers, but for the one that was sent to find out
            let down = match since.checked_sub(from) {
                Some(waits) if stands && waits < SECOND => 29 * MS - waits / 40,
                Some(_) if stands => 29 * MS,
                _ => Duration::ZERO,
            };
            uneven(up, Duration::from_millis(trip / 2) + down)
        });
        // one was sent to find out
        assert!(run.refused.len() <= 1, "{second} a second, {trip} ms: {:?}", run.refused);
        let meanwhile = run.between(6 * SECOND + 500 * MS, until);
        assert!(meanwhile <= 1, "{meanwhile} more while it stood");
        let after = run.between(until + SECOND + 200 * MS, 12 * SECOND);
        assert!(after as u32 > second * 18 / 10, "{after} in 2.8 s after it went on");
    }
}

#[test]
fn what_was_given_up_for_lost_and_arrives_after_all_takes_its_place() {
    for trip in [20 * MS, 200 * MS, 500 * MS] {
        let (from, until) = (5 * SECOND, 10 * SECOND);
        let run = World::new(Limits { second: Some(80), minute: None }).run(14 * SECOND, held_up(from, until, trip));
        assert!(run.refused.is_empty(), "{trip:?}: {:?}", run.refused);
        let meanwhile = run.between(from + 1500 * MS, until - 10 * MS);
        assert!((1..=2).contains(&meanwhile), "{meanwhile} to find out, at {trip:?}");
        let after = run.between(until + SECOND + 100 * MS, 14 * SECOND);
        assert!(after > 29 * 76 / 10, "{after} in 2.9 s after it went on, at {trip:?}");
    }
}

#[test]
fn while_nothing_is_answered_one_request_in_two_seconds_and_later_fewer_find_out_whether_it_is_again() {
    let mut world = World::new(Limits { second: Some(20), minute: None });
    let (from, until) = (5 * SECOND, 115 * SECOND);
    let run = world.run(120 * SECOND, |_, since| if (from..until).contains(&since) { Way::Lost } else { back_in(20 * MS) });
    let meanwhile = run.between(from + 2 * SECOND, until);
    assert!((35..=39).contains(&meanwhile), "{meanwhile} in 108 s");
    let after = run.between(118 * SECOND, 120 * SECOND);
    assert!(after >= 38, "{after} of 40 once it answers");
}

#[test]
fn answers_that_never_come_stall_nothing() {
    let run = World::new(DEFAULT).run(150 * SECOND, |n, _| if n % 10 == 3 { Way::Lost } else { back_in(40 * MS) });
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    let used = run.between(80 * SECOND, 140 * SECOND);
    // each may still be on its way, and takes its place for longer
    assert!(used > 4300, "{used} of 4,800");
}

#[test]
fn a_way_longer_than_the_window_costs_nothing() {
    for trip in [1500 * MS, 5000 * MS] {
        let run = World::new(Limits { second: Some(20), minute: None }).run(60 * SECOND, |_, _| back_in(trip));
        assert!(run.refused.is_empty(), "{:?}", run.refused);
        let used = run.between(20 * SECOND, 60 * SECOND);
        assert!(used > 790, "{used} of 800 at {trip:?}");
    }
}

#[test]
fn a_request_that_was_late_does_not_hold_up_those_behind_it() {
    let run = World::new(Limits { second: Some(10), minute: None })
        .run(60 * SECOND, |n, _| if n > 30 && n % 10 == 0 { uneven(610 * MS, 10 * MS) } else { back_in(20 * MS) });
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    let used = run.between(10 * SECOND, 60 * SECOND);
    assert!(used > 460, "{used} of 500");
}

/// Clocks tick, timers round: two requests a window apart may be counted a little less apart.
#[test]
fn what_clocks_round_away_is_no_request_too_many() {
    let run = World::new(Limits { second: Some(20), minute: None }).run(60 * SECOND, |n, _| {
        let up = Duration::from_micros(if n % 3 == 0 { 10_400 } else { 10_000 });
        uneven(up, 20 * MS - up)
    });
    assert!(run.refused.is_empty(), "{:?}", run.refused);
}

#[test]
fn one_that_leaves_after_the_next_stalls_nothing() {
    let run = World::new(Limits { second: Some(200), minute: None }).run(10 * SECOND, |n, _| Way::Answered {
        after: if n == 700 { 12 * MS } else { Duration::ZERO },
        up: 10 * MS,
        down: 10 * MS,
    });
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    assert!(run.between(5 * SECOND, 10 * SECOND) > 980, "{}", run.left.len());
}

#[test]
fn a_turn_given_anew_waits_for_its_place_and_is_given_no_further_ahead_than_writing_may_take() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Limits { second: Some(1), minute: None }, start);
    let first = drive_one(&mut pacer, start + 5 * SECOND);
    pacer.departed(first, first.at);
    pacer.answered(first, 1, first.at, &accepted(Windows::default()));
    let past = Slot { at: first.at - SECOND, ..first };
    let lapsed = Slot { number: u64::MAX, ..past };
    let free = pacer.renew(lapsed, first.at).unwrap_err();
    assert!(free > first.at + SECOND && free < first.at + SECOND * 11 / 10, "{:?}", free - first.at);
    let soon = free - LONGEST_LEAD;
    assert_eq!(pacer.renew(lapsed, soon - Duration::from_micros(1)), Err(free));
    assert_eq!(pacer.renew(lapsed, soon).unwrap().at, free);
}

#[test]
fn a_request_that_is_not_answered_yet_is_taken_for_as_late_as_its_answer() {
    let run = World::new(Limits { second: Some(20), minute: None })
        .run(60 * SECOND, |n, _| if n > 60 && n % 50 == 0 { uneven(1300 * MS, 10 * MS) } else { back_in(20 * MS) });
    assert!(run.refused.is_empty(), "{:?}", run.refused);
}

#[test]
fn a_gateway_that_has_become_slower_is_used_as_before_once_that_is_learnt() {
    let slower = 5 * SECOND;
    let run = World::new(Limits { second: Some(80), minute: None })
        .run(120 * SECOND, |_, since| back_in(if since < slower { 20 * MS } else { 500 * MS }));
    assert!(run.refused.is_empty(), "{:?}", run.refused);
    let used = run.between(100 * SECOND, 120 * SECOND);
    assert!(used > 1580, "{used} of 1,600");
}
