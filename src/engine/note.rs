//! The notes about campaigns that are kept at the broker, so that a daemon that lost its state finds its campaigns and pauses again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::campaign::{Campaign, Pause};

/// A campaign's record and pause as of its last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The record; its counts are those of the time of writing.
    pub campaign: Campaign,
    /// Its own pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

impl Note {
    /// As the broker keeps it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what the broker kept; none when it is no note.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The campaign as it is taken up by a store that does not know it: its ledger of before is lost.
    #[must_use]
    pub fn without_ledger(self, now: Timestamp) -> (Campaign, Option<Pause>) {
        let counts = self.campaign.counts.before_any_record();
        let mut campaign = Campaign { counts, ..self.campaign };
        campaign.lose_ledger(now);
        (campaign, self.pause)
    }
}
