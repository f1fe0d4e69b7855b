//! What holds for any configuration file.

use std::path::Path;

use super::{Config, ConfigError};
use crate::laws::lies_within;

/// A password that seeds hold inside of addresses.
const PASSWORD: &str = "hunter2";

/// Any text is a configuration or is refused with every mistake at its place; no password that stands in an address shows itself.
pub fn hold(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("/etc/campaignd/own.toml");
    let read = Config::parse(text, Some(path));
    match &read {
        Err(error) => check_mistakes(text, error),
        Ok(config) => {
            assert!(config.notes().iter().all(|note| note.place.line <= text.matches('\n').count() + 1));
            assert!(config.default_account().is_none_or(|name| config.accounts.contains_key(name)));
            assert!(config.accounts.values().all(|account| account.max_in_flight > 0));
        }
    }
    let told = read.as_ref().map_or_else(ToString::to_string, |config| format!("{config:?}"));
    if hides_its_passwords(text) {
        assert!(!told.contains(PASSWORD), "{told}");
    }
    let again = Config::parse(text, Some(path));
    assert_eq!(
        told,
        again.map_or_else(|error| error.to_string(), |config| format!("{config:?}")),
        "the same text, the same answer"
    );
}

fn check_mistakes(text: &str, error: &ConfigError) {
    assert!(!error.mistakes.is_empty());
    let mut last = (0, 0);
    for mistake in &error.mistakes {
        let (line, column) = (mistake.place.line, mistake.place.column);
        assert_eq!(&*mistake.place.file, "/etc/campaignd/own.toml", "{mistake}");
        assert!((line, column) == (0, 0) || lies_within(text, line, column), "{mistake}");
        assert!(last <= (line, column), "in the order of the file: {error}");
        assert!(!mistake.what.is_empty());
        last = (line, column);
    }
}

/// Whether every password stands where one belongs: in the value of a key whose value is an address, in one line.
fn hides_its_passwords(text: &str) -> bool {
    text.lines().filter(|line| line.contains(PASSWORD)).all(|line| {
        let quoted = line.split_once(" = \"amqp://user:hunter2@").and_then(|(key, rest)| Some((key, rest.strip_suffix('"')?)));
        quoted.is_some_and(|(key, rest)| {
            matches!(key, "uri" | "webhook-url") && !rest.contains(['"', '\\']) && !rest.contains(PASSWORD)
        })
    })
}
