//! Letting go of a campaign's queue: what was delivered and not begun goes back, and nothing that was never sent is forgotten to be so.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Lane;
use super::roll::{Link, Roll};
use crate::broker::Delivery;
use crate::campaign::{JobState, Record};
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

    /// Closes a link that nothing of it in hand needs any more.
    pub(super) fn close(&mut self, id: &CampaignId, now: Instant) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let Link::Closing(subscription, since) = &roll.link else { return };
        if roll.in_hand == 0 || now.saturating_duration_since(*since) > CLOSE_WITHIN {
            self.links.remove(&subscription.id());
            roll.link = Link::Closed;
        }
    }

    /// In a campaign whose ledger was lost, a redelivered job without an entry counts as unknown. One that goes back now was surely not
    /// sent, and gets an entry that says so.
    pub(super) fn leave_untouched(&mut self, id: &CampaignId, delivery: &Delivery, now: Instant) {
        let lossy = self.rolls.get(id).is_some_and(|roll| roll.campaign.losses > 0);
        if !lossy || delivery.redelivered {
            return;
        }
        let Ok(job) = Job::parse(&delivery.message.body) else { return };
        let key = (id.clone(), job.id);
        if job.campaign != *id || self.active.contains_key(&key) || !matches!(self.store.find(&key.0, &key.1), Ok(None)) {
            return;
        }
        let headers = &delivery.message.headers;
        let batch = self.batch_of(id, headers.batch.as_deref(), now);
        let record = Record::new(key.1, None, batch, JobState::Waiting, headers.attempts, headers.release);
        self.enter(id, record, None, now);
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
