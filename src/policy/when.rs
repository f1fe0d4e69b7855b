//! What a rule matches. All conditions given must hold; within one condition any entry may.

use std::ops::RangeInclusive;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::gateway::{Refusal, Reply, Trouble, TroubleKind};
use crate::job::MessageKind;

/// A rule's conditions. An empty list and `None` mean: whatever it is.
#[derive(Debug, Clone, Default)]
pub struct When {
    /// Kinds of reply.
    pub kind: Vec<ReplyKind>,
    /// Gateway codes.
    pub code: Vec<CodePattern>,
    /// Meta codes.
    pub meta: Vec<RangeInclusive<u32>>,
    /// HTTP statuses.
    pub http: Vec<RangeInclusive<u32>>,
    /// Where a request was lost.
    pub trouble: Vec<TroubleKind>,
    /// Found in the gateway's description, or in the detail of what went wrong on the way.
    pub description: Option<Regex>,
    /// Sent by Marketing Messages Lite or not.
    pub mmlite: Option<bool>,
    /// Message types.
    pub message: Vec<MessageKind>,
}

/// The kinds of reply a rule can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyKind {
    /// The gateway, or Meta behind it, said no.
    Refused,
    /// Surely not sent.
    Unreachable,
    /// It may have been sent.
    Unknown,
}

/// A gateway code, or the beginning of some (`WH_*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodePattern {
    /// This code.
    Exact(String),
    /// Every code that begins so.
    Prefix(String),
}

impl CodePattern {
    fn matches(&self, code: &str) -> bool {
        match self {
            Self::Exact(exact) => code == exact,
            Self::Prefix(prefix) => code.starts_with(prefix.as_str()),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Prefix(a), Self::Exact(b) | Self::Prefix(b)) => b.starts_with(a.as_str()),
        }
    }
}

impl When {
    /// Whether the conditions hold. An accepted reply never matches.
    #[must_use]
    pub fn matches(&self, subject: &Subject, reply: &Reply) -> bool {
        let (kind, fits) = match reply {
            Reply::Accepted { .. } => return false,
            Reply::Refused(refusal) => (ReplyKind::Refused, self.fits_refusal(refusal)),
            Reply::Unreachable(trouble) => (ReplyKind::Unreachable, self.fits_trouble(trouble)),
            Reply::Unknown(trouble) => (ReplyKind::Unknown, self.fits_trouble(trouble)),
        };
        fits && any(&self.kind, |&wanted| wanted == kind)
            && self.mmlite.is_none_or(|wanted| wanted == subject.mmlite)
            && any(&self.message, |&wanted| wanted == subject.message)
            && self.description.as_ref().is_none_or(|regex| regex.is_match(words(reply)))
    }

    fn fits_refusal(&self, refusal: &Refusal) -> bool {
        self.trouble.is_empty()
            && any(&self.code, |wanted| refusal.code.as_deref().is_some_and(|code| wanted.matches(code)))
            && any(&self.meta, |range| refusal.meta.is_some_and(|meta| range.contains(&meta)))
            && any(&self.http, |range| range.contains(&u32::from(refusal.http_status)))
    }

    /// A rule with code or meta is of the kind refused: it need not be asked for them here.
    fn fits_trouble(&self, trouble: &Trouble) -> bool {
        any(&self.trouble, |&wanted| wanted == trouble.kind)
            && any(&self.http, |range| trouble.http_status.is_some_and(|status| range.contains(&status.into())))
    }

    /// Whether everything `later` matches is surely matched by this too, so that a rule below could never decide.
    pub(super) fn covers(&self, later: &Self) -> bool {
        let same_words = match (&self.description, &later.description) {
            (None, _) => true,
            (Some(a), Some(b)) => a.as_str() == b.as_str(),
            (Some(_), None) => false,
        };
        same_words
            && all_in(&self.kind, &later.kind, |a, b| a == b)
            && all_in(&self.code, &later.code, CodePattern::covers)
            && all_in(&self.meta, &later.meta, contains)
            && all_in(&self.http, &later.http, contains)
            && all_in(&self.trouble, &later.trouble, |a, b| a == b)
            && (self.mmlite.is_none() || self.mmlite == later.mmlite)
            && all_in(&self.message, &later.message, |a, b| a == b)
    }
}

fn any<T>(wanted: &[T], matches: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

fn all_in<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|b| wide.iter().any(|a| covers(a, b))))
}

fn contains(wide: &RangeInclusive<u32>, narrow: &RangeInclusive<u32>) -> bool {
    wide.start() <= narrow.start() && narrow.end() <= wide.end()
}

fn words(reply: &Reply) -> &str {
    match reply {
        Reply::Accepted { .. } => "",
        Reply::Refused(refusal) => &refusal.description,
        Reply::Unreachable(trouble) | Reply::Unknown(trouble) => &trouble.detail,
    }
}
