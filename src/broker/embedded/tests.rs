//! What the embedded broker promises beyond the contract both brokers share: reopening, marks, delays, damage.

use std::path::Path;

use super::*;
use crate::broker::{Delivery, Headers};

const LIMIT: Duration = Duration::from_secs(20);

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, Clock::system()).unwrap()
}

fn spring() -> CampaignId {
    "spring".parse().unwrap()
}

fn message(n: usize) -> Message {
    Message {
        body: format!("body {n}").into(),
        headers: Headers { message_id: Some(n.to_string()), attempts: 3, ..Headers::default() },
    }
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Delivery {
    match tokio::time::timeout(LIMIT, events.recv()).await.expect("a delivery in time").expect("a delivery") {
        Event::Delivery(delivery) => delivery,
        Event::Ended { reason, .. } => panic!("ended: {reason}"),
    }
}

async fn take(events: &mut mpsc::Receiver<Event>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for _ in 0..count {
        deliveries.push(next(events).await);
    }
    deliveries
}

fn ids(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(|d| d.message.headers.message_id.as_deref().unwrap().parse().unwrap()).collect()
}

/// One after the other: only then is their order given.
async fn publish(broker: &Embedded, numbers: std::ops::Range<usize>) {
    for n in numbers {
        broker.publish(Target::Jobs(&spring()), &message(n)).await.unwrap();
    }
}

#[tokio::test]
async fn jobs_survive_opening_again_in_order_and_only_delivered_ones_are_flagged() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    assert!(!broker.prepare(&spring()).await.unwrap().existed);
    publish(&broker, 0..700).await;
    let (sink, mut events) = mpsc::channel(16);
    let subscription = broker.subscribe(Source::Jobs(spring()), 100, sink).await.unwrap();
    let first = take(&mut events, 100).await;
    assert_eq!(ids(&first), (0..100).collect::<Vec<_>>());
    assert!(first.iter().all(|d| !d.redelivered));
    let tags: Vec<Tag> = first.iter().take(50).map(|d| d.tag).collect();
    broker.ack(&tags).await.unwrap();
    drop((subscription, broker));

    let broker = open(dir.path());
    assert!(broker.prepare(&spring()).await.unwrap().existed);
    assert_eq!(broker.depth(&Source::Jobs(spring())).await.unwrap(), 650);
    let (sink, mut events) = mpsc::channel(16);
    let _subscription = broker.subscribe(Source::Jobs(spring()), 2000, sink).await.unwrap();
    let rest = take(&mut events, 650).await;
    assert_eq!(ids(&rest), (50..700).collect::<Vec<_>>());
    assert!(rest.iter().take(100).all(|d| d.redelivered));
    assert!(rest.iter().skip(100 + 2 * 256).all(|d| !d.redelivered));
}
