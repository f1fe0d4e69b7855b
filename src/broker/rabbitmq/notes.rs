//! Notes about campaigns on a stream: every note is appended, and reading the stream from its start finds the latest of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::BasicAckOptions;
use lapin::{BasicProperties, Channel, Consumer};
use tokio::time::timeout;

use super::consume::consume;
use super::errors::call;
use super::link::Wire;
use super::names::{self, NOTES, short};
use super::publish::{Outgoing, Routed};
use crate::broker::BrokerError;
use crate::job::CampaignId;

/// AMQP `type` of a note; its `message_id` is the campaign.
const NOTE: &str = "campaign.note.v1";
/// AMQP `type` of a reader's own mark: when it has come round, all before it has been read.
const MARK: &str = "mark.v1";
/// Unacknowledged notes while reading; streams insist on a limit and on acknowledgements.
const PREFETCH: u16 = 500;
const ACK_EVERY: u64 = 250;

/// Makes marks that no other reader makes.
pub(super) struct Marks {
    /// Of this process, unforeseeable.
    pub(super) session: u64,
    pub(super) next: AtomicU64,
}

/// What reading the stream gave.
pub(super) struct Read {
    pub(super) latest: BTreeMap<CampaignId, Bytes>,
    /// Bytes of all notes read, outdated ones included.
    pub(super) bytes: u64,
}

/// Appends a note.
pub(super) async fn append(wire: &Wire, campaign: &CampaignId, note: &[u8], now: Timestamp) -> Result<(), BrokerError> {
    publish(wire, NOTE, campaign.as_str(), note, now).await
}

/// Reads every note there is. `limit` is for each step, not for the whole.
pub(super) async fn read(wire: &Wire, marks: &Marks, limit: Duration, now: Timestamp) -> Result<Read, BrokerError> {
    let mark = format!("{:016x}-{}", marks.session, marks.next.fetch_add(1, Ordering::Relaxed));
    let late = |_| BrokerError::Timeout(limit);
    timeout(limit, publish(wire, MARK, &mark, b"", now)).await.map_err(late)??;
    let calls = wire.calls().await?;
    let channel = &calls.channel;
    let mut consumer = timeout(limit, consume(channel, NOTES, PREFETCH, names::from_the_start())).await.map_err(late)??;
    let read = up_to(&mark, channel, &mut consumer, limit).await;
    let _ = timeout(limit, channel.close(200, short("OK"))).await;
    read
}

async fn up_to(mark: &str, channel: &Channel, consumer: &mut Consumer, limit: Duration) -> Result<Read, BrokerError> {
    let mut read = Read { latest: BTreeMap::new(), bytes: 0 };
    loop {
        let next = timeout(limit, consumer.next()).await.map_err(|_| BrokerError::Timeout(limit))?;
        let delivery = match next {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(call("reading the notes", &error)),
            None => return Err(BrokerError::Down("the stream of notes ended".into())),
        };
        let kind = delivery.properties.kind().as_ref().map(|kind| kind.as_str());
        let id = delivery.properties.message_id().as_ref().map(|id| id.as_str()).unwrap_or_default();
        if kind == Some(MARK) && id == mark {
            return Ok(read);
        }
        if delivery.delivery_tag % ACK_EVERY == 0 {
            let acked = channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await;
            acked.map_err(|e| call("reading the notes", &e))?;
        }
        read.bytes += delivery.data.len() as u64;
        let Some(campaign) = (kind == Some(NOTE)).then(|| CampaignId::noted(id).ok()).flatten() else { continue };
        if delivery.data.is_empty() {
            read.latest.remove(&campaign);
        } else {
            read.latest.insert(campaign, Bytes::from(delivery.data));
        }
    }
}

async fn publish(wire: &Wire, kind: &str, id: &str, body: &[u8], now: Timestamp) -> Result<(), BrokerError> {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_type(short(kind))
        .with_message_id(short(id))
        .with_timestamp(u64::try_from(now.as_second()).unwrap_or(0));
    match wire.outlets.alone(wire, Outgoing { exchange: NOTES, key: "", body, properties }).await? {
        Routed::Yes => Ok(()),
        Routed::No => Err(BrokerError::Denied(format!("stream {NOTES} is missing: restart campaignd to declare it"))),
    }
}
