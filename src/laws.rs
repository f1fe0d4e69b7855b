//! What must hold for any bytes that come from outside. Each part states its own laws in `laws.rs` beside it; here they are by name.
//!
//! The fuzzers in `tests/fuzz` drive them, and the ordinary tests run them over the committed seeds and over damaged copies of
//! these (`laws/replay.rs`), so that a machine without a fuzzer checks the same.

mod choices;
#[cfg(test)]
mod replay;

pub(crate) use choices::Choices;

pub use crate::admin::laws::hold as control;
pub use crate::broker::embedded::laws::hold as queue;
pub use crate::broker::rabbitmq::laws::hold as headers;
pub use crate::config::laws::hold as config;
pub use crate::engine::laws::hold as triage;
pub use crate::gateway::connexease::laws::hold as answer;
pub use crate::job::laws::hold as job;
pub use crate::policy::laws::{events, rules};
pub use crate::recipients::laws::hold as recipients;
pub use crate::store::sled::laws::hold as store;

/// Panics when the bytes break it.
#[cfg(test)]
type Law = fn(&[u8]);

/// Every law by the name of its fuzz target, its seeds and its dictionary.
#[cfg(test)]
const ALL: [(&str, Law); 11] = [
    ("answer", answer),
    ("config", config),
    ("control", control),
    ("events", events),
    ("headers", headers),
    ("job", job),
    ("queue", queue),
    ("recipients", recipients),
    ("rules", rules),
    ("store", store),
    ("triage", triage),
];

/// The longest run of ASCII digits: 7 and more may be somebody's number.
pub(crate) fn longest_digits(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

/// Text for people: no number of anybody's (but the one that shows how to write one), one line, not endless.
pub(crate) fn is_fit_for_logs(text: &str) -> bool {
    longest_digits(&text.replace("for example 905321234567", "")) < 7 && text.len() < 2000 && !text.contains(char::is_control)
}

/// Whether line and column, both from 1 and in characters, lie in `text` or right behind it.
pub(crate) fn lies_within(text: &str, line: usize, column: usize) -> bool {
    let Some(before) = line.checked_sub(1) else { return false };
    text.split('\n').nth(before).is_some_and(|found| (1..=found.chars().count() + 1).contains(&column))
}
