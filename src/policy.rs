//! The error policy: what a reply means. [`decide`] gives a [`Decision`]; rules are data.
//!
//! Nothing here does anything: a decision is a value, and `outcome` says what it comes to.

mod country;
mod decide;
mod describe;
mod history;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod load;
mod mistakes;
mod read;
mod rules;
#[cfg(test)]
mod tests;
mod when;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use decide::{ACCEPTED, NO_RULE, decide};
pub use history::History;
pub use load::LoadError;
pub use mistakes::{Mistake, Mistakes};
pub use rules::{BUILTIN_TEXT, Delay, JobPlan, Per, RETRY_AFTER_DEFAULT, Repeated, Rule, Rules, Threshold};
pub use when::{CodePattern, ReplyKind, When};

use crate::job::{AccountName, CampaignId, MessageKind, Recipient};

/// What a rule decided about one reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The rule that matched.
    pub rule: Arc<str>,
    /// What happens to the job.
    pub job: JobAction,
    /// Stop the campaign or the account.
    pub pause: Option<PauseOrder>,
    /// Let the account's pacer wait this long before its next request.
    pub hold_account: Option<Duration>,
    /// Lower the account's rate for a while.
    pub slow_down: Option<SlowDown>,
    /// Tell a person.
    pub alert: Option<Severity>,
    /// What a person can do about it; empty when there is nothing to say.
    pub advice: Arc<str>,
}

/// What happens to a job after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// It is done.
    Sent,
    /// It is tried again after this long; the attempt counts.
    Retry(Duration),
    /// It waits this long; the attempt does not count.
    Wait(Duration),
    /// It goes back untouched; the attempt does not count.
    Hold,
    /// It goes to the dead letters.
    DeadLetter,
    /// It goes to the dead letters, and its recipient gets nothing more from this account.
    Suppress,
    /// Nobody knows whether it was sent; the campaign's `on_unknown` decides. `retry` is the delay if it says resend,
    /// none once the attempts are used up.
    Unknown {
        /// Delay before a resend.
        retry: Option<Duration>,
    },
}

/// Stop a campaign or an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseOrder {
    /// Whom.
    pub scope: Scope,
    /// For how long; none means until a person resumes it.
    pub length: Option<Duration>,
    /// After it, go on with one job at a time until one succeeds.
    pub probe: bool,
}

/// What a pause applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One campaign.
    Campaign,
    /// Every campaign of the account.
    Account,
}

/// Lower the account's rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowDown {
    /// Multiplies the current rate; above 0, below 1.
    pub factor: f64,
    /// For how long.
    pub length: Duration,
}

impl Eq for SlowDown {}

/// How loudly to tell a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// The job a reply belongs to, as far as rules may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The account that sent it.
    pub account: AccountName,
    /// Its campaign.
    pub campaign: CampaignId,
    /// Its recipient: thresholds can be counted by country code.
    pub to: Recipient,
    /// The message's type.
    pub message: MessageKind,
    /// Sent by Marketing Messages Lite.
    pub mmlite: bool,
    /// Attempts used so far, this one included.
    pub attempts: u32,
}
