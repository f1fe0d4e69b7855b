//! One case: gateway, daemon, whoever else sends, and all that came.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at, sleep, sleep_until};

use super::case::{Case, Other};
use super::support::rig::{KEY, Rig};
use super::support::worker::Worker;

/// Between two looks at what came; the gateway tells 10,000 at once.
const LOOK: Duration = Duration::from_secs(2);

/// The run goes on a little after what is measured, so that answers come.
const REST: Duration = Duration::from_secs(3);

/// First recipient of the other sender.
const THEIRS: u64 = 905_900_000_000;

/// What came of a case; times in seconds since it began.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// Every request the gateway counted: when, and whether it was refused.
    pub(crate) all: Vec<(f64, bool)>,
    /// Those of the other sender among them, each within some milliseconds.
    pub(crate) theirs: Vec<(f64, bool)>,
}

/// Runs the case for `length`.
pub(crate) async fn run(base: &Rig, case: &Case, length: Duration) -> anyhow::Result<Run> {
    let (second, minute) = (format!("{}/s", case.limits.0), case.limits.1.to_string());
    let rig = base.beside(&[&["--rate", &second, "--per-minute", &minute], case.ways].concat()).await?;
    let jobs = (case.allowed() * (length.as_secs_f64() + 90.0)) as u64 + u64::from(case.limits.1);
    rig.campaign("paced", jobs, true).await?;
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    std::fs::write(dir.path().join("campaignd.toml"), configuration(&rig, case))?;
    let mut worker = Worker::configured(&rig, dir.path())?;
    while rig.gateway().stats().await?.accepted() == 0 {
        worker.look_alive()?;
        sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    let zero = arrivals(&rig, u64::MAX).await?.0;
    let (theirs, all, ()) = tokio::try_join!(
        others(&rig, case.other, begun, length),
        watch(&rig, zero, begun + length + REST),
        steer(&rig, case, begun, length)
    )?;
    worker.look_alive()?;
    worker.kill().await?;
    let seconds = length.as_secs_f64();
    let within = |all: Vec<(f64, bool)>| all.into_iter().filter(|(at, _)| (0.0..seconds).contains(at)).collect();
    Ok(Run { seconds, all: within(all), theirs: within(theirs) })
}

fn configuration(rig: &Rig, case: &Case) -> String {
    let (gateway, (second, minute)) = (rig.gateway().url(), case.limits);
    format!(
        "[broker]\nprefetch = 512\n\
         [gateway]\nbase-url = \"{gateway}\"\nrate = \"{second}/s, {minute}/min\"\nmax-in-flight = 512\n\
         [accounts.bench]\nkey-env = \"CAMPAIGND_KEY_BENCH\"\ndefault = true\n{}\
         [state]\ndir = \"state\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n",
        case.account
    )
}

/// The gateway's time and what came later than this, in its microseconds.
async fn arrivals(rig: &Rig, after: u64) -> anyhow::Result<(u64, Vec<(u64, bool)>)> {
    let told = rig.gateway().ask(&format!("arrivals?after={after}")).await?;
    let lines = told.get("arrivals").and_then(Value::as_array).context("no arrivals")?;
    let arrival = |line: &Value| Some((line.get(0)?.as_u64()?, line.get(1)? == "rate-limited"));
    Ok((told.get("now").and_then(Value::as_u64).context("no time")?, lines.iter().filter_map(arrival).collect()))
}

async fn watch(rig: &Rig, zero: u64, until: Instant) -> anyhow::Result<Vec<(f64, bool)>> {
    let mut all = Vec::new();
    let mut last = zero;
    loop {
        let now = Instant::now();
        let (_, more) = arrivals(rig, last).await?;
        last = more.last().map_or(last, |(at, _)| *at);
        all.extend(more.iter().map(|(at, refused)| (at.saturating_sub(zero) as f64 / 1e6, *refused)));
        if now >= until {
            return Ok(all);
        }
        sleep_until(until.min(now + LOOK)).await;
    }
}

async fn steer(rig: &Rig, case: &Case, begun: Instant, length: Duration) -> anyhow::Result<()> {
    for (from, second) in case.changes {
        sleep_until(begun + length.mul_f64(*from)).await;
        rig.gateway().order("limits", json!({"limits": format!("{second}/s, {}/min", case.limits.1)})).await?;
    }
    Ok(())
}

/// Sends evenly while it is there. A request is taken to arrive halfway between leaving and its answer, as the simulator does it.
async fn others(rig: &Rig, other: Option<Other>, begun: Instant, length: Duration) -> anyhow::Result<Vec<(f64, bool)>> {
    let Some(other) = other else { return Ok(Vec::new()) };
    let (http, url) =
        (reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?, format!("{}/v1/wa/message", rig.gateway().url()));
    let one = async |number: u64| {
        let body = json!({"messaging_product": "whatsapp", "to": (THEIRS + number).to_string(), "type": "text", "text": {"body": "1234"}});
        let left = begun.elapsed().as_secs_f64();
        let answer = http.post(&url).bearer_auth(KEY).json(&body).send().await?;
        let refused = answer.status().as_u16() == 429;
        answer.bytes().await?;
        anyhow::Ok((f64::midpoint(left, begun.elapsed().as_secs_f64()), refused))
    };
    let until = begun + length.mul_f64(other.until);
    let mut clock = interval_at(begun + length.mul_f64(other.from), Duration::from_secs_f64(1.0 / other.rate));
    let (mut under_way, mut done, mut number) = (FuturesUnordered::new(), Vec::new(), 0);
    while Instant::now() < until || !under_way.is_empty() {
        tokio::select! {
            Some(answered) = under_way.next() => done.push(answered?),
            _ = clock.tick(), if Instant::now() < until => {
                number += 1;
                under_way.push(one(number));
            }
        }
    }
    done.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
    Ok(done)
}
