//! A world for one seed: campaigns are enqueued, the daemon lives, dies and lives again, people meddle, and in the end all calms down.

mod scenarios;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use campaignd::alert::Alerts;
use campaignd::campaign::{OnUnknown, PauseTarget};
use campaignd::clock::Clock;
use campaignd::dice::Dice;
use campaignd::engine::{Account, CampaignState, CampaignView, Engine, Handle, Parts, Settings};
use campaignd::gateway::Gateway;
use campaignd::job::{AccountName, CampaignId};
use campaignd::pacer::Limits;
use campaignd::policy::Rules;
use campaignd::store::Store;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::broker::SimBroker;
use crate::disk::SimDisk;
use crate::gateway::SimGateway;
use crate::plan::{AccountPlan, Plan};
use crate::producer::{Producer, STRAYS, account};
use crate::promises;
use crate::witness::Witness;

/// Longest simulated time for everything to come to its end: a world that does not is stuck. A campaign whose ledger was lost waits a
/// day for jobs that may be delayed.
const CEILING: Duration = Duration::from_secs(30 * 3600);

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) clock: Clock,
    pub(crate) witness: Witness,
    pub(crate) broker: SimBroker,
    pub(crate) gateways: BTreeMap<AccountName, SimGateway>,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) producers: Vec<Producer>,
    /// Campaigns somebody asked to cancel, whether or not an answer came.
    pub(crate) cancelled: BTreeSet<CampaignId>,
    /// Campaigns whose cancelling was answered.
    pub(crate) told_cancelled: BTreeSet<PauseTarget>,
    /// A ledger has been lost.
    pub(crate) bereft: bool,
    /// A reload has left accounts out or lowered their limits.
    pub(crate) reduced: bool,
    /// How long a ledger is kept after the end of its campaign.
    retention: Duration,
    pub(crate) rules: Arc<Rules>,
}

/// One life of the daemon.
pub(crate) struct Life {
    pub(crate) handle: Handle,
    tasks: JoinSet<()>,
    stop: Option<oneshot::Sender<()>>,
}

/// How it ended.
pub(crate) struct End {
    pub(crate) trace: Vec<String>,
    /// What happened in it, and how often.
    pub(crate) fired: BTreeMap<String, u64>,
    /// The first promise that was broken.
    pub(crate) broken: Option<String>,
    pub(crate) jobs: u64,
    pub(crate) sent: u64,
    /// Messages the gateways made.
    pub(crate) messages: u64,
    /// Dead letters.
    pub(crate) parked: usize,
}

impl World {
    /// Lives one plan from beginning to end on a paused clock.
    pub(crate) fn run(plan: Plan, rules: &Arc<Rules>) -> End {
        Self::played(plan, rules, Self::live)
    }

    /// Loses the disk after the first batches, and asks the next daemon to stop amid the others.
    pub(crate) fn run_stopped_after_a_loss(plan: Plan, rules: &Arc<Rules>) -> End {
        Self::played(plan, rules, Self::stop_after_a_loss)
    }

    /// Loses the disk once every campaign is announced there, before much else.
    pub(crate) fn run_lost_once_announced(plan: Plan, rules: &Arc<Rules>) -> End {
        Self::played(plan, rules, Self::lose_once_announced)
    }

    /// Goes on after the campaigns' ledgers are cleaned up.
    pub(crate) fn run_after_the_ledger(plan: Plan, rules: &Arc<Rules>) -> End {
        Self::played(plan, rules, Self::outlive_the_ledger)
    }

    /// Loses the disk while a campaign is being cancelled.
    pub(crate) fn run_lost_while_cancelling(plan: Plan, rules: &Arc<Rules>) -> End {
        Self::played(plan, rules, Self::lose_while_cancelling)
    }

    fn played(plan: Plan, rules: &Arc<Rules>, play: impl AsyncFnOnce(&mut Self) -> Vec<CampaignView>) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = Self::new(plan, Arc::clone(rules));
            let mut broker = JoinSet::new();
            broker.spawn(world.broker.clone().run());
            let views = play(&mut world).await;
            world.end(views)
        })
    }

    async fn enqueue_all(&mut self) {
        for producer in &mut self.producers {
            producer.enqueue(&self.broker, &self.witness).await;
        }
    }

    fn is_known_cancelled(&self, target: &PauseTarget) -> bool {
        matches!(target, PauseTarget::Campaign(id) if self.broker.knows_cancelled(id))
    }

    fn lose_disk(&mut self) {
        self.disk = Arc::new(SimDisk::new(self.clock.clone(), self.witness.clone()));
        self.bereft = true;
        self.witness.fired("the disk is lost");
        self.witness.disk_lost();
        // a cancelling is lost with it only if the broker did not take the note of it
        self.told_cancelled = self.told_cancelled.iter().filter(|target| self.is_known_cancelled(target)).cloned().collect();
        self.told_cancelled.iter().for_each(|target| self.witness.told_paused(target.clone(), None));
    }

    fn new(plan: Plan, rules: Arc<Rules>) -> Self {
        let witness = Witness::new();
        let mut dice = Dice::seed_from_u64(plan.seed);
        let clock = Clock::simulated("2026-11-22T12:00:00Z".parse().unwrap());
        let gateway = |(number, of): (usize, &AccountPlan)| {
            let (name, seed) = (account(number), plan.seed.wrapping_mul(8) + number as u64);
            (name.clone(), SimGateway::new(name, seed, plan.gateway, of.limit, witness.clone()))
        };
        let gateways = plan.accounts.iter().enumerate().map(gateway).collect();
        let producer = |(number, of)| Producer::new(number, of, clock.wall(), &mut dice);
        let producers: Vec<Producer> = plan.campaigns.iter().copied().enumerate().map(producer).collect();
        for producer in &producers {
            let resend = producer.options.on_unknown == OnUnknown::Resend;
            producer.jobs.iter().for_each(|job| witness.enqueued(job.to.number(), resend));
        }
        Self {
            broker: SimBroker::new(plan.seed, plan.broker, plan.loses_disk, witness.clone()),
            disk: Arc::new(SimDisk::new(clock.clone(), witness.clone())),
            cancelled: BTreeSet::new(),
            told_cancelled: BTreeSet::new(),
            bereft: false,
            reduced: false,
            dice,
            clock,
            gateways,
            producers,
            witness,
            retention: Settings::default().ledger_retention,
            rules,
            plan,
        }
    }

    async fn live(&mut self) -> Vec<CampaignView> {
        self.enqueue_all().await;
        for _ in 1..self.plan.lives {
            let dies_after = self.dice.random_bool(0.5).then(|| self.dice.random_range(0..60));
            let life = self.start(dies_after);
            self.one_life(life).await;
            self.mourn();
        }
        let mut life = self.start(None);
        self.pass(&life).await;
        self.calm_down(&life).await;
        let views = self.until_over(&life).await;
        self.stop(&mut life).await;
        views
    }

    /// The daemon is started on what is on the disk. In some lives it dies at a certain write.
    fn start(&mut self, dies_after: Option<u32>) -> Life {
        self.disk = Arc::new(self.disk.next_life(self.dice.random(), self.plan.disk, dies_after));
        self.witness.note(|| format!("the daemon is started, dies after {dies_after:?} writes"));
        for (number, of) in self.plan.accounts.iter().enumerate() {
            self.witness.life_begins(&account(number), of.limit);
        }
        let accounts = self.accounts();
        self.reduced = false;
        let parts = Parts {
            broker: Arc::new(self.broker.clone()),
            store: Arc::clone(&self.disk) as Arc<dyn Store>,
            accounts,
            rules: Arc::clone(&self.rules),
            alerts: Alerts::channel().0,
            clock: self.clock.clone(),
            dice: Dice::seed_from_u64(self.dice.random()),
            settings: self.settings(),
        };
        let (engine, handle) = Engine::build(parts).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { _ = engine.run(async { drop(stopped.await) }).await });
        Life { handle, tasks, stop: Some(stop) }
    }

    /// The accounts as they stand in the configuration.
    pub(crate) fn accounts(&self) -> BTreeMap<AccountName, Account> {
        let built = self.plan.accounts.iter().enumerate().map(|(number, of)| {
            let name = account(number);
            let gateway = Arc::new(self.gateways[&name].clone()) as Arc<dyn Gateway>;
            let limits = Limits { second: Some(of.limit.second), minute: Some(of.limit.minute) };
            (name, Account { gateway, plan: limits.into(), max_in_flight: of.max_in_flight })
        });
        built.collect()
    }

    pub(crate) fn settings(&mut self) -> Settings {
        Settings {
            prefetch: self.dice.random_range(1..64),
            shelf_page: self.plan.shelf_page,
            ledger_retention: self.retention,
            ..Settings::default()
        }
    }

    /// A life that ends early: at a write, by kill -9, or by a polite stop that may be cut short.
    async fn one_life(&mut self, mut life: Life) {
        let died = Arc::clone(&self.disk.died);
        let passed = tokio::select! {
            biased;
            () = died.notified() => false,
            () = self.pass(&life) => true,
        };
        if passed && self.dice.random_bool(0.5) {
            let patience = Duration::from_millis(self.dice.random_range(1..40_000));
            tokio::select! {
                biased;
                () = died.notified() => {}
                stopped = tokio::time::timeout(patience, self.stop(&mut life)) => {
                    self.witness.note(|| format!("stopped: {}", stopped.is_ok()));
                    self.witness.fired(if stopped.is_ok() { "SIGTERM" } else { "SIGTERM, then kill -9" });
                }
            }
        } else if passed {
            self.witness.fired("kill -9");
        }
        life.tasks.shutdown().await;
        tokio::time::sleep(Duration::from_millis(1)).await; // what its tasks own is dropped with them
    }

    /// SIGTERM, and waiting for what follows.
    async fn stop(&self, life: &mut Life) {
        self.witness.note(|| "the daemon is asked to stop".into());
        drop(life.stop.take());
        drop(life.tasks.join_next().await);
    }

    /// Time passes, and people meddle.
    async fn pass(&mut self, life: &Life) {
        let end = Instant::now() + Duration::from_millis(self.dice.random_range(1..=self.plan.life_ms));
        while Instant::now() < end {
            let left = (end - Instant::now()).as_millis() as u64;
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(1..2_000).min(left + 1))).await;
            self.look(life).await;
            if self.plan.meddle {
                self.meddle(life).await;
            }
        }
    }

    /// The daemon is dead: what is on the disk, and what does that say of what it had promised?
    fn mourn(&mut self) {
        let mut durable: BTreeSet<PauseTarget> = self.disk.paused_for_good().collect();
        let over = |id: &CampaignId| PauseTarget::Campaign(id.clone());
        durable.extend(self.disk.cancelled().iter().map(over));
        // what only the broker knows is written at the next start
        durable.extend(self.told_cancelled.iter().filter(|target| self.is_known_cancelled(target)).cloned());
        let jobs = self.producers.iter().flat_map(|producer| producer.jobs.iter().map(|job| (&producer.id, job)));
        let open: Vec<u64> = jobs.filter(|(id, job)| self.disk.is_open(id, &job.id)).map(|(_, job)| job.to.number()).collect();
        self.witness.life_ends(&durable, &open);
        if self.plan.loses_disk && self.dice.random_bool(0.4) {
            self.lose_disk();
        }
    }

    async fn calm_down(&mut self, life: &Life) {
        self.witness.note(|| "all calms down".into());
        self.broker.calm();
        self.disk.calm();
        self.gateways.values().for_each(SimGateway::calm);
        for producer in &mut self.producers {
            while producer.enqueue(&self.broker, &self.witness).await {}
        }
        self.look(life).await;
    }

    async fn until_over(&mut self, life: &Life) -> Vec<CampaignView> {
        let end = Instant::now() + CEILING;
        let mut wait = Duration::from_secs(1);
        loop {
            self.help(life).await;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(60));
            let views = self.look(life).await;
            let over = |view: &CampaignView| view.state.is_over();
            if views.len() == self.producers.len()
                && views.iter().all(over)
                && self.broker.left() == 0
                && self.disk.contents().campaigns.iter().all(|campaign| !campaign.releasing)
            {
                return views;
            }
            if Instant::now() > end {
                self.witness.violation(format!("not over after {CEILING:?}: {}, {views:?}", self.broker.where_left()));
                return views;
            }
        }
    }

    /// What must hold at every moment, as far as the daemon shows it.
    async fn look(&mut self, life: &Life) -> Vec<CampaignView> {
        let views = life.handle.campaigns().await.unwrap_or_default();
        for v in &views {
            let sum = v.waiting + v.in_flight + v.delayed + v.sent + v.dead + v.cancelled + v.expired;
            if v.enqueued != sum {
                self.witness.violation(format!("counts do not add up: {v:?}"));
            }
            let bodies = || self.broker.dead(&v.id).into_iter().map(|letter| letter.body).collect::<BTreeSet<_>>();
            if v.state == CampaignState::Finished && (bodies().len() as u64) < v.dead {
                self.witness.violation(format!("said to be finished with {} on the shelf: {v:?}", bodies().len()));
            }
        }
        let jobs: u64 = self.producers.iter().map(|producer| producer.jobs.len() as u64 + producer.junk).sum();
        // Whoever repeats a publish that was not confirmed may store it each time: the producer, and then the daemon that moves it.
        let most = 16 * jobs as usize + 64;
        if self.broker.left() > most {
            self.witness.violation(format!("the broker holds more than {most} messages: {}", self.broker.where_left()));
        }
        views
    }

    fn end(self, views: Vec<CampaignView>) -> End {
        let broken = self.witness.first_violation().or_else(|| promises::kept(&self, &views).err());
        if self.plan.accounts.windows(2).any(|two| two[0].limit != two[1].limit) {
            self.witness.fired("accounts with different limits");
        }
        let jobs = || self.producers.iter().flat_map(|producer| &producer.jobs);
        End {
            trace: self.witness.trace(),
            fired: self.witness.all_fired(),
            broken,
            jobs: jobs().count() as u64,
            sent: views.iter().map(|view| view.sent).sum(),
            messages: jobs().map(|job| u64::from(self.witness.job(job.to.number()).messages)).sum(),
            parked: self.producers.iter().map(|producer| self.broker.dead(&producer.id).len()).sum(),
        }
    }
}
