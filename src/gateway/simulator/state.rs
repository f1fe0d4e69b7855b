//! The simulated gateway's mind: one request in, one verdict out, told the time. Everything it knows is behind one lock.

use std::collections::{BTreeMap, HashMap};

use super::account::{Account, Counts};
use super::answer::{Cut, Verdict, What};
use super::books::{Books, Ending};
use super::code::Code;
use super::fault::{Fault, Special, Stage};
use super::magic::{self, Spell};
use super::post::{Authorization, Objection, Post};
use super::{Options, fraction, meta, spread};

/// `params` of `RATE_001`, by window.
const SECOND_FULL: &str = r#"{"limit_type":"sec","retry_after":"1s"}"#;
const MINUTE_FULL: &str = r#"{"limit_type":"min","retry_after":"60s"}"#;

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

/// How one request ended: for the caller, and for the books.
struct End {
    verdict: Verdict,
    outcome: &'static str,
    ending: Ending,
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

fn full(counts: Counts) -> Option<&'static str> {
    if counts.second.is_some_and(|count| count.full) {
        Some(SECOND_FULL)
    } else if counts.minute.is_some_and(|count| count.full) {
        Some(MINUTE_FULL)
    } else {
        None
    }
}

/// Ends the request here if its fault belongs to this stage.
fn strike(fault: Option<Fault>, stage: Stage, counts: Counts) -> Result<(), End> {
    let Some(fault) = fault.filter(|fault| fault.stage() == stage) else { return Ok(()) };
    Err(match fault {
        Fault::Code(Code::Rate001) => rate_limited(SECOND_FULL, counts, fault.name()),
        Fault::Code(code) => refused(What::refused(code), counts, fault.name()),
        Fault::Meta(0) => refused(upstream("(#0) AuthException".to_owned()), counts, fault.name()),
        Fault::Meta(number) => refused(upstream(format!("(#{number}) {}", meta::title(number))), counts, fault.name()),
        Fault::Special(special) => strike_special(special, counts, fault.name()),
    })
}

fn strike_special(special: Special, counts: Counts, name: &'static str) -> End {
    let gateway = |words: &str| refused(upstream(words.to_owned()), counts, name);
    match special {
        Special::RateMinute => rate_limited(MINUTE_FULL, counts, name),
        Special::RateOldForm => rate_limited(r#"{"limit_type":"sec","retry_after":"1 seconds"}"#, counts, name),
        Special::RateGarbled => rate_limited(r#"{"limit_type":"sec","retry_after":"soon"}"#, counts, name),
        Special::RateNegative => rate_limited(r#"{"limit_type":"sec","retry_after":"-5s"}"#, counts, name),
        Special::RateAbsurd => rate_limited(r#"{"limit_type":"sec","retry_after":"99999999999s"}"#, counts, name),
        Special::NotRegistered => gateway("The recipient phone number is not registered on WhatsApp."),
        Special::OutsideWindow => gateway("Message failed to send: outside the 24-hour window."),
        Special::NoSuchTemplate => gateway("The template with the name does not exist in this language."),
        Special::MediaNotAccessible => gateway("The media URL is not accessible."),
        Special::FalseSuccess => {
            let what = upstream("(#131026) Message undeliverable".to_owned());
            let what = match what {
                What::Refused { code, description, params, .. } => What::Refused { code, description, params, status: 200 },
                other => other,
            };
            refused(what, counts, name)
        }
        _ => gateway(""),
    }
}

fn upstream(words: String) -> What {
    let facts = Code::Gw001.facts();
    What::Refused { code: Code::Gw001, description: words.into(), params: "{}", status: facts.status }
}

fn refused(what: What, counts: Counts, outcome: &'static str) -> End {
    End { verdict: Verdict::Answer { what, counts }, outcome, ending: Ending::NotSent }
}

fn rate_limited(params: &'static str, counts: Counts, outcome: &'static str) -> End {
    let facts = Code::Rate001.facts();
    let what = What::Refused { code: Code::Rate001, description: facts.description.into(), params, status: facts.status };
    End { verdict: Verdict::Answer { what, counts }, outcome, ending: Ending::RateLimited }
}

fn accepted(fault: Option<Fault>, to: u64, wamid: u64, counts: Counts) -> End {
    match fault {
        Some(Fault::Special(special)) if Fault::Special(special).is_sent() => {
            let mut end = lost(special, Fault::Special(special).name(), Ending::Accepted, to, wamid);
            if let Verdict::Answer { counts: told, .. } = &mut end.verdict {
                *told = counts;
            }
            end
        }
        _ => {
            let verdict = Verdict::Answer { what: What::Accepted { to, wamid }, counts };
            End { verdict, outcome: "accepted", ending: Ending::Accepted }
        }
    }
}

fn lost(how: Special, outcome: &'static str, ending: Ending, to: u64, wamid: u64) -> End {
    let verdict = match how {
        Special::HangBefore | Special::HangAfter => Verdict::Hang,
        Special::ResetBefore | Special::ResetAfter => Verdict::Cut(Cut::Reset),
        Special::CloseBefore | Special::CloseAfter => Verdict::Cut(Cut::Close),
        _ => Verdict::Answer { what: What::Odd { how, to, wamid }, counts: Counts::default() },
    };
    End { verdict, outcome, ending }
}
