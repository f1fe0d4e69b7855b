//! Dead letters: looked at without harm, released in part without losing or reordering the rest.

use campaignd::campaign::Options;
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
    let view = stage.until_state("letters", "finished").await;
    assert_eq!((view.sent, view.dead), (3, 7));

    let before = stage.dead("letters").await;
    assert_eq!(before, stage.dead("letters").await, "looking changes nothing");
    let (status, answer) = stage.post("campaigns/letters/dead/requeue", r#"{"meta":131049}"#).await;
    assert_eq!((status, answer["requeued"].as_u64()), (200, Some(3)), "{answer}");
    let view = stage.until_campaign("letters", "send the released", |v| v.sent == 6 && v.state == "finished").await;
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
    let view = stage.until_state("doubt", "finished").await;
    assert_eq!((view.sent, view.dead), (0, 2));
    let doubts: Vec<_> = stage.dead("doubt").await.iter().map(|letter| letter.death.may_have_been_sent).collect();
    assert_eq!(doubts.iter().filter(|doubt| **doubt).count(), 1);

    let (_, answer) = stage.post("campaigns/doubt/dead/requeue", "{}").await;
    assert_eq!(answer["requeued"].as_u64(), Some(1), "only the one surely not sent");
    stage.until_campaign("doubt", "send it", |v| v.sent == 1 && v.dead == 1 && v.state == "finished").await;
    let (_, answer) = stage.post("campaigns/doubt/dead/requeue", r#"{"unknown_too":true}"#).await;
    assert_eq!(answer["requeued"].as_u64(), Some(1));
    stage.until_campaign("doubt", "send the other", |v| v.sent == 2 && v.dead == 0).await;
}
