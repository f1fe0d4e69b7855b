//! The daemon at the account's limit, against the gateway's sliding windows and a jittery way: how much of what is possible it
//! uses, and how often it is refused. See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep, sleep_until};

use support::rig::{Rig, Stats};
use support::setting;
use support::worker::Worker;

/// The gateway's limit, per second; the same by the minute.
const LIMIT: f64 = 80.0;

/// Latency and how far it strays, both ways together; half of each is on the way up, so that requests come up to 20 ms apart.
const LATENCY: [&str; 4] = ["--latency", "50ms", "--jitter", "20ms"];

/// J: the slowest way up less the fastest, in seconds.
const SPREAD: f64 = 0.020;

/// Least share of what a sender can use that knows only J: 1/(1+J) of the limit.
const LEAST_SHARE: f64 = 0.97;

/// Most refusals for each thousand requests.
const MOST_REFUSED: f64 = 1.0;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let length = Duration::from_secs(setting("BENCH_SECONDS", 300));
    let limits = ["--rate", "80/s", "--per-minute", "4800"];
    let rig = Rig::start(&[&limits[..], &LATENCY[..]].concat()).await?;
    let jobs = (LIMIT * (length.as_secs_f64() + 60.0)) as u64;
    rig.campaign("paced", jobs, true).await?;
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let mut worker = Worker::daemon(&rig, dir.path(), "80/s, 4800/min")?;
    while rig.gateway().stats().await?.accepted() == 0 {
        worker.look_alive()?;
        sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    let before = rig.gateway().stats().await?;
    sleep_until(begun + length).await;
    let after = rig.gateway().stats().await?;
    let took = begun.elapsed();
    worker.kill().await?;
    judge(&before, &after, took)
}

fn judge(before: &Stats, after: &Stats, took: Duration) -> anyhow::Result<()> {
    let accepted = (after.accepted() - before.accepted()) as f64;
    let requests = (after.requests() - before.requests()) as f64;
    let refused = (after.rate_limited() - before.rate_limited()) as f64 * 1000.0 / requests;
    let of_limit = accepted / (LIMIT * took.as_secs_f64());
    let share = of_limit * (1.0 + SPREAD);
    println!("{:.0} s at 80/s and 4,800/min, one-way spread {:.0} ms", took.as_secs_f64(), SPREAD * 1000.0);
    println!(
        "accepted {accepted:.0} of {requests:.0} requests: {:.1} % of the limit, {share:.3} of the bound 1/(1+J)",
        of_limit * 100.0
    );
    println!("refused by RATE_001: {refused:.2} per 1,000 requests");
    ensure!(share >= LEAST_SHARE, "{share:.3} of the bound is less than {LEAST_SHARE}");
    ensure!(refused <= MOST_REFUSED, "{refused:.2} refusals per 1,000 are more than {MOST_REFUSED}");
    Ok(())
}
