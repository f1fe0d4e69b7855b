//! What the pacer tells of itself, and what it learns from how long things take.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn it_says_how_much_longer_it_is_held() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    assert_eq!(pacer.held_for(start), None);
    pacer.hold(1000 * MS, start);
    assert_eq!(pacer.held_for(start + 400 * MS), Some(600 * MS));
    assert_eq!(pacer.held_for(start + 1000 * MS), None);
}

#[test]
fn no_answer_holds_it_for_longer_than_an_hour() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    pacer.hold(Duration::from_secs(86_400), start);
    assert_eq!(pacer.held_for(start), Some(Duration::from_secs(3600)));
}

#[test]
fn it_says_the_rate_in_force() {
    let start = Instant::now();
    let rate = |second, minute| Pacer::new(Limits { second, minute }, start).rate();
    assert_eq!(rate(Some(80), None), Some(80.0));
    assert_eq!(rate(Some(80), Some(1200)), Some(20.0));
    assert_eq!(rate(None, None), None);
    let mut slowed = Pacer::new(Limits { second: Some(80), minute: None }, start);
    slowed.slow_down(SlowDown { factor: 0.5, length: SECOND }, start);
    assert_eq!(slowed.rate(), Some(40.0));
    for _ in 0..10 {
        slowed.slow_down(SlowDown { factor: 0.5, length: SECOND }, start);
    }
    assert_eq!(slowed.rate(), Some(4.0), "a twentieth is the least");
}

#[test]
fn it_says_how_much_of_the_windows_is_used() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Limits { second: Some(50), minute: Some(3000) }, start);
    assert_eq!(pacer.used(start), (0, 0));
    let taken = drive(&mut pacer, start, 10 * SECOND);
    let now = start + 10 * SECOND;
    let within = |length| taken.iter().filter(|at| **at > now - length).count() as u32;
    assert_eq!(pacer.used(now), (within(SECOND), within(60 * SECOND)));
    assert_eq!(pacer.used(now + 2 * SECOND), (0, taken.len() as u32));
}

#[test]
fn it_says_what_is_left_to_others() {
    let start = Instant::now();
    let pacer = Pacer::new(Plan { reserve: Reserve::Requests(12), ..DEFAULT.into() }, start);
    assert_eq!(pacer.left_to_others(), Limits { second: Some(12), minute: Some(720) });
}

/// An attempt that takes this long to be written may have its turn given as long before.
#[test]
fn a_turn_is_given_as_far_ahead_as_writing_takes_and_no_further() {
    let start = Instant::now();
    let ahead = |took: Duration, times| {
        let mut pacer = Pacer::new(Limits { second: Some(10), minute: None }, start);
        (0..times).for_each(|_| pacer.written(took));
        let now = start + 10 * SECOND;
        let slots: Vec<_> = std::iter::from_fn(|| pacer.try_take(now).ok()).collect();
        assert!(slots.iter().all(|slot| slot.at >= now && slot.at <= now + LONGEST_LEAD));
        let told = pacer.try_take(now).unwrap_err();
        // asking again when told to is soon enough: the next turn is not given earlier, nor later
        let slot = pacer.try_take(told).unwrap();
        slot.at - told
    };
    assert_eq!(ahead(Duration::ZERO, 1), Duration::ZERO);
    let (some, all) = (ahead(20 * MS, 1), ahead(20 * MS, 50));
    assert!((4 * MS..=6 * MS).contains(&some), "{some:?} after the first slow write");
    assert!((19 * MS..=20 * MS).contains(&all), "{all:?}");
    let most = ahead(1000 * MS, 50);
    assert!((29 * MS..=30 * MS).contains(&most), "{most:?}");
}

#[test]
fn fast_writing_is_learnt_slowly() {
    let mut pacer = Pacer::new(DEFAULT, Instant::now());
    (0..50).for_each(|_| pacer.written(20 * MS));
    pacer.written(Duration::ZERO);
    assert!(pacer.lead > 19 * MS, "{:?}", pacer.lead);
    (0..200).for_each(|_| pacer.written(2 * MS));
    assert!((2 * MS..3 * MS).contains(&pacer.lead), "{:?}", pacer.lead);
}

#[test]
fn a_turn_that_is_little_late_is_kept_and_one_that_is_long_past_is_given_anew() {
    let start = Instant::now();
    let mut pacer = Pacer::new(DEFAULT, start);
    let slot = drive_one(&mut pacer, start + 100 * MS);
    assert_eq!(pacer.renew(slot, slot.at + LATEST), Ok(slot));
    let late = slot.at + LATEST + MS;
    let renewed = pacer.renew(slot, late).unwrap();
    assert_eq!(renewed.at, late, "there is room at once");
    assert_ne!(renewed, slot);
    assert_eq!(pacer.used(late).0, 2, "the old turn is in the log, void, and the new one");
}

#[test]
fn more_may_be_under_way_the_longer_the_way_is() {
    let start = Instant::now();
    let most = |way: Duration| {
        let mut pacer = Pacer::new(DEFAULT, start);
        let mut now = start;
        for _ in 0..100 {
            let slot = drive_one(&mut pacer, now);
            pacer.answered(slot, 1, slot.at + way, &accepted(Windows::default()));
            now = slot.at;
        }
        pacer.most_in_flight(1000)
    };
    let (near, far) = (most(20 * MS), most(500 * MS));
    assert!((8..=20).contains(&near), "{near}");
    assert!((40..=90).contains(&far), "{far}");
}
