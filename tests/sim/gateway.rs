//! A gateway with faults that keeps the truth: who got how many messages, and whether anything left when it must not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use campaignd::dice::Dice;
use campaignd::gateway::{Answer, Gateway, Refusal, Reply, Request, Trouble, TroubleKind, Windows};
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// How often something goes wrong, each from 0 to 1, and how long answers take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) refused: f64,
    pub(crate) transient: f64,
    pub(crate) unreachable: f64,
    pub(crate) lost_before: f64,
    pub(crate) lost_after: f64,
    pub(crate) latency_ms: (u64, u64),
}

impl Faults {
    pub(crate) const CALM: Self =
        Self { refused: 0.0, transient: 0.0, unreachable: 0.0, lost_before: 0.0, lost_after: 0.0, latency_ms: (5, 30) };
}

struct Truth {
    dice: Dice,
    faults: Faults,
    balance: u64,
    /// Messages by recipient.
    books: BTreeMap<u64, u32>,
    /// Arrivals of the last minute.
    arrivals: VecDeque<Instant>,
    limit: (usize, usize),
    /// A `BILL_001` has been handed over and nobody has resumed since.
    billed: bool,
    /// How often that was forgiven: an answer to a request from before tells of what was mended since.
    forgiven: u64,
    violations: Vec<String>,
    trace: Vec<String>,
    start: Instant,
}

/// One account's gateway; clones share the books.
#[derive(Clone)]
pub(crate) struct SimGateway {
    truth: Arc<Mutex<Truth>>,
}

impl SimGateway {
    pub(crate) fn new(seed: u64, faults: Faults, balance: u64, limit: (usize, usize)) -> Self {
        let truth = Truth {
            dice: Dice::seed_from_u64(seed),
            faults,
            balance,
            books: BTreeMap::new(),
            arrivals: VecDeque::new(),
            limit,
            billed: false,
            forgiven: 0,
            violations: Vec::new(),
            trace: Vec::new(),
            start: Instant::now(),
        };
        Self { truth: Arc::new(Mutex::new(truth)) }
    }

    fn lock(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    pub(crate) fn books(&self) -> BTreeMap<u64, u32> {
        self.lock().books.clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    /// The process that had read the answers is gone, or a person has resumed: requests may leave again.
    pub(crate) fn forgive(&self) {
        let mut truth = self.lock();
        truth.billed = false;
        truth.forgiven += 1;
    }

    pub(crate) fn top_up(&self, amount: u64) {
        let mut truth = self.lock();
        truth.balance = truth.balance.saturating_add(amount);
    }

    pub(crate) fn calm(&self) {
        self.lock().faults = Faults::CALM;
    }
}

impl Truth {
    fn roll(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.dice.random_bool(chance)
    }

    fn trip(&mut self) -> Duration {
        let (low, high) = self.faults.latency_ms;
        Duration::from_millis(self.dice.random_range(low..=high))
    }

    fn note(&mut self, line: String) {
        let at = self.start.elapsed().as_millis();
        self.trace.push(format!("{at} {line}"));
    }

    /// The request arrives: both windows, the balance, then Meta. What the gateway does is done here.
    fn arrive(&mut self, to: u64, sandbox: bool) -> Reply {
        let now = Instant::now();
        while self.arrivals.front().is_some_and(|t| now - *t >= Duration::from_secs(60)) {
            self.arrivals.pop_front();
        }
        let second = self.arrivals.iter().rev().take_while(|t| now - **t < Duration::from_secs(1)).count();
        let over = second >= self.limit.0 || self.arrivals.len() >= self.limit.1;
        self.arrivals.push_back(now);
        if over {
            let retry_after = Some(Duration::from_secs(if second >= self.limit.0 { 1 } else { 60 }));
            return refusal("RATE_001", None, 429, "Rate limit exceeded", retry_after);
        }
        if self.balance == 0 {
            return refusal("BILL_001", None, 402, "Insufficient balance", None);
        }
        if self.roll(self.faults.refused) {
            return refusal("GW_001", Some(131_026), 502, "(#131026) Message undeliverable", None);
        }
        if self.roll(self.faults.transient) {
            return refusal("GW_001", Some(131_000), 502, "(#131000) Something went wrong", None);
        }
        if !sandbox {
            self.balance -= 1;
            *self.books.entry(to).or_default() += 1;
        }
        Reply::Accepted { wamid: format!("wamid.{to}") }
    }
}

fn refusal(code: &str, meta: Option<u32>, http_status: u16, description: &str, retry_after: Option<Duration>) -> Reply {
    Reply::Refused(Refusal { code: Some(code.into()), meta, http_status, description: description.into(), retry_after })
}

fn trouble(kind: TroubleKind) -> Trouble {
    Trouble { kind, http_status: None, detail: "simulated".into(), retry_after: None }
}

#[async_trait]
impl Gateway for SimGateway {
    async fn send(&self, request: Request) -> Answer {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let to: u64 = body["to"].as_str().unwrap().parse().unwrap();
        let (up, down, unreachable, before, after, forgiven) = {
            let mut truth = self.lock();
            if truth.billed {
                truth.violations.push(format!("a request to {to} started after BILL_001 had been read"));
            }
            truth.note(format!("send {to}"));
            let faults = truth.faults;
            let trips = (truth.trip(), truth.trip());
            let (before, after) = (truth.roll(faults.lost_before), truth.roll(faults.lost_after));
            (trips.0, trips.1, truth.roll(faults.unreachable), before, after, truth.forgiven)
        };
        tokio::time::sleep(up).await;
        if unreachable {
            return Answer { reply: Reply::Unreachable(trouble(TroubleKind::Connect)), windows: Windows::default() };
        }
        if before {
            tokio::time::sleep(Duration::from_secs(5)).await;
            return Answer { reply: Reply::Unknown(trouble(TroubleKind::Timeout)), windows: Windows::default() };
        }
        let reply = self.lock().arrive(to, request.sandbox);
        tokio::time::sleep(down).await;
        let reply = if after { Reply::Unknown(trouble(TroubleKind::Reset)) } else { reply };
        let mut truth = self.lock();
        if matches!(&reply, Reply::Refused(refusal) if refusal.code.as_deref() == Some("BILL_001")) {
            truth.billed |= truth.forgiven == forgiven;
        }
        truth.note(format!("reply {to} {reply:?}"));
        Answer { reply, windows: Windows::default() }
    }
}
