//! The engine in a simulated world: seeded faults, paused clock, death at any moment.
//!
//! The product's own engine, pacer, policy and outcome; the broker, the gateway and the disk are simulated. One seed, one history.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod broker;
mod gateway;
mod promises;
mod world;

use world::{Plan, World};

/// Seeds in every test run; `SIM_SEEDS` asks for more, `SIM_FIRST` starts elsewhere.
const SEEDS: u64 = 60;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let first = World::run(Plan::disaster(7));
    let second = World::run(Plan::disaster(7));
    assert!(first.trace.len() > 100, "a history of {} lines proves nothing", first.trace.len());
    for (line, (a, b)) in first.trace.iter().zip(&second.trace).enumerate() {
        assert_eq!(a, b, "the histories part at line {line}");
    }
    assert_eq!(first.trace.len(), second.trace.len());
    assert_ne!(first.trace, World::run(Plan::disaster(8)).trace, "another seed must give another history");
}

#[test]
fn nobody_twice_nobody_forgotten_under_seeded_disasters() {
    let first = from_env("SIM_FIRST", 0);
    for seed in first..first + from_env("SIM_SEEDS", SEEDS) {
        let end = World::run(Plan::disaster(seed));
        if let Err(broken) = promises::kept(&end) {
            let tail: Vec<_> = end.trace.iter().rev().take(60).rev().collect();
            panic!("seed {seed}: {broken}\nrepeat with: SIM_FIRST={seed} SIM_SEEDS=1 cargo test --test sim\n{tail:#?}");
        }
    }
}

#[test]
fn a_calm_world_sends_every_job_once_and_fast() {
    let end = World::run(Plan::calm(1));
    promises::kept(&end).unwrap();
    assert_eq!(end.sent(), end.jobs, "nothing goes wrong in a calm world");
}
