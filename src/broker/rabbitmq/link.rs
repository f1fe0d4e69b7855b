//! The supervised connections: opens them, declares what must exist, watches them, and begins again when one is lost.
//!
//! lapin's own recovery is not used: it resurrects deleted queues and does not tell consumers that their deliveries are void.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::{Channel, Connection, Event};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use super::pool::{Lease, Pool};
use super::publish::Outlets;
use super::{LinkStatus, Role, Settings, connect, topology};
use crate::broker::BrokerError;

/// First and longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often the connections are looked at, should lapin not tell of their end.
const LOOK: Duration = Duration::from_secs(1);
/// What connections are for, as RabbitMQ lists them.
const CONSUME: &str = "consume";
const CALL: &str = "declare";
const TRIAL: &str = "trial";
const PUBLISH: &str = "publish";

/// Subscriptions on one connection. Before each frame it writes, lapin looks at every channel of the connection: with those of 1,000
/// campaigns on one, that was a third of the daemon's CPU time, with 128 on each it is 2 %. Fewer would cost more memory: a connection
/// has a thread, and up to 8 MiB of buffers once it is busy.
const SUBSCRIPTIONS: usize = 128;
/// Channels for calls that are under way at the same time.
const CALLS: usize = 64;

/// Open connections and what lives and dies with them. RabbitMQ blocks a publishing connection as a whole when it runs
/// out of memory or disk; consuming and acknowledging must not stop with it.
pub(super) struct Wire {
    /// Tells these connections from the ones before and after.
    pub(super) epoch: u64,
    /// The first that consumes.
    first: Arc<Connection>,
    /// Declare, count and delete; here a channel ends whenever something is not as it was thought to be.
    calling: Pool,
    /// As many as fit on one connection: others wait. Without it the pool would open a connection more for them.
    calls: Semaphore,
    /// Consume and acknowledge: as many as the subscriptions need. The loss of one is the loss of the wire.
    consuming: Pool,
    /// Read from queues that may have no leader, which RabbitMQ may end a connection for.
    pub(super) trials: Pool,
    /// Publishes.
    pub(super) publish: Connection,
    /// The publishing channels.
    pub(super) outlets: Outlets,
}

/// A channel of its own for a few calls: the broker closes it on the first refusal.
pub(super) struct Calls<'a> {
    pub(super) channel: Channel,
    _lease: Lease,
    _permit: SemaphorePermit<'a>,
}

impl Wire {
    fn new(epoch: u64, first: Connection, publish: Connection, settings: &Arc<Settings>) -> Self {
        let first = Arc::new(first);
        let channels = usize::from(first.configuration().channel_max());
        // RabbitMQ may allow few; some are on their way out, and count until it says that they are closed.
        let (room, calls) = ((channels / 2).clamp(1, SUBSCRIPTIONS), (channels / 2).clamp(1, CALLS));
        Self {
            epoch,
            calling: Pool::new(Arc::clone(settings), CALL, calls),
            calls: Semaphore::new(calls),
            consuming: Pool::beginning_with(Arc::clone(&first), Arc::clone(settings), CONSUME, room),
            trials: Pool::new(Arc::clone(settings), TRIAL, 1),
            first,
            outlets: Outlets::new(usize::from(publish.configuration().channel_max())),
            publish,
        }
    }

    /// A channel for calls, once fewer than the most are under way.
    pub(super) async fn calls(&self) -> Result<Calls<'_>, BrokerError> {
        let permit = self.calls.acquire().await.map_err(|_| BrokerError::Down("closed".into()))?;
        let place = self.calling.take().await?;
        Ok(Calls { channel: place.channel().await?, _lease: place, _permit: permit })
    }

    /// A place for a subscription; none when a connection is lost, for the others are about to be closed.
    pub(super) async fn subscriber(&self) -> Result<Lease, BrokerError> {
        if !self.is_up() {
            return Err(BrokerError::Down("a connection is lost".into()));
        }
        self.consuming.take().await
    }

    fn is_up(&self) -> bool {
        self.consuming.is_up() && self.publish.status().connected()
    }

    /// Closes connections that are not needed any more.
    async fn tidy(&self) {
        tokio::join!(self.consuming.tidy(), self.calling.tidy(), self.trials.tidy());
    }

    async fn close(&self) {
        let publish = connect::close(&self.publish);
        tokio::join!(publish, self.consuming.shut(), self.calling.shut(), self.trials.shut());
    }
}

/// What callers find.
enum State {
    Down(BrokerError),
    Up(Arc<Wire>),
}

/// Both ends of the link's state.
pub(super) struct Link {
    state: watch::Sender<State>,
    status: watch::Sender<LinkStatus>,
    epochs: AtomicU64,
}

impl Link {
    pub(super) fn new() -> Self {
        let nothing = BrokerError::Down("not connected yet".into());
        Self {
            state: watch::Sender::new(State::Down(nothing)),
            status: watch::Sender::new(LinkStatus::Connecting { attempt: 0, last_error: None }),
            epochs: AtomicU64::new(0),
        }
    }

    pub(super) fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.subscribe()
    }

    /// The connections, or why there are none now.
    pub(super) fn wire(&self) -> Result<Arc<Wire>, BrokerError> {
        match &*self.state.borrow() {
            State::Up(wire) => Ok(Arc::clone(wire)),
            State::Down(why) => Err(why.clone()),
        }
    }

    /// Returns at once unless RabbitMQ has blocked publishing; else when it unblocks or the connection is gone.
    pub(super) async fn publishable(&self, wire: &Wire) {
        if !wire.publish.status().blocked() {
            return;
        }
        let mut status = self.status.subscribe();
        let _ = status.wait_for(|s| !matches!(s, LinkStatus::Blocked { .. }) || !wire.publish.status().blocked()).await;
    }

    /// Keeps the link up until the task that runs this is aborted.
    pub(super) async fn supervise(&self, settings: &Arc<Settings>) {
        let mut attempt = 0;
        loop {
            let why = match self.bring_up(settings).await {
                Ok(wire) => {
                    attempt = 0;
                    self.hold(Arc::new(wire)).await
                }
                Err(why) => why,
            };
            attempt += 1;
            let last_error = Some(why.to_string());
            if attempt == 1 {
                tracing::warn!(error = %why, "no connection to RabbitMQ, trying again until there is one");
            } else {
                tracing::debug!(error = %why, attempt, "still no connection to RabbitMQ");
            }
            self.state.send_replace(State::Down(why));
            self.status.send_replace(LinkStatus::Connecting { attempt, last_error });
            sleep(backoff(attempt)).await;
        }
    }

    /// Says goodbye; every call after this answers `Down`.
    pub(super) async fn shut(&self) {
        let was = self.state.send_replace(State::Down(BrokerError::Down("closed".into())));
        if let State::Up(wire) = was {
            wire.close().await;
        }
        self.status.send_replace(LinkStatus::Connecting { attempt: 0, last_error: Some("closed".into()) });
    }

    async fn bring_up(&self, settings: &Arc<Settings>) -> Result<Wire, BrokerError> {
        let first = connect::open(settings, &connect::name(settings, CONSUME, 1)).await?;
        if settings.role == Role::Daemon {
            let limit = settings.call_timeout;
            timeout(limit, topology::declare(&first)).await.map_err(|_| BrokerError::Timeout(limit))??;
        }
        let publish = connect::open(settings, &connect::name(settings, PUBLISH, 1)).await?;
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        Ok(Wire::new(epoch, first, publish, settings))
    }

    /// Holds the link up as long as all connections last; says why it ended.
    async fn hold(&self, wire: Arc<Wire>) -> BrokerError {
        tracing::info!(vhost = %wire.first.status().vhost(), "connected to RabbitMQ");
        self.state.send_replace(State::Up(Arc::clone(&wire)));
        self.status.send_replace(LinkStatus::Up);
        let why = self.watch(&wire).await;
        self.state.send_replace(State::Down(why.clone()));
        wire.close().await;
        why
    }

    async fn watch(&self, wire: &Wire) -> BrokerError {
        let mut first = pin!(wire.first.events_listener());
        let mut publish = pin!(wire.publish.events_listener());
        let mut last = String::from("connection closed");
        loop {
            let event = tokio::select! { biased;
                event = publish.next() => event,
                event = first.next() => event,
                () = sleep(LOOK) => None,
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(%reason, "RabbitMQ has blocked publishing: publishes wait until it lifts its alarm");
                    self.status.send_replace(LinkStatus::Blocked { reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!("RabbitMQ takes publishes again");
                    self.status.send_replace(LinkStatus::Up);
                }
                Some(Event::Error(error)) => last = error.to_string(), // of a channel or of the connection
                _ => {}
            }
            if !wire.is_up() {
                return BrokerError::Down(last);
            }
            wire.tidy().await;
        }
    }
}

/// 0.2 s, doubling up to 10 s.
fn backoff(attempt: u32) -> Duration {
    let (first, longest) = BACKOFF;
    first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_ever_more_slowly_up_to_a_limit() {
        let ms: Vec<u128> = (1..=8).map(|attempt| backoff(attempt).as_millis()).collect();
        assert_eq!(ms, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(backoff(u32::MAX), Duration::from_secs(10));
    }
}
