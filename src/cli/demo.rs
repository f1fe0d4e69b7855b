//! `campaignd demo`: a whole campaign in one process: simulated gateway, embedded broker, progress and proof; nothing to install.

mod audience;
mod proof;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;

use super::batch::{Batch, BatchArgs};
use super::enqueue::{Door, Ended, publish};
use super::local::{Eyes, Local, Seen, engine_failure, outcomes, run_beside};
use super::progress::Progress;
use super::table::{harmless, print};
use super::words::{count, many, span};
use super::{Exit, Failure};
use crate::admin::Groups;
use crate::clock::Clock;
use crate::dice::Dice;
use crate::engine::{Account, CampaignView, PauseView, Settings};
use crate::gateway::connexease::{self, BaseUrlError, Connexease};
use crate::gateway::simulator::{Controls, DEFAULT_KEY, Key, Options, Running, Simulator};
use crate::pacer::Limits;
use crate::policy::Rules;
use crate::signals::Signals;
use audience::Audience;

/// From request to answer, half of it before the request is counted, and how far that strays.
const LATENCY: Duration = Duration::from_millis(60);
const JITTER: Duration = Duration::from_millis(15);

/// The demo has a few answers that never come; it should not wait 30 s for each.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);

/// How long the pause stays on the screen before the balance is topped up.
const PAUSE_SHOWN: Duration = Duration::from_secs(2);

const IN_FLIGHT: usize = 64;
const CAMPAIGN: &str = "demo";

/// Arguments of `campaignd demo`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Nothing leaves this machine, nothing is kept. Exit code 0 only if the gateway's own books agree: every recipient got \
    exactly one message or is among the failed ones."
)]
pub(super) struct Args {
    /// How many recipients
    #[arg(long, value_name = "COUNT", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    recipients: u32,
    /// What the simulated gateway allows, and the engine keeps to
    #[arg(long, value_name = "RATE", default_value = "80/s")]
    rate: Limits,
    /// Which recipients fail, and how, follows from this number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// No rate limit, no waiting for the eye
    #[arg(long)]
    fast: bool,
}

/// Runs it.
pub(super) async fn run(args: Args, _globals: &super::Globals) -> Result<Exit, Failure> {
    let dir = tempfile::tempdir().map_err(|error| {
        Failure::new(Exit::CantCreate, format_args!("cannot make a temporary directory: {error}; TMPDIR names another place"))
    })?;
    let audience = Audience::draw(args.recipients, &mut Dice::seed_from_u64(args.seed));
    let limits = if args.fast { Limits { second: None, minute: None } } else { args.rate };
    let gateway = gateway(&args, limits).await?;
    introduce(&args, &audience, &gateway)?;
    let batch = batch(dir.path(), &audience)?;
    let account = account(&gateway, limits)?;
    let settings = Settings { drain: Duration::from_secs(5), ..Settings::default() };
    let name = "demo".parse().map_err(|error| Failure::new(Exit::Software, error))?;
    let mut local = Local::open(dir.path(), &name, account, Rules::builtin(), settings)?;
    let show = Show {
        door: Door::Broker(Arc::clone(&local.broker) as _),
        eyes: local.eyes(),
        batch: &batch,
        controls: gateway.controls().clone(),
        progress: Progress::new(CAMPAIGN, false),
        patience: if args.fast { Duration::ZERO } else { PAUSE_SHOWN },
    };
    let mut signals = Signals::listen()?;
    let work = async {
        tokio::select! {
            biased;
            _ = signals.stop() => Ok(None),
            ended = show.run() => ended.map(Some),
        }
    };
    let (ended, _) = run_beside(local, work).await?;
    let Some((view, letters)) = ended else {
        print("\ninterrupted; the demo keeps nothing")?;
        return Ok(Exit::Interrupted);
    };
    let books = gateway.stop().await;
    proof::show(&audience, &view, &letters, &books)
}

async fn gateway(args: &Args, limits: Limits) -> Result<Running, Failure> {
    // Enough for half of them: it runs out half way.
    let balance = i64::from(args.recipients / 2);
    let key = Key { limits, balance, ..Key::new(DEFAULT_KEY) };
    let (latency, jitter) = if args.fast { (Duration::ZERO, Duration::ZERO) } else { (LATENCY, JITTER) };
    let options = Options { keys: vec![key], latency, jitter, seed: args.seed, ..Options::default() };
    let started = Simulator::start_local(options).await;
    started.map_err(|error| Failure::new(Exit::Unavailable, format_args!("cannot start the simulated gateway: {error}")))
}

fn account(gateway: &Running, limits: Limits) -> Result<Account, Failure> {
    let settings = connexease::Settings {
        base_url: gateway.base_url().parse().map_err(|error: BaseUrlError| Failure::new(Exit::Software, error))?,
        request_timeout: REQUEST_LIMIT,
        max_in_flight: IN_FLIGHT,
        ..connexease::Settings::new(DEFAULT_KEY.to_owned().into())
    };
    let client = Connexease::new(settings).map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(Account { gateway: Arc::new(client), plan: limits.into(), max_in_flight: IN_FLIGHT })
}

fn introduce(args: &Args, audience: &Audience, gateway: &Running) -> Result<(), Failure> {
    let rate = if args.fast { "unlimited".to_owned() } else { args.rate.to_string() };
    print(format_args!(
        "A simulated gateway listens at {} (rate {rate}) and a campaign of {} begins.\nAmong them are {}.\nHalf way the balance will run out.\n",
        gateway.base_url(),
        many(u64::from(args.recipients), "recipient"),
        audience.describe(),
    ))
}

/// The same way as `campaignd enqueue` and `send`: from a CSV file and a message file.
fn batch(dir: &Path, audience: &Audience) -> Result<Batch, Failure> {
    let (recipients, message) = (dir.join("recipients.csv"), dir.join("message.json"));
    let written = std::fs::write(&recipients, audience.csv()).and_then(|()| std::fs::write(&message, audience::MESSAGE));
    written.map_err(|error| Failure::new(Exit::Io, format_args!("cannot write to {}: {error}", dir.display())))?;
    let campaign = CAMPAIGN.parse().map_err(|error| Failure::new(Exit::Software, error))?;
    let args = BatchArgs::plain(campaign, recipients, message);
    let batch = Batch::read(&args, Clock::system().wall())?;
    batch.insist(false)?;
    Ok(batch)
}

/// The campaign, from the first job to the last.
struct Show<'a> {
    door: Door,
    eyes: Eyes,
    batch: &'a Batch,
    controls: Controls,
    progress: Progress,
    patience: Duration,
}

impl Show<'_> {
    async fn run(mut self) -> Result<(CampaignView, Vec<crate::engine::DeadLetter>), Failure> {
        let began = tokio::time::Instant::now();
        let campaign = self.batch.plan.campaign.clone();
        let mut quiet = Progress::new(CAMPAIGN, true);
        if let Ended::Interrupted(_) = publish(self.batch, &self.door, false, &mut quiet).await? {
            return Err(Failure::new(Exit::Interrupted, "interrupted; the demo keeps nothing"));
        }
        loop {
            match self.eyes.follow(&campaign, &mut self.progress).await? {
                Seen::Held(view, pause) => self.top_up(&view, &pause).await?,
                Seen::Over(view) => {
                    self.progress.end();
                    print(format_args!("\nover after {}", span(began.elapsed())))?;
                    let letters = self.eyes.dead(&campaign).await?.all().await.map_err(|error| engine_failure(&error))?;
                    let mut groups = Groups::default();
                    letters.iter().for_each(|letter| groups.add(letter.death.clone()));
                    outcomes(&view, &groups.sorted())?;
                    return Ok((view, letters));
                }
            }
        }
    }

    /// Shows the pause, pays, and goes on.
    async fn top_up(&mut self, view: &CampaignView, pause: &PauseView) -> Result<(), Failure> {
        let rule = pause.pause.rule.as_deref().unwrap_or("operator");
        self.progress.line(&format!("paused by rule {rule}: {}", harmless(&pause.pause.cause)))?;
        self.progress.line(&format!("    what to do: {}", harmless(&pause.pause.advice)))?;
        self.progress.line(&format!("    {} sent so far; the other jobs wait where they are", count(view.sent)))?;
        tokio::time::sleep(self.patience).await;
        let amount = i64::try_from(view.enqueued).unwrap_or(i64::MAX);
        self.controls.add_balance(None, amount).map_err(|error| Failure::new(Exit::Software, error))?;
        self.progress.line(&format!("topped up by {}; resuming, as `{}` would", count(view.enqueued), pause.lift_with))?;
        self.eyes.resume(view).await.map(drop)
    }
}
