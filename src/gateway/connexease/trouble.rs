//! A request without an answer: surely not sent, or nobody knows. In doubt nobody knows.

use std::error::Error;
use std::io;

use crate::gateway::{Reply, Trouble, TroubleKind};

/// Longest chain of causes that is followed and told.
const MAX_CAUSES: usize = 8;
const MAX_DETAIL_CHARS: usize = 200;

/// How far a request came that has no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The name did not resolve.
    Dns(io::Error),
    /// No connection.
    Connect(io::Error),
    /// A connection, but no TLS on it.
    Tls(io::Error),
    /// Not a byte of it was written.
    Unstarted(hyper::Error),
    /// It may have arrived.
    UnderWay(hyper::Error),
}

/// What a lost request means.
pub(super) fn reply(lost: &Lost) -> Reply {
    let trouble = |kind, error| Trouble { kind, http_status: None, detail: causes(error), retry_after: None };
    match lost {
        Lost::Dns(error) => Reply::Unreachable(trouble(TroubleKind::Dns, error)),
        Lost::Connect(error) => Reply::Unreachable(trouble(TroubleKind::Connect, error)),
        Lost::Tls(error) => Reply::Unreachable(trouble(TroubleKind::Tls, error)),
        Lost::Unstarted(error) => Reply::Unreachable(trouble(TroubleKind::Connect, error)),
        Lost::UnderWay(error) if error.is_parse() => Reply::Unknown(trouble(TroubleKind::Body, error)),
        Lost::UnderWay(error) => Reply::Unknown(trouble(TroubleKind::Reset, error)),
    }
}

/// The causes in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |&cause| cause.source()).take(MAX_CAUSES) {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&next);
        }
    }
    text.chars().take(MAX_DETAIL_CHARS).collect()
}
