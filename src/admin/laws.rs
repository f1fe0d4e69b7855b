//! What holds for whatever comes through the admin API's door, and for announcements and notes, which are read the same way.

use axum::http::StatusCode;
use bytes::Bytes;
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::campaigns::json_or_default;
use super::refusal::Refusal;
use super::wire::PauseOrder;
use super::{guard, jobs};
use crate::campaign::Announcement;
use crate::engine::{DeadSelection, Note};
use crate::job::Job;
use crate::laws::is_fit_for_logs;

/// Any body is a command or is refused without showing what it holds; what is read, written and read again is the same; one bad line
/// and no job is taken; and only loopback is taken for loopback.
pub fn hold(body: &[u8]) {
    let bytes = Bytes::copy_from_slice(body);
    command::<PauseOrder>(&bytes);
    command::<DeadSelection>(&bytes);
    batch(&bytes);
    match Announcement::parse(body) {
        Ok(read) => assert_eq!(Announcement::parse(&written(&read)), Ok(read)),
        Err(error) => assert!(is_fit_for_logs(&error.to_string()), "{error}"),
    }
    if let Some(note) = Note::parse(body) {
        check_note(note);
    }
    if let Ok(text) = std::str::from_utf8(body) {
        text.lines().take(20).for_each(host);
    }
}

fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn command<T: DeserializeOwned + Default + Serialize + PartialEq + std::fmt::Debug>(body: &Bytes) {
    match json_or_default::<T>(Ok(body.clone())) {
        Ok(read) => {
            assert!(!body.trim_ascii().is_empty() || read == T::default());
            assert_eq!(json_or_default::<T>(Ok(written(&read).into())).ok(), Some(read));
        }
        Err(refusal) => is_discreet(&refusal),
    }
}

fn is_discreet(refusal: &Refusal) {
    let Refusal(status, trouble) = refusal;
    assert_eq!(*status, StatusCode::BAD_REQUEST);
    assert!(is_fit_for_logs(&trouble.error), "{trouble:?}");
}

fn batch(body: &Bytes) {
    let lines = || body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let Ok(campaign) = "spring-sale".parse() else { return };
    match jobs::messages(&campaign, Some("b"), body) {
        Err(refusal) => is_discreet(&refusal),
        Ok(messages) => {
            assert_eq!(messages.len(), lines().count());
            for (message, line) in messages.iter().zip(lines()) {
                let Ok(job) = Job::parse(&message.body) else { panic!("no job was let through") };
                assert_eq!((&*message.body, &job.campaign), (line, &campaign));
                assert_eq!(message.headers.message_id.as_deref(), Some(job.id.as_str()));
            }
        }
    }
}

fn check_note(note: Note) {
    assert_eq!(Note::parse(&note.to_bytes()).as_ref(), Some(&note));
    let (before, now) = (note.campaign.clone(), jiff::Timestamp::UNIX_EPOCH);
    let (campaign, _) = note.without_ledger(now);
    assert_eq!(
        (campaign.losses, campaign.counts_since),
        (before.losses.saturating_add(1), Some(now)),
        "a loss is never forgotten"
    );
    assert_eq!((&campaign.id, campaign.phase), (&before.id, before.phase));
    assert_eq!(campaign.counts.waiting(), campaign.counts.enqueued(), "nothing is known to have been sent");
}

/// What is let in is loopback by the rules of URLs too.
fn host(text: &str) {
    if guard::is_loopback(text) {
        let Ok(url) = Url::parse(&format!("http://{text}/")) else { panic!("no address: {text}") };
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let local = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        assert!(local && url.username().is_empty(), "{text} is {name}");
    }
}
