//! One API key: its windows, its wallet, its state.

use std::fmt;
use std::str::FromStr;

use super::Key;
use super::code::Code;
use super::fault::{NoSuchFault, Stage};
use super::window::{Count, Window};
use crate::pacer::Limits;

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

/// Whether a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It does.
    Active,
    /// Every request with it is refused with this code, where the gateway would find it out: `AUTH_001` is a revoked key.
    Failing(Code),
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.pad("active"),
            Self::Failing(code) => code.fmt(f),
        }
    }
}

impl FromStr for KeyState {
    type Err = NoSuchFault;

    /// `active`, `revoked`, or a code such as `AUTH_004`, `BILL_002`, `WABA_001`.
    fn from_str(text: &str) -> Result<Self, NoSuchFault> {
        match text {
            "active" => Ok(Self::Active),
            "revoked" => Ok(Self::Failing(Code::Auth001)),
            code => code.parse().map(Self::Failing),
        }
    }
}

/// The two windows' counts of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) second: Option<Count>,
    pub(super) minute: Option<Count>,
}

#[derive(Debug)]
pub(super) struct Account {
    second: Window,
    minute: Window,
    pub(super) balance: i64,
    pub(super) state: KeyState,
}

impl Account {
    pub(super) const fn new(key: &Key) -> Self {
        Self {
            second: Window::new(key.limits.second, SECOND),
            minute: Window::new(key.limits.minute, MINUTE),
            balance: key.balance,
            state: key.state,
        }
    }

    /// Counts one request in both windows, refused or not.
    pub(super) fn count(&mut self, now: u64) -> Counts {
        Counts { second: self.second.count(now), minute: self.minute.count(now) }
    }

    /// The code this key fails with at this stage, if it does.
    pub(super) fn fails_at(&self, stage: Stage) -> Option<Code> {
        match self.state {
            KeyState::Failing(code) if code.facts().stage == stage => Some(code),
            _ => None,
        }
    }

    pub(super) const fn limits(&self) -> Limits {
        Limits { second: self.second.limit(), minute: self.minute.limit() }
    }

    pub(super) const fn set_limits(&mut self, limits: Limits) {
        self.second.set_limit(limits.second);
        self.minute.set_limit(limits.minute);
    }

    pub(super) fn clear_windows(&mut self) {
        self.second.clear();
        self.minute.clear();
    }
}
