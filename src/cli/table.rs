//! What commands print on standard output: tables fitted to the terminal, JSON, plain text. A reader that has gone is no fault.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, TableStyle};
use serde::Serialize;

use super::{Exit, Failure};

/// A line under the header and nothing else, so that columns can be cut and copied.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table on its way to standard output.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// An empty table with these column titles.
    pub(crate) fn new<const N: usize>(titles: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic).set_header(titles);
        Self(table)
    }

    /// Aligns these columns (counted from 0) to the right, as numbers want it.
    pub(crate) fn right<const N: usize>(mut self, columns: [usize; N]) -> Self {
        for index in columns {
            if let Some(column) = self.0.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// Never breaks the first column's names, however narrow the terminal.
    pub(crate) fn whole_names(mut self) -> Self {
        if let Some(column) = self.0.column_mut(0) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        self
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells.map(|cell| harmless(&cell)));
    }

    /// The table as text, without a line end.
    pub(crate) fn text(&self) -> String {
        self.0.trim_fmt()
    }

    /// Prints it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        print(self.text())
    }
}

/// The text without control characters but line ends: words from outside must not steer the terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Prints one line or several, and a line end.
///
/// # Errors
/// When standard output cannot be written; not when its reader has gone (`| head`).
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    write_to(&mut std::io::stdout().lock(), text)
}

/// Prints a value as indented JSON.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Software, format_args!("cannot write this as JSON: {error}")))?;
    print(text)
}

fn write_to(out: &mut impl Write, text: impl Display) -> Result<(), Failure> {
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, format_args!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let mut table = Table::new(["campaign", "sent"]).right([1]);
        table.row(["spring".into(), "7".into()]);
        table.row(["a".into(), "1200".into()]);
        insta::assert_snapshot!(table.text(), @r"
         campaign   sent
        ─────────────────
         spring        7
         a          1200
        ");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_fault_and_a_full_disk_is() {
        assert!(write_to(&mut Broken(ErrorKind::BrokenPipe), "x").is_ok());
        assert_eq!(write_to(&mut Broken(ErrorKind::StorageFull), "x").unwrap_err().exit, Exit::Io);
    }

    #[test]
    fn words_from_outside_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc"), "a [2Jb\nc");
    }
}
