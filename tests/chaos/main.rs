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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Every round, also after one that failed: `CHAOS_SIDE_BY_SIDE` at a time, each in a place of its own. Most of a round is waiting.
fn rounds<P>(kind: &'static str, short: u64, place: impl Fn() -> P + Sync, round: impl AsyncFn(u64, &P) -> Report + Sync) {
    let summary = Mutex::new(Summary::new(kind));
    let (first, count, taken) = (from_env("CHAOS_FIRST", 0), from_env("CHAOS_ROUNDS", short), AtomicU64::new(0));
    let take_turns = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let place = place();
        loop {
            let turn = taken.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                return;
            }
            let began = Instant::now();
            let report = catch_unwind(AssertUnwindSafe(|| runtime.block_on(round(first + turn, &place))));
            summary.lock().unwrap().add(first + turn, began, report.ok());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..from_env("CHAOS_SIDE_BY_SIDE", 1).min(count) {
            scope.spawn(take_turns);
        }
    });
    summary.into_inner().unwrap().close();
}

#[test]
fn daemon() {
    let node = || &*Box::leak(Box::new(RabbitNode::start())); // each of its own: it is killed
    rounds("daemon", DAEMON_ROUNDS, node, async |seed, node| daemon_round::run(&Plan::daemon(seed), node).await);
}

#[test]
fn send() {
    rounds("send", SEND_ROUNDS, || (), async |seed, ()| send_round::run(&Plan::send(seed)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn pause() {
    let long = std::env::var("CHAOS_ROUNDS").is_ok();
    let (jobs, pauses) = if long { PAUSED_LONG } else { PAUSED };
    println!("pause: {}", pause::run(jobs, pauses, RabbitNode::shared()).await);
}
