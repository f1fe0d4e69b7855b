//! What every broker must do, written once against the trait. Each function gets a broker that holds nothing yet.

pub(crate) mod jobs;
pub(crate) mod queues;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use campaignd::broker::{Bound, Broker, Delivery, Event, Headers, Message, Source, Subscription, Tag, Target};
use campaignd::job::CampaignId;
use futures_util::future::BoxFuture;
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
            jobs::jobs_arrive_in_the_order_they_were_published,
            jobs::no_more_than_the_prefetch_is_unsettled,
            jobs::a_dropped_subscription_returns_its_deliveries_to_the_head_in_order,
            jobs::what_is_acknowledged_never_comes_again,
            jobs::acknowledging_on_an_ended_subscription_is_harmless,
            jobs::acknowledging_twice_or_what_was_never_delivered_is_harmless,
            jobs::acknowledgements_out_of_order_take_off_exactly_what_they_name,
            jobs::everything_survives_a_reopening,
            queues::a_delayed_job_is_never_early_and_comes_home_with_its_headers,
            queues::a_delayed_job_of_a_campaign_without_a_queue_reaches_the_intake,
            queues::dead_letters_can_be_looked_at_without_loss_or_reordering,
            queues::dead_letters_can_be_taken_one_by_one,
            queues::dead_letters_held_by_several_subscriptions_go_back_in_order,
            queues::a_queue_is_removed_only_when_it_is_empty,
            queues::jobs_nobody_expects_and_announcements_reach_the_intake,
            queues::preparing_again_changes_nothing,
            queues::campaigns_do_not_mix,
            queues::headers_travel_unchanged,
            queues::what_does_not_exist_is_empty,
            queues::the_latest_note_of_each_campaign_is_recalled,
            jobs::ten_thousand_jobs_arrive_once_each,
        }
    };
    ($open:path: $($room:ident::$name:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            crate::contract::$room::$name($open().await).await;
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
    assert!(!home.broker.prepare(&spring, Bound::Unknown).await.unwrap().existed);
    (Arc::clone(&home.broker), spring.clone(), Source::Jobs(spring))
}
