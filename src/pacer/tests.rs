//! The pacer as a whole: turns, holds, headers, reserve.

mod kept;
mod order;
mod others;
mod replanned;
mod told;
mod world;

use proptest::prelude::*;

use super::*;
use crate::gateway::{Refusal, Window};

const MS: Duration = Duration::from_millis(1);
const DEFAULT: Limits = Limits { second: Some(80), minute: Some(4800) };

/// Takes every turn it can for `length`, asking again when told to; the times of the turns.
fn drive(pacer: &mut Pacer, from: Instant, length: Duration) -> Vec<Instant> {
    let mut taken = Vec::new();
    let mut now = from;
    while now < from + length {
        match pacer.try_take(now) {
            Ok(slot) => taken.push(slot.at),
            Err(at) => {
                assert!(at > now, "told to ask again in the past");
                now = at;
            }
        }
    }
    taken
}

fn accepted(windows: Windows) -> Answer {
    Answer { reply: Reply::Accepted { wamid: String::new() }, windows }
}

fn most_in_any(taken: &[Instant], window: Duration) -> usize {
    (0..taken.len()).map(|i| taken[i..].iter().take_while(|t| **t < taken[i] + window).count()).max().unwrap_or(0)
}

#[test]
fn uses_the_limit_and_never_more() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let taken = drive(&mut pacer, start, Duration::from_secs(130));
    assert!(most_in_any(&taken, Duration::from_secs(1)) <= 80);
    assert!(most_in_any(&taken, Duration::from_secs(60)) <= 4800);
    let bound = 130.0 * 80.0 / 1.05; // unanswered, each is taken for some 45 ms late
    assert!(taken.len() as f64 > bound * 0.995, "{} of {bound}", taken.len());
}

#[test]
fn what_a_disk_held_back_does_not_leave_all_at_once() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let mut ready: Vec<(Slot, Instant)> = Vec::new();
    let mut left = Vec::new();
    for ms in 0..20_000 {
        let now = start + ms * MS;
        if let Ok(slot) = pacer.try_take(now) {
            ready.push((slot, slot.at));
        }
        if (4_000..7_000).contains(&ms) {
            continue; // the disk stands still
        }
        for (slot, ask_at) in std::mem::take(&mut ready) {
            match if ask_at <= now { pacer.renew(slot, now) } else { Err(ask_at) } {
                Ok(slot) if slot.at <= now => {
                    pacer.departed(slot, now);
                    pacer.answered(slot, 1, now, &accepted(Windows::default()));
                    left.push(now);
                }
                Ok(slot) => ready.push((slot, slot.at)),
                Err(at) => ready.push((slot, at)),
            }
        }
    }
    assert!(most_in_any(&left, Duration::from_secs(1)) <= 80, "{}", most_in_any(&left, Duration::from_secs(1)));
    assert!(ready.len() < 500, "{} never left", ready.len());
    assert!(left.len() > 17 * 80 * 9 / 10, "{} left", left.len());
}

#[test]
fn what_is_ready_to_leave_waits_through_a_hold() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let now = start + 100 * MS;
    let slot = pacer.try_take(now).unwrap();
    pacer.hold(1000 * MS, now);
    assert_eq!(pacer.renew(slot, now), Err(now + 1000 * MS));
    assert!(pacer.renew(slot, now + 1000 * MS).is_ok());
}

#[test]
fn what_counts_is_when_a_request_leaves_and_what_the_disk_takes_costs_nothing() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let (mut waiting, mut left) = (Vec::new(), Vec::new());
    for ms in 0..30_000 {
        let now = start + ms * MS;
        while let Ok(slot) = pacer.try_take(now) {
            waiting.push((slot, now));
        }
        // a disk that takes 3 ms, and at times 90
        if ms % 1000 / 90 == 4 || ms % 3 != 0 {
            continue;
        }
        for (_, taken) in waiting.iter().filter(|(_, taken)| *taken + 3 * MS <= now) {
            pacer.written(now - *taken);
        }
        waiting.retain(|(slot, taken)| {
            let leaves = slot.at <= now && *taken + 3 * MS <= now;
            if leaves {
                pacer.departed(*slot, now);
                pacer.answered(*slot, 1, now, &accepted(Windows::default()));
                left.push(now);
            }
            !leaves
        });
    }
    assert!(most_in_any(&left, Duration::from_secs(1)) <= 80);
    assert!(left.len() as f64 > 30.0 * 80.0 * 0.93, "{}", left.len());
}

#[test]
fn what_never_left_takes_no_room() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Limits { second: Some(10), minute: None }, start);
    let late = start + Duration::from_secs(5);
    for n in 0..100 {
        let slot = pacer.try_take(late + n * 200 * MS).unwrap();
        pacer.forget(slot);
    }
    let now = late + 20_000 * MS;
    let taken = drive(&mut pacer, now, 1000 * MS).len();
    assert!((10..=12).contains(&taken), "{taken}");
}

#[test]
fn starts_smoothly_as_if_it_had_been_sending_before() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let first = drive(&mut pacer, start, 250 * MS).len();
    assert!((15..=22).contains(&first), "{first}");
}

#[test]
fn a_minute_limit_far_below_the_second_limit_sets_the_pace() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Limits { second: Some(100), minute: Some(1000) }, start);
    let taken = drive(&mut pacer, start, Duration::from_secs(120));
    assert!(most_in_any(&taken, Duration::from_secs(60)) <= 1000);
    assert!(most_in_any(&taken, Duration::from_secs(5)) <= 86, "bursts instead of a smooth pace");
    assert!(taken.len() > 1950, "{}", taken.len());
}

#[test]
fn unlimited_never_waits() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Limits { second: None, minute: None }, start);
    assert!((0..100_000).all(|_| pacer.try_take(start).is_ok()));
}

#[test]
fn a_hold_is_kept_and_never_shortened() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    pacer.hold(1000 * MS, start);
    pacer.hold(10 * MS, start + 5 * MS);
    assert_eq!(pacer.try_take(start + 999 * MS), Err(start + 1000 * MS));
    let after = drive(&mut pacer, start + 1000 * MS, 100 * MS).len();
    assert!(after <= 10, "burst of {after} after a hold");
}

#[test]
fn slowing_down_lowers_the_rate_and_passes() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    pacer.slow_down(SlowDown { factor: 0.5, length: Duration::from_secs(10) }, start);
    let slow = drive(&mut pacer, start, Duration::from_secs(10)).len();
    assert!((390..=410).contains(&slow), "{slow}");
    let normal = drive(&mut pacer, start + Duration::from_secs(10), Duration::from_secs(10)).len();
    assert!(normal > 750, "{normal}");
}

fn drive_one(pacer: &mut Pacer, from: Instant) -> Slot {
    let mut now = from;
    loop {
        match pacer.try_take(now) {
            Ok(slot) => return slot,
            Err(at) => now = at,
        }
    }
}

#[test]
fn an_idle_account_may_use_its_room_once_the_gateway_says_so() {
    let start = Instant::now();
    let limits = Limits { second: Some(100), minute: Some(1000) };
    for (remaining, least, most) in [(999, 95, 101), (0, 10, 25)] {
        let mut pacer = Pacer::new(Plan { pace: Pace::Burst, ..limits.into() }, start);
        let slot = drive_one(&mut pacer, start);
        let second = Some(Window { limit: 100, remaining: 99 });
        let windows = Windows { second, minute: Some(Window { limit: 1000, remaining }) };
        pacer.answered(slot, 1, slot.at + 50 * MS, &accepted(windows));
        let taken = drive(&mut pacer, slot.at + 50 * MS, 1000 * MS).len();
        assert!((least..=most).contains(&taken), "{taken} with {remaining} free");
    }
}

#[test]
fn the_reserve_stays_free() {
    let start = Instant::now();
    for reserve in [Reserve::Requests(12), Reserve::Share(0.15)] {
        let mut pacer = Pacer::new(Plan { reserve, ..DEFAULT.into() }, start);
        let taken = drive(&mut pacer, start, Duration::from_secs(65));
        assert!(most_in_any(&taken, Duration::from_secs(1)) <= 68);
        assert!(most_in_any(&taken, Duration::from_secs(60)) <= 4080);
        assert!(taken.len() > 65 * 64, "{}", taken.len());
    }
}

#[test]
fn a_lower_limit_in_the_headers_is_obeyed_and_a_higher_one_is_not() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let says = |limit| Windows { second: Some(Window { limit, remaining: 1 }), minute: None };
    let now = start + 100 * MS;
    let [first, second, third] = [0, 1, 2].map(|_| drive_one(&mut pacer, now));
    pacer.answered(second, 1, now, &accepted(says(40)));
    assert_eq!(pacer.limits().second, Some(40));
    pacer.answered(first, 1, now, &accepted(says(80)));
    assert_eq!(pacer.limits().second, Some(40), "told by an answer that was overtaken");
    pacer.answered(third, 1, now, &accepted(says(500)));
    assert_eq!(pacer.limits().second, Some(80));
    pacer.answered(third, 1, now, &accepted(Windows::default()));
    assert_eq!(pacer.limits(), DEFAULT);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_window_ever_holds_more_than_its_limit(
        second in 1u32..200, minute in 1u32..3000,
        steps in proptest::collection::vec((0u64..400, 0u8..10, 0u64..120), 1..200),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut pacer = Pacer::new(Limits { second: Some(second), minute: Some(minute) }, now);
        let (mut taken, mut open) = (Vec::new(), Vec::new());
        for (wait, what, rtt) in steps {
            now += Duration::from_millis(wait);
            match what {
                0 => pacer.hold(Duration::from_millis(rtt * 5), now),
                1 => pacer.slow_down(SlowDown { factor: 0.5, length: Duration::from_secs(1) }, now),
                2 => for (slot, _) in open.drain(..) {
                    pacer.answered(slot, 1, now.max(slot.at) + Duration::from_millis(rtt), &accepted(Windows::default()));
                },
                _ => while let Ok(slot) = pacer.try_take(now) {
                    open.push((slot, now));
                    taken.push(slot.at);
                },
            }
        }
        prop_assert!(most_in_any(&taken, Duration::from_secs(1)) <= second as usize);
        prop_assert!(most_in_any(&taken, Duration::from_secs(60)) <= minute as usize);
    }
}
