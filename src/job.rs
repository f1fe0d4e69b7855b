//! One recipient of one campaign: from bytes on the wire to a [`Job`] that needs no further checks. No I/O, no clock.
//!
//! The wire format stands in `config/job.schema.json`; any producer in any language may write it.

mod id;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod message;
mod recipient;
mod schema;
mod wire;

pub use id::{AccountName, CampaignId, IdError, JobId};
pub use message::{Message, MessageKind};
pub use recipient::{Recipient, RecipientError};
pub use schema::SCHEMA;
pub use wire::{JobError, MAX_BODY_BYTES};
pub(crate) use wire::{byte_offset, without_values};

use jiff::Timestamp;

/// One recipient, one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Unique within its campaign; given by the producer or derived from campaign and recipient.
    pub id: JobId,
    /// The campaign it belongs to.
    pub campaign: CampaignId,
    /// The account the producer asked for, if any.
    pub account: Option<AccountName>,
    /// Who gets the message.
    pub to: Recipient,
    /// What they get.
    pub message: Message,
    /// Never send later than this.
    pub not_after: Option<Timestamp>,
}

impl Job {
    /// Reads a job from its wire form.
    ///
    /// # Errors
    /// [`JobError`] says what is wrong and at which byte; it never quotes the body.
    pub fn parse(body: &[u8]) -> Result<Self, JobError> {
        wire::parse(body)
    }

    /// Writes the job in its wire form, ready to publish: one line.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        wire::write(self)
    }

    /// The body of the gateway request: the message with its recipient.
    #[must_use]
    pub fn request_body(&self) -> Vec<u8> {
        self.message.addressed_to(self.to)
    }
}
