//! A request without an answer: surely not sent, or nobody knows. In doubt nobody knows.

use std::error::Error;
use std::io;

use super::body::Broken;
use crate::gateway::{Reply, Trouble, TroubleKind};

/// Longest chain of causes that is followed and told.
const MAX_CAUSES: usize = 8;
const MAX_DETAIL_CHARS: usize = 200;

/// What a failed request means.
pub(super) fn reply(error: &reqwest::Error) -> Reply {
    let trouble = |kind| Trouble { kind, http_status: None, detail: causes(error), retry_after: None };
    if error.is_connect() {
        Reply::Unreachable(trouble(connect_kind(error)))
    } else if error.is_builder() || was_never_started(error) {
        Reply::Unreachable(trouble(TroubleKind::Connect))
    } else if error.is_timeout() {
        Reply::Unknown(trouble(TroubleKind::Timeout))
    } else if chain(error).any(is_parse_error) {
        Reply::Unknown(trouble(TroubleKind::Body))
    } else {
        Reply::Unknown(trouble(TroubleKind::Reset))
    }
}

/// Why a body ended early.
pub(super) fn broken_body(error: &reqwest::Error) -> Broken {
    if error.is_timeout() { Broken::Late } else { Broken::Reset }
}

/// The causes in one line, without the URL, whose query is no one's business.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    for cause in chain(error).skip(1) {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&next);
        }
    }
    if text.is_empty() {
        text.push_str("the request failed");
    }
    text.chars().take(MAX_DETAIL_CHARS).collect()
}

fn connect_kind(error: &reqwest::Error) -> TroubleKind {
    if error.is_dns() {
        TroubleKind::Dns
    } else if chain(error).any(is_tls) {
        TroubleKind::Tls
    } else {
        TroubleKind::Connect
    }
}

/// hyper says "canceled" only of a request that it never began to write: it hands the whole request back with it.
fn was_never_started(error: &reqwest::Error) -> bool {
    chain(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
}

fn is_parse_error(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

/// rustls wraps its errors in `io::Error`, whose own `source` skips them; a peer that hangs up leaves only the words.
fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    let mut next = Some(cause);
    for _ in 0..MAX_CAUSES {
        let Some(cause) = next else { return false };
        if cause.is::<rustls::Error>() || cause.to_string().contains("tls handshake") {
            return true;
        }
        next = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
    }
    false
}

fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |&cause| cause.source()).take(MAX_CAUSES)
}
