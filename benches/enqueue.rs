//! `campaignd enqueue` of a large CSV file into RabbitMQ: how long, how much memory, how much CPU time. See `README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other benches")]
mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use support::measure;
use support::rig::{CAMPAIGND, KEY, Rig};
use support::setting;
use support::table::{median, table};

/// Between two looks at the process.
const LOOK: Duration = Duration::from_millis(20);

const MESSAGE: &str = r#"{"type":"template","template":{"name":"spring_sale_2026","language":{"code":"tr"},"components":[{"type":"body","parameters":[{"type":"text","text":"{{ name }}"},{"type":"text","text":"{{ discount }}"},{"type":"text","text":"30.11."}]}]}}"#;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let sizes: String = setting("BENCH_RECIPIENTS", "10000,100000,1000000".to_owned());
    let rounds: usize = setting("BENCH_ROUNDS", 5);
    let rig = Rig::start(&[]).await?;
    let mut rows = Vec::new();
    for jobs in sizes.split(',').map(str::parse::<u64>) {
        let jobs = jobs?;
        let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        write_files(dir.path(), &rig, jobs)?;
        let (mut seconds, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=rounds {
            let campaign = format!("enqueue-{jobs}-{round}");
            rig.campaign(&campaign, 0, false).await?; // its queue is there, as with a daemon that runs
            let found = enqueue(&rig, dir.path(), &campaign).await?;
            println!("{jobs} recipients, round {round} of {rounds}: {:.1} s, {:.1} MiB", found.0, found.2);
            rig.empty(&campaign).await?;
            seconds.push(found.0);
            cpu.push(found.1 * 1e6 / jobs as f64);
            memory.push(found.2);
        }
        let figures = [median(seconds), median(cpu), median(memory)].map(|figure| format!("{figure:.1}"));
        rows.push([vec![jobs.to_string()], figures.to_vec()].concat());
    }
    println!("\n{}", table(&["recipients", "s", "CPU µs each", "peak RSS MiB"], &rows));
    Ok(())
}

fn write_files(dir: &Path, rig: &Rig, jobs: u64) -> anyhow::Result<()> {
    let mut csv = BufWriter::new(File::create(dir.join("recipients.csv"))?);
    writeln!(csv, "to,name,discount")?;
    for number in 0..jobs {
        writeln!(csv, "{},Deniz,20 %", 905_300_000_000 + number)?;
    }
    csv.flush()?;
    std::fs::write(dir.join("message.json"), MESSAGE)?;
    let gateway = rig.gateway().url();
    let config =
        format!("[gateway]\nbase-url = \"{gateway}\"\n[accounts.bench]\nkey-env = \"CAMPAIGND_KEY_BENCH\"\ndefault = true\n");
    Ok(std::fs::write(dir.join("campaignd.toml"), config)?)
}

/// Seconds, seconds of CPU time, and most memory in MiB.
async fn enqueue(rig: &Rig, dir: &Path, campaign: &str) -> anyhow::Result<(f64, f64, f64)> {
    let mut command = Command::new(CAMPAIGND);
    command.args(["enqueue", "--json", "--campaign", campaign]).current_dir(dir);
    command.args(["--config", "campaignd.toml", "--recipients", "recipients.csv", "--message", "message.json"]);
    command.env("CAMPAIGND_KEY_BENCH", KEY).env("CAMPAIGND_BROKER_URI", rig.broker_uri());
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    let pid = child.id().context("it has ended at once")?;
    let (mut cpu, mut peak) = (Duration::ZERO, 0.0);
    let status = loop {
        // Its last look comes a moment before its end, when it has nothing left to do.
        (cpu, peak) = (measure::cpu(pid).unwrap_or(cpu), measure::peak(pid).unwrap_or(peak));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        sleep(LOOK).await;
    };
    ensure!(status.success(), "enqueue ended with {status}");
    Ok((begun.elapsed().as_secs_f64(), cpu.as_secs_f64(), peak))
}
