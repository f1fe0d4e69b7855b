//! NDJSON: one object per line, `to` and the variables. Numbers and truth values become text as they are written.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::input::{Blocks, InputError};
use super::rows::{MAX_ROW_BYTES, Next, Row};
use super::template::Template;

/// Names remembered from the first rows, to be shown when a placeholder fits none.
const MAX_COLUMNS_KEPT: usize = 64;

/// The rows of an NDJSON file.
pub(super) struct NdjsonRows {
    name: String,
    input: BufReader<Blocks>,
    names: Vec<String>,
    text: Vec<u8>,
    line: u64,
    columns: Vec<String>,
}

impl NdjsonRows {
    pub(super) fn new(name: &str, blocks: Blocks, template: &Template) -> Self {
        Self {
            name: name.to_owned(),
            input: BufReader::new(blocks),
            names: template.names().map(str::to_owned).collect(),
            text: Vec::new(),
            line: 0,
            columns: Vec::new(),
        }
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn into_blocks(self) -> Blocks {
        self.input.into_inner()
    }

    pub(super) fn next(&mut self, row: &mut Row) -> Result<Next, InputError> {
        loop {
            self.text.clear();
            let limit = MAX_ROW_BYTES as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.text);
            if read.map_err(|source| InputError::io(&self.name, source))? == 0 {
                return Ok(Next::End);
            }
            self.line += 1;
            row.line = self.line;
            if self.text.len() > MAX_ROW_BYTES {
                return Err(InputError::Shape(format!(
                    "{}:{}: line is longer than {} KiB",
                    self.name,
                    self.line,
                    MAX_ROW_BYTES / 1024
                )));
            }
            let text = if self.line == 1 { self.text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.text) } else { &self.text };
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let object = Object { names: &self.names, row, columns: &mut self.columns };
            return Ok(match object.read(text) {
                Ok(()) => Next::Row,
                Err(reason) => Next::Bad(reason),
            });
        }
    }
}

/// Fills a row from one object.
struct Object<'a> {
    names: &'a [String],
    row: &'a mut Row,
    columns: &'a mut Vec<String>,
}

impl Object<'_> {
    fn read(self, line: &[u8]) -> Result<(), String> {
        if !line.starts_with(b"{") {
            return Err("line is no JSON object".into());
        }
        self.row.to.clear();
        self.row.values.clear();
        self.row.values.resize(self.names.len(), None);
        let mut reader = serde_json::Deserializer::from_slice(line);
        let read = self.deserialize(&mut reader).and_then(|found_to| reader.end().map(|()| found_to));
        match read {
            Ok(true) => Ok(()),
            Ok(false) => Err("line has no `to`".into()),
            Err(error) => {
                let full = error.to_string();
                let reason = full.rfind(" at line ").and_then(|at| full.get(..at)).unwrap_or(&full);
                Err(if error.is_data() {
                    reason.to_owned()
                } else {
                    format!("line is no JSON: {reason} at column {}", error.column())
                })
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found_to = false;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.columns.len() < MAX_COLUMNS_KEPT && !self.columns.iter().any(|known| *known == key) {
                self.columns.push(key.clone().into_owned());
            }
            let place = self.names.iter().position(|name| *name == key).and_then(|index| self.row.values.get_mut(index));
            if key != "to" && place.is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let text = as_text(&key, map.next_value::<&'de RawValue>()?).map_err(A::Error::custom)?;
            if key == "to" {
                if found_to {
                    return Err(A::Error::custom("line names `to` twice"));
                }
                found_to = true;
                self.row.to = text.clone().unwrap_or_default();
            }
            if let Some(place) = place {
                if place.is_some() {
                    return Err(A::Error::custom(format_args!("line names `{key}` twice")));
                }
                *place = text;
            }
        }
        Ok(found_to)
    }
}

/// The value as text; none for `null`.
fn as_text(key: &str, raw: &RawValue) -> Result<Option<String>, String> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map(Some).map_err(|_| format!("`{key}` is no proper text")),
        Some(b'{' | b'[') => Err(format!("`{key}` is a list or an object; a value is text, a number, true or false")),
        Some(b'n') => Ok(None),
        _ => Ok(Some(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::{Format, MessageFile, Recipients};
    use super::*;

    /// Its line, and its recipient and name or why it cannot be read.
    type Line = (u64, Result<(String, Option<String>), String>);

    fn read(content: &str) -> Vec<Line> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let recipients = Recipients::open(file.path(), Some(Format::Ndjson)).unwrap();
        let text = r#"{"type":"text","text":{"body":"{{ name }}"}}"#.to_owned();
        let template = Template::parse(&MessageFile { name: "m.json".into(), text }).unwrap();
        let mut rows = NdjsonRows::new("f", recipients.first_pass().unwrap(), &template);
        let (mut row, mut found) = (Row::default(), Vec::new());
        loop {
            match rows.next(&mut row).unwrap() {
                Next::End => return found,
                Next::Bad(reason) => found.push((row.line, Err(reason))),
                Next::Row => found.push((row.line, Ok((row.to.clone(), row.values[0].clone())))),
            }
        }
    }

    #[test]
    fn values_become_text_as_they_are_written() {
        let rows = read(
            "\u{feff}{\"to\":\"1\",\"name\":\"A\\n\"}\r\n\n{\"name\":12.50,\"to\":905321234567,\"x\":[1]}\n{\"to\":\"2\",\"name\":true}\n{\"to\":\"3\",\"name\":null}\n{\"to\":\"4\"}",
        );
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(rows[0], (1, Ok(("1".into(), some("A\n")))));
        assert_eq!(rows[1], (3, Ok(("905321234567".into(), some("12.50")))));
        assert_eq!(rows[2], (4, Ok(("2".into(), some("true")))));
        assert_eq!(rows[3], (5, Ok(("3".into(), None))));
        assert_eq!(rows[4], (6, Ok(("4".into(), None))));
    }

    #[test]
    fn a_bad_line_is_told_and_the_next_one_read() {
        let rows = read(
            "{\"name\":1}\n[1]\n{\"to\":\"1\",}\n{\"to\":\"1\",\"name\":{}}\n{\"to\":\"1\",\"to\":\"2\"}\n{\"to\":\"1\"} x\n{\"to\":\"9\"}",
        );
        let says = [
            "no `to`",
            "no JSON object",
            "no JSON: trailing comma at column",
            "is a list or an object",
            "`to` twice",
            "no JSON: trailing",
        ];
        for (index, says) in says.iter().enumerate() {
            let (line, row) = &rows[index];
            assert_eq!(*line, index as u64 + 1);
            assert!(row.as_ref().unwrap_err().contains(says), "{row:?}");
        }
        assert_eq!(rows[6].1.as_ref().unwrap().0, "9");
    }
}
