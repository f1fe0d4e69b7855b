//! A million jobs wait and are all sent: the daemon's memory throughout, and its next start with all of them in the ledger.
//! See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::time::{Instant, sleep};

use support::measure;
use support::rig::Rig;
use support::setting;
use support::worker::Worker;

/// Most memory resident at any time, in MiB.
const MOST_MIB: f64 = 128.0;

/// Between two lines of the course.
const LINE: Duration = Duration::from_secs(10);

/// Between two looks at the memory. The kernel keeps the peak besides.
const LOOK: Duration = Duration::from_millis(500);

/// A daemon that sends nothing for this long is stuck.
const STUCK: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let jobs: u64 = setting("BENCH_JOBS", 1_000_000);
    let rig = Rig::start(&["--rate", "unlimited"]).await?;
    println!("filling the queue with {jobs} jobs");
    let id = rig.campaign("large", jobs, true).await?;
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let mut worker = Worker::daemon(&rig, dir.path(), "unlimited")?;
    let most = watch(&rig, &mut worker, jobs).await?;
    rig.clean_up(&id).await?;
    let peak = measure::peak(worker.pid)?;
    worker.stop().await?;
    println!("{jobs} jobs sent: at most {most:.1} MiB seen, {peak:.1} MiB at the peak");
    println!("state directory: {:.1} MiB", measure::size(&dir.path().join("state"))?);
    restart(&rig, dir.path(), jobs).await?;
    ensure!(peak < MOST_MIB, "{peak:.1} MiB resident is more than {MOST_MIB} MiB");
    Ok(())
}

/// Follows the daemon until all is sent; the most memory seen.
async fn watch(rig: &Rig, worker: &mut Worker, jobs: u64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let (mut most, mut next_line) = (0_f64, begun);
    let (mut before, mut moved) = (0, begun);
    loop {
        worker.look_alive()?;
        let now = measure::resident(worker.pid)?;
        most = most.max(now);
        if Instant::now() >= next_line {
            next_line += LINE;
            let sent = rig.gateway().stats().await?.accepted();
            println!("{:>4} s  {sent:>9} sent  {now:>6.1} MiB", begun.elapsed().as_secs());
            if sent >= jobs {
                return Ok(most);
            }
            if sent > before {
                (before, moved) = (sent, Instant::now());
            }
            ensure!(moved.elapsed() < STUCK, "nothing is sent any more");
        }
        sleep(LOOK).await;
    }
}

/// Starts the daemon again on the full ledger, with one job waiting.
async fn restart(rig: &Rig, dir: &Path, entries: u64) -> anyhow::Result<()> {
    rig.gateway().order("reset", json!({})).await?;
    rig.campaign("one-more", 1, true).await?;
    let begun = Instant::now();
    let mut worker = Worker::daemon(rig, dir, "unlimited")?;
    while rig.gateway().stats().await?.accepted() == 0 {
        worker.look_alive()?;
        ensure!(begun.elapsed() < STUCK, "the daemon does not send after its restart");
        sleep(Duration::from_millis(10)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "started again with {entries} jobs in the ledger: first send after {took:.2} s, {:.1} MiB resident",
        measure::resident(worker.pid)?
    );
    worker.stop().await
}
