//! What everybody saw: one history of gateways, broker, disk and people, and the promises that must hold at every moment of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use campaignd::campaign::{JobState, PauseTarget, Record};
use campaignd::gateway::Reply;
use campaignd::job::{AccountName, CampaignId, JobId};
use campaignd::outcome::UNKNOWN_OUTCOME;
use campaignd::store::Change;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::answers::{self, Stop, stop};
use crate::pace::Pace;
use crate::plan::Limit;

/// What is left of a delay when another trip through the broker is not worth it.
const NOT_WORTH_IT: Duration = Duration::from_millis(50);

/// Shared by everything in a world.
#[derive(Clone)]
pub(crate) struct Witness {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    start: Instant,
    trace: Vec<String>,
    violations: Vec<String>,
    fired: BTreeMap<String, u64>,
    jobs: BTreeMap<u64, Known>,
    holds: BTreeMap<PauseTarget, Hold>,
    /// How often a person has begun or done a resume: an odd number means one is under way.
    resumes: BTreeMap<PauseTarget, u64>,
    paces: BTreeMap<AccountName, Pace>,
    /// Accounts that a person was told do not stand in the configuration any more.
    unconfigured: BTreeSet<AccountName>,
    /// Accounts whose gateway has asked for a rest: when it did, and until when.
    rests: BTreeMap<AccountName, (Instant, Instant)>,
    /// Jobs whose delay is on disk, by their release: when it is over.
    delays: BTreeMap<(CampaignId, JobId, u32), Instant>,
}

/// What is known of one recipient's job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// `on_unknown = "resend"`: each unknown attempt may become one message more.
    pub(crate) resend: bool,
    /// Requests that left.
    requests: u32,
    /// Messages the gateway made of them.
    pub(crate) messages: u32,
    /// Attempts nobody knows the outcome of.
    unknown: BTreeSet<u32>,
    /// Ledgers lost since: each hides what was sent before.
    losses: u32,
    /// Releases under which it was parked as unknown.
    parked: BTreeSet<u32>,
    /// The latest release a person gave it.
    release: u32,
    /// Releases given again after a ledger was lost that knew of them.
    again: u32,
}

impl Known {
    /// Times a person released it although it may have been sent.
    pub(crate) fn released_unknown(&self) -> u32 {
        self.parked.iter().filter(|release| **release < self.release).count() as u32
    }

    /// Most messages it may get.
    fn allowed(&self) -> u32 {
        let resent = if self.resend { self.unknown.len() as u32 + self.losses } else { 0 };
        1 + self.released_unknown() + self.again + resent
    }
}

/// Nothing may start here.
#[derive(Debug, Clone)]
struct Hold {
    /// None: until a person resumes it.
    until: Option<Instant>,
    /// A person was told that it is in force: it has to outlive the process.
    acknowledged: bool,
    why: String,
}

/// A request on its way: how often a person had resumed its account and campaign when it left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    attempt: u32,
    resumes: (u64, u64),
}

impl Witness {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            start: Instant::now(),
            trace: Vec::new(),
            violations: Vec::new(),
            fired: BTreeMap::new(),
            jobs: BTreeMap::new(),
            holds: BTreeMap::new(),
            resumes: BTreeMap::new(),
            paces: BTreeMap::new(),
            unconfigured: BTreeSet::new(),
            rests: BTreeMap::new(),
            delays: BTreeMap::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.lock().note(&line());
    }

    pub(crate) fn violation(&self, what: String) {
        self.lock().violation(what);
    }

    /// Something of what a world is to suffer has happened.
    pub(crate) fn fired(&self, what: &str) {
        self.lock().fired(what);
    }

    /// How often each of it has happened.
    pub(crate) fn all_fired(&self) -> BTreeMap<String, u64> {
        self.lock().fired.clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    pub(crate) fn first_violation(&self) -> Option<String> {
        self.lock().violations.first().cloned()
    }

    pub(crate) fn job(&self, to: u64) -> Known {
        self.lock().jobs.get(&to).cloned().unwrap_or_default()
    }

    /// There is such a job, of a campaign that resends what is unknown or does not.
    pub(crate) fn enqueued(&self, to: u64, resend: bool) {
        self.lock().jobs.entry(to).or_default().resend = resend;
    }

    /// A daemon lives from now on, and believes these limits.
    pub(crate) fn life_begins(&self, account: &AccountName, limit: Limit) {
        let mut inner = self.lock();
        inner.paces.entry(account.clone()).or_default().life_begins(limit, Instant::now());
        inner.unconfigured.remove(account);
    }

    /// The configuration is about to be read again.
    pub(crate) fn configured_again(&self) {
        self.lock().unconfigured.clear();
    }

    /// It was read, and these accounts do not stand in it.
    pub(crate) fn told_unconfigured(&self, accounts: BTreeSet<AccountName>) {
        self.lock().unconfigured = accounts;
    }

    /// A daemon has died. What it had been told and had not written is forgotten; `durable` is what its disk says is paused until
    /// resumed. `open`: the jobs whose attempt stands open there.
    pub(crate) fn life_ends(&self, durable: &BTreeSet<PauseTarget>, open: &[u64]) {
        let mut inner = self.lock();
        for to in open {
            let job = inner.jobs.entry(*to).or_default();
            job.unknown.insert(job.requests);
        }
        let lost: Vec<_> = inner.holds.iter().filter(|(target, hold)| hold.acknowledged && !durable.contains(*target)).collect();
        let lost: Vec<_> = lost.into_iter().map(|(target, hold)| format!("{target} ({}) did not survive", hold.why)).collect();
        lost.into_iter().for_each(|what| inner.violation(what));
        inner.holds.retain(|target, hold| hold.until.is_none() && durable.contains(target));
        inner.resumes.values_mut().for_each(|count| *count += *count % 2);
        inner.rests.clear(); // a new daemon knows nothing of it, and begins slowly
        inner.note(&format!("dead, paused on disk {durable:?}, open {open:?}"));
    }

    /// The disk is gone with all that was on it.
    pub(crate) fn disk_lost(&self) {
        let mut inner = self.lock();
        inner.holds.clear();
        inner.delays.clear();
        inner.jobs.values_mut().for_each(|job| job.losses += 1);
        inner.note("the disk is lost");
    }

    /// The wall clock was set: delays that were given by it are over at another time.
    pub(crate) fn clock_set(&self) {
        self.lock().delays.clear();
    }

    /// This is about to be written: an attempt must not be opened before the job's delay is over.
    pub(crate) fn writes(&self, changes: &[Change]) {
        let mut inner = self.lock();
        let soon = Instant::now() + NOT_WORTH_IT;
        for (campaign, record) in records(changes).filter(|(_, record)| record.now.state == JobState::Opened) {
            let early = inner.delays.get(&delay_key(campaign, record)).is_some_and(|until| soon < *until);
            if early {
                inner.violation(format!("an attempt of {} is opened before its delay is over", record.job));
            }
        }
    }

    /// This is on disk, at that time by the wall clock.
    pub(crate) fn written(&self, changes: &[Change], wall: Timestamp) {
        let mut inner = self.lock();
        for (campaign, record) in records(changes) {
            let key = delay_key(campaign, record);
            match &record.now.state {
                JobState::Delayed { until } => {
                    let left = Duration::try_from(until.duration_since(wall)).unwrap_or_default();
                    inner.delays.insert(key, Instant::now() + left);
                }
                _ => {
                    inner.delays.remove(&key);
                }
            }
        }
    }

    /// A person was told that it is paused (or cancelled): nothing starts until then.
    pub(crate) fn told_paused(&self, target: PauseTarget, until: Option<Instant>) {
        let mut inner = self.lock();
        let why = "as a person was told".to_owned();
        let acknowledged = until.is_none();
        let hold = Hold { until, acknowledged, why };
        // A pause for ever stays one.
        let stays = inner.holds.get(&target).is_some_and(|held| held.until.is_none());
        match inner.holds.get_mut(&target).filter(|_| stays) {
            Some(held) => held.acknowledged |= acknowledged,
            None => drop(inner.holds.insert(target, hold)),
        }
    }

    /// A person asks for it to go on; from now on it may.
    pub(crate) fn resume_begins(&self, target: &PauseTarget) {
        let mut inner = self.lock();
        inner.holds.remove(target);
        *inner.resumes.entry(target.clone()).or_default() |= 1;
    }

    /// The daemon has answered that.
    pub(crate) fn resume_ends(&self, target: &PauseTarget) {
        let mut inner = self.lock();
        inner.holds.remove(target);
        *inner.resumes.entry(target.clone()).or_default() += 1;
    }

    /// A request leaves: may it?
    pub(crate) fn departs(&self, account: &AccountName, campaign: &CampaignId, to: u64) -> Left {
        let mut inner = self.lock();
        let now = Instant::now();
        let targets = targets(account, campaign);
        for target in &targets {
            let held = inner.holds.get(target).filter(|hold| hold.until.is_none_or(|until| now < until)).cloned();
            if let Some(hold) = held {
                inner.violation(format!("a request to {to} left while {target} was paused {}", hold.why));
            }
        }
        // what was asked for in this very instant cannot have been heeded
        if inner.rests.get(account).is_some_and(|(since, until)| (*since < now) && now < *until) {
            inner.violation(format!(
                "a request to {to} left before the time was over that the gateway of {account} had asked for"
            ));
        }
        if inner.unconfigured.contains(account) {
            inner.violation(format!("a request of {account}, which does not stand in the configuration"));
        }
        match inner.paces.entry(account.clone()).or_default().departs(now) {
            Ok(full) => full.into_iter().for_each(|what| inner.fired(what)),
            Err(what) => inner.violation(format!("account {account}: {what}")),
        }
        let job = inner.jobs.entry(to).or_default();
        job.requests += 1;
        let attempt = job.requests;
        inner.note(&format!("{account} sends {to} for the {attempt}th time"));
        let count = |target| inner.resumes.get(target).copied().unwrap_or(0);
        Left { attempt, resumes: (count(&targets[0]), count(&targets[1])) }
    }

    /// The gateway makes a message of a request.
    pub(crate) fn message(&self, to: u64) {
        let mut inner = self.lock();
        let job = inner.jobs.entry(to).or_default();
        job.messages += 1;
        if job.messages > job.allowed() {
            let what = format!("{to} got {} messages: {job:?}", job.messages);
            inner.violation(what);
        }
    }

    /// The daemon reads an answer. One that pauses is in force from here on, unless a person resumed since the request left.
    pub(crate) fn answered(&self, account: &AccountName, campaign: &CampaignId, to: u64, left: Left, reply: &Reply) {
        let mut inner = self.lock();
        inner.note(&format!("{account} answers {to}: {reply:?}"));
        inner.fired(&answers::name(reply));
        if matches!(reply, Reply::Unknown(_)) {
            inner.jobs.entry(to).or_default().unknown.insert(left.attempt);
        }
        if let Some(rest) = answers::rest(reply) {
            let now = Instant::now();
            let (since, until) = inner.rests.get(account).copied().filter(|(_, until)| now < *until).unwrap_or((now, now));
            inner.rests.insert(account.clone(), (since, until.max(now + rest)));
        }
        let targets = targets(account, campaign);
        let (target, resumes) = match stop(reply) {
            Some(Stop::Account) => (&targets[0], left.resumes.0),
            Some(Stop::Campaign) => (&targets[1], left.resumes.1),
            None => return,
        };
        let count = inner.resumes.get(target).copied().unwrap_or(0);
        if count == resumes && count % 2 == 0 {
            let hold = Hold { until: None, acknowledged: false, why: format!("by the answer {reply:?}") };
            inner.holds.entry(target.clone()).and_modify(|held| held.until = None).or_insert(hold);
        }
    }

    /// A dead letter was put on the shelf.
    pub(crate) fn dead_letter(&self, to: u64, release: u32, reason: &str) {
        let mut inner = self.lock();
        if reason == UNKNOWN_OUTCOME {
            inner.jobs.entry(to).or_default().parked.insert(release);
        }
    }

    /// A job was published under a release, for the first time or as a copy that says so.
    pub(crate) fn published(&self, to: u64, release: u32, first: bool) {
        let mut inner = self.lock();
        let job = inner.jobs.entry(to).or_default();
        job.again += u32::from(first && job.losses > 0 && (1..=job.release).contains(&release));
        job.release = job.release.max(release);
    }
}

impl Inner {
    fn note(&mut self, line: &str) {
        let at = self.start.elapsed();
        self.trace.push(format!("{:>9.3} {line}", at.as_secs_f64()));
    }

    fn fired(&mut self, what: &str) {
        match self.fired.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.fired.insert(what.to_owned(), 1)),
        }
    }

    fn violation(&mut self, what: String) {
        self.note(&format!("BROKEN: {what}"));
        self.violations.push(what);
    }
}

fn records(changes: &[Change]) -> impl Iterator<Item = (&CampaignId, &Record)> {
    let ledgers = changes.iter().filter_map(|change| match change {
        Change::Ledger(campaign, records) => Some((campaign, records)),
        _ => None,
    });
    ledgers.flat_map(|(campaign, records)| records.iter().map(move |record| (campaign, record)))
}

fn delay_key(campaign: &CampaignId, record: &Record) -> (CampaignId, JobId, u32) {
    (campaign.clone(), record.job.clone(), record.now.release)
}

fn targets(account: &AccountName, campaign: &CampaignId) -> [PauseTarget; 2] {
    [PauseTarget::Account(account.clone()), PauseTarget::Campaign(campaign.clone())]
}
