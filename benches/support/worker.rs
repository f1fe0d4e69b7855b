//! The workers compared, each a process of its own: the floor, and the daemon with everything on.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use campaignd::job::CampaignId;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::engine::Variant;
use super::floor::{IN_FLIGHT, PREFETCH};
use super::measure::{self, Figures, Sample};
use super::rig::{CAMPAIGND, KEY, Rig};

/// Between two looks at a worker.
const LOOK: Duration = Duration::from_millis(50);

/// A worker that sends nothing for this long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Longest wait for the daemon to stop.
const STOP: Duration = Duration::from_secs(60);

/// A running worker. Killed when dropped.
pub(crate) struct Worker {
    child: Child,
    /// Its process id.
    pub(crate) pid: u32,
}

impl Worker {
    /// The floor, on the campaign's queue.
    pub(crate) fn floor(rig: &Rig, campaign: &CampaignId) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let url = format!("{}/v1/wa/message", rig.gateway().url());
        command.args(["floor".to_owned(), rig.broker_uri(), format!("campaignd.jobs.{campaign}"), url]);
        Self::spawn(command)
    }

    /// The daemon's engine with other parts; it fills an embedded broker with `jobs` jobs before it begins.
    pub(crate) fn engine(rig: &Rig, variant: Variant, dir: &Path, jobs: u64) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["engine", variant.word()]).arg(dir).args([rig.gateway().url(), &jobs.to_string(), &rig.broker_uri()]);
        Self::spawn(command)
    }

    /// Any other program that takes from the campaign's queue: a command that is given broker, queue and gateway.
    pub(crate) fn peer(rig: &Rig, campaign: &CampaignId, mut command: Command) -> anyhow::Result<Self> {
        command.env("BENCH_BROKER", rig.open_uri()).env("BENCH_QUEUE", format!("campaignd.jobs.{campaign}"));
        command.env("BENCH_GATEWAY", format!("{}/v1/wa/message", rig.gateway().url())).env("BENCH_KEY", KEY);
        command.env("BENCH_PREFETCH", PREFETCH.to_string()).env("BENCH_IN_FLIGHT", IN_FLIGHT.to_string());
        Self::spawn(command)
    }

    /// The daemon as it is shipped, its state in `dir`, with this rate for its account.
    pub(crate) fn daemon(rig: &Rig, dir: &Path, rate: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("campaignd.toml"), configuration(rig, rate))?;
        Self::configured(rig, dir)
    }

    /// The daemon with the configuration that stands in `dir`.
    pub(crate) fn configured(rig: &Rig, dir: &Path) -> anyhow::Result<Self> {
        let config = dir.join("campaignd.toml");
        let mut command = Command::new(CAMPAIGND);
        command.arg("run").arg("--config").arg(&config);
        command.env("CAMPAIGND_KEY_BENCH", KEY).env("CAMPAIGND_BROKER_URI", rig.broker_uri());
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log"))?;
        command.stderr(Stdio::from(log));
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
        let pid = child.id().context("it has ended at once")?;
        Ok(Self { child, pid })
    }

    /// Waits until the gateway has accepted `jobs`, and looks at the worker when it has accepted these shares of them.
    pub(crate) async fn follow(&mut self, rig: &Rig, jobs: u64, shares: (f64, f64)) -> anyhow::Result<Figures> {
        let [from, to] = [shares.0, shares.1].map(|share| (jobs as f64 * share) as u64);
        let (mut first, mut last) = (None, None);
        let (mut before, mut moved) = (0, Instant::now());
        loop {
            let accepted = rig.gateway().stats().await?.accepted();
            let sample = Sample { at: Instant::now(), accepted, cpu: measure::cpu(self.pid)? };
            if accepted >= from && accepted > 0 {
                first.get_or_insert(sample);
            }
            if accepted >= to {
                last.get_or_insert(sample);
            }
            if accepted >= jobs {
                break;
            }
            if accepted > before {
                (before, moved) = (accepted, Instant::now());
            } else if moved.elapsed() > STUCK {
                bail!("{accepted} of {jobs} messages accepted, and nothing more for {STUCK:?}");
            }
            self.look_alive()?;
            sleep(LOOK).await;
        }
        let (first, last) = first.zip(last).context("too few jobs to measure")?;
        Ok(Figures::between(&first, &last, measure::peak(self.pid)?))
    }

    /// Fails if it has ended.
    pub(crate) fn look_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the worker ended by itself: {status}"),
            None => Ok(()),
        }
    }

    /// Asks it to stop, as systemd does, and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.pid.to_string()).status().await?;
        let status = timeout(STOP, self.child.wait()).await.context("the worker does not stop")??;
        anyhow::ensure!(status.success(), "the worker stopped with {status}");
        Ok(())
    }

    /// Ends it at once.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

fn configuration(rig: &Rig, rate: &str) -> String {
    let gateway = rig.gateway().url();
    format!(
        "[broker]\nprefetch = {PREFETCH}\n\
         [gateway]\nbase-url = \"{gateway}\"\nrate = \"{rate}\"\nmax-in-flight = {IN_FLIGHT}\n\
         [accounts.bench]\nkey-env = \"CAMPAIGND_KEY_BENCH\"\ndefault = true\n\
         [state]\ndir = \"state\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n"
    )
}
