//! What holds for any bytes that the embedded broker's database may hold, and for every message it keeps.

use super::message::{self, MAX_BYTES, Whole};
use super::queue::{self, QueueName};
use super::{meta, note};
use crate::broker::Headers;
use crate::disk::Fault;
use crate::laws::Choices;

/// Any key and value is read or refused, never a panic; a message comes back whole from its pieces, or damage to them is noticed.
///
/// The first byte says what the rest is.
pub fn hold(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind {
        b'v' => {
            if let Some(read) = message::decode(rest) {
                let written = message::encode(&read.headers, &read.body).unwrap_or_default();
                assert_eq!(message::decode(&written), Some(read));
            }
        }
        b'q' => records(rest),
        b'i' => items(&mut Choices::new(rest)),
        _ => cut(&mut Choices::new(rest)),
    }
}

fn records(bytes: &[u8]) {
    if let Some(read) = queue::decode(bytes) {
        assert_eq!(queue::decode(&queue::encode(&read)), Some(read));
    }
    if let Some(name) = queue::parse_key(bytes) {
        assert_eq!(queue::key(&name), bytes);
    }
    if let Some(id) = note::parse_key(bytes) {
        assert_eq!(note::key(&id), bytes);
    }
    let _ = meta::decode(bytes);
}

type Item = Result<(Vec<u8>, Vec<u8>), Fault>;

/// Pieces as a damaged database might hold them.
fn items(choices: &mut Choices<'_>) {
    let mut items: Vec<Item> = Vec::new();
    while !choices.is_empty() && items.len() < 64 {
        let (number, piece, value) = (u64::from(choices.below(4)), choices.below(5), choices.text());
        items.push(Ok((message::key(&QueueName::intake(), number, piece), value.into_bytes())));
    }
    items.sort_by(|a, b| a.as_ref().ok().cmp(&b.as_ref().ok()));
    let bytes: usize = items.iter().flatten().map(|(_, value)| value.len()).sum();
    if let Ok(whole) = message::assemble(items.into_iter(), 3, usize::MAX) {
        assert!(whole.len() <= 3 && whole.iter().map(|whole| whole.stored.len()).sum::<usize>() <= bytes);
        assert!(whole.iter().all(|whole| whole.pieces > 0), "{whole:?}");
    }
}

/// Messages of many lengths, cut and put together again, perhaps with one piece missing.
fn cut(choices: &mut Choices<'_>) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut items: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for number in 0..u64::from(choices.below(4)) {
        let headers = headers(choices);
        let body = vec![choices.byte(); (choices.number() % 40_000) as usize];
        let stored = message::encode(&headers, &body).unwrap_or_default();
        assert!(stored.len() <= MAX_BYTES);
        let Some(read) = message::decode(&stored) else { panic!("a message that cannot be read back") };
        assert_eq!((read.headers, &*read.body), (headers, &*body));
        let pieces = message::pieces(&stored).map(|(piece, value)| (message::key(&QueueName::intake(), number, piece), value));
        items.extend(pieces);
        kept.push(stored);
    }
    let whole = assembled(items.clone());
    assert_eq!(whole.as_ref().ok().map(|whole| whole.iter().map(|whole| whole.stored.clone()).collect()), Some(kept.clone()));
    let Some(index) = usize::from(choices.byte()).checked_rem(items.len()) else { return };
    let (key, _) = items.remove(index);
    if let Ok(whole) = assembled(items) {
        let left: Vec<_> = whole.iter().map(|whole| message::number(&whole.key)).collect();
        assert!(!left.contains(&message::number(&key)), "half a message is never taken for a whole one");
        assert!(whole.iter().all(|whole| kept.contains(&whole.stored)));
    }
}

fn assembled(items: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<Whole>, Fault> {
    message::assemble(items.into_iter().map(Ok), usize::MAX, usize::MAX).map(Vec::from)
}

fn headers(choices: &mut Choices<'_>) -> Headers {
    let death = choices.maybe(|choices| Box::new(choices.death()));
    Headers { message_id: choices.maybe(Choices::text), attempts: choices.number32(), death, ..Headers::default() }
}
