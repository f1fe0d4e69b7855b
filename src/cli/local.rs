//! A daemon within one command: the same engine on the embedded broker and the ledger of a directory, for `send` and `demo`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::account::because;
use super::dead::print_groups;
use super::enqueue::warn;
use super::progress::Progress;
use super::table::{Table, harmless, print};
use super::words::{count, percent};
use super::{Exit, Failure};
use crate::admin::DeadGroup;
use crate::alert::{Alert, Alerts, Status};
use crate::broker::embedded::Embedded;
use crate::broker::{Broker, Source};
use crate::campaign::PauseTarget;
use crate::clock::Clock;
use crate::dice;
use crate::engine::{
    Account, CampaignState, CampaignView, CommandError, DeadSelection, Drained, Engine, Handle, Letters, Parts, PauseView,
    Settings,
};
use crate::job::{AccountName, CampaignId};
use crate::policy::{Rules, Severity};
use crate::signals::Signals;
use crate::store::sled::{Lost, SledStore};

/// Between two looks at the campaign.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A campaign that was over before is believed to be over again once nothing of it is left at the broker; after this long in any case.
const NEWS_WITHIN: Duration = Duration::from_secs(30);

/// An engine that is built and not yet started.
pub(super) struct Local {
    engine: Engine,
    pub(super) handle: Handle,
    pub(super) broker: Arc<Embedded>,
    pub(super) alerts: mpsc::Receiver<Arc<Alert>>,
    /// The ledger could not be opened and began anew.
    pub(super) ledger_lost: Option<Lost>,
}

impl Local {
    /// Opens the directory and builds the engine, with one account.
    pub(super) fn open(
        dir: &Path,
        name: &AccountName,
        account: Account,
        rules: Rules,
        settings: Settings,
    ) -> Result<Self, Failure> {
        let clock = Clock::system();
        let opened = SledStore::open(dir, &clock)?;
        let broker = Arc::new(Embedded::open(dir, clock.clone())?);
        let (alerts, received) = Alerts::channel();
        let parts = Parts {
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            store: Arc::new(opened.store),
            accounts: BTreeMap::from([(name.clone(), account)]),
            rules: Arc::new(rules),
            alerts,
            clock,
            dice: dice::unforeseen(),
            settings: Settings { default_account: Some(name.clone()), ..settings },
        };
        let (engine, handle) = Engine::build(parts).map_err(|error| Failure::new(Exit::Io, error))?;
        Ok(Self { engine, handle, broker, alerts: received, ledger_lost: opened.lost })
    }
}

/// Runs the engine beside `work`, and lets it drain when that is done. The first signal is for `work` to heed; the second ends both
/// at once.
pub(super) async fn run_beside<T>(
    engine: Local,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<(T, Drained), Failure> {
    let (stop, stopped) = oneshot::channel::<()>();
    let mut signals = Signals::listen()?;
    let mut twice = pin!(async move {
        signals.stop().await;
        signals.stop().await;
        Failure::new(Exit::Interrupted, "stopped at once; what was in flight is recognised when the same command runs again")
    });
    let mut running = pin!(engine.engine.run(async { drop(stopped.await) }));
    let done = tokio::select! {
        done = work => done,
        _ = &mut running => return Err(Failure::new(Exit::Software, "the engine stopped by itself; run the same command again")),
        failure = &mut twice => return Err(failure),
    };
    drop(stop);
    let drained = tokio::select! {
        drained = running => drained,
        failure = twice => return Err(failure),
    };
    Ok((done?, drained))
}

impl Local {
    /// Takes the parts that the work beside the engine uses.
    pub(super) fn eyes(&mut self) -> Eyes {
        let (_, none) = mpsc::channel(1);
        Eyes {
            handle: self.handle.clone(),
            broker: self.broker.clone(),
            alerts: std::mem::replace(&mut self.alerts, none),
            told: BTreeSet::new(),
        }
    }
}

/// What the command sees of its engine.
pub(super) struct Eyes {
    pub(super) handle: Handle,
    broker: Arc<Embedded>,
    alerts: mpsc::Receiver<Arc<Alert>>,
    /// Rules whose alert has been shown: once each is enough on a terminal.
    told: BTreeSet<String>,
}

/// How watching ended.
pub(super) enum Seen {
    /// The campaign is over.
    Over(CampaignView),
    /// It is paused until somebody resumes it.
    Held(CampaignView, PauseView),
}

impl Eyes {
    /// Follows the campaign until it is over or paused until resumed.
    pub(super) async fn follow(&mut self, campaign: &CampaignId, progress: &mut Progress) -> Result<Seen, Failure> {
        let news_by = Instant::now() + NEWS_WITHIN;
        loop {
            while let Ok(alert) = self.alerts.try_recv() {
                if self.told.insert(alert.rule.clone()) {
                    tell(progress, &alert)?;
                }
            }
            // The engine hears of a new campaign a moment after it was announced.
            if let Some(view) = self.look(campaign).await? {
                progress.campaign(&view)?;
                if view.state == CampaignState::Cancelled {
                    return Ok(Seen::Over(view));
                }
                if view.state == CampaignState::Finished && (self.nothing_left(campaign) || Instant::now() > news_by) {
                    // What was left when the view was taken may have opened it again.
                    let view = self.look(campaign).await?.unwrap_or(view);
                    if view.state == CampaignState::Finished {
                        return Ok(Seen::Over(view));
                    }
                    continue;
                }
                let held = [&view.pause, &view.account_pause].into_iter().flatten().find(|pause| pause.pause.until.is_none());
                // What is in flight when a pause begins still settles.
                if let (Some(pause), 0) = (held.cloned(), view.in_flight) {
                    return Ok(Seen::Held(view, pause));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The engine has settled whatever was in the intake, where announcements stand too, and after that in the campaign's queue.
    fn nothing_left(&self, campaign: &CampaignId) -> bool {
        self.broker.left(&Source::Intake) == 0 && self.broker.left(&Source::Jobs(campaign.clone())) == 0
    }

    pub(super) async fn look(&self, campaign: &CampaignId) -> Result<Option<CampaignView>, Failure> {
        match self.handle.campaign(campaign).await {
            Ok(view) => Ok(Some(view)),
            Err(CommandError::NotFound(_)) => Ok(None),
            Err(error) => Err(engine_failure(&error)),
        }
    }

    /// Lifts the pauses that wait for a person: the campaign's, then its account's.
    pub(super) async fn resume(&self, view: &CampaignView) -> Result<Vec<PauseView>, Failure> {
        let mut lifted = Vec::new();
        let own = (&view.pause, PauseTarget::Campaign(view.id.clone()));
        for (pause, target) in [own, (&view.account_pause, PauseTarget::Account(view.account.clone()))] {
            if let Some(pause) = pause.as_ref().filter(|pause| pause.pause.until.is_none()) {
                self.handle.resume(target).await.map_err(|error| engine_failure(&error))?;
                lifted.push(pause.clone());
            }
        }
        Ok(lifted)
    }

    /// Its dead letters, with their bodies.
    pub(super) async fn dead(&self, campaign: &CampaignId) -> Result<Letters, Failure> {
        let letters = self.handle.dead(campaign.clone(), DeadSelection::default(), true).await;
        letters.map_err(|error| engine_failure(&error))
    }

    /// Releases them but for those of which nobody knows whether they arrived. How many there were.
    pub(super) async fn release_failed(&self, campaign: &CampaignId) -> Result<u64, Failure> {
        self.handle.release(campaign.clone(), DeadSelection::default()).await.map_err(|error| engine_failure(&error))
    }
}

pub(super) fn engine_failure(error: &CommandError) -> Failure {
    Failure::new(Exit::Io, format_args!("{error}; run the same command again: nothing is sent twice"))
}

fn tell(progress: &Progress, alert: &Alert) -> Result<(), Failure> {
    let sign = match (alert.status, alert.severity) {
        (Status::Resolved, _) | (_, Severity::Info) => return Ok(()),
        (_, Severity::Warning) => "warning",
        (_, Severity::Critical) => "alert",
    };
    progress.line(&format!("{sign} ({}, shown once): {}", harmless(&alert.rule), harmless(&alert.summary)))
}

/// What became of every job, and why some failed.
pub(super) fn outcomes(view: &CampaignView, failed: &[DeadGroup]) -> Result<(), Failure> {
    let mut table = Table::new(["outcome", "jobs", "share"]).right([1, 2]);
    let rows = [
        ("sent", view.sent, true),
        ("failed", view.dead, true),
        ("expired", view.expired, false),
        ("cancelled", view.cancelled, false),
        ("to be retried", view.delayed, false),
        ("waiting", view.waiting + view.in_flight, false),
    ];
    for (name, number, always) in rows {
        if always || number > 0 {
            table.row([name.to_owned(), count(number), percent(number, view.enqueued)]);
        }
    }
    print("")?;
    table.print()?;
    if failed.is_empty() {
        return Ok(());
    }
    print("\nWhy they failed:")?;
    print_groups(failed)
}

/// A pause, and how to go on.
pub(super) fn tell_pause(pause: &PauseView, go_on: &str) -> Result<(), Failure> {
    let text = because(pause);
    // The command that lifts it is for a daemon; here another one does.
    let text = text.rsplit_once("\n    then: ").map_or(text.as_str(), |(text, _)| text);
    let text = text.replace(&format!("`{}`", pause.lift_with), "the same command again");
    print(format_args!("\npaused: {text}\n    then: {go_on}"))
}

/// Says aloud that the ledger is gone.
pub(super) fn tell_lost_ledger(lost: &Lost) {
    warn(&format!("warning: {lost}. What was delivered before counts as outcome unknown and is not sent again by itself"));
}
