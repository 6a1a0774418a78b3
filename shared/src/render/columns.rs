//! Rows of a columnar table with a computed column, as text.
//!
//! Numbers and text are written as everywhere. A `float` (32 bits) has the shortest form that reads back to the same
//! 32 bits; dates, times and moments are as ISO 8601 has them; a duration is the number of its units; a decimal has all
//! its digits; bytes are base64; what is nested is JSON.

use super::moments::{write_date, write_decimal, write_time, write_timestamp};
use super::{Cell, end_csv_line, write_csv_text, write_json_text};
use crate::block::{RowState, Values};
use crate::spec::{RowFormat, TableSchema};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use base64::prelude::BASE64_STANDARD;
use std::collections::HashSet;
use std::io::Write;

const MILLISECONDS_A_DAY: i64 = 86_400_000;

/// Writes a columnar table's rows and a computed column as text.
#[derive(Clone, Debug)]
pub struct ColumnsRenderer {
    format: RowFormat,
    /// For JSON: what stands before each value, the computed one last.
    keys: Vec<Vec<u8>>,
    /// A value's JSON, where it becomes a CSV field.
    scratch: Vec<u8>,
}

impl ColumnsRenderer {
    /// For a table of this schema, the computed column's name, and the form of the output.
    pub fn new(schema: &TableSchema, name: &str, format: RowFormat) -> Self {
        let mut seen = HashSet::new();
        // An object has a key once, so that a second column of a name goes by its variable.
        let names = schema.columns.iter().map(|column| {
            let is_own = !column.name.is_empty() && seen.insert(column.name.as_str());
            if is_own { column.name.as_str() } else { column.variable.as_str() }
        });
        let key = |(index, name): (usize, &str)| {
            let mut key = vec![if index == 0 { b'{' } else { b',' }];
            write_json_text(&mut key, name);
            key.push(b':');
            key
        };
        let keys = names.chain([name]).enumerate().map(key).collect();
        Self { format, keys, scratch: Vec::new() }
    }

    /// Appends the rows of a block whose columns, all of them unless the output is plain, are those of `batch`. Holes
    /// are left out.
    pub fn render(&mut self, batch: &RecordBatch, values: &Values, out: &mut Vec<u8>) {
        for (row, state) in values.states.iter().enumerate() {
            let value = match state {
                RowState::Hole => continue,
                RowState::Null => Cell::Null,
                RowState::Valid => Cell::at(&values.column, row),
            };
            match self.format {
                RowFormat::Csv => {
                    let start = out.len();
                    for array in batch.columns() {
                        write_csv_value(out, array, row, &mut self.scratch);
                        out.push(b',');
                    }
                    value.csv(out, b',');
                    end_csv_line(out, start);
                }
                RowFormat::Ndjson => {
                    let mut keys = self.keys.iter();
                    for (array, key) in batch.columns().iter().zip(&mut keys) {
                        out.extend_from_slice(key);
                        write_json_value(out, array, row);
                    }
                    out.extend_from_slice(keys.next().map_or(b"{", Vec::as_slice));
                    value.json(out);
                    out.extend_from_slice(b"}\n");
                }
                // Written by `ColumnarWriter`.
                RowFormat::Parquet | RowFormat::Arrow => {}
                RowFormat::Plain => {
                    value.plain(out);
                    out.push(b'\n');
                }
            }
        }
    }
}

fn is_null(array: &dyn Array, row: usize) -> bool {
    array.is_null(row) || *array.data_type() == DataType::Null
}

/// Writes a value as a CSV field; a null is an empty one.
fn write_csv_value(out: &mut Vec<u8>, array: &dyn Array, row: usize, scratch: &mut Vec<u8>) {
    if is_null(array, row) {
        return;
    }
    match array.data_type() {
        DataType::Utf8 => write_csv_text(out, array.as_string::<i32>().value(row).as_bytes(), b','),
        DataType::LargeUtf8 => write_csv_text(out, array.as_string::<i64>().value(row).as_bytes(), b','),
        DataType::Utf8View => write_csv_text(out, array.as_string_view().value(row).as_bytes(), b','),
        ty if ty.is_nested() => {
            scratch.clear();
            write_json_value(scratch, array, row);
            write_csv_text(out, scratch, b',');
        }
        ty if is_float(ty) => float(array, row).csv(out, b','),
        _ if write_bare(out, array, row) => {}
        _ => {
            let start = out.len();
            write_moment(out, array, row);
            // Bytes of length 0 are no null.
            if out.len() == start {
                out.extend_from_slice(b"\"\"");
            }
        }
    }
}

/// Writes a value as JSON.
fn write_json_value(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    if is_null(array, row) {
        return out.extend_from_slice(b"null");
    }
    match array.data_type() {
        DataType::Utf8 => write_json_text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => write_json_text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => write_json_text(out, array.as_string_view().value(row)),
        DataType::Struct(fields) => {
            let values = array.as_struct().columns();
            for (index, (field, value)) in fields.iter().zip(values).enumerate() {
                out.push(if index == 0 { b'{' } else { b',' });
                write_json_text(out, field.name());
                out.push(b':');
                write_json_value(out, value, row);
            }
            out.extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
        }
        DataType::List(_) => write_list(out, &*array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => write_list(out, &*array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => write_list(out, &*array.as_fixed_size_list().value(row)),
        DataType::Map(..) => write_list(out, &array.as_map().value(row)),
        ty if is_float(ty) => float(array, row).json(out),
        _ if write_bare(out, array, row) => {}
        _ => {
            out.push(b'"');
            write_moment(out, array, row);
            out.push(b'"');
        }
    }
}

fn write_list(out: &mut Vec<u8>, values: &dyn Array) {
    out.push(b'[');
    for row in 0..values.len() {
        if row > 0 {
            out.push(b',');
        }
        write_json_value(out, values, row);
    }
    out.push(b']');
}

fn is_float(ty: &DataType) -> bool {
    matches!(ty, DataType::Float64 | DataType::Float32 | DataType::Float16)
}

/// A float's shortest form in its own width, as one of 64 bits.
fn float(array: &dyn Array, row: usize) -> Cell<'static> {
    let narrow = |value: f32| {
        if value.is_finite() {
            // The digits of the narrow form: they are fewer, and as a wide float have the same shortest form.
            Cell::Float(zmij::Buffer::new().format(value).parse().unwrap_or_else(|_| f64::from(value)))
        } else {
            Cell::Float(f64::from(value))
        }
    };
    match array.data_type() {
        DataType::Float16 => narrow(f32::from(native::<Float16Type>(array, row))),
        DataType::Float32 => narrow(native::<Float32Type>(array, row)),
        _ => Cell::Float(native::<Float64Type>(array, row)),
    }
}

fn native<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

/// Writes what needs no quotes in any form; false where the value is of another type.
fn write_bare(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> bool {
    macro_rules! int {
        ($ty:ty) => {
            out.extend_from_slice(itoa::Buffer::new().format(native::<$ty>(array, row)).as_bytes())
        };
    }
    macro_rules! decimal {
        ($ty:ty, $scale:expr) => {
            write_decimal(out, &native::<$ty>(array, row).to_string(), *$scale)
        };
    }
    match array.data_type() {
        DataType::Boolean => Cell::Boolean(array.as_boolean().value(row)).json(out),
        DataType::Int8 => int!(Int8Type),
        DataType::Int16 => int!(Int16Type),
        DataType::Int32 => int!(Int32Type),
        DataType::Int64 => int!(Int64Type),
        DataType::UInt8 => int!(UInt8Type),
        DataType::UInt16 => int!(UInt16Type),
        DataType::UInt32 => int!(UInt32Type),
        DataType::UInt64 => int!(UInt64Type),
        DataType::Duration(TimeUnit::Second) => int!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => int!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => int!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => int!(DurationNanosecondType),
        DataType::Decimal32(_, scale) => decimal!(Decimal32Type, scale),
        DataType::Decimal64(_, scale) => decimal!(Decimal64Type, scale),
        DataType::Decimal128(_, scale) => decimal!(Decimal128Type, scale),
        DataType::Decimal256(_, scale) => decimal!(Decimal256Type, scale),
        _ => return false,
    }
    true
}

/// Writes dates, times, moments and bytes, none of which needs escapes.
fn write_moment(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    match array.data_type() {
        DataType::Date32 => write_date(out, i64::from(native::<Date32Type>(array, row))),
        DataType::Date64 => {
            let units = native::<Date64Type>(array, row);
            match units.rem_euclid(MILLISECONDS_A_DAY) {
                0 => write_date(out, units.div_euclid(MILLISECONDS_A_DAY)),
                _ => write_timestamp(out, units, 1_000, false),
            }
        }
        DataType::Time32(TimeUnit::Second) => write_time(out, i64::from(native::<Time32SecondType>(array, row)), 1),
        DataType::Time32(_) => write_time(out, i64::from(native::<Time32MillisecondType>(array, row)), 1_000),
        DataType::Time64(TimeUnit::Microsecond) => {
            write_time(out, native::<Time64MicrosecondType>(array, row), 1_000_000);
        }
        DataType::Time64(_) => write_time(out, native::<Time64NanosecondType>(array, row), 1_000_000_000),
        DataType::Timestamp(unit, zone) => {
            let (units, per_second) = match unit {
                TimeUnit::Second => (native::<TimestampSecondType>(array, row), 1),
                TimeUnit::Millisecond => (native::<TimestampMillisecondType>(array, row), 1_000),
                TimeUnit::Microsecond => (native::<TimestampMicrosecondType>(array, row), 1_000_000),
                TimeUnit::Nanosecond => (native::<TimestampNanosecondType>(array, row), 1_000_000_000),
            };
            write_timestamp(out, units, per_second, zone.is_some());
        }
        DataType::Binary => write_bytes(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => write_bytes(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => write_bytes(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => write_bytes(out, array.as_fixed_size_binary().value(row)),
        // Admission has refused the rest by name.
        _ => {}
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let _ = write!(out, "{}", base64::display::Base64Display::new(bytes, &BASE64_STANDARD));
}
