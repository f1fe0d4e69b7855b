//! A running lane goes on by another account, other rules and settings; its account may come to stand in the configuration, or cease to.

use std::sync::Arc;

use jiff::Timestamp;

use super::Lane;
use crate::alert::{Alert, Status};
use crate::campaign::{Pause, Phase};
use crate::engine::{Account, Settings};
use crate::job::{AccountName, CampaignId};
use crate::policy::{Rules, Severity};

/// What a lane is given anew.
pub(in crate::engine) struct LaneReload {
    /// None when the account does not stand in the configuration any more.
    pub(in crate::engine) account: Option<Account>,
    pub(in crate::engine) rules: Arc<Rules>,
    pub(in crate::engine) settings: Settings,
}

/// The rule that says an account does not stand in the configuration.
const NOT_CONFIGURED: &str = "account-not-configured";

/// The pause of an account that does not stand in the configuration.
pub(super) fn not_configured(name: &AccountName, now: Timestamp) -> Pause {
    Pause {
        cause: format!("account {name} does not stand in the configuration"),
        rule: Some(NOT_CONFIGURED.into()),
        since: now,
        until: None,
        by: "daemon".into(),
        advice: format!(
            "Add [accounts.{name}] to the configuration and reload campaignd (restart it if the key is a systemd \
             credential); its jobs are untouched and go on then."
        ),
        probe: false,
    }
}

impl Lane {
    pub(super) fn reload(&mut self, reload: LaneReload) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let LaneReload { account, rules, settings } = reload;
        self.journal.set_linger(settings.linger);
        (self.rules, self.settings) = (rules, settings);
        match account {
            Some(account) => {
                self.max_in_flight = account.max_in_flight.max(1);
                self.pacer.replan(account.plan, now);
                if let Err(pause) = std::mem::replace(&mut self.gateway, Ok(account.gateway)) {
                    self.resolve(&pause, None);
                }
            }
            None if self.gateway.is_ok() => {
                self.gateway = Err(not_configured(&self.account, wall));
                tracing::warn!(account = %self.account, "no longer in the configuration; its campaigns wait");
                let waiting = self.rolls.values().find(|roll| roll.campaign.phase == Phase::Running);
                if let Some(id) = waiting.map(|roll| roll.campaign.id.clone()) {
                    self.complain_of_configuration(&id);
                }
                self.take_back(now);
            }
            None => {}
        }
        self.attention.extend(self.rolls.keys().cloned());
    }

    /// What pauses the whole account, if anything.
    pub(super) fn account_pause(&self) -> Option<&Pause> {
        self.gateway.as_ref().err().or_else(|| self.gate.pause())
    }

    /// Alerts if a campaign waits because its account does not stand in the configuration.
    pub(super) fn complain_of_configuration(&self, id: &CampaignId) {
        let Err(pause) = &self.gateway else { return };
        self.alerts.raise(Alert {
            status: Status::Firing,
            severity: Severity::Critical,
            rule: NOT_CONFIGURED.into(),
            account: Some(self.account.clone()),
            campaign: Some(id.clone()),
            summary: format!("campaign {id} waits: {}", pause.cause),
            advice: pause.advice.clone(),
            at: self.clock.wall(),
        });
    }
}
