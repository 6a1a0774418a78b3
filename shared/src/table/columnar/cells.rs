//! Columns of a file as columns of a block.

use crate::block::{Column, RowError};
use crate::spec::{ColumnType, TableColumn};
use crate::table::{STRING_CELL_BYTES_MAX, code};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, OffsetSizeTrait};
use arrow_schema::{DataType, TimeUnit};

/// Strings of one block keep their allocation for the next one up to here.
const STRING_KEPT_BYTES: usize = 256;
/// Largest power of ten that is a float without loss.
const EXACT_SCALE_MAX: i8 = 22;
/// Whole numbers below this size are floats without loss.
const EXACT_INT_BOUND: u64 = 1 << 53;

/// What is wrong with cells, by their index in the block.
pub(super) type Faults = Vec<(usize, RowError)>;

/// Fills a column of a block. A null has an arbitrary value, and a cell that does not fit is a fault of its row.
pub(super) fn fill(
    array: &dyn Array,
    column: &TableColumn,
    first_row: u64,
    values: &mut Column,
    nulls: &mut Option<Vec<bool>>,
    faults: &mut Faults,
) {
    *nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| {
        let mut flags = Vec::with_capacity(nulls.len());
        flags.extend(nulls.iter().map(|valid| !valid));
        flags
    });
    let cells = Cells { array, column, first_row, nulls: nulls.as_deref() };
    become_type(values, column.ty);
    match values {
        Column::Int(values) => cells.ints(values, faults),
        Column::Float(values) => cells.floats(values),
        Column::Boolean(values) => {
            values.clear();
            values.extend(array.as_boolean_opt().into_iter().flat_map(|array| array.values().iter()));
            values.resize(array.len(), false);
        }
        Column::String(values) => cells.strings(values, faults),
        Column::Mixed(values) => values.clear(),
    }
}

/// Makes the column one of this type; what it holds is overwritten.
fn become_type(column: &mut Column, ty: ColumnType) {
    match (&column, ty) {
        (Column::Int(_), ColumnType::Int)
        | (Column::Float(_), ColumnType::Float)
        | (Column::Boolean(_), ColumnType::Boolean)
        | (Column::String(_), ColumnType::String) => {}
        (_, ColumnType::Int) => *column = Column::Int(Vec::new()),
        (_, ColumnType::Float) => *column = Column::Float(Vec::new()),
        (_, ColumnType::Boolean) => *column = Column::Boolean(Vec::new()),
        (_, ColumnType::String) => *column = Column::String(Vec::new()),
    }
}

struct Cells<'a> {
    array: &'a dyn Array,
    column: &'a TableColumn,
    first_row: u64,
    nulls: Option<&'a [bool]>,
}

/// Calls `$visit::<Type>($args)` with the type whose native values are the column's integers.
macro_rules! with_integers {
    ($ty:expr, $visit:ident, $otherwise:expr) => {
        match $ty {
            DataType::Int8 => $visit!(Int8Type),
            DataType::Int16 => $visit!(Int16Type),
            DataType::Int32 => $visit!(Int32Type),
            DataType::Int64 => $visit!(Int64Type),
            DataType::UInt8 => $visit!(UInt8Type),
            DataType::UInt16 => $visit!(UInt16Type),
            DataType::UInt32 => $visit!(UInt32Type),
            DataType::Date32 => $visit!(Date32Type),
            DataType::Date64 => $visit!(Date64Type),
            DataType::Time32(TimeUnit::Second) => $visit!(Time32SecondType),
            DataType::Time32(_) => $visit!(Time32MillisecondType),
            DataType::Time64(TimeUnit::Microsecond) => $visit!(Time64MicrosecondType),
            DataType::Time64(_) => $visit!(Time64NanosecondType),
            DataType::Timestamp(TimeUnit::Second, _) => $visit!(TimestampSecondType),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $visit!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $visit!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $visit!(TimestampNanosecondType),
            DataType::Duration(TimeUnit::Second) => $visit!(DurationSecondType),
            DataType::Duration(TimeUnit::Millisecond) => $visit!(DurationMillisecondType),
            DataType::Duration(TimeUnit::Microsecond) => $visit!(DurationMicrosecondType),
            DataType::Duration(TimeUnit::Nanosecond) => $visit!(DurationNanosecondType),
            _ => $otherwise,
        }
    };
}

impl Cells<'_> {
    fn primitive<T: ArrowPrimitiveType>(&self) -> &[T::Native] {
        self.array.as_primitive_opt::<T>().map_or(&[], |array| array.values())
    }

    fn ints(&self, values: &mut Vec<i64>, faults: &mut Faults) {
        values.clear();
        macro_rules! copy {
            ($ty:ty) => {
                values.extend(self.primitive::<$ty>().iter().map(|value| i64::from(*value)))
            };
        }
        with_integers!(self.array.data_type(), copy, self.unsigned(values, faults));
        values.resize(self.array.len(), 0);
    }

    fn unsigned(&self, values: &mut Vec<i64>, faults: &mut Faults) {
        for (row, value) in self.primitive::<UInt64Type>().iter().enumerate() {
            values.push(value.cast_signed());
            if i64::try_from(*value).is_err() && !self.is_null(row) {
                let variable = &self.column.variable;
                let message = format!(
                    "column {variable:?} holds {value}, over the greatest int; --types {variable}=float reads it"
                );
                faults.push((row, self.fault(row, code::CELL_TYPE, message)));
            }
        }
    }

    fn floats(&self, values: &mut Vec<f64>) {
        values.clear();
        // One NaN only: its bits are part of the results.
        let one_nan = |value: f64| if value.is_nan() { f64::NAN } else { value };
        macro_rules! round {
            ($ty:ty) => {
                values.extend(self.primitive::<$ty>().iter().map(|value| *value as f64))
            };
        }
        match self.array.data_type() {
            DataType::Float64 => values.extend(self.primitive::<Float64Type>().iter().map(|value| one_nan(*value))),
            DataType::Float32 => {
                values.extend(self.primitive::<Float32Type>().iter().map(|value| one_nan(f64::from(*value))));
            }
            DataType::Float16 => {
                values.extend(self.primitive::<Float16Type>().iter().map(|value| one_nan(f64::from(*value))));
            }
            DataType::UInt64 => round!(UInt64Type),
            DataType::Decimal32(_, scale) => self.decimals::<Decimal32Type>(*scale, values),
            DataType::Decimal64(_, scale) => self.decimals::<Decimal64Type>(*scale, values),
            DataType::Decimal128(_, scale) => self.decimals::<Decimal128Type>(*scale, values),
            DataType::Decimal256(_, scale) => self.decimals::<Decimal256Type>(*scale, values),
            ty => with_integers!(ty, round, ()),
        }
        values.resize(self.array.len(), 0.0);
    }

    /// Decimals rounded to the nearest float.
    fn decimals<T: ArrowPrimitiveType>(&self, scale: i8, values: &mut Vec<f64>)
    where
        T::Native: std::fmt::Display,
    {
        let mut text = String::new();
        for value in self.primitive::<T>() {
            text.clear();
            let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{value}"));
            values.push(decimal(&mut text, scale));
        }
    }

    fn strings(&self, values: &mut Vec<String>, faults: &mut Faults) {
        match self.array.data_type() {
            DataType::Utf8 => self.bytes::<i32>(values, faults),
            DataType::LargeUtf8 => self.bytes::<i64>(values, faults),
            DataType::Utf8View => {
                let Some(array) = self.array.as_string_view_opt() else { return values.clear() };
                for row in 0..array.len() {
                    self.text(values, row, || array.value(row), faults);
                }
            }
            _ => values.clear(),
        }
        values.resize_with(self.array.len(), String::new);
    }

    fn bytes<O: OffsetSizeTrait>(&self, values: &mut Vec<String>, faults: &mut Faults) {
        let Some(array) = self.array.as_string_opt::<O>() else { return values.clear() };
        for row in 0..array.len() {
            self.text(values, row, || array.value(row), faults);
        }
    }

    fn text<'t>(&self, values: &mut Vec<String>, row: usize, text: impl FnOnce() -> &'t str, faults: &mut Faults) {
        let mut text = if self.is_null(row) { "" } else { text() };
        if text.len() > STRING_CELL_BYTES_MAX {
            let message = format!(
                "column {:?} holds {} bytes of text; a formula reads at most {STRING_CELL_BYTES_MAX}",
                self.column.variable,
                text.len()
            );
            faults.push((row, self.fault(row, code::CELL_TOO_LONG, message)));
            text = "";
        }
        match values.get_mut(row) {
            Some(value) if value.capacity() <= STRING_KEPT_BYTES => {
                value.clear();
                value.push_str(text);
            }
            Some(value) => *value = text.to_string(),
            None => values.push(text.to_string()),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.get(row) == Some(&true))
    }

    fn fault(&self, row: usize, code: &str, message: String) -> RowError {
        let number = self.first_row + row as u64;
        RowError { row: number, code: code.to_string(), message: format!("row {}: {message}", number + 1) }
    }
}

/// A decimal's digits, without its point, as the nearest float. Both operands of the division below are exact, so that
/// its one rounding is the right one; for others the standard library's parser rounds right.
fn decimal(digits: &mut String, scale: i8) -> f64 {
    let small = digits.parse::<i64>().ok().filter(|value| value.unsigned_abs() <= EXACT_INT_BOUND);
    match small {
        Some(value) if (0..=EXACT_SCALE_MAX).contains(&scale) => value as f64 / POWERS[scale.unsigned_abs() as usize],
        _ => {
            let _ = std::fmt::Write::write_fmt(digits, format_args!("e{}", -i32::from(scale)));
            digits.parse().unwrap_or(f64::NAN)
        }
    }
}

/// Powers of ten that are floats without loss.
const POWERS: [f64; EXACT_SCALE_MAX as usize + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimals_are_rounded_once() {
        for (digits, scale, text) in [
            ("12345", 2, "123.45"),
            ("-5", 1, "-0.5"),
            ("7", -3, "7000"),
            ("9007199254740993", 0, "9007199254740993"),
            ("123456789012345678901234567890", 25, "12345.6789012345678901234567890"),
            ("1", 30, "1e-30"),
            ("0", 5, "0"),
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(decimal(&mut digits.to_string(), scale).to_bits(), expected.to_bits(), "{digits} {scale}");
        }
    }
}
