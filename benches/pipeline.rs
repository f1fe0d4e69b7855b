//! The daemon against the floor: CPU time per job, jobs in a second, peak memory, in interleaved rounds. See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::json;

use support::engine::{self, Variant};
use support::measure::Figures;
use support::rig::Rig;
use support::table::{median, table};
use support::worker::Worker;
use support::{floor, rounds, setting};

/// Between these shares of the jobs a worker is measured: neither its start nor its end.
const SHARES: (f64, f64) = (0.1, 0.95);

/// Most CPU time per job of the daemon, in floors, with a gateway that answers at once.
const MOST_CPU: f64 = 1.5;

fn main() -> anyhow::Result<()> {
    if floor::run_if_asked()? || engine::run_if_asked()? {
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

/// What is compared: the floor, the daemon as it is shipped, and its engine with other parts.
const WORKERS: [(&str, Option<Variant>); 5] = [
    ("floor", None),
    ("daemon", None),
    ("its engine, ledger in memory", Some(Variant { embedded: false, ledger: false })),
    ("its engine, embedded broker", Some(Variant { embedded: true, ledger: true })),
    ("its engine, embedded broker, ledger in memory", Some(Variant { embedded: true, ledger: false })),
];

/// The rounds with one latency of the gateway; the daemon's CPU time per job in floors.
async fn compare(rig: &Rig, rounds: usize, jobs: u64, latency: &str) -> anyhow::Result<f64> {
    rig.gateway().order("latency", json!({"latency": latency})).await?;
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); WORKERS.len()];
    for round in 1..=rounds {
        for (number, ((name, variant), figures)) in WORKERS.iter().zip(&mut figures).enumerate() {
            rig.gateway().order("reset", json!({})).await?;
            let campaign = format!("bench-{latency}-{round}-{number}");
            let result = match (variant, number) {
                (Some(variant), _) => engine_round(rig, &campaign, jobs, *variant).await,
                (None, 0) => rounds::floor(rig, &campaign, jobs, SHARES).await,
                (None, _) => rounds::daemon(rig, &campaign, jobs, SHARES).await,
            };
            let found = result.with_context(|| (*name).to_owned())?;
            println!("latency {latency}, round {round} of {rounds}: {name} {:.1} µs of CPU time per job", found.cpu_per_job);
            figures.push(found);
        }
    }
    Ok(report(latency, jobs, &figures))
}

async fn engine_round(rig: &Rig, name: &str, jobs: u64, variant: Variant) -> anyhow::Result<Figures> {
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let id = if variant.embedded { None } else { Some(rig.campaign(name, jobs, true).await?) };
    let mut worker = Worker::engine(rig, variant, dir.path(), jobs)?;
    let figures = worker.follow(rig, jobs, SHARES).await?;
    if let Some(id) = id {
        rig.clean_up(&id).await?;
    }
    worker.kill().await?;
    Ok(figures)
}

/// Prints the table; the daemon's CPU time per job in floors.
fn report(latency: &str, jobs: u64, figures: &[Vec<Figures>]) -> f64 {
    let floors = figures.first().map(Vec::as_slice).unwrap_or_default();
    let cpu = |f: &Figures| f.cpu_per_job;
    let rate = |f: &Figures| f.rate;
    let ratio = |workers: &[Figures], of: fn(&Figures) -> f64| {
        median(floors.iter().zip(workers).map(|(floor, worker)| of(worker) / of(floor)))
    };
    let rows = WORKERS.iter().zip(figures).map(|((name, _), figures)| {
        let all = |of: fn(&Figures) -> f64| median(figures.iter().map(of));
        vec![
            (*name).to_owned(),
            format!("{:.1}", all(cpu)),
            format!("{:.2}", ratio(figures, cpu)),
            format!("{:.0}", all(rate)),
            format!("{:.2}", ratio(figures, rate)),
            format!("{:.0}", all(|f| f.peak_mib)),
        ]
    });
    let header = ["worker", "CPU µs/job", "÷ floor", "jobs/s", "÷ floor", "peak RSS MiB"];
    println!("\ngateway latency {latency}, {jobs} jobs, medians of {} interleaved rounds", floors.len());
    println!("{}\n", table(&header, &rows.collect::<Vec<_>>()));
    figures.get(1).map_or(f64::NAN, |daemons| ratio(daemons, cpu))
}
