//! The message file: JSON is parsed first and each string rendered after, so no value can break out of its string.
//!
//! Compiled once into JSON text with gaps; rendering copies the text and fills each gap with the value, escaped as JSON. Values are never
//! looked into for placeholders.

use std::fmt;
use std::ops::Range;

use serde_json::value::RawValue;

use super::input::MessageFile;
use crate::job::{Message, MessageKind, byte_offset};

/// Stands in for every value when the message's shape is checked before any recipient is read: passes as text and as a link.
const SPECIMEN: &str = "https://example.com/";

/// What is wrong with a message file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {reason}")]
pub struct TemplateError {
    file: String,
    line: usize,
    column: usize,
    reason: String,
}

/// A checked message file.
#[derive(Debug, Clone)]
pub struct Template {
    file: String,
    source: String,
    pieces: Vec<Piece>,
    names: Vec<Name>,
    kind: MessageKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// JSON text as it stands.
    Json(String),
    /// The value of `names[i]`, inside a JSON string.
    Value(usize),
}

/// A placeholder's name, and where it stands first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    name: String,
    line: usize,
    column: usize,
}

impl Template {
    /// Compiles a message file and checks its shape.
    ///
    /// # Errors
    /// Bad JSON, a placeholder that is not closed or stands in a key, or no message object of the gateway: with line and column.
    pub fn parse(file: &MessageFile) -> Result<Self, TemplateError> {
        let text = file.text.trim_ascii_end();
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| from_json(&file.name, text, 0, &e))?;
        let mut compiler = Compiler { file: &file.name, text, pieces: Vec::new(), names: Vec::new() };
        compiler.compile()?;
        let mut template = Self {
            file: file.name.clone(),
            source: file.text.clone(),
            pieces: compiler.pieces,
            names: compiler.names,
            kind: MessageKind::Text,
        };
        let specimen = template.render_with(|_| Some(SPECIMEN)).unwrap_or_else(|_| raw.get().to_owned());
        let shape = serde_json::from_str::<&RawValue>(&specimen).and_then(Message::parse);
        template.kind = shape.map_err(|e| wrong_shape(&file.name, text, raw, &e))?.kind();
        Ok(template)
    }

    /// The file as the operator named it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The file's text, for the batch's name.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The message's type.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The placeholders' names, each once, in order of appearance.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| name.name.as_str())
    }

    /// The message as JSON text; `value(i)` gives the value of the i-th name.
    ///
    /// # Errors
    /// The index of the first name without a value.
    pub fn render_with<'v>(&self, value: impl Fn(usize) -> Option<&'v str>) -> Result<String, usize> {
        let mut json = String::with_capacity(self.pieces.len() * 64);
        for piece in &self.pieces {
            match piece {
                Piece::Json(text) => json.push_str(text),
                Piece::Value(index) => push_escaped(&mut json, value(*index).ok_or(*index)?),
            }
        }
        Ok(json)
    }

    /// That the i-th name stands for nothing in the recipients file, whose columns are given.
    pub(super) fn unknown(&self, index: usize, known: &[String]) -> TemplateError {
        let name = self.names.get(index);
        let shown: Vec<&str> = known.iter().take(40).map(String::as_str).collect();
        TemplateError {
            file: self.file.clone(),
            line: name.map_or(1, |n| n.line),
            column: name.map_or(1, |n| n.column),
            reason: format!(
                "the recipients file has no column `{}`; it has: {}",
                name.map_or("", |n| n.name.as_str()),
                shown.join(", ")
            ),
        }
    }
}

/// A mistake that serde found in what stands in `text` from the byte `base` on.
fn from_json(file: &str, text: &str, base: usize, error: &serde_json::Error) -> TemplateError {
    let from_base = text.get(base..).unwrap_or_default();
    let read = byte_offset(from_base, error.line(), error.column()).unwrap_or(0);
    // serde counts what it has read, the byte it does not like included
    let (line, column) = line_and_column(text, base + read.saturating_sub(1));
    TemplateError { file: file.to_owned(), line, column, reason: reason(error) }
}

/// What is wrong with the specimen, which was made from `raw`, shown where it stands in the file: most mistakes are in both. The
/// specimen has the lines of the file, but not its columns.
fn wrong_shape(file: &str, text: &str, raw: &RawValue, error: &serde_json::Error) -> TemplateError {
    let base = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let own = Message::parse(raw).err().filter(|own| reason(own) == reason(error));
    own.map_or_else(
        || {
            let line = text.get(..base).unwrap_or_default().matches('\n').count() + error.line().max(1);
            TemplateError { file: file.to_owned(), line, column: 1, reason: reason(error) }
        },
        |own| from_json(file, text, base, &own),
    )
}

fn reason(error: &serde_json::Error) -> String {
    let full = error.to_string();
    full.rfind(" at line ").and_then(|at| full.get(..at)).unwrap_or(&full).to_owned()
}

/// The inside of a JSON string.
fn push_escaped(json: &mut String, value: &str) {
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if value.bytes().all(plain) {
        json.push_str(value);
    } else {
        let quoted = serde_json::Value::from(value).to_string();
        json.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
    }
}

struct Compiler<'a> {
    file: &'a str,
    text: &'a str,
    pieces: Vec<Piece>,
    names: Vec<Name>,
}

impl Compiler<'_> {
    /// The text is valid JSON, so strings are all there is to find.
    fn compile(&mut self) -> Result<(), TemplateError> {
        let mut from = 0;
        while let Some(token) = next_string(self.text, from) {
            self.push_json(self.text.get(from..token.start).unwrap_or_default());
            from = token.end;
            let raw = self.text.get(token.clone()).unwrap_or_default();
            let content: String = serde_json::from_str(raw).map_err(|e| from_json(self.file, self.text, token.start, &e))?;
            if !content.contains("{{") {
                self.push_json(raw);
                continue;
            }
            if self.text.get(from..).is_some_and(|rest| rest.trim_ascii_start().starts_with(':')) {
                return Err(self.error(token.start, "placeholders stand in values, not in names".into()));
            }
            self.push_json("\"");
            self.string(&content, raw, token.start)?;
            self.push_json("\"");
        }
        self.push_json(self.text.get(from..).unwrap_or_default());
        Ok(())
    }

    fn string(&mut self, content: &str, raw: &str, start: usize) -> Result<(), TemplateError> {
        let places = raw.match_indices("{{").map(|(at, _)| at);
        let mut places = places.chain(std::iter::repeat(0));
        let mut rest = content;
        while let Some((before, after)) = rest.split_once("{{") {
            let at = start + places.next().unwrap_or(0);
            let Some((name, behind)) = after.split_once("}}") else {
                return Err(self.error(at, "this `{{` is not closed by `}}`".into()));
            };
            self.push_escaped(before);
            self.push_value(name.trim(), at)?;
            rest = behind;
        }
        self.push_escaped(rest);
        Ok(())
    }

    fn push_value(&mut self, name: &str, at: usize) -> Result<(), TemplateError> {
        if name.is_empty() || name.contains("{{") {
            return Err(self.error(at, "write a column's name between `{{` and `}}`".into()));
        }
        let index = self.names.iter().position(|known| known.name == name).unwrap_or_else(|| {
            let (line, column) = line_and_column(self.text, at);
            self.names.push(Name { name: name.to_owned(), line, column });
            self.names.len() - 1
        });
        self.pieces.push(Piece::Value(index));
        Ok(())
    }

    fn push_escaped(&mut self, text: &str) {
        let mut json = String::new();
        push_escaped(&mut json, text);
        self.push_json(&json);
    }

    fn push_json(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Json(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Json(text.to_owned())),
        }
    }

    fn error(&self, at: usize, reason: String) -> TemplateError {
        let (line, column) = line_and_column(self.text, at);
        TemplateError { file: self.file.to_owned(), line, column, reason }
    }
}

/// The next string token of valid JSON, quotes included.
fn next_string(text: &str, from: usize) -> Option<Range<usize>> {
    let start = from + text.get(from..)?.find('"')?;
    let mut escaped = false;
    for (offset, byte) in text.get(start + 1..)?.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return Some(start..start + offset + 2),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count());
    (before.matches('\n').count() + 1, column + 1)
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.file, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn template(text: &str) -> Result<Template, String> {
        let file = MessageFile { name: "message.json".into(), text: text.into() };
        Template::parse(&file).map_err(|e| e.to_string())
    }

    fn rendered(text: &str, values: &[&str]) -> Value {
        let json = template(text).unwrap().render_with(|i| values.get(i).copied()).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    const HELLO: &str = r#"{"type":"text","text":{"body":"Hi {{ name }}, {{city}} / {{name}}!"}}"#;

    #[test]
    fn fills_strings_and_leaves_the_rest_alone() {
        assert_eq!(template(HELLO).unwrap().names().collect::<Vec<_>>(), ["name", "city"]);
        let body = &rendered(HELLO, &["Ayşe", "İzmir"])["text"]["body"];
        assert_eq!(body, "Hi Ayşe, İzmir / Ayşe!");
        let plain = "{\"type\" : \"text\",\n\"text\":{\"body\":\"tab\\t quote\\\" \\u00e9\"}}";
        assert_eq!(template(plain).unwrap().render_with(|_| None).unwrap(), plain);
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_as_it_is() {
        assert_eq!(rendered(HELLO, &["{{city}}", "\"}"])["text"]["body"], "Hi {{city}}, \"} / {{city}}!");
    }

    #[test]
    fn mistakes_name_line_and_column() {
        for (text, says) in [
            ("{\n  \"type\": \"text\",\n", "message.json:2:17: EOF"),
            ("{\"type\":\"text\",\n \"text\":{\"body\":\"a {{ name\"}}", "message.json:2:20: this `{{` is not closed"),
            ("{\"type\":\"text\",\"text\":{\"body\":\"{{}}\"}}", "write a column's name"),
            ("{\"type\":\"text\",\"text\":{\"body\":\"x\", \"{{a}}\":1}}", "placeholders stand in values"),
            ("{\"type\":\"text\"}", "lacks the object"),
            ("[1]", "message must be a JSON object"),
            ("{\"type\":\"video\",\n\"video\":{}}", "message.json:1:"),
            (
                "\n {\"type\":\"text\",\"text\":{\"body\":\"{{a}}\",\n\"ş\":1},\"to\":\"{{b}}\"}",
                "message.json:2:2: message must not hold `to`",
            ),
            ("{\"type\":\"text\",\n\"x\":\"şşş\", \"text\":7}", "message.json:2:19: invalid type"),
        ] {
            let error = template(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let unknown = template(HELLO).unwrap().unknown(1, &["to".into(), "name".into()]).to_string();
        assert_eq!(unknown, "message.json:1:47: the recipients file has no column `city`; it has: to, name");
    }

    #[test]
    fn a_placeholder_may_be_a_link_or_be_written_with_escapes() {
        assert_eq!(
            rendered(r#"{"type":"image","image":{"link":"{{ url }}"}}"#, &["https://a.example/"])["image"]["link"],
            "https://a.example/"
        );
        assert_eq!(rendered("{\"type\":\"text\",\"text\":{\"body\":\"\\u007b{ n }}\"}}", &["x"])["text"]["body"], "x");
    }

    proptest! {
        #[test]
        fn no_value_can_break_out_of_its_string(name in any::<String>(), city in any::<String>()) {
            let body = format!("Hi {name}, {city} / {name}!");
            prop_assert_eq!(rendered(HELLO, &[&name, &city]), json!({"type": "text", "text": {"body": body}}));
        }

        #[test]
        fn rendering_equals_parsing_first_and_rendering_each_string_after(text in "[a-z\"\\\\\n{}éı ]{0,20}", value in any::<String>()) {
            let source = json!({"type": "text", "text": {"body": format!("x{text}")}, "other": [format!("{{{{ v }}}}{text}"), 1.50, null]});
            let Ok(template) = template(&source.to_string()) else { return Ok(()) };
            prop_assume!(template.names().all(|name| name == "v"));
            let json = template.render_with(|_| Some(&value)).unwrap();
            let fill = |s: &str| {
                let mut out = String::new();
                let mut rest = s;
                while let Some((before, after)) = rest.split_once("{{") {
                    out.push_str(before);
                    out.push_str(&value);
                    rest = after.split_once("}}").unwrap().1;
                }
                out + rest
            };
            let expected = json!({"type": "text", "text": {"body": fill(&format!("x{text}"))}, "other": [fill(&format!("{{{{ v }}}}{text}")), 1.50, null]});
            prop_assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
        }
    }
}
