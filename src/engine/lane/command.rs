//! What people and the intake ask of a lane.

use std::time::Duration;

use super::roll::Roll;
use super::settle::reply;
use super::{Lane, LaneReload, Step};
use crate::alert::{Alert, Status};
use crate::broker::{Delivery, SubscriptionId};
use crate::campaign::{Announcement, Campaign, Options, Pause, PauseTarget, Phase};
use crate::engine::handle::{Answer, Reader};
use crate::engine::view::{AccountView, CampaignView, DeadSelection, Resumed};
use crate::engine::{CommandError, show};
use crate::job::{AccountName, CampaignId};
use crate::outcome::later;
use crate::policy::{Scope, Severity};
use crate::store::Change;

/// A command to one lane.
pub(in crate::engine) enum LaneCommand {
    Campaigns(tokio::sync::oneshot::Sender<Vec<CampaignView>>),
    Account(tokio::sync::oneshot::Sender<AccountView>),
    Pause {
        target: PauseTarget,
        cause: String,
        length: Option<Duration>,
        answer: Answer<()>,
    },
    Resume {
        target: PauseTarget,
        answer: Answer<Resumed>,
    },
    Cancel {
        campaign: CampaignId,
        answer: Answer<()>,
    },
    Dead {
        campaign: CampaignId,
        selection: DeadSelection,
        bodies: bool,
        reader: Reader,
    },
    Release {
        campaign: CampaignId,
        selection: DeadSelection,
        answer: Answer<u64>,
    },
    /// Another account, other rules and settings.
    Reload(Box<LaneReload>, tokio::sync::oneshot::Sender<()>),
    /// The intake's link has ended.
    IntakeEnded(SubscriptionId),
    /// Something came by the intake for a campaign of this account, known or new.
    Arrived {
        campaign: CampaignId,
        announcement: Option<Announcement>,
        delivery: Delivery,
    },
}

impl Lane {
    pub(super) fn on_command(&mut self, command: LaneCommand) {
        match command {
            LaneCommand::Campaigns(answer) => {
                let views = self.campaign_views();
                reply(answer, views);
            }
            LaneCommand::Account(answer) => {
                let view = self.account_view();
                reply(answer, view);
            }
            LaneCommand::Pause { target, cause, length, answer } => self.pause_by_hand(target, cause, length, answer),
            LaneCommand::Resume { target, answer } => self.resume(target, answer),
            LaneCommand::Cancel { campaign, answer } => self.cancel(&campaign, answer),
            LaneCommand::Dead { campaign, selection, bodies, reader } => self.list(campaign, selection, bodies, reader),
            LaneCommand::Release { campaign, selection, answer } => self.begin_release(campaign, selection, answer),
            LaneCommand::Reload(reload, answer) => {
                self.reload(*reload);
                reply(answer, ());
            }
            LaneCommand::IntakeEnded(intake) => self.forget_arrivals(intake),
            LaneCommand::Arrived { campaign, announcement, delivery } => self.arrived(&campaign, announcement, delivery),
        }
    }

    fn pause_by_hand(&mut self, target: PauseTarget, cause: String, length: Option<Duration>, answer: Answer<()>) {
        let now = self.clock.now();
        let wall = self.clock.wall();
        let until = length.map(|length| later(wall, length));
        let pause = Pause { cause, rule: None, since: wall, until, by: "operator".into(), advice: String::new(), probe: false };
        match target {
            PauseTarget::Account(_) => self.pause(&CampaignId::unsorted(), Scope::Account, pause, None, now),
            PauseTarget::Campaign(id) => {
                if let Some(refusal) = self.over(&id) {
                    return reply(answer, Err(refusal));
                }
                self.pause(&id, Scope::Campaign, pause, None, now);
            }
        }
        self.answer_when_durable(answer, Ok(()));
    }

    fn resume(&mut self, target: PauseTarget, answer: Answer<Resumed>) {
        let now = self.clock.now();
        let resumed = match &target {
            PauseTarget::Account(_) => {
                if let Err(pause) = &self.gateway {
                    return reply(answer, Err(CommandError::Conflict(format!("{}. {}", pause.cause, pause.advice))));
                }
                self.history.forget(&target);
                let lifted = self.gate.resume(now);
                self.attention.extend(self.rolls.keys().cloned());
                self.lifted(lifted, None, &target, now)
            }
            PauseTarget::Campaign(id) => {
                let account_pause = self.account_pause().map(|pause| show::account_pause(&self.account, pause));
                let Some(roll) = self.rolls.get_mut(id) else {
                    return reply(answer, Err(CommandError::NotFound(target)));
                };
                self.history.forget(&target);
                let lifted = roll.gate.resume(now);
                self.attention.insert(id.clone());
                Resumed { still_paused: account_pause, ..self.lifted(lifted, Some(id.clone()), &target, now) }
            }
        };
        self.answer_when_durable(answer, Ok(resumed));
    }

    fn lifted(
        &mut self,
        pause: Option<Pause>,
        id: Option<CampaignId>,
        target: &PauseTarget,
        now: tokio::time::Instant,
    ) -> Resumed {
        if let Some(pause) = &pause {
            let noted = id.clone().map_or(Step::AccountNoted, Step::Noted);
            self.journal.change(Change::Resume(target.clone()), Some(noted), now);
            self.resolve(pause, id);
        }
        Resumed { lifted: pause.is_some(), still_paused: None }
    }

    /// Why nothing can be done with a campaign any more, if so.
    pub(super) fn over(&self, id: &CampaignId) -> Option<CommandError> {
        match self.rolls.get(id).map(|roll| roll.campaign.phase) {
            None => Some(CommandError::NotFound(PauseTarget::Campaign(id.clone()))),
            Some(Phase::Running) => None,
            Some(Phase::Finished) => Some(CommandError::Conflict(format!("campaign {id} is finished"))),
            Some(Phase::Cancelled) => Some(CommandError::Conflict(format!("campaign {id} is cancelled"))),
        }
    }

    /// In force at once; answered once it is on disk.
    pub(super) fn answer_when_durable<T: Send + 'static>(&mut self, answer: Answer<T>, value: Result<T, CommandError>) {
        let step = Step::Answer(Box::new(move || reply(answer, value)));
        self.journal.follow(step, self.clock.now());
    }

    fn arrived(&mut self, id: &CampaignId, announcement: Option<Announcement>, mut delivery: Delivery) {
        delivery.redelivered |= delivery.message.headers.redelivered;
        // Delivered before, it may have been moved into its campaign's queue: then a first of it is on its way, and goes before.
        delivery.message.headers.redelivered = delivery.redelivered;
        let now = self.clock.now();
        if !self.rolls.contains_key(id) {
            self.register(id, announcement.as_ref().map(|a| a.options).unwrap_or_default());
        }
        if let Some(announcement) = announcement {
            self.announced(id, &announcement);
            return self.journal.follow(Step::Announced(id.clone(), delivery.tag), now);
        }
        let Some(roll) = self.rolls.get_mut(id) else { return };
        if roll.campaign.phase == Phase::Running {
            self.take_arrival(id, delivery);
        } else {
            roll.ready.push_back(delivery);
            self.queue_turn(id);
        }
    }

    /// A new campaign. No note of it was at the broker, so none of its jobs was ever consumed: its ledger is whole.
    fn register(&mut self, id: &CampaignId, options: Options) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let campaign = Campaign::new(id.clone(), self.account.clone(), options, wall);
        tracing::info!(campaign = %id, account = %self.account, ?options, "registered");
        self.rolls.insert(id.clone(), Roll::new(campaign, None, false, now, wall));
        self.put_campaign(id, Some(Step::Registered(id.clone())), now);
        self.complain_of_configuration(id);
    }

    fn announced(&mut self, id: &CampaignId, announcement: &Announcement) {
        let now = self.clock.now();
        let Some(roll) = self.rolls.get_mut(id) else { return };
        if roll.campaign.ledger_gone {
            tracing::error!(campaign = %id, "announced again long after its end; its ledger is cleaned up, and its jobs go to the dead letters");
            return;
        }
        if !std::mem::replace(&mut roll.campaign.announced, true) {
            roll.campaign.options = announcement.options;
        } else if roll.campaign.options != announcement.options {
            tracing::warn!(campaign = %id, "announced again with other options; those of the first announcement stay");
        }
        let other = announcement.account.as_ref().filter(|account| **account != roll.campaign.account);
        let strays =
            other.cloned().filter(|other| roll.campaign.announced_account.replace(other.clone()).as_ref() != Some(other));
        let news = match announcement.jobs {
            Some(jobs) => roll.campaign.counts.announce(announcement.batch.as_deref(), jobs),
            None => false,
        };
        let goes_on = news && roll.campaign.counts.open() > 0;
        self.put_campaign(id, None, now);
        if let Some(asked) = strays {
            self.tell_other_account(id, &asked);
        }
        if goes_on {
            self.reopen(id, now);
        }
        self.attention.insert(id.clone());
    }

    /// A campaign keeps the account it began with; a person must know when that is not the one it was announced for.
    fn tell_other_account(&self, id: &CampaignId, asked: &AccountName) {
        let account = &self.account;
        tracing::error!(campaign = %id, %account, %asked, "announced for another account than it began with");
        self.alerts.raise(Alert {
            status: Status::Firing,
            severity: Severity::Critical,
            rule: "announced-for-another-account".into(),
            account: Some(account.clone()),
            campaign: Some(id.clone()),
            summary: format!("campaign {id} was announced for account {asked}, but began with account {account}"),
            advice: format!(
                "Jobs of it that name account {asked} go to the dead letters, and those that name none are sent by {account}. Cancel it and \
                 enqueue under another id, or enqueue for {account}."
            ),
            at: self.clock.wall(),
        });
    }
}
