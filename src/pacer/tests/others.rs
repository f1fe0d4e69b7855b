//! What the headers tell of other programs on the same key, and what is left to them.

use super::world::{Way, World, back_in, held_up};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// So many a second, evenly, in this part of a run.
fn sender(a_second: u32, from: Duration, until: Duration) -> impl Iterator<Item = Duration> {
    (0..).map(move |n| from + SECOND * n / a_second).take_while(move |at| *at < until)
}

#[test]
fn another_sender_gets_what_it_needs_and_we_the_rest_and_all_of_it_once_it_stops() {
    let mut world = World::new(Limits { second: Some(80), minute: None }).with_others(sender(20, 10 * SECOND, 40 * SECOND));
    let run = world.run(60 * SECOND, |_, _| back_in(30 * MS));
    let late = run.refused.iter().filter(|at| **at > 12 * SECOND).count();
    assert_eq!(late, 0, "{} refused, the last at {:?}", run.refused.len(), run.refused.last());
    let beside = run.between(20 * SECOND, 40 * SECOND);
    assert!((20 * 54..=20 * 60).contains(&beside), "{beside} beside it");
    let alone = run.between(50 * SECOND, 60 * SECOND);
    assert!(alone >= 780, "{alone} alone again");
}

#[test]
fn nobody_else_costs_nothing() {
    for trip in [5 * MS, 100 * MS, 2 * SECOND, 25 * SECOND] {
        let mut world = World::new(DEFAULT);
        world.run(90 * SECOND, |_, _| back_in(trip));
        assert_eq!(world.pacer.left_to_others(), Limits { second: Some(0), minute: Some(0) }, "{trip:?}");
    }
}

/// On an uneven way it is in doubt which of our requests a count holds.
#[test]
fn nobody_else_is_seen_on_an_uneven_way() {
    for length in [15, 20, 25] {
        let mut world = World::new(Limits { second: Some(80), minute: None });
        world.run(length * SECOND, |n, _| Way::Answered {
            after: Duration::ZERO,
            up: Duration::from_millis(10 + n as u64 * 7919 % 13 * 10),
            down: 10 * MS,
        });
        assert_eq!(world.pacer.left_to_others().second, Some(0), "after {length} s");
    }
}

#[test]
fn what_others_use_of_the_minute_is_told_too_however_long_the_way_is() {
    for trip in [30 * MS, 10 * SECOND] {
        let two_a_second = sender(2, Duration::ZERO, 300 * SECOND);
        let mut world = World::new(Limits { second: None, minute: Some(600) }).with_others(two_a_second);
        let run = world.run(300 * SECOND, |_, _| back_in(trip));
        let left = world.pacer.left_to_others().minute.unwrap();
        assert!((115..=130).contains(&left), "{left}");
        let refused = run.refused.iter().filter(|at| **at > 100 * SECOND).count();
        assert_eq!(refused, 0);
    }
}

/// On a steady way two requests of a count may be ours or another's; no more are in doubt.
#[test]
fn a_burst_of_others_is_heeded_at_once_and_a_count_that_is_off_by_two_is_nobody() {
    let start = Instant::now();
    for (more, heeded) in [(2, 0..=0), (20, 17..=20)] {
        let mut pacer = Pacer::new(Limits { second: Some(30), minute: None }, start);
        let mut now = start;
        for n in 0..400 {
            let slot = drive_one(&mut pacer, now);
            now = slot.at;
            let (used, _) = pacer.used(now);
            let used = if n == 399 || (more == 2 && n % 40 == 0) { used + more } else { used };
            let second = Some(Window { limit: 80, remaining: 80 - used });
            pacer.answered(slot, 1, now, &accepted(Windows { second, minute: None }));
        }
        let left = pacer.left_to_others().second.unwrap();
        assert!(heeded.contains(&left), "{left} left for {more} more");
    }
}

#[test]
fn what_a_gateway_held_up_that_stood_still_is_ours() {
    let mut now = Instant::now();
    let mut pacer = Pacer::new(Limits { second: Some(80), minute: None }, now);
    let mut arrived = Vec::new();
    let mut counted = |at: Instant| {
        arrived.push(at);
        let used = arrived.iter().filter(|arrived| **arrived + SECOND > at).count();
        accepted(Windows { second: Some(Window { limit: 80, remaining: 80 - u32::try_from(used).unwrap() }), minute: None })
    };
    for round in 0..5 {
        for _ in 0..200 {
            let slot = drive_one(&mut pacer, now);
            now = slot.at;
            pacer.answered(slot, 1, now, &counted(now));
            assert_eq!(pacer.left_to_others().second, Some(0), "after {round} standstills");
        }
        // no more than so many may be under way
        let held_up = [(); 30].map(|()| drive_one(&mut pacer, now));
        now = held_up[29].at + 600 * MS;
        held_up.into_iter().for_each(|slot| pacer.answered(slot, 30, now, &counted(now)));
    }
}

#[test]
fn a_standstill_hides_nobody_who_is_there_all_the_time() {
    for (length, trip) in [(700 * MS, 20 * MS), (700 * MS, 200 * MS), (3 * SECOND, 200 * MS)] {
        let (from, until) = (10 * SECOND, 10 * SECOND + length);
        let mut world =
            World::new(Limits { second: Some(80), minute: None }).with_others(sender(10, Duration::ZERO, 30 * SECOND));
        let run = world.run(until + 3 * SECOND, held_up(from, until, trip));
        let late = run.refused.iter().filter(|at| **at > 2 * SECOND).count();
        assert_eq!(late, 0, "of {length:?} at {trip:?}");
        let left = world.pacer.left_to_others().second.unwrap();
        assert!((10..=16).contains(&left), "{left} left after {length:?} at {trip:?}");
    }
}

/// Ten others a second beside us for ten seconds, and nothing of ours answered that left after `from`.
fn beside_ten_others(trip: Duration, from: Duration) -> World {
    let mut world = World::new(Limits { second: Some(80), minute: None }).with_others(sender(10, Duration::ZERO, 10 * SECOND));
    world.run(10 * SECOND, |_, since| if since < from { back_in(trip) } else { Way::Lost });
    let left = world.pacer.left_to_others().second.unwrap();
    assert!((10..=16).contains(&left), "{left}");
    world
}

#[test]
fn windows_that_are_full_take_nobody_for_gone() {
    let mut world = beside_ten_others(2 * SECOND, 8 * SECOND);
    let before = world.pacer.left_to_others();
    // the limit was lowered after they had left: they are more than the gateway counts
    let windows = Windows { second: Some(Window { limit: 50, remaining: 0 }), minute: None };
    for slot in world.unanswered() {
        world.pacer.answered(slot, 1, slot.at + 2 * SECOND, &accepted(windows));
    }
    assert_eq!(world.pacer.left_to_others(), before);
}

#[test]
fn what_comes_out_of_a_backlog_bit_by_bit_takes_nobody_for_gone() {
    let mut world = beside_ten_others(20 * MS, 9 * SECOND);
    let before = world.pacer.left_to_others();
    let held_up = world.unanswered();
    let went_on = held_up[0].at + SECOND;
    for (slot, n) in held_up.into_iter().zip(1..) {
        let windows = Windows { second: Some(Window { limit: 80, remaining: 80 - n }), minute: None };
        world.pacer.answered(slot, 1, went_on + n * 14 * MS, &accepted(windows));
    }
    assert_eq!(world.pacer.left_to_others(), before);
}

#[test]
fn what_was_held_up_or_refused_says_nothing_of_how_long_the_way_is() {
    let mut world = beside_ten_others(20 * MS, 9 * SECOND);
    let way = |pacer: &Pacer| (pacer.trips.fastest(), pacer.trips.allowance());
    let before = way(&world.pacer);
    let held_up = world.unanswered();
    let now = held_up[0].at + SECOND;
    held_up.into_iter().for_each(|slot| world.pacer.answered(slot, 1, now, &accepted(Windows::default())));
    assert_eq!(way(&world.pacer), before);
    let refused = Answer { reply: Reply::Refused(Refusal::default()), windows: Windows::default() };
    let slot = drive_one(&mut world.pacer, now);
    world.pacer.answered(slot, 1, slot.at + MS, &refused);
    assert_eq!(way(&world.pacer), before);
}
