//! A reply as it is described on the command line.

use std::time::Duration;

use super::word;
use crate::gateway::connexease::meta_code;
use crate::gateway::{Refusal, Reply, Trouble, TroubleKind};
use crate::units::show_duration;

/// The reply in question.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(super) struct ReplyArgs {
    #[arg(long, help = "The gateway's code, for example GW_001", value_name = "CODE", conflicts_with_all = ["trouble", "accepted"])]
    code: Option<String>,
    /// Meta's number, for example 131026; taken from the description if that has one
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["trouble", "accepted"])]
    meta: Option<u32>,
    /// The HTTP status; without it the documented one of the code is assumed
    #[arg(long, value_name = "STATUS", conflicts_with = "accepted", value_parser = clap::value_parser!(u16).range(100..=599))]
    http: Option<u16>,
    /// The gateway's words
    #[arg(long, value_name = "TEXT", conflicts_with = "accepted")]
    description: Option<String>,
    /// The request got no proper answer: dns, connect, tls, unavailable (surely not sent), timeout, reset, body (may have been sent)
    #[arg(long, value_name = "KIND", conflicts_with = "accepted", value_parser = word::<TroubleKind>)]
    trouble: Option<TroubleKind>,
    /// The message was accepted
    #[arg(long)]
    accepted: bool,
}

impl ReplyArgs {
    /// The reply, and it in words. `retry_after` is what the gateway asks for with it.
    pub(super) fn build(&self, retry_after: Option<Duration>) -> (Reply, String) {
        if self.accepted {
            return (Reply::Accepted { wamid: "wamid.EXAMPLE".into() }, "accepted".into());
        }
        match self.trouble {
            Some(kind) => self.trouble(kind, retry_after),
            None => self.refusal(retry_after),
        }
    }

    fn trouble(&self, kind: TroubleKind, retry_after: Option<Duration>) -> (Reply, String) {
        use TroubleKind::{Body, Connect, Dns, Reset, Timeout, Tls, Unavailable};
        let detail = self.description.clone().unwrap_or_default();
        let trouble = Trouble { kind, http_status: self.http, detail, retry_after };
        let (reply, meaning) = match kind {
            Dns | Connect | Tls | Unavailable => (Reply::Unreachable(trouble), "unreachable: surely not sent"),
            Timeout | Reset | Body => (Reply::Unknown(trouble), "unknown: it may have been sent"),
        };
        let status = self.http.map_or_else(String::new, |status| format!(", HTTP {status}"));
        (reply, format!("{meaning} ({}{status}{})", format!("{kind:?}").to_lowercase(), asks(retry_after)))
    }

    fn refusal(&self, retry_after: Option<Duration>) -> (Reply, String) {
        let description = self.description.clone().unwrap_or_default();
        let meta = self.meta.or_else(|| meta_code(&description));
        let code = self.code.clone().or_else(|| meta.map(|_| "GW_001".into()));
        let http_status = self.http.unwrap_or_else(|| documented_status(code.as_deref()));
        let described = format!(
            "refused ({}{}, HTTP {http_status}{}{})",
            code.as_deref().unwrap_or("no code"),
            meta.map_or_else(String::new, |meta| format!(", Meta {meta}")),
            if self.http.is_none() { " assumed" } else { "" },
            asks(retry_after),
        );
        (Reply::Refused(Refusal { code, meta, http_status, description, retry_after }), described)
    }
}

fn asks(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |length| format!(", asks to wait {}", show_duration(length)))
}

/// The status each code comes with, as the gateway's error-code page has it; 400 for a code that is not there.
fn documented_status(code: Option<&str>) -> u16 {
    match code {
        Some("AUTH_001" | "AUTH_002" | "AUTH_003" | "WABA_001" | "WH_002") => 401,
        Some("BILL_001") => 402,
        Some("WH_001" | "WH_003") => 403,
        Some("RATE_001") => 429,
        Some("AUTH_004" | "AUTH_005" | "SEC_001") => 500,
        Some("GW_001") => 502,
        _ => 400,
    }
}
