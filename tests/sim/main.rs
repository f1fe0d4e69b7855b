//! The engine in a simulated world: seeded faults, paused clock, death at any moment.
//!
//! The product's own engine, pacer, policy and outcome; the broker, the gateway, the disk and the people are simulated. One seed,
//! one history.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a test may fail loudly")]

mod answers;
mod broker;
mod disk;
mod fair;
mod faults;
mod gateway;
mod pace;
mod person;
mod plan;
mod producer;
mod promises;
mod queues;
mod rate;
mod witness;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use campaignd::policy::Rules;
use faults::Fired;
use plan::{BrokerFaults, CampaignPlan, Plan};
use world::{End, World};

/// Seeds in every test run; `SIM_SEEDS` asks for more, `SIM_FIRST` starts elsewhere.
const SEEDS: u64 = 500;

/// Seeds between two lines of progress.
const REPORT_EVERY: u64 = 1_000;

/// Failures after which a run gives up.
const ENOUGH: usize = 20;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(plan: Plan) -> End {
    World::run(plan, &Arc::new(Rules::builtin()))
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let first = run(Plan::disaster(7));
    let second = run(Plan::disaster(7));
    assert!(first.trace.len() > 100, "a history of {} lines proves nothing", first.trace.len());
    for (line, (a, b)) in first.trace.iter().zip(&second.trace).enumerate() {
        assert_eq!(a, b, "the histories part at line {line}");
    }
    assert_eq!(first.trace.len(), second.trace.len());
    assert_ne!(first.trace, run(Plan::disaster(8)).trace, "another seed must give another history");
}

#[test]
fn nobody_twice_nobody_forgotten_under_seeded_disasters() {
    let run = Run { first: from_env("SIM_FIRST", 0), seeds: from_env("SIM_SEEDS", SEEDS), ..Run::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| run.worlds());
        run.worlds();
    });
    let failed = run.failed.into_inner().unwrap();
    assert!(failed.is_empty(), "promises were broken in these worlds, see above: {failed:?}");
    let fired = run.fired.into_inner().unwrap();
    println!("{}", fired.rarest());
    let missing = fired.missing();
    assert!(run.seeds < SEEDS || missing.is_empty(), "in {} worlds this never happened: {missing:#?}", run.seeds);
}

/// Many worlds, on as many threads as call [`Run::worlds`].
#[derive(Default)]
struct Run {
    first: u64,
    seeds: u64,
    taken: AtomicU64,
    failed: Mutex<Vec<u64>>,
    fired: Mutex<Fired>,
}

impl Run {
    /// Lives one world after the other until all seeds have had theirs or enough have failed.
    fn worlds(&self) {
        let rules = Arc::new(Rules::builtin());
        loop {
            let taken = self.taken.fetch_add(1, Ordering::Relaxed);
            if taken >= self.seeds || self.failed.lock().unwrap().len() >= ENOUGH {
                return;
            }
            let seed = self.first + taken;
            let end = World::run(Plan::disaster(seed), &rules);
            if let Some(broken) = &end.broken {
                self.report(seed, broken, &end);
            }
            self.fired.lock().unwrap().add(end.fired);
            if taken > 0 && taken.is_multiple_of(REPORT_EVERY) {
                println!("{taken} of {} worlds, {} failed", self.seeds, self.failed.lock().unwrap().len());
            }
        }
    }

    fn report(&self, seed: u64, broken: &str, end: &End) {
        if self.seeds == 1 {
            end.trace.iter().for_each(|line| println!("{line}"));
        }
        println!("seed {seed}: {broken}\n  its whole history: make sim SEEDS=1 FIRST={seed}");
        self.failed.lock().unwrap().push(seed);
    }
}

#[test]
fn jobs_of_a_cancelled_campaign_stay_at_the_broker_until_it_knows_that_the_campaign_is_cancelled() {
    for seed in 0..24 {
        let calm = Plan::calm(seed);
        let down = if seed % 2 == 0 { 0.5 } else { 0.0 };
        let plan = Plan { broker: BrokerFaults { slow_ms: 60, down, ..calm.broker }, ..calm };
        let end = World::run_lost_while_cancelling(plan, &Arc::new(Rules::builtin()));
        assert_eq!(end.broken, None, "seed {seed}");
    }
}

#[test]
fn what_comes_when_nobody_can_tell_any_more_who_got_it_is_parked_and_counted_the_same_after_a_restart() {
    let end = World::run_after_the_ledger(Plan::calm(1), &Arc::new(Rules::builtin()));
    assert_eq!(end.broken, None);
    assert_eq!((end.messages, end.parked), (end.jobs, 3 * 3), "nothing is sent again");
}

#[test]
fn a_calm_world_sends_every_job_once_and_fast() {
    let end = run(Plan::calm(1));
    assert_eq!(end.broken, None);
    assert_eq!(end.sent, end.jobs, "nothing goes wrong in a calm world");
}

/// With two copies of every job.
#[test]
fn what_is_not_begun_when_a_daemon_without_its_old_ledger_stops_is_neither_parked_nor_counted_twice() {
    for seed in 0..3 {
        let calm = Plan::calm(seed);
        let plan = Plan { broker: BrokerFaults { copy: 1.0, ..calm.broker }, ..calm };
        let end = World::run_stopped_after_a_loss(plan, &Arc::new(Rules::builtin()));
        assert_eq!(end.broken, None, "seed {seed}");
        assert_eq!(end.parked, 0, "seed {seed}");
    }
}

#[test]
fn what_is_announced_outlives_a_disk_lost_before_it_is_noted_at_the_broker() {
    let calm = Plan::calm(1);
    let campaigns = calm.campaigns.iter().map(|campaign| CampaignPlan { sandbox: true, ..*campaign }).collect();
    let end = World::run_lost_once_announced(Plan { campaigns, ..calm }, &Arc::new(Rules::builtin()));
    assert_eq!(end.broken, None);
    assert_eq!(end.messages, 0, "a rehearsal stays one");
    assert_eq!(end.sent, end.jobs);
}
