//! Rows that are read: CSV, JSON-lines, and [`columnar`] files.
//!
//! The submitting side calls [`infer()`] on the file's head, which fixes the [`TableSchema`] of the job. Whoever holds
//! the whole file runs a [`RecordIndexer`] over it, which tells where blocks of rows begin; shards are byte ranges
//! between such places. The worker reads a shard's bytes with a [`TableReader`].
//!
//! What a record is, is what the `csv` crate says (quotes open a field only at its start, `\n`, `\r` and `\r\n` end a
//! record, blank lines are none), and for JSON-lines a line with anything but blanks. What a number is, stands in
//! [`cell`].

pub mod cell;
pub mod columnar;
mod csv_record;
mod error;
mod index;
mod infer;
mod json_record;
mod names;
mod read;
mod scan;
mod types;

pub use columnar::{arrow_schema, check_formula_inputs, check_text_output, infer_columnar};
pub use error::TableError;
pub use index::{RecordIndex, RecordIndexer};
pub use infer::{InferOptions, Inferred, infer, infer_bytes};
pub use names::is_identifier;
pub use read::TableReader;
pub(crate) use read::code;
pub use types::{apply_types, check_output_name, check_schema, column_of};

pub(crate) use csv_record::{CsvCursor, Field};
pub(crate) use error::shorten;
pub(crate) use json_record::{JsonCursor, KeySink, scan_object};

use crate::spec::{TableFormat, TableSchema};

/// Longest record: a longer one is a quote that was never closed, or not a table; and one must fit into memory.
pub const RECORD_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most bytes of one block's records, since a worker holds whole blocks in memory: 64 KiB a row on average.
pub const BLOCK_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Records that inference looks at.
pub const INFER_ROWS_MAX: u64 = 10_000;
/// Bytes that inference holds; above [`RECORD_BYTES_MAX`], so that it sees at least one whole record.
pub const INFER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Columns of a table: the schema travels in every job.
pub const COLUMNS_MAX: usize = 16_384;
/// Bytes of all columns' names together. An object made from a CSV row repeats them, however short the row is, so that
/// this bounds what a block of rows comes to: 512 MiB.
pub const HEADER_BYTES_MAX: usize = 128 * 1024;
/// Longest name that a formula may use for a column (a formula has 8 KiB in all).
pub const VARIABLE_BYTES_MAX: usize = 256;
/// Longest text that a formula may read from a cell: formulas bound what strings they build.
pub const STRING_CELL_BYTES_MAX: usize = 32 * 1024;
/// Notes that inference makes at most; a table of thousands of odd columns needs no thousands of lines.
pub const NOTES_MAX: usize = 50;

/// The UTF-8 byte order mark that some programs write at the start of a file.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// The names that a formula may use for the table's columns, in file order.
pub fn variables(schema: &TableSchema) -> impl Iterator<Item = &str> {
    schema.columns.iter().map(|column| column.variable.as_str())
}

/// Refuses a file that is no text.
pub(crate) fn not_columnar(format: TableFormat) -> Result<(), TableError> {
    if format.is_columnar() { Err(TableError::NotText { format: columnar::format_name(format) }) } else { Ok(()) }
}

/// Refuses separators that would be taken for something else.
pub(crate) fn check_delimiter(delimiter: u8) -> Result<(), TableError> {
    let fits = delimiter.is_ascii() && !matches!(delimiter, b'"' | b'\n' | b'\r' | 0);
    if fits { Ok(()) } else { Err(TableError::BadDelimiter { delimiter }) }
}
