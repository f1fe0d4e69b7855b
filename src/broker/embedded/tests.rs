//! What the embedded broker promises beyond the contract both brokers share: reopening, marks, delays, damage.

use std::path::Path;

use super::*;
use crate::broker::{Bound, Delivery, Headers};

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
    assert!(!broker.prepare(&spring(), Bound::Unknown).await.unwrap().existed);
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
    assert!(broker.prepare(&spring(), Bound::Unknown).await.unwrap().existed);
    assert_eq!(broker.depth(&Source::Jobs(spring())).await.unwrap(), 650);
    let (sink, mut events) = mpsc::channel(16);
    let _subscription = broker.subscribe(Source::Jobs(spring()), 2000, sink).await.unwrap();
    let rest = take(&mut events, 650).await;
    assert_eq!(ids(&rest), (50..700).collect::<Vec<_>>());
    assert!(rest.iter().take(100).all(|d| d.redelivered));
    assert!(rest.iter().skip(100 + 2 * 256).all(|d| !d.redelivered));
}

#[tokio::test]
async fn a_wall_clock_set_back_strands_nobody_while_running_or_while_down() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::simulated("2026-11-22T12:00:00Z".parse().unwrap());
    let broker = Embedded::open(dir.path(), clock.clone()).unwrap();
    broker.prepare(&spring(), Bound::Unknown).await.unwrap();
    broker.publish(Target::Wait(&spring(), Duration::from_millis(600)), &message(1)).await.unwrap();
    broker.publish(Target::Wait(&spring(), Duration::from_secs(3600)), &message(2)).await.unwrap();
    clock.step_wall(-24 * 3_600_000);
    let (sink, mut events) = mpsc::channel(16);
    let subscription = broker.subscribe(Source::Jobs(spring()), 10, sink).await.unwrap();
    assert_eq!(ids(&take(&mut events, 1).await), [1]);
    drop((subscription, broker));

    // an hour after the opening it comes, though by its first reckoning a day and an hour are left
    let broker = Embedded::open(dir.path(), clock.clone()).unwrap();
    clock.step_wall(3_601_000);
    let (sink, mut events) = mpsc::channel(16);
    let _subscription = broker.subscribe(Source::Jobs(spring()), 10, sink).await.unwrap();
    assert_eq!(ids(&take(&mut events, 2).await), [1, 2]);
}

#[tokio::test]
async fn large_bodies_come_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    broker.prepare(&spring(), Bound::Unknown).await.unwrap();
    let bodies: Vec<Message> = (0..40).map(|n| Message { body: vec![n; 65_536].into(), ..message(usize::from(n)) }).collect();
    for body in &bodies {
        broker.publish(Target::Jobs(&spring()), body).await.unwrap();
    }
    broker.publish(Target::Wait(&spring(), Duration::from_millis(1)), &bodies[0]).await.unwrap();
    let huge = Message { body: vec![0; 2_000_000].into(), ..message(0) };
    assert!(matches!(broker.publish(Target::Jobs(&spring()), &huge).await, Err(BrokerError::Refused(_))));
    drop(broker);
    assert!(dir.path().join("queues/blobs").read_dir().unwrap().next().is_none(), "sled does not sync its blob files");
    let broker = open(dir.path());
    let (sink, mut events) = mpsc::channel(16);
    let _subscription = broker.subscribe(Source::Jobs(spring()), 100, sink).await.unwrap();
    let got = take(&mut events, 41).await;
    assert!(got.iter().zip(bodies.iter().chain(&bodies[..1])).all(|(got, put)| got.message.body == put.body));
}

#[tokio::test]
async fn a_failed_publish_may_be_repeated_and_settled_jobs_stay_settled() {
    for trouble in [crate::disk::InjectedFault::Lost, crate::disk::InjectedFault::Kept] {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path());
        broker.prepare(&spring(), Bound::Unknown).await.unwrap();
        publish(&broker, 0..10).await;
        let (sink, mut events) = mpsc::channel(16);
        let subscription = broker.subscribe(Source::Jobs(spring()), 5, sink).await.unwrap();
        let first = take(&mut events, 5).await;
        let tags: Vec<Tag> = first.iter().map(|d| d.tag).collect();
        broker.shared.slot.meddle(|db| db.as_ref().unwrap().suffer(trouble));
        broker.ack(&tags).await.unwrap();
        while broker.publish(Target::Jobs(&spring()), &message(10)).await.is_err() {}
        drop(subscription);
        let depth = broker.depth(&Source::Jobs(spring())).await.unwrap();
        drop(broker);
        let broker = open(dir.path());
        assert_eq!(broker.depth(&Source::Jobs(spring())).await.unwrap(), depth, "{trouble:?}");
        let (sink, mut events) = mpsc::channel(16);
        let _subscription = broker.subscribe(Source::Jobs(spring()), 50, sink).await.unwrap();
        let got = ids(&take(&mut events, usize::try_from(depth).unwrap()).await);
        assert!(got.starts_with(&[5, 6, 7, 8, 9, 10]) && got[5..].iter().all(|n| *n == 10), "{trouble:?}: {got:?}");
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let queues = dir.path().join("queues");
    let snapshot = queues.read_dir().unwrap().map(|e| e.unwrap().path()).find(|p| p.to_str().unwrap().contains("snap."));
    std::fs::write(snapshot.unwrap_or_else(|| queues.join("snap.0000000000000001")), b"").unwrap();
    let refused = Embedded::open(dir.path(), Clock::system()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("backup"), "{refused}");
    assert!(queues.join("db").exists());
    assert!(matches!(Embedded::open(dir.path(), Clock::system()), Err(OpenError::Damaged { .. })), "still there, still refused");
}
