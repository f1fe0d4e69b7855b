//! Deliveries in, settlements out: what the engine asks of a message broker.
//!
//! Two implementations keep one contract (`tests/broker/contract`): RabbitMQ, and an embedded one for a single machine.

pub mod embedded;
pub mod rabbitmq;

use std::any::Any;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::job::CampaignId;

/// A message broker. Every call has a time limit of its own and returns an error rather than hang.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Makes sure the campaign's queue exists, is safe against a crash, and is where its jobs are routed from now on.
    /// May take seconds for a new queue. One that is there and broken is made anew only if `bound` says that nothing is in it.
    async fn prepare(&self, campaign: &CampaignId, bound: Bound) -> Result<Prepared, BrokerError>;

    /// Starts delivering from `source` into `sink`, at most `prefetch` unsettled at a time.
    ///
    /// Deliveries arrive in queue order. Dropping the [`Subscription`] stops them and returns what is unsettled to the head of
    /// its queue, in order. When the broker ends it (connection lost, queue deleted), the last event is [`Event::Ended`].
    async fn subscribe(&self, source: Source, prefetch: u16, sink: mpsc::Sender<Event>) -> Result<Subscription, BrokerError>;

    /// Takes the deliveries off their queues for good. Tags of ended subscriptions are ignored: those deliveries come again.
    async fn ack(&self, tags: &[Tag]) -> Result<(), BrokerError>;

    /// Publishes; once this returns `Ok` the message survives a crash of the broker.
    ///
    /// An error means *unknown*: the message may be there. Repeat it under the same id; consumers tolerate a second copy.
    async fn publish(&self, to: Target<'_>, message: &Message) -> Result<(), BrokerError>;

    /// How many messages are ready in `source`; 0 when it does not exist.
    async fn depth(&self, source: &Source) -> Result<u64, BrokerError>;

    /// Deletes the campaign's job queue if it is empty. Its dead letters stay. `false` if it was not empty.
    async fn remove(&self, campaign: &CampaignId) -> Result<bool, BrokerError>;

    /// Keeps a note about a campaign at the broker, replacing the one before, so that a daemon that lost its own state can
    /// find its campaigns again.
    async fn remember(&self, campaign: &CampaignId, note: &[u8]) -> Result<(), BrokerError>;

    /// The latest note of every campaign.
    async fn recall(&self) -> Result<Vec<(CampaignId, Bytes)>, BrokerError>;
}

/// Whether anything was ever routed to a queue, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Nothing was: if it is there, it is empty.
    No,
    /// Something may have been.
    Unknown,
}

/// What [`Broker::prepare`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// The queue was there before: the campaign did not begin now.
    pub existed: bool,
}

/// Where deliveries come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Announcements, and jobs that no campaign queue took.
    Intake,
    /// A campaign's jobs.
    Jobs(CampaignId),
    /// A campaign's dead letters.
    Dead(CampaignId),
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A campaign's jobs; to the intake if the campaign has no queue.
    Jobs(&'a CampaignId),
    /// Back to a campaign's jobs after a delay; never earlier.
    Wait(&'a CampaignId, Duration),
    /// A campaign's dead letters.
    Dead(&'a CampaignId),
    /// The intake: a campaign announcement.
    Announce(&'a CampaignId),
}

/// A message with the headers that are ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The body, byte for byte as its producer wrote it.
    pub body: Bytes,
    /// Our headers.
    pub headers: Headers,
}

/// What travels with a message besides its body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Headers {
    /// AMQP `message_id`: the job id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// AMQP `type`; [`ANNOUNCEMENT`] for a campaign announcement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The campaign the message was routed to (routing key), if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routed_to: Option<String>,
    /// Attempts used so far.
    pub attempts: u32,
    /// How often a person has released this job from the dead letters.
    pub release: u32,
    /// It is a copy of a delivery that may have been delivered before: an earlier copy may have been sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
    /// When we first saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// The producer's batch, so that a file enqueued twice counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// On a dead letter: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death: Option<Box<Death>>,
}

/// AMQP `type` of a campaign announcement.
pub const ANNOUNCEMENT: &str = "campaign.v1";

/// Why and when a job went to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// When.
    pub at: Timestamp,
    /// The policy rule or the daemon's own reason (`malformed`, `suppressed`, `unknown-outcome`, …).
    pub reason: String,
    /// The gateway's code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Meta's number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub meta: Option<u32>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http_status: Option<u16>,
    /// Nobody knows whether the message was sent: releasing the job may send it a second time.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub may_have_been_sent: bool,
    /// For people; bounded, recipients masked.
    #[serde(default)]
    pub description: String,
}

impl Death {
    /// At `at`, for `reason`, surely not sent, nothing else said.
    pub fn new(at: Timestamp, reason: impl Into<String>) -> Self {
        Self {
            at,
            reason: reason.into(),
            code: None,
            meta: None,
            http_status: None,
            may_have_been_sent: false,
            description: String::new(),
        }
    }
}

/// One delivery, to be settled once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Names it in [`Broker::ack`].
    pub tag: Tag,
    /// What was delivered.
    pub message: Message,
    /// It may have been delivered before.
    pub redelivered: bool,
}

/// Names a delivery within the lifetime of its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// The subscription it came by.
    pub subscription: SubscriptionId,
    /// Its number there, ascending.
    pub number: u64,
}

/// Names a subscription, never used again within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u64);

/// What a subscription puts into its sink.
#[derive(Debug)]
pub enum Event {
    /// A delivery.
    Delivery(Delivery),
    /// The subscription ended by itself; its unsettled deliveries are void and will come again.
    Ended {
        /// Which one.
        subscription: SubscriptionId,
        /// Why, for the log.
        reason: String,
    },
}

/// Keeps deliveries coming. Drop it to stop them.
pub struct Subscription {
    id: SubscriptionId,
    _guard: Box<dyn Any + Send + Sync>,
}

impl Subscription {
    /// A subscription that ends when `guard` is dropped.
    pub fn new(id: SubscriptionId, guard: impl Any + Send + Sync) -> Self {
        Self { id, _guard: Box::new(guard) }
    }

    /// Its name in tags and events.
    #[must_use]
    pub const fn id(&self) -> SubscriptionId {
        self.id
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.id.0).finish()
    }
}

/// Why a broker call did not work. All are worth repeating after a while unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No connection now.
    #[error("no connection to the broker: {0}")]
    Down(String),
    /// No answer in time; whether it happened is unknown.
    #[error("the broker did not answer within {0:?}")]
    Timeout(Duration),
    /// The broker said no to a publish (queue full, no leader); it was not stored.
    #[error("the broker refused the message: {0}")]
    Refused(String),
    /// Permissions, arguments, a missing vhost: a person has to mend it.
    #[error("the broker does not allow it: {0}")]
    Denied(String),
    /// Its own storage failed.
    #[error("the broker's storage failed: {0}")]
    Storage(String),
}
