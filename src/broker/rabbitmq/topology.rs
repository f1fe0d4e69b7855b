//! Declares what must exist, and makes and removes campaign queues so that neither a crash nor a late message loses a job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::errors::{call, has_no_leader, is_missing};
use super::link::Wire;
use super::names::{self, DEAD, INTAKE, JOBS, NOTES, STEPS, short};
use crate::broker::{Bound, BrokerError, Prepared, Source};
use crate::lock::lock;

/// A quorum queue whose node dies within 1.5 s of its declaration comes back without a leader, although publishes to it were
/// confirmed (measured on 3.10.8 and 4.0.5). Nothing is routed to a queue before it is this old.
const CRASH_SAFE: Duration = Duration::from_secs(2);
/// How long a queue may take to answer before it counts as having no leader; an election takes well under a second.
const LEADER: Duration = Duration::from_secs(5);
/// A count that took this long may be none, and how often it is then asked for.
const SLOW_COUNT: Duration = Duration::from_millis(200);
const COUNTS: u32 = 20;
/// Empty queues tried at the same time, each on a connection of its own: after a restart there may be thousands.
const TRIALS: usize = 8;
/// Queues removed at the same time; for most of it RabbitMQ is waited for.
const REMOVALS: usize = 32;
/// Time for a closed subscription to be gone from the broker's count of consumers.
const LET_GO: Duration = Duration::from_secs(2);
/// Time for a message routed just before an unbind to show in the queue's count.
const UNBOUND: Duration = Duration::from_millis(200);

/// Declares all that is shared by the campaigns. Declaring again changes nothing.
pub(super) async fn declare(connection: &Connection) -> Result<(), BrokerError> {
    let channel = open(connection).await?;
    exchange(&channel, INTAKE, ExchangeKind::Fanout, FieldTable::default()).await?;
    exchange(&channel, JOBS, ExchangeKind::Direct, names::jobs_exchange()).await?;
    exchange(&channel, DEAD, ExchangeKind::Direct, FieldTable::default()).await?;
    exchange(&channel, NOTES, ExchangeKind::Fanout, FieldTable::default()).await?;
    queue(&channel, INTAKE, names::intake_queue()).await?;
    bind(&channel, INTAKE, INTAKE, "").await?;
    queue(&channel, NOTES, names::notes_stream()).await?;
    bind(&channel, NOTES, NOTES, "").await?;
    for seconds in STEPS {
        let step = Duration::from_secs(seconds);
        let name = names::wait(step);
        exchange(&channel, &name, ExchangeKind::Fanout, FieldTable::default()).await?;
        queue(&channel, &name, names::wait_queue(step)).await?;
        bind(&channel, &name, &name, "").await?;
    }
    Ok(())
}

/// Opens a channel: the broker closes it on the first refusal.
pub(super) async fn open(connection: &Connection) -> Result<Channel, BrokerError> {
    connection.create_channel().await.map_err(|e| call("opening a channel", &e))
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind, arguments: FieldTable) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(short(name), kind, options, arguments).await;
    declared.map_err(|e| call(&format!("declaring exchange {name}"), &e))
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), BrokerError> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(short(name), options, arguments).await;
    declared.map(drop).map_err(|e| call(&format!("declaring queue {name}"), &e))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), BrokerError> {
    let bound =
        channel.queue_bind(short(queue), short(exchange), short(key), QueueBindOptions::default(), FieldTable::default()).await;
    bound.map_err(|e| call(&format!("binding queue {queue} to exchange {exchange}"), &e))
}

/// What the broker tells of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    /// Messages ready to be delivered; those delivered and unsettled are told by nobody.
    pub(super) ready: u64,
    consumers: u32,
}

/// What is in `queue`; `None` when it does not exist, and the channel is closed then.
///
/// RabbitMQ gives a quorum queue 250 ms to answer and then says 0 (`rabbit_quorum_queue:stat`), so a slow 0 is not believed.
pub(super) async fn count(channel: &Channel, queue: &str) -> Result<Option<Count>, BrokerError> {
    for _ in 0..COUNTS {
        let asked = Instant::now();
        let found = look(channel, queue).await?;
        if found.is_none_or(|found| found.ready > 0) || asked.elapsed() < SLOW_COUNT {
            return Ok(found);
        }
    }
    Err(BrokerError::Timeout(SLOW_COUNT * COUNTS))
}

/// The same, where a 0 may mean that the queue did not answer.
async fn look(channel: &Channel, queue: &str) -> Result<Option<Count>, BrokerError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(short(queue), options, FieldTable::default()).await {
        Ok(found) => Ok(Some(Count { ready: found.message_count().into(), consumers: found.consumer_count() })),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(call(&format!("looking at queue {queue}"), &e)),
    }
}

/// A queue declared and not bound yet.
#[derive(Clone, Copy)]
struct Young {
    /// Declared over these connections.
    epoch: u64,
    safe_at: Instant,
}

/// What a queue gives first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Nothing,
    Something,
    NoLeader,
}

fn no_leader(queue: &str) -> BrokerError {
    BrokerError::Denied(format!(
        "queue {queue} has no leader; if all RabbitMQ nodes are up and it stays so, it is broken and empty: rabbitmqctl delete_queue {queue}"
    ))
}

/// A queue that is there, and from when on it is safe to route something to it.
struct Found {
    existed: bool,
    safe_at: Instant,
}

/// Whoever holds it makes a queue.
type Maker = tokio::sync::Mutex<()>;

/// Campaign queues on their way from declared to bound, and from unbound to deleted.
pub(super) struct Nursery {
    /// What was declared before us is safe this long after.
    began: Instant,
    young: Mutex<HashMap<String, Young>>,
    /// One at a time makes a queue: two that replace it would delete each other's.
    makers: Mutex<HashMap<String, Arc<Maker>>>,
    trials: Semaphore,
    removals: Semaphore,
}

impl Default for Nursery {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            young: Mutex::default(),
            makers: Mutex::default(),
            trials: Semaphore::new(TRIALS),
            removals: Semaphore::new(REMOVALS),
        }
    }
}

impl Nursery {
    /// Makes sure the queue of `source` exists, is crash safe, and is bound to `exchange` with `key`.
    /// Any number of these may wait at the same time, also for the same queue.
    pub(super) async fn raise(
        &self,
        wire: &Wire,
        source: &Source,
        exchange: &str,
        key: &str,
        bound: Bound,
    ) -> Result<Prepared, BrokerError> {
        let name = names::queue(source);
        let maker = self.maker(&name);
        let _turn = maker.lock().await;
        let found = self.found_or_made(wire, &name, bound).await?;
        sleep_until(found.safe_at).await;
        bind(&wire.calls().await?.channel, &name, exchange, key).await?;
        self.young().remove(&name);
        Ok(Prepared { existed: found.existed })
    }

    fn maker(&self, name: &str) -> Arc<Maker> {
        let mut makers = lock(&self.makers);
        makers.retain(|_, maker| Arc::strong_count(maker) > 1);
        Arc::clone(makers.entry(name.to_owned()).or_default())
    }

    /// Leaves a queue there that is as good as new, if it was not there for long.
    async fn found_or_made(&self, wire: &Wire, name: &str, bound: Bound) -> Result<Found, BrokerError> {
        let found = look(&wire.calls().await?.channel, name).await?;
        let young = match (found, self.get(name)) {
            (Some(_), Some(young)) if young.epoch == wire.epoch => young,
            // The connection broke while it was young: it may have no leader.
            (Some(_), Some(_)) => self.replace(wire, name).await?,
            (Some(Count { ready: 0, .. }), None) => match (self.has_leader(wire, name).await?, bound) {
                // The last daemon may have died right after it made it.
                (true, _) => return Ok(Found { existed: true, safe_at: self.began + CRASH_SAFE }),
                // It was young when both the daemon and the broker died.
                (false, Bound::No) => self.replace(wire, name).await?,
                (false, Bound::Unknown) => return Err(no_leader(name)),
            },
            (Some(_), None) => return Ok(Found { existed: true, safe_at: self.began }),
            (None, _) => self.declare(&wire.calls().await?.channel, wire.epoch, name).await?,
        };
        Ok(Found { existed: false, safe_at: young.safe_at })
    }

    /// Makes a queue anew that was never bound, and so holds nothing.
    async fn replace(&self, wire: &Wire, name: &str) -> Result<Young, BrokerError> {
        let calls = wire.calls().await?;
        let deleted = calls.channel.queue_delete(short(name), QueueDeleteOptions::default()).await;
        deleted.map_err(|e| call(&format!("replacing queue {name}"), &e))?;
        self.declare(&calls.channel, wire.epoch, name).await
    }

    /// Waits for a turn to remove a queue.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, BrokerError> {
        self.removals.acquire().await.map_err(|_| BrokerError::Down("closed".into()))
    }

    /// Deletes a campaign's job queue if nothing is in it and nobody consumes it: a connection that died unnoticed may still hold jobs.
    /// What comes later goes to the intake.
    pub(super) async fn remove(&self, wire: &Wire, source: &Source, key: &str) -> Result<bool, BrokerError> {
        let name = names::queue(source);
        let calls = wire.calls().await?;
        let channel = &calls.channel;
        match let_go(channel, &name).await? {
            None => return Ok(true),
            Some(Count { ready: 0, consumers: 0 }) => {}
            Some(_) => return Ok(false),
        }
        // Unbound first: a job published between the count and the deletion would be deleted with the queue.
        unbind(channel, &name, key).await?;
        sleep(UNBOUND).await;
        let unused = match count(channel, &name).await {
            Ok(None) => return Ok(true),
            Ok(Some(Count { ready: 0, consumers: 0 })) => match self.first(wire, &name).await {
                Ok(First::Nothing) => Ok(true),
                Ok(First::Something) => Ok(false),
                Ok(First::NoLeader) => Err(no_leader(&name)),
                Err(error) => Err(error),
            },
            Ok(Some(_)) => Ok(false),
            Err(error) => Err(error),
        };
        if !matches!(unused, Ok(true)) {
            bind(channel, &name, JOBS, key).await?;
            return unused;
        }
        // Quorum queues know no if_empty: asking for it closes the connection.
        let deleted = channel.queue_delete(short(&name), QueueDeleteOptions::default()).await;
        deleted.map_err(|e| call(&format!("deleting queue {name}"), &e))?;
        Ok(true)
    }

    async fn has_leader(&self, wire: &Wire, name: &str) -> Result<bool, BrokerError> {
        Ok(self.first(wire, name).await? != First::NoLeader)
    }

    /// What a queue has to give: not a count, but the queue's own answer. One without a leader looks empty and never answers: that
    /// happens when the whole machine dies within moments of its declaration, or when a cluster has lost its majority. Once it was
    /// bound, it is not for us to delete it.
    ///
    /// On a connection that nothing else uses meanwhile: RabbitMQ 3.10 ends the one that reads from such a queue (541, noproc).
    async fn first(&self, wire: &Wire, queue: &str) -> Result<First, BrokerError> {
        let _turn = self.trials.acquire().await;
        let place = wire.trials.take().await?;
        let channel = place.channel().await?;
        let got = timeout(LEADER, channel.basic_get(short(queue), BasicGetOptions { no_ack: false })).await;
        if let Ok(Ok(message)) = got {
            // One that was there goes back to the head when the channel closes.
            let _ = timeout(UNBOUND, channel.close(200, short("OK"))).await;
            return Ok(if message.is_none() { First::Nothing } else { First::Something });
        }
        // It may still be waiting for its answer: it is for no other queue.
        let _ = timeout(UNBOUND, place.connection.close(200, short("OK"))).await;
        match got {
            Ok(Err(e)) if !has_no_leader(&e) => Err(call(&format!("trying queue {queue}"), &e)),
            _ => Ok(First::NoLeader),
        }
    }

    async fn declare(&self, channel: &Channel, epoch: u64, name: &str) -> Result<Young, BrokerError> {
        let noted = Young { epoch, safe_at: Instant::now() + CRASH_SAFE };
        self.young().insert(name.to_owned(), noted); // before the call: it may succeed without our hearing of it
        queue(channel, name, names::campaign_queue()).await?;
        let young = Young { epoch, safe_at: Instant::now() + CRASH_SAFE };
        self.young().insert(name.to_owned(), young);
        Ok(young)
    }

    fn get(&self, name: &str) -> Option<Young> {
        self.young().get(name).copied()
    }

    fn young(&self) -> MutexGuard<'_, HashMap<String, Young>> {
        lock(&self.young)
    }
}

/// What is in a queue once our own last subscription has let go of it: its channel closes in the background.
async fn let_go(channel: &Channel, queue: &str) -> Result<Option<Count>, BrokerError> {
    let end = Instant::now() + LET_GO;
    loop {
        let found = count(channel, queue).await?;
        if !matches!(found, Some(Count { ready: 0, consumers: 1.. })) || Instant::now() > end {
            return Ok(found);
        }
        sleep(UNBOUND).await;
    }
}

async fn unbind(channel: &Channel, queue: &str, key: &str) -> Result<(), BrokerError> {
    let unbound = channel.queue_unbind(short(queue), short(JOBS), short(key), FieldTable::default()).await;
    unbound.map_err(|e| call(&format!("unbinding queue {queue}"), &e))
}
