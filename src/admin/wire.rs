//! What goes over the admin API besides the engine's own views.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::DeadSelection;
use crate::job::JobId;

/// Body of a pause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PauseOrder {
    /// Why, for people; `paused by the operator` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// For how many seconds; until resumed when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requeued {
    /// Dead letters released.
    pub requeued: u64,
}

/// Answer to a batch of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Jobs now safe at the broker.
    pub published: u64,
}

/// Query of a look at the dead letters. Job ids are separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadQuery {
    /// Only these jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<String>,
    /// Only this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only this gateway code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Only this Meta code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<u32>,
    /// At most this many, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// With job bodies, which hold the full recipient.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bodies: bool,
}

impl DeadQuery {
    /// The query for a selection.
    #[must_use]
    pub fn new(selection: &DeadSelection, bodies: bool) -> Self {
        let jobs = selection.jobs.iter().map(JobId::as_str).collect::<Vec<_>>().join(",");
        Self {
            jobs: (!jobs.is_empty()).then_some(jobs),
            reason: selection.reason.clone(),
            code: selection.code.clone(),
            meta: selection.meta,
            limit: selection.limit,
            bodies,
        }
    }
}

/// Dead letters of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadGroup {
    /// The policy rule or the daemon's own reason.
    pub reason: String,
    /// The gateway's code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Meta's number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub meta: Option<u32>,
    /// Nobody knows whether their messages were sent.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub may_have_been_sent: bool,
    /// How many.
    pub count: u64,
    /// When the first went there.
    pub first: Timestamp,
    /// When the last went there.
    pub last: Timestamp,
    /// The last one's description.
    pub description: String,
}
