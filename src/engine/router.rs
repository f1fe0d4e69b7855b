//! What is not any lane's own: the intake, commands to the right lane, new accounts, and stopping them all.

mod pulse;
mod recall;
mod reload;

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::handle::Command;
use super::lane::{Gauge, Lane, LaneCommand, LaneParts, bury_at};
use super::triage::own_death;
use super::{CommandError, Drained, Parts, Pulse};
use crate::broker::{Delivery, Event, Headers, Message, Source, Subscription};
use crate::campaign::{Announcement, Campaign, Pause, PauseTarget};
use crate::dice::Dice;
use crate::job::{AccountName, CampaignId, Job, Recipient};
use crate::store::Mark;
use recall::mark_note;

/// Unsettled deliveries of the intake; moving jobs goes on while more come.
const INTAKE_PREFETCH: u16 = 512;

/// Commands waiting for one lane.
const LANE_COMMANDS: usize = 1024;

/// Between two looks at the lanes' pulse.
const BEAT: Duration = Duration::from_millis(500);

/// Wait after a failed try at the broker.
const BROKER_RETRY: Duration = Duration::from_secs(1);

/// Between two notes of the ledger's mark at the broker: of a ledger put back from a copy that is older than this, it is known.
const NOTE_EVERY: Duration = Duration::from_secs(300);

/// Longest wait for one lane to answer a question.
const LANE_ANSWER: Duration = Duration::from_secs(5);

pub(super) struct Router {
    parts: Parts,
    lanes: BTreeMap<AccountName, LaneEnd>,
    unstarted: Vec<Lane>,
    accounts: BTreeMap<CampaignId, AccountName>,
    commands: mpsc::Receiver<Command>,
    pulse: watch::Sender<Pulse>,
    beats: Vec<u64>,
    /// The store came up without something that was once in it.
    behind: bool,
    /// Unsorted dead letters and notes on their way.
    errands: JoinSet<()>,
    /// What the store holds of accounts that have no lane yet.
    kept: BTreeMap<AccountName, Kept>,
}

/// What the store holds of an account.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) pause: Option<Pause>,
    pub(super) suppressed: HashSet<Recipient>,
}

/// The router's end of a lane.
struct LaneEnd {
    commands: mpsc::Sender<LaneCommand>,
    gauge: Arc<Gauge>,
}

/// The intake's subscription, or when to try again.
enum Intake {
    Closed { retry_at: Instant },
    Open { _held: Subscription },
}

impl Router {
    pub(super) fn new(
        parts: Parts,
        behind: bool,
        kept: BTreeMap<AccountName, Kept>,
        commands: mpsc::Receiver<Command>,
        pulse: watch::Sender<Pulse>,
    ) -> Self {
        let (lanes, accounts) = (BTreeMap::new(), BTreeMap::new());
        Self {
            parts,
            lanes,
            unstarted: Vec::new(),
            accounts,
            commands,
            pulse,
            beats: Vec::new(),
            behind,
            errands: JoinSet::new(),
            kept,
        }
    }

    pub(super) fn configured(&self) -> Vec<AccountName> {
        self.parts.accounts.keys().cloned().collect()
    }

    pub(super) fn add_lane(&mut self, name: &AccountName, campaigns: Vec<(Campaign, Option<Pause>)>) {
        let Kept { pause, suppressed } = self.kept.remove(name).unwrap_or_default();
        let (commands, received) = mpsc::channel(LANE_COMMANDS);
        let gauge = Arc::new(Gauge::default());
        self.accounts.extend(campaigns.iter().map(|(campaign, _)| (campaign.id.clone(), name.clone())));
        let parts = &mut self.parts;
        self.unstarted.push(Lane::new(LaneParts {
            name: name.clone(),
            account: parts.accounts.get(name).cloned(),
            pause,
            campaigns,
            suppressed,
            broker: Arc::clone(&parts.broker),
            store: Arc::clone(&parts.store),
            rules: Arc::clone(&parts.rules),
            alerts: parts.alerts.clone(),
            clock: parts.clock.clone(),
            dice: Dice::seed_from_u64(parts.dice.next_u64()),
            settings: parts.settings.clone(),
            commands: received,
            gauge: Arc::clone(&gauge),
        }));
        self.lanes.insert(name.clone(), LaneEnd { commands, gauge });
    }

    /// Gives an account a lane if it has none; whether it had none.
    fn ensure_lane(&mut self, name: &AccountName) -> bool {
        let new = !self.lanes.contains_key(name);
        if new {
            self.add_lane(name, Vec::new());
        }
        new
    }

    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()>) -> Drained {
        let mut shutdown = pin!(shutdown);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let recalled = tokio::select! {
            biased;
            () = &mut shutdown => false,
            () = self.recall() => true,
        };
        if recalled {
            self.route(shutdown, &mut tasks, &stopped).await;
        }
        stop.send_replace(true);
        self.pulse.send_modify(|pulse| {
            pulse.ready = false;
            pulse.status = "stopping: finishing what is in flight".into();
        });
        let clean = self.drain(&mut tasks).await;
        Drained { clean }
    }

    /// The main loop: intake, commands, pulse.
    async fn route(
        &mut self,
        mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
        tasks: &mut JoinSet<()>,
        stopped: &watch::Receiver<bool>,
    ) {
        let (sink, mut events) = mpsc::channel(usize::from(INTAKE_PREFETCH));
        let mut intake = Intake::Closed { retry_at: Instant::now() };
        let mut next_beat = Instant::now();
        let (mut next_note, mut noted) = (Instant::now() + NOTE_EVERY, self.parts.store.mark());
        loop {
            for lane in self.unstarted.drain(..) {
                tasks.spawn(lane.run(stopped.clone()));
            }
            let now = self.parts.clock.now();
            if now >= next_beat {
                next_beat = now + BEAT;
                self.beat(matches!(intake, Intake::Open { .. }));
            }
            if now >= next_note {
                next_note = now + NOTE_EVERY;
                self.note_progress(&mut noted);
            }
            if matches!(intake, Intake::Closed { retry_at } if retry_at <= now) {
                intake = self.open_intake(&sink).await;
                continue;
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a lane died; stopping, so that the service manager starts afresh");
                        return;
                    }
                }
                Some(command) = self.commands.recv() => self.command(command).await,
                Some(event) = events.recv() => match event {
                    Event::Delivery(delivery) => self.arrival(delivery).await,
                    Event::Ended { reason, subscription } => {
                        tracing::warn!(reason, "the intake is no longer consumed; trying again");
                        for lane in self.lanes.values() {
                            pass(lane, LaneCommand::IntakeEnded(subscription)).await;
                        }
                        intake = Intake::Closed { retry_at: now + BROKER_RETRY };
                    }
                },
                () = tokio::time::sleep_until(next_beat) => {}
            }
        }
    }

    /// Lets the broker know now and then how far the ledger has come.
    fn note_progress(&mut self, noted: &mut Mark) {
        let mark = self.parts.store.mark();
        if std::mem::replace(noted, mark) == mark {
            return;
        }
        let broker = Arc::clone(&self.parts.broker);
        self.errand(async move {
            if let Err(error) = broker.remember(&CampaignId::ledger_note(), &mark_note(mark)).await {
                tracing::debug!(%error, "the ledger's mark is not noted; the next time it is");
            }
        });
    }

    fn errand(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while self.errands.try_join_next().is_some() {} // forget those that are done
        self.errands.spawn(work);
    }

    async fn open_intake(&mut self, sink: &mpsc::Sender<Event>) -> Intake {
        match self.parts.broker.subscribe(Source::Intake, INTAKE_PREFETCH, sink.clone()).await {
            Ok(held) => Intake::Open { _held: held },
            Err(error) => {
                tracing::debug!(%error, "the intake cannot be consumed yet");
                Intake::Closed { retry_at: self.parts.clock.now() + BROKER_RETRY }
            }
        }
    }

    /// Something came by the intake.
    async fn arrival(&mut self, delivery: Delivery) {
        let headers = &delivery.message.headers;
        if headers.kind.as_deref() == Some(crate::broker::ANNOUNCEMENT) {
            match Announcement::parse(&delivery.message.body) {
                Ok(announcement) => {
                    let id = announcement.campaign_id.clone();
                    let account = announcement.account.clone();
                    self.hand_over(id, account, Some(announcement), delivery).await;
                }
                Err(error) => self.bury(delivery, &error.to_string()),
            }
            return;
        }
        let job = Job::parse(&delivery.message.body);
        let routed = headers.routed_to.as_deref().and_then(|key| key.parse::<CampaignId>().ok());
        let id = routed.or_else(|| job.as_ref().ok().map(|job| job.campaign.clone()));
        match (id, job) {
            (Some(id), job) => self.hand_over(id, job.ok().and_then(|job| job.account), None, delivery).await,
            (None, job) => {
                let reason = job.err().map(|error| error.to_string()).unwrap_or_default();
                self.bury(delivery, &reason);
            }
        }
    }

    async fn hand_over(
        &mut self,
        campaign: CampaignId,
        asked: Option<AccountName>,
        announcement: Option<Announcement>,
        delivery: Delivery,
    ) {
        let known = self.accounts.get(&campaign).cloned();
        let account = known.or(asked).or_else(|| self.default_account()).unwrap_or_else(AccountName::unnamed);
        if self.ensure_lane(&account) {
            tracing::error!(campaign = %campaign, account = %account, "the account does not stand in the configuration; its campaign waits");
        }
        self.accounts.insert(campaign.clone(), account.clone());
        let Some(lane) = self.lanes.get(&account) else { return };
        // A lane that is gone ends the engine; the delivery is not settled and comes again.
        drop(lane.commands.send(LaneCommand::Arrived { campaign, announcement, delivery }).await);
    }

    fn default_account(&self) -> Option<AccountName> {
        let only = || Some(self.parts.accounts.keys().next()?.clone()).filter(|_| self.parts.accounts.len() == 1);
        self.parts.settings.default_account.clone().or_else(only)
    }

    /// What belongs to no campaign goes to the unsorted dead letters, with the reason. At most the intake's prefetch are on the way.
    fn bury(&mut self, delivery: Delivery, reason: &str) {
        tracing::warn!(reason, "a message that is neither job nor announcement goes to the dead letters");
        let death = own_death("malformed", reason, self.parts.clock.wall());
        let headers = Headers { death: Some(Box::new(death)), routed_to: None, ..delivery.message.headers };
        let message = Message { body: delivery.message.body, headers };
        let broker = Arc::clone(&self.parts.broker);
        self.errand(async move { bury_at(broker.as_ref(), &message, delivery.tag).await });
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Reload(reload, answer) => {
                self.reload(*reload).await;
                _ = answer.send(());
            }
            Command::Campaigns(answer) => {
                let views = self.ask_all(|_, answer| LaneCommand::Campaigns(answer)).await;
                let mut all: Vec<_> = views.into_iter().flatten().collect();
                all.sort_by(|a, b| a.id.cmp(&b.id));
                drop(answer.send(all));
            }
            Command::Accounts(answer) => drop(answer.send(self.ask_all(|_, answer| LaneCommand::Account(answer)).await)),
            Command::Pause { target, cause, length, answer } => match self.lane_of(&target) {
                Ok(lane) => pass(lane, LaneCommand::Pause { target, cause, length, answer }).await,
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Resume { target, answer } => match self.lane_of(&target) {
                Ok(lane) => pass(lane, LaneCommand::Resume { target, answer }).await,
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Cancel { campaign, answer } => match self.lane_of(&PauseTarget::Campaign(campaign.clone())) {
                Ok(lane) => pass(lane, LaneCommand::Cancel { campaign, answer }).await,
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Dead { campaign, selection, bodies, reader } => match self.lane_with_letters(&campaign) {
                Ok(lane) => pass(lane, LaneCommand::Dead { campaign, selection, bodies, reader }).await,
                Err(error) => drop(reader.try_send(Err(error))),
            },
            Command::Release { campaign, selection, answer } => match self.lane_of(&PauseTarget::Campaign(campaign.clone())) {
                Ok(lane) => pass(lane, LaneCommand::Release { campaign, selection, answer }).await,
                Err(error) => drop(answer.send(Err(error))),
            },
        }
    }

    fn lane_of(&self, target: &PauseTarget) -> Result<&LaneEnd, CommandError> {
        let account = match target {
            PauseTarget::Account(name) => Some(name),
            PauseTarget::Campaign(id) => self.accounts.get(id),
        };
        account.and_then(|name| self.lanes.get(name)).ok_or_else(|| CommandError::NotFound(target.clone()))
    }

    /// Any lane can look through the letters that belong to no campaign.
    fn lane_with_letters(&self, campaign: &CampaignId) -> Result<&LaneEnd, CommandError> {
        if *campaign == CampaignId::unsorted() {
            let first = self.lanes.values().next();
            return first.ok_or_else(|| CommandError::Conflict("no account stands in the configuration".into()));
        }
        self.lane_of(&PauseTarget::Campaign(campaign.clone()))
    }

    async fn ask_all<T>(&mut self, question: impl Fn(&AccountName, oneshot::Sender<T>) -> LaneCommand) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.lanes.len());
        for (name, lane) in &self.lanes {
            let (answer, answered) = oneshot::channel();
            pass(lane, question(name, answer)).await;
            answers.push(answered);
        }
        let mut all = Vec::with_capacity(answers.len());
        for answered in answers {
            if let Ok(Ok(answer)) = tokio::time::timeout(LANE_ANSWER, answered).await {
                all.push(answer);
            }
        }
        all
    }

    /// Waits for the lanes; aborts those that are not done within the limit.
    async fn drain(&mut self, tasks: &mut JoinSet<()>) -> bool {
        let all = async {
            let mut clean = true;
            while let Some(ended) = tasks.join_next().await {
                clean &= ended.is_ok();
            }
            clean
        };
        let clean = tokio::time::timeout(self.parts.settings.drain, all).await;
        if clean.is_err() {
            tracing::warn!(limit = ?self.parts.settings.drain, "not everything in flight was settled in time; it comes again and is recognised");
            tasks.shutdown().await;
        }
        clean.unwrap_or(false)
    }
}

async fn pass(lane: &LaneEnd, command: LaneCommand) {
    // A lane that is gone drops the answer, and whoever asked is told that the daemon stops.
    drop(lane.commands.send(command).await);
}
