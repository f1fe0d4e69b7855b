//! A pause in force. Key `p` + `c` or `a` + name of the campaign or account; value: the [`Pause`] as JSON.

use crate::campaign::{Pause, PauseTarget};

pub(super) const PREFIX: &[u8] = b"p";

pub(super) fn key(target: &PauseTarget) -> Vec<u8> {
    let (kind, name) = match target {
        PauseTarget::Campaign(id) => (b"c", id.as_str()),
        PauseTarget::Account(account) => (b"a", account.as_str()),
    };
    [PREFIX, kind, name.as_bytes()].concat()
}

pub(super) fn target(key: &[u8]) -> Option<PauseTarget> {
    let (kind, name) = key.strip_prefix(PREFIX)?.split_first()?;
    let name = std::str::from_utf8(name).ok()?;
    match kind {
        b'c' => name.parse().ok().map(PauseTarget::Campaign),
        b'a' => name.parse().ok().map(PauseTarget::Account),
        _ => None,
    }
}

pub(super) fn encode(pause: &Pause) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(pause)
}

pub(super) fn decode(value: &[u8]) -> Result<Pause, serde_json::Error> {
    serde_json::from_slice(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was(name in "[a-z0-9][a-z0-9._-]{0,63}", account: bool, cause in ".*", until in proptest::option::of(0_i64..4_000_000_000)) {
            let target = if account { PauseTarget::Account(name.parse().unwrap()) } else { PauseTarget::Campaign(name.parse().unwrap()) };
            let since = jiff::Timestamp::UNIX_EPOCH;
            let until = until.map(|s| jiff::Timestamp::from_second(s).unwrap());
            let pause = Pause { cause, rule: None, since, until, by: "policy".into(), advice: String::new(), probe: account };
            prop_assert_eq!(super::target(&key(&target)), Some(target));
            prop_assert_eq!(decode(&encode(&pause).unwrap()).unwrap(), pause);
        }
    }

    #[test]
    fn stored_keys_never_change() {
        assert_eq!(key(&PauseTarget::Campaign("spring".parse().unwrap())), b"pcspring");
        assert_eq!(key(&PauseTarget::Account("main".parse().unwrap())), b"pamain");
        assert_eq!(target(b"pxmain"), None);
    }
}
