//! What a request is answered, as a value, and as bytes on the wire.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::account::Counts;
use super::code::Code;
use super::fault::Special;
use super::window::Count;

/// How large a "huge" body is.
const HUGE_BYTES: usize = 1 << 20;
const HTML: &str = "<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>";

/// How a connection is ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// RST.
    Reset,
    /// FIN.
    Close,
}

/// What becomes of the request that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// An answer.
    Answer { what: What, counts: Counts },
    /// No answer, ever.
    Hang,
    /// No answer, and the connection ends.
    Cut(Cut),
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The message was accepted.
    Accepted { to: u64, wamid: u64 },
    /// It would have been.
    Sandboxed { nanos: u64 },
    /// The error envelope.
    Refused { code: Code, description: Cow<'static, str>, params: &'static str, status: u16 },
    /// An odd answer; `wamid` if the message was accepted all the same.
    Odd { how: Special, to: u64, wamid: u64 },
}

impl What {
    /// The envelope of a code with its usual words.
    pub(super) fn refused(code: Code) -> Self {
        let facts = code.facts();
        Self::Refused { code, description: facts.description.into(), params: "{}", status: facts.status }
    }
}

/// An answer on the wire.
pub(super) fn render(what: &What, counts: Counts) -> Response<Body> {
    match what {
        What::Accepted { to, wamid } => json(200, success(*to, *wamid), counts),
        What::Sandboxed { nanos } => json(200, fake_success(*nanos), counts),
        What::Refused { code, description, params, status } => json(*status, error(*code, description, params), counts),
        What::Odd { how, to, wamid } => odd(*how, success(*to, *wamid), counts),
    }
}

fn odd(how: Special, success: String, counts: Counts) -> Response<Body> {
    match how {
        Special::HtmlBefore => plain(502, "text/html", HTML),
        Special::Unavailable => with(plain(503, "text/plain", "service unavailable\n"), header::RETRY_AFTER, "1"),
        Special::BareError => plain(500, "text/plain", "internal server error\n"),
        Special::BareBadRequest => bad_request(),
        Special::Redirect => with(plain(307, "text/plain", ""), header::LOCATION, "/elsewhere"),
        Special::Html => plain(200, "text/html", HTML),
        Special::GatewayTimeout => plain(504, "text/html", HTML),
        Special::Truncated => json(200, success.get(..success.len() / 2).unwrap_or_default().to_owned(), counts),
        Special::Huge => json(200, "x".repeat(HUGE_BYTES), counts),
        Special::Empty => json(200, String::new(), counts),
        Special::NoMessageId => json(200, r#"{"isSuccess":true,"data":{"messaging_product":"whatsapp"}}"#.to_owned(), counts),
        Special::GarbledHeaders => {
            let answer = with(json(200, success, Counts::default()), SECOND_LIMIT, "many");
            let answer = with(answer, SECOND_REMAINING, "-1");
            with(with(answer, MINUTE_LIMIT, ""), MINUTE_REMAINING, "99999999999999")
        }
        _ => json(200, success, Counts::default()),
    }
}

/// The answer to what is no request at all.
pub(super) fn bad_request() -> Response<Body> {
    plain(400, "text/plain", "bad request\n")
}

/// An answer that is not the gateway's envelope.
pub(super) fn plain(status: u16, kind: &'static str, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    with(response, header::CONTENT_TYPE, kind)
}

fn with(mut response: Response<Body>, name: HeaderName, value: &'static str) -> Response<Body> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

const SECOND_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-sec-limit");
const SECOND_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-sec-remaining");
const MINUTE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-min-limit");
const MINUTE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-min-remaining");

fn json(status: u16, body: String, counts: Counts) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut tell = |count: Option<Count>, limit: HeaderName, remaining: HeaderName| {
        if let Some(count) = count {
            headers.insert(limit, count.limit.into());
            headers.insert(remaining, count.remaining.into());
        }
    };
    tell(counts.second, SECOND_LIMIT, SECOND_REMAINING);
    tell(counts.minute, MINUTE_LIMIT, MINUTE_REMAINING);
    response
}

fn success(to: u64, wamid: u64) -> String {
    format!(
        r#"{{"isSuccess":true,"data":{{"messaging_product":"whatsapp","contacts":[{{"input":"{to}","wa_id":"{to}"}}],"messages":[{{"id":"wamid.HBgM{wamid:016X}"}}]}}}}"#
    )
}

fn fake_success(nanos: u64) -> String {
    format!(r#"{{"isSuccess":true,"data":{{"messaging_product":"whatsapp","messages":[{{"id":"wamid.FAKE_{nanos}"}}]}}}}"#)
}

fn error(code: Code, description: &str, params: &str) -> String {
    let facts = code.facts();
    let description = serde_json::Value::from(description);
    format!(
        r#"{{"isSuccess":false,"errors":{{"code":"{}","group":"{}","description":{description},"params":{params}}}}}"#,
        facts.name, facts.group,
    )
}
