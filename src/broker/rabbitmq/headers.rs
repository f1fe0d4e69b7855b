//! Our headers to AMQP properties and back. Strict in what we write, tolerant in what we read: producers are not ours.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::names::{is_announce_key, short};
use crate::broker::{Death, Headers};

const ATTEMPTS: &str = "x-campaignd-attempts";
const RELEASE: &str = "x-campaignd-release";
const REDELIVERED: &str = "x-campaignd-redelivered";
const FIRST_SEEN: &str = "x-campaignd-first-seen";
const BATCH: &str = "x-campaignd-batch";
/// Only where it differs from the routing key the message travels under.
const ROUTED_TO: &str = "x-campaignd-routed-to";
const DEATH_AT: &str = "x-campaignd-death-at";
const DEATH_REASON: &str = "x-campaignd-death-reason";
const DEATH_CODE: &str = "x-campaignd-death-code";
const DEATH_META: &str = "x-campaignd-death-meta";
const DEATH_STATUS: &str = "x-campaignd-death-http-status";
const DEATH_DOUBT: &str = "x-campaignd-death-may-have-been-sent";
const DEATH_DESCRIPTION: &str = "x-campaignd-death-description";

/// Properties of a durable message with `headers`, published under the routing key `key`. Nothing of the broker's own
/// (`x-death`, `x-delivery-count`) is ever carried over.
pub(super) fn to_amqp(headers: &Headers, key: &str, now: Timestamp) -> BasicProperties {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let mut properties = BasicProperties::default().with_delivery_mode(2).with_timestamp(seconds);
    if headers.death.is_none() {
        properties = properties.with_content_type(short("application/json")); // a dead letter may be anything
    }
    if let Some(id) = &headers.message_id {
        properties = properties.with_message_id(short(id));
    }
    if let Some(kind) = &headers.kind {
        properties = properties.with_type(short(kind));
    }
    let table = table(headers, key);
    if table.inner().is_empty() { properties } else { properties.with_headers(table) }
}

fn table(headers: &Headers, key: &str) -> FieldTable {
    let mut table = FieldTable::default();
    number(&mut table, ATTEMPTS, headers.attempts);
    number(&mut table, RELEASE, headers.release);
    number(&mut table, REDELIVERED, headers.redelivered.into());
    if let Some(at) = headers.first_seen {
        text(&mut table, FIRST_SEEN, &at.to_string());
    }
    if let Some(batch) = &headers.batch {
        text(&mut table, BATCH, batch);
    }
    if let Some(routed_to) = headers.routed_to.as_deref().filter(|&r| r != key) {
        text(&mut table, ROUTED_TO, routed_to);
    }
    if let Some(death) = &headers.death {
        write_death(&mut table, death);
    }
    table
}

fn write_death(table: &mut FieldTable, death: &Death) {
    text(table, DEATH_AT, &death.at.to_string());
    text(table, DEATH_REASON, &death.reason);
    number(table, DEATH_DOUBT, death.may_have_been_sent.into());
    text(table, DEATH_DESCRIPTION, &death.description);
    if let Some(code) = &death.code {
        text(table, DEATH_CODE, code);
    }
    if let Some(meta) = death.meta {
        table.insert(short(DEATH_META), AMQPValue::LongLongInt(meta.into()));
    }
    if let Some(status) = death.http_status {
        table.insert(short(DEATH_STATUS), AMQPValue::LongLongInt(status.into()));
    }
}

fn number(table: &mut FieldTable, key: &str, value: u32) {
    if value != 0 {
        table.insert(short(key), AMQPValue::LongLongInt(value.into()));
    }
}

fn text(table: &mut FieldTable, key: &str, value: &str) {
    table.insert(short(key), AMQPValue::LongString(value.into()));
}

/// Our headers of a delivery. What is absent, of an odd type or out of range reads as not given.
pub(super) fn from_amqp(properties: &BasicProperties, key: &str) -> Headers {
    let own = |text: &Option<ShortString>| text.as_ref().map(|t| t.as_str().to_owned());
    let mut headers = Headers {
        message_id: own(properties.message_id()),
        kind: own(properties.kind()),
        routed_to: campaign_key(key),
        ..Headers::default()
    };
    let Some(table) = properties.headers() else { return headers };
    headers.attempts = read_number(table, ATTEMPTS).unwrap_or(0);
    headers.release = read_number(table, RELEASE).unwrap_or(0);
    headers.redelivered = read_number(table, REDELIVERED).unwrap_or(0_u32) > 0;
    headers.first_seen = read_text(table, FIRST_SEEN).and_then(|t| t.parse().ok());
    headers.batch = read_text(table, BATCH).map(str::to_owned);
    headers.routed_to = read_text(table, ROUTED_TO).and_then(campaign_key).or(headers.routed_to);
    headers.death = read_death(table).map(Box::new);
    headers
}

/// The routing key, if a campaign may be meant by it.
fn campaign_key(key: &str) -> Option<String> {
    (!key.is_empty() && !is_announce_key(key)).then(|| key.to_owned())
}

fn read_death(table: &FieldTable) -> Option<Death> {
    Some(Death {
        reason: read_text(table, DEATH_REASON)?.to_owned(),
        at: read_text(table, DEATH_AT).and_then(|t| t.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH),
        code: read_text(table, DEATH_CODE).map(str::to_owned),
        meta: read_number(table, DEATH_META),
        http_status: read_number(table, DEATH_STATUS),
        may_have_been_sent: read_number(table, DEATH_DOUBT).unwrap_or(0_u32) > 0,
        description: read_text(table, DEATH_DESCRIPTION).unwrap_or_default().to_owned(),
    })
}

fn read_text<'a>(table: &'a FieldTable, key: &str) -> Option<&'a str> {
    match table.inner().get(key)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn read_number<N: TryFrom<i64>>(table: &FieldTable, key: &str) -> Option<N> {
    let wide = match *table.inner().get(key)? {
        AMQPValue::ShortShortInt(n) => n.into(),
        AMQPValue::ShortShortUInt(n) => n.into(),
        AMQPValue::ShortInt(n) => n.into(),
        AMQPValue::ShortUInt(n) => n.into(),
        AMQPValue::LongInt(n) => n.into(),
        AMQPValue::LongUInt(n) => n.into(),
        AMQPValue::LongLongInt(n) => n,
        _ => return None,
    };
    N::try_from(wide).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_foreign_producers_message_reads_as_all_defaults() {
        let headers = from_amqp(&BasicProperties::default(), "spring");
        assert_eq!(headers, Headers { routed_to: Some("spring".into()), ..Headers::default() });
    }

    #[test]
    fn odd_types_and_ranges_read_as_not_given() {
        let mut table = FieldTable::default();
        table.insert(short(ATTEMPTS), AMQPValue::LongString("many".into()));
        table.insert(short(RELEASE), AMQPValue::LongLongInt(-1));
        table.insert(short(FIRST_SEEN), AMQPValue::LongString("yesterday".into()));
        table.insert(short(BATCH), AMQPValue::LongString(vec![0xff, 0xfe].into()));
        table.insert(short(DEATH_STATUS), AMQPValue::LongLongInt(1 << 20));
        let headers = from_amqp(&BasicProperties::default().with_headers(table), "");
        assert_eq!(headers, Headers::default());
    }

    #[test]
    fn what_the_broker_added_is_not_carried_over() {
        let mut table = FieldTable::default();
        table.insert(short("x-death"), AMQPValue::LongString("…".into()));
        table.insert(short("x-delivery-count"), AMQPValue::LongLongInt(7));
        table.insert(short(ATTEMPTS), AMQPValue::ShortShortUInt(3));
        let headers = from_amqp(&BasicProperties::default().with_headers(table), "spring");
        let again = to_amqp(&headers, "spring", now());
        let names: Vec<&str> = again.headers().as_ref().unwrap().inner().keys().map(ShortString::as_str).collect();
        assert_eq!(names, [ATTEMPTS]);
    }

    #[test]
    fn the_properties_of_a_fresh_job_stay_small() {
        let headers = Headers { message_id: Some("j1".into()), routed_to: Some("spring".into()), ..Headers::default() };
        let properties = to_amqp(&headers, "spring", now());
        assert!(properties.headers().is_none());
        assert_eq!(*properties.delivery_mode(), Some(2));
    }

    fn a_death() -> impl Strategy<Value = Death> {
        (
            0i64..4_000_000_000_000,
            "\\PC{1,20}",
            proptest::option::of("[A-Z_0-9]{1,9}"),
            any::<Option<u32>>(),
            any::<Option<u16>>(),
            any::<bool>(),
            "\\PC{0,300}",
        )
            .prop_map(|(ms, reason, code, meta, http_status, may_have_been_sent, description)| Death {
                at: Timestamp::from_millisecond(ms).unwrap(),
                reason,
                code,
                meta,
                http_status,
                may_have_been_sent,
                description,
            })
    }

    prop_compose! {
        fn some_headers()(
            message_id in proptest::option::of("[a-z0-9]{1,128}"),
            kind in proptest::option::of("[a-z.0-9]{1,20}"),
            routed_to in proptest::option::of("[a-z0-9/]{1,64}"),
            attempts in any::<u32>(),
            release in any::<u32>(),
            redelivered in any::<bool>(),
            first_seen in proptest::option::of(0i64..4_000_000_000_000),
            batch in proptest::option::of("\\PC{1,80}"),
            death in proptest::option::of(a_death()),
        ) -> Headers {
            Headers {
                message_id, kind, routed_to, attempts, release, redelivered, batch,
                first_seen: first_seen.map(|ms| Timestamp::from_millisecond(ms).unwrap()),
                death: death.map(Box::new),
            }
        }
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_went(headers in some_headers(), key in "[a-z0-9]{1,10}") {
            let back = from_amqp(&to_amqp(&headers, &key, now()), &key);
            let expected = Headers { routed_to: headers.routed_to.clone().or(Some(key)), ..headers };
            prop_assert_eq!(back, expected);
        }
    }
}
