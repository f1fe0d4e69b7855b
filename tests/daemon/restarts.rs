//! RabbitMQ goes and comes back; the daemon is stopped politely. Nothing is lost and nobody gets a message twice.

use std::time::Duration;

use campaignd::campaign::Options;
use campaignd::engine::CampaignState;
use campaignd::gateway::simulator::{Delay, Options as SimulatorOptions};

use crate::stage::{Setup, Stage, people};
use crate::support::RabbitNode;

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_restarted_and_killed_in_mid_campaign() {
    let node = RabbitNode::start();
    let stage = Stage::on(&node, Setup { rate: "120/s", ..Setup::default() }).await;
    stage.enqueue("mid", "main", Options::default(), &people(1_500)).await;
    stage.until_campaign("mid", "begin", |v| v.sent > 100).await;
    node.restart();
    stage.until_campaign("mid", "go on after the restart", |v| v.sent > 600).await;
    node.kill9();
    node.boot();
    let view = stage.until_state("mid", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (1_500, 0));
    let books = stage.books();
    assert_eq!(books.len(), 1_500);
    assert!(books.values().all(|times| *times == 1), "nobody twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_delays_and_loses_nothing() {
    let node = RabbitNode::start();
    let stage = Stage::on(&node, Setup { rate: "100/s", ..Setup::default() }).await;
    let refused: campaignd::gateway::simulator::Fault = "meta:131026".parse().unwrap();
    let mut recipients = people(400);
    recipients.extend((0..50).map(|serial| refused.recipient(serial)));
    stage.enqueue("alarm", "main", Options::default(), &recipients).await;
    stage.until_campaign("alarm", "begin", |v| v.sent > 50).await;
    node.memory_alarm(true);
    stage.until_campaign("alarm", "go on sending under the alarm", |v| v.sent + v.dead > 200).await;
    node.memory_alarm(false);
    let view = stage.until_state("alarm", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (400, 50));
    assert_eq!(stage.dead("alarm").await.len(), 50);
    assert!(stage.books().values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    let latency = Duration::from_millis(700);
    let simulator = SimulatorOptions { latency, ..SimulatorOptions::default() };
    let mut stage = Stage::open(Setup { simulator, max_in_flight: 20, ..Setup::default() }).await;
    stage.enqueue("drain", "main", Options::default(), &people(200)).await;
    stage.until_campaign("drain", "have requests under way", |v| v.in_flight >= 20 && v.sent >= 20).await;
    stage.signal("TERM");
    let status = stage.until_gone().await;
    assert_eq!(status.code(), Some(0), "{}", stage.log());
    let sent_before = stage.books().len();
    stage.start();
    let view = stage.until_state("drain", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (200, 0), "nothing in flight was left unknown; {sent_before} were sent before");
    assert!(stage.books().values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_exits_at_once_and_still_loses_nothing() {
    let latency = Duration::from_secs(20);
    let simulator = SimulatorOptions { latency, ..SimulatorOptions::default() };
    let mut stage = Stage::open(Setup { simulator, request_timeout: "30s", max_in_flight: 3, ..Setup::default() }).await;
    stage.enqueue("now", "main", Options::default(), &people(10)).await;
    stage.until_campaign("now", "have requests under way", |v| v.in_flight == 3).await;
    stage.signal("TERM");
    stage.signal("TERM");
    let gone = tokio::time::timeout(Duration::from_secs(10), stage.until_gone()).await;
    assert!(gone.is_ok(), "it waits for answers that take 20 s");
    stage.simulator.controls().set_delay(Delay::default());
    stage.start();
    let view = stage.until_state("now", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (7, 3), "the three under way are unknown and parked");
    assert!(stage.books().values().all(|times| *times == 1));
}
