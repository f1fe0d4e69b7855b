//! Delays: within their bounds, and the same for the same seed.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn retry_delays_stay_within_their_bounds(listed in 1u64..100_000, asked in 0u64..3600, seed in any::<u64>()) {
        let text = format!("[[rule]]\nname = \"r\"\njob = {{ retry = [\"{listed}s\"] }}");
        let mut world = World { dice: Dice::seed_from_u64(seed), ..World::parse(&text) };
        let (listed, asked) = (Duration::from_secs(listed), Duration::from_secs(asked));
        let reply = Reply::Refused(Refusal { http_status: 503, retry_after: Some(asked), ..Refusal::default() });
        let JobAction::Retry(delay) = world.decide(&subject(), &reply).job else { panic!() };
        prop_assert!(delay >= asked && delay >= listed.mul_f64(0.8) && delay <= listed.max(asked), "{:?}", delay);
    }
}

#[test]
fn with_no_rule_at_all_nothing_is_lost_and_a_person_is_told() {
    let mut world = World::new(Rules::default());
    let decision = world.decide(&subject(), &refused("BILL_001", 402));
    assert_eq!((&*decision.rule, decision.job, decision.alert), (NO_RULE, JobAction::DeadLetter, Some(Severity::Warning)));
    assert!(decision.advice.contains("`campaignd policy explain`"), "{}", decision.advice);
}

#[test]
fn one_seed_always_gives_the_same_delays() {
    let delays = || World::builtin().repeat(&subject(), &refused("AUTH_004", 500), 5);
    assert_eq!(delays(), delays());
}
