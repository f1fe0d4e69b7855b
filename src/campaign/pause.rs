//! Why something does not send, since when, until when. Pauses merge; a shorter one never shortens a longer one.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{AccountName, CampaignId};

/// What a pause holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PauseTarget {
    /// One campaign.
    Campaign(CampaignId),
    /// Every campaign of an account.
    Account(AccountName),
}

impl fmt::Display for PauseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campaign(id) => write!(f, "campaign {id}"),
            Self::Account(name) => write!(f, "account {name}"),
        }
    }
}

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What happened, for people: code and text, or the words of who paused it.
    pub cause: String,
    /// The policy rule, if one did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; none means until a person resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who did it: `policy`, `operator`, `daemon`.
    pub by: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
    /// When it ends by time, go on with one job at a time until one succeeds.
    #[serde(default)]
    pub probe: bool,
}

impl Pause {
    /// The two together: the later end wins with its cause, the earlier beginning stays.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let since = self.since.min(other.since);
        let keep_self = match (self.until, other.until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => a >= b,
        };
        let winner = if keep_self { self } else { other };
        Self { since, ..winner }
    }

    /// A pause for tests; each changes what matters to it.
    #[cfg(test)]
    pub(crate) fn example(until: Option<Timestamp>) -> Self {
        Self {
            cause: "c".into(),
            rule: None,
            since: Timestamp::UNIX_EPOCH,
            until,
            by: "operator".into(),
            advice: String::new(),
            probe: false,
        }
    }

    /// It has run out by itself.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pause(since: i64, until: Option<i64>) -> Pause {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        Pause { cause: format!("{until:?}"), since: at(since), ..Pause::example(until.map(at)) }
    }

    #[test]
    fn it_is_over_when_its_time_has_come_and_never_by_itself_without_one() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert!(!pause(0, Some(100)).is_over(at(99)));
        assert!(pause(0, Some(100)).is_over(at(100)));
        assert!(!pause(0, None).is_over(Timestamp::MAX));
    }

    #[test]
    fn what_it_holds_is_named() {
        assert_eq!(PauseTarget::Campaign("spring".parse().unwrap()).to_string(), "campaign spring");
        assert_eq!(PauseTarget::Account("main".parse().unwrap()).to_string(), "account main");
    }

    proptest! {
        #[test]
        fn merged_pauses_begin_with_the_first_and_end_with_the_last(
            a in (0i64..100, proptest::option::of(100i64..200)), b in (0i64..100, proptest::option::of(100i64..200)),
        ) {
            let merged = pause(a.0, a.1).merge(pause(b.0, b.1));
            let last = match (a.1, b.1) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            };
            let expected = pause(a.0.min(b.0), last);
            prop_assert_eq!(merged.until, expected.until);
            prop_assert_eq!(merged.since, expected.since);
            prop_assert_eq!(merged.cause, expected.cause, "the cause belongs to the end that holds");
        }
    }
}
