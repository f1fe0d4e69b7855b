//! What the broker holds: queues in order, deliveries not yet settled, messages waiting for their time. No time passes here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use campaignd::broker::{Delivery, Event, Message, Source, SubscriptionId, Tag, Target};
use campaignd::dice::Dice;
use campaignd::job::CampaignId;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::plan::BrokerFaults;
use crate::witness::Witness;

/// Publishes within so short a time may come in any order: they go by connections and channels that know nothing of each other. What
/// stood in a queue before is not overtaken, and what is given back goes to its place, as in a quorum queue.
const SIDE_BY_SIDE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
struct Stored {
    message: Message,
    redelivered: bool,
    order: u64,
    since: Instant,
}

struct Reader {
    source: Source,
    prefetch: usize,
    sink: mpsc::Sender<Event>,
    unsettled: BTreeMap<u64, Stored>,
    settled: BTreeSet<u64>,
    next: u64,
}

pub(crate) struct Queues {
    ready: BTreeMap<Source, VecDeque<Stored>>,
    bound: BTreeSet<CampaignId>,
    waiting: Vec<(Instant, CampaignId, Message)>,
    readers: BTreeMap<SubscriptionId, Reader>,
    pub(crate) notes: BTreeMap<CampaignId, Bytes>,
    next_id: u64,
    next_order: u64,
    witness: Witness,
    pub(crate) dice: Dice,
    pub(crate) faults: BrokerFaults,
    /// Nothing is answered until then.
    pub(crate) out_until: Instant,
}

impl Queues {
    pub(crate) fn new(seed: u64, faults: BrokerFaults, witness: Witness) -> Self {
        Self {
            ready: BTreeMap::new(),
            bound: BTreeSet::new(),
            waiting: Vec::new(),
            readers: BTreeMap::new(),
            notes: BTreeMap::new(),
            next_id: 0,
            next_order: 0,
            witness,
            dice: Dice::seed_from_u64(seed),
            faults,
            out_until: Instant::now(),
        }
    }

    pub(crate) fn roll(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.dice.random_bool(chance)
    }

    /// Whether it was bound before.
    pub(crate) fn bind(&mut self, campaign: &CampaignId) -> bool {
        !self.bound.insert(campaign.clone())
    }

    /// Takes the queue away if it is empty.
    pub(crate) fn unbind(&mut self, campaign: &CampaignId) -> bool {
        let empty = self.of(&Source::Jobs(campaign.clone())).is_empty();
        if empty {
            self.bound.remove(campaign);
        }
        empty
    }

    /// A message that was published.
    pub(crate) fn take_in(&mut self, to: Target<'_>, message: Message) {
        match to {
            Target::Jobs(campaign) => self.route(campaign, message),
            Target::Wait(campaign, wait) => self.wait(Instant::now() + wait, campaign, message),
            Target::Dead(campaign) => self.put(Source::Dead(campaign.clone()), message),
            Target::Announce(_) => self.put(Source::Intake, message),
        }
    }

    fn put(&mut self, source: Source, message: Message) {
        let now = Instant::now();
        let stored = Stored { message, redelivered: false, order: self.next_order, since: now };
        self.next_order += 1;
        // A single reader and a producer that waits for its confirm keep the intake in order.
        let overtakes = source != Source::Intake && self.roll(self.faults.reorder);
        let queue = self.ready.entry(source.clone()).or_default();
        let beside = queue.iter().rev().take_while(|other| !other.redelivered && now - other.since < SIDE_BY_SIDE).count();
        let past = if overtakes { self.dice.random_range(0..=beside) } else { 0 };
        queue.insert(queue.len() - past, stored);
        if past > 0 {
            let moved = queue.len() - past - 1;
            let mut places: Vec<u64> = queue.range(moved..).map(|stored| stored.order).collect();
            places.sort_unstable();
            queue.range_mut(moved..).zip(places).for_each(|(stored, place)| stored.order = place);
            self.witness.fired("a message overtakes another");
        }
        self.deliver(&source);
    }

    fn route(&mut self, campaign: &CampaignId, mut message: Message) {
        message.headers.routed_to = Some(campaign.to_string());
        let source = if self.bound.contains(campaign) { Source::Jobs(campaign.clone()) } else { Source::Intake };
        self.put(source, message);
    }

    pub(crate) fn wait(&mut self, until: Instant, campaign: &CampaignId, message: Message) {
        self.waiting.push((until, campaign.clone(), message));
    }

    /// Routes what has waited long enough; when the next is due.
    pub(crate) fn come_home(&mut self, now: Instant) -> Option<Instant> {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|(at, ..)| *at <= now);
        self.waiting = later;
        due.into_iter().for_each(|(_, campaign, message)| self.route(&campaign, message));
        self.waiting.iter().map(|(at, ..)| *at).min()
    }

    pub(crate) fn subscribe(&mut self, source: Source, prefetch: usize, sink: mpsc::Sender<Event>) -> SubscriptionId {
        self.next_id += 1;
        let id = SubscriptionId(self.next_id);
        let (unsettled, settled) = (BTreeMap::new(), BTreeSet::new());
        let reader = Reader { source: source.clone(), prefetch, sink, unsettled, settled, next: 0 };
        self.readers.insert(id, reader);
        self.deliver(&source);
        id
    }

    /// Hands over as much as the readers of a queue may hold.
    fn deliver(&mut self, source: &Source) {
        let Some(queue) = self.ready.get_mut(source) else { return };
        for (id, reader) in self.readers.iter_mut().filter(|(_, reader)| reader.source == *source) {
            while reader.unsettled.len() < reader.prefetch {
                let Ok(room) = reader.sink.try_reserve() else { break };
                let Some(stored) = queue.pop_front() else { return };
                reader.next += 1;
                let tag = Tag { subscription: *id, number: reader.next };
                let (message, redelivered) = (stored.message.clone(), stored.redelivered);
                room.send(Event::Delivery(Delivery { tag, message, redelivered }));
                reader.unsettled.insert(reader.next, stored);
            }
        }
    }

    /// Takes deliveries off for good; what is wrong with that.
    pub(crate) fn ack(&mut self, tags: &[Tag]) -> Vec<String> {
        let mut wrong = Vec::new();
        for tag in tags {
            let Some(reader) = self.readers.get_mut(&tag.subscription) else { continue };
            if reader.unsettled.remove(&tag.number).is_some() {
                reader.settled.insert(tag.number);
            } else {
                let before = if reader.settled.contains(&tag.number) { "was settled before" } else { "was never delivered" };
                wrong.push(format!("{tag:?} of {:?} {before}", reader.source));
            }
            let source = reader.source.clone();
            self.deliver(&source);
        }
        wrong
    }

    /// Ends a subscription; what it had not settled goes back to its place.
    pub(crate) fn give_back(&mut self, id: SubscriptionId) {
        let Some(reader) = self.readers.remove(&id) else { return };
        let queue = self.ready.entry(reader.source.clone()).or_default();
        for (_, mut stored) in reader.unsettled.into_iter().rev() {
            stored.redelivered = true;
            let at = queue.iter().position(|other| other.order > stored.order).unwrap_or(queue.len());
            queue.insert(at, stored);
        }
        self.deliver(&reader.source);
    }

    /// Ends a subscription from this side.
    pub(crate) fn cut(&mut self, id: SubscriptionId) {
        let Some(reader) = self.readers.get(&id) else { return };
        // The sink has room for it: it holds at most what is unsettled, and that is less than it takes.
        drop(reader.sink.try_send(Event::Ended { subscription: id, reason: "cut".into() }));
        self.give_back(id);
    }

    pub(crate) fn cut_all(&mut self) {
        let ids: Vec<SubscriptionId> = self.readers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.cut(id));
    }

    pub(crate) fn ready(&self, source: &Source) -> usize {
        self.ready.get(source).map_or(0, VecDeque::len)
    }

    /// Messages of a queue, delivered or not.
    pub(crate) fn of(&self, source: &Source) -> Vec<Message> {
        let ready = self.ready.get(source).into_iter().flatten();
        let held = self.readers.values().filter(|reader| reader.source == *source).flat_map(|reader| reader.unsettled.values());
        ready.chain(held).map(|stored| stored.message.clone()).collect()
    }

    /// Messages wherever they are, the dead letters apart.
    pub(crate) fn left(&self) -> usize {
        let alive = |source: &Source| !matches!(source, Source::Dead(_));
        let ready: usize = self.ready.iter().filter(|(source, _)| alive(source)).map(|(_, queue)| queue.len()).sum();
        let held: usize = self.readers.values().filter(|reader| alive(&reader.source)).map(|r| r.unsettled.len()).sum();
        ready + held + self.waiting.len()
    }
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready: Vec<_> = self.ready.iter().map(|(source, queue)| (source, queue.len())).collect();
        let held: Vec<_> = self.readers.iter().map(|(id, r)| (id, &r.source, r.unsettled.len())).collect();
        write!(f, "ready {ready:?}, held {held:?}, waiting {}, bound {:?}", self.waiting.len(), self.bound)
    }
}
