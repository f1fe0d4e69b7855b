//! One row of a recipients file after the other, whatever its format.

use super::csv::CsvRows;
use super::input::{Blocks, Format, InputError};
use super::ndjson::NdjsonRows;
use super::template::{Template, TemplateError};

/// Longest row, in bytes. A job body holds at most 64 KiB; far longer rows come from a quote that was never closed.
pub(super) const MAX_ROW_BYTES: usize = 256 * 1024;

/// A row, filled anew for each record. `values` stand in the order of the template's names.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Line on which it begins, from 1.
    pub(super) line: u64,
    /// The `to` column as written.
    pub(super) to: String,
    /// One value per placeholder; none where this row has none.
    pub(super) values: Vec<Option<String>>,
}

/// What the next row is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It stands in the [`Row`].
    Row,
    /// It cannot be read, for this reason; [`Row::line`] is its line.
    Bad(String),
    /// There are no more.
    End,
}

/// Why reading cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowsError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// The rows of a file.
pub(super) enum Rows {
    Csv(Box<CsvRows>),
    Ndjson(Box<NdjsonRows>),
}

impl Rows {
    pub(super) fn new(name: &str, format: Format, blocks: Blocks, template: &Template) -> Result<Self, RowsError> {
        Ok(match format {
            Format::Csv => Self::Csv(Box::new(CsvRows::new(name, blocks, template)?)),
            Format::Ndjson => Self::Ndjson(Box::new(NdjsonRows::new(name, blocks, template))),
        })
    }

    pub(super) fn next(&mut self, row: &mut Row) -> Result<Next, InputError> {
        match self {
            Self::Csv(rows) => rows.next(row),
            Self::Ndjson(rows) => rows.next(row),
        }
    }

    /// The columns: the header's, or the names met in the first rows.
    pub(super) fn columns(&self) -> &[String] {
        match self {
            Self::Csv(rows) => rows.columns(),
            Self::Ndjson(rows) => rows.columns(),
        }
    }

    /// The file again, read to its end.
    pub(super) fn into_blocks(self) -> Blocks {
        match self {
            Self::Csv(rows) => rows.into_blocks(),
            Self::Ndjson(rows) => rows.into_blocks(),
        }
    }
}
