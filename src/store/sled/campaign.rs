//! A campaign's record. Key `c` + campaign id; value: the [`Campaign`] as JSON, members added later being optional.

use crate::campaign::Campaign;
use crate::job::CampaignId;

pub(super) const PREFIX: &[u8] = b"c";

pub(super) fn key(id: &CampaignId) -> Vec<u8> {
    [PREFIX, id.as_str().as_bytes()].concat()
}

pub(super) fn encode(campaign: &Campaign) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(campaign)
}

pub(super) fn decode(value: &[u8]) -> Result<Campaign, serde_json::Error> {
    serde_json::from_slice(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::campaign::{Options, Phase};

    proptest! {
        #[test]
        fn comes_back_as_it_was(id in "[a-z0-9][a-z0-9._-]{0,63}", seconds in 0_i64..4_000_000_000, jobs: u64, name in proptest::option::of("[ -~]{0,40}")) {
            let created = jiff::Timestamp::from_second(seconds).unwrap();
            let mut campaign = Campaign::new(id.parse().unwrap(), "main".parse().unwrap(), Options::default(), created);
            campaign.counts.announce(name.as_deref(), jobs);
            campaign.cancel(created);
            prop_assert_eq!(campaign.phase, Phase::Cancelled);
            prop_assert_eq!(decode(&encode(&campaign).unwrap()).unwrap(), campaign);
        }
    }

    #[test]
    fn a_record_of_the_first_version_is_still_read() {
        let stored = br#"{"id":"spring","account":"main","phase":"running","created":"2026-11-22T15:00:00Z"}"#;
        let campaign = decode(stored).unwrap();
        assert_eq!(key(&campaign.id), b"cspring");
        assert_eq!(campaign.options, Options::default());
    }
}
