//! A gateway with faults: its windows, its balance, every answer of its contract, and requests lost on either way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use campaignd::dice::Dice;
use campaignd::gateway::{Answer, Gateway, MayLeave, Reply, Request, TroubleKind, Window, Windows};
use campaignd::job::{AccountName, CampaignId};
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::answers;
use crate::plan::{GatewayFaults, Limit};
use crate::producer::campaign_of;
use crate::witness::Witness;

/// The client's own time limit for one request.
const CLIENT_LIMIT: Duration = Duration::from_secs(30);

struct State {
    dice: Dice,
    faults: GatewayFaults,
    balance: u64,
    /// Arrivals of the last minute.
    arrivals: VecDeque<Instant>,
    limit: Limit,
}

/// One account's gateway; clones are the same.
#[derive(Clone)]
pub(crate) struct SimGateway {
    account: AccountName,
    state: Arc<Mutex<State>>,
    witness: Witness,
}

/// Where a request is lost.
enum Way {
    There,
    Unreachable(Reply),
    /// Without a trace, or after it took effect: the client reads this, at its time limit or earlier.
    Lost {
        effect: bool,
        reply: Reply,
        after: Duration,
    },
}

impl SimGateway {
    pub(crate) fn new(account: AccountName, seed: u64, faults: GatewayFaults, limit: Limit, witness: Witness) -> Self {
        let state = State { dice: Dice::seed_from_u64(seed), balance: faults.balance, faults, arrivals: VecDeque::new(), limit };
        Self { account, state: Arc::new(Mutex::new(state)), witness }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn top_up(&self, amount: u64) {
        let mut state = self.lock();
        state.balance = state.balance.saturating_add(amount);
    }

    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.faults = GatewayFaults::CALM;
        state.balance = u64::MAX;
    }

    /// The request is there: what the gateway does is done here.
    fn arrive(&self, to: u64, sandbox: bool) -> Answer {
        let mut state = self.lock();
        let (over, windows) = state.count();
        let reply = over.unwrap_or_else(|| state.check());
        let accepted = matches!(reply, Reply::Accepted { .. });
        drop(state);
        // The sandbox takes every message and makes none of them.
        let reply = if accepted { answers::accepted(to) } else { reply };
        if accepted && !sandbox {
            self.lock().balance -= 1;
            self.witness.message(to);
        }
        Answer { reply, windows }
    }

    async fn exchange(&self, to: u64, sandbox: bool) -> Answer {
        let (up, down, way) = {
            let mut state = self.lock();
            (state.trip(), state.trip(), state.way())
        };
        tokio::time::sleep(up).await;
        match way {
            Way::There => {
                let answer = self.arrive(to, sandbox);
                tokio::time::sleep(down).await;
                answer
            }
            Way::Unreachable(reply) => Answer { reply, windows: Windows::default() },
            Way::Lost { effect, reply, after } => {
                self.witness.fired(if effect {
                    "an answer is lost after its effect"
                } else {
                    "a request is lost without effect"
                });
                if effect {
                    self.arrive(to, sandbox);
                }
                tokio::time::sleep(after).await;
                Answer { reply, windows: Windows::default() }
            }
        }
    }
}

impl State {
    fn roll(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.dice.random_bool(chance)
    }

    fn trip(&mut self) -> Duration {
        let (low, high) = self.faults.latency_ms;
        Duration::from_millis(self.dice.random_range(low..=high))
    }

    fn way(&mut self) -> Way {
        let faults = self.faults;
        if self.roll(faults.unreachable) {
            return Way::Unreachable(answers::unreachable(&mut self.dice));
        }
        let effect = self.dice.random_bool(0.5);
        if self.roll(faults.reset) {
            let after = self.trip();
            return Way::Lost { effect, reply: answers::unknown(TroubleKind::Reset), after };
        }
        if self.roll(faults.hang) {
            return Way::Lost { effect, reply: answers::unknown(TroubleKind::Timeout), after: CLIENT_LIMIT };
        }
        if self.roll(faults.odd) {
            let (reply, after) = (answers::odd(&mut self.dice), self.trip());
            return Way::Lost { effect, reply, after };
        }
        Way::There
    }

    /// Counts the request in both windows: what says no, if one of them is full.
    fn count(&mut self) -> (Option<Reply>, Windows) {
        let now = Instant::now();
        while self.arrivals.front().is_some_and(|at| now - *at >= Duration::from_secs(60)) {
            self.arrivals.pop_front();
        }
        let second = self.arrivals.iter().rev().take_while(|at| now - **at < Duration::from_secs(1)).count() as u32;
        let minute = self.arrivals.len() as u32;
        self.arrivals.push_back(now);
        let window = |limit: u32, used: u32| Some(Window { limit, remaining: limit.saturating_sub(used + 1) });
        let windows = Windows { second: window(self.limit.second, second), minute: window(self.limit.minute, minute) };
        let over = if second >= self.limit.second {
            Some(answers::too_fast("sec", 1))
        } else {
            (minute >= self.limit.minute).then(|| answers::too_fast("min", 5))
        };
        (over, windows)
    }

    /// Key and balance, then Meta.
    fn check(&mut self) -> Reply {
        let faults = self.faults;
        if self.balance == 0 {
            return answers::balance_gone();
        }
        if self.roll(faults.stopping) {
            return answers::stopping(&mut self.dice);
        }
        if self.roll(faults.transient) {
            return answers::transient(&mut self.dice);
        }
        if self.roll(faults.refused) {
            return answers::refused(&mut self.dice);
        }
        answers::accepted(0)
    }
}

#[async_trait]
impl Gateway for SimGateway {
    async fn send_if(&self, request: Request, may_leave: &MayLeave<'_>) -> Option<Answer> {
        if !may_leave() {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let to: u64 = body["to"].as_str().unwrap().parse().unwrap();
        let campaign: CampaignId = campaign_of(to);
        let left = self.witness.departs(&self.account, &campaign, to);
        let answer = self.exchange(to, request.sandbox).await;
        self.witness.answered(&self.account, &campaign, to, left, &answer.reply);
        Some(answer)
    }
}
