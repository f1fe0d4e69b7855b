//! A gateway to rehearse and test against: follows the contract, fails on purpose, keeps the books.
//!
//! Checks in the gateway's order: key, rate, balance, account, Meta. A message counts as sent in the moment it passes all of
//! them, whatever then becomes of the answer. It fails by recipient ([`Fault::recipient`]) and by rate ([`Options::faults`]).

mod account;
mod answer;
mod books;
mod code;
mod control;
mod controls;
mod delay;
mod end;
mod fault;
mod magic;
mod meta;
mod post;
mod state;
mod window;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::pacer::Limits;

pub use account::KeyState;
pub use books::{Arrival, Books, Ending};
pub use code::Code;
pub use control::ENDPOINTS;
pub use controls::{Controls, NoSuchKey};
pub use delay::{Delay, Tail};
pub use fault::{Fault, NoSuchFault, Special};
pub use magic::table as magic_table;

/// The key of [`Options::default`].
pub const DEFAULT_KEY: &str = "sk_simulated";
/// The gateway's limits by its newer documentation: 80 in any second, 4,800 in any minute.
pub const DEFAULT_LIMITS: Limits = Limits { second: Some(80), minute: Some(4_800) };
/// Enough money never to think of it.
pub const DEFAULT_BALANCE: i64 = 1_000_000_000;

/// What the simulated gateway is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// The API keys it knows, each with its own windows and wallet.
    pub keys: Vec<Key>,
    /// From request to answer, half of it before the request is counted.
    pub latency: Duration,
    /// How far the latency strays, either way; at most the latency itself.
    pub jitter: Duration,
    /// Ways that take much longer.
    pub tail: Tail,
    /// What one accepted message takes from the balance, in the balance's unit.
    pub price: i64,
    /// Faults by rate, each with its share of requests in per cent; together at most 100.
    pub faults: Vec<(Fault, f64)>,
    /// The same seed gives the same faults to the same recipients at the same tries, in whatever order they come.
    pub seed: u64,
}

impl Default for Options {
    /// One key, [`DEFAULT_KEY`], at the documented limits; no latency, no faults.
    fn default() -> Self {
        Self {
            keys: vec![Key::new(DEFAULT_KEY)],
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            tail: Tail::default(),
            price: 1,
            faults: Vec::new(),
            seed: 0,
        }
    }
}

/// One API key. It is no secret: it opens nothing but this simulator.
#[derive(Debug, Clone)]
pub struct Key {
    /// What comes after `Bearer `.
    pub secret: String,
    /// Its two windows; without a limit a window is neither kept nor told in headers.
    pub limits: Limits,
    /// Messages are refused with `BILL_001` once it is zero or below.
    pub balance: i64,
    /// Whether it works, and if not, how it fails.
    pub state: KeyState,
}

impl Key {
    /// A working key with [`DEFAULT_LIMITS`] and [`DEFAULT_BALANCE`].
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self { secret: secret.to_owned(), limits: DEFAULT_LIMITS, balance: DEFAULT_BALANCE, state: KeyState::Active }
    }
}

/// Shares that cannot be: outside 0 to 100, or more than 100 together.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the shares of faults are per cent: each from 0 to 100, together at most 100")]
pub struct BadShares;

/// The faults as they are, if their shares make sense.
///
/// # Errors
/// When a share is no number from 0 to 100, or they come to more than 100 together.
pub fn check_faults(faults: Vec<(Fault, f64)>) -> Result<Vec<(Fault, f64)>, BadShares> {
    let each = faults.iter().all(|(_, percent)| (0.0..=100.0).contains(percent));
    let together: f64 = faults.iter().map(|(_, percent)| percent).sum();
    if each && together <= 100.0 { Ok(faults) } else { Err(BadShares) }
}

/// Starts simulated gateways.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Serves on this listener until the returned value is dropped.
    ///
    /// # Errors
    /// When the listener has no local address.
    pub fn start(options: Options, listener: TcpListener) -> io::Result<Running> {
        let addr = listener.local_addr()?;
        let controls = Controls::new(options);
        let mut tasks = JoinSet::new();
        tasks.spawn(wire::serve(listener, controls.clone()));
        Ok(Running { addr, controls, tasks })
    }

    /// Serves on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start_local(options: Options) -> io::Result<Running> {
        Self::start(options, TcpListener::bind(("127.0.0.1", 0)).await?)
    }
}

/// A simulated gateway at work. Dropping it stops it and cuts every connection.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    controls: Controls,
    tasks: JoinSet<()>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The `base_url` for a client.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A copy of the books as they are now.
    #[must_use]
    pub fn books(&self) -> Books {
        self.controls.books()
    }

    /// Steers it; a clone may be kept, also for reading the books after the end.
    #[must_use]
    pub const fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Stops it, waits until every connection is cut, and gives the final books.
    pub async fn stop(mut self) -> Books {
        self.tasks.shutdown().await;
        self.controls.books()
    }
}

/// Spreads bits evenly (splitmix64): every roll is a function of the seed and what it is for.
const fn spread(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A roll in 0..1 from 53 of the bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
