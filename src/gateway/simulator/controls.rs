//! Steering the simulated gateway while it runs, and reading its books: in process, and for the HTTP endpoints.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::account::{Account, KeyState};
use super::answer::Verdict;
use super::books::{Arrival, Books};
use super::delay::Delay;
use super::fault::Fault;
use super::post::Post;
use super::state::State;
use super::{Options, spread};
use crate::clock::Clock;
use crate::lock::lock;
use crate::pacer::Limits;

/// Steers a simulated gateway. Clones steer the same one.
#[derive(Debug, Clone)]
pub struct Controls(Arc<World>);

#[derive(Debug)]
struct World {
    state: Mutex<State>,
    started: Instant,
    delay: Mutex<Delay>,
    seed: u64,
    rolls: AtomicU64,
}

/// The simulator has no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the simulator has no such key; leave it out to mean every key")]
pub struct NoSuchKey;

/// One key as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyReport {
    pub(super) limits: Limits,
    pub(super) balance: i64,
    pub(super) state: KeyState,
}

impl Controls {
    pub(super) fn new(options: Options) -> Self {
        let first_id = u64::try_from(Clock::system().wall().as_nanosecond()).unwrap_or_default();
        Self(Arc::new(World {
            state: Mutex::new(State::new(&options, first_id)),
            started: Instant::now(),
            delay: Mutex::new(Delay { latency: options.latency, jitter: options.jitter, tail: options.tail }),
            seed: options.seed,
            rolls: AtomicU64::new(0),
        }))
    }

    /// A copy of the books as they are now. With a million recipients it takes some 40 MB.
    #[must_use]
    pub fn books(&self) -> Books {
        lock(&self.0.state).books.clone()
    }

    /// Reads the books without a copy. Nothing is answered meanwhile.
    pub fn read_books<T>(&self, read: impl FnOnce(&Books) -> T) -> T {
        read(&lock(&self.0.state).books)
    }

    /// The balance of this key.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn balance(&self, key: &str) -> Result<i64, NoSuchKey> {
        lock(&self.0.state).accounts.get(key).map(|account| account.balance).ok_or(NoSuchKey)
    }

    /// Sets the balance of one key or of all.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn set_balance(&self, key: Option<&str>, balance: i64) -> Result<(), NoSuchKey> {
        self.change(key, |account| account.balance = balance)
    }

    /// Adds to the balance of one key or of all; less than zero takes away.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn add_balance(&self, key: Option<&str>, amount: i64) -> Result<(), NoSuchKey> {
        self.change(key, |account| account.balance = account.balance.saturating_add(amount))
    }

    /// Changes the limits of one key or of all; what was counted stays counted.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn set_limits(&self, key: Option<&str>, limits: Limits) -> Result<(), NoSuchKey> {
        self.change(key, |account| account.set_limits(limits))
    }

    /// Lets one key or all work or fail.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn set_key_state(&self, key: Option<&str>, state: KeyState) -> Result<(), NoSuchKey> {
        self.change(key, |account| account.state = state)
    }

    /// Replaces the faults by rate: each with its share of requests in per cent.
    pub fn set_faults(&self, faults: Vec<(Fault, f64)>) {
        lock(&self.0.state).faults = faults;
    }

    /// Changes how long requests and answers take that come from now on.
    pub fn set_delay(&self, delay: Delay) {
        *lock(&self.0.delay) = delay;
    }

    /// Forgets every request, and empties the windows; keys, balances, faults and latency stay.
    pub fn reset(&self) {
        lock(&self.0.state).reset();
    }

    pub(super) fn keys(&self) -> Vec<(String, KeyReport)> {
        let report = |a: &Account| KeyReport { limits: a.limits(), balance: a.balance, state: a.state };
        lock(&self.0.state).accounts.iter().map(|(key, account)| (key.clone(), report(account))).collect()
    }

    pub(super) fn faults(&self) -> Vec<(Fault, f64)> {
        lock(&self.0.state).faults.clone()
    }

    /// The newest arrivals that came later than this, oldest first, at most so many.
    pub(super) fn arrivals(&self, after: Duration, most: usize) -> Vec<Arrival> {
        self.read_books(|books| books.arrivals().filter(|arrival| arrival.at > after).take(most).collect())
    }

    pub(super) fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// The ways of one request, up and down.
    pub(super) fn delay(&self) -> (Duration, Duration) {
        let delay = *lock(&self.0.delay);
        let nth = self.0.rolls.fetch_add(1, Ordering::Relaxed);
        delay.roll(self.0.seed ^ spread(nth))
    }

    pub(super) fn judge(&self, post: &Post<'_>) -> Verdict {
        let mut state = lock(&self.0.state);
        // Read under the lock, so that the windows never see time go back.
        let now = u64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        state.judge(now, post)
    }

    fn change(&self, key: Option<&str>, change: impl Fn(&mut Account)) -> Result<(), NoSuchKey> {
        let mut state = lock(&self.0.state);
        match key {
            Some(key) => state.accounts.get_mut(key).map(change).ok_or(NoSuchKey),
            None => {
                state.accounts.values_mut().for_each(change);
                Ok(())
            }
        }
    }
}
