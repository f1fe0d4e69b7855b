//! Workers as one would write them with Celery and with Node.js, against the floor and the daemon. They keep no ledger, do not pace
//! and have no policy. What they need is installed below `target/` from their registries, once. See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::process::Command;

use support::floor::IN_FLIGHT;
use support::measure::Figures;
use support::rig::{KEY, Rig};
use support::table::{median, table};
use support::worker::Worker;
use support::{floor, rounds, setting};

/// Between these shares of the jobs a worker is measured: neither its start nor its end.
const SHARES: (f64, f64) = (0.2, 0.95);

const WORKERS: [&str; 4] = ["floor", "daemon", "Node.js: amqplib, undici", "Celery: gevent, requests"];

/// Celery gets a part of the jobs: it takes some 25 times as long for each.
const CELERY_PART: u64 = 10;

fn main() -> anyhow::Result<()> {
    if floor::run_if_asked()? {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let (times, jobs): (usize, u64) = (setting("BENCH_ROUNDS", 5), setting("BENCH_JOBS", 20_000));
    let (node, celery) = (install_node().await?, install_celery().await?);
    let rig = Rig::start(&["--rate", "unlimited"]).await?;
    for latency in ["0ms", "50ms"] {
        rig.gateway().order("latency", json!({"latency": latency})).await?;
        let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); WORKERS.len()];
        for round in 1..=times {
            for (number, (name, figures)) in WORKERS.iter().zip(&mut figures).enumerate() {
                rig.gateway().order("reset", json!({})).await?;
                let campaign = format!("peer-{latency}-{round}-{number}");
                let found = match number {
                    0 => rounds::floor(&rig, &campaign, jobs, SHARES).await,
                    1 => rounds::daemon(&rig, &campaign, jobs, SHARES).await,
                    2 => node_round(&rig, &campaign, jobs, &node).await,
                    _ => celery_round(&rig, &campaign, jobs / CELERY_PART, &celery).await,
                };
                let found = found.with_context(|| (*name).to_owned())?;
                println!("latency {latency}, round {round} of {times}: {name} {:.1} µs of CPU time per job", found.cpu_per_job);
                figures.push(found);
            }
        }
        report(latency, jobs, &figures);
    }
    Ok(())
}

/// Node.js in the directory.
async fn node_round(rig: &Rig, name: &str, jobs: u64, dir: &Path) -> anyhow::Result<Figures> {
    let id = rig.campaign(name, jobs, false).await?;
    let mut command = Command::new("node");
    command.arg("worker.js").current_dir(dir);
    rounds::bare(rig, &id, Worker::peer(rig, &id, command)?, jobs, SHARES).await
}

/// Its jobs are in its own form, so it puts them into its queue itself.
async fn celery_round(rig: &Rig, name: &str, jobs: u64, dir: &Path) -> anyhow::Result<Figures> {
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments).current_dir(sources("celery")).env("PYTHONPATH", dir).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    let id = format!("celery-{name}").parse()?;
    let mut enqueue = python(&["enqueue.py", &jobs.to_string()]);
    enqueue.env("BENCH_BROKER", rig.open_uri()).env("BENCH_QUEUE", format!("campaignd.jobs.{id}"));
    enqueue.env("BENCH_GATEWAY", rig.gateway().url()).env("BENCH_KEY", KEY);
    ensure!(enqueue.status().await?.success(), "its jobs cannot be enqueued");
    let in_flight = IN_FLIGHT.to_string();
    let worker =
        ["-m", "celery", "-A", "tasks", "worker", "--pool", "gevent", "--concurrency", &in_flight, "--loglevel", "error"];
    let mut worker = Worker::peer(rig, &id, python(&[&worker[..], &["--without-gossip", "--without-mingle"]].concat()))?;
    let figures = worker.follow(rig, jobs, SHARES).await?;
    worker.kill().await?;
    Ok(figures)
}

fn report(latency: &str, jobs: u64, figures: &[Vec<Figures>]) {
    let floors = figures.first().map(Vec::as_slice).unwrap_or_default();
    let rows = WORKERS.iter().zip(figures).map(|(name, figures)| {
        let all = |of: fn(&Figures) -> f64| median(figures.iter().map(of));
        let ratio = |of: fn(&Figures) -> f64| median(floors.iter().zip(figures).map(|(floor, worker)| of(worker) / of(floor)));
        vec![
            (*name).to_owned(),
            format!("{:.1}", all(|f| f.cpu_per_job)),
            format!("{:.2}", ratio(|f| f.cpu_per_job)),
            format!("{:.0}", all(|f| f.rate)),
            format!("{:.2}", ratio(|f| f.rate)),
            format!("{:.0}", all(|f| f.peak_mib)),
        ]
    });
    let header = ["worker", "CPU µs/job", "÷ floor", "jobs/s", "÷ floor", "peak RSS MiB"];
    println!("\ngateway latency {latency}, {jobs} jobs (Celery a tenth), medians of {} interleaved rounds", floors.len());
    println!("{}\n", table(&header, &rows.collect::<Vec<_>>()));
}

fn sources(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(peer)
}

fn place(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers").join(peer)
}

/// Where the Node.js worker stands with what it needs.
async fn install_node() -> anyhow::Result<PathBuf> {
    let dir = place("node");
    std::fs::create_dir_all(&dir)?;
    for file in ["package.json", "worker.js"] {
        std::fs::copy(sources("node").join(file), dir.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "--no-package-lock"]).current_dir(&dir);
    ensure!(
        npm.status().await.context("npm (Node.js 20 or later)")?.success(),
        "npm cannot install the Node.js worker's packages"
    );
    Ok(dir)
}

/// Where Celery is.
async fn install_celery() -> anyhow::Result<PathBuf> {
    let dir = place("celery");
    if !dir.join("celery").exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(&dir)
            .arg("-r")
            .arg(sources("celery").join("requirements.txt"));
        ensure!(pip.status().await.context("python3 (3.9 or later)")?.success(), "pip cannot install Celery");
    }
    Ok(dir)
}
