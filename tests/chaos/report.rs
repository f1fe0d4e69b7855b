//! What is told of a round, and of all of them.

use std::fmt;

use tokio::time::Instant;

use crate::plan::Plan;
use crate::verdict::Compared;
use crate::world::{Tally, World};

/// A round that came to its end.
pub(crate) struct Report {
    strikes: String,
    tally: Tally,
    compared: Compared,
    moved_aside: u64,
    left_out: Option<String>,
}

impl Report {
    /// Keeps the round's directory if a promise was not kept.
    pub(crate) fn new(plan: &Plan, world: &mut World, parts: &[Compared]) -> Self {
        let mut compared = Compared::default();
        parts.iter().for_each(|part| compared.add(part));
        if !compared.wrong.is_empty() {
            world.keep();
        }
        let strikes: Vec<String> = plan.strikes.iter().map(ToString::to_string).collect();
        Self {
            strikes: strikes.join(" "),
            tally: world.tally,
            compared,
            moved_aside: world.moved_aside(),
            left_out: world.left_out.clone(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compared { recipients, sent, dead, copies, .. } = self.compared;
        write!(f, "{} | recipients {recipients} sent {sent} dead {dead} copies {copies}", self.strikes)?;
        if self.tally.ended > 0 {
            write!(f, " ended-for-want-of-disk {}", self.tally.ended)?;
        }
        if self.moved_aside > 0 {
            write!(f, " ledgers-moved-aside {}", self.moved_aside)?;
        }
        self.left_out.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// All rounds of one kind.
pub(crate) struct Summary {
    kind: &'static str,
    began: Instant,
    rounds: u64,
    failed: Vec<u64>,
    tally: Tally,
    compared: Compared,
    moved_aside: u64,
}

impl Summary {
    pub(crate) fn new(kind: &'static str) -> Self {
        let (tally, compared) = (Tally::default(), Compared::default());
        Self { kind, began: Instant::now(), rounds: 0, failed: Vec::new(), tally, compared, moved_aside: 0 }
    }

    /// Takes down what came of one round, and tells it. Without a report it did not come to its end.
    pub(crate) fn add(&mut self, seed: u64, began: Instant, report: Option<Report>) {
        let (kind, seconds) = (self.kind, began.elapsed().as_secs_f32());
        self.rounds += 1;
        let kept = report.as_ref().is_some_and(|report| report.compared.wrong.is_empty());
        match report {
            Some(report) => {
                println!("{kind} {seed} {report} {seconds:.1} s");
                report.compared.wrong.iter().for_each(|wrong| println!("    {wrong}"));
                self.tally = self.tally.plus(report.tally);
                self.compared.add(&report.compared);
                self.moved_aside += report.moved_aside;
            }
            None => println!("{kind} {seed} did not come to its end in {seconds:.1} s"),
        }
        if !kept {
            println!("{kind} {seed} FAILED; once more: make chaos CASE={kind} ROUNDS=1 FIRST={seed}");
            self.failed.push(seed);
        }
    }

    /// The last line; panics if a round failed.
    pub(crate) fn close(self) {
        let (kind, seconds, failed) = (self.kind, self.began.elapsed().as_secs_f32(), self.failed.len());
        let Tally { kills, broker_kills, enqueue_kills, strikes, ended, .. } = self.tally;
        let Compared { recipients, sent, dead, copies, twice, missing, .. } = self.compared;
        println!(
            "{kind}: {} rounds, {failed} failed, in {seconds:.0} s; {strikes} faults, kill -9 of the process {kills}, of RabbitMQ \
             {broker_kills}, of enqueue {enqueue_kills}; ends for want of disk {ended}, ledgers moved aside {}\n\
             {kind}: {recipients} recipients compared: sent {sent}, dead letters {dead}, copies under resend {copies}, \
             twice under park {twice}, missing {missing}",
            self.rounds, self.moved_aside,
        );
        assert!(self.failed.is_empty(), "rounds {:?} failed; above stands why, and how to repeat each", self.failed);
    }
}
