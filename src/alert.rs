//! Telling people: alerts go to sinks, once per rule and account within a window, and say when it is over. Sending never waits for it.

mod dedup;
mod dispatcher;
mod sink;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::job::{AccountName, CampaignId};
use crate::policy::Severity;

pub use dedup::Notice;
pub use dispatcher::{DRAIN, Dispatcher};
pub use sink::{LogSink, Sink, SinkError, Webhook};

/// Alerts waiting for their sinks; more than this are dropped and counted, sending goes on.
pub const QUEUE_LENGTH: usize = 1024;

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// `firing` or `resolved`.
    pub status: Status,
    /// How loudly.
    pub severity: Severity,
    /// The policy rule or the daemon's own reason; with the account, what alerts are de-duplicated by.
    pub rule: String,
    /// The account it is about; none for the daemon itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<AccountName>,
    /// The campaign it began with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub campaign: Option<CampaignId>,
    /// What happened, in one line, recipients masked.
    pub summary: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// When.
    pub at: Timestamp,
}

/// Whether it has begun or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has begun.
    Firing,
    /// It is over: the pause was lifted.
    Resolved,
}

/// The engine's end: hands alerts over without waiting.
#[derive(Debug, Clone)]
pub struct Alerts {
    queue: mpsc::Sender<Arc<Alert>>,
}

impl Alerts {
    /// A hand-over and the receiving end for [`QUEUE_LENGTH`] alerts.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Arc<Alert>>) {
        let (queue, receiver) = mpsc::channel(QUEUE_LENGTH);
        (Self { queue }, receiver)
    }

    /// Hands one over; when the queue is full it is dropped and logged.
    pub fn raise(&self, alert: Alert) {
        if let Err(lost) = self.queue.try_send(Arc::new(alert)) {
            let alert = lost.into_inner();
            tracing::warn!(rule = alert.rule, "alert queue is full; alert dropped");
        }
    }
}

#[cfg(test)]
mod tests;
