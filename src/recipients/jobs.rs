//! From a row to a job, the same way in both passes; and the second pass itself.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::Plan;
use super::input::{InputError, Recipients};
use super::number::{NumberPlans, Standing};
use super::rows::{Next, Row, Rows, RowsError};
use super::survey::{Repeats, Survey};
use super::template::Template;
use crate::job::{Job, JobId, MAX_BODY_BYTES, Message, Recipient};

/// Most a job body holds besides its message: ids, account, number, time, names.
const MOST_AROUND_A_MESSAGE: usize = 1024;

/// What a row came to.
pub(super) enum Verdict {
    /// A job, and what is known of its number.
    Job(Recipient, Message, Standing),
    /// The recipient has had its row.
    Duplicate,
    /// It cannot become a job, for this reason, which quotes nothing of the row.
    Rejected(String),
}

/// Judges rows one after the other.
pub(super) struct Checker {
    template: Template,
    plan: Plan,
    numbers: NumberPlans,
}

impl Checker {
    pub(super) fn new(template: Template, plan: Plan) -> Self {
        Self { template, plan, numbers: NumberPlans::default() }
    }

    /// `seen`: recipients who have had their row.
    pub(super) fn judge(&mut self, row: &Row, seen: &HashSet<u64>) -> Verdict {
        match self.try_judge(row, seen) {
            Ok(verdict) => verdict,
            Err(reason) => Verdict::Rejected(reason),
        }
    }

    fn try_judge(&mut self, row: &Row, seen: &HashSet<u64>) -> Result<Verdict, String> {
        let to: Recipient = row.to.parse().map_err(|error| number_hint(&row.to, error))?;
        let standing = self.numbers.standing(to).map_err(|error| error.to_string())?;
        if seen.contains(&to.number()) {
            return Ok(Verdict::Duplicate);
        }
        Ok(Verdict::Job(to, self.message(row, to)?, standing))
    }

    fn message(&self, row: &Row, to: Recipient) -> Result<Message, String> {
        let value = |index: usize| row.values.get(index).and_then(Option::as_deref);
        let json = self.template.render_with(value).map_err(|index| self.missing(index))?;
        let message = serde_json::from_str::<&RawValue>(&json).and_then(Message::parse);
        let job = self.job(to, message.map_err(|_| self.why_no_message(to, &json))?);
        if json.len() + MOST_AROUND_A_MESSAGE > MAX_BODY_BYTES && job.to_wire().len() > MAX_BODY_BYTES {
            return Err(format!("message is too long: a job holds at most {} KiB", MAX_BODY_BYTES / 1024));
        }
        Ok(job.message)
    }

    /// The job of a recipient and its message.
    pub(super) fn job(&self, to: Recipient, message: Message) -> Job {
        Job {
            id: JobId::derived(&self.plan.campaign, to),
            campaign: self.plan.campaign.clone(),
            account: self.plan.account.clone(),
            to,
            message,
            not_after: self.plan.not_after,
        }
    }

    fn missing(&self, index: usize) -> String {
        format!("no value for {{{{ {} }}}}", self.template.names().nth(index).unwrap_or_default())
    }

    /// The job reader's own words: they never quote a value.
    fn why_no_message(&self, to: Recipient, json: &str) -> String {
        let body = format!(r#"{{"campaign_id":"{}","to":"{}","message":{json}}}"#, self.plan.campaign, to.digits());
        match Job::parse(body.as_bytes()) {
            Err(error) => error.reason,
            Ok(_) => "message is not what the gateway takes".into(),
        }
    }
}

fn number_hint(text: &str, error: crate::job::RecipientError) -> String {
    let upper = text.trim().to_ascii_uppercase();
    if upper.contains("E+") && upper.starts_with(|c: char| c.is_ascii_digit()) {
        return "recipient is a number shortened by a spreadsheet (9.05E+11); format the column as text and fill it again".into();
    }
    if upper.is_empty() { "recipient is empty".into() } else { error.to_string() }
}

/// Why the second pass stopped.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The file cannot be read any more, or has changed.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// The second pass: every job of the file, each recipient once, in the file's order. Rows the survey rejected are left out.
pub struct Jobs {
    rows: Rows,
    row: Row,
    checker: Checker,
    name: String,
    left: u64,
    /// Rows whose recipient had one before, as the survey found: to remember all recipients once more would take memory again.
    repeats: Repeats,
    read: u64,
}

impl Jobs {
    /// Begins the second pass.
    ///
    /// # Errors
    /// When the file cannot be read, or has changed.
    pub fn new(recipients: &Recipients, template: Template, plan: Plan, survey: &Survey) -> Result<Self, JobsError> {
        let blocks = recipients.second_pass(survey.fingerprints.clone())?;
        let rows = Rows::new(recipients.name(), recipients.format(), blocks, &template).map_err(|error| match error {
            RowsError::Input(error) => error,
            RowsError::Template(_) => InputError::Changed(recipients.name().to_owned()),
        })?;
        let (name, left) = (recipients.name().to_owned(), survey.jobs);
        Ok(Self {
            rows,
            row: Row::default(),
            checker: Checker::new(template, plan),
            name,
            left,
            repeats: survey.repeats.clone(),
            read: 0,
        })
    }

    fn advance(&mut self) -> Result<Option<Job>, JobsError> {
        let nobody = HashSet::new();
        loop {
            let next = self.rows.next(&mut self.row)?;
            let row = self.read;
            self.read += 1;
            match next {
                Next::Bad(_) => {}
                Next::Row if self.repeats.contains(row) => {}
                Next::End if self.left == 0 => return Ok(None),
                Next::End => return Err(InputError::Changed(self.name.clone()).into()),
                Next::Row => {
                    if let Verdict::Job(to, message, _) = self.checker.judge(&self.row, &nobody) {
                        let counted = self.left.checked_sub(1);
                        self.left = counted.ok_or_else(|| InputError::Changed(self.name.clone()))?;
                        return Ok(Some(self.checker.job(to, message)));
                    }
                }
            }
        }
    }
}

impl Iterator for Jobs {
    type Item = Result<Job, JobsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
