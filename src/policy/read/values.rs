//! Reads single values and notes what is wrong with them; `None` always means that a mistake was noted.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::mistakes::Found;
use crate::policy::when::CodePattern;
use crate::units::parse_duration;

/// Bytes a compiled regex may take; descriptions are short, so should their patterns be.
const MAX_REGEX_BYTES: usize = 64 * 1024;
const MAX_CODE: usize = 64;

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Collects mistakes while reading.
#[derive(Debug, Default)]
pub(super) struct Reader {
    found: Vec<Found>,
}

impl Reader {
    /// What was read, if nothing was wrong.
    pub(super) fn finish<T>(self, read: T) -> Result<T, Vec<Found>> {
        if self.found.is_empty() { Ok(read) } else { Err(self.found) }
    }

    pub(super) const fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn wrong(&mut self, at: usize, text: impl Display) {
        self.found.push(Found { at, text: text.to_string() });
    }

    pub(super) fn refuse<T>(&mut self, value: &Value<'_>, text: impl Display) -> Option<T> {
        self.wrong(value.span().start, text);
        None
    }

    pub(super) fn missing<T>(&mut self, value: &Value<'_>, what: &str, key: &str, example: &str) -> Option<T> {
        self.refuse(value, format!("{what} needs {key}; write {example}"))
    }

    fn expected<T>(&mut self, value: &Value<'_>, what: &str) -> Option<T> {
        let found = value.get_ref().type_str();
        self.refuse(value, format!("expected {what}, found {} {found}", article(found)))
    }

    /// Notes every key that does not belong here.
    pub(super) fn only(&mut self, table: &DeTable<'_>, what: &str, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                self.wrong(key.span().start, format!("unknown key {name:?}; {what} may have {}", known.join(", ")));
            }
        }
    }

    pub(super) fn table<'v, 'i>(&mut self, value: &'v Value<'i>, what: &str) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() { self.expected(value, what) } else { table }
    }

    /// The items of an array; none of them, and a mistake noted, when it is no array.
    pub(super) fn array<'v, 'i>(&mut self, value: &'v Value<'i>, what: &str) -> &'v [Value<'i>] {
        match value.get_ref().as_array() {
            Some(items) => items,
            None => self.expected(value, what).unwrap_or_default(),
        }
    }

    /// One value, or an array of at least one. An item that is wrong is noted and left out.
    pub(super) fn list<T>(&mut self, value: &Value<'_>, one: impl Fn(&mut Self, &Value<'_>) -> Option<T>) -> Vec<T> {
        match value.get_ref().as_array() {
            Some(items) if items.is_empty() => {
                self.wrong(value.span().start, "an empty list matches nothing; leave the key out to match all");
                Vec::new()
            }
            Some(items) => items.iter().filter_map(|item| one(self, item)).collect(),
            None => one(self, value).into_iter().collect(),
        }
    }

    pub(super) fn text<'v>(&mut self, value: &'v Value<'_>) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() { self.expected(value, "a string") } else { text }
    }

    /// One of an enum's names.
    pub(super) fn word<T: for<'de> Deserialize<'de>>(&mut self, value: &Value<'_>) -> Option<T> {
        let deserializer: StrDeserializer<'_, WordError> = self.text(value)?.into_deserializer();
        match T::deserialize(deserializer) {
            Ok(word) => Some(word),
            Err(error) => self.refuse(value, error.to_string().replace('`', "\"").replace("variant", "word")),
        }
    }

    pub(super) fn flag(&mut self, value: &Value<'_>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() { self.expected(value, "true or false") } else { flag }
    }

    pub(super) fn number(&mut self, value: &Value<'_>, least: u32, most: u32) -> Option<u32> {
        let Some(integer) = value.get_ref().as_integer() else {
            return self.expected(value, "a whole number");
        };
        match u32::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => self.refuse(value, format!("{integer} is not between {least} and {most}")),
        }
    }

    pub(super) fn factor(&mut self, value: &Value<'_>) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().unwrap_or(f64::NAN),
            DeValue::Integer(integer) => integer.as_str().parse().unwrap_or(f64::NAN),
            _ => return self.expected(value, "a number"),
        };
        if number > 0.0 && number < 1.0 {
            return Some(number);
        }
        self.refuse(value, format!("a factor is above 0 and below 1, {number} is not; 0.5 halves the rate"))
    }

    pub(super) fn duration(&mut self, value: &Value<'_>) -> Option<Duration> {
        let text = match value.get_ref() {
            DeValue::Integer(integer) => {
                return self
                    .refuse(value, format!("{integer} has no unit; write it as text with one, for example \"{integer}s\""));
            }
            _ => self.text(value)?,
        };
        match parse_duration(text) {
            Ok(length) if length.is_zero() => self.refuse(value, "a duration of zero; write one above it, for example \"1s\""),
            Ok(length) => Some(length),
            Err(error) => self.refuse(value, error),
        }
    }

    /// A number, or two joined by a dash.
    pub(super) fn range(&mut self, value: &Value<'_>, least: u32, most: u32, what: &str) -> Option<RangeInclusive<u32>> {
        let Some(text) = value.get_ref().as_str() else {
            return self.number(value, least, most).map(|number| number..=number);
        };
        let ends = text.split_once('-').and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
        match ends {
            Some((from, to)) if least <= from && from <= to && to <= most => Some(from..=to),
            _ => self.refuse(
                value,
                format!("{text:?} is no {what} range; write a number, or \"from-to\" within {least} to {most}, for example \"200-299\""),
            ),
        }
    }

    pub(super) fn code(&mut self, value: &Value<'_>) -> Option<CodePattern> {
        let text = self.text(value)?;
        let (stem, is_prefix) = text.strip_suffix('*').map_or((text, false), |stem| (stem, true));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if stem.is_empty() || stem.len() > MAX_CODE || !stem.bytes().all(allowed) {
            return self.refuse(
                value,
                format!("{text:?} is no gateway code; write for example \"BILL_001\", or \"WH_*\" for all of a kind"),
            );
        }
        Some(if is_prefix { CodePattern::Prefix(stem.into()) } else { CodePattern::Exact(stem.into()) })
    }

    pub(super) fn regex(&mut self, value: &Value<'_>) -> Option<Regex> {
        let text = self.text(value)?;
        match RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build() {
            Ok(regex) => Some(regex),
            Err(error) => {
                let last = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.refuse(value, format!("this is no usable regular expression: {last}"))
            }
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'i']) { "an" } else { "a" }
}
