//! Requests that leave in another order than that of their turns.

use super::*;

#[test]
fn one_that_leaves_late_does_not_make_the_others_ask_all_the_time() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Limits { second: Some(80), minute: None }, start);
    let mut waiting: Vec<(Instant, Slot)> = Vec::new();
    let (mut now, mut asked, mut left) = (start, 0, Vec::new());
    while now < start + Duration::from_secs(10) {
        waiting.retain(|(at, slot)| {
            let leaves = *at <= now;
            if leaves {
                pacer.departed(*slot, *at);
                pacer.answered(*slot, 1, *at + 20 * MS, &accepted(Windows::default()));
                left.push(*at);
            }
            !leaves
        });
        asked += 1;
        match pacer.try_take(now) {
            // every third is written late
            Ok(slot) => waiting.push((slot.at + if asked % 3 == 0 { 200 * MS } else { MS }, slot)),
            Err(at) => now = at,
        }
    }
    left.sort();
    assert!(most_in_any(&left, Duration::from_secs(1)) <= 80);
    assert!(left.len() > 10 * 60, "{}", left.len());
    assert!(asked < 4 * left.len(), "asked {asked} times for {}", left.len());
}
