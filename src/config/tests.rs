//! What the operator sees of a wrong configuration, and that the documented file says what the code does.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::pacer::{Limits, Pace, Plan, Reserve};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Some(Path::new("/etc/campaignd/campaignd.toml")))
}

fn mistakes(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_whole() {
    let config = defaults();
    assert_eq!(config.broker.kind, BrokerKind::RabbitMq);
    assert_eq!(config.gateway.limits, Limits { second: Some(80), minute: Some(4800) });
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:7878");
    assert_eq!(config.state.dir, Path::new("/var/lib/campaignd"));
    assert!(config.accounts.is_empty());
    assert!(config.broker_uri(&|_| None).is_ok());
}

#[test]
fn every_example_in_the_documented_file_is_a_key() {
    let mut all = String::new();
    for line in BUILTIN.lines() {
        let key = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        let alternative =
            ["uri-", "key-credential", "key-env", "webhook-url-"].iter().any(|name| key.is_some_and(|k| k.starts_with(name)));
        match key {
            Some(_) if alternative => {}
            Some(key) => writeln!(all, "{key}").unwrap(),
            None => writeln!(all, "{line}").unwrap(),
        }
    }
    let config = parse(&all).unwrap();
    assert_eq!(config.default_account().unwrap().as_str(), "main");
    for alternative in ["uri-file = \"x\"", "uri-credential = \"x\""] {
        parse(&format!("[broker]\n{alternative}")).unwrap();
    }
    for alternative in ["key-credential = \"main.key\"", "key-env = \"CAMPAIGND_KEY_MAIN\""] {
        parse(&format!("[accounts.main]\n{alternative}")).unwrap();
    }
    for alternative in ["webhook-url-file = \"x\"", "webhook-url-credential = \"x\""] {
        parse(&format!("[alerts]\n{alternative}")).unwrap();
    }
}

#[test]
fn every_line_of_the_documented_file_is_explained() {
    let mut explained = false;
    for (number, line) in BUILTIN.lines().enumerate() {
        let is_key = line.trim_start_matches('#').split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        assert!(!is_key || explained, "line {} has no comment above it", number + 1);
        explained = line.starts_with("# ");
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_place_and_remedy() {
    insta::assert_snapshot!(mistakes(r#"
[broker]
kind = "rabitmq"
prefetch = 0
uri_file = "x"
heartbeat = "1500ms"

[gateway]
base-url = "ftp://gateway"
request-timeout = 30
rate = "80/h"

[accounts.Main]
key-file = "main.key"

[accounts.second]
key = "pk_live_secret"

[accounts.third]
max-in-flight = "many"
key-file = "a"
key-env = "B"

[admin]
listen = "0.0.0.0:7878"

[log]
format = "xml"
level = "a=b=c"

[gatway]
"#), @r#"
    the configuration has 15 mistakes
      /etc/campaignd/campaignd.toml:3:8: [broker] kind: must be one of "rabbitmq", "embedded"
      /etc/campaignd/campaignd.toml:4:12: [broker] prefetch: must be a number from 1 to 2000
      /etc/campaignd/campaignd.toml:5:1: [broker] unknown key `uri_file`
        did you mean `uri-file`?
      /etc/campaignd/campaignd.toml:6:13: [broker] heartbeat: must be whole seconds, from 1s to 5m
      /etc/campaignd/campaignd.toml:9:12: [gateway] base-url: must begin with https:// (or http:// for a simulated gateway)
      /etc/campaignd/campaignd.toml:10:19: [gateway] request-timeout: must be a duration in quotes, for example "30s"
      /etc/campaignd/campaignd.toml:11:8: [gateway] rate: "80/h": the gateway counts per second (/s) and per minute (/min) only
      /etc/campaignd/campaignd.toml:13:11: [accounts.Main] account name must be 1 to 64 of a-z 0-9 . _ - and start with a letter or digit
        rename the section
      /etc/campaignd/campaignd.toml:17:1: [accounts.second] key: an API key must not stand in the configuration
        write the key to a file that only the campaignd user can read, and name that file with key-file
      /etc/campaignd/campaignd.toml:20:17: [accounts.third] max-in-flight: must be a number from 1 to 10000
      /etc/campaignd/campaignd.toml:22:11: [accounts.third] says twice where the secret is
        keep one of key-file, key-credential, key-env
      /etc/campaignd/campaignd.toml:25:10: [admin] listen: must be a loopback address, since the admin API has no login
        listen on 127.0.0.1 or [::1]; from other machines, come through ssh -L
      /etc/campaignd/campaignd.toml:28:10: [log] format: must be one of "auto", "text", "json", "journal"
      /etc/campaignd/campaignd.toml:29:9: [log] level: must be a level (error, warn, info, debug, trace), or module=level pairs
      /etc/campaignd/campaignd.toml:31:2: unknown section `gatway`
        did you mean `gateway`?
    "#);
}

#[test]
fn a_reserve_is_a_number_or_a_share_of_the_rate() {
    let plan = |lines: &str| {
        let config = parse(&format!("[accounts.a]\nkey-file = \"k\"\n{lines}"))?;
        Ok::<Plan, ConfigError>(config.accounts.into_values().next().unwrap().plan)
    };
    let plain = plan("").unwrap();
    assert_eq!((plain.reserve, plain.pace), (Reserve::Requests(0), Pace::Smooth));
    assert_eq!(plan("reserve = 72").unwrap().reserve, Reserve::Requests(72));
    let both = plan("reserve = \"15%\"\npace = \"burst\"").unwrap();
    assert_eq!(both, Plan { reserve: Reserve::Share(0.15), pace: Pace::Burst, ..plain });
    for wrong in ["73", "\"91%\"", "\"-1%\"", "\"NaN%\"", "\"12\"", "0.1"] {
        let error = plan(&format!("reserve = {wrong}")).unwrap_err().to_string();
        assert!(error.contains("campaignd.toml:3:11: [accounts.a] reserve: must be a number of requests"), "{error}");
    }
    let error = plan("pace = \"fast\"").unwrap_err().to_string();
    assert!(error.contains("3:8: [accounts.a] pace: must be one of"), "{error}");
}

#[test]
fn what_is_no_toml_is_told_without_quoting_it() {
    insta::assert_snapshot!(mistakes("[accounts.main]\nkey-file = pk_live_secret\n[log\n"), @r"
    the configuration has 2 mistakes
      /etc/campaignd/campaignd.toml:2:12: not valid TOML: string values must be quoted, expected literal string
      /etc/campaignd/campaignd.toml:3:5: not valid TOML: unclosed table, expected `]`
    ");
    assert!(!mistakes("[accounts.main]\nkey = pk_live_secret\n").contains("pk_live"));
    assert!(!mistakes("[accounts.main]\nkey-env = \"pk_live_secret\"\n").contains("pk_live"));
}

#[test]
fn a_plain_value_is_no_section() {
    insta::assert_snapshot!(mistakes("accounts = 3\nlog = \"text\"\n"), @r"
    the configuration has 2 mistakes
      /etc/campaignd/campaignd.toml:1:1: `accounts` is a section
        write [accounts.NAME] on a line of its own, and its keys below
      /etc/campaignd/campaignd.toml:2:1: `log` is a section
        write [log] on a line of its own, and its keys below
    ");
    insta::assert_snapshot!(mistakes("[accounts]\nmain = \"pk\"\n"), @r"
    the configuration has a mistake
      /etc/campaignd/campaignd.toml:2:1: `accounts.main` is no section
        write [accounts.NAME] on a line of its own, and its keys below
    ");
}

#[test]
fn only_one_account_is_the_default() {
    let two = "[accounts.a]\nkey-env = \"A\"\ndefault = true\n[accounts.b]\nkey-env = \"B\"\n";
    assert_eq!(parse(two).unwrap().default_account().unwrap().as_str(), "a");
    assert!(mistakes(&format!("{two}default = true\n")).contains("account a is the default already"));
    let none = two.replace("default = true\n", "");
    assert!(parse(&none).unwrap().default_account().is_none());
}

#[test]
fn secrets_are_read_apart_and_all_that_fail_are_named() {
    let config =
        parse("[broker]\nuri-credential = \"broker\"\n[accounts.a]\nkey-file = \"no/such\"\n[accounts.b]\nkey-env = \"B\"\n")
            .unwrap();
    insta::assert_snapshot!(config.secrets(&|_| None).unwrap_err(), @r"
    the configuration has 3 mistakes
      /etc/campaignd/campaignd.toml:2:18: credential broker: $CREDENTIALS_DIRECTORY is not set
        start campaignd by its systemd unit with LoadCredential=, or name a file instead
      /etc/campaignd/campaignd.toml:4:12: [accounts.a] /etc/campaignd/no/such cannot be read: No such file or directory (os error 2)
        write the secret there, readable by the campaignd user only, or correct the path
      /etc/campaignd/campaignd.toml:6:11: [accounts.b] $B is not set
        set it, or name a file instead
    ");
    insta::assert_snapshot!(defaults().secrets(&|_| None).unwrap_err(), @r#"
    the configuration has a mistake
      built-in defaults: there is no account to send by
        add [accounts.main] with key-file = "…", the file that holds your gateway API key
    "#);
}

#[test]
fn the_environment_goes_before_the_file_for_the_broker() {
    let env = |name: &str| (name == BROKER_URI_VARIABLE).then(|| "amqp://u:p@h/v".to_owned());
    assert_eq!(defaults().broker_uri(&env).unwrap().expose_secret(), "amqp://u:p@h/v");
    let wrong = |_: &str| Some("http://u:hunter2@h".to_owned());
    let mistake = defaults().broker_uri(&wrong).unwrap_err().to_string();
    assert!(mistake.contains("$CAMPAIGND_BROKER_URI") && !mistake.contains("hunter2"), "{mistake}");
}

#[test]
fn relative_paths_start_at_the_file() {
    let config = parse("[state]\ndir = \"state\"\n[policy]\nfile = \"/abs.toml\"\n").unwrap();
    assert_eq!(config.state.dir, Path::new("/etc/campaignd/state"));
    assert_eq!(config.policy.file.as_deref(), Some(Path::new("/abs.toml")));
}

#[test]
fn debug_shows_no_secret() {
    let config = parse("[broker]\nuri = \"amqp://u:hunter2@h/v\"\n[alerts]\nwebhook-url = \"https://x/hunter2\"\n").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", config.secrets(&|_| None)).contains("hunter2"));
    assert_eq!(config.webhook_url(&|_| None).unwrap().unwrap().expose_secret(), "https://x/hunter2");
}

#[test]
fn what_is_unwise_is_noted() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "pk_x").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!("[gateway]\nbase-url = \"http://far.example\"\n[accounts.a]\nkey-file = {key:?}\n");
    let notes = parse(&text).unwrap().notes();
    assert_eq!(notes.iter().map(|note| note.place.line).collect::<Vec<_>>(), [2, 4]);
    assert!(parse("[gateway]\nbase-url = \"http://127.0.0.1:1\"").unwrap().notes().is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("none.toml");
    let error = Config::load(Some(&at)).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(error, @r"
    the configuration has a mistake
      DIR/none.toml: cannot be read: No such file or directory (os error 2)
        name the file with --config or CAMPAIGND_CONFIG; without one, the built-in defaults apply
    ");
    assert!(Config::load(Some(dir.path())).unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(&at, [0xff, 0xfe]).unwrap();
    assert!(Config::load(Some(&at)).unwrap_err().to_string().contains("UTF-8"));
    std::fs::write(&at, vec![b'#'; 2 << 20]).unwrap();
    assert!(Config::load(Some(&at)).unwrap_err().to_string().contains("larger than"));
}

proptest! {
    #[test]
    fn never_panics(text in "(\\[[a-z.]{0,12}\\]|[a-z-]{1,12} ?= ?[\"a-z0-9{}\\[\\]]{0,8}|\\PC{0,12}|\n){0,12}") {
        let _ = parse(&text);
    }
}
