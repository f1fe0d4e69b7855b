//! A recipient who gets nothing more from an account. Key `s` + account + 0 + number (u64, big endian); value: empty.

use crate::disk::key_between;
use crate::job::{AccountName, Recipient};

pub(super) const PREFIX: &[u8] = b"s";

pub(super) fn key(account: &AccountName, recipient: Recipient) -> Vec<u8> {
    key_between(b's', account.as_str(), recipient.number())
}

pub(super) fn parse(key: &[u8]) -> Option<(AccountName, Recipient)> {
    let (name, number) = key.strip_prefix(PREFIX)?.split_last_chunk::<8>()?;
    let account = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?.parse().ok()?;
    let recipient = u64::from_be_bytes(*number).to_string().parse().ok()?;
    Some((account, recipient))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was(name in "[a-z0-9][a-z0-9._-]{0,63}", number in 1_000_000_u64..=999_999_999_999_999) {
            let account: AccountName = name.parse().unwrap();
            let recipient: Recipient = number.to_string().parse().unwrap();
            prop_assert_eq!(parse(&key(&account, recipient)), Some((account, recipient)));
        }

        #[test]
        fn any_key_is_read_without_a_panic(key: Vec<u8>) {
            let _ = parse(&key);
        }
    }
}
