//! `campaignd dead`: look through the dead letters and release them.

use std::collections::BTreeSet;

use super::account::clock;
use super::ask::confirm;
use super::client::{CallError, Client};
use super::table::{Table, harmless, print, print_json};
use super::words::{count, many, percent};
use super::{Exit, Failure, Globals};
use crate::admin::{DeadGroup, DeadQuery, Requeued};
use crate::engine::{DeadLetter, DeadSelection};
use crate::job::{CampaignId, JobId};

/// Arguments of `campaignd dead`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Why jobs of a campaign failed: reasons, with counts and shares
    Groups {
        #[command(flatten)]
        filter: Filter,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The failed jobs of a campaign, oldest first; recipients masked
    List {
        #[command(flatten)]
        filter: Filter,
        /// With the job bodies, which hold the full recipient (JSON only)
        #[arg(long, requires = "json")]
        bodies: bool,
        /// Print JSON: all of them, unless --limit says otherwise
        #[arg(long)]
        json: bool,
    },
    /// One failed job with its body, which holds the full recipient
    Show {
        /// The campaign; `_unsorted` for what belongs to none
        #[arg(value_parser = CampaignId::shelf)]
        campaign: CampaignId,
        /// The job's id, as `dead list` shows it
        job: JobId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Release failed jobs: they are sent again. More than one asks first
    Requeue {
        #[command(flatten)]
        filter: Filter,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
struct Filter {
    /// The campaign; `_unsorted` for what belongs to none
    #[arg(value_parser = CampaignId::shelf)]
    campaign: CampaignId,
    /// Only these jobs
    #[arg(value_name = "JOB")]
    jobs: Vec<JobId>,
    /// Only this reason, as `dead groups` shows it
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only this gateway code, for example `GW_001`
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Only this Meta code, for example 131026
    #[arg(long, value_name = "NUMBER")]
    meta: Option<u32>,
    /// At most this many, oldest first
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

impl Filter {
    fn selection(&self) -> DeadSelection {
        DeadSelection {
            jobs: self.jobs.iter().cloned().collect(),
            reason: self.reason.clone(),
            code: self.code.clone(),
            meta: self.meta,
            limit: self.limit,
            unknown_too: false,
        }
    }

    async fn groups(&self, client: &Client) -> Result<Vec<DeadGroup>, Failure> {
        let path = format!("v1/campaigns/{}/dead/groups", self.campaign);
        Ok(client.get(&path, &DeadQuery::new(&self.selection(), false)).await?)
    }
}

/// Runs it.
pub(super) async fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    let client = Client::from_globals(globals)?;
    match args.command {
        Command::Groups { filter, json } => {
            let groups = filter.groups(&client).await?;
            if json { print_json(&groups)? } else { print_groups(&groups)? }
        }
        Command::List { filter, bodies, json } => {
            let mut selection = filter.selection();
            if json {
                selection.limit.get_or_insert(u64::MAX); // a program must not take a part for the whole
            }
            let letters = list(&client, &filter.campaign, &selection, bodies).await?;
            if json { print_json(&letters)? } else { print_list(&filter, &letters)? }
        }
        Command::Show { campaign, job, json } => {
            let selection = DeadSelection { jobs: BTreeSet::from([job.clone()]), ..DeadSelection::default() };
            let letters = list(&client, &campaign, &selection, true).await?;
            let Some(letter) = letters.first() else {
                let what = format!("campaign {campaign} has no dead letter {job}; `campaignd dead list {campaign}` shows them");
                return Err(Failure::new(Exit::Data, what));
            };
            if json { print_json(letter)? } else { print(describe(letter))? }
        }
        Command::Requeue { filter, yes } => return requeue(&client, &filter, yes).await,
    }
    Ok(Exit::Ok)
}

async fn list(client: &Client, campaign: &CampaignId, which: &DeadSelection, bodies: bool) -> Result<Vec<DeadLetter>, Failure> {
    Ok(client.get(&format!("v1/campaigns/{campaign}/dead"), &DeadQuery::new(which, bodies)).await?)
}

async fn requeue(client: &Client, filter: &Filter, yes: bool) -> Result<Exit, Failure> {
    if filter.campaign == CampaignId::unsorted() {
        let why = "what stands in _unsorted belongs to no campaign, so nothing can be released; `campaignd dead list _unsorted --bodies --json` shows it";
        return Err(Failure::new(Exit::Usage, why));
    }
    let groups = filter.groups(client).await?;
    let all: u64 = groups.iter().map(|group| group.count).sum();
    let campaign = &filter.campaign;
    if all == 0 {
        print(format_args!("campaign {campaign} has no such dead letters; nothing was changed"))?;
        return Ok(Exit::Ok);
    }
    let unknown: u64 = groups.iter().filter(|group| group.may_have_been_sent).map(|group| group.count).sum();
    if all > 1 || unknown > 0 {
        print_groups(&groups)?;
        let mut question = format!("Release {} of campaign {campaign}, to be sent again?", many(all, "job"));
        if unknown > 0 {
            question
                .push_str(&format!("\nNobody knows whether {} of them got the message: they may get it twice.", count(unknown)));
        }
        if !confirm(&question, yes)? {
            print("nothing was changed")?;
            return Ok(Exit::Failed);
        }
    }
    let selection = DeadSelection { unknown_too: unknown > 0, ..filter.selection() };
    let done = client.post(&format!("v1/campaigns/{campaign}/dead/requeue"), &selection).await;
    let done: Requeued = done.map_err(cut_short)?;
    print(format_args!("released {}; follow them with: campaignd campaign watch {campaign}", many(done.requeued, "job")))?;
    Ok(Exit::Ok)
}

/// What holds when the answer to a release did not come.
fn cut_short(error: CallError) -> Failure {
    let what =
        "what it had released until then is sent once the daemon runs; the same command releases the rest, and nothing twice";
    if error.passing { Failure::new(error.exit, format_args!("{}\n{what}", error.message)) } else { error.into() }
}

/// Groups as a table, with shares.
pub(super) fn print_groups(groups: &[DeadGroup]) -> Result<(), Failure> {
    if groups.is_empty() { print("no dead letters") } else { groups_table(groups).print() }
}

fn groups_table(groups: &[DeadGroup]) -> Table {
    let all: u64 = groups.iter().map(|group| group.count).sum();
    let mut table = Table::new(["reason", "sent?", "code", "Meta", "jobs", "share", "what the gateway said"]).right([3, 4, 5]);
    for group in groups {
        table.row([
            group.reason.clone(),
            sent(group.may_have_been_sent),
            group.code.clone().unwrap_or_default(),
            group.meta.map(|meta| meta.to_string()).unwrap_or_default(),
            count(group.count),
            percent(group.count, all),
            group.description.chars().take(80).collect(),
        ]);
    }
    table
}

fn print_list(filter: &Filter, letters: &[DeadLetter]) -> Result<(), Failure> {
    if letters.is_empty() {
        return print("no dead letters");
    }
    let mut table =
        Table::new(["job", "to", "when", "reason", "code", "Meta", "attempts", "what the gateway said"]).right([5, 6]);
    for letter in letters {
        table.row([
            letter.job.as_ref().map_or_else(|| "(no job)".into(), ToString::to_string),
            letter.to.clone().unwrap_or_default(),
            clock(letter.death.at),
            letter.death.reason.clone(),
            letter.death.code.clone().unwrap_or_default(),
            letter.death.meta.map(|meta| meta.to_string()).unwrap_or_default(),
            count(letter.attempts.into()),
            letter.death.description.chars().take(60).collect(),
        ]);
    }
    table.print()?;
    if filter.limit.is_none() && letters.len() >= 1000 {
        print(
            "\nThese are the oldest 1,000; ask for more with --limit, or see them all by reason: campaignd dead groups CAMPAIGN",
        )?;
    }
    Ok(())
}

/// Whether a dead letter's message was sent.
fn sent(may_have_been: bool) -> String {
    if may_have_been { "perhaps" } else { "no" }.into()
}

fn describe(letter: &DeadLetter) -> String {
    let death = &letter.death;
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let lines = [
        format!("campaign    {}", letter.campaign),
        format!("job         {}", text(letter.job.as_ref().map(ToString::to_string))),
        format!("to          {}", text(letter.to.clone())),
        format!("reason      {}", harmless(&death.reason)),
        format!("code        {}", harmless(&text(death.code.clone()))),
        format!("Meta        {}", text(death.meta.map(|meta| meta.to_string()))),
        format!("HTTP        {}", text(death.http_status.map(|status| status.to_string()))),
        format!("said        {}", harmless(&death.description)),
        format!("sent        {}", sent(death.may_have_been_sent)),
        format!("when        {}", clock(death.at)),
        format!("first seen  {}", text(letter.first_seen.map(clock))),
        format!("attempts    {}", letter.attempts),
        format!("released    {} times before", letter.release),
        format!("body        {}", harmless(&text(letter.body.clone()))),
    ];
    lines.join("\n")
}
