//! One lane per account: takes deliveries of its campaigns in fair turns, paces them, sends them, and settles what came of it.
//!
//! A lane is one task that owns all its state. A job's way through it keeps the crash order: the opened attempt is durable before
//! the request leaves, the outcome is durable before the broker is told.

mod arrivals;
mod begin;
mod command;
mod dead;
mod end;
mod journal;
mod leave;
mod links;
mod looks;
mod recall;
mod reload;
mod remnant;
mod reply;
mod roll;
mod settle;
mod show;
mod unlink;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

use super::gate::Gate;
use super::handle::Answer as ToPerson;
use super::meter::Meter;
use super::{Account, Settings};
use crate::alert::Alerts;
use crate::broker::{Broker, Delivery, Event, Message, SubscriptionId, Tag};
use crate::campaign::{Campaign, Entry, Pause};
use crate::clock::Clock;
use crate::dice::Dice;
use crate::gateway::{Answer, Gateway};
use crate::job::{AccountName, CampaignId, Job, JobId, Recipient};
use crate::outcome::Settle;
use crate::pacer::{Limits, Pacer, Plan, Slot};
use crate::policy::{History, Rules};
use crate::store::Store;
pub(super) use command::LaneCommand;
use journal::Journal;
use leave::Ahead;
use looks::Looks;
pub(super) use reload::LaneReload;
use remnant::Remnant;
use roll::Roll;
use settle::Chore;
pub(super) use settle::bury_at;

/// A job within its account.
type Key = (CampaignId, JobId);

/// Deliveries between the broker and the lane; the prefetch bounds what is behind it.
const EVENTS: usize = 1024;

/// Events taken in at one go, so that neither answers nor deliveries starve the other.
const EVENTS_AT_ONCE: usize = 256;

/// The lane turns at least this often: pauses end, the watchdog sees it alive.
const TICK: Duration = Duration::from_millis(500);

/// Wait before the ledger is read again after it could not be.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What a lane is made of.
pub(super) struct LaneParts {
    pub(super) name: AccountName,
    /// None when the account does not stand in the configuration: its campaigns are paused with that cause.
    pub(super) account: Option<Account>,
    pub(super) pause: Option<Pause>,
    pub(super) campaigns: Vec<(Campaign, Option<Pause>)>,
    pub(super) suppressed: HashSet<Recipient>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) store: Arc<dyn Store>,
    pub(super) rules: Arc<Rules>,
    pub(super) alerts: Alerts,
    pub(super) clock: Clock,
    pub(super) dice: Dice,
    pub(super) settings: Settings,
    pub(super) commands: mpsc::Receiver<LaneCommand>,
    pub(super) gauge: Arc<Gauge>,
}

/// What the engine sees of a lane from outside.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Rises with every turn of the loop.
    pub(super) beat: AtomicU64,
    /// Campaigns that are running.
    pub(super) running: AtomicUsize,
    /// Campaigns that are paused.
    pub(super) paused: AtomicUsize,
    /// Running campaigns whose queue is not being consumed.
    pub(super) unlinked: AtomicUsize,
    /// The store does not take commits.
    pub(super) stuck: AtomicBool,
}

/// A job begun and not yet settled.
struct Active {
    /// Its delivery.
    tag: Tag,
    /// Copies of it that came meanwhile; looked at afresh once it is settled, for only then is it known what they are.
    copies: Vec<Delivery>,
    redelivered: bool,
    message: Message,
    job: Option<Job>,
    entry: Option<Entry>,
    attempts: u32,
    release: u32,
    batch: u8,
    first_seen: Timestamp,
    /// When it was begun; once its request has left, when that was.
    begun: Instant,
    /// Its place in the gateway's windows, if it is to be sent.
    slot: Option<Slot>,
}

/// What follows once something is durable.
enum Step {
    Send(Key),
    Settle(Key, Settle),
    Registered(CampaignId),
    Noted(CampaignId),
    /// The account's pause has changed.
    AccountNoted,
    /// An announcement is on disk; once it is noted at the broker too, its delivery may go.
    Announced(CampaignId, Tag),
    Answer(Box<dyn FnOnce() + Send>),
    Untouched(Key),
    /// Releases are in the ledger; the walk along the shelf goes on.
    Letters(Box<dead::Round>),
    /// A campaign is cancelled on disk; whoever did it is told once the broker knows of it too.
    Cancelled(CampaignId, ToPerson<()>),
}

pub(super) struct Lane {
    account: AccountName,
    /// Or why there is none.
    gateway: Result<Arc<dyn Gateway>, Pause>,
    max_in_flight: usize,
    gate: Gate,
    pacer: Pacer,
    history: History,
    suppressed: HashSet<Recipient>,
    rolls: BTreeMap<CampaignId, Roll>,
    turns: VecDeque<(CampaignId, u32)>,
    /// Campaigns whose link, queue or end needs a look.
    attention: BTreeSet<CampaignId>,
    /// When a campaign needs one though nothing happens.
    looks: Looks,
    links: HashMap<SubscriptionId, CampaignId>,
    active: HashMap<Key, Active>,
    /// Jobs that went back unbegun or were released, and whose entry says so once it is durable.
    untouched: HashSet<Key>,
    /// Attempts opened and not yet answered or taken back.
    sending: usize,
    journal: Journal<Step>,
    /// Attempts that are durable and wait for their turn or for a place among the requests under way, in the order of their turns.
    leaving: VecDeque<(Instant, Key)>,
    ahead: Ahead,
    sends: FuturesUnordered<BoxFuture<'static, (Key, Option<Answer>)>>,
    chores: FuturesUnordered<BoxFuture<'static, Chore>>,
    sink: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    commands: mpsc::Receiver<LaneCommand>,
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    rules: Arc<Rules>,
    alerts: Alerts,
    clock: Clock,
    dice: Dice,
    settings: Settings,
    gauge: Arc<Gauge>,
    meter: Meter,
    /// Whose turn it is to look through dead letters.
    letters_turn: Arc<Mutex<()>>,
    stopping: bool,
    /// Says so to whoever reads a list meanwhile.
    stopping_told: watch::Sender<bool>,
    next_look: Instant,
    store_alerted: bool,
    /// What the intake may still hold of an earlier life.
    intake_remnant: Remnant,
    /// Since when it is known to hold something.
    intake_since: Option<Instant>,
    /// The note about the account at the broker.
    note: roll::NoteState,
    note_retry_at: Instant,
}

impl Lane {
    pub(super) fn new(parts: LaneParts) -> Self {
        let (now, wall) = (parts.clock.now(), parts.clock.wall());
        let (sink, events) = mpsc::channel(EVENTS);
        let unlimited = Plan::from(Limits { second: None, minute: None });
        let (gateway, plan, max_in_flight) = match parts.account {
            Some(account) => (Ok(account.gateway), account.plan, account.max_in_flight.max(1)),
            None => (Err(reload::not_configured(&parts.name, wall)), unlimited, 0),
        };
        let rolls = parts.campaigns.into_iter();
        let rolls: BTreeMap<CampaignId, Roll> =
            rolls.map(|(campaign, pause)| (campaign.id.clone(), Roll::new(campaign, pause, true, now, wall))).collect();
        Self {
            gateway,
            max_in_flight,
            gate: Gate::restored(parts.pause, now, wall),
            pacer: Pacer::new(plan, now),
            history: History::default(),
            suppressed: parts.suppressed,
            attention: rolls.keys().cloned().collect(),
            looks: Looks::default(),
            rolls,
            turns: VecDeque::new(),
            links: HashMap::new(),
            active: HashMap::new(),
            untouched: HashSet::new(),
            sending: 0,
            journal: Journal::new(Arc::clone(&parts.store), parts.settings.linger),
            leaving: VecDeque::new(),
            ahead: Ahead::default(),
            sends: FuturesUnordered::new(),
            chores: FuturesUnordered::new(),
            sink,
            events,
            commands: parts.commands,
            account: parts.name,
            broker: parts.broker,
            store: parts.store,
            rules: parts.rules,
            alerts: parts.alerts,
            clock: parts.clock,
            dice: parts.dice,
            settings: parts.settings,
            gauge: parts.gauge,
            meter: Meter::new(now),
            letters_turn: Arc::default(),
            stopping: false,
            stopping_told: watch::Sender::new(false),
            next_look: now,
            intake_remnant: Remnant::Unknown { ask_at: now },
            intake_since: None,
            store_alerted: false,
            note: roll::NoteState::Outdated,
            note_retry_at: now,
        }
    }

    /// Runs until `stop` turns true and everything begun is settled.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let now = self.clock.now();
            let turn_at = self.pump(now);
            if self.stopping && self.is_drained() {
                return;
            }
            let wake = self.wake_at(now, turn_at);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if !self.stopping => self.stop(),
                result = self.journal.committed() => self.on_commit(result),
                Some((key, answer)) = self.sends.next(), if !self.sends.is_empty() => self.on_answers(key, answer),
                Some(chore) = self.chores.next(), if !self.chores.is_empty() => self.on_chore(chore),
                Some(command) = self.commands.recv() => self.on_command(command),
                Some(event) = self.events.recv() => self.on_events(event),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Begins nothing more, and lets go of every queue: what goes back unbegun may need an entry that says so.
    fn stop(&mut self) {
        self.stopping = true;
        self.stopping_told.send_replace(true);
        self.take_back(self.clock.now());
        self.attention.extend(self.rolls.keys().cloned());
    }

    /// Everything that can be done now without waiting; when the next turn comes.
    fn pump(&mut self, now: Instant) -> Option<Instant> {
        self.gauge.beat.fetch_add(1, Ordering::Relaxed);
        if now >= self.next_look {
            self.next_look = now + TICK;
            self.look_at_store(now);
        }
        self.look_around(now);
        self.expire_pauses(now);
        let leaves_at = self.send_due(now);
        let begins_at = self.begin_jobs(now);
        self.tend_rolls(now);
        self.tend_note(now);
        self.journal.start(now);
        leaves_at.into_iter().chain(begins_at).min()
    }

    fn wake_at(&self, now: Instant, turn_at: Option<Instant>) -> Instant {
        let tick = self.next_look.max(now);
        [turn_at, self.journal.due_at(), self.gate.opens_at()].into_iter().flatten().fold(tick, Instant::min)
    }

    /// More than one answer may be there already: they are decided in order, and together they share a commit.
    fn on_answers(&mut self, key: Key, answer: Option<Answer>) {
        self.on_answer(key, answer);
        for _ in 0..EVENTS_AT_ONCE {
            let Some(Some((key, answer))) = self.sends.next().now_or_never() else { break };
            self.on_answer(key, answer);
        }
    }

    fn on_events(&mut self, event: Event) {
        self.on_event(event);
        for _ in 0..EVENTS_AT_ONCE {
            let Ok(event) = self.events.try_recv() else { break };
            self.on_event(event);
        }
    }

    /// The account may send.
    const fn is_open(&self) -> bool {
        self.gate.is_open() && self.gateway.is_ok()
    }

    fn is_drained(&self) -> bool {
        let begun = self.active.is_empty() && self.journal.is_idle() && self.sends.is_empty() && self.chores.is_empty();
        begun && self.events.is_empty()
    }

    fn look_at_store(&mut self, now: Instant) {
        let slow = self.journal.is_slow(now);
        self.gauge.stuck.store(self.journal.is_stuck() || slow, Ordering::Relaxed);
        if slow {
            self.store_failed("the state directory does not answer");
        }
    }
}
