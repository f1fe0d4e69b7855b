//! A world for one seed: campaigns are enqueued, the daemon lives, dies and lives again, a person meddles, and in the end all calms down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use campaignd::alert::Alerts;
use campaignd::broker::{ANNOUNCEMENT, Broker, Headers, Message, Target};
use campaignd::campaign::{Announcement, Entry, OnUnknown, Options, PauseTarget, Priority};
use campaignd::clock::Clock;
use campaignd::dice::Dice;
use campaignd::engine::{Account, CampaignView, Drained, Engine, Handle, Parts, Settings};
use campaignd::gateway::Gateway;
use campaignd::job::{AccountName, CampaignId, Job};
use campaignd::pacer::Limits;
use campaignd::policy::Rules;
use campaignd::store::memory::{Course, Fate, MemoryStore};
use campaignd::store::{Store, StoreError};
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::broker::{Faults as BrokerFaults, SimBroker};
use crate::gateway::{Faults as GatewayFaults, SimGateway};

/// Longest simulated time for everything to come to its end: a world that does not is stuck.
const CEILING: Duration = Duration::from_secs(4 * 3600);

/// What is to happen.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    seed: u64,
    jobs_per_campaign: u64,
    lives: u32,
    broker: BrokerFaults,
    gateway: GatewayFaults,
    failing_commits: f64,
    balance: u64,
    meddle: bool,
}

impl Plan {
    /// Nothing goes wrong.
    pub(crate) fn calm(seed: u64) -> Self {
        Self {
            seed,
            jobs_per_campaign: 300,
            lives: 1,
            broker: BrokerFaults::default(),
            gateway: GatewayFaults::CALM,
            failing_commits: 0.0,
            balance: u64::MAX,
            meddle: false,
        }
    }

    /// Everything goes wrong now and then, by the seed.
    pub(crate) fn disaster(seed: u64) -> Self {
        let mut dice = Dice::seed_from_u64(seed ^ 0x5eed);
        let mut upto = |most: f64| dice.random_range(0.0..most);
        Self {
            seed,
            broker: BrokerFaults {
                lost_ack: upto(0.05),
                publish_lost: upto(0.1),
                publish_unconfirmed: upto(0.1),
                copy: upto(0.05),
                reorder: upto(0.2),
                down: upto(0.2),
            },
            gateway: GatewayFaults {
                refused: upto(0.05),
                transient: upto(0.05),
                unreachable: upto(0.02),
                lost_before: upto(0.02),
                lost_after: upto(0.02),
                latency_ms: (1, 1 + upto(400.0) as u64),
            },
            failing_commits: upto(0.1),
            jobs_per_campaign: dice.random_range(20..120),
            lives: dice.random_range(1..6),
            balance: dice.random_range(10..400),
            meddle: true,
        }
    }
}

/// How it ended.
pub(crate) struct End {
    pub(crate) trace: Vec<String>,
    /// Jobs enqueued, each counted once.
    pub(crate) jobs: u64,
    /// Every job with what the ledger says of it.
    pub(crate) ledger: BTreeMap<CampaignId, Vec<(u64, Option<Entry>)>>,
    pub(crate) options: BTreeMap<CampaignId, Options>,
    pub(crate) views: Vec<CampaignView>,
    /// Messages by recipient, by the gateways' own books.
    pub(crate) books: BTreeMap<u64, u32>,
    /// Recipients of dead letters, by campaign.
    pub(crate) dead: BTreeMap<CampaignId, Vec<u64>>,
    pub(crate) left_at_broker: usize,
    pub(crate) violations: Vec<String>,
}

impl End {
    pub(crate) fn sent(&self) -> u64 {
        self.views.iter().map(|view| view.sent).sum()
    }
}

/// One simulated world.
pub(crate) struct World {
    plan: Plan,
    dice: Dice,
    clock: Clock,
    broker: SimBroker,
    gateways: BTreeMap<AccountName, SimGateway>,
    store: Arc<MemoryStore>,
    campaigns: BTreeMap<CampaignId, (AccountName, Options, Vec<Job>)>,
    violations: Vec<String>,
}

/// A running daemon.
struct Life {
    handle: Handle,
    tasks: JoinSet<Drained>,
    stop: Option<oneshot::Sender<()>>,
}

impl World {
    /// Runs one world to its end on a paused clock.
    pub(crate) fn run(plan: Plan) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { Self::new(plan).live().await })
    }

    fn new(plan: Plan) -> Self {
        let names = [("fast", (50, 3000)), ("slow", (20, 600))];
        let gateway = |i: usize, limit| SimGateway::new(plan.seed * 2 + i as u64, plan.gateway, plan.balance, limit);
        let gateways = names.iter().enumerate().map(|(i, (name, limit))| (name.parse().unwrap(), gateway(i, *limit))).collect();
        let mut world = Self {
            dice: Dice::seed_from_u64(plan.seed),
            clock: Clock::simulated("2026-11-22T12:00:00Z".parse().unwrap()),
            broker: SimBroker::new(plan.seed, plan.broker),
            gateways,
            store: Arc::new(MemoryStore::new()),
            campaigns: BTreeMap::new(),
            violations: Vec::new(),
            plan,
        };
        world.plan_campaigns();
        world
    }

    fn plan_campaigns(&mut self) {
        for (number, account) in ["fast", "fast", "slow"].into_iter().enumerate() {
            let id: CampaignId = format!("c{number}").parse().unwrap();
            let on_unknown = if number == 1 { OnUnknown::Resend } else { OnUnknown::Park };
            let options = Options { on_unknown, priority: Priority::default(), ..Options::default() };
            let jobs = (0..self.plan.jobs_per_campaign).map(|i| job(&id, 905_300_000_000 + number as u64 * 1_000_000 + i));
            self.campaigns.insert(id.clone(), (account.parse().unwrap(), options, jobs.collect()));
        }
    }

    async fn live(mut self) -> End {
        self.enqueue().await;
        for life in 0..self.plan.lives {
            let mut daemon = self.start();
            let length = Duration::from_millis(self.dice.random_range(1..20_000));
            let last = life + 1 == self.plan.lives;
            if !last {
                self.pass(&daemon, length).await;
                self.end(&mut daemon).await;
                continue;
            }
            self.pass(&daemon, length).await;
            self.calm_down();
            let views = self.until_over(&daemon).await;
            self.stop(&mut daemon).await;
            return self.account_for_all(views);
        }
        unreachable!("a plan has at least one life")
    }

    /// Producers repeat what is not confirmed; now and then the same recipients come again, in the same batch or in another.
    async fn enqueue(&mut self) {
        for (id, (account, options, jobs)) in &self.campaigns {
            let again = if self.plan.seed.is_multiple_of(2) { "file" } else { "again" };
            let batches = if self.plan.meddle && self.dice_once(id) { vec!["file", again] } else { vec!["file"] };
            for batch in &batches {
                self.announce(id, account, *options, jobs.len(), batch).await;
            }
            for (job, batch) in batches.iter().flat_map(|batch| jobs.iter().map(move |job| (job, batch))) {
                let headers = Headers { batch: Some((*batch).into()), ..Headers::default() };
                self.publish(Target::Jobs(id), &Message { body: job.to_wire().into(), headers }).await;
            }
        }
    }

    async fn announce(&self, id: &CampaignId, account: &AccountName, options: Options, jobs: usize, batch: &str) {
        let announcement = Announcement {
            campaign_id: id.clone(),
            account: Some(account.clone()),
            options,
            jobs: Some(jobs as u64),
            batch: Some(batch.into()),
        };
        let headers = Headers { kind: Some(ANNOUNCEMENT.into()), ..Headers::default() };
        let message = Message { body: serde_json::to_vec(&announcement).unwrap().into(), headers };
        self.publish(Target::Announce(id), &message).await;
    }

    fn dice_once(&self, id: &CampaignId) -> bool {
        Dice::seed_from_u64(self.plan.seed ^ id.as_str().len() as u64).random_bool(0.3)
    }

    async fn publish(&self, to: Target<'_>, message: &Message) {
        while self.broker.publish(to, message).await.is_err() {}
    }

    fn start(&mut self) -> Life {
        let accounts = self.gateways.iter().map(|(name, gateway)| {
            let (second, minute) = if name.as_str() == "fast" { (50, 3000) } else { (20, 600) };
            let limits = Limits { second: Some(second), minute: Some(minute) };
            (name.clone(), Account { gateway: Arc::new(gateway.clone()) as Arc<dyn Gateway>, limits, max_in_flight: 16 })
        });
        let store = Arc::new(self.store.crash());
        self.store = Arc::clone(&store);
        let (mut dice, failing) = (Dice::seed_from_u64(self.dice.random()), self.plan.failing_commits);
        store.steer(move |_| {
            let delay = Duration::from_millis(dice.random_range(0..8));
            let error = || StoreError::Full("simulated".into());
            let fate = match dice.random_bool(failing) {
                true if dice.random_bool(0.5) => Fate::Kept(error()),
                true => Fate::Lost(error()),
                false => Fate::Written,
            };
            Course { delay, fate }
        });
        let parts = Parts {
            broker: Arc::new(self.broker.clone()),
            store: store as Arc<dyn Store>,
            accounts: accounts.collect(),
            rules: Arc::new(Rules::builtin()),
            alerts: Alerts::channel().0,
            clock: self.clock.clone(),
            dice: Dice::seed_from_u64(self.dice.random()),
            settings: Settings { prefetch: 32, ..Settings::default() },
        };
        let (engine, handle) = Engine::build(parts).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        tasks.spawn(engine.run(async { drop(stopped.await) }));
        Life { handle, tasks, stop: Some(stop) }
    }

    /// Time passes, and a person meddles.
    async fn pass(&mut self, daemon: &Life, length: Duration) {
        let end = tokio::time::Instant::now() + length;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(1..2_000))).await;
            self.check(daemon).await;
            if self.plan.meddle {
                self.meddle(daemon).await;
            }
        }
    }

    async fn meddle(&mut self, daemon: &Life) {
        let campaign: CampaignId = format!("c{}", self.dice.random_range(0..3)).parse().unwrap();
        let target = PauseTarget::Campaign(campaign);
        match self.dice.random_range(0..8) {
            0 => drop(daemon.handle.pause(target, "meddling".into(), None).await),
            1 | 2 => drop(daemon.handle.resume(target).await),
            3 => self.clock.step_wall(self.dice.random_range(-600_000..600_000)),
            4 => self.broker.cut(),
            5 => self.help(daemon).await,
            _ => {}
        }
    }

    /// Tops the accounts up and lifts every pause.
    async fn help(&mut self, daemon: &Life) {
        for (name, gateway) in &self.gateways {
            gateway.top_up(50);
            gateway.forgive();
            drop(daemon.handle.resume(PauseTarget::Account(name.clone())).await);
        }
        for id in self.campaigns.keys() {
            drop(daemon.handle.resume(PauseTarget::Campaign(id.clone())).await);
        }
    }

    /// kill -9, or a polite stop that is waited for.
    async fn end(&mut self, daemon: &mut Life) {
        if self.dice.random_bool(0.3) {
            self.stop(daemon).await;
        }
        daemon.tasks.shutdown().await;
        self.gateways.values().for_each(SimGateway::forgive);
    }

    async fn stop(&mut self, daemon: &mut Life) {
        drop(daemon.stop.take());
        drop(daemon.tasks.join_next().await);
    }

    fn calm_down(&mut self) {
        self.broker.calm();
        self.store.steer(|_| Course::default());
        for gateway in self.gateways.values() {
            gateway.calm();
            gateway.top_up(1_000_000);
        }
    }

    async fn until_over(&mut self, daemon: &Life) -> Vec<CampaignView> {
        let end = tokio::time::Instant::now() + CEILING;
        loop {
            self.help(daemon).await;
            let views = self.check(daemon).await;
            let over = views.len() == self.campaigns.len() && views.iter().all(|view| view.state == "finished");
            if over && self.broker.left() == 0 {
                return views;
            }
            if tokio::time::Instant::now() > end {
                self.violations.push(format!("not over after {CEILING:?}: {}, {views:#?}", self.broker.where_left()));
                return views;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// What must hold at every moment.
    async fn check(&mut self, daemon: &Life) -> Vec<CampaignView> {
        let views = daemon.handle.campaigns().await.unwrap_or_default();
        for v in &views {
            let sum = v.waiting + v.in_flight + v.delayed + v.sent + v.dead + v.cancelled + v.expired;
            if v.enqueued != sum {
                self.violations.push(format!("counts do not add up: {v:?}"));
            }
        }
        views
    }

    fn account_for_all(self, views: Vec<CampaignView>) -> End {
        let entry = |id: &CampaignId, job: &Job| (job.to.number(), self.store.find(id, &job.id).unwrap());
        let ledger =
            self.campaigns.iter().map(|(id, (_, _, jobs))| (id.clone(), jobs.iter().map(|job| entry(id, job)).collect()));
        let recipient = |message: &Message| Job::parse(&message.body).unwrap().to.number();
        let dead = self.campaigns.keys().map(|id| (id.clone(), self.broker.dead(id).iter().map(recipient).collect()));
        let violations = self.gateways.values().flat_map(SimGateway::violations).chain(self.violations.clone());
        End {
            trace: self.gateways.values().flat_map(SimGateway::trace).collect(),
            jobs: self.campaigns.values().map(|(_, _, jobs)| jobs.len() as u64).sum(),
            ledger: ledger.collect(),
            options: self.campaigns.iter().map(|(id, (_, options, _))| (id.clone(), *options)).collect(),
            views,
            books: self.gateways.values().flat_map(SimGateway::books).collect(),
            dead: dead.collect(),
            left_at_broker: self.broker.left(),
            violations: violations.collect(),
        }
    }
}

fn job(campaign: &CampaignId, number: u64) -> Job {
    let body = format!(r#"{{"campaign_id":"{campaign}","to":"{number}","message":{{"type":"text","text":{{"body":"hi"}}}}}}"#);
    Job::parse(body.as_bytes()).unwrap()
}
