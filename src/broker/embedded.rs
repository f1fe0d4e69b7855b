//! A broker within the process, on sled, for one daemon on one machine.
//!
//! | key | holds | file |
//! |---|---|---|
//! | `m` | format of the whole, times opened | `meta` |
//! | `q` queue | numbers of a queue | `queue` |
//! | `j` queue number piece | a message | `message` |
//! | `w` due serial piece | a job that comes back later | `wait` |
//! | `n` campaign | a note | `note` |

#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod message;
mod meta;
mod note;
mod open;
mod pump;
mod queue;
mod state;
mod steady;
mod wait;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{
    ANNOUNCEMENT, Bound, Broker, BrokerError, Event, Message, Prepared, Source, Subscription, SubscriptionId, Tag, Target,
};
use crate::clock::Clock;
pub use crate::disk::OpenError;
use crate::disk::{Fault, Group, Lock, Opening, Slot, prepare_dir};
use crate::job::CampaignId;
use crate::lock::lock;
use open::Found;
use pump::{Guard, Pump};
use queue::{QueueName, Record};
use state::Queue;
use steady::Steady;
use writer::{Op, Writer};

const DIRECTORY: &str = "queues";
const LOCK: &str = "queues.lock";

/// Messages a subscription reads ahead, and their bytes.
const READ_MESSAGES: usize = 128;
const READ_BYTES: usize = 512 << 10;

/// How many further messages are marked as delivered at a time. After a crash, so many may look redelivered that are not.
const MARK_AHEAD: u64 = 256;

/// The embedded broker. Dropping it writes what was handed to it and closes the database.
pub struct Embedded {
    // in this order: the writer must be done before the database closes
    writer: Arc<Group<Op>>,
    shared: Arc<Shared>,
}

/// What the broker, its writer and its pumps share.
struct Shared {
    slot: Slot,
    queues: Mutex<BTreeMap<QueueName, Arc<Queue>>>,
    subscriptions: Mutex<BTreeMap<SubscriptionId, Arc<Queue>>>,
    _lock: Lock,
}

impl Shared {
    fn queue(&self, name: &QueueName) -> Arc<Queue> {
        let mut queues = lock(&self.queues);
        Arc::clone(queues.entry(name.clone()).or_insert_with(|| Queue::new(name.clone(), &Record::default())))
    }

    fn unsubscribe(&self, id: SubscriptionId) {
        lock(&self.subscriptions).remove(&id);
    }
}

impl Embedded {
    /// Opens the database `queues` in the state directory `dir`, or makes one.
    ///
    /// # Errors
    /// When another process has it, it is damaged, a newer version wrote it, or the file system refuses.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, OpenError> {
        prepare_dir(dir)?;
        let lock = Lock::take(dir, LOCK)?;
        let dir = dir.join(DIRECTORY);
        let Opening { database, read: found, .. } = open::open(&dir, &clock)?;
        let Found { records, .. } = &found;
        let queues = records.iter().map(|(name, record)| (name.clone(), Queue::new(name.clone(), record))).collect();
        let shared = Arc::new(Shared {
            slot: Slot::new(database),
            queues: Mutex::new(queues),
            subscriptions: Mutex::default(),
            _lock: lock,
        });
        let mut writer = Writer::new(Arc::clone(&shared), dir.clone(), Steady::new(clock), found);
        let group = Group::start("queues", move |group| writer.write(group)).map_err(|e| OpenError::io(&dir, e))?;
        Ok(Self { writer: Arc::new(group), shared })
    }

    /// How many messages of `source` are not settled, whether or not somebody has them in hand; 0 when it does not exist.
    #[must_use]
    pub fn left(&self, source: &Source) -> u64 {
        self.shared.queue(&QueueName::of(source)).left()
    }

    async fn ask(&self, op: impl FnOnce(oneshot::Sender<bool>) -> Op) -> Result<bool, BrokerError> {
        let (answer, answered) = oneshot::channel();
        self.writer.write_in_time(op(answer)).await?;
        answered.await.map_err(|_| BrokerError::Storage("no answer from the writing thread".into()))
    }
}

#[async_trait]
impl Broker for Embedded {
    async fn prepare(&self, campaign: &CampaignId, _bound: Bound) -> Result<Prepared, BrokerError> {
        let existed = self.ask(|answer| Op::Declare(campaign.clone(), answer)).await?;
        Ok(Prepared { existed })
    }

    async fn subscribe(&self, source: Source, prefetch: u16, sink: mpsc::Sender<Event>) -> Result<Subscription, BrokerError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = SubscriptionId(NEXT.fetch_add(1, Ordering::Relaxed));
        let queue = self.shared.queue(&QueueName::of(&source));
        if !queue.begin(id) {
            return Err(BrokerError::Denied(format!("there is no queue for {source:?}; prepare it first")));
        }
        lock(&self.shared.subscriptions).insert(id, Arc::clone(&queue));
        let shared = Arc::downgrade(&self.shared);
        let pump = Pump {
            id,
            queue: Arc::clone(&queue),
            prefetch: usize::from(prefetch.max(1)),
            sink,
            shared: shared.clone(),
            writer: Arc::downgrade(&self.writer),
        };
        let mut set = JoinSet::new();
        set.spawn(pump.run());
        Ok(Subscription::new(id, Guard { queue, id, shared, _pump: set }))
    }

    async fn ack(&self, tags: &[Tag]) -> Result<(), BrokerError> {
        let mut rest = tags;
        while let Some(first) = rest.first() {
            let (run, later) = rest.split_at(rest.iter().take_while(|tag| tag.subscription == first.subscription).count());
            rest = later;
            let queue = lock(&self.shared.subscriptions).get(&first.subscription).cloned();
            let Some(queue) = queue else { continue };
            let taken = queue.settle(run);
            if !taken.is_empty() {
                self.writer.hand_over(Op::Settle(queue.name.clone(), taken)).await?;
            }
        }
        Ok(())
    }

    async fn publish(&self, to: Target<'_>, message: &Message) -> Result<(), BrokerError> {
        let mut headers = message.headers.clone();
        let (Target::Jobs(campaign) | Target::Wait(campaign, _) | Target::Dead(campaign) | Target::Announce(campaign)) = to;
        if let Target::Announce(_) = to {
            headers.kind.get_or_insert_with(|| ANNOUNCEMENT.into());
            headers.routed_to = None;
        } else {
            headers.routed_to = Some(campaign.to_string());
        }
        let stored = message::encode(&headers, &message.body).map_err(|e| BrokerError::Refused(e.to_string()))?;
        // a waiting job is stored with its delay and campaign in front
        if stored.len() + 128 > message::MAX_BYTES {
            return Err(BrokerError::Refused(format!("{} bytes are more than the embedded broker takes", message.body.len())));
        }
        Ok(self.writer.write_in_time(place(to, stored)).await?)
    }

    async fn depth(&self, source: &Source) -> Result<u64, BrokerError> {
        Ok(self.shared.queue(&QueueName::of(source)).ready())
    }

    async fn remove(&self, campaign: &CampaignId) -> Result<bool, BrokerError> {
        self.ask(|answer| Op::Remove(campaign.clone(), answer)).await
    }

    async fn remember(&self, campaign: &CampaignId, note: &[u8]) -> Result<(), BrokerError> {
        Ok(self.writer.write_in_time(Op::Note(campaign.clone(), note.to_vec())).await?)
    }

    async fn recall(&self) -> Result<Vec<(CampaignId, Bytes)>, BrokerError> {
        let read = |database: &crate::disk::Database| {
            let note = |item: Result<(sled::IVec, sled::IVec), Fault>| {
                let (key, value) = item?;
                let campaign = note::parse_key(&key).ok_or_else(|| Fault::Damaged("a note's key cannot be read".into()))?;
                Ok((campaign, Bytes::copy_from_slice(&value)))
            };
            database.prefixed(note::PREFIX).map(note).collect::<Result<Vec<_>, Fault>>()
        };
        Ok(self.shared.slot.read(read)?)
    }
}

fn place(to: Target<'_>, stored: Vec<u8>) -> Op {
    match to {
        Target::Jobs(campaign) | Target::Wait(campaign, Duration::ZERO) => Op::Publish(QueueName::jobs(campaign), stored),
        Target::Wait(campaign, delay) => Op::Wait(campaign.clone(), delay, stored),
        Target::Dead(campaign) => Op::Publish(QueueName::dead(campaign), stored),
        Target::Announce(_) => Op::Publish(QueueName::intake(), stored),
    }
}

impl From<Fault> for BrokerError {
    fn from(fault: Fault) -> Self {
        Self::Storage(fault.to_string())
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
