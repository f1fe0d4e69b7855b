//! Real kills and cuts: the binary against a real RabbitMQ and the simulated gateway, with faults drawn from a seed.
//!
//! A few rounds in every test run. `make chaos ROUNDS=200` is the long form; a round that fails says how to repeat it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail loudly, and what it indexes it has made itself"
)]

#[path = "../support/daemon.rs"]
mod daemon;
mod daemon_round;
mod disk;
mod pause;
mod plan;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/proxy.rs"]
mod proxy;
mod report;
mod send_round;
mod strike;
#[path = "../support/rabbitmq.rs"]
mod support;
mod verdict;
mod world;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::time::Instant;

use plan::Plan;
use report::{Report, Summary};
use support::RabbitNode;

/// Rounds in every test run: each fault comes up in them.
const DAEMON_ROUNDS: u64 = 5;
const SEND_ROUNDS: u64 = 4;
/// Jobs, and how often they are paused, in every test run and in the long form.
const PAUSED: (u64, u64) = (2_000, 3);
const PAUSED_LONG: (u64, u64) = (100_000, 12);

/// `CHAOS_ROUNDS` asks for more, `CHAOS_FIRST` starts elsewhere.
fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Every round, also after one that failed.
async fn rounds(kind: &'static str, short: u64, mut round: impl AsyncFnMut(u64) -> Report) {
    let mut summary = Summary::new(kind);
    let first = from_env("CHAOS_FIRST", 0);
    for seed in first..first + from_env("CHAOS_ROUNDS", short) {
        let began = Instant::now();
        summary.add(seed, began, AssertUnwindSafe(round(seed)).catch_unwind().await.ok());
    }
    summary.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon() {
    let node = Box::leak(Box::new(RabbitNode::start())); // of its own: it is killed
    rounds("daemon", DAEMON_ROUNDS, async |seed| daemon_round::run(&Plan::daemon(seed), node).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn send() {
    rounds("send", SEND_ROUNDS, async |seed| send_round::run(&Plan::send(seed)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pause() {
    let long = std::env::var("CHAOS_ROUNDS").is_ok();
    let (jobs, pauses) = if long { PAUSED_LONG } else { PAUSED };
    println!("pause: {}", pause::run(jobs, pauses, RabbitNode::shared()).await);
}
