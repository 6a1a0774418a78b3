//! Values as text: JSON, CSV and what a person reads.
//!
//! Rows are rendered where they are computed, so that a client only puts shards one after the other: [`RowRenderer`]
//! for generated rows, [`MapRenderer`] for a table's. Results of `eval` travel as JSON lines ([`write_eval_line`]),
//! and every other form of them is made from such a line, so that it is the same wherever the formula ran.
//!
//! Floats are written so that they read back to the same bits (`1.0`, `1e300`), but for the plain form, which shows
//! `8` for `8.0`. NaN and infinities are `NaN`, `inf` and `-inf`; JSON has them as strings.

mod batch;
mod columnar;
mod columns;
mod eval;
mod ipc;
mod map;
mod moments;
mod parquet;
mod rows;

pub use batch::{OutputColumns, ResultColumn};
pub use columnar::{ColumnarWriter, columnar_header, unit_rows};
pub use columns::ColumnsRenderer;
pub use eval::{
    EVAL_CSV_HEADER, EvalFailure, EvalOutcome, EvalResult, ValueType, csv_of, plain_of, table_of, write_eval_line,
    write_eval_object, write_typed_value,
};
pub use ipc::IpcJoiner;
pub use map::MapRenderer;
pub use parquet::ParquetJoiner;
pub use rows::RowRenderer;

use crate::block::Column;
use crate::spec::Scalar;
use std::io::Write;

/// The plain form writes floats of this size and more with an exponent: beyond, not every whole number is a float.
const PLAIN_EXPONENT_FROM: f64 = 1e16;
/// The plain form writes floats below this size with an exponent.
const PLAIN_EXPONENT_BELOW: f64 = 1e-5;

/// The value's type, as evalexpr's `typeof` says it.
pub fn type_name(value: &Scalar) -> &'static str {
    match value {
        Scalar::Int(_) => "int",
        Scalar::Float(_) => "float",
        Scalar::Boolean(_) => "boolean",
        Scalar::String(_) => "string",
        Scalar::Tuple(_) => "tuple",
        Scalar::Empty => "empty",
    }
}

/// A value that may stand in a column; spares a copy of its text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Int(i64),
    Float(f64),
    Boolean(bool),
    Text(&'a str),
    Tuple(&'a [Scalar]),
    Null,
}

impl<'a> From<&'a Scalar> for Cell<'a> {
    fn from(value: &'a Scalar) -> Self {
        match value {
            Scalar::Int(value) => Self::Int(*value),
            Scalar::Float(value) => Self::Float(*value),
            Scalar::Boolean(value) => Self::Boolean(*value),
            Scalar::String(text) => Self::Text(text),
            Scalar::Tuple(values) => Self::Tuple(values),
            Scalar::Empty => Self::Null,
        }
    }
}

impl<'a> Cell<'a> {
    /// The value of a column at a row; null where it has none.
    fn at(column: &'a Column, row: usize) -> Self {
        match column {
            Column::Int(values) => values.get(row).map(|value| Self::Int(*value)),
            Column::Float(values) => values.get(row).map(|value| Self::Float(*value)),
            Column::Boolean(values) => values.get(row).map(|value| Self::Boolean(*value)),
            Column::String(values) => values.get(row).map(|text| Self::Text(text)),
            Column::Mixed(values) => values.get(row).map(Self::from),
        }
        .unwrap_or(Self::Null)
    }

    fn json(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(value) => write_int(out, value),
            Self::Float(value) if value.is_finite() => write_float(out, value),
            Self::Float(value) => {
                out.push(b'"');
                write_float(out, value);
                out.push(b'"');
            }
            Self::Boolean(value) => write_boolean(out, value),
            Self::Text(text) => write_json_text(out, text),
            Self::Tuple(values) => {
                out.push(b'[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    Self::from(value).json(out);
                }
                out.push(b']');
            }
            Self::Null => out.extend_from_slice(b"null"),
        }
    }

    fn plain(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(value) => write_int(out, value),
            Self::Float(value) => write_plain_float(out, value),
            Self::Boolean(value) => write_boolean(out, value),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Tuple(values) => {
                out.push(b'(');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.extend_from_slice(b", ");
                    }
                    match value {
                        Scalar::String(text) => write_literal(out, text),
                        Scalar::Empty => out.extend_from_slice(b"()"),
                        value => Self::from(value).plain(out),
                    }
                }
                out.push(b')');
            }
            Self::Null => {}
        }
    }

    fn csv(self, out: &mut Vec<u8>, delimiter: u8) {
        match self {
            Self::Int(value) => write_int(out, value),
            Self::Float(value) => write_float(out, value),
            Self::Boolean(value) => write_boolean(out, value),
            Self::Text(text) => write_csv_text(out, text.as_bytes(), delimiter),
            Self::Tuple(_) => {
                let mut plain = Vec::new();
                self.plain(&mut plain);
                write_quoted(out, &plain);
            }
            Self::Null => {}
        }
    }
}

/// Writes a value as JSON: ints exact, floats in their shortest form that reads back (`1.0`), `"NaN"`, `"inf"` and
/// `"-inf"` as strings, tuples as arrays, empty as null.
pub fn write_json(out: &mut Vec<u8>, value: &Scalar) {
    Cell::from(value).json(out);
}

/// Writes a value for a person: text as it is, `8` for `8.0`, `1e300`, `(1, 2.5, "a")`, nothing for empty.
pub fn write_plain(out: &mut Vec<u8>, value: &Scalar) {
    Cell::from(value).plain(out);
}

/// Writes a value as a field of a CSV record: text in quotes where it needs them (`""` where it is empty, as an empty
/// field is null), tuples in their plain form within quotes.
pub fn write_csv_field(out: &mut Vec<u8>, value: &Scalar, delimiter: u8) {
    Cell::from(value).csv(out, delimiter);
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Shortest form that reads back to the same bits; `NaN`, `inf`, `-inf`.
fn write_float(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value).as_bytes();
    match text {
        // From 1e16 on it has an exponent, with a plus sign that we don't write.
        _ if value.abs() >= 1e16 => out.extend(text.iter().filter(|byte| **byte != b'+')),
        text => out.extend_from_slice(text),
    }
}

fn write_plain_float(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    // Writing into a Vec does not fail.
    let _ = if size == 0.0 || !value.is_finite() || (PLAIN_EXPONENT_BELOW..PLAIN_EXPONENT_FROM).contains(&size) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
}

fn write_boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Text as a JSON string.
fn write_json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            continue;
        }
        out.extend_from_slice(&bytes[written..index]);
        written = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// Text as a formula's string literal.
fn write_literal(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Text as a CSV field.
fn write_csv_text(out: &mut Vec<u8>, text: &[u8], delimiter: u8) {
    let needs_quotes =
        text.is_empty() || text.iter().any(|byte| *byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r'));
    if needs_quotes { write_quoted(out, text) } else { out.extend_from_slice(text) }
}

fn write_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for (index, part) in text.split(|byte| *byte == b'"').enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

/// Ends a CSV line that began at `start`; a line of one null would otherwise be blank, and no record.
fn end_csv_line(out: &mut Vec<u8>, start: usize) {
    if out.len() == start {
        out.extend_from_slice(b"\"\"");
    }
    out.push(b'\n');
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
