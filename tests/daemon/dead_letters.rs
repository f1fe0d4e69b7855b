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
