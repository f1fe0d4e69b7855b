//! Another plan while requests are under way: what left still counts, whatever the new limits are.

use super::*;

const fn limits(second: Option<u32>, minute: Option<u32>) -> Limits {
    Limits { second, minute }
}

/// Turns of `length` under a plan that replaces another after `before`.
fn replanned(from: Limits, to: Limits, before: Duration, length: Duration) -> (Vec<Instant>, Instant) {
    let start = Instant::now();
    let mut pacer = Pacer::new(from, start);
    let mut taken = drive(&mut pacer, start, before);
    let change = start + before;
    pacer.replan(to.into(), change);
    taken.extend(drive(&mut pacer, change, length));
    (taken, change)
}

#[test]
fn a_lower_limit_holds_from_now_on_also_for_windows_begun_before() {
    let (before, length) = (Duration::from_secs(70), Duration::from_secs(70));
    let (taken, change) = replanned(limits(Some(80), Some(4800)), limits(Some(10), Some(300)), before, length);
    let after: Vec<Instant> = taken.into_iter().filter(|at| *at > change + 30 * MS).collect();
    assert!(most_in_any(&after, Duration::from_secs(1)) <= 10);
    assert!(after.iter().all(|at| *at >= change + Duration::from_secs(55)), "the minute is more than full with what left before");
    assert!(!after.is_empty(), "and empties again");
}

#[test]
fn a_higher_limit_is_used_at_once_and_not_crossed() {
    let (before, length) = (Duration::from_secs(70), Duration::from_secs(60));
    let (taken, change) = replanned(limits(Some(10), Some(600)), limits(Some(80), Some(4800)), before, length);
    assert!(most_in_any(&taken, Duration::from_secs(1)) <= 80);
    let soon = taken.iter().filter(|at| (change..change + Duration::from_secs(2)).contains(at)).count();
    assert!(soon > 120, "{soon} in two seconds");
}

#[test]
fn a_limit_where_there_was_none_begins_as_at_a_start() {
    let start = Instant::now();
    let mut pacer = Pacer::new(limits(None, None), start);
    let slots: Vec<Slot> = (0..500).map(|_| pacer.try_take(start).unwrap()).collect();
    let change = start + 5 * MS;
    pacer.replan(DEFAULT.into(), change);
    for slot in slots {
        pacer.departed(slot, change);
        pacer.answered(slot, 1, change + 20 * MS, &accepted(Windows::default()));
    }
    let taken = drive(&mut pacer, change, Duration::from_secs(2));
    assert!(taken.len() > 100, "the new limit is used: {}", taken.len());
    assert!(most_in_any(&taken, Duration::from_secs(1)) <= 80);
    let first = taken.iter().filter(|at| **at < change + Duration::from_millis(500)).count();
    assert!(first <= 41, "evenly from the first moment: {first}");
}

#[test]
fn answers_to_what_left_without_a_limit_say_nothing_of_what_leaves_under_one() {
    let start = Instant::now();
    let mut pacer = Pacer::new(limits(None, None), start);
    let old: Vec<Slot> = (0..50).map(|_| pacer.try_take(start).unwrap()).collect();
    let change = start + Duration::from_secs(3);
    pacer.replan(limits(Some(10), None).into(), change);
    let mut taken = drive(&mut pacer, change, Duration::from_secs(1));
    let now = change + Duration::from_secs(1);
    old.into_iter().for_each(|slot| pacer.forget(slot)); // they never left
    taken.extend(drive(&mut pacer, now, Duration::from_secs(5)));
    assert!(most_in_any(&taken, Duration::from_secs(1)) <= 10);
}

#[test]
fn whoever_came_before_another_window_was_limited_is_forgotten_as_soon_as_ever() {
    let start = Instant::now();
    let mut pacer = Pacer::new(limits(Some(80), None), start);
    let now = start + Duration::from_secs(7 * 24 * 3600);
    let slot = pacer.try_take(now).unwrap();
    let burst = Windows { second: Some(Window { limit: 80, remaining: 1 }), minute: None };
    pacer.answered(slot, 1, now + 20 * MS, &accepted(burst));
    assert!(pacer.left_to_others().second.unwrap() > 0, "it is heeded");
    let change = now + Duration::from_secs(1);
    pacer.replan(DEFAULT.into(), change);
    for n in 0..400 {
        let at = change + n * 50 * MS;
        if let Ok(slot) = pacer.try_take(at) {
            pacer.answered(slot, 1, at + 20 * MS, &accepted(Windows::default()));
        }
    }
    assert_eq!(pacer.left_to_others().second, Some(0));
}

#[test]
fn what_the_gateway_told_of_a_lower_limit_and_a_hold_outlive_another_plan() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let slot = pacer.try_take(start + Duration::from_secs(1)).unwrap();
    let second = Some(Window { limit: 40, remaining: 39 });
    pacer.answered(slot, 1, start + Duration::from_secs(1), &accepted(Windows { second, minute: None }));
    pacer.hold(Duration::from_secs(9), start);
    pacer.replan(limits(Some(60), Some(4800)).into(), start + Duration::from_secs(2));
    assert_eq!(pacer.limits(), limits(Some(40), Some(4800)));
    assert!(pacer.try_take(start + Duration::from_secs(8)).is_err(), "held still");
    pacer.replan(limits(Some(30), Some(4800)).into(), start + Duration::from_secs(9));
    assert_eq!(pacer.limits().second, Some(30));
}

#[test]
fn a_window_that_is_limited_from_now_on_is_kept_by_bursts_too() {
    let start = Instant::now();
    let mut pacer = Pacer::new(limits(Some(100), None), start);
    drive(&mut pacer, start, Duration::from_secs(2));
    let change = start + Duration::from_secs(2);
    pacer.replan(Plan { pace: Pace::Burst, ..limits(Some(100), Some(1000)).into() }, change);
    let taken = drive(&mut pacer, change, Duration::from_secs(30));
    assert!(taken.len() <= 1000, "{} in half a minute", taken.len());
}
