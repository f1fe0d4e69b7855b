//! The loop that joins the parts: one lane per account takes deliveries, paces them, sends them and settles what came of it.

mod gate;
mod handle;
mod lane;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod meter;
mod note;
mod reload;
mod router;
mod show;
mod triage;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use handle::{CommandError, Handle, Letters};
pub use note::Note;
pub use reload::Reload;
pub use view::{AccountView, CampaignState, CampaignView, DeadLetter, DeadSelection, PauseView, Resumed, WindowView};

use crate::alert::Alerts;
use crate::broker::Broker;
use crate::campaign::{Campaign, Pause, PauseTarget};
use crate::clock::Clock;
use crate::dice::Dice;
use crate::gateway::Gateway;
use crate::job::AccountName;
use crate::pacer::Plan;
use crate::policy::Rules;
use crate::store::{Store, StoreError};
use router::{Kept, Router};

/// Commands waiting for the engine; whoever asks waits longer than that.
const COMMANDS: usize = 64;

/// What an engine is built of. Everything it touches comes in here.
pub struct Parts {
    /// Where jobs come from and go to.
    pub broker: Arc<dyn Broker>,
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// The accounts that stand in the configuration.
    pub accounts: BTreeMap<AccountName, Account>,
    /// The error policy.
    pub rules: Arc<Rules>,
    /// Where alerts go.
    pub alerts: Alerts,
    /// The time.
    pub clock: Clock,
    /// The randomness.
    pub dice: Dice,
    /// The rest.
    pub settings: Settings,
}

/// An account the engine may send by.
#[derive(Clone)]
pub struct Account {
    /// Sends with the account's key.
    pub gateway: Arc<dyn Gateway>,
    /// How it is paced.
    pub plan: Plan,
    /// Most requests under way at once; at least 1.
    pub max_in_flight: usize,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("plan", &self.plan).field("max_in_flight", &self.max_in_flight).finish_non_exhaustive()
    }
}

/// How the engine behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most unsettled deliveries per campaign.
    pub prefetch: u16,
    /// The account of campaigns that name none.
    pub default_account: Option<AccountName>,
    /// Longest wait for what is in flight when stopping.
    pub drain: Duration,
    /// How far apart a busy lane's commits start, so that more records share a flush; a full one starts at once.
    pub linger: Duration,
    /// How long a campaign's ledger is kept after its end.
    pub ledger_retention: Duration,
    /// Most dead letters that one subscription holds while a shelf is walked along; a longer shelf takes several.
    pub shelf_page: u16,
    /// Attempts in a row during which the daemon may die before the job is parked as poison, whatever its campaign says; at least 1.
    pub most_lost_attempts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefetch: 512,
            default_account: None,
            drain: Duration::from_secs(30),
            linger: Duration::from_millis(20),
            ledger_retention: Duration::from_secs(30 * 24 * 3600),
            shelf_page: 10_000,
            most_lost_attempts: 5,
        }
    }
}

/// How the engine is doing, for the service manager and the readiness probe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pulse {
    /// It takes deliveries.
    pub ready: bool,
    /// What it does or waits for, in a few words.
    pub status: String,
    /// Rises while every lane's loop turns.
    pub beat: u64,
}

/// How it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Everything begun was settled within the limit; otherwise it comes again and is recognised.
    pub clean: bool,
}

/// The engine, built and not yet started.
pub struct Engine {
    router: Router,
}

impl Engine {
    /// Reads the store and builds the lanes; starts nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn build(parts: Parts) -> Result<(Self, Handle), StoreError> {
        let contents = parts.store.load()?;
        let (commands, received) = mpsc::channel(COMMANDS);
        let (pulse, seen) = watch::channel(Pulse::default());
        let mut pauses: HashMap<PauseTarget, Pause> = HashMap::new();
        let mut kept: BTreeMap<AccountName, Kept> = BTreeMap::new();
        for (target, pause) in contents.pauses {
            match target {
                PauseTarget::Account(name) => kept.entry(name).or_default().pause = Some(pause),
                PauseTarget::Campaign(_) => drop(pauses.insert(target, pause)),
            }
        }
        for (account, recipient) in contents.suppressed {
            kept.entry(account).or_default().suppressed.insert(recipient);
        }
        let mut router = Router::new(parts, contents.behind, kept, received, pulse);
        let mut campaigns: BTreeMap<AccountName, Vec<(Campaign, Option<Pause>)>> = BTreeMap::new();
        for campaign in contents.campaigns {
            let pause = pauses.remove(&PauseTarget::Campaign(campaign.id.clone()));
            campaigns.entry(campaign.account.clone()).or_default().push((campaign, pause));
        }
        let mut names: Vec<AccountName> = router.configured();
        names.extend(campaigns.keys().cloned());
        names.sort();
        names.dedup();
        for name in names {
            router.add_lane(&name, campaigns.remove(&name).unwrap_or_default());
        }
        Ok((Self { router }, Handle::new(commands, seen)))
    }

    /// Runs until `shutdown` resolves, then drains: nothing new begins, what is in flight is finished and settled.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        self.router.run(shutdown).await
    }
}
