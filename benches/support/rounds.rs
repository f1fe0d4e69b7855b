//! One round of one worker, measured: what several benches do alike.

use std::path::Path;

use anyhow::{Context, ensure};
use campaignd::job::CampaignId;

use super::measure::Figures;
use super::rig::Rig;
use super::worker::Worker;

/// From which share of the jobs to which a round is measured.
pub(crate) type Shares = (f64, f64);

/// The floor.
pub(crate) async fn floor(rig: &Rig, name: &str, jobs: u64, shares: Shares) -> anyhow::Result<Figures> {
    let id = rig.campaign(name, jobs, false).await?;
    bare(rig, &id, Worker::floor(rig, &id)?, jobs, shares).await
}

/// A worker that has no books of its own to close.
pub(crate) async fn bare(rig: &Rig, id: &CampaignId, mut worker: Worker, jobs: u64, shares: Shares) -> anyhow::Result<Figures> {
    let figures = worker.follow(rig, jobs, shares).await?;
    rig.clean_up(id).await?;
    worker.kill().await?;
    Ok(figures)
}

/// `campaignd run`; afterwards nobody may have two messages.
pub(crate) async fn daemon(rig: &Rig, name: &str, jobs: u64, shares: Shares) -> anyhow::Result<Figures> {
    let id = rig.campaign(name, jobs, true).await?;
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?; // on disk, not on a tmpfs
    let mut worker = Worker::daemon(rig, dir.path(), "unlimited")?;
    let figures = worker.follow(rig, jobs, shares).await.with_context(|| log(dir.path()))?;
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
