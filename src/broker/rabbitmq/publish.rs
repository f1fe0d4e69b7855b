//! Publishing with confirms. Every confirm is awaited by itself; a refusal costs the channel it came on.

use std::sync::{Arc, Mutex};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Semaphore;

use super::errors::{call, is_missing, reply_code};
use super::link::Wire;
use super::names::short;
use crate::broker::BrokerError;
use crate::lock::lock;

/// How many messages may be waiting for their confirm, over all channels.
pub(super) const IN_FLIGHT: usize = 512;
/// Channels that carry one message at a time.
const LANES: usize = 32;

/// The publishing channels of one connection.
///
/// lapin may hand a returned message to the wrong publish when several are in flight on a channel. So what can be unroutable
/// (a wait or dead-letter queue somebody deleted) goes through lanes with one message in flight each, where a return can only
/// be that message's. What cannot be (the jobs exchange has an alternate) shares one channel, hundreds in flight.
pub(super) struct Outlets {
    shared: Mutex<Option<Arc<Channel>>>,
    lanes: Semaphore,
    idle: Mutex<Vec<Channel>>,
}

/// A message on its way to an exchange.
pub(super) struct Outgoing<'a> {
    pub(super) exchange: &'a str,
    pub(super) key: &'a str,
    pub(super) body: &'a [u8],
    pub(super) properties: BasicProperties,
}

/// What became of a message on a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Routed {
    Yes,
    /// No queue is bound for it: it was not stored.
    No,
}

impl Outlets {
    /// For a connection that may have so many channels; some are on their way out.
    pub(super) fn new(channels: usize) -> Self {
        let lanes = Semaphore::new((channels / 2).clamp(1, LANES));
        Self { shared: Mutex::default(), lanes, idle: Mutex::default() }
    }

    /// Publishes on the shared channel.
    pub(super) async fn shared(&self, wire: &Wire, message: Outgoing<'_>) -> Result<(), BrokerError> {
        let channel = self.shared_channel(wire).await?;
        let done = confirmed(&channel, message).await;
        match done {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(_) => {
                // A new channel takes over: one that was nacked once may be nacked for ever, and a return here means
                // that the alternate exchange is gone.
                self.retire(&channel);
                Err(BrokerError::Refused("not stored or not routed".into()))
            }
            Err(error) => {
                self.retire(&channel);
                Err(error)
            }
        }
    }

    /// Publishes with nothing else in flight on its channel, so that a return is surely this message's.
    pub(super) async fn alone(&self, wire: &Wire, message: Outgoing<'_>) -> Result<Routed, BrokerError> {
        let _lane = self.lanes.acquire().await.map_err(|_| BrokerError::Down("closed".into()))?;
        let idle = lock(&self.idle).pop().filter(|channel| channel.status().connected());
        let channel = match idle {
            Some(channel) => channel,
            None => confirming(wire).await?,
        };
        // Dropped half way (a time limit), the channel closes with the future and never carries another message.
        let routed = match confirmed(&channel, message).await? {
            Confirmation::Ack(None) => Routed::Yes,
            Confirmation::Ack(Some(_)) => Routed::No,
            _ => return Err(BrokerError::Refused("the queue is full or has no leader".into())),
        };
        lock(&self.idle).push(channel);
        Ok(routed)
    }

    async fn shared_channel(&self, wire: &Wire) -> Result<Arc<Channel>, BrokerError> {
        let usable = |slot: &Option<Arc<Channel>>| slot.as_ref().filter(|c| c.status().connected()).cloned();
        if let Some(channel) = usable(&lock(&self.shared)) {
            return Ok(channel);
        }
        let fresh = Arc::new(confirming(wire).await?);
        let mut slot = lock(&self.shared);
        if let Some(channel) = usable(&slot) {
            return Ok(channel); // another publish was faster
        }
        *slot = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn retire(&self, channel: &Arc<Channel>) {
        let mut slot = lock(&self.shared);
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, channel)) {
            *slot = None; // closes when the last publish in flight on it is done
        }
    }
}

async fn confirming(wire: &Wire) -> Result<Channel, BrokerError> {
    let channel = match wire.publish.create_channel().await {
        Ok(channel) => channel,
        Err(error) => {
            if reply_code(&error).is_some() {
                // The error of a former channel with this number, which is of no more use: all begin again with new numbers.
                let _ = wire.publish.close(200, short("OK")).await;
            }
            return Err(call("opening a channel to publish", &error));
        }
    };
    let selected = channel.confirm_select(ConfirmSelectOptions::default()).await;
    selected.map_err(|e| call("asking for publisher confirms", &e))?;
    Ok(channel)
}

async fn confirmed(channel: &Channel, message: Outgoing<'_>) -> Result<Confirmation, BrokerError> {
    let Outgoing { exchange, key, body, properties } = message;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let failed = |error: lapin::Error| {
        if is_missing(&error) {
            BrokerError::Denied(format!(
                "exchange {exchange} is missing: import deploy/rabbitmq/definitions.json or restart campaignd"
            ))
        } else {
            call(&format!("publishing to {exchange}"), &error)
        }
    };
    let confirm = channel.basic_publish(short(exchange), short(key), options, body, properties).await.map_err(failed)?;
    confirm.await.map_err(failed)
}
