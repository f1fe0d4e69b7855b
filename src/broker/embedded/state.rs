//! What is known of a queue while the process runs: how far it was handed out, to whom, and what came back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::message::Whole;
use super::queue::{QueueName, Record};
use crate::broker::{Delivery, Message, SubscriptionId, Tag};
use crate::lock::lock;

/// A queue and everybody who waits for something of it.
pub(super) struct Queue {
    pub(super) name: QueueName,
    view: Mutex<View>,
    /// Pumps read the queue one at a time, so that what they hand out is in order.
    pub(super) turn: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct View {
    declared: bool,
    /// Messages on disk.
    stored: u64,
    /// Of those, settled and about to be taken off.
    settled: u64,
    /// The number after the last message on disk.
    end: u64,
    /// Below this everything was handed out once by this process.
    cursor: u64,
    /// Below this an earlier process may have delivered it.
    old_below: u64,
    /// Up to here it is on disk that messages may have been delivered.
    marked: u64,
    /// Handed out and come back: to go out again first.
    returned: BTreeSet<u64>,
    subscriptions: BTreeMap<SubscriptionId, Unsettled>,
}

#[derive(Default)]
struct Unsettled {
    next_tag: u64,
    by_tag: BTreeMap<u64, Taken>,
}

/// A message by its place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) pieces: u8,
}

/// What a pump should do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing until something changes.
    Wait,
    /// Hand these out again.
    Again(Vec<u64>),
    /// Hand out up to `slots` from `from` on; there is nothing at or after `end`.
    Ahead { from: u64, end: u64, slots: usize },
    /// The subscription is over, by itself or because its queue was deleted.
    Over(&'static str),
}

/// A message read from disk.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) at: Taken,
    pub(super) message: Message,
}

impl Fetched {
    pub(super) fn from(whole: &Whole) -> Option<Self> {
        let at = Taken { number: super::message::number(&whole.key)?, pieces: whole.pieces };
        Some(Self { at, message: super::message::decode(&whole.stored)? })
    }
}

impl Queue {
    pub(super) fn new(name: QueueName, record: &Record) -> Arc<Self> {
        let view = View {
            declared: record.declared || !name.needs_declaring(),
            stored: record.stored,
            end: record.next,
            old_below: record.marked,
            marked: record.marked,
            ..View::default()
        };
        Arc::new(Self { name, view: Mutex::new(view), turn: tokio::sync::Mutex::default(), changes: watch::Sender::new(0) })
    }

    fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What was written about the queue, and how many settled messages have been taken off with it.
    pub(super) fn written(&self, record: &Record, taken_off: u64) {
        {
            let mut view = self.view();
            view.declared = record.declared || !self.name.needs_declaring();
            view.end = view.end.max(record.next);
            view.marked = view.marked.max(record.marked);
            view.stored = record.stored;
            view.settled = view.settled.saturating_sub(taken_off);
        }
        self.changed();
    }

    pub(super) fn marked(&self) -> u64 {
        self.view().marked
    }

    /// Messages not settled, handed out or not.
    pub(super) fn left(&self) -> u64 {
        let view = self.view();
        view.stored.saturating_sub(view.settled)
    }

    /// Messages not handed out.
    pub(super) fn ready(&self) -> u64 {
        let view = self.view();
        let unsettled: usize = view.subscriptions.values().map(|s| s.by_tag.len()).sum();
        view.stored.saturating_sub(view.settled).saturating_sub(unsettled as u64)
    }

    /// Begins a subscription; `false` when there is no such queue.
    pub(super) fn begin(&self, id: SubscriptionId) -> bool {
        let mut view = self.view();
        let declared = view.declared;
        if declared {
            view.subscriptions.insert(id, Unsettled::default());
        }
        declared
    }

    /// Ends a subscription: what it had unsettled goes back to its place.
    pub(super) fn end(&self, id: SubscriptionId) {
        let ended = {
            let mut view = self.view();
            let ended = view.subscriptions.remove(&id);
            if let Some(unsettled) = &ended {
                view.returned.extend(unsettled.by_tag.values().map(|taken| taken.number));
            }
            ended.is_some()
        };
        if ended {
            self.changed();
        }
    }

    pub(super) fn plan(&self, id: SubscriptionId, prefetch: usize) -> Plan {
        let view = self.view();
        let Some(unsettled) = view.subscriptions.get(&id) else { return Plan::Over("the subscription was dropped") };
        if !view.declared {
            return Plan::Over("the queue was deleted");
        }
        let slots = prefetch.saturating_sub(unsettled.by_tag.len());
        if slots == 0 {
            Plan::Wait
        } else if !view.returned.is_empty() {
            Plan::Again(view.returned.iter().copied().take(slots.min(super::READ_MESSAGES)).collect())
        } else if view.cursor < view.end {
            Plan::Ahead { from: view.cursor, end: view.end, slots }
        } else {
            Plan::Wait
        }
    }

    /// There is nothing before `number` that was not handed out.
    pub(super) fn skip_to(&self, number: u64) {
        let mut view = self.view();
        view.cursor = view.cursor.max(number);
    }

    /// These were to come again but are no longer there.
    pub(super) fn forget(&self, numbers: &[u64]) {
        let mut view = self.view();
        for number in numbers {
            view.returned.remove(number);
        }
    }

    /// Makes deliveries of messages, in order; none when the subscription is over.
    pub(super) fn hand_out(&self, id: SubscriptionId, messages: Vec<Fetched>) -> Option<Vec<Delivery>> {
        let mut view = self.view();
        let View { cursor, old_below, returned, subscriptions, .. } = &mut *view;
        let unsettled = subscriptions.get_mut(&id)?;
        let deliveries = messages.into_iter().map(|Fetched { at, message }| {
            let redelivered = returned.remove(&at.number) || at.number < *old_below;
            *cursor = (*cursor).max(at.number + 1);
            let tag = Tag { subscription: id, number: unsettled.next_tag };
            unsettled.next_tag += 1;
            unsettled.by_tag.insert(tag.number, at);
            Delivery { tag, message, redelivered }
        });
        Some(deliveries.collect())
    }

    /// Takes deliveries off. Those of ended subscriptions and those settled before are passed over.
    pub(super) fn settle(&self, tags: &[Tag]) -> Vec<Taken> {
        let settled: Vec<Taken> = {
            let mut view = self.view();
            let View { subscriptions, settled: count, .. } = &mut *view;
            let take = |tag: &Tag| subscriptions.get_mut(&tag.subscription)?.by_tag.remove(&tag.number);
            let settled: Vec<Taken> = tags.iter().filter_map(take).collect();
            *count += settled.len() as u64;
            settled
        };
        if !settled.is_empty() {
            self.changed();
        }
        settled
    }
}
