//! The simulated gateway's mind: one request in, one verdict out, told the time. Everything it knows is behind one lock.

use std::collections::{BTreeMap, HashMap};

use super::account::{Account, Counts};
use super::answer::{Verdict, What};
use super::books::{Books, Ending};
use super::code::Code;
use super::end::{End, accepted, full, lost, rate_limited, refused, strike, upstream};
use super::fault::{Fault, Stage};
use super::magic::{self, Spell};
use super::post::{Authorization, Objection, Post};
use super::{Options, fraction, spread};

#[derive(Debug)]
pub(super) struct State {
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) books: Books,
    pub(super) faults: Vec<(Fault, f64)>,
    price: i64,
    seed: u64,
    /// How often a recipient met a fault or got a message; kept only while something depends on it.
    tries: HashMap<u64, u32>,
    /// Makes message ids differ.
    ids: u64,
}

impl State {
    /// `first_id` is where message ids start: a time in nanoseconds, so that two runs differ.
    pub(super) fn new(options: &Options, first_id: u64) -> Self {
        Self {
            accounts: options.keys.iter().map(|key| (key.secret.clone(), Account::new(key))).collect(),
            books: Books::default(),
            faults: options.faults.clone(),
            price: options.price,
            seed: options.seed,
            tries: HashMap::new(),
            ids: first_id,
        }
    }

    /// Judges one request that is counted `now`, in microseconds.
    pub(super) fn judge(&mut self, now: u64, post: &Post<'_>) -> Verdict {
        let fault = post.to.and_then(|to| self.fault_for(to));
        let end = self.pass(now, post, fault).unwrap_or_else(|end| end);
        let struck = fault.is_some_and(|fault| fault.name() == end.outcome);
        if struck || matches!(end.ending, Ending::Accepted | Ending::Sandboxed) {
            self.remember_try(post.to);
        }
        self.books.note(now, end.outcome, end.ending, post.to);
        end.verdict
    }

    /// Forgets every request and try, and empties the windows; keys, balances and faults stay.
    pub(super) fn reset(&mut self) {
        self.books = Books::default();
        self.tries.clear();
        self.accounts.values_mut().for_each(Account::clear_windows);
    }

    /// The gateway's own order: key, rate, balance, account, Meta. `Err` is where a request ends early.
    fn pass(&mut self, now: u64, post: &Post<'_>, fault: Option<Fault>) -> Result<End, End> {
        if let Some(Fault::Special(special)) = fault.filter(|fault| fault.stage() == Stage::Front) {
            return Err(lost(special, Fault::Special(special).name(), Ending::NotSent, 0, 0));
        }
        let account = self.account(post.authorization)?;
        strike(fault, Stage::Key, Counts::default())?;
        let counts = account.count(now);
        if let Some(params) = full(counts) {
            return Err(rate_limited(params, counts, Code::Rate001.name()));
        }
        strike(fault, Stage::Rate, counts)?;
        if let Some(code) = account.fails_at(Stage::Balance) {
            return Err(refused(What::refused(code), counts, code.name()));
        }
        strike(fault, Stage::Balance, counts)?;
        if account.balance <= 0 {
            return Err(refused(What::refused(Code::Bill001), counts, Code::Bill001.name()));
        }
        if let Some(code) = account.fails_at(Stage::Account) {
            return Err(refused(What::refused(code), counts, code.name()));
        }
        strike(fault, Stage::Account, counts)?;
        let failing = account.fails_at(Stage::Meta);
        self.ids += 1;
        let id = self.ids;
        if post.sandbox {
            let verdict = Verdict::Answer { what: What::Sandboxed { nanos: id }, counts };
            return Ok(End { verdict, outcome: "sandboxed", ending: Ending::Sandboxed });
        }
        let to = self.meta(post, fault, failing, counts)?;
        if let Authorization::Bearer(key) = post.authorization
            && let Some(account) = self.accounts.get_mut(key)
        {
            account.balance = account.balance.saturating_sub(self.price);
        }
        Ok(accepted(fault, to, id, counts))
    }

    fn account(&mut self, authorization: Authorization<'_>) -> Result<&mut Account, End> {
        let code = match authorization {
            Authorization::Missing => Code::Auth002,
            Authorization::NotBearer => Code::Auth003,
            Authorization::Bearer(key) => match self.accounts.get_mut(key) {
                None => Code::Auth001,
                Some(account) => match account.fails_at(Stage::Key) {
                    Some(code) => code,
                    None => return Ok(account),
                },
            },
        };
        Err(refused(What::refused(code), Counts::default(), code.name()))
    }

    /// What Meta says: first to the body, then by the fault.
    fn meta(&mut self, post: &Post<'_>, fault: Option<Fault>, failing: Option<Code>, counts: Counts) -> Result<u64, End> {
        if let Some(Objection { number, words }) = &post.objection {
            self.books.note_meta(*number);
            return Err(refused(upstream(format!("(#{number}) {words}")), counts, Code::Gw001.name()));
        }
        if let Some(code) = failing {
            return Err(refused(What::refused(code), counts, code.name()));
        }
        if let Some(Fault::Meta(number)) = fault {
            self.books.note_meta(number);
        }
        strike(fault, Stage::Meta, counts)?;
        // Without a recipient there is an objection.
        post.to.ok_or_else(|| refused(upstream(String::new()), counts, Code::Gw001.name()))
    }

    fn fault_for(&self, to: u64) -> Option<Fault> {
        if let Some(Spell { fault, times }) = magic::spell(to) {
            let over = times.is_some_and(|times| self.tries.get(&to).is_some_and(|&tries| tries >= times));
            return (!over).then_some(fault);
        }
        if self.faults.is_empty() {
            return None;
        }
        let nth = u64::from(self.tries.get(&to).copied().unwrap_or(0));
        let mut roll = fraction(spread(self.seed ^ spread(to ^ spread(nth)))) * 100.0;
        self.faults.iter().find_map(|(fault, percent)| {
            roll -= percent;
            (roll < 0.0).then_some(*fault)
        })
    }

    fn remember_try(&mut self, to: Option<u64>) {
        let Some(to) = to else { return };
        if !self.faults.is_empty() || magic::spell(to).is_some_and(|spell| spell.times.is_some()) {
            let tries = self.tries.entry(to).or_default();
            *tries = tries.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::simulator::{Key, KeyState, Special};
    use crate::pacer::Limits;

    const TO: u64 = 905_321_234_567;
    const KEY: Authorization<'_> = Authorization::Bearer("k");

    fn options(second: u32, balance: i64) -> Options {
        let limits = Limits { second: Some(second), minute: Some(4_800) };
        Options { keys: vec![Key { limits, balance, ..Key::new("k") }], ..Options::default() }
    }

    fn post(authorization: Authorization<'_>, to: u64) -> Post<'_> {
        Post { authorization, sandbox: false, to: Some(to), objection: None }
    }

    /// The outcome's name of one more request, and its place in the second window.
    fn judge(state: &mut State, now: u64, post: &Post<'_>) -> (String, Option<u32>) {
        let before = state.books.outcomes.clone();
        let verdict = state.judge(now, post);
        let outcome = state.books.outcomes.iter().find(|(name, count)| before.get(*name) != Some(count)).unwrap().0;
        let remaining = match verdict {
            Verdict::Answer { counts, .. } => counts.second.map(|count| count.remaining),
            _ => None,
        };
        ((*outcome).to_owned(), remaining)
    }

    fn outcome(state: &mut State, post: &Post<'_>) -> String {
        judge(state, 0, post).0
    }

    #[test]
    fn key_then_rate_then_balance_then_account_then_meta() {
        let mut state = State::new(&options(2, 0), 0);
        let mut bad = post(Authorization::Bearer("other"), TO);
        bad.objection = Some(Objection { number: 100, words: String::new() });
        assert_eq!(judge(&mut state, 0, &bad), ("AUTH_001".to_owned(), None));
        // A rejected key used no quota; a refusal for want of money does.
        let good = post(KEY, TO);
        assert_eq!(judge(&mut state, 0, &good), ("BILL_001".to_owned(), Some(1)));
        assert_eq!(judge(&mut state, 0, &good), ("BILL_001".to_owned(), Some(0)));
        assert_eq!(judge(&mut state, 0, &good), ("RATE_001".to_owned(), Some(0)));
        state.accounts.get_mut("k").unwrap().balance = 1;
        state.accounts.get_mut("k").unwrap().state = KeyState::Failing(Code::Waba001);
        bad.authorization = KEY;
        assert_eq!(judge(&mut state, 2_000_000, &bad), ("WABA_001".to_owned(), Some(1)));
        state.accounts.get_mut("k").unwrap().state = KeyState::Active;
        assert_eq!(judge(&mut state, 2_000_000, &bad), ("GW_001".to_owned(), Some(0)));
        assert_eq!(state.books.meta.get(&100), Some(&1));
        assert_eq!(state.books.accepted, 0);
        assert_eq!(state.accounts["k"].balance, 1);
    }

    #[test]
    fn the_header_codes() {
        let mut state = State::new(&options(80, 1), 0);
        assert_eq!(outcome(&mut state, &post(Authorization::Missing, TO)), "AUTH_002");
        assert_eq!(outcome(&mut state, &post(Authorization::NotBearer, TO)), "AUTH_003");
        state.accounts.get_mut("k").unwrap().state = KeyState::Failing(Code::Auth001);
        assert_eq!(outcome(&mut state, &post(KEY, TO)), "AUTH_001");
    }

    #[test]
    fn the_balance_runs_out_exactly() {
        let options = Options { price: 3, ..options(80, 7) };
        let mut state = State::new(&options, 0);
        // 7, 4, 1 and then -2: the gateway asks only whether it is above zero.
        let outcomes: Vec<String> = (0..5).map(|n| outcome(&mut state, &post(KEY, TO + n))).collect();
        assert_eq!(outcomes, ["accepted", "accepted", "accepted", "BILL_001", "BILL_001"]);
        assert_eq!(state.accounts["k"].balance, -2);
        assert_eq!(state.books.accepted, 3);
    }

    #[test]
    fn a_sandbox_request_costs_nothing_and_never_meets_meta_but_needs_a_balance() {
        let mut state = State::new(&options(80, 1), 0);
        let sandbox = |to| Post { sandbox: true, ..post(KEY, to) };
        assert_eq!(outcome(&mut state, &sandbox(TO)), "sandboxed");
        assert_eq!(outcome(&mut state, &sandbox(Fault::Meta(131_026).recipient(1))), "sandboxed");
        assert_eq!((state.accounts["k"].balance, state.books.accepted, state.books.times(TO)), (1, 0, 0));
        state.accounts.get_mut("k").unwrap().balance = 0;
        assert_eq!(outcome(&mut state, &sandbox(TO)), "BILL_001");
    }

    #[test]
    fn every_magic_number_meets_its_fault_and_the_books_know_who_got_it() {
        for fault in Fault::named().chain([Fault::Meta(131_026), Fault::Meta(2_494_100)]) {
            let mut state = State::new(&options(80, 100), 0);
            let to = fault.recipient(1);
            for _ in 0..3 {
                assert_eq!(outcome(&mut state, &post(KEY, to)), fault.name(), "{fault}");
            }
            assert_eq!(state.books.times(to), if fault.is_sent() { 3 } else { 0 }, "{fault}");
            assert_eq!(state.accounts["k"].balance, if fault.is_sent() { 97 } else { 100 }, "{fault}");
        }
    }

    #[test]
    fn a_fault_that_passes_strikes_so_often_and_no_more() {
        for fault in Fault::named().chain([Fault::Meta(131_026)]).filter(|fault| !fault.is_sent()) {
            let mut state = State::new(&options(80, 100), 0);
            let to = fault.recipient_times(2, 1);
            let outcomes: Vec<String> = (0..4).map(|_| outcome(&mut state, &post(KEY, to))).collect();
            assert_eq!(outcomes, [fault.name(), fault.name(), "accepted", "accepted"], "{fault}");
        }
    }

    #[test]
    fn where_a_fault_strikes_decides_whether_quota_is_used() {
        let mut state = State::new(&options(80, 100), 0);
        let mut remaining = |fault: Fault| judge(&mut state, 0, &post(KEY, fault.recipient(1))).1;
        assert_eq!(remaining(Fault::Code(Code::Auth001)), None);
        assert_eq!(remaining(Fault::Special(Special::HtmlBefore)), None);
        assert_eq!(remaining(Fault::Code(Code::Rate001)), Some(79));
        assert_eq!(remaining(Fault::Code(Code::Bill001)), Some(78));
        assert_eq!(remaining(Fault::Meta(131_026)), Some(77));
    }

    #[test]
    fn faults_by_rate_come_to_their_share_and_depend_on_the_seed_alone() {
        let run = |seed, reversed: bool| {
            let faults = vec![(Fault::Meta(131_026), 10.0), (Fault::Special(Special::Html), 5.0)];
            let mut state = State::new(&Options { faults, seed, ..options(80, 1_000_000) }, 0);
            let mut numbers: Vec<u64> = (0..4_000).collect();
            if reversed {
                numbers.reverse();
            }
            let mut struck = Vec::new();
            for n in numbers {
                // A request every second: the rate is not what is tested.
                let now = state.books.requests * 1_000_000;
                struck.push((n, judge(&mut state, now, &post(KEY, TO + n)).0));
            }
            struck.sort();
            struck
        };
        let share = |run: &[(u64, String)], name: &str| run.iter().filter(|(_, outcome)| outcome == name).count();
        let first = run(1, false);
        assert_eq!(first, run(1, true));
        assert_ne!(first, run(2, false));
        assert!((340..=460).contains(&share(&first, "GW_001")), "{}", share(&first, "GW_001"));
        assert!((150..=250).contains(&share(&first, "html")), "{}", share(&first, "html"));
    }

    #[test]
    fn a_reset_forgets_requests_and_tries_but_not_money() {
        let mut state = State::new(&options(1, 5), 0);
        let to = Fault::Meta(1).recipient_times(1, 1);
        assert_eq!(outcome(&mut state, &post(KEY, to)), "GW_001");
        assert_eq!(judge(&mut state, 2_000_000, &post(KEY, to)).0, "accepted");
        state.reset();
        assert_eq!(state.books.requests, 0);
        assert_eq!(judge(&mut state, 2_000_001, &post(KEY, to)).0, "GW_001");
        assert_eq!(state.accounts["k"].balance, 4);
    }
}
