//! Dead letters: looked at without harm, released in part without losing or reordering the rest.

use std::time::Duration;

use campaignd::admin::DeadGroup;
use campaignd::campaign::Options;
use campaignd::engine::{CampaignState, DeadLetter};
use campaignd::gateway::simulator::Fault;

use crate::stage::{Setup, Stage, people};

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_released_by_choice_and_the_rest_keeps_its_order() {
    let stage = Stage::open(Setup { max_in_flight: 1, ..Setup::default() }).await;
    let invalid: Fault = "meta:131026".parse().unwrap();
    let deferred: Fault = "meta:131049".parse().unwrap();
    let mut recipients = people(3);
    // The first time each is refused; released, they get through.
    recipients.extend((0..4).map(|serial| invalid.recipient_times(1, serial)));
    recipients.extend((0..3).map(|serial| deferred.recipient_times(1, serial)));
    stage.enqueue("letters", "main", Options::default(), &recipients).await;
    let view = stage.until_state("letters", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (3, 7));

    let before = stage.dead("letters").await;
    assert_eq!(before, stage.dead("letters").await, "looking changes nothing");
    let (status, answer) = stage.post("campaigns/letters/dead/requeue", r#"{"meta":131049}"#).await;
    assert_eq!((status, answer["requeued"].as_u64()), (200, Some(3)), "{answer}");
    let view = stage.until_campaign("letters", "send the released", |v| v.sent == 6 && v.state == CampaignState::Finished).await;
    assert_eq!(view.dead, 4);
    let rest: Vec<_> = before.iter().filter(|letter| letter.death.meta == Some(131_026)).cloned().collect();
    assert_eq!(stage.dead("letters").await, rest, "what was not touched is there as before");

    let job = rest[0].job.as_ref().expect("a job");
    let (_, answer) = stage.post("campaigns/letters/dead/requeue", &format!(r#"{{"jobs":["{job}"]}}"#)).await;
    assert_eq!(answer["requeued"].as_u64(), Some(1));
    stage.until_campaign("letters", "send one more", |v| v.sent == 7 && v.dead == 3).await;
    let (_, answer) = stage.post("campaigns/letters/dead/requeue", "{}").await;
    assert_eq!(answer["requeued"].as_u64(), Some(3));
    let view = stage.until_campaign("letters", "send the rest", |v| v.sent == 10 && v.dead == 0).await;
    assert_eq!(view.enqueued, 10);
    assert!(stage.books().values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_sent_is_released_only_when_somebody_says_so() {
    let stage = Stage::open(Setup { max_in_flight: 1, ..Setup::default() }).await;
    let lost: Fault = "close-after".parse().unwrap();
    let invalid: Fault = "meta:131026".parse().unwrap();
    stage.enqueue("doubt", "main", Options::default(), &[lost.recipient_times(1, 0), invalid.recipient_times(1, 0)]).await;
    let view = stage.until_state("doubt", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (0, 2));
    let doubts: Vec<_> = stage.dead("doubt").await.iter().map(|letter| letter.death.may_have_been_sent).collect();
    assert_eq!(doubts.iter().filter(|doubt| **doubt).count(), 1);

    let (_, answer) = stage.post("campaigns/doubt/dead/requeue", "{}").await;
    assert_eq!(answer["requeued"].as_u64(), Some(1), "only the one surely not sent");
    stage.until_campaign("doubt", "send it", |v| v.sent == 1 && v.dead == 1 && v.state == CampaignState::Finished).await;
    let (_, answer) = stage.post("campaigns/doubt/dead/requeue", r#"{"unknown_too":true}"#).await;
    assert_eq!(answer["requeued"].as_u64(), Some(1));
    stage.until_campaign("doubt", "send the other", |v| v.sent == 2 && v.dead == 0).await;
}

/// More than one subscription holds at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_shelf_is_seen_and_released_as_a_whole() {
    const LETTERS: u32 = 10_500;
    let stage = Stage::open(Setup::default()).await;
    let once: Fault = "WH_001".parse().unwrap();
    let recipients: Vec<u64> = (0..LETTERS).map(|serial| once.recipient_times(1, serial)).collect();
    stage.enqueue("long", "main", Options::default(), &recipients).await;
    // a machine with much else to do needs longer than one wait is
    for part in 1..=4 {
        stage.until_campaign("long", "fail on", |v| v.dead >= u64::from(LETTERS / 4 * part)).await;
    }
    stage.until_campaign("long", "fail", |v| v.state == CampaignState::Finished && v.dead == u64::from(LETTERS)).await;
    let whole = format!("campaigns/long/dead?limit={LETTERS}");
    let before: Vec<DeadLetter> = stage.get(&whole).await.unwrap();
    assert_eq!(before.len(), LETTERS as usize);
    let groups: Vec<DeadGroup> = stage.get("campaigns/long/dead/groups").await.unwrap();
    assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [u64::from(LETTERS)]);
    let after: Vec<DeadLetter> = stage.get(&whole).await.unwrap();
    assert!(before == after, "looking changes nothing");
    let job = after.last().and_then(|letter| letter.job.clone()).unwrap();
    let (_, answer) = stage.post("campaigns/long/dead/requeue", &format!(r#"{{"jobs":["{job}"]}}"#)).await;
    assert_eq!(answer["requeued"].as_u64(), Some(1), "the youngest can be named");
    let rest: Vec<DeadLetter> = stage.get(&whole).await.unwrap();
    assert!(rest == after[..after.len() - 1], "what was not touched is there as before");
    let (_, answer) = stage.post("campaigns/long/dead/requeue", "{}").await;
    assert_eq!(answer["requeued"].as_u64(), Some(u64::from(LETTERS) - 1));
    for part in 1..=4 {
        stage.until_campaign("long", "send on", |v| v.sent >= u64::from(LETTERS / 4 * part)).await;
    }
    stage.until_campaign("long", "send them all", |v| v.sent == u64::from(LETTERS) && v.state == CampaignState::Finished).await;
    assert!(stage.dead("long").await.is_empty());
    assert!(stage.books().values().all(|times| *times == 1));
}

/// Paused, so that the kills meet nothing but the release.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_interrupted_by_a_kill_is_carried_out_by_the_next_daemon() {
    const LETTERS: u32 = 1_200;
    let mut stage = Stage::open(Setup::default()).await;
    let once: Fault = "WH_001".parse().unwrap();
    let recipients: Vec<u64> = (0..LETTERS).map(|serial| once.recipient_times(1, serial)).collect();
    stage.enqueue("cut", "main", Options::default(), &recipients).await;
    stage.until_campaign("cut", "fail", |v| v.state == CampaignState::Finished && v.dead == u64::from(LETTERS)).await;
    stage.post("accounts/main/pause", "{}").await;
    let whole = format!("campaigns/cut/dead?limit={LETTERS}");
    for delay in [40, 100, 200, 400] {
        // whoever asks does not wait for the answer
        drop(tokio::time::timeout(Duration::from_millis(delay), stage.try_post("campaigns/cut/dead/requeue", "{}")).await);
        stage.kill9();
        stage.start();
        stage.until_ready().await;
        let what = "every released letter to be gone from the shelf";
        stage
            .until(what, async || {
                let dead = stage.campaign("cut").await.filter(|v| v.waiting + v.dead == u64::from(LETTERS))?.dead;
                let letters: Vec<DeadLetter> = stage.get(&whole).await?;
                (letters.len() as u64 == dead).then_some(())
            })
            .await;
    }
    let (status, answer) = stage.post("campaigns/cut/dead/requeue", "{}").await;
    assert_eq!(status, 200, "{answer}");
    stage.post("accounts/main/resume", "{}").await;
    let view = stage.until_campaign("cut", "send them all", |v| v.state == CampaignState::Finished).await;
    assert_eq!((view.enqueued, view.sent, view.dead), (LETTERS.into(), LETTERS.into(), 0));
    let books = stage.books();
    assert_eq!(books.len(), LETTERS as usize);
    assert!(books.values().all(|times| *times == 1), "released twice");
}
