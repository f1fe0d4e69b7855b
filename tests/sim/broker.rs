//! A broker with faults: lost acknowledgements, copies, dropped connections, unconfirmed publishes, reordering.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use campaignd::broker::{
    Broker, BrokerError, Delivery, Event, Message, Prepared, Source, Subscription, SubscriptionId, Tag, Target,
};
use campaignd::dice::Dice;
use campaignd::job::CampaignId;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often something goes wrong, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost_ack: f64,
    pub(crate) publish_lost: f64,
    pub(crate) publish_unconfirmed: f64,
    pub(crate) copy: f64,
    pub(crate) reorder: f64,
    pub(crate) down: f64,
}

#[derive(Debug, Clone)]
struct Stored {
    message: Message,
    redelivered: bool,
    order: u64,
}

struct Reader {
    source: Source,
    prefetch: usize,
    unsettled: BTreeMap<u64, Stored>,
    next: u64,
}

struct Inner {
    queues: BTreeMap<Source, VecDeque<Stored>>,
    bound: Vec<CampaignId>,
    waiting: Vec<(Instant, CampaignId, Message)>,
    readers: BTreeMap<SubscriptionId, Reader>,
    notes: BTreeMap<CampaignId, Bytes>,
    next_id: u64,
    next_order: u64,
    dice: Dice,
    faults: Faults,
}

/// Shared by every life of the daemon.
#[derive(Clone)]
pub(crate) struct SimBroker {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

impl SimBroker {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let inner = Inner {
            queues: BTreeMap::new(),
            bound: Vec::new(),
            waiting: Vec::new(),
            readers: BTreeMap::new(),
            notes: BTreeMap::new(),
            next_id: 0,
            next_order: 0,
            dice: Dice::seed_from_u64(seed),
            faults,
        };
        Self { inner: Arc::new(Mutex::new(inner)), changed: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The next delivery, if there is one now; none at all when the subscription is cut.
    fn next_delivery(&self, id: SubscriptionId) -> Option<Option<Delivery>> {
        let mut inner = self.lock();
        inner.come_home(Instant::now());
        inner.readers.contains_key(&id).then(|| inner.next_delivery(id))
    }

    /// No more faults: the world calms down, so that everything can come to its end.
    pub(crate) fn calm(&self) {
        self.lock().faults = Faults::default();
    }

    /// Every connection breaks.
    pub(crate) fn cut(&self) {
        let ids: Vec<SubscriptionId> = self.lock().readers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.lock().give_back(id));
        self.changed.notify_waiters();
    }

    /// Messages in the dead letters of a campaign.
    pub(crate) fn dead(&self, campaign: &CampaignId) -> Vec<Message> {
        let inner = self.lock();
        let source = Source::Dead(campaign.clone());
        let ready = inner.queues.get(&source).into_iter().flatten();
        let held = inner.readers.values().filter(|r| r.source == source).flat_map(|r| r.unsettled.values());
        ready.chain(held).map(|stored| stored.message.clone()).collect()
    }

    /// Jobs still at the broker, wherever they are, the dead letters apart.
    pub(crate) fn left(&self) -> usize {
        let inner = self.lock();
        let ready =
            inner.queues.iter().filter(|(source, _)| !matches!(source, Source::Dead(_))).map(|(_, q)| q.len()).sum::<usize>();
        let held =
            inner.readers.values().filter(|r| !matches!(r.source, Source::Dead(_))).map(|r| r.unsettled.len()).sum::<usize>();
        ready + held + inner.waiting.len()
    }
}

impl SimBroker {
    /// Where the jobs are that are still here, for a person to read.
    pub(crate) fn where_left(&self) -> String {
        let inner = self.lock();
        let ready: Vec<_> = inner.queues.iter().map(|(source, queue)| (source, queue.len())).collect();
        let held: Vec<_> = inner.readers.iter().map(|(id, r)| (id, &r.source, r.unsettled.len())).collect();
        format!("ready {ready:?}, held {held:?}, waiting {}, bound {:?}", inner.waiting.len(), inner.bound)
    }
}

impl Inner {
    fn roll(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.dice.random_bool(chance)
    }

    fn put(&mut self, source: Source, message: Message) {
        let stored = Stored { message, redelivered: false, order: self.next_order };
        self.next_order += 1;
        let reorder = self.faults.reorder;
        // A single reader and a producer that waits for its confirm keep the intake in order.
        let swap = source != Source::Intake && self.roll(reorder);
        let queue = self.queues.entry(source).or_default();
        queue.push_back(stored);
        if swap && queue.len() > 1 {
            let at = self.dice.random_range(0..queue.len());
            let last = queue.len() - 1;
            queue.swap(at, last);
        }
    }

    fn route(&mut self, campaign: &CampaignId, mut message: Message) {
        message.headers.routed_to = Some(campaign.to_string());
        let source = if self.bound.contains(campaign) { Source::Jobs(campaign.clone()) } else { Source::Intake };
        self.put(source, message);
    }

    fn come_home(&mut self, now: Instant) {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|(at, ..)| *at <= now);
        self.waiting = later;
        due.into_iter().for_each(|(_, campaign, message)| self.route(&campaign, message));
    }

    /// Ends a subscription; what it had not settled goes back to its place.
    fn give_back(&mut self, id: SubscriptionId) {
        let Some(reader) = self.readers.remove(&id) else { return };
        let queue = self.queues.entry(reader.source).or_default();
        for (_, mut stored) in reader.unsettled.into_iter().rev() {
            stored.redelivered = true;
            let at = queue.iter().position(|other| other.order > stored.order).unwrap_or(queue.len());
            queue.insert(at, stored);
        }
    }

    fn next_delivery(&mut self, id: SubscriptionId) -> Option<Delivery> {
        let reader = self.readers.get_mut(&id)?;
        if reader.unsettled.len() >= reader.prefetch {
            return None;
        }
        let stored = self.queues.get_mut(&reader.source)?.pop_front()?;
        reader.next += 1;
        let number = reader.next;
        reader.unsettled.insert(number, stored.clone());
        Some(Delivery { tag: Tag { subscription: id, number }, message: stored.message, redelivered: stored.redelivered })
    }
}

/// Delivers to one subscription until it is cut or dropped.
async fn pump(broker: SimBroker, id: SubscriptionId, sink: mpsc::Sender<Event>) {
    loop {
        let changed = broker.changed.notified();
        let Some(next) = broker.next_delivery(id) else {
            drop(sink.send(Event::Ended { subscription: id, reason: "cut".into() }).await);
            return;
        };
        match next {
            Some(delivery) => {
                if sink.send(Event::Delivery(delivery)).await.is_err() {
                    return;
                }
            }
            None => drop(tokio::time::timeout(Duration::from_millis(100), changed).await),
        }
    }
}

struct Guard {
    _pump: JoinSet<()>,
    broker: SimBroker,
    id: SubscriptionId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.broker.lock().give_back(self.id);
        self.broker.changed.notify_waiters();
    }
}

#[async_trait]
impl Broker for SimBroker {
    async fn prepare(&self, campaign: &CampaignId) -> Result<Prepared, BrokerError> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.fail_sometimes()?;
        let mut inner = self.lock();
        let existed = inner.bound.contains(campaign);
        if !existed {
            inner.bound.push(campaign.clone());
        }
        Ok(Prepared { existed })
    }

    async fn subscribe(&self, source: Source, prefetch: u16, sink: mpsc::Sender<Event>) -> Result<Subscription, BrokerError> {
        self.fail_sometimes()?;
        let id = {
            let mut inner = self.lock();
            inner.next_id += 1;
            let id = SubscriptionId(inner.next_id);
            let reader = Reader { source, prefetch: usize::from(prefetch), unsettled: BTreeMap::new(), next: 0 };
            inner.readers.insert(id, reader);
            id
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(pump(self.clone(), id, sink));
        Ok(Subscription::new(id, Guard { _pump: tasks, broker: self.clone(), id }))
    }

    async fn ack(&self, tags: &[Tag]) -> Result<(), BrokerError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut inner = self.lock();
        let chance = inner.faults.lost_ack;
        if inner.roll(chance) {
            return Err(BrokerError::Down("acknowledgement lost".into()));
        }
        for tag in tags {
            if let Some(reader) = inner.readers.get_mut(&tag.subscription) {
                reader.unsettled.remove(&tag.number);
            }
        }
        drop(inner);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn publish(&self, to: Target<'_>, message: &Message) -> Result<(), BrokerError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut inner = self.lock();
        let faults = inner.faults;
        if inner.roll(faults.publish_lost) {
            return Err(BrokerError::Refused("no leader".into()));
        }
        let copies = if inner.roll(faults.copy) { 2 } else { 1 };
        for _ in 0..copies {
            match to {
                Target::Jobs(campaign) => inner.route(campaign, message.clone()),
                Target::Wait(campaign, wait) => inner.waiting.push((Instant::now() + wait, campaign.clone(), message.clone())),
                Target::Dead(campaign) => inner.put(Source::Dead(campaign.clone()), message.clone()),
                Target::Announce(_) => inner.put(Source::Intake, message.clone()),
            }
        }
        let unconfirmed = inner.roll(faults.publish_unconfirmed);
        drop(inner);
        self.changed.notify_waiters();
        if unconfirmed { Err(BrokerError::Timeout(Duration::from_secs(10))) } else { Ok(()) }
    }

    async fn depth(&self, source: &Source) -> Result<u64, BrokerError> {
        Ok(self.lock().queues.get(source).map_or(0, |queue| queue.len() as u64))
    }

    async fn remove(&self, campaign: &CampaignId) -> Result<bool, BrokerError> {
        self.fail_sometimes()?;
        let mut inner = self.lock();
        let source = Source::Jobs(campaign.clone());
        let held = inner.readers.values().any(|reader| reader.source == source && !reader.unsettled.is_empty());
        let empty = !held && inner.queues.get(&source).is_none_or(VecDeque::is_empty);
        if empty {
            inner.bound.retain(|bound| bound != campaign);
        }
        Ok(empty)
    }

    async fn remember(&self, campaign: &CampaignId, note: &[u8]) -> Result<(), BrokerError> {
        self.fail_sometimes()?;
        self.lock().notes.insert(campaign.clone(), Bytes::copy_from_slice(note));
        Ok(())
    }

    async fn recall(&self) -> Result<Vec<(CampaignId, Bytes)>, BrokerError> {
        self.fail_sometimes()?;
        Ok(self.lock().notes.iter().map(|(id, note)| (id.clone(), note.clone())).collect())
    }
}

impl SimBroker {
    fn fail_sometimes(&self) -> Result<(), BrokerError> {
        let mut inner = self.lock();
        let chance = inner.faults.down;
        if inner.roll(chance) { Err(BrokerError::Down("simulated".into())) } else { Ok(()) }
    }
}
