//! `campaignd policy explain`: which rule matches a reply, and what it does, in sentences.

mod reply;

use std::time::Duration;

use rand::SeedableRng;
use serde_json::{Value, json};

use self::reply::ReplyArgs;
use super::super::table::{harmless, print, print_json};
use super::super::{Exit, Failure, Globals};
use super::Source;
use crate::campaign::OnUnknown;
use crate::dice::Dice;
use crate::gateway::Reply;
use crate::job::MessageKind;
use crate::policy::{ACCEPTED, Decision, History, JobAction, NO_RULE, PauseOrder, Rule, Rules, Subject, decide};
use crate::units::{parse_duration, show_duration};

/// Arguments of `campaignd policy explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    reply: ReplyArgs,
    /// How long the gateway asks to wait, for example 60s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    retry_after: Option<Duration>,
    /// The campaign sends by Marketing Messages Lite
    #[arg(long)]
    mmlite: bool,
    /// The message's type
    #[arg(long, value_name = "TYPE", default_value = "template", value_parser = word::<MessageKind>)]
    message: MessageKind,
    /// Attempts the job has used, this one included
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    attempts: u32,
    /// What the campaign says about unknown outcomes: park or resend; without it both are told
    #[arg(long, value_name = "WORD", value_parser = word::<OnUnknown>)]
    on_unknown: Option<OnUnknown>,
    /// The reply has come so often in a row
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeated: u32,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Reads one of an enum's names, as job and campaign files write them.
fn word<T: for<'de> serde::Deserialize<'de>>(text: &str) -> Result<T, String> {
    T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text))
        .map_err(|error| error.to_string().replace("variant", "word"))
}

pub(super) fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    let (reply, described) = args.reply.build(args.retry_after);
    let subject = subject(&args)?;
    let rules = Rules::load(args.source.file(globals)?.as_deref())?;
    let decision = judge(&rules, &subject, &reply, args.repeated);
    let rule = rules.find(&subject, &reply);
    if args.json {
        print_json(&as_json(&decision, rule, args.on_unknown))?;
    } else {
        print(harmless(&sentences(&decision, rule, &described, &args)))?;
    }
    Ok(Exit::Ok)
}

fn subject(args: &Args) -> Result<Subject, Failure> {
    let bug = |error: &dyn std::error::Error| Failure::new(Exit::Software, format_args!("the example is wrong: {error}"));
    Ok(Subject {
        account: "account".parse().map_err(|error| bug(&error))?,
        campaign: "campaign".parse().map_err(|error| bug(&error))?,
        to: "905321234567".parse().map_err(|error| bug(&error))?,
        message: args.message,
        mmlite: args.mmlite,
        attempts: args.attempts,
    })
}

/// The decision about the last of so many equal replies. The dice are fixed, so that the same question gets the same answer.
fn judge(rules: &Rules, subject: &Subject, reply: &Reply, times: u32) -> Decision {
    let (mut history, mut dice) = (History::default(), Dice::seed_from_u64(0));
    let mut once = || decide(rules, &mut history, subject, reply, jiff::Timestamp::UNIX_EPOCH, &mut dice);
    for _ in 1..times {
        let _ = once();
    }
    once()
}

fn sentences(decision: &Decision, rule: Option<&Rule>, described: &str, args: &Args) -> String {
    let mut lines = vec![format!("Reply:  {described}"), headline(decision, rule), String::new()];
    lines.push(job_sentence(decision.job, args.on_unknown));
    let is_parked = matches!(decision.job, JobAction::Unknown { .. }) && args.on_unknown == Some(OnUnknown::Park);
    if !is_parked {
        lines.extend(rule.and_then(|rule| schedule(rule, args.attempts)));
    }
    lines.extend(decision.pause.map(pause_sentence));
    if let Some(length) = decision.hold_account {
        lines.push(format!("No request of the account starts for {}.", show_duration(length)));
    }
    lines.extend(decision.slow_down.map(|slow_down| format!("The account is slowed down {slow_down}.")));
    lines.push(decision.alert.map_or_else(|| "Nobody is alerted.".into(), |alert| format!("A {alert} alert is raised.")));
    if let Some(repeated) = rule.and_then(|rule| rule.repeated.as_ref()) {
        lines.push(format!("It changes {repeated}."));
    }
    let advice = rule.map_or(&*decision.advice, |rule| &*rule.advice);
    if !advice.is_empty() {
        lines.push(String::new());
        lines.push(format!("Advice: {}", advice.replace("{account}", "ACCOUNT").replace("{campaign}", "CAMPAIGN")));
    }
    lines.join("\n")
}

fn headline(decision: &Decision, rule: Option<&Rule>) -> String {
    match (&*decision.rule, rule) {
        (ACCEPTED, _) => "Rule:   none is asked".into(),
        (NO_RULE, _) => "Rule:   none matches; this is the last resort".into(),
        (name, Some(rule)) => format!("Rule:   {name} ({})", rule.when),
        (name, None) => format!("Rule:   {name}"),
    }
}

fn job_sentence(job: JobAction, on_unknown: Option<OnUnknown>) -> String {
    match (job, on_unknown) {
        (JobAction::Unknown { .. }, Some(OnUnknown::Park)) => JobAction::Unknown { retry: None }.to_string(),
        (JobAction::Unknown { retry: Some(delay) }, Some(OnUnknown::Resend)) => {
            format!("Nobody knows whether it was sent; the campaign wants it again. {}", JobAction::Retry(delay))
        }
        _ => job.to_string(),
    }
}

fn schedule(rule: &Rule, attempts: u32) -> Option<String> {
    use crate::policy::JobPlan::{Retry, Unknown};
    let (Retry(delays) | Unknown(delays)) = &rule.job else {
        return None;
    };
    let listed: Vec<_> = delays.iter().map(|&delay| show_duration(delay)).collect();
    Some(format!(
        "Delays: {}, each drawn between 80 % and 100 %; this was attempt {attempts} of {}.",
        listed.join(", "),
        delays.len() + 1
    ))
}

fn pause_sentence(pause: PauseOrder) -> String {
    format!("Paused: {pause}.")
}

fn as_json(decision: &Decision, rule: Option<&Rule>, on_unknown: Option<OnUnknown>) -> Value {
    let seconds = |length: Duration| length.as_secs_f64();
    let (action, delay) = match decision.job {
        JobAction::Sent => ("sent", None),
        JobAction::Retry(delay) => ("retry", Some(delay)),
        JobAction::Wait(delay) => ("wait", Some(delay)),
        JobAction::Hold => ("hold", None),
        JobAction::DeadLetter => ("dead-letter", None),
        JobAction::Suppress => ("suppress", None),
        JobAction::Unknown { retry: Some(delay) } if on_unknown == Some(OnUnknown::Resend) => ("retry", Some(delay)),
        JobAction::Unknown { retry } => ("unknown", retry),
    };
    json!({
        "rule": &*decision.rule,
        "job": { "action": action, "delay_seconds": delay.map(seconds), "says": job_sentence(decision.job, on_unknown) },
        "pause": decision.pause.map(|pause| json!({
            "scope": pause.scope, "seconds": pause.length.map(seconds), "probe": pause.probe,
        })),
        "hold_account_seconds": decision.hold_account.map(seconds),
        "slow_down": decision.slow_down.map(|slow| json!({ "factor": slow.factor, "seconds": seconds(slow.length) })),
        "alert": decision.alert,
        "repeated": rule.and_then(|rule| rule.repeated.as_ref()).map(ToString::to_string),
        "advice": rule.map_or(&*decision.advice, |rule| &*rule.advice),
    })
}
