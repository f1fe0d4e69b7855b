//! What holds for every reply and every rules file.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const TROUBLES: [TroubleKind; 7] = [
    TroubleKind::Dns,
    TroubleKind::Connect,
    TroubleKind::Tls,
    TroubleKind::Unavailable,
    TroubleKind::Timeout,
    TroubleKind::Reset,
    TroubleKind::Body,
];

fn any_wait() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of((0u64..=3600).prop_map(Duration::from_secs))
}

fn any_refusal() -> impl Strategy<Value = Refusal> {
    let codes = ["BILL_001", "RATE_001", "AUTH_004", "GW_001", "SYS_001", "WH_9", "", "Ω"];
    let numbers = prop_oneof![select(vec![0, 1, 2, 131_026, 130_429, 131_056, 132_001, 131_047]), any::<u32>()];
    (proptest::option::of(select(codes.to_vec())), proptest::option::of(numbers), any::<u16>(), ".{0,40}", any_wait()).prop_map(
        |(code, meta, http_status, description, retry_after)| Refusal {
            code: code.map(Into::into),
            meta,
            http_status,
            description,
            retry_after,
        },
    )
}

fn any_trouble() -> impl Strategy<Value = Trouble> {
    (select(TROUBLES.to_vec()), proptest::option::of(any::<u16>()), ".{0,40}", any_wait())
        .prop_map(|(kind, http_status, detail, retry_after)| Trouble { kind, http_status, detail, retry_after })
}

fn any_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        ".{0,9}".prop_map(|wamid| Reply::Accepted { wamid }),
        any_refusal().prop_map(Reply::Refused),
        any_trouble().prop_map(Reply::Unreachable),
        any_trouble().prop_map(Reply::Unknown),
    ]
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let kinds = [MessageKind::Text, MessageKind::Image, MessageKind::Template, MessageKind::Interactive];
    (0u8..3, 0u8..2, 10_000_000u64..999_999_999_999_999, select(kinds.to_vec()), any::<bool>(), any::<u32>()).prop_map(
        |(campaign, account, to, message, mmlite, attempts)| Subject {
            account: format!("account{account}").parse().unwrap(),
            campaign: format!("campaign{campaign}").parse().unwrap(),
            to: to.to_string().parse().unwrap(),
            message,
            mmlite,
            attempts: attempts % 12,
        },
    )
}

fn asked(reply: &Reply) -> Duration {
    match reply {
        Reply::Accepted { .. } => None,
        Reply::Refused(refusal) => refusal.retry_after,
        Reply::Unreachable(trouble) | Reply::Unknown(trouble) => trouble.retry_after,
    }
    .unwrap_or_default()
}

/// Rules that try to do to an unknown outcome what only the campaign may decide.
const RECKLESS: &str = r#"
[[rule]]
name = "wait"
trouble = ["timeout"]
job = { wait = "1s" }
[[rule]]
name = "hold"
trouble = ["reset"]
job = "hold"
[[rule]]
name = "retry"
job = { retry = ["1s"] }
"#;

proptest! {
    #[test]
    fn every_reply_gets_a_sound_decision(
        replies in proptest::collection::vec((any_subject(), any_reply()), 1..60),
        seed in any::<u64>(),
        which in 0..3,
    ) {
        let rules = match which {
            0 => BUILTIN.clone(),
            1 => Rules::default(),
            _ => Rules::parse(RECKLESS, "t.toml").unwrap(),
        };
        let mut world = World { dice: Dice::seed_from_u64(seed), ..World::new(rules) };
        for (subject, reply) in &replies {
            let decision = world.decide(subject, reply);
            let delay = match decision.job {
                JobAction::Retry(delay) | JobAction::Wait(delay) | JobAction::Unknown { retry: Some(delay) } => Some(delay),
                _ => None,
            };
            prop_assert!(delay.is_none_or(|delay| delay >= asked(reply)), "never earlier than the gateway asks");
            prop_assert!(delay.is_none_or(|delay| delay <= Duration::from_secs(3600)), "nor later than schedule or gateway say");
            prop_assert!(decision.hold_account.is_none_or(|held| held >= asked(reply)));
            prop_assert_eq!(matches!(reply, Reply::Accepted { .. }), decision.job == JobAction::Sent);
            if matches!(reply, Reply::Unknown(_)) {
                let left_to_campaign = matches!(decision.job, JobAction::Unknown { .. } | JobAction::DeadLetter);
                prop_assert!(left_to_campaign, "{:?}", decision.job);
            }
            prop_assert_eq!(decision.job == JobAction::Sent, &*decision.rule == ACCEPTED);
        }
    }

    #[test]
    fn retry_delays_stay_within_their_bounds(listed in 1u64..100_000, asked in 0u64..3600, seed in any::<u64>()) {
        let text = format!("[[rule]]\nname = \"r\"\njob = {{ retry = [\"{listed}s\"] }}");
        let mut world = World { dice: Dice::seed_from_u64(seed), ..World::parse(&text) };
        let (listed, asked) = (Duration::from_secs(listed), Duration::from_secs(asked));
        let reply = Reply::Refused(Refusal { http_status: 503, retry_after: Some(asked), ..Refusal::default() });
        let JobAction::Retry(delay) = world.decide(&subject(), &reply).job else { panic!() };
        prop_assert!(delay >= asked && delay >= listed.mul_f64(0.8) && delay <= listed.max(asked), "{:?}", delay);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(\\[\\[rule\\]\\]\n|name|job|=|\"hold\"|\\{|\\}|\n|[ -~]|é){0,80}") {
        let _ = Rules::parse(&text, "t.toml");
    }

    #[test]
    fn damage_to_the_rules_is_read_or_refused_within_the_file(at in 0.0..1.0f64, length in 1usize..200, instead in "[ -~\n]{0,5}") {
        let chars: Vec<char> = BUILTIN_TEXT.chars().collect();
        let from = (at * chars.len() as f64) as usize;
        let to = (from + length).min(chars.len());
        let text: String = chars[..from].iter().copied().chain(instead.chars()).chain(chars[to..].iter().copied()).collect();
        if let Err(mistakes) = Rules::parse(&text, "t.toml") {
            prop_assert!(!mistakes.list().is_empty());
            for mistake in mistakes.list() {
                prop_assert!(mistake.line >= 1 && mistake.line <= text.lines().count() + 1, "{mistake:?}");
                prop_assert!(mistake.column >= 1, "{mistake:?}");
            }
        }
    }
}

#[test]
fn with_no_rule_at_all_nothing_is_lost_and_a_person_is_told() {
    let mut world = World::new(Rules::default());
    let decision = world.decide(&subject(), &refused("BILL_001", 402));
    assert_eq!((&*decision.rule, decision.job, decision.alert), (NO_RULE, JobAction::DeadLetter, Some(Severity::Warning)));
}

#[test]
fn one_seed_always_gives_the_same_delays() {
    let delays = || World::builtin().repeat(&subject(), &refused("AUTH_004", 500), 5);
    assert_eq!(delays(), delays());
}
