//! Letting go of a campaign's queue: what was delivered and not begun goes back, and nothing that was never sent is forgotten to be so.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::roll::{Link, QUIET, Roll};
use super::{Lane, Step};
use crate::broker::Delivery;
use crate::campaign::Record;
use crate::engine::triage::returned_unbegun;
use crate::job::{CampaignId, Job};

/// Longest wait for jobs in hand before a queue is let go all the same: they come again then, and are settled by the ledger.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);

impl Lane {
    /// No longer consumed; the deliveries not begun go back when the link closes.
    pub(super) fn unlink(&mut self, id: &CampaignId, now: Instant) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let returned = roll.forget_deliveries();
        roll.link = match std::mem::replace(&mut roll.link, Link::Closed) {
            Link::Open(subscription) => Link::Closing(subscription, now),
            other => other,
        };
        returned.into_iter().for_each(|delivery| self.leave_untouched(id, &delivery, now));
    }

    /// Closes a link that nothing of it in hand needs any more, once what it had delivered is looked at.
    pub(super) fn close(&mut self, id: &CampaignId, now: Instant) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let Link::Closing(subscription, since) = &roll.link else { return };
        let idle = roll.in_hand == 0 && self.events.is_empty();
        if idle || now.saturating_duration_since(*since) > CLOSE_WITHIN {
            self.links.remove(&subscription.id());
            roll.link = Link::Closed;
            self.note_away(id, QUIET, now); // what it held is back at its queue once its channel has closed
        } else if roll.in_hand == 0 {
            self.attention.insert(id.clone());
        }
    }

    /// In a campaign whose ledger was lost, a redelivered job of which it says nothing since counts as unknown. One that goes back now
    /// was surely not sent, and gets an entry that says so.
    pub(super) fn leave_untouched(&mut self, id: &CampaignId, delivery: &Delivery, now: Instant) {
        let Some(roll) = self.rolls.get(id).filter(|roll| roll.campaign.losses > 0) else { return };
        let Ok(job) = Job::parse(&delivery.message.body) else { return };
        let key = (id.clone(), job.id);
        let waits = roll.head.as_ref().is_some_and(|head| head.key == key);
        if job.campaign != *id || waits || self.active.contains_key(&key) || self.untouched.contains(&key) {
            return;
        }
        let Ok(entry) = self.store.find(&key.0, &key.1) else { return };
        let headers = &delivery.message.headers;
        let returned = returned_unbegun(headers, delivery.redelivered, &roll.campaign, entry.as_ref());
        let Some((state, attempts, release)) = returned else { return };
        let batch = self.batch_of(id, headers.batch.as_deref(), now);
        let record = Record::new(key.1.clone(), entry.as_ref(), batch, state, attempts, release, self.era(id));
        self.untouched.insert(key.clone());
        self.enter(id, record, Some(Step::Untouched(key)), now);
    }
}

impl Roll {
    /// Gives up the deliveries that came by its own subscription and were not begun. Those of the intake stay.
    pub(super) fn forget_deliveries(&mut self) -> Vec<Delivery> {
        let own = self.subscription();
        let (gone, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.ready).into_iter().partition(|d| Some(d.tag.subscription) == own);
        self.ready = kept;
        let mut gone = Vec::from(gone);
        let head = self.head.take_if(|begun| Some(begun.delivery.tag.subscription) == own);
        gone.extend(head.map(|begun| begun.delivery));
        gone
    }
}
