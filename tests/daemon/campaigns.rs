//! Campaigns in the daemon's hands: pause exactly, resume, cancel, expire, enqueue twice, fair turns.

use campaignd::campaign::Options;
use campaignd::engine::CampaignState;
use campaignd::gateway::simulator::Options as SimulatorOptions;
use std::time::Duration;

use crate::stage::{Setup, Stage, job_body, key_of, people};

#[tokio::test(flavor = "multi_thread")]
async fn no_request_starts_after_the_first_bill_001_has_been_read() {
    let latency = Duration::from_millis(100);
    let mut simulator = SimulatorOptions { latency, ..SimulatorOptions::default() };
    simulator.keys[0].balance = 100;
    let stage = Stage::open(Setup { simulator, max_in_flight: 16, ..Setup::default() }).await;
    stage.enqueue("broke", "main", Options::default(), &people(400)).await;
    let view = stage.until_campaign("broke", "pause", |v| v.state == CampaignState::Paused && v.in_flight == 0).await;
    assert_eq!((view.sent, view.dead), (100, 0));
    let books = stage.simulator.books();
    // Whatever was in flight when the first refusal was read may be refused too, and nothing else.
    assert!(books.outcome("BILL_001") <= 16, "{} refused with 16 in flight", books.outcome("BILL_001"));
    let requests = books.requests;
    stage.simulator.controls().set_balance(Some(&key_of("main")), 1_000_000).unwrap();
    assert_eq!(stage.simulator.books().requests, requests, "it does not go on by itself");
    let (status, answer) = stage.post("accounts/main/resume", "{}").await;
    assert_eq!((status, answer["lifted"].as_bool()), (200, Some(true)), "{answer}");
    assert_eq!(stage.until_state("broke", CampaignState::Finished).await.sent, 400);
    assert!(stage.books().values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_across_a_restart_and_its_jobs_stay_in_the_queue() {
    let mut stage = Stage::open(Setup { rate: "40/s", ..Setup::default() }).await;
    stage.enqueue("held", "main", Options::default(), &people(200)).await;
    stage.until_campaign("held", "begin", |v| v.sent > 10).await;
    let (status, answer) = stage.post("campaigns/held/pause", r#"{"cause":"lunch"}"#).await;
    assert_eq!(status, 204, "{answer}");
    let paused = stage.until_campaign("held", "come to rest", |v| v.in_flight == 0).await;
    // answered once everything before is on disk: an attempt that was taken back too
    assert_eq!(stage.post("campaigns/held/pause", r#"{"cause":"lunch"}"#).await.0, 204);
    stage.kill9();
    stage.start();
    stage.until_ready().await;
    let view = stage.until_state("held", CampaignState::Paused).await;
    assert_eq!((view.sent, view.waiting), (paused.sent, paused.waiting));
    assert_eq!(view.pause.expect("its own").pause.cause, "lunch");
    stage.post("campaigns/held/resume", "{}").await;
    assert_eq!(stage.until_state("held", CampaignState::Finished).await.sent, 200);
    assert!(stage.books().values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_campaign_takes_its_jobs_off_the_queue() {
    let stage = Stage::open(Setup { rate: "20/s", ..Setup::default() }).await;
    stage.enqueue("off", "main", Options::default(), &people(300)).await;
    stage.until_campaign("off", "begin", |v| v.sent > 5).await;
    let (status, answer) = stage.post("campaigns/off/cancel", "{}").await;
    assert_eq!(status, 204, "{answer}");
    let view = stage.until_campaign("off", "be called off", |v| v.waiting == 0 && v.in_flight == 0).await;
    assert_eq!(view.state, CampaignState::Cancelled);
    assert_eq!(view.sent + view.cancelled, 300);
    assert_eq!(stage.books().len() as u64, view.sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_jobs_again_are_sent_to_nobody() {
    let stage = Stage::open(Setup::default()).await;
    for _ in 0..2 {
        stage.enqueue("twice", "main", Options::default(), &people(50)).await;
    }
    stage.until_state("twice", CampaignState::Finished).await;
    stage.enqueue("twice", "main", Options::default(), &people(50)).await;
    // A further campaign is behind them in time: when it is through, so are they.
    stage.enqueue("after", "main", Options::default(), &people(5)).await;
    stage.until_state("after", CampaignState::Finished).await;
    let view = stage.until_state("twice", CampaignState::Finished).await;
    assert_eq!((view.enqueued, view.sent), (50, 50));
    let books = stage.books();
    assert!(people(50).iter().skip(5).all(|number| books[number] == 1), "{books:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_past_its_time_is_not_sent() {
    let stage = Stage::open(Setup::default()).await;
    let late = job_body("late", 905_320_000_001).replacen('{', r#"{"not_after":"2020-01-01T00:00:00Z","#, 1);
    stage.publish_bodies(&"late".parse().unwrap(), vec![late, job_body("late", 905_320_000_002)], None).await;
    let view = stage.until_campaign("late", "settle", |v| v.sent == 1 && v.expired == 1).await;
    assert!(!view.sealed, "nobody announced it");
    assert_eq!(stage.books().into_keys().collect::<Vec<_>>(), [905_320_000_002]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_campaign_is_not_stuck_behind_a_large_one() {
    let stage = Stage::open(Setup { rate: "60/s", ..Setup::default() }).await;
    stage.enqueue("large", "main", Options::default(), &people(1_500)).await;
    stage.until_campaign("large", "begin", |v| v.sent > 5).await;
    stage.enqueue("small", "main", Options::default(), &people(30)).await;
    stage.until_state("small", CampaignState::Finished).await;
    let large = stage.campaign("large").await.unwrap();
    assert_eq!(large.state, CampaignState::Running, "the small one was through while the large one went on");
}
