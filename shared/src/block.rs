//! Blocks: how rows travel through the engine.
//!
//! A block is up to [`crate::BLOCK_ROWS`] consecutive rows whose first row number is a multiple of it. Sources fill
//! columns, the evaluator turns them into [`Values`], reducers and renderers take those.

use crate::spec::Scalar;
use utoipa::ToSchema;

/// A column of a block.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// i64 values.
    Int(Vec<i64>),
    /// f64 values.
    Float(Vec<f64>),
    /// Booleans.
    Boolean(Vec<bool>),
    /// Text.
    String(Vec<String>),
    /// Values of mixed types (results only).
    Mixed(Vec<Scalar>),
}

impl Column {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Int(v) => v.len(),
            Self::Float(v) => v.len(),
            Self::Boolean(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Mixed(v) => v.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `index`, counted from the block's first row.
    pub fn get(&self, index: usize) -> Scalar {
        match self {
            Self::Int(v) => Scalar::Int(v[index]),
            Self::Float(v) => Scalar::Float(v[index]),
            Self::Boolean(v) => Scalar::Boolean(v[index]),
            Self::String(v) => Scalar::String(v[index].clone()),
            Self::Mixed(v) => v[index].clone(),
        }
    }
}

/// Input rows: one column a variable, in the order of the source's variables.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Global number of the first row; a multiple of [`crate::BLOCK_ROWS`].
    pub first_row: u64,
    /// Number of rows.
    pub len: usize,
    /// The columns, each `len` long; a null has an arbitrary value.
    pub columns: Vec<Column>,
    /// For each column, which rows are null; `None` where none is.
    pub nulls: Vec<Option<Vec<bool>>>,
    /// Rows that could not be read as the schema says (`--types`), in row order.
    pub bad_rows: Vec<RowError>,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// It has a value.
    Valid,
    /// Its value is null: an input was null, or it failed under `--on-error null`.
    Null,
    /// It is left out: filtered by `--where`, or failed under `--on-error skip` (or `fail`).
    Hole,
}

/// Results of a block.
#[derive(Clone, Debug)]
pub struct Values {
    /// Global number of the first row.
    pub first_row: u64,
    /// One value a row; arbitrary where the state is not `Valid`.
    pub column: Column,
    /// One state a row.
    pub states: Vec<RowState>,
    /// Failed rows in row order, whatever `--on-error` made of them. After the first ones they may lack code and message.
    pub errors: Vec<RowError>,
}

impl Default for Values {
    fn default() -> Self {
        Self { first_row: 0, column: Column::Float(Vec::new()), states: Vec::new(), errors: Vec::new() }
    }
}

/// Why a row failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct RowError {
    /// Global row number, from 0.
    pub row: u64,
    /// Stable code, such as `int_overflow`.
    pub code: String,
    /// For people: names the input and the fix.
    pub message: String,
}
