//! What holds for any job body.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Job, MAX_BODY_BYTES};
use crate::laws::is_fit_for_logs;

/// Any bytes are a job or are refused with a reason that shows nobody's number. A job reads back as it is written, and its request
/// goes to its recipient and to nobody else.
pub fn hold(body: &[u8]) {
    let read = Job::parse(body);
    assert_eq!(read, Job::parse(body), "the same bytes, the same answer");
    match read {
        Err(error) => {
            assert!(error.offset.is_none_or(|at| at <= body.len()), "{error}");
            assert!(is_fit_for_logs(&error.to_string()), "{error}");
        }
        Ok(job) => {
            assert!(!format!("{:?} {:?}", job.to, job.message).contains(&job.to.digits()), "a recipient shows itself");
            is_read_back(&job);
            is_addressed(&job);
        }
    }
}

fn is_read_back(job: &Job) {
    let wire = job.to_wire();
    assert!(!wire.contains(&b'\n') && !wire.contains(&b'\r'), "one job, one line");
    match Job::parse(&wire) {
        Ok(read) => {
            assert_eq!((&read.id, &read.campaign, &read.account), (&job.id, &job.campaign, &job.account));
            assert_eq!((read.to, read.not_after, read.message.kind()), (job.to, job.not_after, job.message.kind()));
            assert_eq!(read.message.as_json(), job.message.as_json().replace(['\n', '\r'], " "));
            assert_eq!(read.to_wire(), wire, "what was written once stays as it is");
        }
        // The id it was given by us may be what is too much.
        Err(error) => assert!(wire.len() > MAX_BODY_BYTES, "{error}"),
    }
}

fn is_addressed(job: &Job) {
    let body = job.request_body();
    let members = serde_json::Deserializer::from_slice(&body).deserialize_map(Members);
    let Ok(members) = members else { panic!("the request is no JSON object: {members:?}") };
    for (name, value) in
        [("to", job.to.digits()), ("messaging_product", "whatsapp".into()), ("recipient_type", "individual".into())]
    {
        let found: Vec<_> = members.iter().filter(|(member, _)| member == name).map(|(_, value)| value.get()).collect();
        assert_eq!(found, [format!("{value:?}")], "`{name}` stands in the request once");
    }
    assert_eq!(members.iter().filter(|(member, _)| member == "type").count(), 1);
}

/// The members of an object, doubles included.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
