//! Rules and decisions as people read them, in `campaignd policy` and `campaignd check`.

use std::time::Duration;

use super::*;

/// The rules of a file, a line per thing one says of itself.
fn told(text: &str) -> String {
    let rules = World::parse(text).rules;
    let mut lines = Vec::new();
    for rule in rules.iter() {
        lines.push(format!("{}: {}", rule.when, rule.job));
        lines.extend(rule.pause.map(|pause| format!("  pauses {pause}")));
        lines.extend(rule.slow_down.map(|slow_down| format!("  slows down {slow_down}")));
        lines.extend(rule.repeated.as_ref().map(|repeated| format!("  {repeated}")));
    }
    lines.join("\n")
}

#[test]
fn what_a_rule_matches_names_every_condition_and_no_other() {
    let text = r#"
[[rule]]
name = "codes"
code = ["AUTH_004", "WH_*"]
job = "hold"

[[rule]]
name = "numbers"
meta = [3, "200-299"]
http = [400, "500-599"]
job = "hold"

[[rule]]
name = "way"
kind = ["unreachable", "unknown"]
trouble = ["dns", "timeout"]
job = "hold"

[[rule]]
name = "mmlite"
mmlite = true
message = ["template", "text"]
job = "hold"

[[rule]]
name = "no-mmlite"
mmlite = false
description = "not registered"
job = "hold"

[[rule]]
name = "rest"
job = "hold"
"#;
    insta::assert_snapshot!(told(text), @"
    AUTH_004, WH_*: hold
    Meta 3, 200-299; HTTP 400, 500-599: hold
    unreachable, unknown; dns, timeout: hold
    by mmlite; template, text message: hold
    text like /not registered/; not by mmlite: hold
    anything: hold
    ");
}

#[test]
fn what_a_rule_does_is_said_in_full() {
    let text = r#"
[[rule]]
name = "retry"
code = "A"
job = { retry = ["30s", "5m"] }
pause = { scope = "campaign", length = "1m", probe = true }
repeated = { in-a-row = 5, per = "campaign", job = "hold", pause = { scope = "account" }, alert = "critical" }

[[rule]]
name = "wait"
code = "B"
job = { wait = "5s" }
slow-down = { factor = 0.5, length = "5m" }
repeated = { count = 10, within = "1m", per = "country", slow-down = { factor = 0.25, length = "1h" }, alert = "info" }

[[rule]]
name = "asked"
code = "C"
job = { wait = "retry-after" }
repeated = { in-a-row = 2, per = "account", alert = "warning" }

[[rule]]
name = "suppress"
code = "D"
job = "suppress"

[[rule]]
name = "resend"
trouble = "timeout"
job = { unknown = ["5s", "1m"] }

[[rule]]
name = "park"
kind = "unknown"
job = { unknown = [] }

[[rule]]
name = "rest"
job = "dead-letter"
"#;
    insta::assert_snapshot!(told(text), @"
    A: retry after 30s, 5m; then dead-letter
      pauses campaign for 1m, then one job at a time until one succeeds
      after 5 in a row per campaign: hold, pause account until resumed, alert critical
    B: wait 5s, no attempt used
      slows down to 50 % of the rate for 5m
      after 10 within 1m per country: slow down to 25 % of the rate for 1h, alert info
    C: wait retry_after, no attempt used
      after 2 in a row per account: alert warning
    D: dead-letter, and suppress the recipient
    timeout: by on_unknown; resend after 5s, 1m
    unknown: dead-letter as outcome unknown
    anything: dead-letter
    ");
}

#[test]
fn a_decision_says_how_long_in_round_numbers() {
    let millis = Duration::from_millis;
    let retry = |length| JobAction::Retry(length).to_string();
    assert_eq!(retry(Duration::from_nanos(850_123_456)), "The job is tried again after 850ms; the attempt counts.");
    assert_eq!(retry(millis(9_999)), "The job is tried again after 9s 999ms; the attempt counts.");
    assert_eq!(retry(millis(10_000)), "The job is tried again after 10s; the attempt counts.");
    assert_eq!(retry(millis(10_999)), "The job is tried again after 10s; the attempt counts.");
    assert_eq!(retry(millis(240_300)), "The job is tried again after 4m; the attempt counts.");
}
