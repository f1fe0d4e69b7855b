//! Reads typed values from two layers, the operator's file over the compiled-in one, and collects every mistake on the way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{ConfigError, Mistake, Place, Source};
use crate::units;

/// One parsed file.
pub(super) struct Layer<'a> {
    source: Source<'a>,
    table: DeTable<'a>,
    /// Where relative paths start.
    dir: Option<PathBuf>,
}

impl<'a> Layer<'a> {
    /// Parses TOML; whatever is no TOML goes into `mistakes`.
    pub(super) fn parse(file: &str, text: &'a str, dir: Option<&Path>, mistakes: &mut Vec<Mistake>) -> Self {
        let source = Source::new(file, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        // The parser's own rendering quotes the line, which may hold a secret; its message alone does not.
        mistakes.extend(errors.iter().map(|error| Mistake {
            place: source.place(&error.span().unwrap_or_default()),
            what: format!("not valid TOML: {}", error.message().lines().next().unwrap_or_default()),
            remedy: String::new(),
        }));
        Self { source, table: table.into_inner(), dir: dir.map(Path::to_owned) }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        self.source.place(span)
    }

    fn section(&self, name: &str) -> Option<&DeTable<'a>> {
        self.table.get(name)?.get_ref().as_table()
    }
}

/// Both layers and what is wrong with them.
pub(super) struct Reader<'a> {
    own: Layer<'a>,
    builtin: Layer<'a>,
    mistakes: RefCell<Vec<Mistake>>,
    sections: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(own: Layer<'a>, builtin: Layer<'a>, mistakes: Vec<Mistake>) -> Self {
        Self { own, builtin, mistakes: mistakes.into(), sections: RefCell::default() }
    }

    /// The section `[name]`.
    pub(super) fn section<'r>(&'r self, name: &str) -> Section<'r, 'a> {
        self.know(name, name);
        self.sub(name.to_owned(), self.own.section(name), self.builtin.section(name), 0..0)
    }

    /// Every `[group.NAME]` of the operator's file.
    pub(super) fn sections<'r>(&'r self, group: &'r str) -> impl Iterator<Item = (String, Place, Section<'r, 'a>)> {
        self.know(group, &format!("{group}.NAME"));
        self.own.section(group).into_iter().flatten().filter_map(move |(name, value)| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let remedy = format!("write [{group}.NAME] on a line of its own, and its keys below");
                self.complain(&name.span(), format_args!("`{group}.{}` is no section", name.get_ref()), remedy);
            }
            let path = format!("{group}.{}", name.get_ref());
            let section = self.sub(path, Some(table?), None, name.span());
            Some((name.get_ref().to_string(), self.own.place(&name.span()), section))
        })
    }

    /// Takes note of a section's name, and refuses a plain value in its place.
    fn know(&self, name: &str, heading: &str) {
        self.sections.borrow_mut().insert(name.to_owned());
        if let Some((key, value)) = self.own.table.get_key_value(name)
            && !value.get_ref().is_table()
        {
            let remedy = format!("write [{heading}] on a line of its own, and its keys below");
            self.complain(&key.span(), format_args!("`{name}` is a section"), remedy);
        }
    }

    fn sub<'r>(
        &'r self,
        path: String,
        own: Option<&'r DeTable<'a>>,
        builtin: Option<&'r DeTable<'a>>,
        span: Range<usize>,
    ) -> Section<'r, 'a> {
        Section { reader: self, path, own, builtin, span, known: BTreeSet::new() }
    }

    /// Takes a mistake at a place of the operator's file.
    pub(super) fn complain(&self, span: &Range<usize>, what: impl fmt::Display, remedy: impl Into<String>) {
        self.push(Mistake { place: self.own.place(span), what: what.to_string(), remedy: remedy.into() });
    }

    pub(super) fn push(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().push(mistake);
    }

    /// Refuses sections nobody asked for, and gives every mistake.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let known = self.sections.take();
        for (name, value) in &self.own.table {
            if !known.contains(name.get_ref().as_ref()) {
                let kind = if value.get_ref().is_table() { "section" } else { "key outside of a section" };
                let remedy = suggest(name.get_ref(), known.iter().map(String::as_str));
                self.complain(&name.span(), format_args!("unknown {kind} `{}`", name.get_ref()), remedy);
            }
        }
        ConfigError::unless_none(self.mistakes.into_inner())
    }
}

/// One section in both layers.
pub(super) struct Section<'r, 'a> {
    reader: &'r Reader<'a>,
    path: String,
    own: Option<&'r DeTable<'a>>,
    builtin: Option<&'r DeTable<'a>>,
    /// Of the section's name, to point at when a key is missing.
    span: Range<usize>,
    known: BTreeSet<&'static str>,
}

/// A value and where it stands.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) place: Place,
    /// It stands in the operator's file.
    pub(super) own: bool,
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found { value: change(self.value), place: self.place, own: self.own }
    }
}

impl<'a> Section<'_, 'a> {
    /// A value without a default. `read` says what it must be like.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<Found<T>> {
        self.known.insert(key);
        if let Some(value) = self.own.and_then(|table| table.get(key)) {
            match self.found(&self.reader.own, true, value, &read) {
                Ok(found) => return Some(found),
                Err(what) => self.complain(key, &value.span(), what, ""),
            }
        }
        let value = self.builtin?.get(key)?;
        self.found(&self.reader.builtin, false, value, &read).ok()
    }

    fn found<T>(
        &self,
        layer: &Layer<'a>,
        own: bool,
        value: &Spanned<DeValue<'a>>,
        read: impl Fn(&DeValue<'a>) -> Result<T, String>,
    ) -> Result<Found<T>, String> {
        Ok(Found { value: read(value.get_ref())?, place: layer.place(&value.span()), own })
    }

    /// A value that the compiled-in file always has.
    fn required<T: Default>(&mut self, key: &'static str, read: impl Fn(&DeValue<'a>) -> Result<T, String>) -> T {
        let found = self.optional(key, read);
        if found.is_none() {
            // Only a mistake in the compiled-in file gets here; a test keeps that out.
            self.complain(key, &self.span.clone(), "has no default".into(), "");
        }
        found.map(|found| found.value).unwrap_or_default()
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Found<String>> {
        self.optional(key, |value| string(value).map(str::to_owned))
    }

    pub(super) fn parsed<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<Found<T>> {
        self.optional(key, |value| read(string(value)?))
    }

    pub(super) fn required_parsed<T: Default>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> T {
        self.required(key, |value| read(string(value)?))
    }

    pub(super) fn path(&mut self, key: &'static str) -> Option<Found<PathBuf>> {
        let found = self.text(key)?;
        let dir = if found.own { self.reader.own.dir.as_deref() } else { None };
        let path = dir.map_or_else(|| PathBuf::from(&found.value), |dir| dir.join(&found.value));
        Some(Found { value: path, place: found.place, own: found.own })
    }

    pub(super) fn duration(&mut self, key: &'static str, allowed: RangeInclusive<Duration>) -> Duration {
        self.required(key, |value| {
            let text = value.as_str().ok_or("must be a duration in quotes, for example \"30s\"")?;
            let length = units::parse_duration(text).map_err(|error| error.to_string())?;
            let (least, most) = (units::show_duration(*allowed.start()), units::show_duration(*allowed.end()));
            if allowed.contains(&length) { Ok(length) } else { Err(format!("must be from {least} to {most}")) }
        })
    }

    pub(super) fn number(&mut self, key: &'static str, allowed: RangeInclusive<u32>) -> Option<Found<u32>> {
        self.optional(key, |value| {
            let wrong = || format!("must be a number from {} to {}", allowed.start(), allowed.end());
            let integer = value.as_integer().ok_or_else(wrong)?;
            let number = u32::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| wrong())?;
            if allowed.contains(&number) { Ok(number) } else { Err(wrong()) }
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<Found<bool>> {
        self.optional(key, |value| value.as_bool().ok_or_else(|| "must be true or false".into()))
    }

    pub(super) fn choice<T: Copy + Default>(&mut self, key: &'static str, choices: &[(&str, T)]) -> T {
        self.required_parsed(key, |text| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            let chosen = choices.iter().find(|(name, _)| *name == text);
            chosen.map(|(_, value)| *value).ok_or_else(|| format!("must be one of {}", names.join(", ")))
        })
    }

    pub(super) fn address(&mut self, key: &'static str) -> Option<Found<SocketAddr>> {
        self.parsed(key, |text| text.parse().map_err(|_| "must be an address and a port, for example 127.0.0.1:7878".into()))
    }

    /// Where `key` stands in the operator's file, else the section itself.
    pub(super) fn place(&self, key: &str) -> Place {
        let key = self.own.and_then(|table| table.get_key_value(key));
        self.reader.own.place(&key.map_or_else(|| self.span.clone(), |(key, _)| key.span()))
    }

    /// Refuses a key that some would expect here, with the remedy; `true` if it was there.
    pub(super) fn never(&mut self, key: &'static str, what: &str, remedy: &str) -> bool {
        let found = self.own.and_then(|table| table.get_key_value(key));
        if let Some((found, _)) = found {
            self.known.insert(key);
            self.complain(key, &found.span(), what.into(), remedy);
        }
        found.is_some()
    }

    pub(super) fn push(&self, place: Place, what: impl fmt::Display, remedy: &str) {
        self.reader.push(Mistake { place, what: format!("[{}] {what}", self.path), remedy: remedy.into() });
    }

    fn complain(&self, key: &str, span: &Range<usize>, what: String, remedy: &str) {
        self.reader.complain(span, format_args!("[{}] {key}: {what}", self.path), remedy);
    }

    /// Refuses keys nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.own.into_iter().flatten() {
            if !self.known.contains(key.get_ref().as_ref()) {
                let remedy = suggest(key.get_ref(), self.known.iter().copied());
                self.reader.complain(&key.span(), format_args!("[{}] unknown key `{}`", self.path, key.get_ref()), remedy);
            }
        }
    }
}

fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("must be a string in quotes, not {}", with_article(value.type_str())))
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The known word nearest to a wrong one, else all of them.
fn suggest<'k>(wrong: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let near = known.clone().map(|word| (distance(wrong, word), word)).min().filter(|(far, word)| *far <= word.len() / 3);
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut last = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (last + usize::from(x != *y)).min(*cell + 1).min(left + 1);
            last = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_is_levenshteins() {
        for (a, b, far) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("kitten", "sitting", 3), ("", "xy", 2), ("ab", "", 2)]
        {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }
}
