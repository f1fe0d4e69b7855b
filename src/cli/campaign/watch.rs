//! `campaignd campaign watch`: until it is finished, paused, or the person has seen enough.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::describe;
use crate::cli::account::because;
use crate::cli::client::Client;
use crate::cli::progress::Progress;
use crate::cli::table::print;
use crate::cli::words::state;
use crate::engine::{CampaignState, CampaignView, PauseView};
use crate::exit::{Exit, Failure};
use crate::job::CampaignId;
use crate::signals::Signals;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A daemon that restarts is waited for this long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn watch(client: &Client, campaign: &CampaignId, json: bool) -> Result<Exit, Failure> {
    let mut progress = Progress::new(campaign.as_str(), json);
    let mut last: Option<CampaignView> = None;
    let mut seen = None;
    let mut signals = Signals::listen()?;
    let mut wait = Duration::ZERO;
    loop {
        let next = async {
            sleep(wait).await;
            look(client, campaign, &mut seen).await
        };
        let view = tokio::select! {
            biased;
            _ = signals.stop() => {
                progress.end();
                return Ok(Exit::Interrupted);
            }
            view = next => view?,
        };
        wait = LOOK_EVERY;
        if json && last.as_ref() != Some(&view) {
            print(serde_json::to_string(&view).unwrap_or_default())?;
        }
        progress.campaign(&view)?;
        if let Some(exit) = ending(&view) {
            progress.end();
            if !json {
                print(closing(&view))?;
            }
            return Ok(exit);
        }
        last = Some(view);
    }
}

/// A look, patient once there has been an answer: a daemon may restart under the eyes of whoever watches.
async fn look(client: &Client, campaign: &CampaignId, seen: &mut Option<Instant>) -> Result<CampaignView, Failure> {
    loop {
        match client.get(&format!("v1/campaigns/{campaign}"), &()).await {
            Ok(view) => {
                *seen = Some(Instant::now());
                return Ok(view);
            }
            Err(error) if error.passing && seen.is_some_and(|at| at.elapsed() < PATIENCE) => sleep(LOOK_EVERY).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A pause that ends by itself is no end.
fn ending(view: &CampaignView) -> Option<Exit> {
    match view.state {
        CampaignState::Finished => Some(Exit::Ok),
        CampaignState::Cancelled if view.waiting + view.delayed + view.in_flight == 0 => Some(Exit::Ok),
        CampaignState::Cancelled => None,
        CampaignState::Running | CampaignState::Paused => holding(view).map(|_| Exit::TempFail),
    }
}

fn holding(view: &CampaignView) -> Option<&PauseView> {
    let pauses = [&view.pause, &view.account_pause];
    pauses.into_iter().flatten().find(|pause| pause.pause.until.is_none())
}

fn closing(view: &CampaignView) -> String {
    match holding(view) {
        Some(pause) if !view.state.is_over() => {
            format!("campaign {} is {}: {}", view.id, state(view), because(pause))
        }
        _ => describe(view),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;
    use crate::campaign::Pause;

    #[test]
    fn watching_ends_with_the_campaign_or_a_pause_that_does_not_end_by_itself() {
        let mut seen = view();
        assert_eq!(ending(&seen), None);
        let pause = |until| PauseView { pause: Pause::example(until), lift_with: "x".into() };
        seen.state = CampaignState::Paused;
        seen.account_pause = Some(pause(Some(seen.created)));
        assert_eq!(ending(&seen), None);
        seen.pause = Some(pause(None));
        assert_eq!(ending(&seen), Some(Exit::TempFail));
        seen.state = CampaignState::Cancelled;
        assert_eq!(ending(&seen), None);
        (seen.waiting, seen.delayed, seen.in_flight) = (0, 0, 0);
        assert_eq!(ending(&seen), Some(Exit::Ok));
    }
}
