//! The end of a campaign: finished once everything of it is settled, or called off.

use tokio::time::Instant;

use super::roll::Roll;
use super::settle::reply;
use super::{Lane, Step};
use crate::engine::handle::Answer;
use crate::job::CampaignId;

impl Lane {
    /// Says so when the last job of a sealed campaign is settled: its outcome in the ledger, and its delivery or dead letter where it
    /// belongs. What an earlier life had not come to settle with the broker is settled too by then.
    pub(super) fn finish(&mut self, id: &CampaignId, now: Instant) {
        let wall = self.clock.wall();
        let complete = |roll: &&mut Roll| roll.in_hand == 0 && roll.campaign.is_complete(roll.quiet(now), wall);
        if self.rolls.get_mut(id).filter(complete).is_none() || !self.has_no_remnant(id, now) {
            return;
        }
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.campaign.finish(wall);
        let counts = &roll.campaign.counts;
        tracing::info!(campaign = %id, account = %self.account, sent = counts.sent, failed = counts.dead, "finished");
        self.put_campaign(id, None, now);
    }

    pub(super) fn cancel(&mut self, id: &CampaignId, answer: Answer<()>) {
        if let Some(refusal) = self.over(id) {
            return reply(answer, Err(refusal));
        }
        let (now, wall) = (self.clock.now(), self.clock.wall());
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.campaign.cancel(wall);
            roll.leftovers = true;
            roll.last_delivery = now;
            tracing::info!(campaign = %id, account = %self.account, "cancelled");
        }
        self.take_back(now);
        self.put_campaign(id, Some(Step::Cancelled(id.clone(), answer)), now);
        self.attention.insert(id.clone());
        self.queue_turn(id);
    }

    /// It is on disk. Whoever called it off is told as soon as the broker knows too, or does not take it for now.
    pub(super) fn tell_cancelled(&mut self, id: &CampaignId, answer: Answer<()>) {
        match self.rolls.get_mut(id) {
            Some(roll) if !roll.cancel_noted => roll.canceller = Some(answer),
            _ => reply(answer, Ok(())),
        }
    }
}

impl Roll {
    /// A note was written, or was not.
    pub(super) fn cancel_is_noted(&mut self, written: bool) {
        self.cancel_noted |= written && self.noting_cancel;
        if let Some(canceller) = self.canceller.take_if(|_| self.cancel_noted || !written) {
            reply(canceller, Ok(()));
        }
    }
}
