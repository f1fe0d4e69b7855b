//! `retry_after` in all the forms the gateway has had, and `Retry-After`: how long to wait, at most an hour.

use std::time::Duration;

use serde_json::Value;

/// Nobody is made to wait longer than this by one answer.
pub(super) const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What an answer's `params` ask.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// `retry_after`, if it made sense.
    length: Option<Duration>,
    /// What its `limit_type` implies.
    implied: Option<Duration>,
}

/// Reads `errors.params`.
pub(super) fn asked(params: &Value) -> Asked {
    let length = match params.get("retry_after") {
        Some(Value::String(text)) => length(text),
        Some(Value::Number(number)) => number.as_f64().filter(|&s| s > 0.0).map(clamp_seconds),
        _ => None,
    };
    let implied = match params.get("limit_type").and_then(Value::as_str) {
        Some("sec") => Some(Duration::from_secs(1)),
        Some("min") => Some(Duration::from_secs(60)),
        _ => None,
    };
    Asked { length, implied }
}

/// What to obey: the longer of `retry_after` and the header; without either, what the limit's type implies.
pub(super) fn combine(asked: &Asked, header: Option<Duration>) -> Option<Duration> {
    asked.length.max(header).or(asked.implied)
}

/// `"1s"`, `"60 seconds"`, `"2min"`, `"250ms"`, `"5"`. Zero and negative are no answer to "how long".
fn length(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    if digits.is_empty() {
        return None;
    }
    let count: u64 = digits.parse().unwrap_or(u64::MAX);
    let milliseconds = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" => 1,
        "" | "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.saturating_mul(milliseconds)).min(LONGEST)).filter(|length| !length.is_zero())
}

fn clamp_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn obeyed(params: Value) -> Option<u128> {
        combine(&asked(&params), None).map(|length| length.as_millis())
    }

    #[test]
    fn reads_every_documented_form() {
        for (text, milliseconds) in [
            ("1s", 1_000),
            ("60s", 60_000),
            ("1 seconds", 1_000),
            ("1 second", 1_000),
            ("5 SEC", 5_000),
            ("2m", 120_000),
            ("2 min", 120_000),
            ("2minutes", 120_000),
            ("250ms", 250),
            ("7", 7_000),
            (" 3s ", 3_000),
        ] {
            assert_eq!(obeyed(json!({"retry_after": text, "limit_type": "min"})), Some(milliseconds), "{text}");
        }
        assert_eq!(obeyed(json!({"retry_after": 2})), Some(2_000));
        assert_eq!(obeyed(json!({"retry_after": 0.5})), Some(500));
    }

    #[test]
    fn the_absurd_is_clamped_and_the_garbled_falls_back() {
        for absurd in [json!("99999999999999999999999s"), json!("4000s"), json!("61min"), json!(1e300), json!(3601)] {
            assert_eq!(obeyed(json!({"retry_after": absurd})), Some(3_600_000), "{absurd}");
        }
        for garbled in
            [json!("-1s"), json!("soon"), json!(""), json!("0s"), json!(-5), json!(0), json!(null), json!("1.5s"), json!([])]
        {
            assert_eq!(obeyed(json!({"retry_after": garbled, "limit_type": "sec"})), Some(1_000), "{garbled}");
            assert_eq!(obeyed(json!({"retry_after": garbled, "limit_type": "min"})), Some(60_000), "{garbled}");
            assert_eq!(obeyed(json!({"retry_after": garbled, "limit_type": "day"})), None, "{garbled}");
        }
        assert_eq!(obeyed(json!(null)), None);
    }

    #[test]
    fn the_header_counts_too() {
        let header = Some(Duration::from_secs(5));
        assert_eq!(combine(&asked(&json!({"retry_after": "1s"})), header), header);
        assert_eq!(combine(&asked(&json!({"retry_after": "9s"})), header), Some(Duration::from_secs(9)));
        assert_eq!(combine(&asked(&json!({"limit_type": "min"})), header), header);
        assert_eq!(combine(&Asked::default(), header), header);
    }

    proptest! {
        #[test]
        fn never_longer_than_an_hour_nor_zero(text in "\\PC{0,30}|[0-9]{0,30} ?[a-z]{0,7}") {
            if let Some(length) = length(&text) {
                prop_assert!(length <= LONGEST && !length.is_zero());
            }
        }
    }
}
