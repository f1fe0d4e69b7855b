//! What holds for any answer of the gateway, headers included, on its way through policy and outcome.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use rand::SeedableRng;

use super::body::Broken;
use super::{classify, headers, retry_after};
use crate::campaign::OnUnknown;
use crate::dice::Dice;
use crate::gateway::{MAX_DESCRIPTION_CHARS, Reply, TroubleKind};
use crate::job::MessageKind;
use crate::laws::longest_digits;
use crate::outcome::{self, Settle};
use crate::policy::{History, JobAction, Rules, Subject, decide};

/// Whatever a server says, it means one of four things; only a whole success envelope with a 2xx means sent, and nothing that may
/// have been sent is tried again by itself.
///
/// The bytes are written as on the wire: a line with the status (and `late`, `long` or `reset` if the body broke), headers, an empty
/// line, the body.
pub fn hold(bytes: &[u8]) {
    let (head, body) = split(bytes, b"\n\n");
    let (first, rest) = split(head, b"\n");
    let first = String::from_utf8_lossy(first);
    let status =
        first.get(..3).and_then(|digits| digits.parse().ok()).filter(|status| (100..1000).contains(status)).unwrap_or(200);
    let broken = [("late", Broken::Late), ("long", Broken::TooLong), ("reset", Broken::Reset)];
    let broken = broken.into_iter().find(|(word, _)| first.ends_with(word)).map(|(_, broken)| broken);
    let headers = header_map(rest);
    let hint = check_headers(&headers);
    let reply = classify::reply(status, hint, broken.map_or(Ok(body), Err));
    assert_eq!(reply, classify::reply(status, hint, broken.map_or(Ok(body), Err)), "the same answer, the same reply");
    check_reply(status, broken, body, &reply);
    check_consequences(&reply);
}

fn split<'a>(bytes: &'a [u8], by: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = bytes.windows(by.len()).position(|window| window == by).unwrap_or(bytes.len());
    (bytes.get(..at).unwrap_or_default(), bytes.get(at + by.len()..).unwrap_or_default())
}

fn header_map(lines: &[u8]) -> HeaderMap {
    let header = |line: &[u8]| {
        let (name, value) = split(line, b": ");
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    let mut map = HeaderMap::new();
    for (name, value) in lines.split(|&byte| byte == b'\n').take(64).filter_map(header) {
        map.append(name, value);
    }
    map
}

fn check_headers(map: &HeaderMap) -> Option<Duration> {
    let windows = headers::windows(map);
    for window in [windows.second, windows.minute].into_iter().flatten() {
        assert!(window.limit > 0 && window.remaining <= window.limit, "{window:?}");
    }
    let hint = headers::retry_after(map);
    check_wait(hint);
    hint
}

fn check_wait(wait: Option<Duration>) {
    assert!(wait.is_none_or(|wait| !wait.is_zero() && wait <= retry_after::LONGEST), "{wait:?}");
}

/// An envelope that says each thing once. One that says two things says nothing that can be relied on.
#[derive(serde::Deserialize)]
struct Once {
    #[serde(rename = "isSuccess")]
    _is_success: Option<serde::de::IgnoredAny>,
    #[serde(rename = "data")]
    _data: Option<serde::de::IgnoredAny>,
    #[serde(rename = "errors")]
    _errors: Option<serde::de::IgnoredAny>,
}

fn check_reply(status: u16, broken: Option<Broken>, body: &[u8], reply: &Reply) {
    let whole = broken.is_none() && serde_json::from_slice::<Once>(body).is_ok();
    let envelope = whole.then(|| serde_json::from_slice::<serde_json::Value>(body).ok()).flatten();
    let says = envelope.as_ref().and_then(|json| json.get("isSuccess")).and_then(serde_json::Value::as_bool);
    match reply {
        Reply::Accepted { wamid } => {
            // A body deeper than serde_json's `Value` goes may be an envelope all the same.
            assert!((200..300).contains(&status) && broken.is_none() && says.is_none_or(|says| says), "{status}");
            assert!(!wamid.is_empty() && wamid.len() <= 256 && wamid.bytes().all(|byte| byte.is_ascii_graphic()), "{wamid}");
        }
        Reply::Refused(refusal) => {
            assert_eq!(refusal.http_status, status);
            let bare = (300..500).contains(&status);
            assert!(bare || (broken.is_none() && says != Some(true)), "only an envelope or a 3xx or 4xx is surely a no");
            assert!(
                refusal.code.as_deref().is_none_or(|code| !code.is_empty() && longest_digits(code) < 7),
                "{:?}",
                refusal.code
            );
            check_words(&refusal.description);
            check_wait(refusal.retry_after);
        }
        Reply::Unreachable(trouble) => {
            assert_eq!((status, trouble.kind), (503, TroubleKind::Unavailable), "anything else may have been processed");
            check_words(&trouble.detail);
            check_wait(trouble.retry_after);
        }
        Reply::Unknown(trouble) => {
            assert!(!(300..400).contains(&status), "a redirect is never followed");
            assert!(says != Some(false), "an envelope that says no is no riddle");
            check_words(&trouble.detail);
            check_wait(trouble.retry_after);
        }
    }
}

/// Meta's own `(#2494100)` may stand in it; longer runs of digits are somebody's number.
fn check_words(text: &str) {
    let mut masked = text.to_owned();
    for (start, _) in text.match_indices("(#") {
        let digits = text.get(start + 2..).unwrap_or_default().bytes().take_while(u8::is_ascii_digit).count();
        if digits < 10 && text.get(start + 2 + digits..).is_some_and(|rest| rest.starts_with(')') || rest == "…") {
            masked.replace_range(start + 2..start + 2 + digits, &"x".repeat(digits));
        }
    }
    // up to six digits that are no number may stand beside the first four of one that is masked
    assert!(longest_digits(&masked) <= 10, "{text}");
    assert!(text.chars().count() <= MAX_DESCRIPTION_CHARS && !text.contains(char::is_control), "{text:?}");
}

fn check_consequences(reply: &Reply) {
    let (Ok(account), Ok(campaign), Ok(to)) = ("main".parse(), "c".parse(), "905321234567".parse()) else { return };
    let subject = Subject { account, campaign, to, message: MessageKind::Template, mmlite: false, attempts: 1 };
    let mut dice = Dice::seed_from_u64(1);
    let now = Timestamp::UNIX_EPOCH;
    let decision = decide(&builtin(), &mut History::default(), &subject, reply, now, &mut dice);
    assert_eq!(matches!(reply, Reply::Accepted { .. }), decision.job == JobAction::Sent);
    for on_unknown in [OnUnknown::Park, OnUnknown::Resend] {
        let outcome = outcome::outcome(&subject, reply, &decision, on_unknown, now);
        assert_eq!(
            matches!(reply, Reply::Accepted { .. }),
            outcome.settle == Settle::Ack,
            "only what was taken leaves the queue"
        );
        if matches!(reply, Reply::Unknown(_)) && on_unknown == OnUnknown::Park {
            assert!(matches!(outcome.settle, Settle::Dead(_)), "never twice: {:?}", outcome.settle);
        }
        if let Settle::Delay(wait) = outcome.settle {
            assert!(wait <= Duration::from_secs(3600), "{wait:?}");
        }
    }
}

fn builtin() -> std::sync::Arc<Rules> {
    static RULES: std::sync::LazyLock<std::sync::Arc<Rules>> = std::sync::LazyLock::new(|| Rules::builtin().into());
    std::sync::Arc::clone(&RULES)
}
