//! The gateway's `description`: Meta's number out of it, and a form of it that may be shown and stored.

use crate::gateway::MAX_DESCRIPTION_CHARS;

/// A run of this many digits may be a phone number; the shortest with country code have 7.
pub(super) const PHONE_DIGITS: usize = 7;

/// Meta's number, from `(#131026) Message undeliverable`.
pub(crate) fn meta_code(description: &str) -> Option<u32> {
    description.split("(#").skip(1).find_map(|rest| {
        let (digits, _) = rest.split_once(')')?;
        let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        number.then(|| digits.parse().ok()).flatten()
    })
}

/// Masks what may be a phone number, drops control characters, and cuts to [`MAX_DESCRIPTION_CHARS`].
///
/// Masked are runs of 7 digits and more, and after a `+` also runs with the separators people write. Meta's own
/// `(#2494100)` stays.
pub(super) fn clean(description: &str) -> String {
    let mut out = String::with_capacity(description.len().min(MAX_DESCRIPTION_CHARS));
    let mut rest = description;
    while let Some(first) = rest.chars().next() {
        let run = number_at(rest);
        let (piece, after) = rest.split_at(if run == 0 { first.len_utf8() } else { run });
        let digits = piece.bytes().filter(u8::is_ascii_digit).count();
        let is_code = out.ends_with("(#") && after.starts_with(')') && digits < 10;
        if digits >= PHONE_DIGITS && !is_code {
            mask(piece, digits, &mut out);
        } else {
            out.extend(piece.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        rest = after;
    }
    match out.char_indices().nth(MAX_DESCRIPTION_CHARS - 1) {
        Some((cut, last)) if cut + last.len_utf8() < out.len() => {
            out.truncate(cut);
            out.push('…');
            out
        }
        _ => out,
    }
}

/// How many bytes of `text` are one number, from its start.
fn number_at(text: &str) -> usize {
    let spaced = text.starts_with('+');
    let is_part = |b: u8| b.is_ascii_digit() || (spaced && matches!(b, b'+' | b' ' | b'-' | b'.' | b'(' | b')'));
    let run = text.bytes().take_while(|&b| is_part(b)).collect::<Vec<_>>();
    run.iter().rposition(u8::is_ascii_digit).map_or(0, |last| last + 1)
}

/// The first digits (the country) and the last two; at least four are hidden.
fn mask(piece: &str, digits: usize, out: &mut String) {
    let head = digits.saturating_sub(6).min(4);
    let mut number = piece.chars().filter(char::is_ascii_digit);
    out.extend(number.by_ref().take(head));
    out.push('…');
    out.extend(number.skip(digits - head - 2));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_metas_number() {
        for (text, expected) in [
            ("(#131026) Message undeliverable", Some(131_026)),
            ("Meta said: (#100) Invalid parameter", Some(100)),
            ("(#2494100) Maintenance", Some(2_494_100)),
            ("(#) (#x) (#12x) (#131047) late", Some(131_047)),
            ("131026", None),
            ("(#99999999999999)", None),
            ("(#131026", None),
            ("(#+5)", None),
            ("", None),
        ] {
            assert_eq!(meta_code(text), expected, "{text}");
        }
    }

    #[test]
    fn hides_numbers_and_keeps_the_rest() {
        for (text, expected) in [
            ("(#131026) Message to 905321234567 undeliverable", "(#131026) Message to 9053…67 undeliverable"),
            ("(#2494100) wait", "(#2494100) wait"),
            ("(#905321234567) odd", "(#9053…67) odd"),
            ("call +90 (532) 123-45-67, please", "call 9053…67, please"),
            ("1234567", "1…67"),
            ("at most 4096 characters, 131026 seen", "at most 4096 characters, 131026 seen"),
            ("line\r\nbreak\u{1b}[31m", "line  break [31m"),
            ("çağrı 905321234567ş", "çağrı 9053…67ş"),
        ] {
            assert_eq!(clean(text), expected);
        }
    }

    #[test]
    fn stays_within_its_bound() {
        let long = clean(&"ä".repeat(2000));
        assert_eq!(long.chars().count(), MAX_DESCRIPTION_CHARS);
        assert!(long.ends_with('…'));
        assert_eq!(clean(&"x".repeat(MAX_DESCRIPTION_CHARS)), "x".repeat(MAX_DESCRIPTION_CHARS));
    }

    proptest! {
        #[test]
        fn never_shows_a_number_nor_grows(before in "\\PC{0,40}", number in 1_000_000u64..=999_999_999_999_999, after in "\\PC{0,40}") {
            let text = format!("{before}{number}{after}");
            let cleaned = clean(&text);
            let as_code = format!("(#{number})");
            prop_assert!(!cleaned.contains(&number.to_string()) || cleaned.contains(&as_code));
            prop_assert!(cleaned.chars().count() <= MAX_DESCRIPTION_CHARS);
        }

        #[test]
        fn any_text_will_do(text in any::<String>()) {
            let _ = (meta_code(&text), clean(&text));
        }
    }
}
