//! kill -9 of the daemon at random moments, then the gateway's own books against the campaign's counts, recipient by recipient.

use std::time::Duration;

use campaignd::campaign::{OnUnknown, Options};
use campaignd::dice::Dice;
use campaignd::engine::CampaignState;
use campaignd::gateway::simulator::{Fault, Options as SimulatorOptions};
use rand::{RngExt, SeedableRng};

use crate::stage::{Setup, Stage, people};

const JOBS: u64 = 1_200;
const KILLS: u32 = 6;

/// Lets the daemon live and die until the campaign is over; how often it was killed with requests under way.
async fn live_and_die(stage: &mut Stage, id: &str, seed: u64) {
    let mut dice = Dice::seed_from_u64(seed);
    for _ in 0..KILLS {
        let sent = stage.books().len();
        let goal = sent + dice.random_range(20..150);
        stage.until("some more to be sent", async || (stage.books().len() >= goal.min(JOBS as usize - 50)).then_some(())).await;
        // Any moment between two steps of the engine: the kill does not wait for one.
        tokio::time::sleep(Duration::from_micros(dice.random_range(0..20_000))).await;
        stage.kill9();
        stage.start();
    }
    stage.until_state(id, CampaignState::Finished).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_nobody_gets_it_twice_and_nobody_is_missing() {
    let simulator =
        SimulatorOptions { latency: Duration::from_millis(40), jitter: Duration::from_millis(30), ..SimulatorOptions::default() };
    let mut stage = Stage::open(Setup { simulator, rate: "250/s", max_in_flight: 24, ..Setup::default() }).await;
    stage.enqueue("killed", "main", Options::default(), &people(JOBS)).await;
    live_and_die(&mut stage, "killed", 42).await;
    let view = stage.campaign("killed").await.unwrap();
    let books = stage.books();
    assert!(books.values().all(|times| *times == 1), "somebody got it twice");
    assert_eq!(view.enqueued, JOBS);
    assert_eq!(view.sent + view.dead, JOBS, "{view:?}");
    let letters = stage.dead("killed").await;
    assert!(letters.iter().all(|letter| letter.death.reason == "unknown-outcome"));
    assert_eq!(letters.len() as u64, view.dead);
    assert!(view.dead <= u64::from(KILLS) * 24, "more unknown than can have been in flight: {}", view.dead);
    assert!(books.len() as u64 >= view.sent && books.len() as u64 <= view.sent + view.dead, "nobody is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_resend_nobody_is_missing_and_copies_are_at_most_what_was_in_flight() {
    let simulator =
        SimulatorOptions { latency: Duration::from_millis(40), jitter: Duration::from_millis(30), ..SimulatorOptions::default() };
    let mut stage = Stage::open(Setup { simulator, rate: "250/s", max_in_flight: 24, ..Setup::default() }).await;
    let options = Options { on_unknown: OnUnknown::Resend, ..Options::default() };
    stage.enqueue("resent", "main", options, &people(JOBS)).await;
    live_and_die(&mut stage, "resent", 43).await;
    let view = stage.campaign("resent").await.unwrap();
    assert_eq!((view.sent, view.dead), (JOBS, 0));
    let books = stage.books();
    assert_eq!(books.len() as u64, JOBS, "nobody is missing");
    let copies: u32 = books.values().map(|times| times - 1).sum();
    assert!(copies <= KILLS * 24, "{copies} copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_during_whose_attempts_the_daemon_dies_is_parked_as_poison() {
    let engine = "most-lost-attempts = 3";
    let mut stage = Stage::open(Setup { engine, request_timeout: "90s", ..Setup::default() }).await;
    let unanswered: Fault = "hang-before".parse().unwrap();
    let options = Options { on_unknown: OnUnknown::Resend, ..Options::default() };
    stage.enqueue("poison", "main", options, &[unanswered.recipient(1)]).await;
    for requests in 1..=3 {
        stage.until("the request", async || (stage.simulator.books().requests >= requests).then_some(())).await;
        stage.kill9();
        stage.start();
    }
    let view = stage.until_state("poison", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (0, 1));
    let letters = stage.until("the letter", async || Some(stage.dead("poison").await).filter(|l| !l.is_empty())).await;
    assert_eq!((letters[0].death.reason.as_str(), letters[0].attempts), ("poison", 3), "{letters:?}");
    assert_eq!(stage.simulator.books().requests, 3, "not tried once more");
}
