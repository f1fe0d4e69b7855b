//! Each campaign's queue: made, consumed while the campaign may send, let go when it may not, deleted when it is over.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::arrivals::MOST_ARRIVALS;
use super::remnant::Remnant;
use super::roll::{BROKER_RETRY, Link, NoteState, QUIET};
use super::settle::Chore;
use super::{Lane, Step};
use crate::broker::{Bound, BrokerError, Delivery, Event, Source, Subscription, Tag};
use crate::campaign::Phase;
use crate::job::CampaignId;
use crate::store::Change;

/// Deliveries buffered by a lane over all its campaigns; each gets its share as prefetch.
const BUFFERED: usize = 4096;

/// Seconds' worth of sending that is prefetched at most: a slow account must not sit on deliveries until the broker takes them back.
const PREFETCH_SECONDS: f64 = 10.0;

/// Smallest prefetch: one under way, one ready.
const LEAST_PREFETCH: usize = 2;

impl Lane {
    /// Looks after the campaigns that need it.
    pub(super) fn tend_rolls(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.attention) {
            self.tend(&id, now);
            self.looked_after(&id, now);
        }
    }

    fn tend(&mut self, id: &CampaignId, now: Instant) {
        let account_open = self.is_open() && !self.stopping;
        self.finish(id, now);
        self.forget_ledger(id, now);
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let wanted = roll.registered && !self.stopping && roll.wants_link(account_open);
        if matches!(roll.link, Link::Open(_)) && !wanted {
            self.unlink(id, now);
        }
        self.close(id, now);
        let Some(roll) = self.rolls.get_mut(id) else { return };
        if self.stopping || now < roll.retry_at || !roll.registered || roll.removing || roll.remnant == Remnant::Asked {
            return;
        }
        if roll.has_release_left(now) {
            self.resume_release(id);
        }
        let Some(roll) = self.rolls.get_mut(id) else { return };
        if roll.is_quiet(now) {
            roll.leftovers = false; // let go of the queue, so that it can be deleted
            self.unlink(id, now);
        }
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let needs_queue = wanted || !roll.arrivals.is_empty();
        if needs_queue && !roll.prepared && !roll.preparing && !roll.noting {
            return self.prepare(id);
        }
        if wanted && roll.prepared && matches!(roll.link, Link::Closed) {
            return self.open(id);
        }
        if roll.note == NoteState::Outdated && !roll.noting {
            self.write_note(id);
        }
        if self.rolls.get(id).is_some_and(|roll| roll.has_idle_jobs(account_open)) {
            self.queue_turn(id);
        }
        if self.rolls.get(id).is_some_and(|roll| roll.can_be_removed(now)) {
            self.remove_queue(id);
        }
    }

    /// A finished campaign that gets more to send is running again. If its queue is gone, a new one is made only once that is on disk:
    /// after a crash in between nobody would look for it.
    pub(super) fn reopen(&mut self, id: &CampaignId, now: Instant) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let queue_gone = roll.campaign.queue_gone;
        if !roll.campaign.reopen() {
            return;
        }
        roll.registered &= !queue_gone;
        self.put_campaign(id, queue_gone.then(|| Step::Registered(id.clone())), now);
        self.attention.insert(id.clone());
    }

    /// Drops the ledger of a campaign that has been over for long; its record stays, so that its id is not used again by accident.
    fn forget_ledger(&mut self, id: &CampaignId, now: Instant) {
        let wall = self.clock.wall();
        let retention = self.settings.ledger_retention;
        let Some(roll) = self.rolls.get_mut(id).filter(|roll| roll.in_hand == 0 && roll.campaign.is_forgettable(retention, wall))
        else {
            return;
        };
        roll.campaign.clean_up();
        tracing::info!(campaign = %id, account = %self.account, "its ledger is cleaned up; record and counts stay");
        self.journal.change(Change::DropLedger(id.clone()), None, now);
        self.put_campaign(id, None, now);
    }

    /// Declares and binds the queue, and leaves a note about the campaign at the broker before its first job is consumed.
    fn prepare(&mut self, id: &CampaignId) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.preparing = true;
        let bound = if roll.campaign.queue_unmade { Bound::No } else { Bound::Unknown };
        let (broker, note, id) = (Arc::clone(&self.broker), roll.begin_note(), id.clone());
        let work = async move {
            let result = match broker.prepare(&id, bound).await {
                Ok(_) => broker.remember(&id, &note).await,
                Err(error) => Err(error),
            };
            Chore::Prepared(id, result)
        };
        self.chores.push(work.boxed());
    }

    pub(super) fn on_prepared(&mut self, id: &CampaignId, result: Result<(), BrokerError>) {
        let retry_at = self.clock.now() + BROKER_RETRY;
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.preparing = false;
        roll.noting = false;
        if let Err(error) = result {
            tracing::warn!(campaign = %id, %error, "its queue cannot be made yet");
            roll.note = NoteState::Outdated;
            roll.retry_at = retry_at;
            roll.unpreparable = true;
            roll.cancel_is_noted(false);
            let excess = roll.arrivals.split_off(roll.arrivals.len().min(MOST_ARRIVALS));
            return excess.into_iter().for_each(|delivery| self.put_off(id, delivery));
        }
        roll.prepared = true;
        roll.unpreparable = false;
        if std::mem::take(&mut roll.campaign.queue_unmade) {
            self.journal.change(Change::Campaign(roll.campaign.clone()), None, self.clock.now());
        }
        self.attention.insert(id.clone());
        self.on_noted(id, &Ok(()));
        self.move_arrivals(id);
    }

    fn open(&mut self, id: &CampaignId) {
        let prefetch = self.prefetch();
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.link = Link::Opening;
        let (broker, sink, id) = (Arc::clone(&self.broker), self.sink.clone(), id.clone());
        let work = async move {
            let result = broker.subscribe(Source::Jobs(id.clone()), prefetch, sink).await;
            Chore::Opened(id, result)
        };
        self.chores.push(work.boxed());
    }

    fn prefetch(&self) -> u16 {
        let share = BUFFERED / (self.links.len() + 1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        let by_rate = self.pacer.rate().map_or(usize::MAX, |rate| (rate * PREFETCH_SECONDS).ceil().min(1e6) as usize);
        let prefetch = share.min(by_rate).max(LEAST_PREFETCH).min(usize::from(self.settings.prefetch.max(1)));
        u16::try_from(prefetch).unwrap_or(u16::MAX)
    }

    pub(super) fn on_opened(&mut self, id: CampaignId, result: Result<Subscription, BrokerError>) {
        let retry_at = self.clock.now() + BROKER_RETRY;
        let Some(roll) = self.rolls.get_mut(&id) else { return };
        match result {
            Ok(subscription) => {
                roll.last_delivery = self.clock.now();
                self.links.insert(subscription.id(), id.clone());
                roll.link = Link::Open(subscription);
            }
            Err(error) => {
                tracing::warn!(campaign = %id, %error, "its queue cannot be consumed yet");
                roll.link = Link::Closed;
                roll.prepared = false; // the queue may be gone: look again
                roll.retry_at = retry_at;
            }
        }
        self.attention.insert(id);
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Delivery(delivery) => self.on_delivery(delivery),
            Event::Ended { subscription, reason } => {
                let Some(id) = self.links.remove(&subscription) else { return };
                let retry_at = self.clock.now() + BROKER_RETRY / 4;
                let Some(roll) = self.rolls.get_mut(&id).filter(|roll| roll.subscription() == Some(subscription)) else { return };
                tracing::warn!(campaign = %id, reason, "its queue is no longer consumed; unsettled jobs come again");
                let returned = roll.forget_deliveries();
                roll.link = Link::Closed;
                roll.prepared = false;
                roll.retry_at = retry_at;
                let now = self.clock.now();
                self.note_away(&id, QUIET, now);
                returned.iter().for_each(|delivery| self.leave_untouched(&id, delivery, now));
                self.attention.insert(id);
            }
        }
    }

    fn on_delivery(&mut self, mut delivery: Delivery) {
        delivery.redelivered |= delivery.message.headers.redelivered;
        let Some(id) = self.links.get(&delivery.tag.subscription).cloned() else { return };
        let now = self.clock.now();
        let Some(roll) = self.rolls.get_mut(&id) else { return };
        roll.last_delivery = now;
        // A link on its way out returns what it still delivers when it closes.
        if matches!(roll.link, Link::Open(_)) {
            roll.ready.push_back(delivery);
            self.queue_turn(&id);
        } else {
            self.leave_untouched(&id, &delivery, now);
        }
    }

    fn write_note(&mut self, id: &CampaignId) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let (broker, note, id) = (Arc::clone(&self.broker), roll.begin_note(), id.clone());
        let work = async move {
            let result = broker.remember(&id, &note).await;
            Chore::Noted(id, result)
        };
        self.chores.push(work.boxed());
    }

    pub(super) fn on_noted(&mut self, id: &CampaignId, result: &Result<(), BrokerError>) {
        let retry_at = self.clock.now() + BROKER_RETRY;
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.noting = false;
        roll.cancel_is_noted(result.is_ok());
        self.attention.insert(id.clone());
        if roll.note != NoteState::Writing {
            return; // it is out of date already
        }
        match result {
            Ok(()) => {
                roll.note = NoteState::Current;
                let noted = std::mem::take(&mut roll.announcements);
                self.ack_tags(noted);
            }
            Err(error) => {
                tracing::debug!(campaign = %id, %error, "note not written yet");
                roll.note = NoteState::Outdated;
                roll.retry_at = roll.retry_at.max(retry_at);
            }
        }
    }

    /// Lets an announcement go that is on disk, as soon as the note about its campaign tells of it too. Of a campaign with many that
    /// cannot be noted, the eldest go before: the intake's room is for all.
    pub(super) fn ack_once_noted(&mut self, id: &CampaignId, tag: Tag) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.announcements.push(tag);
        let excess = roll.announcements.len().saturating_sub(MOST_ARRIVALS);
        let eldest = roll.announcements.drain(..excess).collect();
        self.ack_tags(eldest);
        self.outdate_note(id);
    }

    /// Writes the account's pause to the broker, or takes it away there.
    pub(super) fn tend_note(&mut self, now: Instant) {
        // what is not configured is paused for that, and says so at every start
        if self.note != NoteState::Outdated || now < self.note_retry_at || self.gateway.is_err() {
            return;
        }
        self.note = NoteState::Writing;
        let note = self.gate.pause().map(|pause| serde_json::to_vec(pause).unwrap_or_default()).unwrap_or_default();
        let (broker, id) = (Arc::clone(&self.broker), CampaignId::account_note(&self.account));
        self.chores.push(async move { Chore::AccountNoted(broker.remember(&id, &note).await) }.boxed());
    }

    pub(super) fn on_account_noted(&mut self, result: &Result<(), BrokerError>) {
        if let Err(error) = result {
            tracing::debug!(account = %self.account, %error, "the account's note is not written yet");
            self.note = NoteState::Outdated;
            self.note_retry_at = self.clock.now() + BROKER_RETRY;
        } else if self.note == NoteState::Writing {
            self.note = NoteState::Current;
        }
    }

    /// Deletes the queue of a campaign that is over; if something is still in it, it is consumed again first.
    fn remove_queue(&mut self, id: &CampaignId) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.removing = true;
        let (broker, id) = (Arc::clone(&self.broker), id.clone());
        let work = async move {
            let result = broker.remove(&id).await;
            Chore::Removed(id, result)
        };
        self.chores.push(work.boxed());
    }

    pub(super) fn on_removed(&mut self, id: &CampaignId, result: &Result<bool, BrokerError>) {
        let now = self.clock.now();
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.removing = false;
        roll.last_delivery = now;
        roll.retry_at = now + BROKER_RETRY;
        self.attention.insert(id.clone());
        match result {
            Ok(true) => {
                roll.leftovers = false;
                roll.prepared = false; // reopened meanwhile, it needs a new queue
                roll.campaign.queue_gone = roll.campaign.phase != Phase::Running;
                roll.campaign.queue_unmade = true;
                self.put_campaign(id, None, now);
            }
            Ok(false) => roll.leftovers = true,
            Err(error) => {
                tracing::debug!(campaign = %id, %error, "its queue is not deleted yet");
                roll.prepared = false; // how far it came is unknown: reopened, it is bound again
            }
        }
    }
}
