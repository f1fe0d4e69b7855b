//! The daemon against the floor: CPU time per job, jobs in a second, peak memory, in interleaved rounds. See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::json;

use support::measure::Figures;
use support::rig::Rig;
use support::table::{median, table};
use support::worker::Worker;
use support::{floor, setting};

/// Between these shares of the jobs a worker is measured: neither its start nor its end.
const SHARES: (f64, f64) = (0.1, 0.95);

/// Most CPU time per job of the daemon, in floors, with a gateway that answers at once.
const MOST_CPU: f64 = 1.5;

fn main() -> anyhow::Result<()> {
    if floor::run_if_asked()? {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5);
    let rig = Rig::start(&["--rate", "unlimited"]).await?;
    let at_once = compare(&rig, rounds, setting("BENCH_JOBS", 30_000), "0ms").await?;
    compare(&rig, rounds, setting("BENCH_JOBS_SLOW", 15_000), "50ms").await?;
    let limit: f64 = setting("BENCH_MOST_CPU", MOST_CPU);
    ensure!(at_once <= limit, "the daemon takes {at_once:.2} floors of CPU time per job, more than {limit}");
    Ok(())
}

/// The rounds with one latency of the gateway; the daemon's CPU time per job in floors.
async fn compare(rig: &Rig, rounds: usize, jobs: u64, latency: &str) -> anyhow::Result<f64> {
    rig.gateway().order("latency", json!({"latency": latency})).await?;
    let (mut floors, mut daemons) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let floor = floor_round(rig, &format!("floor-{latency}-{round}"), jobs).await?;
        let daemon = daemon_round(rig, &format!("daemon-{latency}-{round}"), jobs).await?;
        println!(
            "latency {latency}, round {round} of {rounds}: floor {:.1} µs, daemon {:.1} µs per job",
            floor.cpu_per_job, daemon.cpu_per_job
        );
        floors.push(floor);
        daemons.push(daemon);
    }
    Ok(report(latency, jobs, &floors, &daemons))
}

async fn floor_round(rig: &Rig, name: &str, jobs: u64) -> anyhow::Result<Figures> {
    rig.gateway().order("reset", json!({})).await?;
    let id = rig.campaign(name, jobs, false).await?;
    let mut worker = Worker::floor(rig, &id)?;
    let figures = worker.follow(rig, jobs, SHARES).await.context("the floor")?;
    rig.clean_up(&id).await?;
    worker.kill().await?;
    Ok(figures)
}

async fn daemon_round(rig: &Rig, name: &str, jobs: u64) -> anyhow::Result<Figures> {
    rig.gateway().order("reset", json!({})).await?;
    let id = rig.campaign(name, jobs, true).await?;
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?; // on disk, not on a tmpfs
    let mut worker = Worker::daemon(rig, dir.path(), "unlimited")?;
    let figures = worker.follow(rig, jobs, SHARES).await.with_context(|| log(dir.path()))?;
    rig.clean_up(&id).await?;
    worker.stop().await.with_context(|| log(dir.path()))?;
    let twice = rig.gateway().stats().await?.more_than_once();
    ensure!(twice == 0, "{twice} recipients got more than one message");
    Ok(figures)
}

/// The end of the daemon's log, for an error.
fn log(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(10).collect();
    format!("the daemon; its last words, newest first:\n{}", lines.join("\n"))
}

fn report(latency: &str, jobs: u64, floors: &[Figures], daemons: &[Figures]) -> f64 {
    let all = |figures: &[Figures], of: fn(&Figures) -> f64| median(figures.iter().map(of));
    let ratio = |of: fn(&Figures) -> f64| median(floors.iter().zip(daemons).map(|(floor, daemon)| of(daemon) / of(floor)));
    let cpu = |f: &Figures| f.cpu_per_job;
    let rate = |f: &Figures| f.rate;
    let row = |name: &str, figures: &[Figures], cpu_ratio: f64, rate_ratio: f64| {
        vec![
            name.to_owned(),
            format!("{:.1}", all(figures, cpu)),
            format!("{cpu_ratio:.2}"),
            format!("{:.0}", all(figures, rate)),
            format!("{rate_ratio:.2}"),
            format!("{:.0}", all(figures, |f| f.peak_mib)),
        ]
    };
    let cpu_ratio = ratio(cpu);
    let header = ["worker", "CPU µs/job", "÷ floor", "jobs/s", "÷ floor", "peak RSS MiB"];
    let rows = [row("floor", floors, 1.0, 1.0), row("daemon", daemons, cpu_ratio, ratio(rate))];
    println!("\ngateway latency {latency}, {jobs} jobs, medians of {} interleaved rounds", floors.len());
    println!("{}\n", table(&header, &rows));
    cpu_ratio
}
