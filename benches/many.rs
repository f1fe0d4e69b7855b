//! Many campaigns of one account, and many accounts of one daemon: what each costs. See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep, sleep_until};

use support::measure::{self, Figures};
use support::rig::{KEY, Rig};
use support::setting;
use support::table::table;
use support::worker::Worker;

/// Between these shares of the jobs the daemon is measured.
const SHARES: (f64, f64) = (0.1, 0.95);

/// What each account may send, per second and per minute.
const RATE: (u64, u64) = (80, 4800);

/// Campaigns that are filled at the same time.
const FILLING: usize = 20;

/// The daemon at rest is looked at for this long.
const REST: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        campaigns().await?;
        accounts().await
    })
}

/// The same number of jobs in 10, 100 and 1,000 campaigns of one account.
async fn campaigns() -> anyhow::Result<()> {
    let sizes: String = setting("BENCH_CAMPAIGNS", "10,100,1000".to_owned());
    let jobs: u64 = setting("BENCH_JOBS", 50_000);
    let mut rows = Vec::new();
    for count in sizes.split(',').map(str::parse::<u64>) {
        let count = count?;
        let rig = Rig::start(&["--rate", "unlimited"]).await?; // a new one: what the last size left at the broker would count too
        let each = jobs.div_ceil(count);
        fill(&rig, count, each, |number| ("bench".to_owned(), format!("c{count}-{number}"))).await?;
        let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        let mut worker = Worker::daemon(&rig, dir.path(), "unlimited")?;
        let figures = worker.follow(&rig, each * count, SHARES).await?;
        sleep(REST).await; // it ends its campaigns and takes their queues away
        let rest = at_rest(&worker).await?;
        worker.stop().await?;
        rows.push(row(count, &figures, rest));
    }
    println!("{jobs} jobs of one account, in so many campaigns");
    println!("{}\n", table(&["campaigns", "CPU µs/job", "jobs/s", "peak RSS MiB", "CPU at rest, ms/s"], &rows));
    Ok(())
}

/// Campaigns of so many jobs each, with these accounts and names; side by side, since a new queue is let stand for two seconds.
async fn fill(rig: &Rig, count: u64, each: u64, name: impl Fn(u64) -> (String, String)) -> anyhow::Result<()> {
    let fill = async |number: u64| {
        let (account, campaign) = name(number);
        rig.campaign_of(&account, &campaign, number * each, each).await.map(drop)
    };
    stream::iter(0..count).map(fill).buffer_unordered(FILLING).try_collect().await
}

fn row(count: u64, figures: &Figures, rest: f64) -> Vec<String> {
    let Figures { cpu_per_job, rate, peak_mib } = figures;
    vec![count.to_string(), format!("{cpu_per_job:.1}"), format!("{rate:.0}"), format!("{peak_mib:.0}"), format!("{rest:.1}")]
}

/// CPU time in a second, in ms, with nothing to send.
async fn at_rest(worker: &Worker) -> anyhow::Result<f64> {
    let before = measure::cpu(worker.pid)?;
    sleep(REST).await;
    Ok((measure::cpu(worker.pid)? - before).as_secs_f64() * 1000.0 / REST.as_secs_f64())
}

/// Accounts at their limits, each with a campaign and a key of its own.
async fn accounts() -> anyhow::Result<()> {
    let sizes: String = setting("BENCH_ACCOUNTS", "1,10,100".to_owned());
    let length = Duration::from_secs(setting("BENCH_SECONDS", 30));
    let mut rows = Vec::new();
    for count in sizes.split(',').map(str::parse::<u64>) {
        let count = count?;
        let keys: Vec<String> = (0..count).map(|number| format!("{KEY}_{number}")).collect();
        let (second, minute) = (format!("{}/s", RATE.0), RATE.1.to_string());
        let mut arguments = vec!["--rate", &second, "--per-minute", &minute, "--latency", "50ms", "--jitter", "20ms"];
        arguments.extend(keys.iter().flat_map(|key| ["--key", key.as_str()]));
        let rig = Rig::start(&arguments).await?;
        let each = RATE.0 * (length.as_secs() + 20);
        fill(&rig, count, each, |number| (format!("a{number}"), format!("c{number}"))).await?;
        let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        std::fs::write(dir.path().join("campaignd.toml"), configuration(&rig, dir.path(), &keys)?)?;
        let mut worker = Worker::configured(&rig, dir.path())?;
        rows.push(at_limit(&rig, &mut worker, count, length).await?);
        worker.stop().await.context("the daemon")?;
    }
    println!("accounts at {}/s and {}/min each, gateway latency 50 ± 20 ms", RATE.0, RATE.1);
    let header = ["accounts", "of the limit used", "refused per 1,000", "CPU, ms/s", "CPU µs/job", "peak RSS MiB"];
    println!("{}\n", table(&header, &rows));
    Ok(())
}

/// Once all have begun: what is used of the limits, what is refused, and what it costs.
async fn at_limit(rig: &Rig, worker: &mut Worker, count: u64, length: Duration) -> anyhow::Result<Vec<String>> {
    while rig.gateway().stats().await?.accepted() < count * 10 {
        worker.look_alive()?;
        sleep(Duration::from_millis(20)).await;
    }
    let (begun, cpu, before) = (Instant::now(), measure::cpu(worker.pid)?, rig.gateway().stats().await?);
    sleep_until(begun + length).await;
    let (cpu, after) = ((measure::cpu(worker.pid)? - cpu).as_secs_f64(), rig.gateway().stats().await?);
    let took = begun.elapsed().as_secs_f64();
    let accepted = (after.accepted() - before.accepted()) as f64;
    let refused = (after.rate_limited() - before.rate_limited()) as f64 * 1000.0 / accepted;
    Ok(vec![
        count.to_string(),
        format!("{:.1} %", accepted * 100.0 / (took * (RATE.0 * count) as f64)),
        format!("{refused:.2}"),
        format!("{:.0}", cpu * 1000.0 / took),
        format!("{:.1}", cpu * 1e6 / accepted),
        format!("{:.0}", measure::peak(worker.pid)?),
    ])
}

/// Each account's key is in a file of its own.
fn configuration(rig: &Rig, dir: &Path, keys: &[String]) -> anyhow::Result<String> {
    let (gateway, (second, minute)) = (rig.gateway().url(), RATE);
    let mut text = format!(
        "[gateway]\nbase-url = \"{gateway}\"\nrate = \"{second}/s, {minute}/min\"\n\
         [state]\ndir = \"state\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
    );
    for (number, key) in keys.iter().enumerate() {
        let file = dir.join(format!("key-{number}"));
        std::fs::write(&file, key)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        writeln!(text, "[accounts.a{number}]\nkey-file = \"{}\"", file.display())?;
    }
    Ok(text)
}
