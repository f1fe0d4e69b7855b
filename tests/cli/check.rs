//! `campaignd check`: what it says and how it ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use crate::process::{Simulator, campaignd, free_port};
use crate::support::{RabbitNode, User};

/// A configuration with the embedded broker, a key and a state directory.
fn config(dir: &Path, base_url: &str, more: &str) -> String {
    std::fs::write(dir.join("key"), "sk_test\n").unwrap();
    let path = dir.join("campaignd.toml");
    let text = format!(
        "[broker]\nkind = \"embedded\"\n[gateway]\nbase-url = {base_url:?}\n[accounts.main]\nkey-file = \"key\"\n\
         [state]\ndir = \"state\"\n[admin]\nlisten = \"127.0.0.1:{}\"\n{more}",
        free_port()
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn check(config: &str, args: &[&str]) -> Output {
    campaignd().args(["check", "--config", config]).args(args).output().unwrap()
}

fn code_and_text(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn all_is_well_with_a_probe() {
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(dir.path(), &[]);
    let config = config(dir.path(), &simulator.base_url, "");
    let (code, text) = code_and_text(&check(&config, &["--probe", "main", "--to", "905321234567"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("accepted as is_fake") && text.contains("All well."), "{text}");
    assert!(!dir.path().join("state").exists(), "a check leaves nothing behind");
}

#[test]
fn a_refused_probe_says_what_the_policy_makes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(dir.path(), &["--balance", "0"]);
    let config = config(dir.path(), &simulator.base_url, "");
    let (code, text) = code_and_text(&check(&config, &["--probe", "main", "--to", "905321234567"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("BILL_001 (HTTP 402)") && text.contains("rule balance-gone would decide"), "{text}");
    assert!(!text.contains("905321234567") && !text.contains("sk_test"), "{text}");
}

#[test]
fn what_cannot_be_reached_is_69() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let (code, text) = code_and_text(&check(&config(dir.path(), &nobody, ""), &[]));
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("gateway") && text.contains("Connection refused"), "{text}");
    let (code, text) = code_and_text(&check(&config(dir.path(), &nobody, ""), &["--offline"]));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_rabbitmq_that_is_not_there_is_69_and_the_password_stays_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(dir.path(), &[]);
    let config = config(dir.path(), &simulator.base_url, "");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("kind = \"embedded\"", &format!("uri = \"amqp://u:hunter2@127.0.0.1:{}/v\"", free_port())),
    )
    .unwrap();
    let (code, text) = code_and_text(&check(&config, &[]));
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("WRONG  broker") && text.contains("cannot be reached") && !text.contains("hunter2"), "{text}");
}

#[test]
fn every_mistake_at_once_is_78() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.toml"), "[[rule]]\nnam = \"x\"\n").unwrap();
    let more = "[policy]\nfile = \"rules.toml\"\n[alerts]\nwebhook-url-file = \"none\"\n[accounts.other]\nkey-env = \"CAMPAIGND_NO_SUCH\"\n";
    let (code, text) = code_and_text(&check(&config(dir.path(), "http://127.0.0.1:1", more), &["--offline"]));
    assert_eq!(code, Some(78), "{text}");
    for says in ["rules.toml", "none cannot be read", "[accounts.other] $CAMPAIGND_NO_SUCH is not set"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let (code, text) = code_and_text(&check(&config(dir.path(), "http://127.0.0.1:1", "[logg]\n[nope]\n"), &[]));
    assert_eq!(code, Some(78));
    assert!(text.contains("`logg`") && text.contains("did you mean `log`?") && text.contains("`nope`"), "{text}");
}

#[test]
fn json_is_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(dir.path(), "http://127.0.0.1:1", "");
    let text = std::fs::read_to_string(&config).unwrap();
    let listen = text.lines().find(|line| line.starts_with("listen")).unwrap();
    std::fs::write(&config, text.replace(listen, &format!("listen = \"{}\"", taken.local_addr().unwrap()))).unwrap();
    let output = check(&config, &["--offline", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["ok"], &value["exit_code"]), (&true.into(), &0.into()), "{value}");
    let admin = value["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == "admin").unwrap();
    assert!(admin["detail"].as_str().unwrap().contains("taken"), "{admin}");
}

#[test]
fn a_probe_needs_a_recipient() {
    let output = campaignd().args(["check", "--probe", "main"]).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("--to"));
}

#[test]
fn a_real_rabbitmq_lets_us_in_or_says_why_not() {
    let node = RabbitNode::shared();
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(dir.path(), &[]);
    let config = config(dir.path(), &simulator.base_url, "");
    let text = std::fs::read_to_string(&config).unwrap().replace("kind = \"embedded\"", "kind = \"rabbitmq\"");
    std::fs::write(&config, text).unwrap();
    let with = |uri: &str| {
        let output = campaignd().args(["check", "--config", &config]).env("CAMPAIGND_BROKER_URI", uri).output().unwrap();
        code_and_text(&output)
    };
    let good = node.uri(&node.bare_vhost(), User::Daemon);
    let (code, text) = with(&good);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("RabbitMQ lets us in"), "{text}");
    let (code, text) = with(&good.replace("daemon-secret", "hunter2"));
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("refused the login of user \"campaignd\"") && !text.contains("hunter2"), "{text}");
    let (code, text) = with(&node.uri("no-such-vhost", User::Daemon));
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("no virtual host \"no-such-vhost\""), "{text}");
}
