//! What a run must have put the engine through: a fault that never happens proves nothing.

use std::collections::BTreeMap;

use crate::answers;

/// Besides every answer of the gateway.
const FAULTS: &[&str] = &[
    "a campaign is cancelled",
    "a campaign is paused for a while",
    "a campaign is paused until resumed",
    "a commit fails",
    "a connection breaks amid an acknowledgement",
    "a failed commit is on the disk",
    "a job is cancelled",
    "a job is rehearsed",
    "a job is sent",
    "a job is too late",
    "a message is stored twice",
    "a message overtakes another",
    "a pause is lifted",
    "a publish comes after its publisher has given up",
    "a publish is lost",
    "a publish is stored and not confirmed",
    "a request is lost without effect",
    "accounts with different limits",
    "an account is paused for a while",
    "an account is no longer configured",
    "an account is paused until resumed",
    "an acknowledgement fails",
    "an answer is lost after its effect",
    "dead letters are listed",
    "dead letters are released",
    "death after a commit",
    "death before a commit",
    "every connection to the broker breaks",
    "kill -9",
    "more is enqueued",
    "SIGTERM",
    "SIGTERM, then kill -9",
    "the broker does not answer for a while",
    "the broker does not do what it is asked",
    "the disk does not answer for a while",
    "the disk is full",
    "the disk is lost",
    "the ledger cannot be read",
    "the configuration is reloaded",
    "the limit of a minute is reached",
    "the limit of a second is reached",
    "the wall clock is set back",
    "the wall clock is set forward",
];

/// What has happened in any world, and how often.
#[derive(Debug, Default)]
pub(crate) struct Fired(BTreeMap<String, u64>);

impl Fired {
    pub(crate) fn add(&mut self, world: BTreeMap<String, u64>) {
        for (what, count) in world {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// What should have happened and has not.
    pub(crate) fn missing(&self) -> Vec<String> {
        let faults = FAULTS.iter().map(|fault| (*fault).to_owned());
        faults.chain(answers::names()).filter(|fault| !self.0.contains_key(fault)).collect()
    }

    /// Its line for a person to read: the rarest of them.
    pub(crate) fn rarest(&self) -> String {
        let rarest = self.0.iter().min_by_key(|(_, count)| **count);
        rarest.map_or_else(String::new, |(what, count)| {
            format!("{} kinds of things happened; rarest, {count} times: {what}", self.0.len())
        })
    }
}
