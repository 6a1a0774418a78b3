//! Rows that are computed: sweeps and samples.
//!
//! Nothing is materialised: any range of rows follows from the axes, or from seed, names and row numbers, alone. Axes
//! and draws are read by [`parse_axis`] and [`parse_draw`]; [`SweepSource`] and [`SampleSource`] check what they are
//! given all the same, since specs also come as JSON.

mod axis;
mod draw;
mod error;
mod normal;
mod philox;
mod sample;
mod sweep;
#[cfg(test)]
mod tests;
mod text;

pub use axis::{AXIS_POINTS_MAX, parse_axis};
pub use draw::parse_draw;
pub use error::SourceError;
pub use sample::SampleSource;
pub use sweep::SweepSource;
pub use text::{LIST_BYTES_MAX, LIST_LEN_MAX};

use crate::block::{Block, Column};
use crate::spec::{ColumnType, Scalar};

/// Rows of one job: at a thousand million rows a second, eleven days of one executor.
pub const ROWS_MAX: u64 = 1_000_000_000_000_000;
/// Axes of a sweep, or draws of a sample; a block has a column of each.
pub const VARIABLES_MAX: usize = 64;

/// Rows by their numbers.
pub trait RowSource: Send + Sync {
    /// Names of the columns, in their order.
    fn variables(&self) -> &[String];
    /// Types of the columns, in the same order.
    fn column_types(&self) -> &[ColumnType];
    /// How many rows there are.
    fn rows(&self) -> u64;
    /// Makes `block` the rows from `first_row` on, reusing its buffers. The rows must be within [`RowSource::rows`].
    fn fill(&self, first_row: u64, len: usize, block: &mut Block);
}

/// Makes the block one of `columns` columns without nulls or bad rows.
fn begin_block(block: &mut Block, columns: usize, first_row: u64, len: usize) {
    block.first_row = first_row;
    block.len = len;
    block.bad_rows.clear();
    block.nulls.clear();
    block.nulls.resize(columns, None);
    block.columns.resize_with(columns, || Column::Float(Vec::new()));
}

/// Listed values as a column.
fn list_column(values: &[Scalar], ty: ColumnType) -> Column {
    fn all<T>(values: &[Scalar], one: impl Fn(&Scalar) -> Option<T>) -> Vec<T> {
        values.iter().filter_map(one).collect()
    }
    match ty {
        ColumnType::Int => Column::Int(all(values, |v| if let Scalar::Int(x) = v { Some(*x) } else { None })),
        ColumnType::Float => Column::Float(all(values, |v| if let Scalar::Float(x) = v { Some(*x) } else { None })),
        ColumnType::Boolean => {
            Column::Boolean(all(values, |v| if let Scalar::Boolean(x) = v { Some(*x) } else { None }))
        }
        ColumnType::String => {
            Column::String(all(values, |v| if let Scalar::String(x) = v { Some(x.clone()) } else { None }))
        }
    }
}

/// The buffer of a column that has this type or is made to.
fn ints(column: &mut Column) -> &mut Vec<i64> {
    if !matches!(column, Column::Int(_)) {
        *column = Column::Int(Vec::new());
    }
    match column {
        Column::Int(buffer) => buffer,
        _ => unreachable!("it was just made one"),
    }
}

fn floats(column: &mut Column) -> &mut Vec<f64> {
    if !matches!(column, Column::Float(_)) {
        *column = Column::Float(Vec::new());
    }
    match column {
        Column::Float(buffer) => buffer,
        _ => unreachable!("it was just made one"),
    }
}

fn booleans(column: &mut Column) -> &mut Vec<bool> {
    if !matches!(column, Column::Boolean(_)) {
        *column = Column::Boolean(Vec::new());
    }
    match column {
        Column::Boolean(buffer) => buffer,
        _ => unreachable!("it was just made one"),
    }
}

fn strings(column: &mut Column) -> &mut Vec<String> {
    if !matches!(column, Column::String(_)) {
        *column = Column::String(Vec::new());
    }
    match column {
        Column::String(buffer) => buffer,
        _ => unreachable!("it was just made one"),
    }
}
