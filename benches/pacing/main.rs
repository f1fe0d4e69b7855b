//! The daemon at its account's limit, against the simulated gateway over HTTP: jitter and tails, another sender on the key, a minute's
//! limit, limits that change, fast and slow answers. A table, and a plot of each case. See `../README.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod case;
mod figures;
mod plot;
mod run;
#[expect(dead_code, reason = "shared with the other benches")]
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use case::{CASES, Case};
use figures::{Figures, HEAD};
use run::Run;
use support::rig::Rig;
use support::setting;
use support::table::table;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let length = Duration::from_secs(setting("BENCH_SECONDS", 300));
    let asked: String = setting("BENCH_CASES", String::new());
    let wanted = |case: &&Case| asked.is_empty() || asked.split(',').any(|name| name.trim() == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    let known = CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
    ensure!(!cases.is_empty(), "BENCH_CASES={asked:?} names none of {known}");
    let rig = Rig::start(&[]).await?;
    let runs: Vec<(&Case, Run)> = stream::iter(cases)
        .map(async |case| anyhow::Ok((case, run::run(&rig, case, length).await?)))
        .buffered(setting("BENCH_SIDE_BY_SIDE", 3))
        .try_collect()
        .await?;
    let figures: Vec<Figures<'_>> = runs.iter().map(|(case, run)| Figures::of(case, run)).collect();
    println!("{} s each", length.as_secs());
    println!("{}", table(&HEAD, &figures.iter().map(Figures::row).collect::<Vec<_>>()));
    for ((case, _), figures) in runs.iter().zip(&figures) {
        draw(case, figures)?;
    }
    let broken: Vec<String> = figures.iter().flat_map(Figures::broken).collect();
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

fn draw(case: &Case, figures: &Figures<'_>) -> anyhow::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/plots");
    std::fs::create_dir_all(&dir)?;
    Ok(std::fs::write(dir.join(format!("{}.svg", case.name)), figures.plot().svg())?)
}
