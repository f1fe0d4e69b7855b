//! The rules as values: what they match and what they do. `read` makes them from TOML, `decide` applies them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mistakes::Mistakes;
use super::when::When;
use super::{PauseOrder, Severity, SlowDown, Subject, read};
use crate::gateway::Reply;

/// The compiled-in rules file.
pub const BUILTIN_TEXT: &str = include_str!("../../config/policy.toml");

/// Rules in force: the first that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// The compiled-in rules. A test proves that they parse.
    #[must_use]
    pub fn builtin() -> Self {
        Self::parse(BUILTIN_TEXT, "policy.toml").unwrap_or_default()
    }

    /// Reads a rules file; `file_name` is only for naming it in mistakes.
    ///
    /// # Errors
    /// Every mistake in the file, with line and column.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Mistakes> {
        read::rules(text).map(|rules| Self { rules }).map_err(|found| Mistakes::new(file_name, text, found))
    }

    /// The rules, in the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The rule that decides about a reply; none for an accepted one, or when no rule matches.
    #[must_use]
    pub fn find(&self, subject: &Subject, reply: &Reply) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.when.matches(subject, reply))
    }
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique and stable: it is the reason written on dead letters, pauses and alerts.
    pub name: Arc<str>,
    /// What it matches.
    pub when: When,
    /// What happens to the job.
    pub job: JobPlan,
    /// Stop the campaign or the account.
    pub pause: Option<PauseOrder>,
    /// Let the account's pacer wait.
    pub hold_account: Option<Delay>,
    /// Lower the account's rate.
    pub slow_down: Option<SlowDown>,
    /// Tell a person.
    pub alert: Option<Severity>,
    /// What changes once it has repeated.
    pub repeated: Option<Repeated>,
    /// What a person can do; may hold `{account}` and `{campaign}`.
    pub advice: Arc<str>,
}

/// What a rule does to the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobPlan {
    /// One delay per retry, at least one; used up, the job is dead-lettered.
    Retry(Vec<Duration>),
    /// Wait without using an attempt.
    Wait(Delay),
    /// Back untouched.
    Hold,
    /// To the dead letters.
    DeadLetter,
    /// To the dead letters, and the recipient gets nothing more from the account.
    Suppress,
    /// The campaign's `on_unknown` decides; these are the delays for `resend`, one per resend.
    Unknown(Vec<Duration>),
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// What the gateway asked for; [`RETRY_AFTER_DEFAULT`] if it did not say.
    RetryAfter,
    /// This long, and no shorter than the gateway asked for.
    For(Duration),
}

/// What `retry-after` means when the gateway gave none: its per-second window.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// What changes once a rule has repeated. What is not given stays as in the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// How often.
    pub threshold: Threshold,
    /// Counted apart for each of these.
    pub per: Per,
    /// What happens to the job then.
    pub job: Option<JobPlan>,
    /// The pause then.
    pub pause: Option<PauseOrder>,
    /// The slow-down then.
    pub slow_down: Option<SlowDown>,
    /// The alert then.
    pub alert: Option<Severity>,
}

/// How often a rule must match before it has repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// So often since the last success; other refusals in between do not reset it.
    InARow(u32),
    /// So often within a time, whatever succeeded in between.
    Within {
        /// How often.
        count: u32,
        /// Within how long.
        within: Duration,
    },
}

/// What repetitions are counted apart for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each campaign.
    Campaign,
    /// Each account.
    Account,
    /// Each country calling code of an account.
    Country,
}
