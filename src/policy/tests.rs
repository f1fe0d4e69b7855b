//! What the tests of the policy share.

mod delays;
mod describe;
mod mistakes;
mod repeated;
mod table;
mod when;

use std::sync::LazyLock;

use rand::SeedableRng;

use super::*;
use crate::dice::Dice;
use crate::gateway::{Refusal, Reply, Trouble, TroubleKind};

static BUILTIN: LazyLock<Rules> = LazyLock::new(Rules::builtin);

/// A rules set, its history and its dice.
struct World {
    rules: Rules,
    history: History,
    dice: Dice,
    now: jiff::Timestamp,
}

impl World {
    fn new(rules: Rules) -> Self {
        let now = "2026-09-01T12:00:00Z".parse().unwrap();
        Self { rules, history: History::default(), dice: Dice::seed_from_u64(7), now }
    }

    fn builtin() -> Self {
        Self::new(BUILTIN.clone())
    }

    fn parse(text: &str) -> Self {
        Self::new(Rules::parse(text, "t.toml").unwrap_or_else(|mistakes| panic!("{mistakes}")))
    }

    fn decide(&mut self, subject: &Subject, reply: &Reply) -> Decision {
        decide(&self.rules, &mut self.history, subject, reply, self.now, &mut self.dice)
    }

    /// The decisions about this reply, `times` in a row.
    fn repeat(&mut self, subject: &Subject, reply: &Reply, times: usize) -> Vec<Decision> {
        (0..times).map(|_| self.decide(subject, reply)).collect()
    }
}

fn subject() -> Subject {
    Subject {
        account: "main".parse().unwrap(),
        campaign: "spring".parse().unwrap(),
        to: "905321234567".parse().unwrap(),
        message: MessageKind::Template,
        mmlite: false,
        attempts: 1,
    }
}

fn accepted() -> Reply {
    Reply::Accepted { wamid: "wamid.X".into() }
}

fn refused(code: &str, http_status: u16) -> Reply {
    Reply::Refused(Refusal { code: Some(code.into()), http_status, ..Refusal::default() })
}

fn meta(number: u32) -> Reply {
    let description = format!("(#{number}) some title");
    Reply::Refused(Refusal { code: Some("GW_001".into()), meta: Some(number), http_status: 502, description, retry_after: None })
}

fn words(description: &str) -> Reply {
    Reply::Refused(Refusal {
        code: Some("GW_001".into()),
        http_status: 502,
        description: description.into(),
        ..Refusal::default()
    })
}

fn trouble(kind: TroubleKind) -> Trouble {
    Trouble { kind, http_status: None, detail: "it broke".into(), retry_after: None }
}
