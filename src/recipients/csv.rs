//! CSV with a header. Separator by the header: comma, semicolon or tab, as spreadsheets of different countries write it.
//!
//! Fed to the reader line by line, so that a row's line is exact (also with CRLF and empty lines) and a row's length is bounded.

use std::io::{self, BufRead, BufReader, Read};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::input::{Blocks, InputError};
use super::rows::{MAX_ROW_BYTES, Next, Row, RowsError};
use super::template::Template;

/// Most columns; a file with more is not a recipients file.
const MAX_COLUMNS: usize = 1024;

/// The rows of a CSV file.
pub(super) struct CsvRows {
    name: String,
    records: Records,
    columns: Vec<String>,
    to: usize,
    /// For each name of the template, its column.
    wanted: Vec<usize>,
}

impl CsvRows {
    pub(super) fn new(name: &str, blocks: Blocks, template: &Template) -> Result<Self, RowsError> {
        let fail = |source| InputError::io(name, source);
        let mut records = Records::open(blocks).map_err(fail)?;
        if !matches!(records.next().map_err(fail)?, Found::Record) {
            return Err(
                InputError::Shape(format!("{name} is empty; its first line must name the columns, among them `to`")).into()
            );
        }
        let columns = header(name, &records)?;
        let Some(to) = columns.iter().position(|column| column == "to") else {
            let shown = columns.iter().take(40).map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(InputError::Shape(format!(
                "{name}:{}: the header names no column `to` (the recipient's number); it names: {shown}",
                records.line
            ))
            .into());
        };
        let place = |(index, wanted): (usize, &str)| {
            columns.iter().position(|column| column == wanted).ok_or_else(|| template.unknown(index, &columns))
        };
        let wanted = template.names().enumerate().map(place).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), records, to, wanted, columns })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn into_blocks(self) -> Blocks {
        self.records.input.into_inner()
    }

    pub(super) fn next(&mut self, row: &mut Row) -> Result<Next, InputError> {
        loop {
            let found = self.records.next().map_err(|source| self.fail(source))?;
            row.line = self.records.line;
            match found {
                Found::End => return Ok(Next::End),
                Found::Unclosed => {
                    return Ok(Next::Bad("row has a quote that is not closed; the rest of the file is inside it".into()));
                }
                // Spreadsheets leave rows of nothing but separators at the end.
                Found::Record if self.records.is_blank() => {}
                Found::Record => return Ok(self.take(row)),
            }
        }
    }

    fn take(&self, row: &mut Row) -> Next {
        if self.records.fields != self.columns.len() {
            let (has, header) = (self.records.fields, self.columns.len());
            return Next::Bad(format!("row has {has} fields, the header has {header}"));
        }
        let Some(to) = self.records.field(self.to) else { return not_utf8() };
        row.to.clear();
        row.to.push_str(to);
        row.values.resize_with(self.wanted.len(), Option::default);
        for (value, &column) in row.values.iter_mut().zip(&self.wanted) {
            let Some(text) = self.records.field(column) else { return not_utf8() };
            let value = value.get_or_insert_default();
            value.clear();
            value.push_str(text);
        }
        Next::Row
    }

    fn fail(&self, source: io::Error) -> InputError {
        if source.kind() == io::ErrorKind::InvalidData {
            return InputError::Shape(format!("{}:{}: {source}", self.name, self.records.line));
        }
        InputError::io(&self.name, source)
    }
}

fn not_utf8() -> Next {
    Next::Bad("row is not UTF-8; save the file as UTF-8 (in a spreadsheet: \"CSV UTF-8\")".into())
}

fn header(name: &str, records: &Records) -> Result<Vec<String>, InputError> {
    let mut columns: Vec<String> = Vec::with_capacity(records.fields);
    for index in 0..records.fields {
        let Some(column) = records.field(index).map(str::trim) else {
            return Err(InputError::Shape(format!("{name}:{}: the header is not UTF-8; save the file as UTF-8", records.line)));
        };
        if !column.is_empty() && columns.iter().any(|known| known == column) {
            return Err(InputError::Shape(format!("{name}:{}: the header names the column `{column}` twice", records.line)));
        }
        columns.push(column.to_owned());
    }
    Ok(columns)
}

/// What [`Records::next`] came to.
enum Found {
    Record,
    Unclosed,
    End,
}

/// Records one by one, their fields in one buffer.
struct Records {
    input: BufReader<Blocks>,
    reader: Reader,
    /// The current line, always with a line end, and how much of it has been used.
    text: Vec<u8>,
    used: usize,
    lines_read: u64,
    /// The line on which the current record began.
    line: u64,
    output: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
}

impl Records {
    fn open(blocks: Blocks) -> io::Result<Self> {
        let mut records = Self {
            input: BufReader::new(blocks),
            reader: Reader::new(),
            text: Vec::new(),
            used: 0,
            lines_read: 0,
            line: 1,
            output: vec![0; MAX_ROW_BYTES],
            ends: vec![0; MAX_COLUMNS],
            fields: 0,
        };
        records.read_line()?;
        if records.text.starts_with(b"\xef\xbb\xbf") {
            records.used = 3;
        }
        let head = records.text.get(records.used..).unwrap_or_default();
        records.reader = ReaderBuilder::new().delimiter(separator(head)).build();
        Ok(records)
    }

    fn next(&mut self) -> io::Result<Found> {
        let (mut written, mut ended) = (0, 0);
        loop {
            if self.used >= self.text.len() {
                self.read_line()?;
            }
            if written == 0 && ended == 0 {
                self.line = self.lines_read;
            }
            let input = self.text.get(self.used..).unwrap_or_default();
            let output = self.output.get_mut(written..).unwrap_or_default();
            let ends = self.ends.get_mut(ended..).unwrap_or_default();
            let (result, read, wrote, fields) = self.reader.read_record(input, output, ends);
            self.used += read;
            written += wrote;
            ended += fields;
            self.fields = ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                // Every line has its end, so only an open quote can be ended by the end of the file.
                ReadRecordResult::Record if self.text.is_empty() => return Ok(Found::Unclosed),
                ReadRecordResult::Record => return Ok(Found::Record),
                ReadRecordResult::End => return Ok(Found::End),
                ReadRecordResult::OutputFull => return Err(too_long()),
                ReadRecordResult::OutputEndsFull => return Err(refuse(format!("row has more than {MAX_COLUMNS} fields"))),
            }
        }
    }

    /// The next line with its end, made up if the file's last line has none; nothing at the end of the file.
    fn read_line(&mut self) -> io::Result<()> {
        self.text.clear();
        self.used = 0;
        self.input.by_ref().take(MAX_ROW_BYTES as u64 + 1).read_until(b'\n', &mut self.text)?;
        if self.text.len() > MAX_ROW_BYTES {
            self.line = self.lines_read + 1;
            return Err(too_long());
        }
        if self.text.last().is_some_and(|&last| last != b'\n') {
            self.text.push(b'\n');
        }
        self.lines_read += u64::from(!self.text.is_empty());
        Ok(())
    }

    fn field(&self, index: usize) -> Option<&str> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        let end = self.ends.get(index).copied()?;
        std::str::from_utf8(self.output.get(start..end)?).ok()
    }

    fn is_blank(&self) -> bool {
        self.fields.checked_sub(1).and_then(|last| self.ends.get(last)) == Some(&0)
    }
}

/// The separator under which the header has a column `to`.
fn separator(header: &[u8]) -> u8 {
    let has_to =
        |separator: &u8| header.split(|byte| byte == separator).any(|column| matches!(column.trim_ascii(), b"to" | b"\"to\""));
    *[b',', b';', b'\t'].iter().find(|separator| has_to(separator)).unwrap_or(&b',')
}

fn too_long() -> io::Error {
    refuse(format!("row is longer than {} KiB; is there a quote that is not closed?", MAX_ROW_BYTES / 1024))
}

fn refuse(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::input::{Format, MessageFile, Recipients};
    use super::*;

    fn template(names: &[&str]) -> Template {
        let body: String = names.iter().map(|name| format!("{{{{{name}}}}}")).collect();
        let text = serde_json::json!({"type": "text", "text": {"body": format!("x{body}")}}).to_string();
        Template::parse(&MessageFile { name: "m.json".into(), text }).unwrap()
    }

    /// Its line, and its fields or why it cannot be read.
    type Line = (u64, Result<Vec<String>, String>);

    fn read(content: &[u8], names: &[&str]) -> Result<Vec<Line>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let recipients = Recipients::open(file.path(), Some(Format::Csv)).unwrap();
        let mut rows = CsvRows::new("f.csv", recipients.first_pass().unwrap(), &template(names)).map_err(|e| e.to_string())?;
        let (mut row, mut found) = (Row::default(), Vec::new());
        loop {
            match rows.next(&mut row).map_err(|e| e.to_string())? {
                Next::End => return Ok(found),
                Next::Bad(reason) => found.push((row.line, Err(reason))),
                Next::Row => {
                    let values = row.values.iter().map(|value| value.clone().unwrap());
                    found.push((row.line, Ok(std::iter::once(row.to.clone()).chain(values).collect())));
                }
            }
        }
    }

    fn fine(line: u64, fields: &[&str]) -> Line {
        (line, Ok(fields.iter().map(|&f| f.to_owned()).collect()))
    }

    #[test]
    fn lines_are_exact_whatever_the_line_ends_blank_lines_and_quotes() {
        for end in ["\n", "\r\n"] {
            let text = format!("\u{feff}to,name{end}1,a{end}{end}{end}2,\"x{end}y\"{end},{end}3,\"c\"\"d\"{end}4,e");
            let multi = format!("x{end}y");
            let expected = vec![fine(2, &["1", "a"]), fine(5, &["2", &multi]), fine(8, &["3", "c\"d"]), fine(9, &["4", "e"])];
            assert_eq!(read(text.as_bytes(), &["name"]).unwrap(), expected);
        }
    }

    #[test]
    fn the_header_tells_the_separator_and_the_order() {
        for text in ["name;to\nA;1", "name\tto\nA\t1", "name, to \nA,1", "\"name\",\"to\"\nA,1"] {
            assert_eq!(read(text.as_bytes(), &["name"]).unwrap(), [fine(2, &["1", "A"])], "{text}");
        }
    }

    #[test]
    fn ragged_rows_bad_encodings_and_open_quotes_are_told_by_line() {
        let rows = read(b"to,name\n1\n2,b,c\n3,\xfe\n4,d\n5,\"e\n6,f\n", &["name"]).unwrap();
        let lines: Vec<_> = rows.iter().map(|(line, row)| (*line, row.as_ref().err().map_or("", |e| e.as_str()))).collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], (2, "row has 1 fields, the header has 2"));
        assert_eq!(lines[1], (3, "row has 3 fields, the header has 2"));
        assert!(lines[2].0 == 4 && lines[2].1.contains("UTF-8"));
        assert_eq!(lines[3], (5, ""));
        assert!(lines[4].0 == 6 && lines[4].1.contains("not closed"), "{lines:?}");
    }

    #[test]
    fn a_row_without_end_does_not_fill_the_memory() {
        let mut text = b"to,name\n1,\"".to_vec();
        text.extend(std::iter::repeat_n(b"abc\n".as_slice(), MAX_ROW_BYTES).flatten());
        let error = read(&text, &["name"]).unwrap_err();
        assert!(error.contains("f.csv:2:") && error.contains("256 KiB"), "{error}");
        let error = read(&[b"to\n".as_slice(), &vec![b'1'; 2 * MAX_ROW_BYTES]].concat(), &[]).unwrap_err();
        assert!(error.contains("f.csv:2:"), "{error}");
    }

    #[test]
    fn headers_that_cannot_be_used_say_why() {
        for (text, says) in [
            ("", "is empty"),
            ("phone,name\n1,a", "no column `to`"),
            ("to,name,name\n1,a,b", "`name` twice"),
            ("to,city\n1,a", "m.json:1:19: the recipients file has no column `name`; it has: to, city"),
        ] {
            let error = read(text.as_bytes(), &["name"]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back_whole(rows in proptest::collection::vec(("[^\r\n]{0,12}", "[a-z\",;\n ]{0,20}"), 1..20)) {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let mut text = String::from("to,v\r\n");
            let mut expected = Vec::new();
            let mut line = 2;
            for (index, (to, value)) in rows.iter().enumerate() {
                let to = format!("{index}{to}");
                text += &format!("{},{}\r\n", quote(&to), quote(value));
                expected.push(fine(line, &[&to, value]));
                line += 1 + value.matches('\n').count() as u64;
            }
            prop_assert_eq!(read(text.as_bytes(), &["v"]).unwrap(), expected);
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&[b"to,v\n".as_slice(), &text].concat(), &["v"]);
        }
    }
}
