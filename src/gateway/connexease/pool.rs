//! Connections kept for the next request, and closed before the gateway would close them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use crate::lock::lock;

/// An idle connection is closed after this long: before common servers close theirs (Node.js: 5 s), since a request that
/// meets a closing connection has an unknown outcome.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// Idle connections of one account, the one used last on top.
pub(super) struct Pool {
    shelf: Arc<Mutex<Shelf>>,
    most: usize,
    sweeper: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Shelf {
    idle: Vec<Connection>,
    /// The sweeper runs; it ends when nothing is left.
    swept: bool,
}

impl Pool {
    /// Keeps at most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { shelf: Arc::default(), most, sweeper: Mutex::default() }
    }

    /// One that can take a request, if there is any.
    pub(super) async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = lock(&self.shelf).idle.pop()?;
            if connection.idle_since.elapsed() < IDLE_LIMIT && connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    /// Keeps one whose answer has been read to its end.
    pub(super) fn keep(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut shelf = lock(&self.shelf);
        if shelf.idle.len() < self.most {
            shelf.idle.push(connection);
        }
        if !std::mem::replace(&mut shelf.swept, true) {
            let mut sweeper = lock(&self.sweeper);
            while sweeper.try_join_next().is_some() {} // forget the one that has ended
            sweeper.spawn(sweep(Arc::clone(&self.shelf)));
        }
    }
}

/// Closes what has been idle for long, until nothing is left.
async fn sweep(shelf: Arc<Mutex<Shelf>>) {
    loop {
        sleep(IDLE_LIMIT).await;
        let mut shelf = lock(&shelf);
        shelf.idle.retain(|connection| connection.idle_since.elapsed() < IDLE_LIMIT);
        if shelf.idle.is_empty() {
            shelf.idle = Vec::new();
            shelf.swept = false;
            return;
        }
    }
}
