//! The wire form as a JSON Schema, for producers in any language. What it says and what [`Job::parse`](super::Job::parse) does is the same.

/// `config/job.schema.json`.
pub const SCHEMA: &str = include_str!("../../config/job.schema.json");

#[cfg(test)]
mod tests {
    use jsonschema::Validator;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::job::Job;

    fn validator() -> Validator {
        jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap()
    }

    fn text() -> Value {
        json!({"type": "text", "text": {"body": "hi"}})
    }

    fn with(key: &str, value: impl Into<Value>) -> Value {
        let mut job = json!({"campaign_id": "c", "to": "905321234567", "message": text()});
        job[key] = value.into();
        job
    }

    fn message(value: Value) -> Value {
        with("message", value)
    }

    fn good() -> Vec<Value> {
        let long = "ä".repeat(4096);
        let mut jobs = vec![with("account", Value::Null), with("job_id", Value::Null), with("not_after", Value::Null)];
        jobs.extend(["1", "A:b.c_d-e", &"x".repeat(128)].map(|id| with("job_id", id)));
        jobs.extend(["0", "spring-sale", "2026.11_x", &"a".repeat(64)].map(|id| with("campaign_id", id)));
        jobs.extend(
            ["+90 (532) 123-45-67", " 905321234567 ", "1234567", "123456789012345", "(90)532.123.45.67"].map(|to| with("to", to)),
        );
        jobs.extend(
            ["2026-11-30T18:00:00+03:00", "2026-11-30T18:00:00.123456789Z", "2026-02-28T23:59:59Z"]
                .map(|at| with("not_after", at)),
        );
        jobs.extend(
            [
                json!({"type": "text", "text": {"body": long, "preview_url": true}, "context": {"message_id": "x"}}),
                json!({"type": "text", "text": {"body": "hi"}, "image": null}),
                json!({"type": "image", "image": {"link": "https://x.example/a.png", "caption": "hi"}}),
                json!({"type": "audio", "audio": {"id": "123"}}),
                json!({"type": "audio", "audio": {"id": 123, "link": null}}),
                json!({"type": "document", "document": {"link": "http://x.example/a.pdf"}}),
                json!({"type": "template", "template": {"name": "n", "language": {"code": "tr"}}}),
                json!({"type": "template", "template": {"name": "n", "language": {"code": "tr"},
                    "components": [{"type": "body", "parameters": [{"type": "text", "text": "Ali"}]}, {"type": "footer"}]}}),
                json!({"type": "interactive", "interactive": {}}),
            ]
            .map(message),
        );
        jobs
    }

    fn bad() -> Vec<Value> {
        let long = "ä".repeat(4097);
        let mut jobs =
            vec![json!([]), json!("job"), json!({}), with("priority", 1), with("to", 905_321_234_567_u64), with("job_id", 7)];
        jobs.extend(["campaign_id", "to", "message"].map(|key| with(key, Value::Null)));
        jobs.extend(["", "a b", "a/b", "é", &"x".repeat(129)].map(|id| with("job_id", id)));
        jobs.extend(["", "-a", "_a", "a/b", "A", &"a".repeat(65)].map(|id| with("campaign_id", id)));
        jobs.extend(["Main", ""].map(|name| with("account", name)));
        jobs.extend(
            ["", "0532 123 45 67", "90532123456x", "123456", "1234567890123456", "++905321234567", "+"].map(|to| with("to", to)),
        );
        jobs.extend(
            ["tomorrow", "2026-11-30", "2026-13-01T00:00:00Z", "2026-11-30T25:00:00Z", "2026-11-30T18:00:00"]
                .map(|at| with("not_after", at)),
        );
        jobs.extend(
            [
                json!("hi"),
                json!({}),
                json!({"type": "video", "video": {}}),
                json!({"type": "text"}),
                json!({"type": "text", "text": null}),
                json!({"type": "text", "text": {"body": ""}}),
                json!({"type": "text", "text": {"body": 7}}),
                json!({"type": "text", "text": {"body": long}}),
                json!({"type": "text", "text": {"body": "hi"}, "to": "905321234567"}),
                json!({"type": "text", "text": {"body": "hi"}, "to": null}),
                json!({"type": "text", "text": {"body": "hi"}, "messaging_product": "whatsapp"}),
                json!({"type": "text", "text": {"body": "hi"}, "image": {"link": 7}}),
                json!({"type": "image", "image": {}}),
                json!({"type": "image", "image": {"link": "file:///etc/passwd", "id": "1"}}),
                json!({"type": "image", "image": {"id": null}}),
                json!({"type": "template", "template": {"name": "n"}}),
                json!({"type": "template", "template": {"name": "", "language": {"code": "tr"}}}),
                json!({"type": "template", "template": {"name": "n", "language": {"code": ""}}}),
                json!({"type": "template", "template": {"name": "n", "language": {"code": "tr"}, "components": null}}),
                json!({"type": "template", "template": {"name": "n", "language": {"code": "tr"}, "components": [{"parameters": []}]}}),
                json!({"type": "template", "template": {"name": "n", "language": {"code": "tr"},
                    "components": [{"type": "body", "parameters": [{"text": "Ali"}]}]}}),
                json!({"type": "interactive", "interactive": []}),
            ]
            .map(message),
        );
        jobs
    }

    #[test]
    fn schema_and_parser_agree_on_good_and_bad_jobs() {
        let validator = validator();
        for (jobs, is_good) in [(good(), true), (bad(), false)] {
            for job in jobs {
                assert_eq!(validator.is_valid(&job), is_good, "schema: {job}");
                let parsed = Job::parse(job.to_string().as_bytes());
                assert_eq!(parsed.is_ok(), is_good, "parser: {job}: {parsed:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn they_agree_on_any_name_and_number(
            id in proptest::option::of("[A-Za-z0-9._:/ é-]{0,12}"),
            campaign in "[a-zA-Z0-9._/-]{0,8}",
            to in "[+0-9 ().x-]{0,18}",
        ) {
            let job = json!({"job_id": id, "campaign_id": campaign, "to": to, "message": text()});
            prop_assert_eq!(validator().is_valid(&job), Job::parse(job.to_string().as_bytes()).is_ok(), "{}", job);
        }
    }
}
