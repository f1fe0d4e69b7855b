//! `campaignd send`: send one campaign from this terminal; interrupted, the same command continues where it was.

mod failed;
mod place;
mod way;

use super::batch::{Batch, BatchArgs};
use super::enqueue::{Door, Ended, over_for_good, publish, warn, warnings};
use super::local::{Eyes, Local, Seen, outcomes, run_beside, tell_lost_ledger, tell_pause};
use super::progress::Progress;
use super::table::{harmless, print};
use super::words::{count, many};
use super::{Exit, Failure, Globals};
use crate::campaign::Options;
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon;
use crate::engine::{CampaignState, CampaignView};
use crate::policy::Rules;
use crate::signals::Signals;
use place::Place;
use way::{Way, WayArgs};

/// Arguments of `campaignd send`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    batch: BatchArgs,
    #[command(flatten)]
    way: WayArgs,
    /// Where the campaign's state is kept between two runs [default: ~/.local/state/campaignd/send/ID, or under `XDG_STATE_HOME`]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<std::path::PathBuf>,
    /// Send the failed jobs again first, but for those of which nobody knows whether they arrived
    #[arg(long)]
    retry_failed: bool,
}

const HELP: &str = "\
Stopped by Ctrl-C, kill or a power cut, the same command goes on where it was: what is known to be sent is never sent again, and what
nobody knows is parked in the failed jobs (or sent again with --on-unknown resend). When the campaign pauses, it says why and what to
do, and ends with exit code 75; running the same command again is the word to go on.

Exit codes: 0 every job is settled (look at the table: some may have failed), 75 paused, 130 interrupted, 65 the files are wrong.

A rehearsal without any gateway:
  campaignd send --campaign try --recipients recipients.csv --message message.json --simulate";

/// Runs it.
pub(super) async fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    let signals = Signals::listen()?;
    let config = Config::load(globals.config.as_deref())?;
    let mut args = args;
    let way = Way::open(&args.way, args.batch.account.as_ref(), &config).await?;
    // The jobs must ask for the account this process has, whatever the configuration's default is.
    args.batch.account = Some(way.account.clone());
    let batch = Batch::read(&args.batch, Clock::system().wall())?;
    batch.insist(args.batch.skip_invalid)?;
    if batch.survey.rejected > 0 {
        warn(&batch.wrong_rows());
    }
    warnings(&batch).iter().for_each(|warning| warn(&format!("warning: {warning}")));
    if way.is_simulated() {
        warn("a rehearsal: the gateway is simulated, nothing leaves this machine");
    }
    let place = Place::open(args.state_dir, &batch.plan.campaign, way.is_simulated())?;
    let rules = Rules::load(config.policy.file.as_deref()).map_err(|error| Failure::new(Exit::Config, error))?;
    let mut local = Local::open(place.dir(), &way.account, way.sender()?, rules, daemon::settings(&config))?;
    if let Some(lost) = &local.ledger_lost {
        tell_lost_ledger(lost);
    }
    let eyes = local.eyes();
    let door = Door::Broker(local.broker.clone() as _);
    let progress = Progress::new(batch.plan.campaign.as_str(), false);
    let work = Work { batch: &batch, door, place: &place, eyes, progress, retry_failed: args.retry_failed };
    let (exit, _) = run_beside(local, work.run(signals)).await?;
    Ok(exit)
}

/// What goes on beside the engine.
struct Work<'a> {
    batch: &'a Batch,
    door: Door,
    place: &'a Place,
    eyes: Eyes,
    progress: Progress,
    retry_failed: bool,
}

impl Work<'_> {
    async fn run(mut self, mut signals: Signals) -> Result<Exit, Failure> {
        let seen = tokio::select! {
            biased;
            _ = signals.stop() => None,
            seen = self.send() => seen?,
        };
        self.progress.end();
        match seen {
            None => self.interrupted().await,
            Some(Seen::Over(view)) => self.over(&view).await,
            Some(Seen::Held(view, pause)) => {
                self.outcomes(&view).await?;
                tell_pause(&pause, "run the same command again")?;
                Ok(Exit::TempFail)
            }
        }
    }

    /// Publishes what is not published yet, and follows until the end; none when interrupted.
    async fn send(&mut self) -> Result<Option<Seen>, Failure> {
        let campaign = &self.batch.plan.campaign;
        if let Some(view) = self.eyes.look(campaign).await? {
            if let Some(why) = over_for_good(&view) {
                return Err(Failure::new(Exit::Data, format_args!("{why}, or another --state-dir")));
            }
            self.insist_on_the_same(&view)?;
            self.go_on(&view).await?;
            if self.retry_failed {
                let released = self.eyes.release_failed(campaign).await?;
                print(format_args!("sending {} again", many(released, "failed job")))?;
            }
        }
        let batch = &self.batch.survey.batch;
        if !self.place.is_published(batch) {
            let again = self.place.begin(batch)?;
            if let Ended::Interrupted(_) = publish(self.batch, &self.door, again, &mut self.progress).await? {
                return Ok(None);
            }
            self.place.mark_published(batch)?;
        }
        self.eyes.follow(campaign, &mut self.progress).await.map(Some)
    }

    /// A campaign keeps the account and the options it began with; sending the rest in another way would go unnoticed.
    fn insist_on_the_same(&self, view: &CampaignView) -> Result<(), Failure> {
        let asked = self.batch.announcement(false);
        if asked.options == view.options && asked.account.as_ref().is_none_or(|account| *account == view.account) {
            return Ok(());
        }
        let what = format!(
            "campaign {} began with account {} and {}; this command asks for account {} and {}. \
             Use the same account and options, or another campaign id",
            view.id,
            view.account,
            way_of(view.options),
            asked.account.as_ref().map_or("the default", |account| account.as_str()),
            way_of(asked.options),
        );
        Err(Failure::new(Exit::Usage, what))
    }

    /// Running the command again is the operator's word to go on.
    async fn go_on(&self, view: &CampaignView) -> Result<(), Failure> {
        if view.enqueued > 0 && view.state != CampaignState::Finished {
            let rest = view.waiting + view.delayed + view.in_flight;
            print(format_args!("going on with campaign {}: {} sent, {} to go", view.id, count(view.sent), count(rest)))?;
        }
        for pause in self.eyes.resume(view).await? {
            print(format_args!("it was paused ({}); this run lifts that", harmless(&pause.pause.cause)))?;
        }
        Ok(())
    }

    async fn over(&self, view: &CampaignView) -> Result<Exit, Failure> {
        self.outcomes(view).await?;
        print(format_args!("\ncampaign {}: {}", view.id, super::words::state(view)))?;
        Ok(Exit::Ok)
    }

    /// What became of every job; the failed ones each by itself in a file.
    async fn outcomes(&self, view: &CampaignView) -> Result<(), Failure> {
        let (groups, path) = failed::write(self.place.dir(), self.eyes.dead(&view.id).await?).await?;
        outcomes(view, &groups)?;
        if let Some(path) = path {
            print(format_args!("\nEach of them, with its recipient: {}", path.display()))?;
            print("To send those again that surely did not arrive: the same command with --retry-failed")?;
        }
        Ok(())
    }

    async fn interrupted(&self) -> Result<Exit, Failure> {
        let sent = self.eyes.look(&self.batch.plan.campaign).await?.map_or(0, |view| view.sent);
        print(format_args!(
            "interrupted after {}; what is in flight finishes. Run the same command again to go on: nothing is sent twice",
            many(sent, "message")
        ))?;
        Ok(Exit::Interrupted)
    }
}

/// A campaign's options in words.
fn way_of(options: Options) -> String {
    let yes = |on: bool| if on { "yes" } else { "no" };
    format!(
        "sandbox {}, mmlite {}, on-unknown {}, priority {}",
        yes(options.sandbox),
        yes(options.mmlite),
        format!("{:?}", options.on_unknown).to_lowercase(),
        format!("{:?}", options.priority).to_lowercase(),
    )
}
