//! From the engine's state to what operators see.

use crate::broker::{Death, Delivery};
use crate::campaign::Pause;
use crate::engine::view::{DeadLetter, PauseView};
use crate::job::{AccountName, CampaignId, Job};

pub(super) fn account_pause(name: &AccountName, pause: &Pause) -> PauseView {
    PauseView { pause: pause.clone(), lift_with: format!("campaignd account resume {name}") }
}

pub(super) fn campaign_pause(id: &CampaignId, pause: &Pause) -> PauseView {
    PauseView { pause: pause.clone(), lift_with: format!("campaignd campaign resume {id}") }
}

pub(super) fn dead_letter(campaign: &CampaignId, letter: &Delivery, with_body: bool) -> DeadLetter {
    let headers = &letter.message.headers;
    let job = Job::parse(&letter.message.body).ok();
    let unsaid =
        || Death { description: "the message carries no reason".into(), ..Death::new(jiff::Timestamp::UNIX_EPOCH, "unknown") };
    DeadLetter {
        campaign: campaign.clone(),
        job: job.as_ref().map(|job| job.id.clone()),
        to: job.as_ref().map(|job| job.to.to_string()),
        death: headers.death.as_deref().cloned().unwrap_or_else(unsaid),
        attempts: headers.attempts,
        release: headers.release,
        first_seen: headers.first_seen,
        body: with_body.then(|| String::from_utf8_lossy(&letter.message.body).into_owned()),
    }
}
