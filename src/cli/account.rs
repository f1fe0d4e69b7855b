//! `campaignd account`: list, show, pause and resume accounts.

use super::client::Client;
use super::table::{Table, harmless, print, print_json};
use super::words::{count, span};
use super::{Exit, Failure, Globals};
use crate::admin::PauseOrder;
use crate::engine::{AccountView, PauseView, Resumed, WindowView};
use crate::job::AccountName;
use crate::units::Length;

/// Arguments of `campaignd account`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Every account: limits, what is used of them, pauses
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One account
    Show {
        /// Its name in the configuration
        account: AccountName,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop every campaign of an account; what is in flight finishes
    Pause(PauseArgs<AccountName>),
    /// Lift an account's pause
    Resume {
        /// Its name in the configuration
        account: AccountName,
    },
}

/// What a pause is told.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static>
{
    /// Which one
    pub(super) name: T,
    /// Resume by itself after this long, for example 30m or 2h; without it, when a person resumes it
    #[arg(long = "for", value_name = "LENGTH")]
    length: Option<Length>,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
}

impl<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static> PauseArgs<T> {
    pub(super) fn order(&self) -> PauseOrder {
        let seconds = self.length.map(|length| length.0.as_secs().max(1));
        PauseOrder { cause: self.because.clone(), seconds }
    }

    /// How long, in words.
    pub(super) fn until(&self) -> String {
        self.length.map_or_else(|| "until resumed".into(), |length| format!("for {}", span(length.0)))
    }
}

/// Runs it.
pub(super) async fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    let client = Client::from_globals(globals)?;
    match args.command {
        Command::List { json } => {
            let accounts: Vec<AccountView> = client.get("v1/accounts", &()).await?;
            if json { print_json(&accounts)? } else { list(&accounts)? }
        }
        Command::Show { account, json } => {
            let view: AccountView = client.get(&format!("v1/accounts/{account}"), &()).await?;
            if json { print_json(&view)? } else { print(describe(&view))? }
        }
        Command::Pause(pause) => {
            client.order(&format!("v1/accounts/{}/pause", pause.name), &pause.order()).await?;
            let name = &pause.name;
            print(format_args!("account {name} is paused {}; lift it with: campaignd account resume {name}", pause.until()))?;
        }
        Command::Resume { account } => {
            let resumed: Resumed = client.post(&format!("v1/accounts/{account}/resume"), &serde_json::json!({})).await?;
            let said = if resumed.lifted { "goes on" } else { "was not paused" };
            print(format_args!("account {account} {said}"))?;
        }
    }
    Ok(Exit::Ok)
}

fn list(accounts: &[AccountView]) -> Result<(), Failure> {
    if accounts.is_empty() {
        return print("no accounts; add [accounts.NAME] to the configuration");
    }
    let mut table = Table::new(["account", "state", "campaigns", "in flight", "rate/s", "used of second", "used of minute"])
        .right([2, 3, 4, 5, 6]);
    for view in accounts {
        table.row([
            view.name.to_string(),
            state(view),
            count(view.campaigns),
            format!("{} of {}", count(view.in_flight), count(view.most_in_flight)),
            format!("{:.1}", view.rate_per_second),
            window(view.second),
            window(view.minute),
        ]);
    }
    table.print()?;
    accounts
        .iter()
        .filter_map(|view| Some((view, view.pause.as_ref()?)))
        .try_for_each(|(view, pause)| print(format_args!("\naccount {} is paused: {}", view.name, because(pause))))
}

fn state(view: &AccountView) -> String {
    match (&view.pause, view.held_for) {
        _ if !view.configured => "not configured".into(),
        (Some(_), _) => "paused".into(),
        (None, Some(rest)) => format!("held {}", span(rest)),
        (None, None) if view.probing => "one at a time".into(),
        (None, None) => "sending".into(),
    }
}

fn window(view: Option<WindowView>) -> String {
    let Some(window) = view else { return "unlimited".into() };
    let used = format!("{} of {}", count(window.used.into()), count(window.limit.into()));
    if window.others == 0 { used } else { format!("{used}, {} left to others", count(window.others.into())) }
}

fn describe(view: &AccountView) -> String {
    let mut lines = vec![
        format!("account      {}", view.name),
        format!("state        {}", state(view)),
        format!("campaigns    {} open", count(view.campaigns)),
        format!(
            "in flight    {} of {}, by the gateway's latency; never more than {}",
            count(view.in_flight),
            count(view.most_in_flight),
            count(view.max_in_flight)
        ),
        format!("rate         {:.1} messages/s", view.rate_per_second),
        format!("any second   {}", window(view.second)),
        format!("any minute   {}", window(view.minute)),
    ];
    if let Some(pause) = &view.pause {
        lines.push(format!("paused       {}", because(pause)));
    }
    if !view.configured {
        lines.push(format!("what to do   add [accounts.{}] to the configuration and reload the daemon (restart it if the key is a systemd credential)", view.name));
    }
    lines.join("\n")
}

/// A pause in words: cause, since, until, what to do, and the command that lifts it.
pub(super) fn because(view: &PauseView) -> String {
    let pause = &view.pause;
    let until = pause.until.map_or_else(|| "until resumed".to_owned(), |until| format!("until {}", clock(until)));
    let mut text = format!("{}\n    since {} by {}, {until}", harmless(&pause.cause), clock(pause.since), harmless(&pause.by));
    if !pause.advice.is_empty() {
        text.push_str(&format!("\n    what to do: {}", harmless(&pause.advice)));
    }
    text.push_str(&format!("\n    then: {}", harmless(&view.lift_with)));
    text
}

/// A time to the second, in UTC.
pub(super) fn clock(at: jiff::Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pause_may_be_too_short_for_a_second() {
        let args = PauseArgs::<AccountName> {
            name: "main".parse().unwrap(),
            length: Some(Length(Duration::from_millis(10))),
            because: None,
        };
        assert_eq!(args.order().seconds, Some(1));
    }
}
