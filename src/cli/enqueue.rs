//! `campaignd enqueue`: publish a campaign's jobs from CSV or NDJSON.

mod known;
mod preflight;
mod publish;

use std::sync::Arc;

use tokio::time::Instant;

use super::batch::{Batch, BatchArgs};
use super::client::Client;
use super::progress::Progress;
use super::table::{print, print_json};
use super::words::{count, many, span};
use super::{Exit, Failure, Globals};
use crate::broker::rabbitmq::{self, ConnectError, RabbitMq, Role};
use crate::clock::Clock;
use crate::config::{BrokerKind, Config, process_env};
use crate::daemon::broker_settings;
use known::known;
pub(super) use known::over_for_good;
use preflight::Preflight;
pub(super) use preflight::warnings;
pub(super) use publish::{Door, Ended, publish};

/// Arguments of `campaignd enqueue`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    batch: BatchArgs,
    /// Show the plan and publish nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = r#"Files:
  recipients.csv                        message.json
    to,name,code                          {"type": "template", "template": {
    905321234567,Ayşe,A7X                   "name": "spring", "language": {"code": "tr"},
    +90 532 123 45 68,Ali,B2K               "components": [{"type": "body", "parameters": [
                                              {"type": "text", "text": "{{ name }}"},
                                              {"type": "text", "text": "{{ code }}"}]}]}}

  The separator may be comma, semicolon or tab. As NDJSON: {"to": "905321234567", "name": "Ayşe"}

The whole file is checked first. If one row is wrong, nothing is published and every wrong row is listed.
Each recipient of a campaign gets one message, however often the file is enqueued: interrupted or in doubt, run the same command again.
A campaign that was cancelled, or is so long over that nobody can tell any more who got it, takes no more: use another id.

Look first:  campaignd enqueue --campaign spring --recipients recipients.csv --message message.json --dry-run"#;

/// Runs it.
pub(super) async fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    let config = Config::load(globals.config.as_deref())?;
    let batch = Batch::read(&args.batch, Clock::system().wall())?;
    let known = known(&config, &batch.plan.campaign).await;
    let preflight = Preflight::new(&batch, &config, known.as_ref());
    if args.dry_run {
        if args.json {
            print_json(&preflight)?
        } else {
            print(preflight.text())?
        }
        let sound = (args.batch.skip_invalid || batch.survey.rejected == 0) && preflight.refused().is_none();
        return Ok(if sound && batch.survey.jobs > 0 { Exit::Ok } else { Exit::Data });
    }
    batch.insist(args.batch.skip_invalid)?;
    if let Some(why) = preflight.refused() {
        return Err(Failure::new(Exit::Data, format_args!("{why}; nothing was published")));
    }
    if batch.survey.rejected > 0 {
        warn(&batch.wrong_rows());
    }
    preflight.warnings().for_each(|warning| warn(&format!("warning: {warning}")));
    let door = open(&config).await?;
    let began = Instant::now();
    let mut progress = Progress::new(batch.plan.campaign.as_str(), args.json);
    let ended = publish(&batch, &door, false, &mut progress).await;
    progress.end();
    match ended? {
        Ended::Whole => {
            if args.json {
                print_json(&Report::new(&batch))?
            } else {
                print(closing(&batch, began))?
            }
            Ok(Exit::Ok)
        }
        Ended::Interrupted(done) => {
            warn(&format!(
                "interrupted after {} of {}; run the same command again to publish the rest: nothing is sent twice",
                count(done),
                many(batch.survey.jobs, "job")
            ));
            Ok(Exit::Interrupted)
        }
    }
}

/// Where the configuration says that jobs go.
async fn open(config: &Config) -> Result<Door, Failure> {
    if config.broker.kind == BrokerKind::Embedded {
        return Ok(Door::Daemon(Client::new(config)?));
    }
    let uri = config.broker_uri(&process_env).map_err(|mistake| Failure::new(Exit::Config, mistake))?;
    let settings = rabbitmq::Settings { role: Role::Producer, name: "campaignd enqueue".into(), ..broker_settings(config, uri) };
    RabbitMq::probe(&settings).await.map_err(|error| {
        let exit = if matches!(error, ConnectError::Settings(_)) { Exit::Config } else { Exit::Unavailable };
        Failure::new(exit, format_args!("{error}\nNothing was published. The address stands under [broker] in {}", config.source))
    })?;
    Ok(Door::Broker(Arc::new(RabbitMq::connect(settings, Clock::system()))))
}

/// What `--json` prints at the end.
#[derive(serde::Serialize)]
struct Report<'a> {
    campaign: &'a str,
    batch: &'a str,
    published: u64,
    duplicates: u64,
    rejected: u64,
}

impl<'a> Report<'a> {
    fn new(batch: &'a Batch) -> Self {
        let survey = &batch.survey;
        Self {
            campaign: batch.plan.campaign.as_str(),
            batch: &survey.batch,
            published: survey.jobs,
            duplicates: survey.duplicates,
            rejected: survey.rejected,
        }
    }
}

fn closing(batch: &Batch, began: Instant) -> String {
    let (survey, id) = (&batch.survey, &batch.plan.campaign);
    let mut text = format!("published {} of campaign {id} in {}", many(survey.jobs, "job"), span(began.elapsed()));
    if survey.duplicates > 0 {
        text.push_str(&format!("; {} left out", many(survey.duplicates, "duplicate row")));
    }
    if survey.rejected > 0 {
        text.push_str(&format!("; {} left out", many(survey.rejected, "wrong row")));
    }
    format!("{text}\nfollow it with: campaignd campaign watch {id}")
}

#[expect(clippy::print_stderr, reason = "warnings belong on standard error")]
pub(super) fn warn(text: &str) {
    eprintln!("{text}");
}
