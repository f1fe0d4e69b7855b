//! A campaign's file becomes jobs: a recipients file (CSV or NDJSON) and a message file with `{{ column }}` placeholders.
//!
//! Read twice, streaming. The first pass ([`Survey`]) checks every row and counts; nothing is published until the whole file is
//! known to be good. The second ([`Jobs`]) yields the jobs. A file that changes in between is noticed before a changed byte is used.

mod csv;
mod input;
mod jobs;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod ndjson;
mod number;
mod rows;
mod survey;
mod template;

pub use input::{Format, InputError, MessageFile, Recipients};
pub use jobs::{Jobs, JobsError};
pub use survey::{Country, MAX_LISTED, Notes, Rejected, Survey, SurveyError};
pub use template::{Template, TemplateError};

use jiff::Timestamp;

use crate::job::{AccountName, CampaignId};

/// What every job of a batch has in common.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The campaign they belong to.
    pub campaign: CampaignId,
    /// The account they ask for, if any.
    pub account: Option<AccountName>,
    /// Never send later than this.
    pub not_after: Option<Timestamp>,
    /// Goes into the batch's name besides the files: options as the operator wrote them.
    pub options: String,
}
