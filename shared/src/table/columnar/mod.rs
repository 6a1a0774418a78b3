//! Tables in columns: Parquet and Arrow IPC files.
//!
//! Such a file says itself what its columns are, and where its rows are stands in its footer. Whoever runs a shard
//! opens the file (or is given the bytes of it that matter, at their places) and decodes only the columns and the
//! pages that the shard's rows lie in. What types come to in formulas and in text, stands in docs/TABLES.md.
//!
//! Files come from anywhere. Before anything is allocated for what a file declares, the declaration is held against
//! the limits here and the bytes that are there; what slips through and panics in a decoder is caught in one place
//! ([`guard`]) and becomes an error of the table.

mod cells;
mod file;
mod guard;
mod ipc_file;
mod packed;
mod pages;
mod parquet_file;
mod retype;
mod schema;
mod source;
mod thrift;

pub use file::{ColumnarFile, ColumnarReader, Decode};
pub use packed::{Packing, unpack};
pub use schema::{arrow_schema, check_formula_inputs, check_text_output, infer_columnar};
pub use source::Source;

pub(crate) use guard::name as format_name;
pub(crate) use schema::check_columnar;

/// Largest footer: thousands of row groups of hundreds of columns stay below it.
pub const FOOTER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Nodes of a file's schema, columns and all that is nested in them.
pub const SCHEMA_NODES_MAX: usize = 65_536;
/// Levels that columns may nest: decoders recurse, and a thread's stack is no place for a file to choose.
pub const SCHEMA_DEPTH_MAX: usize = 32;
/// Largest page, decompressed; writers make pages of about a megabyte, and 100 MiB at most.
pub const PAGE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Largest header of a page; it may hold the least and the greatest text of the page.
pub const PAGE_HEADER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that are decompressed for one block of rows, over all columns: a page each, and for long texts several.
pub const DECODED_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Largest record batch of Arrow IPC, and all dictionaries of a file: they are decoded as a whole.
pub const BATCH_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Values in one chunk of a nested column: one row may hold any number of them.
pub const NESTED_VALUES_MAX: i64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
