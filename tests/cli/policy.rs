//! `campaignd policy`: show and explain.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output};

fn policy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_campaignd")).arg("policy").args(args).env_remove("CAMPAIGND_CONFIG").output().unwrap()
}

fn says(args: &[&str]) -> String {
    let output = policy(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn explain_tells_it_in_sentences() {
    insta::assert_snapshot!(says(&["explain", "--code", "BILL_001"]), @r#"
    Reply:  refused (BILL_001, HTTP 402 assumed)
    Rule:   balance-gone (BILL_001)

    The job goes back to its queue untouched; the attempt does not count.
    Paused: account until resumed.
    A critical alert is raised.

    Advice: The balance is used up. Top it up in the gateway's dashboard, then run `campaignd account resume ACCOUNT`.
    "#);
    insta::assert_snapshot!(says(&["explain", "--code", "AUTH_004", "--attempts", "2"]), @r#"
    Reply:  refused (AUTH_004, HTTP 500 assumed)
    Rule:   authentication-down (AUTH_004)

    The job is tried again after 14s; the attempt counts.
    Delays: 5s, 15s, 1m, 5m, 15m, 1h, 1h, each drawn between 80 % and 100 %; this was attempt 2 of 8.
    A critical alert is raised.
    It changes after 5 in a row per account: pause account for 1m, then one job at a time until one succeeds.

    Advice: The gateway's authentication service fails. It is tried again by itself; if it lasts, ask Connexease.
    "#);
    insta::assert_snapshot!(says(&["explain", "--description", "(#132000) Number of parameters", "--repeated", "3"]), @r#"
    Reply:  refused (GW_001, Meta 132000, HTTP 502 assumed)
    Rule:   template-parameters (Meta 132000, 132008, 132012, 132018)

    The job goes to the dead letters.
    Paused: campaign until resumed.
    A warning alert is raised.
    It changes after 3 in a row per campaign: pause campaign until resumed, alert warning.

    Advice: The values do not fit the template: number, format or content. Compare message file and template; once it is put right, run `campaignd campaign resume CAMPAIGN`.
    "#);
    insta::assert_snapshot!(says(&["explain", "--trouble", "timeout", "--on-unknown", "park"]), @r#"
    Reply:  unknown: it may have been sent (timeout)
    Rule:   outcome-unknown (unknown)

    Nobody knows whether it was sent: the job goes to the dead letters as outcome unknown.
    A warning alert is raised.
    It changes after 10 in a row per account: pause account for 1m.

    Advice: The request left and no proper answer came: it may have been sent. Check before releasing the dead letters (`campaignd dead list CAMPAIGN`).
    "#);
    insta::assert_snapshot!(says(&["explain", "--accepted"]), @r#"
    Reply:  accepted
    Rule:   none is asked

    The job is done: the message was accepted.
    Nobody is alerted.
    "#);
}

#[test]
fn explain_as_json_for_programs() {
    let json: serde_json::Value = serde_json::from_str(&says(&["explain", "--meta", "131057", "--json"])).unwrap();
    assert_eq!(json["rule"], "sender-upgrading");
    assert_eq!(json["job"]["action"], "hold");
    assert_eq!(json["pause"], serde_json::json!({ "scope": "account", "seconds": 60.0, "probe": true }));
    let args = ["explain", "--trouble", "reset", "--on-unknown", "resend", "--json"];
    let json: serde_json::Value = serde_json::from_str(&says(&args)).unwrap();
    assert_eq!(json["job"]["action"], "retry");
    assert!((4.0..=5.0).contains(&json["job"]["delay_seconds"].as_f64().unwrap()));
}

#[test]
fn show_prints_every_rule_in_all_three_forms() {
    let toml = says(&["show", "--toml"]);
    assert_eq!(toml.trim_end(), include_str!("../../config/policy.toml").trim_end());
    let names: Vec<_> = toml.lines().filter_map(|line| line.strip_prefix("name = \"")?.split('"').next()).collect();
    let json: serde_json::Value = serde_json::from_str(&says(&["show", "--json"])).unwrap();
    let in_json: Vec<_> = json["rules"].as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap()).collect();
    assert_eq!(in_json, names);
    let table = says(&["show"]);
    let in_table: Vec<_> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 50 && names.iter().all(|name| in_table.contains(name)));
}

#[test]
fn rules_come_from_the_option_then_from_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let own = file(dir.path(), "own.toml", "[[rule]]\nname = \"from-option\"\njob = \"hold\"\n");
    let other = file(dir.path(), "other.toml", "[[rule]]\nname = \"from-configuration\"\njob = \"hold\"\n");
    let config = file(dir.path(), "campaignd.toml", &format!("[policy]\nfile = {other:?}\n"));
    assert!(says(&["explain", "--code", "X", "--config", &config]).contains("from-configuration"));
    assert!(says(&["explain", "--code", "X", "--config", &config, "--rules", &own]).contains("from-option"));
    assert!(says(&["show", "--rules", &own]).contains("from-option"));
}

#[test]
fn mistakes_end_with_code_78_and_a_wrong_command_line_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = file(dir.path(), "wrong.toml", "[[rule]]\nname = \"x\"\njob = \"hold\"\nalert = \"loud\"\njobs = 1\n");
    let output = policy(&["show", "--rules", &wrong]);
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("{wrong}:4:9: ")) && told.contains(&format!("{wrong}:5:1: ")), "{told}");
    assert_eq!(policy(&["show", "--rules", "/nowhere/x.toml"]).status.code(), Some(78));
    assert_eq!(policy(&["explain"]).status.code(), Some(64));
    assert_eq!(policy(&["explain", "--retry-after", "1m"]).status.code(), Some(64));
    assert_eq!(policy(&["explain", "--accepted", "--code", "X"]).status.code(), Some(64));
}
