//! Queues: delayed and dead jobs, the intake, notes, making and removing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use campaignd::broker::{ANNOUNCEMENT, Bound, Death, Headers, Message, Source, Target};
use campaignd::job::CampaignId;
use tokio::time::Instant;

use super::*;

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
    broker.prepare(&spring, Bound::Unknown).await.unwrap();
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

pub(crate) async fn dead_letters_held_by_several_subscriptions_go_back_in_order(home: Home) {
    let (_, source) = ten_dead(&home).await;
    let broker = &*home.broker;
    let mut pages = Vec::new();
    for held in [[0, 1, 2, 3], [4, 5, 6, 7]] {
        let mut page = Inbox::open(broker, source.clone(), 4).await;
        assert_eq!(page.ids(4).await, dead(&held), "what another one holds does not come");
        pages.push(page);
    }
    for (ready, page) in [6, 10].into_iter().zip(pages) {
        drop(page);
        wait_for_depth(broker, &source, ready).await;
    }
    assert_eq!(Inbox::open(broker, source, 10).await.ids(10).await, dead(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
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
    broker.prepare(&spring, Bound::Unknown).await.unwrap();
    publish(broker, Target::Jobs(&spring), &job("second")).await;
    publish(broker, Target::Announce(&spring), &announcement).await;
    assert_eq!(intake.ids(1).await, ["announcement"], "a known campaign's jobs pass the intake by, announcements never");
    assert_eq!(Inbox::open(broker, Source::Jobs(spring), 5).await.ids(1).await, ["second"]);
}

pub(crate) async fn preparing_again_changes_nothing(home: Home) {
    let (broker, spring, source) = prepared(&home).await;
    publish_all(&*broker, &spring, &numbered(0..5)).await;
    assert!(broker.prepare(&spring, Bound::Unknown).await.unwrap().existed);
    assert_eq!(broker.depth(&source).await, Ok(5));
    assert_eq!(Inbox::open(&*broker, source, 9).await.ids(5).await, numbered(0..5));
}

pub(crate) async fn campaigns_do_not_mix(home: Home) {
    let broker = &*home.broker;
    let (a, b) = (campaign("a"), campaign("a.b"));
    let both = tokio::join!(broker.prepare(&a, Bound::Unknown), broker.prepare(&b, Bound::Unknown));
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
                may_have_been_sent: true,
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
