//! Connections opened as they are needed: each has room for so many users, and is closed once nobody has used it for a while.
//!
//! lapin never uses a channel's number in peace again after RabbitMQ has ended a channel of that number: whatever is opened with it
//! fails by the old error. So a connection gives out each number once and is then replaced.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::{Channel, Connection};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Settings, connect, topology};
use crate::broker::BrokerError;
use crate::lock::lock;

/// How long a connection stays that nobody uses: campaigns come and go.
const IDLE: Duration = Duration::from_secs(5);

/// Connections for one purpose.
pub(super) struct Pool {
    settings: Arc<Settings>,
    purpose: &'static str,
    /// Most users of each.
    room: usize,
    open: Connections,
    /// Held while one is opened: it will have room for others who wait too.
    opening: tokio::sync::Mutex<()>,
    shut: watch::Sender<bool>,
}

/// Those that are open, by their numbers; none can be added once the pool is shut.
type Connections = Arc<Mutex<Option<Vec<Pooled>>>>;

struct Pooled {
    number: usize,
    connection: Arc<Connection>,
    users: usize,
    /// Channel numbers that no channel has had yet.
    numbers_left: u16,
    idle_since: Instant,
    /// It stays, used or not.
    kept: bool,
}

/// The right to one channel, until it is dropped.
pub(super) struct Lease {
    pub(super) connection: Arc<Connection>,
    open: Connections,
    shut: watch::Receiver<bool>,
}

impl Lease {
    /// Opens the channel. RabbitMQ ends it on the first refusal.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        topology::open(&self.connection).await
    }

    /// Resolves when all connections of the pool are being closed. lapin tells nobody of the end of one that it was closing when it died.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        let mut shut = self.shut.clone();
        async move { drop(shut.wait_for(|shut| *shut).await) }
    }
}

impl Pool {
    /// With no connection yet.
    pub(super) fn new(settings: Arc<Settings>, purpose: &'static str, room: usize) -> Self {
        let (open, opening) = (Arc::new(Mutex::new(Some(Vec::new()))), tokio::sync::Mutex::default());
        Self { settings, purpose, room, open, opening, shut: watch::Sender::new(false) }
    }

    /// With a first connection, which stays open.
    pub(super) fn beginning_with(first: Arc<Connection>, settings: Arc<Settings>, purpose: &'static str, room: usize) -> Self {
        let pool = Self::new(settings, purpose, room);
        *lock(&pool.open) = Some(vec![Pooled { kept: true, ..Pooled::new(1, first) }]);
        pool
    }

    /// A place on the first connection that has one, so that the last ones empty; on a new one if none has.
    pub(super) async fn take(&self) -> Result<Lease, BrokerError> {
        if let Some(place) = self.free()? {
            return Ok(place);
        }
        let _alone = self.opening.lock().await;
        if let Some(place) = self.free()? {
            return Ok(place);
        }
        let number = self.unused_number()?;
        let name = connect::name(&self.settings, self.purpose, number);
        let connection = Arc::new(connect::open(&self.settings, &name).await?);
        self.add(number, connection)
    }

    /// Whether none of them has broken.
    pub(super) fn is_up(&self) -> bool {
        lock(&self.open).iter().flatten().all(Pooled::is_up)
    }

    /// Closes what nobody has used for a while, and forgets what has broken.
    pub(super) async fn tidy(&self) {
        let now = Instant::now();
        let idle = |pooled: &Pooled| now.saturating_duration_since(pooled.idle_since) >= IDLE || !pooled.is_up();
        let over = |pooled: &mut Pooled| !pooled.kept && pooled.users == 0 && (pooled.numbers_left == 0 || idle(pooled));
        let over: Vec<Pooled> = lock(&self.open).iter_mut().flat_map(|open| open.extract_if(.., over)).collect();
        close(over).await;
    }

    /// Closes them all; there will be no others.
    pub(super) async fn shut(&self) {
        let all = lock(&self.open).take();
        self.shut.send_replace(true);
        close(all.unwrap_or_default()).await;
    }

    fn free(&self) -> Result<Option<Lease>, BrokerError> {
        let mut open = lock(&self.open);
        let open = open.as_mut().ok_or_else(shut)?;
        let pooled = open.iter_mut().find(|pooled| pooled.users < self.room && pooled.numbers_left > 0 && pooled.is_up());
        Ok(pooled.map(|pooled| pooled.place(&self.open, &self.shut)))
    }

    fn unused_number(&self) -> Result<usize, BrokerError> {
        let open = lock(&self.open);
        let open = open.as_ref().ok_or_else(shut)?;
        Ok((1..).find(|number| open.iter().all(|pooled| pooled.number != *number)).unwrap_or(usize::MAX))
    }

    fn add(&self, number: usize, connection: Arc<Connection>) -> Result<Lease, BrokerError> {
        let mut open = lock(&self.open);
        // Shut meanwhile: lapin closes a connection that is dropped.
        let open = open.as_mut().ok_or_else(shut)?;
        let mut pooled = Pooled::new(number, connection);
        let place = pooled.place(&self.open, &self.shut);
        open.insert(open.partition_point(|other| other.number < number), pooled);
        Ok(place)
    }
}

impl Pooled {
    fn new(number: usize, connection: Arc<Connection>) -> Self {
        // One is for what was done with it before it came here.
        let numbers_left = connection.configuration().channel_max().saturating_sub(1).max(1);
        Self { number, connection, users: 0, numbers_left, idle_since: Instant::now(), kept: false }
    }

    fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    fn place(&mut self, open: &Connections, shut: &watch::Sender<bool>) -> Lease {
        self.users += 1;
        self.numbers_left = self.numbers_left.saturating_sub(1);
        Lease { connection: Arc::clone(&self.connection), open: Arc::clone(open), shut: shut.subscribe() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        let own = open.iter_mut().flatten().find(|pooled| Arc::ptr_eq(&pooled.connection, &self.connection));
        let Some(pooled) = own else { return };
        pooled.users = pooled.users.saturating_sub(1);
        pooled.idle_since = Instant::now();
    }
}

fn shut() -> BrokerError {
    BrokerError::Down("the connections are being closed".into())
}

async fn close(connections: Vec<Pooled>) {
    join_all(connections.iter().map(|pooled| connect::close(&pooled.connection))).await;
}
