//! Before a lane runs: what the broker noted of its campaigns and its account, against what the store says.

use super::Lane;
use super::roll::{NoteState, Roll};
use crate::campaign::{Campaign, Pause, PauseTarget, Phase};
use crate::engine::Note;
use crate::job::{AccountName, CampaignId};
use crate::store::Change;

impl Lane {
    /// Whose lane it is.
    pub(in crate::engine) const fn account(&self) -> &AccountName {
        &self.account
    }

    /// Takes up a campaign whose record is already durable.
    pub(in crate::engine) fn adopt(&mut self, campaign: Campaign, pause: Option<Pause>) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        self.attention.insert(campaign.id.clone());
        self.rolls.insert(campaign.id.clone(), Roll::new(campaign, pause, true, now, wall));
    }

    /// A note that says what holds need not be written again; after a kill it may be behind.
    pub(in crate::engine) fn compare_note(&mut self, id: &CampaignId, noted: &Note) {
        if let Some(roll) = self.rolls.get_mut(id).filter(|roll| roll.noted() == *noted) {
            roll.note = NoteState::Current;
            roll.cancel_noted = roll.campaign.phase == Phase::Cancelled;
        }
    }

    /// The same for the account's own pause.
    pub(in crate::engine) fn compare_pause(&mut self, noted: Option<&Pause>) {
        if self.gate.pause() == noted {
            self.note = NoteState::Current;
        }
    }

    /// A campaign's ledger was put back from an older copy: what was done since and `noted` at the broker holds. What to write.
    pub(in crate::engine) fn catch_up(&mut self, id: &CampaignId, noted: Note) -> Vec<Change> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let Some(roll) = self.rolls.get_mut(id) else { return Vec::new() };
        roll.campaign.catch_up(&noted.campaign);
        if let Some(pause) = noted.pause.filter(|pause| !pause.is_over(wall)) {
            roll.gate.close(pause, now, wall);
        }
        let Note { campaign, pause } = roll.noted();
        *roll = Roll::new(campaign.clone(), pause.clone(), true, now, wall);
        let pause = pause.map(|pause| Change::Pause(PauseTarget::Campaign(id.clone()), pause));
        std::iter::once(Change::Campaign(campaign)).chain(pause).collect()
    }

    /// The ledger lacks something that was once in it: every campaign whose ledger is not cleaned up must know. What to write.
    pub(in crate::engine) fn lose_ledger(&mut self) -> Vec<Change> {
        let wall = self.clock.wall();
        let rolls = self.rolls.values_mut().filter(|roll| !roll.campaign.ledger_gone);
        let changes = rolls.map(|roll| {
            roll.campaign.lose_ledger(wall);
            roll.note = NoteState::Outdated;
            Change::Campaign(roll.campaign.clone())
        });
        changes.collect()
    }

    /// Puts a pause of the account back in force that only the broker remembered; what now holds.
    pub(in crate::engine) fn restore_pause(&mut self, pause: Pause) -> Pause {
        self.gate.close(pause, self.clock.now(), self.clock.wall())
    }
}
