//! What the daemon knows of the campaign already, and whether its jobs would be sent at all.

use std::time::Duration;

use tokio::time::timeout;

use crate::cli::client::Client;
use crate::config::Config;
use crate::engine::{CampaignState, CampaignView};
use crate::job::{AccountName, CampaignId};

/// Longest wait for the daemon. Without it nothing is known: the jobs wait at the broker, and it decides when it is there.
const WITHIN: Duration = Duration::from_secs(5);

/// The campaign as the daemon shows it; none when it does not know it, or cannot be asked.
pub(super) async fn known(config: &Config, campaign: &CampaignId) -> Option<CampaignView> {
    let client = Client::new(config).ok()?;
    timeout(WITHIN, client.get(&format!("v1/campaigns/{campaign}"), &())).await.ok()?.ok()
}

/// Why nothing that is enqueued under this campaign's id is sent any more, if so.
pub(in crate::cli) fn over_for_good(view: &CampaignView) -> Option<String> {
    let id = &view.id;
    if view.ledger_gone {
        let why = "is long over and its ledger cleaned up: nobody can tell any more who got it, so nothing of it is sent again";
        return Some(format!("campaign {id} {why}. Use another campaign id"));
    }
    (view.state == CampaignState::Cancelled)
        .then(|| format!("campaign {id} was cancelled: nothing of it is sent any more. Use another campaign id"))
}

/// Why jobs for this account are not sent by it, if so.
pub(super) fn other_account(view: &CampaignView, asked: &AccountName) -> Option<String> {
    let (id, account) = (&view.id, &view.account);
    let text = format!(
        "campaign {id} began with account {account} and keeps it; this asks for account {asked}. Use another campaign id"
    );
    (account != asked).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::campaign::tests::view;

    #[test]
    fn an_id_that_is_over_for_good_is_refused_with_its_reason() {
        assert_eq!(over_for_good(&view()), None);
        let cancelled = CampaignView { state: CampaignState::Cancelled, ..view() };
        assert!(over_for_good(&cancelled).is_some_and(|why| why.contains("cancelled")));
        let old = CampaignView { state: CampaignState::Finished, ledger_gone: true, ..view() };
        assert!(over_for_good(&old).is_some_and(|why| why.contains("nobody can tell any more who got it")));
        assert_eq!(over_for_good(&CampaignView { ledger_gone: false, ..old }), None, "a finished one goes on");
    }

    #[test]
    fn a_campaign_keeps_its_account() {
        assert_eq!(other_account(&view(), &"main".parse().unwrap()), None);
        assert!(other_account(&view(), &"other".parse().unwrap()).is_some_and(|why| why.contains("began with account main")));
    }
}
