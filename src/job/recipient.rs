//! A phone number in E.164 form. At most 15 digits, so it is held exactly in a `u64`; it shows itself masked everywhere.

use std::fmt;
use std::str::FromStr;

/// Why text is no phone number. Says nothing of the number itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// Something other than digits and the usual separators.
    #[error("recipient has a character that is no digit; write the country code and digits, for example 905321234567")]
    NotDigits,
    /// ITU-T E.164 allows at most 15 digits; no country has numbers shorter than 7 with its code.
    #[error("recipient has {0} digits; a phone number with country code has 7 to 15")]
    Length(usize),
    /// No country code begins with 0.
    #[error("recipient starts with 0; start with the country code instead of a trunk or 00 prefix")]
    LeadingZero,
}

/// Who gets a message. `Display` and `Debug` mask the middle digits; [`Recipient::digits`] is for the gateway alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(u64);

impl Recipient {
    /// The number as an integer; exact, since no country code begins with 0.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The full number, digits only, as the gateway wants it. Never log this.
    #[must_use]
    pub fn digits(self) -> String {
        self.0.to_string()
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    /// Accepts a leading `+` and the separators people write (space, dash, dot, parentheses).
    fn from_str(text: &str) -> Result<Self, RecipientError> {
        let text = text.trim();
        let text = text.strip_prefix('+').unwrap_or(text);
        let (mut number, mut length) = (0_u64, 0_usize);
        for byte in text.bytes() {
            match byte {
                b'0' if length == 0 => return Err(RecipientError::LeadingZero),
                b'0'..=b'9' => {
                    length += 1;
                    number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                }
                b' ' | b'-' | b'.' | b'(' | b')' => {}
                _ => return Err(RecipientError::NotDigits),
            }
        }
        if (7..=15).contains(&length) { Ok(Self(number)) } else { Err(RecipientError::Length(length)) }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        let head = digits.get(..digits.len().min(4)).unwrap_or_default();
        let tail = digits.get(digits.len().saturating_sub(2)..).unwrap_or_default();
        f.pad(&format!("{head}…{tail}"))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normalises_what_people_write() {
        for text in ["905321234567", "+905321234567", " +90 532 123-45-67 ", "90(532)123.45.67"] {
            assert_eq!(text.parse::<Recipient>().unwrap().digits(), "905321234567", "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        assert_eq!("".parse::<Recipient>(), Err(RecipientError::Length(0)));
        assert_eq!("0532 123 45 67".parse::<Recipient>(), Err(RecipientError::LeadingZero));
        assert_eq!("90532123456x".parse::<Recipient>(), Err(RecipientError::NotDigits));
        assert_eq!("123456".parse::<Recipient>(), Err(RecipientError::Length(6)));
        assert_eq!("1234567890123456".parse::<Recipient>(), Err(RecipientError::Length(16)));
        assert_eq!("++905321234567".parse::<Recipient>(), Err(RecipientError::NotDigits));
    }

    proptest! {
        #[test]
        fn round_trips_and_never_shows_itself_whole(n in 1_000_000u64..=999_999_999_999_999) {
            let recipient: Recipient = n.to_string().parse().unwrap();
            prop_assert_eq!(recipient.digits(), n.to_string());
            let debug = format!("{recipient:?}");
            let display = format!("{recipient}");
            prop_assert!(!display.contains(&n.to_string()));
            prop_assert_eq!(debug, display);
        }
    }
}
