//! What a batch will come to, told before anything is published.

use std::time::Duration;

use serde::Serialize;

use super::known::{other_account, over_for_good};
use crate::cli::batch::Batch;
use crate::cli::table::{Table, harmless};
use crate::cli::words::{count, many, percent, span};
use crate::config::Config;
use crate::engine::CampaignView;
use crate::job::{AccountName, MessageKind};
use crate::pacer::Limits;
use crate::recipients::Survey;

/// Countries shown in the table; the rest are added up.
const COUNTRIES_SHOWN: usize = 20;

/// Characters of the sample shown.
const SAMPLE_CHARS: usize = 2000;

/// The plan, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Preflight<'a> {
    campaign: &'a str,
    account: Option<AccountName>,
    /// Messages per second that the account's limits allow.
    per_second: Option<f64>,
    /// How long that takes, in seconds.
    seconds: Option<u64>,
    warnings: Vec<String>,
    /// Why nothing of it would be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(flatten)]
    survey: &'a Survey,
    #[serde(skip)]
    batch: &'a Batch,
}

impl<'a> Preflight<'a> {
    pub(super) fn new(batch: &'a Batch, config: &Config, known: Option<&CampaignView>) -> Self {
        let account = batch.plan.account.clone().or_else(|| config.default_account().cloned());
        let limits = account.as_ref().and_then(|name| config.accounts.get(name)).map(|account| account.plan.limits);
        let per_second = limits.and_then(rate);
        let length = per_second.and_then(|rate| batch.length_at(rate));
        let mut warnings = warnings(batch);
        match (&account, limits) {
            (Some(name), None) => warnings.push(format!(
                "account {name} does not stand in {}: the campaign will be paused until the daemon knows it",
                config.source
            )),
            (None, _) => warnings.push(format!(
                "no --account, and {} has no default account: the daemon's default account will send it",
                config.source
            )),
            _ => {}
        }
        warnings.extend(late(batch, length));
        let other = known.zip(account.as_ref()).and_then(|(view, asked)| other_account(view, asked));
        // without --account the campaign's own would send it
        let (refused, warning) = if batch.plan.account.is_some() { (other, None) } else { (None, other) };
        warnings.extend(warning);
        let refused = known.and_then(over_for_good).or(refused);
        let survey = &batch.survey;
        let seconds = length.map(|length| length.as_secs());
        Self { campaign: batch.plan.campaign.as_str(), account, per_second, seconds, warnings, refused, survey, batch }
    }

    /// Why nothing of it would be sent, if so.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// What should be read before going on, one a line.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    /// The whole plan.
    pub(super) fn text(&self) -> String {
        let survey = self.survey;
        let file = self.batch.recipients.name();
        let mut lines = vec![
            format!("campaign    {}", self.campaign),
            format!("account     {}", self.account.as_ref().map_or("(the daemon's default)", |name| name.as_str())),
            format!("recipients  {} from {}", count(survey.jobs), many(survey.rows, "row")),
            format!("duplicates  {}{}", count(survey.duplicates), at_lines(&survey.duplicate_lines, survey.duplicates)),
            format!("rejected    {}", count(survey.rejected)),
            format!(
                "unlikely    {}{}",
                count(survey.notes.unlikely),
                at_lines(&survey.notes.unlikely_lines, survey.notes.unlikely)
            ),
            format!("takes       {}", self.takes()),
            format!("batch       {} ({file})", survey.batch),
        ];
        if survey.rejected > 0 {
            lines.push(format!("\n{}", self.batch.wrong_rows()));
        }
        if !survey.countries.is_empty() {
            lines.push(format!("\n{}", countries(survey).text()));
        }
        if let Some((to, json)) = &survey.sample {
            let json: String = json.chars().take(SAMPLE_CHARS).collect();
            lines.push(format!("\nThe first message, to {to}:\n{}", harmless(&json)));
        }
        if !self.warnings.is_empty() {
            lines.push(String::new());
            lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        }
        if let Some(why) = &self.refused {
            lines.push(format!("\nThis would be refused: {why}"));
        }
        lines.join("\n")
    }

    fn takes(&self) -> String {
        match (self.per_second, self.seconds) {
            (Some(rate), Some(seconds)) => format!("{} at {rate:.0} messages/s", span(Duration::from_secs(seconds))),
            _ => "not known: the account's rate does not stand in this configuration".into(),
        }
    }
}

/// Messages per second that both windows allow in the long run.
fn rate(limits: Limits) -> Option<f64> {
    let minute = limits.minute.map(|minute| f64::from(minute) / 60.0);
    let second = limits.second.map(f64::from);
    match (second, minute) {
        (Some(second), Some(minute)) => Some(second.min(minute)),
        (second, minute) => second.or(minute),
    }
}

fn at_lines(lines: &[u64], all: u64) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = lines.iter().map(|&line| count(line)).collect();
    let more = if all > lines.len() as u64 { ", …" } else { "" };
    format!(" (line{} {}{more})", if all == 1 { "" } else { "s" }, shown.join(", "))
}

fn countries(survey: &Survey) -> Table {
    let mut table = Table::new(["country", "code", "recipients", "share", "unlikely"]).right([1, 2, 3, 4]);
    let mut all: Vec<_> = survey.countries.iter().collect();
    all.sort_by_key(|(id, country)| (std::cmp::Reverse(country.jobs), **id));
    for (id, country) in all.iter().take(COUNTRIES_SHOWN) {
        let (code, share) = (format!("+{}", country.code), percent(country.jobs, survey.jobs));
        table.row([(**id).to_owned(), code, count(country.jobs), share, count(country.unlikely)]);
    }
    let rest = all.iter().skip(COUNTRIES_SHOWN);
    let (jobs, unlikely) = rest.fold((0, 0), |(jobs, unlikely), (_, country)| (jobs + country.jobs, unlikely + country.unlikely));
    if jobs > 0 {
        let others = format!("{} others", all.len() - COUNTRIES_SHOWN);
        table.row([others, String::new(), count(jobs), percent(jobs, survey.jobs), count(unlikely)]);
    }
    table
}

/// What is likely to fail, as far as it can be seen from here.
pub(in crate::cli) fn warnings(batch: &Batch) -> Vec<String> {
    let (survey, notes, kind) = (&batch.survey, &batch.survey.notes, batch.template.kind());
    let template = kind == MessageKind::Template;
    let us = survey.countries.get("US").map_or(0, |country| country.jobs);
    let columns = notes.unused_columns.join(", ");
    let said = [
        (
            template && us > 0,
            format!("{} in the United States (+1): Meta delivers no marketing templates there", many(us, "recipient")),
        ),
        (
            kind == MessageKind::Text,
            "free text reaches only people who wrote to you within the last 24 hours; others need a template".into(),
        ),
        (
            batch.options.mmlite && !template,
            "--mmlite takes marketing templates only; every message of another kind will be refused".into(),
        ),
        (notes.unlikely > 0, format!("{} in no range that is in use: probably not on WhatsApp", many(notes.unlikely, "number"))),
        (
            notes.empty_values > 0,
            format!("{} with an empty value: Meta refuses empty template parameters", many(notes.empty_values, "message")),
        ),
        (
            notes.awkward_values > 0,
            format!(
                "{} with a line end, tab or long run of spaces in a value: Meta refuses those in template parameters",
                many(notes.awkward_values, "message")
            ),
        ),
        (!notes.unused_columns.is_empty(), format!("the message does not use: {columns}")),
        (
            batch.options.sandbox,
            "--sandbox: nothing will reach a phone. Use another campaign id for the real one, or its jobs count as sent".into(),
        ),
    ];
    said.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text).collect()
}

/// How many will be too late, if the account sends nothing else.
fn late(batch: &Batch, length: Option<Duration>) -> Option<String> {
    let (not_after, length) = (batch.plan.not_after?, length?);
    let left = not_after.duration_since(crate::clock::Clock::system().wall());
    let left = Duration::try_from(left).unwrap_or_default();
    (length > left).then(|| {
        let share = left.as_secs_f64() / length.as_secs_f64().max(1e-9);
        format!(
            "sending takes {}, but --not-after is in {}: about {:.0} % will not be sent",
            span(length),
            span(left),
            (1.0 - share) * 100.0
        )
    })
}
