//! A note about a campaign. Key `n` + campaign id; value: the note as it was given.

use crate::job::CampaignId;

pub(super) const PREFIX: &[u8] = b"n";

pub(super) fn key(campaign: &CampaignId) -> Vec<u8> {
    [PREFIX, campaign.as_str().as_bytes()].concat()
}

pub(super) fn parse_key(key: &[u8]) -> Option<CampaignId> {
    CampaignId::noted(std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was() {
        let id: CampaignId = "spring".parse().unwrap();
        assert_eq!(key(&id), b"nspring");
        assert_eq!(parse_key(b"nspring"), Some(id));
        let account = CampaignId::account_note(&"main".parse().unwrap());
        assert_eq!(parse_key(&key(&account)), Some(account.clone()));
        assert_eq!(account.noted_account(), Some("main".parse().unwrap()));
        assert_eq!(parse_key(b"n_else"), None);
    }
}
