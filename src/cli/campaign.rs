//! `campaignd campaign`: list, show, watch, pause, resume and cancel campaigns.

mod watch;

use super::account::{PauseArgs, because, clock};
use super::ask::confirm;
use super::client::Client;
use super::table::{Table, print, print_json};
use super::words::{count, many, percent, span, state};
use super::{Exit, Failure, Globals};
use crate::engine::{CampaignView, Resumed};
use crate::job::CampaignId;

/// Arguments of `campaignd campaign`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Every campaign and how far it is
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One campaign, with what holds it
    Show {
        /// Its id
        campaign: CampaignId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow a campaign until it is finished (exit code 0), paused until resumed (75) or you press Ctrl-C (130)
    Watch {
        /// Its id
        campaign: CampaignId,
        /// Print one JSON object per change
        #[arg(long)]
        json: bool,
    },
    /// Stop sending a campaign; what is in flight finishes, its jobs stay where they are
    Pause(PauseArgs<CampaignId>),
    /// Lift a campaign's own pause; exit code 75 if its account holds it still
    Resume {
        /// Its id
        campaign: CampaignId,
    },
    /// Call a campaign off: what is not sent never will be
    Cancel {
        /// Its id
        campaign: CampaignId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Runs it.
pub(super) async fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    let client = Client::from_globals(globals)?;
    match args.command {
        Command::List { json } => list(&client, json).await,
        Command::Show { campaign, json } => {
            let view = show(&client, &campaign).await?;
            if json {
                print_json(&view)?
            } else {
                print(describe(&view))?
            }
            Ok(Exit::Ok)
        }
        Command::Watch { campaign, json } => watch::watch(&client, &campaign, json).await,
        Command::Pause(pause) => {
            client.order(&format!("v1/campaigns/{}/pause", pause.name), &pause.order()).await?;
            let name = &pause.name;
            print(format_args!("campaign {name} is paused {}; lift it with: campaignd campaign resume {name}", pause.until()))?;
            Ok(Exit::Ok)
        }
        Command::Resume { campaign } => resume(&client, &campaign).await,
        Command::Cancel { campaign, yes } => cancel(&client, &campaign, yes).await,
    }
}

async fn show(client: &Client, campaign: &CampaignId) -> Result<CampaignView, Failure> {
    Ok(client.get(&format!("v1/campaigns/{campaign}"), &()).await?)
}

async fn list(client: &Client, json: bool) -> Result<Exit, Failure> {
    let views: Vec<CampaignView> = client.get("v1/campaigns", &()).await?;
    if json {
        print_json(&views)?;
    } else if views.is_empty() {
        print("no campaigns; begin one with: campaignd enqueue --campaign ID --recipients FILE --message FILE")?;
    } else {
        table(&views).print()?;
    }
    Ok(Exit::Ok)
}

fn table(views: &[CampaignView]) -> Table {
    let titles = ["campaign", "account", "state", "jobs", "sent", "failed", "waiting", "rate/s", "left"];
    let mut table = Table::new(titles).right([3, 4, 5, 6, 7, 8]);
    for view in views {
        table.row([
            view.id.to_string(),
            view.account.to_string(),
            state(view),
            count(view.enqueued),
            count(view.sent),
            count(view.dead),
            count(view.waiting + view.delayed + view.in_flight),
            format!("{:.1}", view.rate_per_second),
            view.left.map(span).unwrap_or_default(),
        ]);
    }
    table
}

/// One campaign in full.
pub(super) fn describe(view: &CampaignView) -> String {
    let of_all = |number: u64| format!("{} ({})", count(number), percent(number, view.enqueued));
    let options =
        [(view.options.sandbox, "sandbox (nothing reaches a phone)"), (view.options.mmlite, "by Marketing Messages Lite")];
    let mut options: Vec<String> = options.iter().filter(|(on, _)| *on).map(|(_, text)| (*text).to_owned()).collect();
    options.push(format!("priority {}", lower(&view.options.priority)));
    options.push(format!("on unknown outcome: {}", lower(&view.options.on_unknown)));
    let mut lines = vec![
        format!("campaign   {}", view.id),
        format!("account    {}", view.account),
        format!("state      {}", state(view)),
        format!("options    {}", options.join(", ")),
        format!(
            "jobs       {}{}",
            count(view.enqueued),
            if view.sealed { "" } else { " so far; its producer has not said how many there are" }
        ),
        format!("  sent       {}", of_all(view.sent)),
        format!("  failed     {}", of_all(view.dead)),
        format!("  waiting    {}", of_all(view.waiting)),
        format!("  in flight  {}", count(view.in_flight)),
        format!("  delayed    {}", count(view.delayed)),
        format!("  expired    {}", count(view.expired)),
        format!("  cancelled  {}", count(view.cancelled)),
        format!(
            "rate       {:.1} messages/s{}",
            view.rate_per_second,
            view.left.map(|left| format!(", {} left", span(left))).unwrap_or_default()
        ),
        format!("since      {}", clock(view.created)),
    ];
    if let Some(asked) = &view.announced_account {
        lines.push(format!(
            "announced  for account {asked}, after a job had tied it to {}: jobs that name {asked} go to the dead letters",
            view.account
        ));
    }
    if view.ledger_gone {
        lines.push("ledger     cleaned up: nobody can tell any more who got it, so nothing of this id is sent again".to_owned());
    }
    lines.extend(view.ended.map(|ended| format!("ended      {}", clock(ended))));
    if let Some(since) = view.counts_since {
        lines.push(format!(
            "ledger     lost at {}; what was settled before is not counted, and waiting is at most that",
            clock(since)
        ));
    }
    if view.duplicates > 0 {
        lines.push(format!("duplicates {} (the same job in several batches, counted once)", count(view.duplicates)));
    }
    lines.extend(view.pause.as_ref().map(|pause| format!("paused     {}", because(pause))));
    lines.extend(view.account_pause.as_ref().map(|pause| format!("account    paused: {}", because(pause))));
    if view.dead > 0 {
        lines.push(format!("failed     look: campaignd dead groups {}", view.id));
    }
    lines.join("\n")
}

fn lower(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

async fn resume(client: &Client, campaign: &CampaignId) -> Result<Exit, Failure> {
    let resumed: Resumed = client.post(&format!("v1/campaigns/{campaign}/resume"), &serde_json::json!({})).await?;
    if let Some(pause) = &resumed.still_paused {
        let own = if resumed.lifted { "its own pause is lifted, but " } else { "" };
        print(format_args!("campaign {campaign} does not send yet: {own}its account is paused: {}", because(pause)))?;
        return Ok(Exit::TempFail);
    }
    let said = if resumed.lifted { "goes on" } else { "was not paused" };
    print(format_args!("campaign {campaign} {said}"))?;
    Ok(Exit::Ok)
}

async fn cancel(client: &Client, campaign: &CampaignId, yes: bool) -> Result<Exit, Failure> {
    let view = show(client, campaign).await?;
    let open = view.waiting + view.delayed;
    let question = format!(
        "Cancel campaign {campaign} ({})? {} will never be sent; {} sent already. This cannot be undone.",
        state(&view),
        many(open, "job"),
        count(view.sent)
    );
    if !confirm(&question, yes)? {
        print("nothing was changed")?;
        return Ok(Exit::Failed);
    }
    client.order(&format!("v1/campaigns/{campaign}/cancel"), &serde_json::json!({})).await?;
    print(format_args!("campaign {campaign} is cancelled; what is in flight finishes"))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::campaign::{Options, Pause};
    use crate::engine::{CampaignState, PauseView};

    pub(in crate::cli) fn view() -> CampaignView {
        let at = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        CampaignView {
            id: "spring-sale".parse().unwrap(),
            account: "main".parse().unwrap(),
            state: CampaignState::Running,
            options: Options::default(),
            enqueued: 12_345,
            waiting: 10_000,
            in_flight: 5,
            delayed: 10,
            sent: 2_300,
            dead: 30,
            cancelled: 0,
            expired: 0,
            duplicates: 0,
            sealed: true,
            rate_per_second: 79.6,
            left: Some(std::time::Duration::from_secs(125)),
            pause: None,
            account_pause: None,
            created: at,
            ended: None,
            counts_since: None,
            announced_account: None,
            ledger_gone: false,
        }
    }

    fn pause(cause: &str) -> PauseView {
        let since = jiff::Timestamp::from_second(1_800_000_100).unwrap();
        let pause = Pause {
            cause: cause.into(),
            since,
            by: "policy".into(),
            advice: "add balance in the dashboard".into(),
            ..Pause::example(None)
        };
        PauseView { pause, lift_with: "campaignd account resume main".into() }
    }

    #[test]
    fn a_list_fits_a_terminal_and_hides_no_failure() {
        let mut done = view();
        (done.state, done.sent, done.waiting, done.in_flight, done.delayed, done.left) =
            (CampaignState::Finished, 12_315, 0, 0, 0, None);
        let mut held = view();
        held.account_pause = Some(pause("BILL_001"));
        insta::assert_snapshot!(table(&[view(), done, held]).text());
    }

    #[test]
    fn a_campaign_in_full_says_what_holds_it() {
        let mut held = view();
        held.state = CampaignState::Paused;
        held.account_pause = Some(pause("BILL_001: insufficient balance\u{1b}[2J"));
        insta::assert_snapshot!(describe(&held));
    }
}
