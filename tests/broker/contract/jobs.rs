//! Jobs: in order, bounded, acknowledged exactly, durable.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use campaignd::broker::{Bound, BrokerError, Source, SubscriptionId, Tag, Target};
use futures_util::stream::{self, StreamExt};

use super::*;

pub(crate) async fn jobs_arrive_in_the_order_they_were_published(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    let ids = numbered(0..200);
    publish_all(&*broker, &spring, &ids).await;
    let mut inbox = Inbox::open(&*broker, source, 300).await;
    let got = inbox.take(200).await;
    assert_eq!(got.iter().map(id).collect::<Vec<_>>(), ids);
    assert!(got.iter().all(|d| !d.redelivered));
    assert!(got.is_sorted_by_key(|d| d.tag.number));
    assert_eq!(got[7].message.body, Bytes::from("body of job-00007"));
}

pub(crate) async fn no_more_than_the_prefetch_is_unsettled(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..20)).await;
    let mut inbox = Inbox::open(&*broker, source, 5).await;
    let first = inbox.take(5).await;
    inbox.stays_quiet().await;
    broker.ack(&tags(&first[..2])).await.unwrap();
    assert_eq!(inbox.ids(2).await, numbered(5..7));
    inbox.stays_quiet().await;
}

pub(crate) async fn a_dropped_subscription_returns_its_deliveries_to_the_head_in_order(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..100)).await;
    let mut inbox = Inbox::open(&*broker, source.clone(), 40).await;
    let got = inbox.take(40).await;
    broker.ack(&tags(&got[..10])).await.unwrap();
    drop(inbox);
    wait_for_depth(&*broker, &source, 90).await;
    let mut again = Inbox::open(&*broker, source, 100).await;
    let got = again.take(90).await;
    assert_eq!(got.iter().map(id).collect::<Vec<_>>(), numbered(10..100));
    assert!(got[..30].iter().all(|d| d.redelivered), "delivered before");
    assert!(got[40..].iter().all(|d| !d.redelivered), "never delivered before");
}

pub(crate) async fn what_is_acknowledged_never_comes_again(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..50)).await;
    let mut inbox = Inbox::open(&*broker, source.clone(), 50).await;
    let got = inbox.take(50).await;
    broker.ack(&tags(&got)).await.unwrap();
    publish_all(&*broker, &spring, &["after".to_owned()]).await;
    assert_eq!(inbox.ids(1).await, ["after"]);
    drop(inbox);
    wait_for_depth(&*broker, &source, 1).await;
    assert_eq!(Inbox::open(&*broker, source, 50).await.ids(1).await, ["after"]);
}

pub(crate) async fn acknowledging_on_an_ended_subscription_is_harmless(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..3)).await;
    let mut inbox = Inbox::open(&*broker, source.clone(), 3).await;
    let old = inbox.take(3).await;
    drop(inbox);
    wait_for_depth(&*broker, &source, 3).await;
    let mut again = Inbox::open(&*broker, source.clone(), 3).await;
    let new = again.take(3).await;
    assert_ne!(old[0].tag.subscription, new[0].tag.subscription);
    broker.ack(&tags(&old)).await.unwrap();
    broker.ack(&tags(&new[..1])).await.unwrap();
    drop(again);
    wait_for_depth(&*broker, &source, 2).await;
    assert_eq!(Inbox::open(&*broker, source, 3).await.ids(2).await, numbered(1..3));
}

pub(crate) async fn acknowledging_twice_or_what_was_never_delivered_is_harmless(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..4)).await;
    let mut inbox = Inbox::open(&*broker, source, 2).await;
    let got = inbox.take(2).await;
    let here = inbox.subscription.id();
    broker.ack(&tags(&got[..1])).await.unwrap();
    let nonsense =
        [got[0].tag, Tag { subscription: here, number: 1_000 }, Tag { subscription: SubscriptionId(u64::MAX), number: 1 }];
    broker.ack(&nonsense).await.unwrap();
    broker.ack(&[]).await.unwrap();
    assert_eq!(inbox.ids(1).await, numbered(2..3));
    inbox.stays_quiet().await;
}

pub(crate) async fn acknowledgements_out_of_order_take_off_exactly_what_they_name(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..30)).await;
    let mut inbox = Inbox::open(&*broker, source.clone(), 30).await;
    let got = inbox.take(30).await;
    let odd: Vec<Tag> = got.iter().rev().skip(1).step_by(3).map(|d| d.tag).collect();
    broker.ack(&odd).await.unwrap();
    broker.ack(&tags(&got[..5])).await.unwrap();
    drop(inbox);
    let gone: BTreeSet<u64> = odd.iter().map(|t| t.number).chain(got[..5].iter().map(|d| d.tag.number)).collect();
    let left: Vec<String> = got.iter().filter(|d| !gone.contains(&d.tag.number)).map(id).collect();
    wait_for_depth(&*broker, &source, left.len() as u64).await;
    assert_eq!(Inbox::open(&*broker, source, 30).await.ids(left.len()).await, left);
}

pub(crate) async fn everything_survives_a_reopening(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..20)).await;
    publish(&*broker, Target::Dead(&spring), &job("dead")).await;
    publish(&*broker, Target::Wait(&spring, Duration::from_secs(1)), &job("later")).await;
    publish(&*broker, Target::Announce(&campaign("summer")), &job("hello")).await;
    broker.remember(&spring, b"note").await.unwrap();
    let mut inbox = Inbox::open(&*broker, source.clone(), 10).await;
    let got = inbox.take(10).await;
    broker.ack(&tags(&got[..5])).await.unwrap();
    drop(inbox);
    let Home { broker: other, reopen, _keep } = home;
    drop(other);
    let broker = reopen(broker).await;
    assert!(broker.prepare(&spring, Bound::Unknown).await.unwrap().existed);
    let mut inbox = Inbox::open(&*broker, source, 20).await;
    // In whatever order: the new connection may be faster than the return of what the old one held.
    let mut left = inbox.ids(16).await;
    left.sort_unstable();
    assert_eq!(left, [numbered(5..20), vec!["later".into()]].concat());
    assert_eq!(Inbox::open(&*broker, Source::Dead(spring.clone()), 5).await.ids(1).await, ["dead"]);
    assert_eq!(Inbox::open(&*broker, Source::Intake, 5).await.ids(1).await, ["hello"]);
    assert_eq!(broker.recall().await.unwrap(), [(spring, Bytes::from("note"))]);
}

pub(crate) async fn ten_thousand_jobs_arrive_once_each(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    let ids = numbered(0..10_000);
    let sent = stream::iter(&ids)
        .map(|id| {
            let message = job(id);
            let (broker, spring) = (&broker, &spring);
            async move { broker.publish(Target::Jobs(spring), &message).await }
        })
        .buffer_unordered(256)
        .filter_map(async |result: Result<(), BrokerError>| result.err())
        .collect::<Vec<_>>()
        .await;
    assert_eq!(sent, [], "every publish is confirmed");
    assert_eq!(broker.depth(&source).await, Ok(10_000));
    let mut inbox = Inbox::open(&*broker, source.clone(), 500).await;
    let mut seen = BTreeSet::new();
    let mut run = Vec::new();
    while seen.len() < ids.len() {
        let delivery = inbox.next().await;
        run.push(delivery.tag);
        assert!(seen.insert(id(&delivery)), "{} twice", id(&delivery));
        if run.len() == 100 || seen.len() == ids.len() {
            run.reverse();
            broker.ack(&run).await.unwrap();
            run.clear();
        }
    }
    assert_eq!(seen, ids.into_iter().collect());
    drop(inbox);
    wait_for_depth(&*broker, &source, 0).await;
    assert!(broker.remove(&spring).await.unwrap());
}
