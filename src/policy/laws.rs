//! What holds for any rules file, and for any sequence of replies and resumes under given rules.

mod model;

use std::sync::LazyLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng;

use self::model::Model;
use super::{ACCEPTED, Decision, History, JobAction, NO_RULE, Rule, Rules, Subject, decide};
use crate::campaign::{JobState, OnUnknown, Pause, PauseTarget};
use crate::dice::Dice;
use crate::gateway::{Refusal, Reply, Trouble, TroubleKind};
use crate::job::MessageKind;
use crate::laws::{Choices, lies_within};
use crate::outcome::{Outcome, Settle, UNKNOWN_OUTCOME, later, outcome};

/// Any text is a rules file or is refused with every mistake at its place; rules that are read tell themselves in words and decide.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Rules::parse(text, "own.toml") {
        Err(mistakes) => {
            assert!(!mistakes.list().is_empty());
            let places: Vec<_> = mistakes.list().iter().map(|mistake| (mistake.line, mistake.column)).collect();
            assert!(places.is_sorted(), "{mistakes}");
            for mistake in mistakes.list() {
                assert!(lies_within(text, mistake.line, mistake.column), "{mistakes}");
                assert!(!mistake.text.is_empty() && !mistake.text.contains('\n'), "{mistakes}");
            }
            assert!(mistakes.to_string().starts_with("own.toml:"));
        }
        Ok(rules) => {
            let names: std::collections::BTreeSet<_> = rules.iter().map(|rule| &*rule.name).collect();
            assert!(!names.is_empty() && names.len() == rules.iter().count(), "names are unique");
            for rule in rules.iter() {
                assert!(!rule.when.to_string().is_empty() && !rule.job.to_string().is_empty());
                assert!(rule.repeated.as_ref().is_none_or(|repeated| !repeated.to_string().is_empty()));
            }
            run(&rules, &mut Choices::new(bytes), 40);
        }
    }
}

/// Under any sequence of replies, successes, resumes and clock jumps: no wait shorter than the gateway asks, nothing that may have
/// been sent tried again by itself, thresholds met exactly, a pause never shortened, and every outcome whole.
pub fn events(bytes: &[u8]) {
    static SETS: LazyLock<Vec<Rules>> = LazyLock::new(|| {
        let read = |text| Rules::parse(text, "t.toml").unwrap_or_else(|mistakes| panic!("{mistakes}"));
        vec![Rules::builtin(), read(THRESHOLDS), read(RECKLESS), Rules::default()]
    });
    let mut choices = Choices::new(bytes);
    let Some(rules) = SETS.get(usize::from(choices.below(4))) else { return };
    let start = choices.rest();
    let first = run(rules, &mut Choices::new(start), 400);
    assert_eq!(first, run(rules, &mut Choices::new(start), 400), "the same replies, the same decisions");
}

const THRESHOLDS: &str = r#"
[[rule]]
name = "row-campaign"
code = "C1"
job = { retry = ["1s", "5s", "60s"] }
repeated = { in-a-row = 2, per = "campaign", pause = { scope = "campaign", length = "1m" }, alert = "warning" }
[[rule]]
name = "row-country"
code = "C2"
job = "suppress"
repeated = { in-a-row = 3, per = "country", job = "hold", pause = { scope = "account", length = "5m", probe = true } }
[[rule]]
name = "within-account"
http = 429
job = { wait = "retry-after" }
hold-account = "retry-after"
repeated = { count = 3, within = "30s", per = "account", pause = { scope = "account" }, alert = "critical" }
[[rule]]
name = "within-campaign"
kind = "unknown"
job = { unknown = ["1s", "2s"] }
repeated = { count = 2, within = "10s", per = "campaign", slow-down = { factor = 0.5, length = "1m" } }
[[rule]]
name = "others"
job = { wait = "10s" }
pause = { scope = "campaign", length = "10s" }
hold-account = "2s"
"#;

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

fn run(rules: &Rules, choices: &mut Choices<'_>, most: usize) -> Vec<Decision> {
    let (mut history, mut model, mut dice) = (History::default(), Model::default(), Dice::seed_from_u64(3));
    let mut now = Timestamp::UNIX_EPOCH;
    let mut pause: Option<Pause> = None;
    let mut decisions = Vec::new();
    while !choices.is_empty() && decisions.len() < most {
        now = step(choices, now);
        let subject = subject(choices);
        if choices.below(16) == 15 {
            let target = match choices.flag() {
                true => PauseTarget::Account(subject.account),
                false => PauseTarget::Campaign(subject.campaign),
            };
            history.forget(&target);
            model.forget(&target);
            continue;
        }
        let reply = reply(choices);
        let decision = decide(rules, &mut history, &subject, &reply, now, &mut dice);
        let rule = rules.find(&subject, &reply);
        let repeated = model.take(rule, &subject, &reply, now);
        check_rule(&decision, rule, &reply, repeated);
        check_decision(&decision, &reply);
        for on_unknown in [OnUnknown::Park, OnUnknown::Resend] {
            let outcome = outcome(&subject, &reply, &decision, on_unknown, now);
            check_outcome(&outcome, &subject, &reply, &decision, on_unknown, now);
            pause = check_pause(pause, outcome.pause.map(|(_, pause)| pause));
        }
        decisions.push(decision);
    }
    decisions
}

fn step(choices: &mut Choices<'_>, now: Timestamp) -> Timestamp {
    let seconds = choices.pick(&[0, 0, 1, 5, 9, 10, 29, 30, 31, 59, 60, 3600, 90_000, -1, -40, -90_000]).unwrap_or(0);
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

fn subject(choices: &mut Choices<'_>) -> Subject {
    let bits = choices.byte();
    let name = |bit: u8, yes: &str, no: &str| if bits & bit == 0 { no } else { yes }.to_owned();
    let read = || {
        Some((
            name(1, "a1", "a2").parse().ok()?,
            name(2, "c1", "c2").parse().ok()?,
            name(4, "905321234567", "4915112345678").parse().ok()?,
        ))
    };
    let Some((account, campaign, to)) = read() else { panic!("names that are none") };
    let message = if bits & 8 == 0 { MessageKind::Template } else { MessageKind::Text };
    Subject { account, campaign, to, message, mmlite: bits & 16 != 0, attempts: u32::from(choices.below(9)) }
}

fn reply(choices: &mut Choices<'_>) -> Reply {
    const TROUBLES: [TroubleKind; 7] = [
        TroubleKind::Dns,
        TroubleKind::Connect,
        TroubleKind::Tls,
        TroubleKind::Unavailable,
        TroubleKind::Timeout,
        TroubleKind::Reset,
        TroubleKind::Body,
    ];
    let kind = choices.below(8);
    let retry_after = choices.pick(&[None, None, Some(1), Some(30), Some(3600)]).flatten().map(Duration::from_secs);
    let trouble = |choices: &mut Choices<'_>| Trouble {
        kind: choices.pick(&TROUBLES).unwrap_or(TroubleKind::Dns),
        http_status: choices.pick(&[None, Some(500), Some(502), Some(503)]).flatten(),
        detail: "it broke".into(),
        retry_after,
    };
    match kind {
        0 | 1 => Reply::Accepted { wamid: "wamid.X".into() },
        2 => Reply::Unreachable(trouble(choices)),
        3 => Reply::Unknown(trouble(choices)),
        _ => {
            let codes = [
                "", "C1", "C2", "GW_001", "RATE_001", "BILL_001", "AUTH_001", "AUTH_004", "SEC_001", "WABA_001", "WH_001",
                "NEW_9",
            ];
            let code = choices.pick(&codes).filter(|code| !code.is_empty()).map(str::to_owned);
            let meta =
                choices.pick(&[None, None, Some(131_026), Some(131_049), Some(131_056), Some(130_429), Some(132_001), Some(1)]);
            let http_status = choices.pick(&[200, 400, 401, 402, 413, 429, 500, 502, 599]).unwrap_or(400);
            let description = choices.pick(&["", "Rate limit exceeded", "Message undeliverable", "template does not exist"]);
            let description = description.unwrap_or_default().to_owned();
            Reply::Refused(Refusal { code, meta: meta.flatten(), http_status, description, retry_after })
        }
    }
}

fn asked(reply: &Reply) -> Duration {
    match reply {
        Reply::Accepted { .. } => None,
        Reply::Refused(refusal) => refusal.retry_after,
        Reply::Unreachable(trouble) | Reply::Unknown(trouble) => trouble.retry_after,
    }
    .unwrap_or_default()
}

/// What does not depend on the job is what the rule says, or, once repeated, what it says then.
fn check_rule(decision: &Decision, rule: Option<&Rule>, reply: &Reply, repeated: bool) {
    let Some(rule) = rule else {
        let expected = if matches!(reply, Reply::Accepted { .. }) { JobAction::Sent } else { JobAction::DeadLetter };
        assert_eq!((decision.job, decision.pause, decision.hold_account), (expected, None, None));
        return assert_eq!(&*decision.rule == NO_RULE, expected == JobAction::DeadLetter);
    };
    let then = rule.repeated.as_ref().filter(|_| repeated);
    assert_eq!(decision.rule, rule.name);
    assert_eq!(decision.pause, then.and_then(|then| then.pause).or(rule.pause), "{} repeated: {repeated}", rule.name);
    assert_eq!(decision.slow_down, then.and_then(|then| then.slow_down).or(rule.slow_down));
    assert_eq!(decision.alert, then.and_then(|then| then.alert).or(rule.alert));
    assert_eq!(decision.hold_account.is_some(), rule.hold_account.is_some());
}

fn check_decision(decision: &Decision, reply: &Reply) {
    assert_eq!(matches!(reply, Reply::Accepted { .. }), decision.job == JobAction::Sent);
    assert_eq!(decision.job == JobAction::Sent, &*decision.rule == ACCEPTED);
    if let JobAction::Retry(wait) | JobAction::Wait(wait) | JobAction::Unknown { retry: Some(wait) } = decision.job {
        assert!(wait >= asked(reply), "never earlier than the gateway asks: {decision:?}");
    }
    assert!(decision.hold_account.is_none_or(|hold| hold >= asked(reply)), "{decision:?}");
    if matches!(reply, Reply::Unknown(_)) {
        let left = matches!(decision.job, JobAction::Unknown { .. } | JobAction::DeadLetter | JobAction::Suppress);
        assert!(left, "what may have been sent is left to the campaign: {decision:?}");
    }
}

fn check_outcome(
    outcome: &Outcome,
    subject: &Subject,
    reply: &Reply,
    decision: &Decision,
    on_unknown: OnUnknown,
    now: Timestamp,
) {
    let one_less = subject.attempts.saturating_sub(1);
    let uses_none = matches!(decision.job, JobAction::Wait(_) | JobAction::Hold);
    assert_eq!(outcome.attempts, if uses_none { one_less } else { subject.attempts });
    match (&outcome.state, &outcome.settle) {
        (JobState::Sent { .. }, Settle::Ack) => assert_eq!(decision.job, JobAction::Sent),
        (JobState::Delayed { until }, Settle::Delay(wait)) => assert_eq!(*until, later(now, *wait)),
        (JobState::Dead(ledger), Settle::Dead(broker)) => {
            assert_eq!((ledger, ledger.at), (broker, now));
            assert_eq!(ledger.may_have_been_sent, matches!(reply, Reply::Unknown(_)));
        }
        (JobState::Waiting, Settle::Return) => assert_eq!(decision.job, JobAction::Hold),
        pair => panic!("ledger and broker are told different things: {pair:?}"),
    }
    assert!(!outcome.suppress || matches!(outcome.settle, Settle::Dead(_)));
    if matches!(reply, Reply::Unknown(_)) && on_unknown == OnUnknown::Park {
        let Settle::Dead(death) = &outcome.settle else { panic!("not parked: {outcome:?}") };
        assert!(death.reason == UNKNOWN_OUTCOME || death.reason == *decision.rule);
    }
    assert_eq!(outcome.alert.is_some(), decision.alert.is_some());
    assert_eq!((outcome.hold_account, outcome.slow_down), (decision.hold_account, decision.slow_down));
    let expected = decision.pause.map(|order| (order.scope, order.length.map(|length| later(now, length)), order.probe));
    assert_eq!(outcome.pause.as_ref().map(|(scope, pause)| (*scope, pause.until, pause.probe)), expected);
}

/// The two merged end no earlier than either and begin no later.
fn check_pause(old: Option<Pause>, new: Option<Pause>) -> Option<Pause> {
    let (Some(old), Some(new)) = (&old, &new) else { return old.or(new) };
    let merged = old.clone().merge(new.clone());
    let end = |pause: &Pause| pause.until.unwrap_or(Timestamp::MAX);
    assert_eq!(end(&merged), end(old).max(end(new)), "a shorter pause never shortens a longer one");
    assert_eq!(merged.since, old.since.min(new.since));
    Some(merged)
}
