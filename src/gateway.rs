//! One send, one [`Answer`]. A gateway never fails: what may or may not have happened is an answer too.

pub mod connexease;
pub mod simulator;

use std::time::Duration;

use async_trait::async_trait;

/// Something that sends one message. One instance per account: it holds that account's key.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// Sends one request and tells what came of it. Bounded in time and in the size of the answer it reads.
    ///
    /// `may_leave` is asked when the connection is there and nothing stands between the request and the gateway any more. If it says
    /// no, nothing is sent, and there is no answer.
    ///
    /// Dropping the future leaves the outcome unknown: the request may have left.
    async fn send_if(&self, request: Request, may_leave: &MayLeave<'_>) -> Option<Answer>;
}

/// Whether a request that is ready still may leave.
pub type MayLeave<'a> = dyn Fn() -> bool + Send + Sync + 'a;

/// One request to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The JSON body, with recipient. Never log it.
    pub body: Vec<u8>,
    /// `is_fake`: everything is checked, Meta is not called.
    pub sandbox: bool,
    /// `mmlite`: by Marketing Messages Lite.
    pub mmlite: bool,
}

/// What the gateway said, and what it said about the rate windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What came of the request.
    pub reply: Reply,
    /// The `X-RateLimit-*` headers, if they were there and made sense.
    pub windows: Windows,
}

/// The gateway's own view of the account's two sliding windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Windows {
    /// Any trailing second.
    pub second: Option<Window>,
    /// Any trailing 60 seconds.
    pub minute: Option<Window>,
}

/// One window as the gateway reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Requests allowed in the window.
    pub limit: u32,
    /// Requests still free in it when this one had been counted.
    pub remaining: u32,
}

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The gateway took the message.
    Accepted {
        /// Meta's message id.
        wamid: String,
    },
    /// The gateway, or Meta behind it, said no: surely not sent.
    Refused(Refusal),
    /// Surely not sent: the request never got there, or was surely not processed.
    Unreachable(Trouble),
    /// It may have been sent.
    Unknown(Trouble),
}

/// A no, as the gateway's envelope gave it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The gateway's code, for example `GW_001`; none for a 4xx without an envelope.
    pub code: Option<String>,
    /// Meta's number, from `(#131026) …` in the description.
    pub meta: Option<u32>,
    /// The HTTP status.
    pub http_status: u16,
    /// The gateway's words, bounded to [`MAX_DESCRIPTION_CHARS`], recipients masked.
    pub description: String,
    /// How long it asks us to wait, already clamped to at most an hour.
    pub retry_after: Option<Duration>,
}

/// Longest description kept, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 500;

/// A request without a proper answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What went wrong on the way.
    pub kind: TroubleKind,
    /// The HTTP status, if the answer got that far.
    pub http_status: Option<u16>,
    /// For people; bounded, without recipients or key.
    pub detail: String,
    /// `Retry-After`, already clamped to at most an hour.
    pub retry_after: Option<Duration>,
}

/// Where a request was lost. The names are what policy rules match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TroubleKind {
    /// The name did not resolve.
    Dns,
    /// The connection was refused or could not be made in time.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// 503 without the gateway's envelope: something in front of it turned the request away.
    Unavailable,
    /// No answer in time, after the request left.
    Timeout,
    /// The connection broke after the request left.
    Reset,
    /// A 2xx or 5xx whose body is not the gateway's envelope.
    Body,
}
