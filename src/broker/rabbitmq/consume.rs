//! Subscriptions: one channel and one task each, deliveries into the sink, acknowledgements back in runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::CLOSE_LIMIT;
use super::errors::{call, is_missing};
use super::headers::from_amqp;
use super::link::Wire;
use super::names::{self, short};
use super::pool::Lease;
use super::runs::Window;
use crate::broker::{BrokerError, Delivery, Event, Message, Source, Subscription, SubscriptionId, Tag};
use crate::lock::lock;

/// Subscriptions are numbered through the whole process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A subscription that can still be acknowledged on.
struct Live {
    source: Source,
    channel: Channel,
    /// The highest delivery tag so far; tags are 1, 2, 3, …
    delivered: AtomicU64,
    /// Locked while frames are queued, so that they leave in the order they were worked out.
    window: tokio::sync::Mutex<Window>,
}

type Register = Arc<Mutex<HashMap<SubscriptionId, Arc<Live>>>>;

/// All subscriptions.
#[derive(Default)]
pub(super) struct Consumers {
    live: Register,
    pumps: Mutex<JoinSet<()>>,
}

impl Consumers {
    pub(super) async fn subscribe(
        &self,
        wire: &Wire,
        source: Source,
        prefetch: u16,
        sink: mpsc::Sender<Event>,
    ) -> Result<Subscription, BrokerError> {
        let place = wire.subscriber().await?;
        let channel = place.channel().await?;
        let consumer = consume(&channel, &names::queue(&source), prefetch.max(1), FieldTable::default()).await?;
        let id = SubscriptionId(NEXT.fetch_add(1, Ordering::Relaxed));
        let live = Arc::new(Live { source, channel, delivered: AtomicU64::new(0), window: tokio::sync::Mutex::default() });
        lock(&self.live).insert(id, Arc::clone(&live));
        let (guard, stop) = oneshot::channel::<()>();
        let pump = Pump { id, live, register: Arc::clone(&self.live), sink, place };
        let mut pumps = lock(&self.pumps);
        while pumps.try_join_next().is_some() {} // forget those that have ended
        pumps.spawn(pump.run(consumer, stop));
        Ok(Subscription::new(id, guard))
    }

    /// Acknowledges; tags of ended subscriptions are passed over.
    pub(super) async fn ack(&self, tags: &[Tag]) {
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        for group in tags.chunk_by(|a, b| a.subscription == b.subscription) {
            let Some(live) = group.first().and_then(|tag| lock(&self.live).get(&tag.subscription).cloned()) else { continue };
            let numbers: Vec<u64> = group.iter().map(|tag| tag.number).collect();
            live.ack(&numbers).await;
        }
    }

    /// Deliveries from `source` that are not acknowledged.
    pub(super) async fn unsettled(&self, source: &Source) -> u64 {
        let all: Vec<Arc<Live>> = lock(&self.live).values().filter(|live| live.source == *source).cloned().collect();
        let mut sum = 0;
        for live in all {
            sum += live.window.lock().await.unsettled(live.delivered.load(Ordering::Acquire));
        }
        sum
    }

    /// Ends all subscriptions.
    pub(super) fn shut(&self) {
        lock(&self.live).clear();
        lock(&self.pumps).abort_all();
    }
}

impl Live {
    async fn ack(&self, numbers: &[u64]) {
        let mut window = self.window.lock().await;
        let frames = window
            .runs(numbers, self.delivered.load(Ordering::Acquire))
            .into_iter()
            .map(|ack| async move { self.channel.basic_ack(ack.number, BasicAckOptions { multiple: ack.multiple }).await });
        let failed = join_all(frames).await.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            // The channel is gone, so the broker delivers them again: the same as an ended subscription.
            tracing::debug!(%error, "acknowledgement came too late");
        }
    }
}

/// Starts a consumer; at most `prefetch` unacknowledged at a time.
pub(super) async fn consume(
    channel: &Channel,
    queue: &str,
    prefetch: u16,
    arguments: FieldTable,
) -> Result<Consumer, BrokerError> {
    let failed = |e: lapin::Error| {
        if is_missing(&e) {
            BrokerError::Down(format!("queue {queue} does not exist"))
        } else {
            call(&format!("consuming {queue}"), &e)
        }
    };
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(failed)?;
    channel.basic_consume(short(queue), short(""), BasicConsumeOptions::default(), arguments).await.map_err(failed)
}

/// Carries deliveries of one subscription into its sink.
struct Pump {
    id: SubscriptionId,
    live: Arc<Live>,
    register: Register,
    sink: mpsc::Sender<Event>,
    /// Given up once the channel is closed.
    place: Lease,
}

impl Pump {
    async fn run(self, mut consumer: Consumer, mut stop: oneshot::Receiver<()>) {
        let ended = tokio::select! { biased;
            _ = &mut stop => None,
            () = self.place.over() => Some("a connection to RabbitMQ is lost".into()),
            reason = self.carry(&mut consumer) => reason,
        };
        // Closed without cancelling first: only that returns what is unsettled to the head of the queue in order.
        let _ = timeout(CLOSE_LIMIT, self.live.channel.close(200, short("OK"))).await;
        lock(&self.register).remove(&self.id); // only now is nothing of it unsettled
        drop(consumer);
        let Some(reason) = ended else { return };
        let last = Event::Ended { subscription: self.id, reason };
        tokio::select! { biased;
            _ = &mut stop => {}
            _ = self.sink.send(last) => {}
        }
    }

    /// Returns why the broker ended it, or `None` when nobody listens any more.
    async fn carry(&self, consumer: &mut Consumer) -> Option<String> {
        loop {
            let delivery = match consumer.next().await {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Some(error.to_string()),
                None => return Some("the queue was deleted or the connection closed".into()),
            };
            self.live.delivered.store(delivery.delivery_tag, Ordering::Release);
            self.sink.send(Event::Delivery(self.ours(delivery))).await.ok()?;
        }
    }

    fn ours(&self, delivery: lapin::message::Delivery) -> Delivery {
        let headers = from_amqp(&delivery.properties, delivery.routing_key.as_str());
        Delivery {
            tag: Tag { subscription: self.id, number: delivery.delivery_tag },
            message: Message { body: Bytes::from(delivery.data), headers },
            redelivered: delivery.redelivered,
        }
    }
}
