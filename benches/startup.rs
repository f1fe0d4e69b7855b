//! The daemon's start with a full ledger, to its first request, and the memory it then has. See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use campaignd::campaign::{Campaign, JobState, Options, Record};
use campaignd::clock::Clock;
use campaignd::job::{CampaignId, JobId, Recipient};
use campaignd::store::sled::SledStore;
use campaignd::store::{Change, Store};
use serde_json::json;
use tokio::time::{Instant, sleep};

use support::measure;
use support::rig::Rig;
use support::setting;
use support::table::{median, table};
use support::worker::Worker;

/// Jobs in one commit while the ledger is filled, about as many as share one under load.
const COMMIT: u64 = 64;

/// A daemon that sends nothing for this long is stuck.
const STUCK: Duration = Duration::from_secs(120);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let sizes: String = setting("BENCH_ENTRIES", "100000,1000000,10000000".to_owned());
    let rounds: usize = setting("BENCH_ROUNDS", 5);
    let rig = Rig::start(&["--rate", "unlimited"]).await?;
    let mut rows = Vec::new();
    for jobs in sizes.split(',').map(str::parse::<u64>) {
        let jobs = jobs?;
        let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        fill(&dir.path().join("state"), jobs).await?;
        let disk = measure::size(&dir.path().join("state"))?;
        let (mut seconds, mut memory) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let (took, resident) = start(&rig, dir.path(), &format!("one-more-{jobs}-{round}")).await?;
            println!("{jobs} jobs in the ledger, round {}: first request after {took:.2} s, {resident:.0} MiB", round + 1);
            seconds.push(took);
            memory.push(resident);
        }
        let figures = [format!("{:.2}", median(seconds)), format!("{:.0}", median(memory)), format!("{disk:.0}")];
        rows.push([vec![jobs.to_string()], figures.to_vec()].concat());
    }
    println!("\n{}", table(&["jobs in the ledger", "to the first request, s", "then resident, MiB", "on disk, MiB"], &rows));
    Ok(())
}

/// A ledger in which `jobs` jobs of one campaign were sent.
async fn fill(dir: &Path, jobs: u64) -> anyhow::Result<()> {
    let clock = Clock::system();
    let store = SledStore::open(dir, &clock)?.store;
    let id: CampaignId = "past".parse()?;
    let campaign = Campaign::new(id.clone(), "bench".parse()?, Options::default(), clock.wall());
    store.commit([Change::Campaign(campaign)].into()).await?;
    for first in (0..jobs).step_by(COMMIT as usize) {
        let mut records = Vec::new();
        for number in first..(first + COMMIT).min(jobs) {
            let to: Recipient = (905_000_000_000 + number).to_string().parse()?;
            let job = JobId::derived(&id, to);
            let opened = Record::new(job.clone(), None, 0, JobState::Opened, 1, 0, 0);
            let sent = JobState::Sent { wamid: format!("wamid.HBgM{:0>30}", to.number()) };
            records.push(opened.clone());
            records.push(Record::new(job, Some(&opened.now), 0, sent, 1, 0, 0));
        }
        store.commit([Change::Ledger(id.clone(), records)].into()).await?;
    }
    Ok(())
}

/// Starts the daemon with one job waiting: seconds to its request, and MiB resident then.
async fn start(rig: &Rig, dir: &Path, campaign: &str) -> anyhow::Result<(f64, f64)> {
    rig.gateway().order("reset", json!({})).await?;
    let id = rig.campaign(campaign, 1, true).await?;
    let begun = Instant::now();
    let mut worker = Worker::daemon(rig, dir, "unlimited")?;
    while rig.gateway().stats().await?.accepted() == 0 {
        worker.look_alive()?;
        ensure!(begun.elapsed() < STUCK, "the daemon does not send after its start");
        sleep(Duration::from_millis(5)).await;
    }
    let (took, resident) = (begun.elapsed().as_secs_f64(), measure::resident(worker.pid)?);
    rig.clean_up(&id).await?;
    worker.stop().await?;
    Ok((took, resident))
}
