//! RabbitMQ by lapin: topology, confirms, acknowledgements in runs, and our own reconnecting.
//!
//! Supported from 3.10 to 4.x. `deploy/rabbitmq` has users and permissions that suffice.

mod connect;
mod consume;
mod errors;
mod headers;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod link;
mod names;
mod notes;
mod pool;
mod publish;
mod runs;
mod topology;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::RngExt;
use secrecy::SecretString;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use connect::ConnectError;

use self::consume::Consumers;
use self::link::{Link, Wire};
use self::names::{DEAD, JOBS};
use self::notes::Marks;
use self::publish::{Outgoing, Routed};
use self::topology::Nursery;
use super::{ANNOUNCEMENT, Bound, Broker, BrokerError, Event, Message, Prepared, Source, Subscription, Tag, Target};
use crate::clock::Clock;
use crate::dice;
use crate::job::CampaignId;
use crate::lock::lock;

/// How to reach RabbitMQ, and how patient to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. A `/` in the virtual host's name is written `%2f`.
    pub uri: SecretString,
    /// PEM file with the certificate authority of the server; without one the system's are trusted. For `amqps://`.
    pub ca_file: Option<PathBuf>,
    /// What this side does: a producer needs far fewer permissions.
    pub role: Role,
    /// Shown in RabbitMQ's list of connections.
    pub name: String,
    /// Limit for opening a connection, login included.
    pub connect_timeout: Duration,
    /// Limit for every call; preparing a new queue may take longer.
    pub call_timeout: Duration,
    /// Interval of heartbeats, in whole seconds; a silent connection is given up after twice this.
    pub heartbeat: Duration,
}

impl Settings {
    /// The defaults: daemon, 10 s for everything.
    #[must_use]
    pub fn new(uri: SecretString) -> Self {
        let ten = Duration::from_secs(10);
        Self {
            uri,
            ca_file: None,
            role: Role::Daemon,
            name: "campaignd".into(),
            connect_timeout: ten,
            call_timeout: ten,
            heartbeat: ten,
        }
    }

    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] with the reason; it never quotes the URI.
    pub fn check(&self) -> Result<(), ConnectError> {
        connect::uri(self).map(drop)
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Declares, consumes, publishes.
    Daemon,
    /// Only publishes jobs and announcements; declares nothing.
    Producer,
}

/// Whether RabbitMQ can be used right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// Not connected, trying.
    Connecting {
        /// Attempts that have failed since the connection was last up.
        attempt: u32,
        /// Why the last one failed. Holds no password.
        last_error: Option<String>,
    },
    /// Connected, everything declared.
    Up,
    /// Connected, but RabbitMQ takes no publishes until it has memory or disk again.
    Blocked {
        /// RabbitMQ's words.
        reason: String,
    },
}

/// RabbitMQ behind a link that mends itself. Calls answer [`BrokerError::Down`] while there is no connection.
pub struct RabbitMq {
    settings: Arc<Settings>,
    clock: Clock,
    link: Arc<Link>,
    supervisor: Mutex<JoinSet<()>>,
    consumers: Consumers,
    permits: Semaphore,
    nursery: Nursery,
    marks: Marks,
}

impl RabbitMq {
    /// Starts connecting and returns at once; the first connection may take for ever. Must be called within a tokio runtime.
    #[must_use]
    pub fn connect(settings: Settings, clock: Clock) -> Self {
        let settings = Arc::new(settings);
        let link = Arc::new(Link::new());
        let mut supervisor = JoinSet::new();
        supervisor.spawn({
            let (link, settings) = (Arc::clone(&link), Arc::clone(&settings));
            async move { link.supervise(&settings).await }
        });
        Self {
            nursery: Nursery::default(),
            settings,
            clock,
            link,
            supervisor: Mutex::new(supervisor),
            consumers: Consumers::default(),
            permits: Semaphore::new(publish::IN_FLIGHT),
            marks: Marks { session: dice::unforeseen().random(), next: 0.into() },
        }
    }

    /// Follows the state of the link.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.link.status()
    }

    /// Connects once, looks, and disconnects.
    ///
    /// # Errors
    /// [`ConnectError`] tells apart wrong settings, an unreachable server, a refused login and a missing virtual host.
    pub async fn probe(settings: &Settings) -> Result<(), ConnectError> {
        let connection = connect::open(settings, &connect::name(settings, "check", 1)).await?;
        let _ = timeout(settings.call_timeout, connection.close(200, "OK".into())).await;
        Ok(())
    }

    /// Ends all subscriptions and closes the connections. Whatever is unsettled goes back to its queue.
    pub async fn close(&self) {
        lock(&self.supervisor).abort_all();
        self.consumers.shut();
        self.link.shut().await;
    }

    async fn limited<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, BrokerError>> + Send,
    ) -> Result<T, BrokerError> {
        timeout(limit, call).await.unwrap_or(Err(BrokerError::Timeout(limit)))
    }

    async fn send(&self, to: Target<'_>, message: &Message) -> Result<(), BrokerError> {
        let _permit = self.permits.acquire().await.map_err(|_| BrokerError::Down("closed".into()))?;
        let wire = self.link.wire()?;
        // Handed to lapin while blocked, a message is sent later even if we have given up on it by then.
        self.link.publishable(&wire).await;
        let now = self.clock.wall();
        let outgoing = |exchange, key| {
            let properties = headers::to_amqp(&message.headers, key, now);
            Outgoing { exchange, key, body: &message.body, properties }
        };
        match to {
            Target::Jobs(campaign) => wire.outlets.shared(&wire, outgoing(JOBS, campaign.as_str())).await,
            Target::Announce(campaign) => {
                let key = names::announce_key(campaign);
                let mut announcement = outgoing(JOBS, &key);
                announcement.properties = announcement.properties.with_type(names::short(ANNOUNCEMENT));
                wire.outlets.shared(&wire, announcement).await
            }
            Target::Wait(campaign, delay) => {
                let exchange = names::wait(names::step(delay));
                match wire.outlets.alone(&wire, outgoing(&exchange, campaign.as_str())).await? {
                    Routed::Yes => Ok(()),
                    Routed::No => {
                        Err(BrokerError::Denied(format!("queue {exchange} is missing: restart campaignd to declare it")))
                    }
                }
            }
            Target::Dead(campaign) => self.bury(&wire, campaign, || outgoing(DEAD, campaign.as_str())).await,
        }
    }

    /// Dead letters: the queue is made with the first one.
    async fn bury<'m>(
        &self,
        wire: &Wire,
        campaign: &CampaignId,
        letter: impl Fn() -> Outgoing<'m> + Send,
    ) -> Result<(), BrokerError> {
        if wire.outlets.alone(wire, letter()).await? == Routed::Yes {
            return Ok(());
        }
        self.nursery.raise(wire, &Source::Dead(campaign.clone()), DEAD, campaign.as_str(), Bound::No).await?;
        match wire.outlets.alone(wire, letter()).await? {
            Routed::Yes => Ok(()),
            Routed::No => Err(BrokerError::Refused("the dead-letter queue vanished".into())),
        }
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn prepare(&self, campaign: &CampaignId, bound: Bound) -> Result<Prepared, BrokerError> {
        let limit = self.settings.call_timeout.saturating_mul(2); // declaring waits until the queue is crash safe
        let source = Source::Jobs(campaign.clone());
        self.limited(limit, async { self.nursery.raise(&*self.link.wire()?, &source, JOBS, campaign.as_str(), bound).await })
            .await
    }

    async fn subscribe(&self, source: Source, prefetch: u16, sink: mpsc::Sender<Event>) -> Result<Subscription, BrokerError> {
        let wire = self.link.wire()?;
        self.limited(self.settings.call_timeout, self.consumers.subscribe(&wire, source, prefetch, sink)).await
    }

    async fn ack(&self, tags: &[Tag]) -> Result<(), BrokerError> {
        self.limited(self.settings.call_timeout, async {
            self.consumers.ack(tags).await;
            Ok(())
        })
        .await
    }

    async fn publish(&self, to: Target<'_>, message: &Message) -> Result<(), BrokerError> {
        self.limited(self.settings.call_timeout, self.send(to, message)).await
    }

    async fn depth(&self, source: &Source) -> Result<u64, BrokerError> {
        let wire = self.link.wire()?;
        let count = async { topology::count(&wire.calls().await?.channel, &names::queue(source)).await };
        let found = self.limited(self.settings.call_timeout, count).await?;
        Ok(found.map_or(0, |found| found.ready))
    }

    async fn remove(&self, campaign: &CampaignId) -> Result<bool, BrokerError> {
        let (source, limit) = (Source::Jobs(campaign.clone()), self.settings.call_timeout);
        // Many may be over at the same time: the limit is for the work, which is not to be left half done.
        let _turn = self.limited(limit, self.nursery.turn()).await?;
        self.limited(limit, async {
            if self.consumers.unsettled(&source).await > 0 {
                return Ok(false);
            }
            self.nursery.remove(&*self.link.wire()?, &source, campaign.as_str()).await
        })
        .await
    }

    async fn remember(&self, campaign: &CampaignId, note: &[u8]) -> Result<(), BrokerError> {
        self.limited(self.settings.call_timeout, async {
            let wire = self.link.wire()?;
            self.link.publishable(&wire).await;
            notes::append(&wire, campaign, note, self.clock.wall()).await
        })
        .await
    }

    async fn recall(&self) -> Result<Vec<(CampaignId, Bytes)>, BrokerError> {
        let wire = self.link.wire()?;
        let read = notes::read(&wire, &self.marks, self.settings.call_timeout, self.clock.wall()).await?;
        if read.bytes > u64::try_from(names::NOTES_BYTES / 4).unwrap_or(u64::MAX) {
            // The stream drops its oldest notes by size: bring the ones in force to its end in good time.
            for (campaign, note) in &read.latest {
                self.remember(campaign, note).await?;
            }
        }
        Ok(read.latest.into_iter().collect())
    }
}
