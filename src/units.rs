//! Quantities as people write them: `"250ms"`, `"30s"`, `"80/s, 4800/min"`, `"64KiB"`. A bare number is refused: it hides its unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use jiff::{SignedDuration, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pacer::Limits;

/// The longest duration anyone may write.
pub const MAX_LENGTH: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Why a quantity was refused: what it must look like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

/// The beginning of what was written, in quotes: where a quote is not closed, what follows may be the lines below, secrets among them.
fn quoted(text: &str) -> String {
    format!("{:?}", text.lines().next().unwrap_or_default().chars().take(40).collect::<String>())
}

/// Reads a duration: `250ms`, `30s`, `5m`, `1h`, `1h 30m`, `7d`; a day has 24 hours.
///
/// # Errors
/// When it has no unit, is negative, or longer than [`MAX_LENGTH`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong =
        || UnitError(format!("{} is no duration; write a number and a unit, for example 250ms, 30s, 5m, 1h or 7d", quoted(text)));
    let span = SpanParser::new().parse_span(text.trim()).map_err(|_| wrong())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let length = Duration::try_from(signed).map_err(|_| wrong())?;
    if length > MAX_LENGTH {
        return Err(UnitError(format!("{} is too long; at most {} are allowed", quoted(text), show_duration(MAX_LENGTH))));
    }
    Ok(length)
}

/// Shows a duration so that [`parse_duration`] reads it back: `1h 30m`.
#[must_use]
pub fn show_duration(length: Duration) -> String {
    let signed = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    SpanPrinter::new().duration_to_string(&signed)
}

/// `#[serde(with = "crate::units::duration")]` for a [`Duration`] field.
pub mod duration {
    use super::*;

    /// Reads it from a string.
    ///
    /// # Errors
    /// As [`parse_duration`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map_err(serde::de::Error::custom)
    }

    /// Writes it as a string.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_duration(*length))
    }
}

/// A duration that is read from a string wherever serde meets it, also inside `Option` and `Spanned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Length(pub Duration);

impl FromStr for Length {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_duration(text).map(Self)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&show_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        duration::serialize(&self.0, serializer)
    }
}

/// A count within a window: `80/s`, `4800/min`, `5/10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// Within how long; above zero.
    pub window: Duration,
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong =
            || UnitError(format!("{} is no rate; write a count and a time, for example 80/s, 4800/min or 5/10m", quoted(text)));
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().ok().filter(|&n| n > 0).ok_or_else(wrong)?;
        let per = per.trim();
        let counted = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        let window = parse_duration(&counted).map_err(|_| wrong())?;
        if window.is_zero() { Err(wrong()) } else { Ok(Self { count, window }) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.window {
            SECOND => write!(f, "{}/s", self.count),
            MINUTE => write!(f, "{}/min", self.count),
            other => write!(f, "{}/{}", self.count, show_duration(other)),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

impl FromStr for Limits {
    type Err = UnitError;

    /// `80/s`, `4800/min`, `80/s, 4800/min`, or `unlimited`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut limits = Self { second: None, minute: None };
        if text.trim() == "unlimited" {
            return Ok(limits);
        }
        for part in text.split(',') {
            let rate: Rate = part.trim().parse()?;
            let window = match rate.window {
                SECOND => &mut limits.second,
                MINUTE => &mut limits.minute,
                _ => {
                    return Err(UnitError(format!(
                        "{}: the gateway counts per second (/s) and per minute (/min) only",
                        quoted(text)
                    )));
                }
            };
            if window.replace(rate.count).is_some() {
                return Err(UnitError(format!("{} names the same window twice", quoted(text))));
            }
        }
        Ok(limits)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.second, self.minute) {
            (None, None) => f.pad("unlimited"),
            (Some(second), None) => write!(f, "{second}/s"),
            (None, Some(minute)) => write!(f, "{minute}/min"),
            (Some(second), Some(minute)) => write!(f, "{second}/s, {minute}/min"),
        }
    }
}

/// Reads a size in bytes: `4096B`, `64KiB`, `1MiB`.
///
/// # Errors
/// When it has no unit or does not fit.
pub fn parse_size(text: &str) -> Result<usize, UnitError> {
    let wrong = || UnitError(format!("{} is no size; write a number and a unit, for example 4096B, 64KiB or 1MiB", quoted(text)));
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let factor: usize = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(wrong()),
    };
    number.parse::<usize>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1min", 60_000),
            ("1h", 3_600_000),
            ("1h 30m", 5_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "30", "-5s", "5 m ago", "1mo", "1y", "s", "1e9s", "400d", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_counts_within_a_window() {
        assert_eq!("80/s".parse(), Ok(Rate { count: 80, window: SECOND }));
        assert_eq!("4800 / min".parse(), Ok(Rate { count: 4800, window: MINUTE }));
        assert_eq!("5/10m".parse(), Ok(Rate { count: 5, window: Duration::from_secs(600) }));
        for bad in ["80", "0/s", "-1/s", "80/", "/s", "80/0s", "80/month", "5000000000/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_name_each_window_once() {
        assert_eq!("80/s, 4800/min".parse(), Ok(Limits { second: Some(80), minute: Some(4800) }));
        assert_eq!("4800/min".parse(), Ok(Limits { second: None, minute: Some(4800) }));
        assert_eq!("unlimited".parse(), Ok(Limits { second: None, minute: None }));
        for bad in ["80/s, 90/s", "80/h", "", "80/s,", "none"] {
            assert!(bad.parse::<Limits>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("10 B"), Ok(10));
        for bad in ["64", "KiB", "64KB", "-1B", "99999999999999999999MiB", "18446744073709551615MiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0u64..31_622_400_000, second in proptest::option::of(1u32..), minute in proptest::option::of(1u32..), count in 1u32.., secs in 1u64..86_400) {
            let length = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(length)), Ok(length));
            let limits = Limits { second, minute };
            prop_assert_eq!(limits.to_string().parse::<Limits>(), Ok(limits));
            let rate = Rate { count, window: Duration::from_secs(secs) };
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
        }

        #[test]
        fn never_panics(text in ".{0,20}") {
            let _ = (parse_duration(&text), text.parse::<Rate>(), text.parse::<Limits>(), parse_size(&text));
        }
    }
}
