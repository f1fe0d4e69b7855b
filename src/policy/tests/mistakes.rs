//! What is wrong with a rules file: everything at once, where it stands, and what to write instead.

use super::*;

fn mistakes(text: &str) -> String {
    match Rules::parse(text, "p.toml") {
        Ok(_) => "none".into(),
        Err(mistakes) => mistakes.to_string(),
    }
}

#[test]
fn every_mistake_at_once_with_line_and_column() {
    let text = r#"
colour = "red"

[[rule]]
name = "Balance Gone"
code = "BILL 001"
job = "holdd"
alert = "loud"
jobs = 1

[[rule]]
name = "twice"
meta = [131026, -1, "299-200", "x"]
http = 99
job = { retry = ["30", 30, "0s"] }

[[rule]]
name = "twice"
description = "(unclosed"
job = { wait = "-1s", hold = true }
mmlite = "yes"
message = ["text", "fax"]

[[rule]]
name = "é"
job = { retry = ["1s"], wait = "1s" }
pause = { scope = "planet", probe = true }
slow-down = { factor = 1.5 }
hold-account = 5
repeated = { in-a-row = 5, count = 3 }
advice = "ask {nobody}"

[[rule]]
job = { retry = [] }
repeated = { in-a-row = 0, per = "campaign" }
code = []
"#;
    insta::assert_snapshot!(mistakes(text), @r#"
    p.toml:2:1: unknown key "colour"; a rules file may have rule
    p.toml:5:8: "Balance Gone" is no rule name; write 1 to 64 of a-z 0-9 -
    p.toml:6:8: "BILL 001" is no gateway code; write for example "BILL_001", or "WH_*" for all of a kind
    p.toml:7:7: "holdd" is nothing a job can do; write "hold", "dead-letter", "suppress", { retry = ["30s", "5m"] }, { wait = "retry-after" } or { unknown = ["1m"] }
    p.toml:8:9: unknown word "loud", expected one of "info", "warning", "critical"
    p.toml:9:1: unknown key "jobs"; a rule may have name, kind, code, meta, http, trouble, description, mmlite, message, job, pause, hold-account, slow-down, alert, repeated, advice
    p.toml:13:17: -1 is not between 0 and 4294967295
    p.toml:13:21: "299-200" is no Meta code range; write a number, or "from-to" within 0 to 4294967295, for example "200-299"
    p.toml:13:32: "x" is no Meta code range; write a number, or "from-to" within 0 to 4294967295, for example "200-299"
    p.toml:14:8: 99 is not between 100 and 599
    p.toml:15:18: "30" is no duration; write a number and a unit, for example 250ms, 30s, 5m, 1h or 7d
    p.toml:15:24: 30 has no unit; write it as text with one, for example "30s"
    p.toml:15:28: a duration of zero; write one above it, for example "1s"
    p.toml:18:8: there is a rule "twice" already; choose another name
    p.toml:19:15: this is no usable regular expression: unclosed group
    p.toml:20:16: "-1s" is no duration; write a number and a unit, for example 250ms, 30s, 5m, 1h or 7d
    p.toml:20:23: unknown key "hold"; job may have retry, wait, unknown
    p.toml:21:10: expected true or false, found a string
    p.toml:22:20: unknown word "fax", expected one of "text", "image", "audio", "document", "template", "interactive"
    p.toml:25:8: "é" is no rule name; write 1 to 64 of a-z 0-9 -
    p.toml:26:7: job is exactly one thing; write "hold", "dead-letter", "suppress", { retry = ["30s", "5m"] }, { wait = "retry-after" } or { unknown = ["1m"] }
    p.toml:27:9: a pause that a person lifts is not followed by a probe; add length, or take probe out
    p.toml:27:19: unknown word "planet", expected "campaign" or "account"
    p.toml:28:13: slow-down needs length; write length = "5m"
    p.toml:28:24: a factor is above 0 and below 1, 1.5 is not; 0.5 halves the rate
    p.toml:29:16: 5 has no unit; write it as text with one, for example "5s"
    p.toml:30:12: repeated needs either in-a-row = 5, or both count = 10 and within = "1m"
    p.toml:30:12: repeated needs per; write per = "campaign", "account" or "country"
    p.toml:30:12: repeated changes nothing; add job, pause, slow-down or alert
    p.toml:31:10: advice may hold {account} and {campaign}, and no other braces
    p.toml:33:1: a rule needs name; write name = "what-it-is-about"
    p.toml:34:17: a schedule has 1 to 50 delays, here are 0
    p.toml:35:12: repeated changes nothing; add job, pause, slow-down or alert
    p.toml:35:25: 0 is not between 1 and 1000
    p.toml:36:8: an empty list matches nothing; leave the key out to match all
    "#);
}

#[test]
fn syntax_is_told_with_line_and_column_too() {
    insta::assert_snapshot!(mistakes("[[rule]]\nname = \"a\njob = \"hold\"\n\n[[rule]\nname = 1 2\n"), @r#"
    p.toml:2:10: this is not TOML: invalid basic string, expected `"`
    p.toml:5:8: this is not TOML: unclosed array table, expected `]`
    "#);
}

#[test]
fn what_can_never_match_is_refused() {
    let text = r#"
[[rule]]
name = "all-of-meta"
code = "GW_*"
job = "dead-letter"

[[rule]]
name = "hidden"
code = ["GW_001", "GW_002"]
meta = 131026
job = "hold"

[[rule]]
name = "contradiction"
kind = "unknown"
code = "BILL_001"
job = "hold"
"#;
    insta::assert_snapshot!(mistakes(text), @"p.toml:15:8: only a refusal has code or meta; a rule with them matches nothing else: take this out");
    insta::assert_snapshot!(mistakes(&text.replace("kind = \"unknown\"", "")), @r#"p.toml:7:1: rule "hidden" can never decide: "all-of-meta" above it matches all it would; move it up, or say more in "all-of-meta""#);
    insta::assert_snapshot!(mistakes("[[rule]]\nname = \"a\"\nkind = \"refused\"\ntrouble = \"timeout\"\njob = \"hold\""), @r#"p.toml:3:8: a refusal has no trouble; a rule with trouble matches none: take "refused" out"#);
}

#[test]
fn a_rule_is_hidden_only_by_one_that_matches_all_it_would() {
    let rule = |name: &str, when: &str| format!("[[rule]]\nname = \"{name}\"\n{when}\njob = \"hold\"\n");
    for (above, below, hidden) in [
        ("", "", true),
        ("", "kind = \"unknown\"", true),
        ("kind = \"refused\"", "meta = 3", true),
        ("kind = \"unknown\"", "meta = 3", false),
        ("meta = \"200-299\"", "meta = [201, \"210-220\"]", true),
        ("meta = \"200-299\"", "meta = [201, 300]", false),
        ("http = 500", "http = \"500-599\"", false),
        ("code = \"A_1\"", "code = \"A_*\"", false),
        ("code = \"A*\"", "code = \"A_*\"", true),
        ("code = \"A_1\"", "code = \"A_1\"\nmmlite = true", true),
        ("code = \"A_1\"\nmmlite = true", "code = \"A_1\"", false),
        ("code = \"A_1\"\nmmlite = true", "code = \"A_1\"\nmmlite = false", false),
        ("code = \"A_1\"\ndescription = \"x\"", "code = \"A_1\"\ndescription = \"y\"", false),
        ("code = \"A_1\"\ndescription = \"x\"", "code = \"A_1\"\ndescription = \"x\"", true),
        ("message = \"text\"", "message = [\"text\", \"image\"]", false),
        ("message = \"text\"", "message = \"image\"", false),
        ("trouble = [\"timeout\", \"reset\"]", "trouble = \"reset\"", true),
        ("trouble = \"timeout\"", "trouble = \"reset\"", false),
    ] {
        let text = rule("a", above) + &rule("b", below);
        let told = mistakes(&text).contains("can never decide");
        assert_eq!(told, hidden, "{above:?} above {below:?}: {}", mistakes(&text));
    }
}

#[test]
fn a_regex_is_bounded() {
    insta::assert_snapshot!(mistakes("[[rule]]\nname = \"a\"\ndescription = '\\w{1000}{1000}'\njob = \"hold\""), @"p.toml:3:15: this is no usable regular expression: Compiled regex exceeds size limit of 65536 bytes.");
}

#[test]
fn a_file_without_rules_is_no_policy() {
    insta::assert_snapshot!(mistakes(""), @"p.toml:1:1: there is no rule; write [[rule]] and below it name, what it matches, and job");
    insta::assert_snapshot!(mistakes("rule = 3"), @"p.toml:1:8: expected [[rule]] tables, found an integer");
    insta::assert_snapshot!(mistakes("rule = []"), @"p.toml:1:1: there is no rule; write [[rule]] and below it name, what it matches, and job");
    insta::assert_snapshot!(mistakes("rule = [7]"), @"p.toml:1:9: expected a [[rule]] table, found an integer");
}

#[test]
fn a_name_is_short_and_nobody_elses() {
    let told = |name: &str| mistakes(&format!("[[rule]]\nname = \"{name}\"\njob = \"hold\""));
    assert_eq!(told(&"n".repeat(64)), "none");
    for name in ["".to_owned(), "n".repeat(65), "accepted".to_owned(), "no-rule-matched".to_owned()] {
        assert!(told(&name).starts_with(&format!("p.toml:2:8: {name:?} is ")), "{}", told(&name));
    }
}

#[test]
fn a_job_that_says_nothing_is_refused() {
    let told = |job: &str| mistakes(&format!("[[rule]]\nname = \"a\"\njob = {job}"));
    assert!(told("{}").contains("job is exactly one thing"), "{}", told("{}"));
    assert_eq!(told("{ hold = true }"), "p.toml:3:9: unknown key \"hold\"; job may have retry, wait, unknown");
}

#[test]
fn a_thousand_rules_are_enough() {
    let rules =
        |count: u32| (0..count).map(|n| format!("[[rule]]\nname = \"r{n}\"\nmeta = {n}\njob = \"hold\"\n")).collect::<String>();
    assert_eq!(mistakes(&rules(1000)), "none");
    insta::assert_snapshot!(mistakes(&rules(1001)), @"p.toml:1:1: more than 1000 rules; one with lists can stand for many");
}

#[test]
fn a_factor_slows_down_and_does_not_stop() {
    for factor in ["0", "1", "0.0", "1.0", "-0.5", "nan"] {
        let text = format!("[[rule]]\nname = \"a\"\njob = \"hold\"\nslow-down = {{ factor = {factor}, length = \"5m\" }}");
        assert!(mistakes(&text).contains("a factor is above 0 and below 1"), "{}", mistakes(&text));
    }
}

#[test]
fn a_code_is_as_long_as_one_may_be() {
    let told = |code: &str| mistakes(&format!("[[rule]]\nname = \"a\"\ncode = \"{code}\"\njob = \"hold\""));
    assert_eq!(told(&"C".repeat(64)), "none");
    assert_eq!(told(&("C".repeat(64) + "*")), "none");
    for code in ["", "*", &"C".repeat(65)] {
        assert!(told(code).contains("is no gateway code"), "{}", told(code));
    }
}
