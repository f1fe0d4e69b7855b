//! What the engine shows of itself: plain values for the admin API and the command line.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::broker::Death;
use crate::campaign::{Options, Pause};
use crate::job::{AccountName, CampaignId, JobId};

/// A campaign as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CampaignView {
    /// Its id.
    pub id: CampaignId,
    /// The account it sends by.
    pub account: AccountName,
    /// Whether it sends.
    pub state: CampaignState,
    /// The account it was announced for, when it began with another: jobs that name this one go to the dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_account: Option<AccountName>,
    /// How it sends.
    pub options: Options,
    /// Every job known of; always `waiting + in_flight + delayed + sent + dead + cancelled + expired`.
    pub enqueued: u64,
    /// Nothing done yet, or put back.
    pub waiting: u64,
    /// An attempt is open.
    pub in_flight: u64,
    /// To be tried again later.
    pub delayed: u64,
    /// Accepted by the gateway.
    pub sent: u64,
    /// In the dead letters.
    pub dead: u64,
    /// Called off.
    pub cancelled: u64,
    /// Too late.
    pub expired: u64,
    /// Jobs that came again in another batch; counted once above.
    pub duplicates: u64,
    /// The producer has said how many jobs there are.
    pub sealed: bool,
    /// Messages accepted per second, over the last seconds.
    pub rate_per_second: f64,
    /// Time left at the account's rate; none when nothing moves.
    pub left: Option<Duration>,
    /// Its own pause.
    pub pause: Option<PauseView>,
    /// Its account's pause.
    pub account_pause: Option<PauseView>,
    /// When the daemon first heard of it.
    pub created: Timestamp,
    /// When it was finished or cancelled.
    pub ended: Option<Timestamp>,
    /// The ledger was lost then, wholly or in part: what was settled before may be missing above, and `waiting` is at most that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts_since: Option<Timestamp>,
    /// It is long over and its ledger cleaned up: nobody can tell any more who got it, and nothing of it is sent any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ledger_gone: bool,
}

/// Where a campaign stands, its own pause and its account's taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CampaignState {
    /// It sends.
    Running,
    /// A pause holds it, its own or its account's.
    Paused,
    /// A person called it off.
    Cancelled,
    /// Sealed, and every job settled.
    Finished,
}

impl CampaignState {
    /// Nothing of it is sent any more, unless jobs are added or released.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Cancelled | Self::Finished)
    }
}

impl fmt::Display for CampaignState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
        })
    }
}

/// A pause as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PauseView {
    /// The pause itself.
    #[serde(flatten)]
    pub pause: Pause,
    /// The command that lifts it.
    pub lift_with: String,
}

/// An account as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    /// Its name.
    pub name: AccountName,
    /// It stands in the configuration.
    pub configured: bool,
    /// Its pause.
    pub pause: Option<PauseView>,
    /// Campaigns that are neither finished nor cancelled.
    pub campaigns: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Most requests allowed under way at once, at the gateway's latency now.
    pub most_in_flight: u64,
    /// The ceiling of that, as configured.
    pub max_in_flight: u64,
    /// Requests allowed in any second; none when unlimited.
    pub second: Option<WindowView>,
    /// Requests allowed in any minute; none when unlimited.
    pub minute: Option<WindowView>,
    /// Messages accepted per second, over the last seconds.
    pub rate_per_second: f64,
    /// `RATE_001` holds the account this much longer.
    pub held_for: Option<Duration>,
    /// It goes on one job at a time until one succeeds.
    pub probing: bool,
}

/// A rate window as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowView {
    /// Requests allowed.
    pub limit: u32,
    /// Requests used.
    pub used: u32,
    /// Requests left to other programs on the same key: the reserve, or more while they use more.
    pub others: u32,
}

/// A dead letter as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its campaign, or the shelf of what belongs to none.
    #[serde(deserialize_with = "shelf")]
    pub campaign: CampaignId,
    /// Its job id; none when the body is no job.
    pub job: Option<JobId>,
    /// Its recipient, masked; none when the body is no job.
    pub to: Option<String>,
    /// Why it is here.
    #[serde(flatten)]
    pub death: Death,
    /// Attempts used.
    pub attempts: u32,
    /// How often it had been released before.
    pub release: u32,
    /// When it was first seen.
    pub first_seen: Option<Timestamp>,
    /// The job body: JSON, or text when it is none. Holds the full recipient; only shown when asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<String>,
}

/// Which dead letters of a campaign are meant. All given conditions must hold; none given means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadSelection {
    /// Only these jobs.
    pub jobs: BTreeSet<JobId>,
    /// Only this reason (policy rule).
    pub reason: Option<String>,
    /// Only this gateway code.
    pub code: Option<String>,
    /// Only this Meta code.
    pub meta: Option<u32>,
    /// At most this many, oldest first.
    pub limit: Option<u64>,
    /// Release also those that may have been sent. Without it they stay, also when they came after somebody looked.
    pub unknown_too: bool,
}

/// What a resume came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// There was a pause to lift.
    pub lifted: bool,
    /// What still holds it: for a campaign, its account's pause.
    pub still_paused: Option<PauseView>,
}

fn shelf<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<CampaignId, D::Error> {
    CampaignId::shelf(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::CampaignState::{self, Cancelled, Finished, Paused, Running};

    #[test]
    fn a_state_has_the_same_name_on_the_wire_and_for_people() {
        for (state, name) in [(Running, "running"), (Paused, "paused"), (Cancelled, "cancelled"), (Finished, "finished")] {
            assert_eq!(serde_json::to_value(state).unwrap(), name);
            assert_eq!(serde_json::from_value::<CampaignState>(name.into()).unwrap(), state);
            assert_eq!(state.to_string(), name);
        }
    }
}
