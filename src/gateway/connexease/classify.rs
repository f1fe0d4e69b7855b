//! Status and body to [`Reply`]: the one place that says what an answer means.

use std::time::Duration;

use super::body::Broken;
use super::description;
use super::envelope::{self, Envelope};
use super::retry_after;
use crate::gateway::{Refusal, Reply, Trouble, TroubleKind};

/// What an answer means. `hint` is its `Retry-After` header; a body comes whole or not at all.
pub(super) fn reply(status: u16, hint: Option<Duration>, body: Result<&[u8], Broken>) -> Reply {
    // A redirect is not followed, so nothing behind it can have been done; what it says in its body is not the gateway's.
    if (300..400).contains(&status) {
        return bare_refusal(status, hint, "redirected; is base-url right?");
    }
    match body.map(envelope::parse) {
        Ok(Envelope::Accepted { wamid }) if (200..300).contains(&status) => Reply::Accepted { wamid },
        Ok(Envelope::Accepted { .. }) => unclear(TroubleKind::Body, status, hint, "the body says success, the status does not"),
        Ok(Envelope::AcceptedWithoutId) => unclear(TroubleKind::Body, status, hint, "success without a message id"),
        Ok(Envelope::Refused(errors)) => Reply::Refused(Refusal {
            meta: errors.description.as_deref().and_then(description::meta_code),
            description: errors.description.as_deref().map(description::clean).unwrap_or_default(),
            retry_after: retry_after::combine(&errors.retry_after, hint),
            code: errors.code,
            http_status: status,
        }),
        Ok(Envelope::None) => without_envelope(status, hint, None),
        Err(broken) => without_envelope(status, hint, Some(broken)),
    }
}

fn without_envelope(status: u16, hint: Option<Duration>, broken: Option<Broken>) -> Reply {
    let (kind, detail) = match broken {
        None => (TroubleKind::Body, "the body is not the gateway's envelope"),
        Some(Broken::TooLong) => (TroubleKind::Body, "the body is too long to be the gateway's"),
        Some(Broken::Reset) => (TroubleKind::Reset, "the connection broke inside the answer's body"),
        Some(Broken::Late) => (TroubleKind::Timeout, "the answer's body did not end in time"),
    };
    match status {
        400..500 => bare_refusal(status, hint, detail),
        503 => Reply::Unreachable(trouble(TroubleKind::Unavailable, status, hint, detail)),
        _ => unclear(kind, status, hint, detail),
    }
}

fn bare_refusal(http_status: u16, retry_after: Option<Duration>, detail: &str) -> Reply {
    let description = format!("HTTP {http_status} without the gateway's envelope: {detail}");
    Reply::Refused(Refusal { http_status, description, retry_after, ..Refusal::default() })
}

fn unclear(kind: TroubleKind, status: u16, hint: Option<Duration>, detail: &str) -> Reply {
    Reply::Unknown(trouble(kind, status, hint, detail))
}

fn trouble(kind: TroubleKind, status: u16, retry_after: Option<Duration>, detail: &str) -> Trouble {
    Trouble { kind, http_status: Some(status), detail: format!("HTTP {status}: {detail}"), retry_after }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUCCESS: &str = r#"{"isSuccess":true,"data":{"messages":[{"id":"wamid.X"}]}}"#;
    const RATE: &str = r#"{"isSuccess":false,"errors":{"code":"RATE_001","description":"slow","params":{"limit_type":"sec","retry_after":"2s"}}}"#;

    /// Unknown and Unreachable by kind, Refused by code, in one word each.
    fn word(status: u16, body: &str) -> String {
        match reply(status, None, Ok(body.as_bytes())) {
            Reply::Accepted { wamid } => wamid,
            Reply::Refused(refusal) => {
                assert_eq!(refusal.http_status, status);
                format!("refused {}", refusal.code.unwrap_or_default())
            }
            Reply::Unreachable(trouble) => format!("unreachable {:?}", trouble.kind),
            Reply::Unknown(trouble) => format!("unknown {:?}", trouble.kind),
        }
    }

    #[test]
    fn status_and_envelope_together_decide() {
        for (status, body, expected) in [
            (200, SUCCESS, "wamid.X"),
            (201, SUCCESS, "wamid.X"),
            (400, SUCCESS, "unknown Body"),
            (502, SUCCESS, "unknown Body"),
            (503, SUCCESS, "unknown Body"),
            (200, r#"{"isSuccess":true}"#, "unknown Body"),
            (200, RATE, "refused RATE_001"),
            (429, RATE, "refused RATE_001"),
            (503, RATE, "refused RATE_001"),
            (200, r#"{"isSuccess":false}"#, "refused "),
            (200, "<html>", "unknown Body"),
            (200, "", "unknown Body"),
            (204, "", "unknown Body"),
            (500, "<html>", "unknown Body"),
            (502, "<html>", "unknown Body"),
            (504, "", "unknown Body"),
            (503, "<html>", "unreachable Unavailable"),
            (400, "<html>", "refused "),
            (413, "", "refused "),
            (302, SUCCESS, "refused "),
            (307, RATE, "refused "),
            (600, "", "unknown Body"),
            (101, "", "unknown Body"),
        ] {
            assert_eq!(word(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_broken_body_keeps_what_the_status_settled() {
        let kind = |status, broken| match reply(status, None, Err(broken)) {
            Reply::Unknown(trouble) | Reply::Unreachable(trouble) => Some(trouble.kind),
            _ => None,
        };
        assert_eq!(kind(200, Broken::Reset), Some(TroubleKind::Reset));
        assert_eq!(kind(200, Broken::Late), Some(TroubleKind::Timeout));
        assert_eq!(kind(200, Broken::TooLong), Some(TroubleKind::Body));
        assert_eq!(kind(502, Broken::Reset), Some(TroubleKind::Reset));
        assert_eq!(kind(503, Broken::Reset), Some(TroubleKind::Unavailable));
        assert_eq!(kind(402, Broken::Reset), None);
    }

    #[test]
    fn the_header_is_kept_wherever_it_came() {
        let minute = Some(Duration::from_secs(60));
        let Reply::Unreachable(trouble) = reply(503, minute, Ok(b"")) else { panic!() };
        assert_eq!(trouble.retry_after, minute);
        let Reply::Refused(refusal) = reply(429, minute, Ok(b"")) else { panic!() };
        assert_eq!(refusal.retry_after, minute);
        let Reply::Refused(refusal) = reply(429, None, Ok(RATE.as_bytes())) else { panic!() };
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn only_a_whole_success_envelope_is_accepted(status in 100u16..700, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let accepted = matches!(reply(status, None, Ok(&bytes)), Reply::Accepted { .. });
            prop_assert!(!accepted);
        }

        #[test]
        fn a_cut_success_is_never_accepted_nor_refused(cut in 0..SUCCESS.len()) {
            let reply = reply(200, None, Ok(&SUCCESS.as_bytes()[..cut]));
            prop_assert!(matches!(reply, Reply::Unknown(_)), "{:?}", reply);
        }
    }
}
