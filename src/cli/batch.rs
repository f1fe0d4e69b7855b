//! What `enqueue` and `send` share: the two files and the options, read and checked before anything is published.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::progress::spinner;
use super::words::count;
use super::{Exit, Failure};
use crate::broker::{ANNOUNCEMENT, Headers, Message};
use crate::campaign::{Announcement, OnUnknown, Options, Priority};
use crate::job::{AccountName, CampaignId};
use crate::recipients::{Format, InputError, Jobs, JobsError, MessageFile, Plan, Recipients, Survey, SurveyError, Template};
use crate::units::parse_duration;

/// The files and options of a batch.
#[derive(Debug, clap::Args)]
pub(super) struct BatchArgs {
    /// The campaign's id: a-z 0-9 . _ - and at most 64 characters. The same id again means the same campaign
    #[arg(long, value_name = "ID")]
    pub(super) campaign: CampaignId,
    /// Who gets it: CSV with a header (`to`, and a column per variable) or NDJSON; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) recipients: PathBuf,
    /// What they get: the gateway's message object as JSON; {{ column }} in a string is replaced
    #[arg(long, value_name = "FILE")]
    pub(super) message: PathBuf,
    /// How the recipients file is written; without it, by its name, else by its first character
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// The account (API key) to send by; the default account without it
    #[arg(long, value_name = "NAME")]
    pub(super) account: Option<AccountName>,
    /// A rehearsal: the gateway checks everything and sends nothing (`is_fake`)
    #[arg(long)]
    pub(super) sandbox: bool,
    /// Send by Meta's Marketing Messages Lite
    #[arg(long)]
    pub(super) mmlite: bool,
    /// When nobody knows whether a message was sent: park it for a person to decide, or resend it and risk a second copy
    #[arg(long, value_enum, default_value_t)]
    pub(super) on_unknown: OnUnknownArg,
    /// The campaign's share of the account's turns
    #[arg(long, value_enum, default_value_t)]
    pub(super) priority: PriorityArg,
    /// Never send later than this: a time (2026-11-30T18:00:00+03:00), or a length from now (6h)
    #[arg(long, value_name = "WHEN")]
    pub(super) not_after: Option<String>,
    /// Go on without the rows that are wrong; they are listed all the same
    #[arg(long)]
    pub(super) skip_invalid: bool,
}

/// `--on-unknown`.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum OnUnknownArg {
    /// Never twice: it waits in the dead letters for a person
    #[default]
    Park,
    /// Never missing: possibly twice
    Resend,
}

/// `--priority`.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum PriorityArg {
    /// One job a turn
    Low,
    /// Two jobs a turn
    #[default]
    Normal,
    /// Four jobs a turn
    High,
}

impl BatchArgs {
    /// Two files and nothing else said.
    pub(super) fn plain(campaign: CampaignId, recipients: PathBuf, message: PathBuf) -> Self {
        Self {
            campaign,
            recipients,
            message,
            format: None,
            account: None,
            sandbox: false,
            mmlite: false,
            on_unknown: OnUnknownArg::default(),
            priority: PriorityArg::default(),
            not_after: None,
            skip_invalid: false,
        }
    }

    fn options(&self) -> Options {
        Options {
            sandbox: self.sandbox,
            mmlite: self.mmlite,
            on_unknown: match self.on_unknown {
                OnUnknownArg::Park => OnUnknown::Park,
                OnUnknownArg::Resend => OnUnknown::Resend,
            },
            priority: match self.priority {
                PriorityArg::Low => Priority::Low,
                PriorityArg::Normal => Priority::Normal,
                PriorityArg::High => Priority::High,
            },
        }
    }
}

/// A batch whose every row has been looked at.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) recipients: Recipients,
    pub(super) template: Template,
    pub(super) plan: Plan,
    pub(super) options: Options,
    pub(super) survey: Survey,
}

impl Batch {
    /// Reads both files from end to end.
    ///
    /// # Errors
    /// When a file cannot be read or the message is wrong. Wrong rows are no error here: see [`Batch::insist`].
    pub(super) fn read(args: &BatchArgs, now: Timestamp) -> Result<Self, Failure> {
        let message = MessageFile::read(&args.message)?;
        let template = Template::parse(&message).map_err(|error| Failure::new(Exit::Data, error))?;
        let recipients = Recipients::open(&args.recipients, args.format)?;
        let options = args.options();
        let plan = Plan {
            campaign: args.campaign.clone(),
            account: args.account.clone(),
            not_after: args.not_after.as_deref().map(|text| not_after(text, now)).transpose()?,
            // As written: the same words give the same batch name, whenever the command is repeated.
            options: format!("{options:?} {:?} {}", args.not_after, args.skip_invalid),
        };
        let survey = Survey::take(&recipients, &template, &plan, spinner("checking"))?;
        Ok(Self { recipients, template, plan, options, survey })
    }

    /// Refuses the whole file for one wrong row, unless told to go on without them.
    ///
    /// # Errors
    /// With the wrong rows by line and reason; also when nothing is left to send.
    pub(super) fn insist(&self, skip_invalid: bool) -> Result<(), Failure> {
        let (survey, name) = (&self.survey, self.recipients.name());
        if survey.rejected > 0 && !skip_invalid {
            let text = format!(
                "{}\n{} of {} rows are wrong; nothing was published. Mend them, or add --skip-invalid to go on without them",
                self.wrong_rows(),
                count(survey.rejected),
                count(survey.rows)
            );
            return Err(Failure::new(Exit::Data, text));
        }
        if survey.jobs == 0 {
            return Err(Failure::new(Exit::Data, format_args!("{name} holds no recipient to send to; nothing was published")));
        }
        Ok(())
    }

    /// The wrong rows, one a line, the first hundred of them.
    pub(super) fn wrong_rows(&self) -> String {
        let (survey, name) = (&self.survey, self.recipients.name());
        let mut lines = vec![format!("{name} has rows that cannot be sent:")];
        lines.extend(survey.listed.iter().map(|rejected| format!("  line {}: {}", rejected.line, rejected.reason)));
        let rest = survey.rejected.saturating_sub(survey.listed.len() as u64);
        if rest > 0 {
            lines.push(format!("  … and {} more", count(rest)));
        }
        lines.join("\n")
    }

    /// What is announced before the first job is published.
    pub(super) fn announcement(&self, sealed: bool) -> Announcement {
        Announcement {
            campaign_id: self.plan.campaign.clone(),
            account: self.plan.account.clone(),
            options: self.options,
            jobs: sealed.then_some(self.survey.jobs),
            batch: Some(self.survey.batch.clone()),
        }
    }

    /// The same as a message.
    pub(super) fn announcement_message(&self, sealed: bool) -> Message {
        let body = serde_json::to_vec(&self.announcement(sealed)).unwrap_or_default();
        let headers = Headers { kind: Some(ANNOUNCEMENT.into()), batch: Some(self.survey.batch.clone()), ..Headers::default() };
        Message { body: Bytes::from(body), headers }
    }

    /// The second pass.
    pub(super) fn jobs(&self) -> Result<Jobs, JobsError> {
        Jobs::new(&self.recipients, self.template.clone(), self.plan.clone(), &self.survey)
    }

    /// How long it takes at this many messages per second.
    pub(super) fn length_at(&self, per_second: f64) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = self.survey.jobs as f64 / per_second;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

fn not_after(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let wrong = || {
        let what = format!("--not-after {text:?} is neither a time (2026-11-30T18:00:00+03:00) nor a length from now (30m, 6h)");
        Failure::new(Exit::Usage, what)
    };
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let length = parse_duration(text).map_err(|_| wrong())?;
            SignedDuration::try_from(length).ok().and_then(|length| now.checked_add(length).ok()).ok_or_else(wrong)?
        }
    };
    if at <= now {
        return Err(Failure::new(Exit::Usage, format_args!("--not-after {text} is past already; nothing could be sent")));
    }
    Ok(at)
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        let exit = match error {
            InputError::Io { .. } => Exit::NoInput,
            InputError::Shape(_) | InputError::Changed(_) => Exit::Data,
        };
        Self::new(exit, error)
    }
}

impl From<SurveyError> for Failure {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::Input(error) => error.into(),
            SurveyError::Template(error) => Self::new(Exit::Data, error),
        }
    }
}

impl From<JobsError> for Failure {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::Input(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moment_is_a_time_or_a_length() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = |text| not_after(text, now).map(|at| at.to_string());
        assert_eq!(at("6h").unwrap(), "2026-11-22T18:00:00Z");
        assert_eq!(at("2026-11-30T18:00:00+03:00").unwrap(), "2026-11-30T15:00:00Z");
        for wrong in ["", "tomorrow", "6", "2026-11-22T11:00:00Z", "0s"] {
            assert_eq!(at(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
