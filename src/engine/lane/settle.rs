//! Telling the broker, in the background: acknowledgements together, publishes before the acknowledgement they stand for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::roll::{BROKER_RETRY, Link, NoteState, Roll};
use super::{Active, Key, Lane, Step, dead};
use crate::broker::{Broker, BrokerError, Delivery, Headers, Message, Source, Subscription, Tag, Target};
use crate::engine::CommandError;
use crate::job::CampaignId;
use crate::outcome::Settle;

/// Longest wait between two tries to publish the same message.
const LONGEST_RETRY: Duration = Duration::from_secs(15);

/// Further tries to acknowledge; with the waits in between, some two minutes.
const ACK_TRIES: u32 = 12;

/// Background work that is done.
pub(super) enum Chore {
    /// The broker took the acknowledgements, or never will by these tags.
    Acked(Vec<Key>, Result<(), BrokerError>),
    /// Done, and nothing follows.
    Done,
    /// The job stands where it was published; its delivery may go.
    Published(Key),
    Prepared(CampaignId, Result<(), BrokerError>),
    Opened(CampaignId, Result<Subscription, BrokerError>),
    Noted(CampaignId, Result<(), BrokerError>),
    AccountNoted(Result<(), BrokerError>),
    Removed(CampaignId, Result<bool, BrokerError>),
    /// The next letters of a walk along the dead letters.
    Letters(Box<dead::Round>, Result<Vec<Delivery>, CommandError>),
    /// So many arrivals are on their campaign's queue, or will be after so long.
    Moved {
        id: CampaignId,
        count: usize,
        away: Duration,
    },
    /// How many messages stand in a queue.
    Counted(Result<u64, BrokerError>, Source),
}

impl Lane {
    pub(super) fn on_chore(&mut self, chore: Chore) {
        match chore {
            Chore::Acked(keys, result) => self.on_acked(keys, &result),
            Chore::Done => {}
            Chore::Published(key) => self.ack(vec![key]),
            Chore::Prepared(id, result) => self.on_prepared(&id, result),
            Chore::Opened(id, result) => self.on_opened(id, result),
            Chore::Noted(id, result) => self.on_noted(&id, &result),
            Chore::AccountNoted(result) => self.on_account_noted(&result),
            Chore::Removed(id, result) => self.on_removed(&id, &result),
            Chore::Letters(round, letters) => self.on_letters(*round, letters),
            Chore::Moved { id, count, away } => self.on_moved(id, count, away),
            Chore::Counted(ready, source) => self.on_counted(source, &ready),
        }
    }

    /// The outcome is durable: the broker may be told. Acknowledgements are collected in `acks`.
    pub(super) fn settle(&mut self, key: Key, settle: Settle, acks: &mut Vec<Key>) {
        let Some(active) = self.active.get(&key) else { return };
        match settle {
            Settle::Ack => acks.push(key),
            Settle::Delay(wait) => {
                let mut message = wait_message(active);
                // it was delivered, and there may be two of it: should the ledger be lost meanwhile, neither is taken for a new job
                message.headers.redelivered = true;
                self.publish(key.clone(), message, Destination::Wait(wait));
            }
            Settle::Dead(death) => {
                let mut message = wait_message(active);
                message.headers.death = Some(Box::new(death));
                message.headers.message_id = Some(key.1.as_str().to_owned());
                self.publish(key, message, Destination::Dead);
            }
            Settle::Return => self.give_back(key),
        }
    }

    /// Leaves a job to its queue. Its own subscription returns it when it closes; while that stays open it waits here again.
    fn give_back(&mut self, key: Key) {
        let own = self.rolls.get(&key.0).and_then(Roll::subscription);
        let Some(active) = self.active.get(&key) else { return };
        if Some(active.tag.subscription) != own {
            // It came by the intake, or by a link that is gone: a copy in its own queue replaces it, and it may come again itself.
            let mut message = wait_message(active);
            message.headers.redelivered = true;
            return self.publish(key, message, Destination::Jobs);
        }
        let delivery = Delivery { tag: active.tag, message: active.message.clone(), redelivered: active.redelivered };
        let again = (!self.stopping).then_some(delivery);
        self.let_go(&key, again);
    }

    /// A job is out of our hands. What is still to be looked at, `again` and the copies that came meanwhile, goes to the front of
    /// what is ready; if its link is closing, the queue gets it back instead.
    fn let_go(&mut self, key: &Key, again: Option<Delivery>) {
        let Some(active) = self.active.remove(key) else { return };
        let Some(roll) = self.rolls.get_mut(&key.0) else { return };
        roll.in_hand = roll.in_hand.saturating_sub(1);
        if roll.in_hand == 0 {
            self.attention.insert(key.0.clone());
        }
        let own = roll.subscription();
        let is_open = matches!(roll.link, Link::Open(_));
        let waiting = again.into_iter().chain(active.copies).filter(|copy| is_open || Some(copy.tag.subscription) != own);
        let before = roll.ready.len();
        waiting.for_each(|delivery| roll.ready.push_front(delivery));
        if roll.ready.len() > before {
            self.queue_turn(&key.0);
        }
    }

    fn publish(&self, key: Key, message: Message, destination: Destination) {
        let broker = Arc::clone(&self.broker);
        let work = async move {
            publish_until_confirmed(broker.as_ref(), &key.0, destination, &message).await;
            Chore::Published(key)
        };
        self.chores.push(work.boxed());
    }

    /// Takes jobs off their queues.
    pub(super) fn ack(&self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        let tags: Vec<Tag> = keys.iter().filter_map(|key| self.active.get(key)).map(|active| active.tag).collect();
        let broker = Arc::clone(&self.broker);
        self.chores.push(async move { Chore::Acked(keys, ack_patiently(broker.as_ref(), &tags).await) }.boxed());
    }

    /// Takes what came by the intake off it.
    pub(super) fn ack_tags(&self, tags: Vec<Tag>) {
        if tags.is_empty() {
            return;
        }
        let broker = Arc::clone(&self.broker);
        let work = async move {
            drop(ack_patiently(broker.as_ref(), &tags).await);
            Chore::Done
        };
        self.chores.push(work.boxed());
    }

    fn on_acked(&mut self, keys: Vec<Key>, result: &Result<(), BrokerError>) {
        if let Err(error) = result {
            tracing::warn!(account = %self.account, %error, "acknowledgements failed; those jobs come again and are recognised");
        }
        let now = self.clock.now();
        for key in keys {
            if result.is_err() {
                // What is not acknowledged comes again once the link is closed; the ledger knows it then.
                self.unlink(&key.0, now);
                self.attention.insert(key.0.clone());
            }
            self.let_go(&key, None);
        }
    }

    /// Writes the campaign's record; with a step that follows it.
    pub(super) fn put_campaign(&mut self, id: &CampaignId, step: Option<Step>, now: tokio::time::Instant) {
        let Some(roll) = self.rolls.get(id) else { return };
        let change = crate::store::Change::Campaign(roll.campaign.clone());
        self.journal.change(change, step, now);
        self.journal.follow(Step::Noted(id.clone()), now);
    }

    pub(super) fn outdate_note(&mut self, id: &CampaignId) {
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.note = NoteState::Outdated;
            self.attention.insert(id.clone());
        }
    }
}

/// Where a job goes when it is not done here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Destination {
    Jobs,
    Wait(Duration),
    Dead,
}

/// The job as it goes on its way: the body untouched, our headers brought up to date.
fn wait_message(active: &Active) -> Message {
    let headers = Headers {
        message_id: active.job.as_ref().map(|job| job.id.as_str().to_owned()),
        kind: None,
        routed_to: None,
        attempts: active.attempts,
        release: active.release,
        redelivered: false, // what the ledger says of it is durable: it was not sent, or will be settled by that
        first_seen: Some(active.first_seen),
        batch: active.message.headers.batch.clone(),
        death: None,
    };
    Message { body: active.message.body.clone(), headers }
}

/// Publishes until the broker confirms. An unconfirmed try may have arrived; a second copy does no harm, a lost job would. What is
/// repeated says so: should the ledger be lost in between, the copy is not taken for a job of which nothing was ever sent.
pub(super) async fn publish_until_confirmed(broker: &dyn Broker, id: &CampaignId, destination: Destination, message: &Message) {
    let target = match destination {
        Destination::Jobs => Target::Jobs(id),
        Destination::Wait(wait) => Target::Wait(id, wait),
        Destination::Dead => Target::Dead(id),
    };
    let mut wait = BROKER_RETRY / 4;
    let mut result = broker.publish(target, message).await;
    let mut copy = None;
    while let Err(error) = result {
        tracing::warn!(campaign = %id, %error, "not confirmed yet; trying again");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_RETRY);
        result = broker.publish(target, copy.get_or_insert_with(|| repeated(message))).await;
    }
}

/// The message as it is published again when nobody knows whether it had arrived.
fn repeated(message: &Message) -> Message {
    let headers = Headers { redelivered: true, ..message.headers.clone() };
    Message { headers, ..message.clone() }
}

/// Acknowledges, again if need be: what was delivered and is not acknowledged stays with this subscription until it ends.
pub(super) async fn ack_patiently(broker: &dyn Broker, tags: &[Tag]) -> Result<(), BrokerError> {
    let mut wait = BROKER_RETRY / 16;
    let mut result = broker.ack(tags).await;
    for _ in 0..ACK_TRIES {
        let Err(error) = &result else { break };
        tracing::debug!(%error, "not acknowledged yet; trying again");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_RETRY);
        result = broker.ack(tags).await;
    }
    result
}

/// An answer nobody waits for any more is no error.
pub(super) fn reply<T>(answer: oneshot::Sender<T>, value: T) {
    drop(answer.send(value));
}

/// Publishes to the unsorted dead letters, then takes the delivery off the intake.
pub(in crate::engine) async fn bury_at(broker: &dyn Broker, message: &Message, tag: Tag) {
    publish_until_confirmed(broker, &CampaignId::unsorted(), Destination::Dead, message).await;
    drop(ack_patiently(broker, &[tag]).await);
}
