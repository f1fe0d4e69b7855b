//! The gateway's envelope, `{"isSuccess": …, "data": …, "errors": …}`, read leniently where leniency is safe.
//!
//! What decides between sent and not sent is strict: `isSuccess` must be there and a boolean, and the JSON must be whole.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::description::PHONE_DIGITS;
use super::retry_after::{self, Asked};

/// Longest message id we keep; Meta's are below 100 characters.
const MAX_WAMID_CHARS: usize = 256;
/// Longest code we keep; the documented ones have 8 characters.
const MAX_CODE_CHARS: usize = 64;

/// What a body turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// Success with a message id.
    Accepted { wamid: String },
    /// Success, and no message id that anyone could use.
    AcceptedWithoutId,
    /// `isSuccess` is false.
    Refused(Errors),
    /// Not the gateway's envelope.
    None,
}

/// The `errors` object, as far as it made sense.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) code: Option<String>,
    pub(super) description: Option<String>,
    pub(super) retry_after: Asked,
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(rename = "isSuccess")]
    is_success: bool,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    messages: Vec<Sent<'a>>,
}

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Reads a body.
pub(super) fn parse(body: &[u8]) -> Envelope {
    let Ok(outer) = serde_json::from_slice::<Outer<'_>>(body) else { return Envelope::None };
    if !outer.is_success {
        return Envelope::Refused(outer.errors.map(errors).unwrap_or_default());
    }
    match outer.data.and_then(wamid) {
        Some(wamid) => Envelope::Accepted { wamid },
        None => Envelope::AcceptedWithoutId,
    }
}

fn wamid(data: &RawValue) -> Option<String> {
    let data: Data<'_> = serde_json::from_str(data.get()).ok()?;
    let id = data.messages.into_iter().next()?.id;
    let usable = (1..=MAX_WAMID_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then(|| id.into_owned())
}

fn errors(raw: &RawValue) -> Errors {
    let Ok(value) = serde_json::from_str::<Value>(raw.get()) else { return Errors::default() };
    // One object is documented; a list of them would mean its first.
    let value = match &value {
        Value::Array(list) => list.first().unwrap_or(&Value::Null),
        other => other,
    };
    let text = |name| value.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    Errors {
        code: text("code").filter(|code| is_code(code)).map(str::to_owned),
        description: text("description").map(str::to_owned),
        retry_after: retry_after::asked(value.get("params").unwrap_or(&Value::Null)),
    }
}

/// Anything with as many digits in a row as a phone number is no code, and must not be shown.
fn is_code(code: &str) -> bool {
    let digits = code.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    digits < Some(PHONE_DIGITS)
        && code.len() <= MAX_CODE_CHARS
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &str) -> Errors {
        match parse(body.as_bytes()) {
            Envelope::Refused(errors) => errors,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn reads_the_documented_answers() {
        let success = r#"{"isSuccess":true,"data":{"messaging_product":"whatsapp","contacts":[{"input":"9053","wa_id":"9053"}],"messages":[{"id":"wamid.HBgM"}]}}"#;
        assert_eq!(parse(success.as_bytes()), Envelope::Accepted { wamid: "wamid.HBgM".to_owned() });
        let fake = r#"{"isSuccess":true,"data":{"messages":[{"id":"wamid.FAKE_1711900000000000000"}]}}"#;
        assert_eq!(parse(fake.as_bytes()), Envelope::Accepted { wamid: "wamid.FAKE_1711900000000000000".to_owned() });
        let errors = refused(
            r#"{"isSuccess":false,"errors":{"code":"RATE_001","group":"TOO_MANY_REQUESTS","description":"Rate limit exceeded. Please try again later.","params":{"limit_type":"sec","retry_after":"1s"}}}"#,
        );
        assert_eq!(errors.code.as_deref(), Some("RATE_001"));
        assert_eq!(errors.description.as_deref(), Some("Rate limit exceeded. Please try again later."));
    }

    #[test]
    fn a_refusal_stays_one_however_little_it_says() {
        for body in [
            r#"{"isSuccess":false}"#,
            r#"{"isSuccess":false,"errors":null}"#,
            r#"{"isSuccess":false,"errors":"no"}"#,
            r#"{"isSuccess":false,"errors":[]}"#,
            r#"{"isSuccess":false,"errors":{"code":17,"description":[]}}"#,
            r#"{"isSuccess":false,"errors":{"code":"","params":[1]}}"#,
            r#"{"isSuccess":false,"errors":{"code":"two words"}}"#,
            r#"{"isSuccess":false,"errors":{"code":"TO_905321234567"}}"#,
        ] {
            assert_eq!(refused(body), Errors::default(), "{body}");
        }
        assert_eq!(refused(r#"{"isSuccess":false,"errors":[{"code":"GW_001"}]}"#).code.as_deref(), Some("GW_001"));
    }

    #[test]
    fn success_needs_a_message_id() {
        for data in [
            "null",
            "{}",
            r#"{"messages":[]}"#,
            r#"{"messages":[{}]}"#,
            r#"{"messages":[{"id":""}]}"#,
            r#"{"messages":[{"id":7}]}"#,
        ] {
            let body = format!(r#"{{"isSuccess":true,"data":{data}}}"#);
            assert_eq!(parse(body.as_bytes()), Envelope::AcceptedWithoutId, "{body}");
        }
        let long = format!(r#"{{"isSuccess":true,"data":{{"messages":[{{"id":"{}"}}]}}}}"#, "x".repeat(257));
        assert_eq!(parse(long.as_bytes()), Envelope::AcceptedWithoutId);
    }

    #[test]
    fn what_is_not_the_envelope() {
        for body in [
            &b""[..],
            b"<html><body>502 Bad Gateway</body></html>",
            b"null",
            b"[]",
            b"{}",
            br#"{"isSuccess":"true"}"#,
            br#"{"isSuccess":true"#,
            br#"{"isSuccess":true} trailing"#,
            br#"{"isSuccess":true,"isSuccess":false}"#,
            br#"{"isSuccess":false,"errors":null,"errors":{"code":"GW_001"}}"#,
            b"{\"isSuccess\":true,\"data\":\"\xff\"}",
        ] {
            assert_eq!(parse(body), Envelope::None, "{}", String::from_utf8_lossy(body));
        }
        let deep = format!(r#"{{"isSuccess":false,"errors":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(refused(&deep), Errors::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_json_makes_it_panic(errors in ".{0,60}", code in ".{0,80}") {
            let text = serde_json::to_string(&code).unwrap();
            let _ = parse(format!(r#"{{"isSuccess":false,"errors":{{"code":{text},"params":{errors}}}}}"#).as_bytes());
        }
    }
}
