//! A message in a queue. Key `j` + queue name + 0 + number (u64, big endian) + piece; value: a piece of the message.
//!
//! A message is: layout byte 1 · length and headers as JSON · body. It is cut into pieces of at most 6 KiB, because sled puts a page of
//! more than 128 KiB (17 values) into a file of its own, which it does not sync. The first piece begins with their count.

use std::collections::VecDeque;

use bytes::Bytes;

use super::queue::QueueName;
use crate::broker::{Headers, Message};
use crate::disk::fields::{Fields, put_bytes};
use crate::disk::{Fault, key_between};

const PREFIX: u8 = b'j';
const LAYOUT: u8 = 1;
const PIECE_BYTES: usize = 6144;

/// The longest message: 255 pieces, some 1.5 MB.
pub(super) const MAX_BYTES: usize = PIECE_BYTES * 255 - 1;

/// A message in its stored form.
pub(super) fn encode(headers: &Headers, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let headers = serde_json::to_vec(headers)?;
    let mut out = Vec::with_capacity(headers.len() + body.len() + 4);
    out.push(LAYOUT);
    put_bytes(&mut out, &headers);
    out.extend_from_slice(body);
    Ok(out)
}

pub(super) fn decode(stored: &[u8]) -> Option<Message> {
    let mut fields = Fields::new(stored);
    if fields.byte()? != LAYOUT {
        return None;
    }
    let headers = serde_json::from_slice(fields.bytes()?).ok()?;
    Some(Message { headers, body: Bytes::copy_from_slice(fields.rest()) })
}

pub(super) fn key(queue: &QueueName, number: u64, piece: u8) -> Vec<u8> {
    let mut key = key_between(PREFIX, queue.as_str(), number);
    key.push(piece);
    key
}

/// The number in a key of the queue's.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    let (rest, _piece) = key.split_last_chunk::<1>()?;
    Some(u64::from_be_bytes(*rest.last_chunk::<8>()?))
}

/// How many pieces `pieces` will give.
pub(super) fn piece_count(length: usize) -> u8 {
    u8::try_from((length + 1).div_ceil(PIECE_BYTES)).unwrap_or(u8::MAX)
}

/// Cuts stored bytes of at most [`MAX_BYTES`] into pieces.
pub(super) fn pieces(stored: &[u8]) -> impl Iterator<Item = (u8, Vec<u8>)> {
    let first_length = stored.len().min(PIECE_BYTES - 1);
    let (first, rest) = stored.split_at_checked(first_length).unwrap_or((stored, &[]));
    let mut head = Vec::with_capacity(first.len() + 1);
    head.push(piece_count(stored.len()));
    head.extend_from_slice(first);
    let tail = rest.chunks(PIECE_BYTES).map(<[u8]>::to_vec);
    (0..=u8::MAX).zip(std::iter::once(head).chain(tail))
}

/// What was cut into pieces, put together again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// The key of the first piece.
    pub(super) key: Vec<u8>,
    pub(super) pieces: u8,
    pub(super) stored: Vec<u8>,
}

/// Puts messages together from keys and values in order, until there are `most` or they add up to `most_bytes`. Pieces without a
/// beginning are passed over: their message was taken off the queue.
pub(super) fn assemble<V: AsRef<[u8]>>(
    items: impl Iterator<Item = Result<(V, V), Fault>>,
    most: usize,
    most_bytes: usize,
) -> Result<VecDeque<Whole>, Fault> {
    let mut done = VecDeque::new();
    let mut bytes = 0;
    let mut open: Option<Whole> = None;
    let mut expected = 0;
    for item in items {
        let (key, value) = item?;
        let (key, value) = (key.as_ref(), value.as_ref());
        let Some((&piece, stem)) = key.split_last() else { continue };
        match &mut open {
            None if piece == 0 => {
                let (&pieces, start) = value.split_first().ok_or_else(|| Fault::Damaged("an empty message".into()))?;
                open = Some(Whole { key: key.to_vec(), pieces, stored: start.to_vec() });
            }
            Some(whole) if piece == expected && whole.key.starts_with(stem) => whole.stored.extend_from_slice(value),
            None => continue,
            Some(_) => return Err(Fault::Damaged("a piece of a message is missing".into())),
        }
        expected = piece.saturating_add(1);
        if open.as_ref().is_some_and(|whole| expected == whole.pieces)
            && let Some(whole) = open.take()
        {
            bytes += whole.stored.len();
            done.push_back(whole);
            if done.len() >= most || bytes >= most_bytes {
                break;
            }
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue() -> QueueName {
        QueueName::jobs(&"spring".parse().unwrap())
    }

    type Item = Result<(Vec<u8>, Vec<u8>), Fault>;

    fn cut(number: u64, stored: &[u8]) -> Vec<Item> {
        pieces(stored).map(|(piece, value)| Ok((key(&queue(), number, piece), value))).collect()
    }

    proptest! {
        #[test]
        fn pieces_come_together_again(lengths in proptest::collection::vec(0_usize..40_000, 1..6), byte: u8) {
            let stored: Vec<Vec<u8>> = lengths.iter().map(|length| vec![byte; *length]).collect();
            let items: Vec<_> = (0_u64..).zip(&stored).flat_map(|(number, stored)| cut(number, stored)).collect();
            for (_, value) in items.iter().flatten() {
                prop_assert!(value.len() <= PIECE_BYTES);
            }
            let whole = assemble(items.into_iter(), usize::MAX, usize::MAX).unwrap();
            prop_assert_eq!(whole.len(), stored.len());
            for (index, (whole, stored)) in (0_u64..).zip(whole.iter().zip(&stored)) {
                prop_assert_eq!(&whole.stored, stored);
                prop_assert_eq!(whole.pieces, piece_count(stored.len()));
                prop_assert_eq!(number(&whole.key), Some(index));
            }
        }

        #[test]
        fn messages_come_back_as_they_were(body: Vec<u8>, id in proptest::option::of("[a-z]{1,9}"), attempts: u32, release: u32) {
            let headers = Headers { message_id: id, attempts, release, ..Headers::default() };
            let stored = encode(&headers, &body).unwrap();
            prop_assert_eq!(decode(&stored), Some(Message { headers, body: body.into() }));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = (decode(&bytes), number(&bytes));
        }
    }

    #[test]
    fn a_missing_piece_is_noticed_and_a_lone_one_passed_over() {
        let mut items = cut(1, &[7; 20_000]);
        drop(items.remove(1));
        items.extend(cut(2, b"next"));
        assert!(assemble(items.into_iter(), 9, 9_999_999).is_err());
        let mut items = cut(1, &[7; 20_000]);
        drop(items.remove(0));
        items.extend(cut(2, b"next"));
        assert_eq!(assemble(items.into_iter(), 9, 9_999_999).unwrap().len(), 1);
    }

    #[test]
    fn stored_bytes_never_change() {
        let headers = Headers { message_id: Some("a".into()), ..Headers::default() };
        assert_eq!(
            encode(&headers, b"{}").unwrap(),
            [b"\x01\x2b", br#"{"message_id":"a","attempts":0,"release":0}"#.as_slice(), b"{}"].concat().as_slice()
        );
        assert_eq!(key(&QueueName::intake(), 258, 3), [b'j', b'i', 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
    }
}
