//! What every broker must do, written once against the trait. Each function gets a broker that holds nothing yet.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use campaignd::broker::{
    ANNOUNCEMENT, Broker, BrokerError, Death, Delivery, Event, Headers, Message, Source, Subscription, SubscriptionId, Tag,
    Target,
};
use campaignd::job::CampaignId;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Long enough for a busy machine; nothing waits this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to look for something that must not come.
const QUIET: Duration = Duration::from_millis(300);

/// Closes a broker and opens it again on the same data.
pub(crate) type Reopen = Box<dyn Fn(Arc<dyn Broker>) -> BoxFuture<'static, Arc<dyn Broker>> + Send + Sync>;

/// A broker under test.
pub(crate) struct Home {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) reopen: Reopen,
    /// Whatever has to live as long as the test.
    pub(crate) _keep: Box<dyn Any + Send>,
}

/// One test for each function below, on homes made by `$open`.
macro_rules! contract_tests {
    ($open:path) => {
        contract_tests! { $open:
            jobs_arrive_in_the_order_they_were_published,
            no_more_than_the_prefetch_is_unsettled,
            a_dropped_subscription_returns_its_deliveries_to_the_head_in_order,
            what_is_acknowledged_never_comes_again,
            acknowledging_on_an_ended_subscription_is_harmless,
            acknowledging_twice_or_what_was_never_delivered_is_harmless,
            acknowledgements_out_of_order_take_off_exactly_what_they_name,
            everything_survives_a_reopening,
            a_delayed_job_is_never_early_and_comes_home_with_its_headers,
            a_delayed_job_of_a_campaign_without_a_queue_reaches_the_intake,
            dead_letters_can_be_looked_at_without_loss_or_reordering,
            dead_letters_can_be_taken_one_by_one,
            a_queue_is_removed_only_when_it_is_empty,
            jobs_nobody_expects_and_announcements_reach_the_intake,
            preparing_again_changes_nothing,
            campaigns_do_not_mix,
            headers_travel_unchanged,
            what_does_not_exist_is_empty,
            the_latest_note_of_each_campaign_is_recalled,
            ten_thousand_jobs_arrive_once_each,
        }
    };
    ($open:path: $($name:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            crate::contract::$name($open().await).await;
        }
    )*};
}
pub(crate) use contract_tests;

pub(crate) fn campaign(name: &str) -> CampaignId {
    name.parse().unwrap()
}

pub(crate) fn job(id: &str) -> Message {
    Message { body: Bytes::from(format!("body of {id}")), headers: Headers { message_id: Some(id.into()), ..Headers::default() } }
}

pub(crate) fn id(delivery: &Delivery) -> String {
    delivery.message.headers.message_id.clone().unwrap_or_default()
}

/// A subscription and what came by it.
pub(crate) struct Inbox {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) subscription: Subscription,
}

impl Inbox {
    /// Subscribes, trying again for a while as the daemon does.
    pub(crate) async fn open(broker: &dyn Broker, source: Source, prefetch: u16) -> Self {
        let (sink, events) = mpsc::channel(usize::from(prefetch) + 1);
        let end = Instant::now() + PATIENCE;
        loop {
            match broker.subscribe(source.clone(), prefetch, sink.clone()).await {
                Ok(subscription) => return Self { events, subscription },
                Err(error) if Instant::now() > end => panic!("subscribing to {source:?}: {error}"),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("nothing came").expect("the sink closed")
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        match self.event().await {
            Event::Delivery(delivery) => {
                assert_eq!(delivery.tag.subscription, self.subscription.id());
                delivery
            }
            Event::Ended { reason, .. } => panic!("the subscription ended: {reason}"),
        }
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.next().await);
        }
        all
    }

    async fn ids(&mut self, count: usize) -> Vec<String> {
        self.take(count).await.iter().map(id).collect()
    }

    async fn stays_quiet(&mut self) {
        if let Ok(event) = timeout(QUIET, self.events.recv()).await {
            panic!("nothing more was to come, but there was {event:?}");
        }
    }
}

/// Publishes as the daemon does: the same message again until it is confirmed.
pub(crate) async fn publish(broker: &dyn Broker, to: Target<'_>, message: &Message) {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = broker.publish(to, message).await {
        assert!(Instant::now() < end, "publishing to {to:?}: {error}");
        sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn publish_all(broker: &dyn Broker, campaign: &CampaignId, ids: &[String]) {
    for id in ids {
        publish(broker, Target::Jobs(campaign), &job(id)).await;
    }
}

pub(crate) fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("job-{n:05}")).collect()
}

pub(crate) async fn wait_for_depth(broker: &dyn Broker, source: &Source, expected: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let depth = broker.depth(source).await;
        if depth == Ok(expected) {
            return;
        }
        assert!(Instant::now() < end, "{source:?} has {depth:?} ready, not {expected}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn tags(deliveries: &[Delivery]) -> Vec<Tag> {
    deliveries.iter().map(|d| d.tag).collect()
}

async fn prepared(home: &Home) -> (Arc<dyn Broker>, CampaignId, Source) {
    let spring = campaign("spring");
    assert!(!home.broker.prepare(&spring).await.unwrap().existed);
    (Arc::clone(&home.broker), spring.clone(), Source::Jobs(spring))
}

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
    assert!(broker.prepare(&spring).await.unwrap().existed);
    let mut inbox = Inbox::open(&*broker, source, 20).await;
    // In whatever order: the new connection may be faster than the return of what the old one held.
    let mut left = inbox.ids(16).await;
    left.sort_unstable();
    assert_eq!(left, [numbered(5..20), vec!["later".into()]].concat());
    assert_eq!(Inbox::open(&*broker, Source::Dead(spring.clone()), 5).await.ids(1).await, ["dead"]);
    assert_eq!(Inbox::open(&*broker, Source::Intake, 5).await.ids(1).await, ["hello"]);
    assert_eq!(broker.recall().await.unwrap(), [(spring, Bytes::from("note"))]);
}

pub(crate) async fn a_delayed_job_is_never_early_and_comes_home_with_its_headers(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    let mut inbox = Inbox::open(&*broker, source, 10).await;
    let mut delayed = job("later");
    delayed.headers.attempts = 3;
    delayed.headers.release = 1;
    delayed.headers.batch = Some("file-1".into());
    delayed.headers.first_seen = Some("2026-11-22T10:00:00.123456789Z".parse().unwrap());
    for (delay, least) in
        [(Duration::from_millis(300), 300), (Duration::from_secs(1), 1_000), (Duration::from_millis(1_001), 1_001)]
    {
        let start = Instant::now();
        publish(&*broker, Target::Wait(&spring, delay), &delayed).await;
        let got = inbox.next().await;
        assert!(start.elapsed() >= Duration::from_millis(least), "after {:?} instead of {delay:?}", start.elapsed());
        let expected = Headers { routed_to: Some("spring".into()), ..delayed.headers.clone() };
        assert_eq!(got.message, Message { body: delayed.body.clone(), headers: expected });
        broker.ack(&[got.tag]).await.unwrap();
    }
    inbox.stays_quiet().await;
}

pub(crate) async fn a_delayed_job_of_a_campaign_without_a_queue_reaches_the_intake(home: Home) {
    let broker = &*home.broker;
    let mut intake = Inbox::open(broker, Source::Intake, 10).await;
    publish(broker, Target::Wait(&campaign("gone"), Duration::from_secs(1)), &job("orphan")).await;
    let got = intake.next().await;
    assert_eq!((id(&got).as_str(), got.message.headers.routed_to.as_deref()), ("orphan", Some("gone")));
}

async fn ten_dead(home: &Home) -> (CampaignId, Source) {
    let spring = campaign("spring");
    for n in 0..10 {
        publish(&*home.broker, Target::Dead(&spring), &job(&format!("dead-{n}"))).await;
    }
    (spring.clone(), Source::Dead(spring))
}

fn dead(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|n| format!("dead-{n}")).collect()
}

pub(crate) async fn dead_letters_can_be_looked_at_without_loss_or_reordering(home: Home) {
    let (_, source) = ten_dead(&home).await;
    let broker = &*home.broker;
    for _ in 0..3 {
        wait_for_depth(broker, &source, 10).await;
        let mut inbox = Inbox::open(broker, source.clone(), 10).await;
        assert_eq!(inbox.ids(10).await, dead(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }
}

pub(crate) async fn dead_letters_can_be_taken_one_by_one(home: Home) {
    let (spring, source) = ten_dead(&home).await;
    let broker = &*home.broker;
    broker.prepare(&spring).await.unwrap();
    let mut inbox = Inbox::open(broker, source.clone(), 10).await;
    let letters = inbox.take(10).await;
    for taken in [&letters[2], &letters[7]] {
        publish(broker, Target::Jobs(&spring), &taken.message).await;
        broker.ack(&[taken.tag]).await.unwrap();
    }
    drop(inbox);
    wait_for_depth(broker, &source, 8).await;
    assert_eq!(Inbox::open(broker, source, 10).await.ids(8).await, dead(&[0, 1, 3, 4, 5, 6, 8, 9]));
    assert_eq!(Inbox::open(broker, Source::Jobs(spring), 10).await.ids(2).await, dead(&[2, 7]));
}

pub(crate) async fn a_queue_is_removed_only_when_it_is_empty(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish(&*broker, Target::Dead(&spring), &job("dead")).await;
    publish_all(&*broker, &spring, &numbered(0..2)).await;
    assert!(!broker.remove(&spring).await.unwrap(), "two are ready");
    let mut inbox = Inbox::open(&*broker, source.clone(), 5).await;
    let got = inbox.take(2).await;
    assert!(!broker.remove(&spring).await.unwrap(), "two are unsettled");
    publish_all(&*broker, &spring, &numbered(2..3)).await;
    let late = inbox.next().await;
    assert_eq!(id(&late), "job-00002", "still routed to its queue");
    broker.ack(&tags(&got)).await.unwrap();
    broker.ack(&[late.tag]).await.unwrap();
    drop(inbox);
    assert!(broker.remove(&spring).await.unwrap());
    assert!(broker.remove(&spring).await.unwrap(), "what is gone is removed");
    let mut intake = Inbox::open(&*broker, Source::Intake, 5).await;
    publish(&*broker, Target::Jobs(&spring), &job("late")).await;
    assert_eq!(intake.ids(1).await, ["late"]);
    assert_eq!(broker.depth(&Source::Dead(spring)).await, Ok(1), "dead letters stay");
}

pub(crate) async fn jobs_nobody_expects_and_announcements_reach_the_intake(home: Home) {
    let broker = &*home.broker;
    let spring = campaign("spring");
    let mut intake = Inbox::open(broker, Source::Intake, 10).await;
    let mut announcement = job("announcement");
    announcement.headers.kind = Some(ANNOUNCEMENT.into());
    publish(broker, Target::Jobs(&spring), &job("first")).await;
    publish(broker, Target::Announce(&spring), &announcement).await;
    let got = intake.take(2).await;
    let seen: Vec<_> = got.iter().map(|d| (d.message.headers.kind.as_deref(), d.message.headers.routed_to.as_deref())).collect();
    assert_eq!(seen, [(None, Some("spring")), (Some(ANNOUNCEMENT), None)]);
    broker.ack(&tags(&got)).await.unwrap();
    broker.prepare(&spring).await.unwrap();
    publish(broker, Target::Jobs(&spring), &job("second")).await;
    publish(broker, Target::Announce(&spring), &announcement).await;
    assert_eq!(intake.ids(1).await, ["announcement"], "a known campaign's jobs pass the intake by, announcements never");
    assert_eq!(Inbox::open(broker, Source::Jobs(spring), 5).await.ids(1).await, ["second"]);
}

pub(crate) async fn preparing_again_changes_nothing(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..5)).await;
    assert!(broker.prepare(&spring).await.unwrap().existed);
    assert_eq!(broker.depth(&source).await, Ok(5));
    assert_eq!(Inbox::open(&*broker, source, 9).await.ids(5).await, numbered(0..5));
}

pub(crate) async fn campaigns_do_not_mix(home: Home) {
    let broker = &*home.broker;
    let (a, b) = (campaign("a"), campaign("a.b"));
    let both = tokio::join!(broker.prepare(&a), broker.prepare(&b));
    assert!(!both.0.unwrap().existed && !both.1.unwrap().existed);
    publish(broker, Target::Jobs(&a), &job("of-a")).await;
    publish(broker, Target::Jobs(&b), &job("of-b")).await;
    let mut of_a = Inbox::open(broker, Source::Jobs(a), 5).await;
    let mut of_b = Inbox::open(broker, Source::Jobs(b), 5).await;
    assert_eq!((of_a.ids(1).await, of_b.ids(1).await), (vec!["of-a".to_owned()], vec!["of-b".to_owned()]));
    of_a.stays_quiet().await;
    of_b.stays_quiet().await;
}

pub(crate) async fn headers_travel_unchanged(home: Home) {
    let broker = &*home.broker;
    let spring = campaign("spring");
    let letter = Message {
        body: Bytes::from_static(b"\x00\xff not json \x80"),
        headers: Headers {
            message_id: Some("r0123456789abcdef".into()),
            kind: None,
            routed_to: Some("spring".into()),
            attempts: 4,
            release: 2,
            redelivered: true,
            first_seen: Some("2026-11-22T10:00:00.000000001Z".parse().unwrap()),
            batch: Some("recipients.csv#1".into()),
            death: Some(Box::new(Death {
                at: "2026-11-22T11:00:00Z".parse().unwrap(),
                reason: "template-paused".into(),
                code: Some("GW_001".into()),
                meta: Some(132_015),
                http_status: Some(400),
                description: "Şablon duraklatıldı ".repeat(20),
            })),
        },
    };
    publish(broker, Target::Dead(&spring), &letter).await;
    let got = Inbox::open(broker, Source::Dead(spring), 1).await.next().await;
    assert_eq!(got.message, letter);
    let bare = Message { body: Bytes::new(), headers: Headers::default() };
    publish(broker, Target::Dead(&CampaignId::unsorted()), &bare).await;
    let got = Inbox::open(broker, Source::Dead(CampaignId::unsorted()), 1).await.next().await;
    assert_eq!(got.message.body, bare.body);
    assert_eq!((got.message.headers.message_id, got.message.headers.death), (None, None));
}

pub(crate) async fn what_does_not_exist_is_empty(home: Home) {
    let nobody = campaign("nobody");
    for source in [Source::Jobs(nobody.clone()), Source::Dead(nobody.clone()), Source::Intake] {
        assert_eq!(home.broker.depth(&source).await, Ok(0));
    }
    assert_eq!(home.broker.recall().await, Ok(vec![]));
    assert_eq!(home.broker.remove(&nobody).await, Ok(true));
}

pub(crate) async fn the_latest_note_of_each_campaign_is_recalled(home: Home) {
    let broker = &*home.broker;
    let (a, b, c) = (campaign("a"), campaign("b"), campaign("c"));
    for n in 0..30 {
        broker.remember(&a, format!("a{n}").as_bytes()).await.unwrap();
        broker.remember(&b, format!("b{n}").as_bytes()).await.unwrap();
        broker.remember(&c, b"c").await.unwrap();
    }
    broker.remember(&c, b"").await.unwrap();
    for _ in 0..2 {
        let all: BTreeMap<CampaignId, Bytes> = broker.recall().await.unwrap().into_iter().collect();
        assert_eq!(all, [(a.clone(), Bytes::from("a29")), (b.clone(), Bytes::from("b29"))].into(), "an empty note is no note");
    }
    broker.remember(&c, b"again").await.unwrap();
    assert_eq!(broker.recall().await.unwrap().len(), 3);
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
