//! Carries messages from a queue to a subscriber: reads ahead a window, marks before it delivers, never more unsettled than allowed.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::message::{self, assemble};
use super::state::{Fetched, Plan, Queue};
use super::writer::Op;
use super::{MARK_AHEAD, READ_BYTES, READ_MESSAGES, Shared};
use crate::broker::{Event, SubscriptionId};
use crate::disk::{Fault, Group, Slot};

/// One subscription's way of working.
pub(super) struct Pump {
    pub(super) id: SubscriptionId,
    pub(super) queue: Arc<Queue>,
    pub(super) prefetch: usize,
    pub(super) sink: mpsc::Sender<Event>,
    // weak: a subscription does not keep a broker open that was dropped
    pub(super) shared: Weak<Shared>,
    pub(super) writer: Weak<Group<Op>>,
}

/// Ends the subscription when it is dropped.
pub(super) struct Guard {
    pub(super) queue: Arc<Queue>,
    pub(super) id: SubscriptionId,
    pub(super) shared: Weak<Shared>,
    pub(super) _pump: JoinSet<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.queue.end(self.id);
        if let Some(shared) = self.shared.upgrade() {
            shared.unsubscribe(self.id);
        }
    }
}

impl Pump {
    /// Runs until the subscription is over; says why, unless the subscriber went away.
    pub(super) async fn run(self) {
        let reason = self.deliver().await;
        self.queue.end(self.id);
        if let Some(reason) = reason {
            let _ = self.sink.send(Event::Ended { subscription: self.id, reason }).await;
        }
    }

    async fn deliver(&self) -> Option<String> {
        let mut changes = self.queue.changes();
        let mut ahead = VecDeque::new();
        loop {
            changes.mark_unchanged();
            let deliveries = {
                let _turn = self.queue.turn.lock().await;
                let messages = match self.queue.plan(self.id, self.prefetch) {
                    Plan::Over(reason) => return Some(reason.into()),
                    Plan::Wait => None,
                    Plan::Again(numbers) => Some(self.fetch_again(numbers).await),
                    Plan::Ahead { from, end, slots } => Some(self.take_ahead(&mut ahead, from, end, slots).await),
                };
                match messages.transpose() {
                    Ok(None) => None,
                    Ok(Some(messages)) => match self.mark(&messages).await {
                        Ok(()) => Some(self.queue.hand_out(self.id, messages)?),
                        Err(fault) => return Some(fault.to_string()),
                    },
                    Err(fault) => return Some(fault.to_string()),
                }
            };
            let Some(deliveries) = deliveries else {
                changes.changed().await.ok()?;
                continue;
            };
            for delivery in deliveries {
                self.sink.send(Event::Delivery(delivery)).await.ok()?;
            }
        }
    }

    /// What comes next, from what was read ahead or from disk.
    async fn take_ahead(&self, ahead: &mut VecDeque<Fetched>, from: u64, end: u64, slots: usize) -> Result<Vec<Fetched>, Fault> {
        // another subscription of this queue may have handed out some of it
        while ahead.front().is_some_and(|next| next.at.number < from) {
            ahead.pop_front();
        }
        if ahead.is_empty() {
            let name = self.queue.name.clone();
            let (first, last) = (message::key(&name, from, 0), message::key(&name, end, 0));
            *ahead =
                self.read(move |slot| slot.read(|db| assemble(db.range(&first, &last), READ_MESSAGES, READ_BYTES))).await?.into();
        }
        if ahead.is_empty() {
            self.queue.skip_to(end);
        }
        let count = slots.min(ahead.len());
        Ok(ahead.drain(..count).collect())
    }

    async fn fetch_again(&self, numbers: Vec<u64>) -> Result<Vec<Fetched>, Fault> {
        let name = self.queue.name.clone();
        let wanted = numbers.clone();
        let read = move |slot: &Slot| {
            let mut found = VecDeque::new();
            for number in wanted {
                let (first, last) = (message::key(&name, number, 0), message::key(&name, number, u8::MAX));
                found.append(&mut slot.read(|db| assemble(db.range(&first, &last), 1, READ_BYTES))?);
            }
            Ok(found)
        };
        let found = self.read(read).await?;
        let gone: Vec<u64> = numbers.into_iter().filter(|n| !found.iter().any(|fetched| fetched.at.number == *n)).collect();
        self.queue.forget(&gone);
        Ok(found)
    }

    /// Reads on a thread where waiting for the disk holds up nobody.
    async fn read(
        &self,
        read: impl FnOnce(&Slot) -> Result<VecDeque<message::Whole>, Fault> + Send + 'static,
    ) -> Result<Vec<Fetched>, Fault> {
        let shared = self.shared.upgrade().ok_or_else(closed)?;
        let found = tokio::task::spawn_blocking(move || {
            let unreadable = || Fault::Damaged("a message cannot be read".into());
            read(&shared.slot)?.iter().map(|whole| Fetched::from(whole).ok_or_else(unreadable)).collect()
        });
        found.await.unwrap_or_else(|e| Err(Fault::Io(e.to_string())))
    }

    /// Before a message goes out it is on disk that it may have been delivered; in steps, so that this seldom costs a flush.
    async fn mark(&self, messages: &[Fetched]) -> Result<(), Fault> {
        let Some(last) = messages.last() else { return Ok(()) };
        if last.at.number < self.queue.marked() {
            return Ok(());
        }
        let writer = self.writer.upgrade().ok_or_else(closed)?;
        writer.write_in_time(Op::Mark(self.queue.name.clone(), last.at.number + MARK_AHEAD)).await
    }
}

fn closed() -> Fault {
    Fault::Io("the broker was closed".into())
}
