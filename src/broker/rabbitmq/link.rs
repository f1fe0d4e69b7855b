//! The supervised pair of connections: opens them, declares what must exist, watches them, and begins again when one is lost.
//!
//! lapin's own recovery is not used: it resurrects deleted queues and does not tell consumers that their deliveries are void.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::{Connection, Event};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::publish::Outlets;
use super::{LinkStatus, Role, Settings, connect, topology};
use crate::broker::BrokerError;

/// First and longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often the connections are looked at, should lapin not tell of their end.
const LOOK: Duration = Duration::from_secs(1);
/// How long a goodbye may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Two open connections and what lives and dies with them. RabbitMQ blocks a publishing connection as a whole when it runs
/// out of memory or disk; consuming and acknowledging must not stop with it.
pub(super) struct Wire {
    /// Tells this pair from the ones before and after.
    pub(super) epoch: u64,
    /// Consumes, acknowledges, declares.
    pub(super) consume: Connection,
    /// Publishes.
    pub(super) publish: Connection,
    /// The publishing channels.
    pub(super) outlets: Outlets,
}

impl Wire {
    fn is_up(&self) -> bool {
        self.consume.status().connected() && self.publish.status().connected()
    }

    async fn close(&self) {
        // Closing races with channels being dropped; the sockets end in any case.
        let goodbye = async {
            let _ = self.publish.close(200, "OK".into()).await;
            let _ = self.consume.close(200, "OK".into()).await;
        };
        let _ = timeout(CLOSE_LIMIT, goodbye).await;
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
    pub(super) async fn supervise(&self, settings: &Settings) {
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

    async fn bring_up(&self, settings: &Settings) -> Result<Wire, BrokerError> {
        let name = &settings.name;
        let consume = connect::open(settings, &format!("{name} consume")).await?;
        if settings.role == Role::Daemon {
            let limit = settings.call_timeout;
            timeout(limit, topology::declare(&consume)).await.map_err(|_| BrokerError::Timeout(limit))??;
        }
        let publish = connect::open(settings, &format!("{name} publish")).await?;
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        Ok(Wire { epoch, consume, publish, outlets: Outlets::default() })
    }

    /// Holds the link up as long as both connections last; says why it ended.
    async fn hold(&self, wire: Arc<Wire>) -> BrokerError {
        tracing::info!(vhost = %wire.consume.status().vhost(), "connected to RabbitMQ");
        self.state.send_replace(State::Up(Arc::clone(&wire)));
        self.status.send_replace(LinkStatus::Up);
        let why = self.watch(&wire).await;
        self.state.send_replace(State::Down(why.clone()));
        wire.close().await;
        why
    }

    async fn watch(&self, wire: &Wire) -> BrokerError {
        let mut consume = pin!(wire.consume.events_listener());
        let mut publish = pin!(wire.publish.events_listener());
        let mut last = String::from("connection closed");
        loop {
            let event = tokio::select! { biased;
                event = publish.next() => event,
                event = consume.next() => event,
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
