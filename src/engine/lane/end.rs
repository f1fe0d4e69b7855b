//! The end of a campaign: finished once everything of it is settled, or called off.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::roll::{BROKER_RETRY, Link, QUIET, Remnant, Roll};
use super::settle::{Chore, reply};
use super::{Lane, Step};
use crate::broker::{BrokerError, Source};
use crate::engine::handle::Answer;
use crate::job::CampaignId;

impl Lane {
    /// Says so when the last job of a sealed campaign is settled: its outcome in the ledger, and its delivery or dead letter where it
    /// belongs. What an earlier life had not come to settle with the broker is still in the queue.
    pub(super) fn finish(&mut self, id: &CampaignId, now: Instant) {
        let wall = self.clock.wall();
        let complete = |roll: &&mut Roll| roll.in_hand == 0 && roll.campaign.is_complete(roll.quiet(now), wall);
        let Some(roll) = self.rolls.get_mut(id).filter(complete) else { return };
        match roll.remnant {
            Remnant::None => {}
            Remnant::Unknown { ask_at } if !self.stopping && now >= ask_at && roll.can_be_counted(now) => {
                roll.remnant = Remnant::Asked;
                return self.count_queue(id.clone());
            }
            Remnant::Unknown { .. } | Remnant::Asked => return,
        }
        roll.campaign.finish(wall);
        let counts = &roll.campaign.counts;
        tracing::info!(campaign = %id, account = %self.account, sent = counts.sent, failed = counts.dead, "finished");
        self.put_campaign(id, None, now);
    }

    fn count_queue(&self, id: CampaignId) {
        let broker = Arc::clone(&self.broker);
        let work = async move {
            let ready = broker.depth(&Source::Jobs(id.clone())).await;
            Chore::Counted(id, ready)
        };
        self.chores.push(work.boxed());
    }

    pub(super) fn on_counted(&mut self, id: CampaignId, ready: &Result<u64, BrokerError>) {
        let ask_at = self.clock.now() + BROKER_RETRY;
        if let Some(roll) = self.rolls.get_mut(&id) {
            roll.remnant = if matches!(ready, Ok(0)) { Remnant::None } else { Remnant::Unknown { ask_at } };
        }
        self.attention.insert(id);
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
    /// Nothing of its queue is on its way to us, so that what stands there is all there is.
    fn can_be_counted(&self, now: Instant) -> bool {
        matches!(self.link, Link::Closed) || self.quiet(now) >= QUIET
    }

    /// A note was written, or was not.
    pub(super) fn cancel_is_noted(&mut self, written: bool) {
        self.cancel_noted |= written && self.noting_cancel;
        if let Some(canceller) = self.canceller.take_if(|_| self.cancel_noted || !written) {
            reply(canceller, Ok(()));
        }
    }
}
