//! What a process has used, from `/proc`: no signals, no instrumentation, the same for every worker.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

/// `USER_HZ`, which Linux fixes at 100 for everything in `/proc` on all common machines.
const TICKS_PER_SECOND: u64 = 100;

/// A process at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// When.
    pub(crate) at: Instant,
    /// Messages the gateway has accepted until then.
    pub(crate) accepted: u64,
    /// CPU time used until then, user and system.
    pub(crate) cpu: Duration,
}

/// Between two samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// CPU time for each job, in µs.
    pub(crate) cpu_per_job: f64,
    /// Jobs in a second.
    pub(crate) rate: f64,
    /// Most memory ever resident, in MiB.
    pub(crate) peak_mib: f64,
}

impl Figures {
    /// What was used from `first` to `last`.
    pub(crate) fn between(first: &Sample, last: &Sample, peak_mib: f64) -> Self {
        let jobs = last.accepted.saturating_sub(first.accepted) as f64;
        let cpu = last.cpu.saturating_sub(first.cpu).as_secs_f64();
        Self { cpu_per_job: cpu * 1e6 / jobs, rate: jobs / (last.at - first.at).as_secs_f64(), peak_mib }
    }
}

/// User and system time of all threads, dead ones included.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the worker has ended")?;
    // The name, in brackets, may hold anything; what follows it is counted from field 3.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A line of `/proc/PID/status` that is in kB, as MiB.
fn status(pid: u32, name: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the worker has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in /proc"))?;
    let kb: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
    Ok(kb / 1024.0)
}

/// Memory resident now, in MiB.
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    status(pid, "VmRSS")
}

/// Most memory ever resident, in MiB.
pub(crate) fn peak(pid: u32) -> anyhow::Result<f64> {
    status(pid, "VmHWM")
}

/// All files below a directory, in MiB.
pub(crate) fn size(dir: &Path) -> anyhow::Result<f64> {
    let mut mib = 0.0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let data = entry.metadata()?;
        mib += if data.is_dir() { size(&entry.path())? } else { data.len() as f64 / 1_048_576.0 };
    }
    Ok(mib)
}
