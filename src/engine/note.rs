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

    /// The campaign as it is taken up by a store that does not know it: its ledger of before is lost. The note may be behind: its queue
    /// may be there again.
    #[must_use]
    pub fn without_ledger(self, now: Timestamp) -> (Campaign, Option<Pause>) {
        let mut campaign = Campaign { queue_gone: false, ..self.campaign };
        campaign.recount(None);
        campaign.lose_ledger(now);
        (campaign, self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::Options;

    #[test]
    fn a_queue_that_a_note_calls_gone_is_looked_for_again_when_the_ledger_is_lost() {
        let now = Timestamp::UNIX_EPOCH;
        let mut campaign = Campaign::new("c".parse().unwrap(), "main".parse().unwrap(), Options::default(), now);
        campaign.finish(now);
        campaign.queue_gone = true;
        let (taken_up, _) = Note { campaign, pause: None }.without_ledger(now);
        assert!(!taken_up.queue_gone, "opened again since, it has one");
        assert_eq!(taken_up.losses, 1);
    }
}
