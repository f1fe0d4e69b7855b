//! What holds for the properties of any message, ours or a stranger's.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use super::headers::{from_amqp, to_amqp};
use super::names::short;
use crate::broker::Headers;
use crate::laws::Choices;

const KEYS: [&str; 14] = [
    "x-campaignd-attempts",
    "x-campaignd-release",
    "x-campaignd-first-seen",
    "x-campaignd-batch",
    "x-campaignd-routed-to",
    "x-campaignd-death-at",
    "x-campaignd-death-reason",
    "x-campaignd-death-code",
    "x-campaignd-death-meta",
    "x-campaignd-death-http-status",
    "x-campaignd-death-description",
    "x-death",
    "x-delivery-count",
    "",
];

/// Headers of ours come back as they went; a stranger's are read as far as they make sense, and what was read stays the same from
/// then on, however often the message is published again.
pub fn hold(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let key = choices.text();
    let strange = choices.flag();
    let read = if strange {
        from_amqp(&properties(&mut choices), &key)
    } else {
        let headers = headers(&mut choices);
        let read = from_amqp(&published(&headers, &key), &key);
        assert_eq!(read, Headers { routed_to: read.routed_to.clone(), ..headers.clone() });
        assert!(headers.routed_to.is_none() || read.routed_to == headers.routed_to, "where it was routed is kept");
        read
    };
    for key in [key.as_str(), "spring", ""] {
        let again = from_amqp(&published(&read, key), key);
        assert_eq!(Headers { routed_to: None, ..again.clone() }, Headers { routed_to: None, ..read.clone() });
        assert!(read.routed_to.is_none() || again.routed_to == read.routed_to, "{read:?} {again:?}");
    }
}

fn published(headers: &Headers, key: &str) -> BasicProperties {
    let properties = to_amqp(headers, key, Timestamp::UNIX_EPOCH);
    assert_eq!(*properties.delivery_mode(), Some(2), "every message outlives the broker");
    let names = properties.headers().iter().flat_map(|table| table.inner().keys().cloned()).collect::<Vec<_>>();
    assert!(names.iter().all(|name| name.as_str().starts_with("x-campaignd-")), "{names:?}");
    properties
}

fn headers(choices: &mut Choices<'_>) -> Headers {
    Headers {
        message_id: choices.maybe(Choices::text),
        kind: choices.maybe(Choices::text),
        routed_to: choices.pick(&[None, Some("spring"), Some("summer")]).flatten().map(str::to_owned),
        attempts: choices.number32(),
        release: choices.number32(),
        redelivered: choices.flag(),
        first_seen: choices.maybe(Choices::time),
        batch: choices.maybe(Choices::text),
        death: choices.maybe(|choices| Box::new(choices.death())),
    }
}

fn properties(choices: &mut Choices<'_>) -> BasicProperties {
    let mut properties = BasicProperties::default();
    if let Some(id) = choices.maybe(Choices::text) {
        properties = properties.with_message_id(short(&id));
    }
    if let Some(kind) = choices.maybe(Choices::text) {
        properties = properties.with_type(short(&kind));
    }
    let mut table = FieldTable::default();
    for _ in 0..choices.below(16) {
        let key = choices.pick(&KEYS).unwrap_or_default();
        table.insert(short(key), value(choices));
    }
    properties.with_headers(table)
}

fn value(choices: &mut Choices<'_>) -> AMQPValue {
    let number = choices.number();
    match choices.below(16) {
        0 => AMQPValue::Boolean(number & 1 == 1),
        1 => AMQPValue::ShortShortInt(number as i8),
        2 => AMQPValue::ShortShortUInt(number as u8),
        3 => AMQPValue::ShortInt(number as i16),
        4 => AMQPValue::ShortUInt(number as u16),
        5 => AMQPValue::LongInt(number as i32),
        6 => AMQPValue::LongUInt(number as u32),
        7 => AMQPValue::LongLongInt(number as i64),
        8 => AMQPValue::Double(number as f64),
        9 => AMQPValue::Timestamp(number),
        10 => AMQPValue::ShortString(short(&choices.text())),
        11 => AMQPValue::FieldArray(FieldArray::default()),
        12 => AMQPValue::LongString(choices.time().to_string().into()),
        13 => AMQPValue::LongString(number.to_be_bytes().to_vec().into()),
        14 => AMQPValue::Void,
        _ => AMQPValue::LongString(choices.text().into()),
    }
}
