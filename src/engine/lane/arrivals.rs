//! What came by the intake and belongs into a campaign's own queue: moved there, or put off while that queue cannot be made.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};

use super::Lane;
use super::remnant::Remnant;
use super::settle::{Chore, Destination, ack_patiently, publish_until_confirmed};
use crate::broker::{Delivery, Headers, Message, SubscriptionId};
use crate::campaign::Phase;
use crate::job::CampaignId;

/// Arrivals moved into their campaign's queue at the same time.
const MOVES_AT_ONCE: usize = 256;

/// Arrivals that wait for a queue that could not be made; further ones come again later.
pub(super) const MOST_ARRIVALS: usize = 64;

/// How much later.
const PUT_OFF: Duration = Duration::from_secs(15);

impl Lane {
    /// Lets a job come again later: a campaign whose queue cannot be made must not take the intake's room from all others.
    pub(super) fn put_off(&mut self, id: &CampaignId, delivery: Delivery) {
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.moving += 1;
        }
        let (broker, id) = (Arc::clone(&self.broker), id.clone());
        let mut message = moved(&delivery);
        message.headers.redelivered = true; // should its original come again, it is sent long before this copy comes home
        let work = async move {
            publish_until_confirmed(broker.as_ref(), &id, Destination::Wait(PUT_OFF), &message).await;
            drop(ack_patiently(broker.as_ref(), &[delivery.tag]).await);
            Chore::Moved { id, count: 1, away: PUT_OFF }
        };
        self.chores.push(work.boxed());
    }

    /// A job that came by the intake and waits for its campaign's queue.
    pub(super) fn take_arrival(&mut self, id: &CampaignId, delivery: Delivery) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        if roll.unpreparable && roll.arrivals.len() >= MOST_ARRIVALS {
            return self.put_off(id, delivery);
        }
        roll.arrivals.push(delivery);
        self.attention.insert(id.clone());
        self.move_arrivals(id);
    }

    /// The intake's link has ended: what came by it is void and comes again.
    pub(super) fn forget_arrivals(&mut self, intake: SubscriptionId) {
        (self.intake_remnant, self.intake_since) = (Remnant::Unknown { ask_at: self.clock.now() }, None);
        for roll in self.rolls.values_mut() {
            roll.arrivals.retain(|delivery| delivery.tag.subscription != intake);
            roll.ready.retain(|delivery| delivery.tag.subscription != intake);
            roll.announcements.retain(|tag| tag.subscription != intake);
        }
    }

    /// Moves what came by the intake into the campaign's own queue.
    pub(super) fn move_arrivals(&mut self, id: &CampaignId) {
        let Some(roll) = self.rolls.get_mut(id).filter(|roll| roll.prepared && !roll.arrivals.is_empty()) else { return };
        let arrivals = std::mem::take(&mut roll.arrivals);
        let count = arrivals.len();
        roll.moving += count;
        if roll.campaign.phase != Phase::Running {
            // it ended while they waited: what is put into its queue is taken off again
            roll.leftovers = true;
            roll.campaign.queue_gone = false;
            roll.last_delivery = self.clock.now();
        }
        let (broker, id) = (Arc::clone(&self.broker), id.clone());
        let work = async move {
            let moves = arrivals.into_iter().map(|delivery| {
                let (broker, id) = (&broker, &id);
                async move {
                    let message = moved(&delivery);
                    publish_until_confirmed(broker.as_ref(), id, Destination::Jobs, &message).await;
                    delivery.tag
                }
            });
            // acknowledged as they are confirmed: one that hangs keeps no other from being settled
            let mut moved = stream::iter(moves).buffer_unordered(MOVES_AT_ONCE).ready_chunks(MOVES_AT_ONCE);
            while let Some(tags) = moved.next().await {
                drop(ack_patiently(broker.as_ref(), &tags).await);
            }
            drop(moved);
            Chore::Moved { id, count, away: Duration::ZERO }
        };
        self.chores.push(work.boxed());
    }

    pub(super) fn on_moved(&mut self, id: CampaignId, count: usize, away: Duration) {
        let now = self.clock.now();
        self.note_away(&id, away, now);
        if let Some(roll) = self.rolls.get_mut(&id) {
            roll.moving = roll.moving.saturating_sub(count);
            roll.last_delivery = now;
        }
        self.attention.insert(id);
    }
}

/// A message of the intake as it goes into its campaign's queue.
fn moved(delivery: &Delivery) -> Message {
    let headers = Headers { routed_to: None, kind: None, ..delivery.message.headers.clone() };
    Message { body: delivery.message.body.clone(), headers }
}
