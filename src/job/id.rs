//! Names that travel with a job: campaign, account, job. Each can only be built valid.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use super::Recipient;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
}

const LEDGER_NOTE: &str = "_ledger";
const ACCOUNT_NOTE: &str = "_account.";

const LOWER_RULE: &str = "1 to 64 of a-z 0-9 . _ - and start with a letter or digit";
const JOB_RULE: &str = "1 to 128 of A-Z a-z 0-9 . _ : -";

fn is_lower_name(text: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 64
        && bytes.first().is_some_and(|&b| lower(b))
        && bytes.iter().all(|&b| lower(b) || matches!(b, b'.' | b'_' | b'-'))
}

fn is_job_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    !text.is_empty() && text.len() <= 128 && text.bytes().all(allowed)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:expr, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if $check(text) { Ok(Self(text.into())) } else { Err(IdError { what: $what, rule: $rule }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// A campaign's id: 1 to 64 of `[a-z0-9._-]`, starting with a letter or digit. It is part of queue names and routing keys.
    CampaignId, "campaign id", LOWER_RULE, is_lower_name
);
name_type!(
    /// An account's name in the configuration; same form as a campaign id.
    AccountName, "account name", LOWER_RULE, is_lower_name
);
name_type!(
    /// A job's id: 1 to 128 of `[A-Za-z0-9._:-]`, unique within its campaign.
    JobId, "job_id", JOB_RULE, is_job_id
);

impl CampaignId {
    /// Whose dead letters are meant: a campaign's, or with `_unsorted` those that belong to none.
    ///
    /// # Errors
    /// When it is neither.
    pub fn shelf(text: &str) -> Result<Self, IdError> {
        let unsorted = Self::unsorted();
        if text == unsorted.as_str() { Ok(unsorted) } else { text.parse() }
    }

    /// What a note at the broker is about: a campaign, or something of the daemon's own.
    ///
    /// # Errors
    /// When it is neither.
    pub fn noted(text: &str) -> Result<Self, IdError> {
        let own = text.strip_prefix(ACCOUNT_NOTE).map_or(text == LEDGER_NOTE, is_lower_name);
        if own { Ok(Self(text.into())) } else { text.parse() }
    }

    /// Under this the ledger's mark is noted. No producer can use it: it starts with `_`.
    #[must_use]
    pub fn ledger_note() -> Self {
        Self(LEDGER_NOTE.into())
    }

    /// Under this an account's pause is noted. No producer can use it: it starts with `_`.
    #[must_use]
    pub fn account_note(account: &AccountName) -> Self {
        Self(format!("{ACCOUNT_NOTE}{account}").into())
    }

    /// The account whose pause is noted under this id, if it is such an id.
    #[must_use]
    pub fn noted_account(&self) -> Option<AccountName> {
        self.0.strip_prefix(ACCOUNT_NOTE)?.parse().ok()
    }

    /// The shelf for deliveries that belong to no campaign. No producer can use this id: it starts with `_`.
    #[must_use]
    pub fn unsorted() -> Self {
        Self("_unsorted".into())
    }
}

impl AccountName {
    /// The account of a campaign that names none where no account is the default.
    #[must_use]
    pub fn unnamed() -> Self {
        Self("default".into())
    }
}

impl JobId {
    /// The id of a job whose producer gave none: the same campaign and recipient always get the same id.
    #[must_use]
    pub fn derived(campaign: &CampaignId, to: Recipient) -> Self {
        let mut hash = Sha256::new();
        hash.update(campaign.as_str().as_bytes());
        hash.update([0]);
        hash.update(to.number().to_be_bytes());
        Self::hashed("r", &hash.finalize())
    }

    /// The id under which a body that is no job is counted: the same body, the same id.
    #[must_use]
    pub fn unreadable(body: &[u8]) -> Self {
        Self::hashed("unreadable:", &Sha256::digest(body))
    }

    /// A prefix and 128 bits of a digest in hex.
    fn hashed(prefix: &str, digest: &[u8]) -> Self {
        let hex = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let digits = digest.iter().take(16).flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]);
        Self(prefix.chars().chain(digits).collect::<String>().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn campaign_ids_keep_to_what_queue_names_allow() {
        for good in ["spring-sale", "a", "2026.11_x", &"a".repeat(64)] {
            assert!(good.parse::<CampaignId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a/b", "A", "a b", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<CampaignId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn job_ids_keep_to_their_alphabet() {
        for good in ["1", "A:b.c_d-e", &"x".repeat(128)] {
            assert!(good.parse::<JobId>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "é", &"x".repeat(129)] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn dead_letters_are_on_a_campaigns_shelf_or_on_the_common_one() {
        assert_eq!(CampaignId::shelf("_unsorted"), Ok(CampaignId::unsorted()));
        assert_eq!(CampaignId::shelf("spring"), "spring".parse());
        assert!(CampaignId::shelf("_other").is_err());
    }

    /// Jobs of an older version are in queues and ledgers: `printf 'spring\0\0\0\0\322\311\131\300\207' | sha256sum`.
    #[test]
    fn a_derived_id_is_the_same_in_every_version() {
        let id = JobId::derived(&"spring".parse().unwrap(), "905321234567".parse().unwrap());
        assert_eq!(id.as_str(), "rd34aa8744d6a683f2926fe146cad8b5f");
    }

    proptest! {
        #[test]
        fn derived_ids_are_valid_and_tell_recipients_and_campaigns_apart(a in 10_000_000u64..999_999_999_999_999, b in 10_000_000u64..999_999_999_999_999) {
            let campaign: CampaignId = "c".parse().unwrap();
            let other: CampaignId = "d".parse().unwrap();
            let id = |c: &CampaignId, n: u64| JobId::derived(c, n.to_string().parse().unwrap());
            prop_assert!(is_job_id(id(&campaign, a).as_str()));
            prop_assert_eq!(id(&campaign, a) == id(&campaign, b), a == b);
            prop_assert_ne!(id(&campaign, a), id(&other, a));
        }
    }
}
