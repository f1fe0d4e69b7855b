//! Thresholds: when they trip, what resets them, and what does not.

use super::*;

const IN_A_ROW: &str = r#"
[[rule]]
name = "a"
code = "A"
job = "dead-letter"
repeated = { in-a-row = 5, per = "campaign", pause = { scope = "campaign" } }

[[rule]]
name = "b"
job = "dead-letter"
"#;

fn trips(decisions: &[Decision]) -> Vec<bool> {
    decisions.iter().map(|decision| decision.pause.is_some()).collect()
}

fn per(per: &str) -> World {
    World::parse(&IN_A_ROW.replace("per = \"campaign\"", &format!("per = \"{per}\"")))
}

#[test]
fn trips_when_nothing_ever_succeeded() {
    let mut world = World::parse(IN_A_ROW);
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 6)), [false, false, false, false, true, true]);
}

#[test]
fn trips_as_soon_after_a_long_history_of_successes() {
    let mut world = World::parse(IN_A_ROW);
    world.repeat(&subject(), &accepted(), 100_000);
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 5)), [false, false, false, false, true]);
}

#[test]
fn a_success_resets_and_other_refusals_do_not() {
    let mut world = World::parse(IN_A_ROW);
    world.repeat(&subject(), &refused("A", 400), 4);
    world.repeat(&subject(), &refused("B", 400), 3);
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 1)), [true]);
    world.decide(&subject(), &accepted());
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 5)), [false, false, false, false, true]);
}

#[test]
fn a_failed_probe_trips_at_once_however_long_the_pause() {
    let mut world = World::parse(IN_A_ROW);
    world.repeat(&subject(), &refused("A", 400), 5);
    world.now += jiff::SignedDuration::from_hours(48);
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 1)), [true]);
}

#[test]
fn a_person_who_resumes_starts_the_count_anew() {
    let mut world = World::parse(IN_A_ROW);
    world.repeat(&subject(), &refused("A", 400), 5);
    world.history.forget(&crate::campaign::PauseTarget::Account("main".parse().unwrap()));
    world.history.forget(&crate::campaign::PauseTarget::Campaign("other".parse().unwrap()));
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 1)), [true]);
    world.history.forget(&crate::campaign::PauseTarget::Campaign("spring".parse().unwrap()));
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 5)), [false, false, false, false, true]);
}

#[test]
fn resuming_an_account_starts_its_countries_anew() {
    let mut world = per("country");
    world.repeat(&subject(), &refused("A", 400), 4);
    world.history.forget(&crate::campaign::PauseTarget::Account("main".parse().unwrap()));
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 1)), [false]);
}

#[test]
fn campaigns_accounts_and_countries_count_apart() {
    let base = subject();
    let campaign = Subject { campaign: "other".parse().unwrap(), ..base.clone() };
    let account = Subject { account: "second".parse().unwrap(), campaign: "third".parse().unwrap(), ..base.clone() };
    let country = Subject { to: "4915112345678".parse().unwrap(), ..base.clone() };
    let same_country = Subject { to: "905331112233".parse().unwrap(), ..campaign.clone() };
    for (scope, subject, shares) in [
        ("campaign", &campaign, false),
        ("campaign", &country, true),
        ("account", &campaign, true),
        ("account", &account, false),
        ("country", &country, false),
        ("country", &same_country, true),
        ("country", &account, false),
    ] {
        let mut world = per(scope);
        world.repeat(&base, &refused("A", 400), 4);
        assert_eq!(trips(&world.repeat(subject, &refused("A", 400), 1)), [shares], "{scope} {subject:?}");
    }
}

#[test]
fn a_success_elsewhere_resets_only_what_it_shares() {
    let elsewhere = Subject { campaign: "other".parse().unwrap(), to: "4915112345678".parse().unwrap(), ..subject() };
    for (scope, resets) in [("campaign", false), ("account", true), ("country", false)] {
        let mut world = per(scope);
        world.repeat(&subject(), &refused("A", 400), 4);
        world.decide(&elsewhere, &accepted());
        assert_eq!(trips(&world.repeat(&subject(), &refused("A", 400), 1)), [!resets], "{scope}");
    }
}

const WITHIN: &str = r#"
[[rule]]
name = "fast"
job = { wait = "1s" }
repeated = { count = 3, within = "1m", per = "account", pause = { scope = "account" }, job = "hold", slow-down = { factor = 0.5, length = "5m" }, alert = "info" }
"#;

#[test]
fn a_count_within_a_time_slides_and_successes_do_not_reset_it() {
    let mut world = World::parse(WITHIN);
    let mut steps = Vec::new();
    for wait in [0, 29, 30, 0, 1, 60, 20, 20, 100] {
        world.now += jiff::SignedDuration::from_secs(wait);
        world.decide(&subject(), &accepted());
        steps.push(world.decide(&subject(), &refused("A", 429)).pause.is_some());
    }
    // seconds:           0      29     59    59    60    120    140    160   260
    assert_eq!(steps, [false, false, true, true, true, false, false, true, false]);
}

#[test]
fn what_is_as_old_as_the_time_no_longer_counts() {
    for (wait, trips) in [(59, true), (60, false)] {
        let mut world = World::parse(WITHIN);
        world.repeat(&subject(), &refused("A", 429), 2);
        world.now += jiff::SignedDuration::from_secs(wait);
        assert_eq!(world.decide(&subject(), &refused("A", 429)).pause.is_some(), trips, "{wait} s");
    }
}

#[test]
fn a_wall_clock_set_back_neither_trips_nor_sticks() {
    let mut world = World::parse(WITHIN);
    world.repeat(&subject(), &refused("A", 429), 2);
    world.now -= jiff::SignedDuration::from_hours(24);
    assert_eq!(trips(&world.repeat(&subject(), &refused("A", 429), 3)), [false, false, true]);
}

#[test]
fn what_a_repetition_does_not_change_stays() {
    let mut world = World::parse(WITHIN);
    let all = world.repeat(&subject(), &refused("A", 429), 3);
    assert!(matches!(all[0].job, JobAction::Wait(_)) && all[0].slow_down.is_none() && all[0].alert.is_none());
    assert_eq!(all[2].job, JobAction::Hold);
    assert_eq!(all[2].slow_down.map(|slow_down| slow_down.factor), Some(0.5));
    assert_eq!(all[2].alert, Some(Severity::Info));

    let mut world = World::builtin();
    let all = world.repeat(&subject(), &refused("AUTH_004", 500), 5);
    assert!(matches!(all[4].job, JobAction::Retry(_)), "the job keeps its schedule");
    assert_eq!(all[4].alert, Some(Severity::Critical));
}
