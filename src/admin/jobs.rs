//! The door for producers when the broker is embedded in the daemon: announcements and jobs, handed to the broker as they are.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::Desk;
use super::campaigns::{Body, Id};
use super::refusal::Refusal;
use super::wire::Published;
use crate::broker::{ANNOUNCEMENT, Headers, Message, Target};
use crate::campaign::Announcement;
use crate::job::{CampaignId, Job};

/// Jobs on their way to the broker at once; they share its flushes.
const WINDOW: usize = 512;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    batch: Option<String>,
}

pub(super) async fn announce(State(desk): State<Desk>, body: Body) -> Result<StatusCode, Refusal> {
    let body = body?;
    let announcement = Announcement::parse(&body).map_err(|error| Refusal::bad(error, ""))?;
    let headers = Headers { kind: Some(ANNOUNCEMENT.into()), batch: announcement.batch, ..Headers::default() };
    desk.broker.publish(Target::Announce(&announcement.campaign_id), &Message { body, headers }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One job a line. All are checked before the first is published; after an error some may be there, and repeating is safe.
pub(super) async fn publish(
    State(desk): State<Desk>,
    id: Id,
    batch: Result<Query<Batch>, QueryRejection>,
    body: Body,
) -> Result<Json<Published>, Refusal> {
    let (campaign, batch) = (id?.0, batch?.0.batch);
    let messages = messages(&campaign, batch.as_deref(), &body?)?;
    let count = messages.len() as u64;
    let publish = |message: Message| {
        let (broker, campaign) = (&desk.broker, &campaign);
        async move { broker.publish(Target::Jobs(campaign), &message).await }
    };
    stream::iter(messages).map(publish).buffer_unordered(WINDOW).try_collect::<()>().await?;
    Ok(Json(Published { published: count }))
}

pub(super) fn messages(campaign: &CampaignId, batch: Option<&str>, body: &Bytes) -> Result<Vec<Message>, Refusal> {
    let lines = body.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let message = |(index, line): (usize, &[u8])| {
        let job = Job::parse(line).map_err(|error| Refusal::bad(format!("line {}: {error}", index + 1), "mend that line"))?;
        if job.campaign != *campaign {
            return Err(Refusal::bad(format!("line {}: the job belongs to another campaign", index + 1), ""));
        }
        let headers =
            Headers { message_id: Some(job.id.as_str().to_owned()), batch: batch.map(str::to_owned), ..Headers::default() };
        Ok(Message { body: body.slice_ref(line), headers })
    };
    lines.map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Vec<Message>, Refusal> {
        messages(&"c".parse().unwrap(), Some("b"), &Bytes::from(text.to_owned()))
    }

    #[test]
    fn lines_become_messages_with_their_ids_and_batch() {
        let job = r#"{"campaign_id":"c","job_id":"j1","to":"905321234567","message":{"type":"text","text":{"body":"x"}}}"#;
        let messages = lines(&format!("{job}\n\n{}\r\n", job.replace("j1", "j2"))).unwrap();
        let ids: Vec<_> = messages.iter().map(|m| m.headers.message_id.clone().unwrap()).collect();
        assert_eq!(ids, ["j1", "j2"]);
        assert_eq!(messages[0].headers.batch.as_deref(), Some("b"));
        assert_eq!(messages[0].body, job);
    }

    #[test]
    fn one_bad_line_and_nothing_is_published() {
        let job = r#"{"campaign_id":"c","to":"905329876543","message":{"type":"text","text":{"body":"x"}}}"#;
        let refusal = format!("{:?}", lines(&format!("{job}\n{}", job.replace("9053", "x053"))).unwrap_err());
        assert!(refusal.contains("line 2") && !refusal.contains("29876543"), "{refusal}");
        assert!(lines(&job.replace("\"c\"", "\"d\"")).is_err());
    }
}
