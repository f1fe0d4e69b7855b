//! The answer's headers that we heed: `X-RateLimit-*` and `Retry-After`. Absent or garbled ones change nothing.

use std::time::Duration;

use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use jiff::fmt::rfc2822::DateTimeParser;

use super::retry_after::LONGEST;
use crate::gateway::{Window, Windows};

const SECOND_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-sec-limit");
const SECOND_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-sec-remaining");
const MINUTE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-min-limit");
const MINUTE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-min-remaining");

/// The gateway's own view of the two windows.
pub(super) fn windows(headers: &HeaderMap) -> Windows {
    Windows {
        second: window(headers, &SECOND_LIMIT, &SECOND_REMAINING),
        minute: window(headers, &MINUTE_LIMIT, &MINUTE_REMAINING),
    }
}

fn window(headers: &HeaderMap, limit: &HeaderName, remaining: &HeaderName) -> Option<Window> {
    let (limit, remaining) = (number(headers, limit)?, number(headers, remaining)?);
    // A limit of nothing, or more left than there is, is garbled.
    (limit > 0 && remaining <= limit).then_some(Window { limit, remaining })
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u32> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `Retry-After` in seconds or as a date; a date is taken relative to the answer's own `Date`, so no clock of ours matters.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let length = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let parser = DateTimeParser::new();
        let then = parser.parse_timestamp(text).ok()?;
        let date = parser.parse_timestamp(headers.get(DATE)?.to_str().ok()?.trim()).ok()?;
        Duration::try_from(then.duration_since(date)).ok()?
    };
    (!length.is_zero()).then(|| length.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn reads_both_windows() {
        let headers = map(&[
            ("x-ratelimit-sec-limit", "80"),
            ("x-ratelimit-sec-remaining", "79"),
            ("x-ratelimit-min-limit", "4800"),
            ("x-ratelimit-min-remaining", "0"),
        ]);
        let expected =
            Windows { second: Some(Window { limit: 80, remaining: 79 }), minute: Some(Window { limit: 4800, remaining: 0 }) };
        assert_eq!(windows(&headers), expected);
        assert_eq!(windows(&HeaderMap::new()), Windows::default());
    }

    #[test]
    fn garbled_windows_change_nothing() {
        for (limit, remaining) in
            [("", "1"), ("x", "1"), ("80", "-1"), ("80", "81"), ("0", "0"), ("+80", "1"), ("80.0", "1"), ("99999999999", "1")]
        {
            let headers = map(&[("x-ratelimit-sec-limit", limit), ("x-ratelimit-sec-remaining", remaining)]);
            assert_eq!(windows(&headers), Windows::default(), "{limit} {remaining}");
        }
        assert_eq!(windows(&map(&[("x-ratelimit-sec-limit", "80")])), Windows::default());
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        for (value, seconds) in [
            ("120", Some(120)),
            ("0", None),
            ("99999999999999999999999", Some(3600)),
            ("-5", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2026 07:27:00 GMT", None),
            ("Thu, 22 Oct 2026 07:28:00 GMT", Some(3600)),
        ] {
            assert_eq!(retry_after(&map(&[("retry-after", value), date])).map(|d| d.as_secs()), seconds, "{value}");
        }
        assert_eq!(retry_after(&map(&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")])), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let names = [RETRY_AFTER, DATE, SECOND_LIMIT, SECOND_REMAINING, MINUTE_LIMIT, MINUTE_REMAINING];
                let headers = names.into_iter().map(|name| (name, value.clone())).collect();
                let _ = (windows(&headers), retry_after(&headers));
            }
        }
    }
}
