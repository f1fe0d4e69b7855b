//! The job's wire form: bounded UTF-8 JSON in, reasons with a byte offset out. Reasons never quote a value from the body.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{AccountName, CampaignId, Job, JobId, Message, Recipient};

/// Largest job body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Why a body is no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", .offset.map(|o| format!(" (at byte {o})")).unwrap_or_default())]
pub struct JobError {
    /// What is wrong, without values from the body.
    pub reason: String,
    /// Where the reader stopped, in bytes from the start of the body.
    pub offset: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIn<'a> {
    #[serde(borrow)]
    job_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    campaign_id: Cow<'a, str>,
    #[serde(borrow)]
    account: Option<Cow<'a, str>>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow)]
    not_after: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct WireOut<'a> {
    job_id: &'a JobId,
    campaign_id: &'a CampaignId,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a AccountName>,
    to: String,
    message: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<Timestamp>,
}

pub(super) fn parse(body: &[u8]) -> Result<Job, JobError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(plain(format!("body has {} bytes; at most {MAX_BODY_BYTES} are allowed", body.len())));
    }
    let text =
        std::str::from_utf8(body).map_err(|e| JobError { reason: "body is not UTF-8".into(), offset: Some(e.valid_up_to()) })?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(JobError { reason: "body is no JSON object".into(), offset: Some(0) });
    }
    let wire: WireIn<'_> = serde_json::from_str(text).map_err(|e| located(text, 0, &e))?;
    let campaign: CampaignId = wire.campaign_id.parse().map_err(plain)?;
    let to: Recipient = wire.to.parse().map_err(plain)?;
    let base = (wire.message.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    Ok(Job {
        id: match wire.job_id {
            Some(id) => id.parse().map_err(plain)?,
            None => JobId::derived(&campaign, to),
        },
        account: wire.account.map(|name| name.parse()).transpose().map_err(plain)?,
        message: Message::parse(wire.message).map_err(|e| located(wire.message.get(), base, &e))?,
        not_after: wire
            .not_after
            .map(|t| t.parse())
            .transpose()
            .map_err(|_| plain("not_after is no RFC 3339 time, for example 2026-11-30T18:00:00+03:00"))?,
        campaign,
        to,
    })
}

pub(super) fn write(job: &Job) -> Vec<u8> {
    let json = job.message.as_json();
    let Ok(message) = serde_json::from_str::<&RawValue>(json) else { return Vec::new() };
    let out = WireOut {
        job_id: &job.id,
        campaign_id: &job.campaign,
        account: job.account.as_ref(),
        to: job.to.digits(),
        message,
        not_after: job.not_after,
    };
    let mut wire = serde_json::to_vec(&out).unwrap_or_default();
    // A line break in JSON text is white space between tokens, never part of a string: one job, one line.
    wire.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    wire
}

fn plain(reason: impl ToString) -> JobError {
    JobError { reason: reason.to_string(), offset: None }
}

fn located(text: &str, base: usize, error: &serde_json::Error) -> JobError {
    let offset = byte_offset(text, error.line(), error.column()).map(|o| o + base);
    JobError { reason: without_values(error), offset }
}

/// Where serde's line and column, the latter in bytes, are in `text`.
pub(crate) fn byte_offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let before: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    Some((before + column).min(text.len()))
}

/// serde quotes the offending value ("invalid type: string \"9053…\", expected …"); a body's values must not reach a log.
pub(crate) fn without_values(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let text = full.rfind(" at line ").and_then(|at| full.get(..at)).unwrap_or(&full);
    for quoting in ["invalid type: ", "invalid value: ", "unknown variant ", "unknown field "] {
        let Some(rest) = text.strip_prefix(quoting) else { continue };
        let found = rest.split(['"', '`', '\'']).next().unwrap_or_default().trim();
        let expected = rest.rfind(", expected ").and_then(|at| rest.get(at..)).unwrap_or_default();
        let gap = if expected.is_empty() { "" } else { found };
        return format!("{}{gap}{expected}", if gap.is_empty() { quoting.trim_end() } else { quoting });
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"campaign_id":"c","to":"+90 532 123 45 67","message":{"type":"text","text":{"body":"hi"}}}"#;

    fn reason(body: &str) -> JobError {
        Job::parse(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn reads_the_smallest_job_and_derives_its_id() {
        let job = Job::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(job.to.digits(), "905321234567");
        assert_eq!(job.id, JobId::derived(&job.campaign, job.to));
    }

    #[test]
    fn refuses_with_a_reason_and_the_byte() {
        assert_eq!(reason("{").offset, Some(1));
        assert!(reason(&GOOD.replace("\"to\"", "\"too\"")).reason.starts_with("unknown field"));
        assert!(reason(&GOOD.replace("\"c\"", "\"a/b\"")).reason.contains("campaign id"));
        assert!(reason(&GOOD.replace("532", "5x2")).reason.contains("no digit"));
        let at = reason(&GOOD.replace("\"body\":\"hi\"", "\"body\":7")).offset.unwrap();
        assert!((70..90).contains(&at), "{at}");
        assert!(Job::parse(&[0xff, 0xfe]).unwrap_err().reason.contains("UTF-8"));
        assert!(Job::parse(&vec![b' '; MAX_BODY_BYTES + 1]).unwrap_err().reason.contains("at most 65536"));
    }

    #[test]
    fn a_job_may_be_as_long_as_is_said() {
        let padding = " ".repeat(MAX_BODY_BYTES - GOOD.len());
        assert!(Job::parse(format!("{GOOD}{padding}").as_bytes()).is_ok());
    }

    #[test]
    fn reasons_never_quote_the_body() {
        for bad in [
            r#"{"campaign_id":"c","to":905321234567,"message":{}}"#,
            r#"{"campaign_id":905321234567,"to":"1","message":{}}"#,
            r#"{"campaign_id":"c","to":"905321234567","message":{"type":"905321234567"}}"#,
            r#"{"campaign_id":"c","to":"905321234567","message":{"type":"text","text":"905321234567"}}"#,
            r#"{"905321234567":1}"#,
        ] {
            let error = reason(bad).to_string();
            assert!(!error.contains("905321234567"), "{error}");
        }
    }

    #[test]
    fn a_job_is_written_on_one_line_however_its_message_was_laid_out() {
        let laid_out = GOOD.replace(r#""text":{"#, "\n  \"text\":\r\n {");
        let job = Job::parse(laid_out.as_bytes()).unwrap();
        let wire = String::from_utf8(job.to_wire()).unwrap();
        assert!(!wire.contains(['\n', '\r']), "{wire}");
        assert_eq!(Job::parse(wire.as_bytes()).unwrap().to, job.to);
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Job::parse(&body);
        }

        #[test]
        fn what_is_written_reads_back_the_same(number in 1_000_000u64..999_999_999_999_999, id in "[A-Za-z0-9._:-]{1,128}", text in ".{1,40}") {
            let body = serde_json::json!({"job_id": id, "campaign_id": "c", "to": number.to_string(),
                "message": {"type": "text", "text": {"body": text}}, "not_after": "2026-11-30T18:00:00Z"});
            let job = Job::parse(body.to_string().as_bytes()).unwrap();
            prop_assert_eq!(Job::parse(&job.to_wire()).unwrap(), job);
        }
    }
}
