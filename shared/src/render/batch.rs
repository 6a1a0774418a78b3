//! Rows with a computed column as Arrow record batches, for output in columns.
//!
//! The type of each column is fixed before the first row is computed, so that shards can be put one after the other:
//! a table in columns keeps its types, a table of text has those of its schema, and the computed column has the type
//! that the formula has whatever its inputs hold. Where there is none (text, tuples, branches of several types), it is
//! text: strings as they are, other values as their JSON.

use super::Cell;
use crate::block::{Block, Column, RowState, Values};
use crate::formula::Formula;
use crate::formula::typed::{TypedFormula, ValueType};
use crate::spec::{ColumnType, JobKind, JobSpec, Scalar, TableSchema};
use crate::table::{TableError, arrow_schema};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use std::collections::HashSet;
use std::sync::Arc;

/// What a computed column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultColumn {
    /// i64.
    Int,
    /// f64.
    Float,
    /// true or false.
    Boolean,
    /// Strings as they are, other values as their JSON.
    Text,
}

impl ResultColumn {
    /// Of a formula over variables of these types.
    pub fn of(formula: &Formula, variables: &[(String, ColumnType)], bindings: &[(String, Scalar)]) -> Self {
        match TypedFormula::new(formula, variables, bindings).map(|typed| typed.result_type()) {
            Ok(ValueType::Int) => Self::Int,
            Ok(ValueType::Float) => Self::Float,
            Ok(ValueType::Boolean) => Self::Boolean,
            Err(_) => Self::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Text => DataType::Utf8,
        }
    }
}

/// The columns of an output, and how blocks become them.
#[derive(Clone, Debug)]
pub struct OutputColumns {
    schema: SchemaRef,
    result: ResultColumn,
}

impl OutputColumns {
    /// A table's columns and the computed one of this name.
    ///
    /// # Errors
    /// Where the schema is not valid.
    pub fn of_table(schema: &TableSchema, name: &str, result: ResultColumn) -> Result<Self, TableError> {
        let types = arrow_schema(schema)?;
        let mut seen = HashSet::new();
        let mut fields: Vec<Field> = Vec::with_capacity(schema.columns.len() + 1);
        for (index, column) in schema.columns.iter().enumerate() {
            // Readers look columns up by name, so that a second column of a name goes by its variable.
            let is_own = !column.name.is_empty() && seen.insert(column.name.as_str());
            let own = if is_own { &column.name } else { &column.variable };
            fields.push(match types.as_ref().and_then(|types| types.fields().get(index)) {
                Some(field) => field.as_ref().clone().with_name(own),
                None => Field::new(own, type_of(column.ty), true),
            });
        }
        fields.push(Field::new(name, result.data_type(), true));
        Ok(Self { schema: Arc::new(Schema::new(fields)), result })
    }

    /// Generated inputs and the computed column.
    pub fn of_inputs(inputs: &[(String, ColumnType)], name: &str, result: ResultColumn) -> Self {
        let fields = inputs.iter().map(|(name, ty)| Field::new(name, type_of(*ty), true));
        let fields: Vec<Field> = fields.chain([Field::new(name, result.data_type(), true)]).collect();
        Self { schema: Arc::new(Schema::new(fields)), result }
    }

    /// Of a job whose formula is this one and whose inputs, where they are generated, are these; nothing for a job
    /// whose output is text or reductions. Master and worker both ask, and get the same.
    ///
    /// # Errors
    /// Where the table's schema is not valid.
    pub fn of_job(
        spec: &JobSpec,
        formula: &Formula,
        inputs: &[(String, ColumnType)],
    ) -> Result<Option<Self>, TableError> {
        if !spec.format.is_columnar() || !spec.reductions.is_empty() {
            return Ok(None);
        }
        match &spec.kind {
            JobKind::Eval { .. } => Ok(None),
            JobKind::Map { schema, name, .. } => {
                let columns = schema.columns.iter();
                let variables: Vec<_> = columns.map(|column| (column.variable.clone(), column.ty)).collect();
                let result = ResultColumn::of(formula, &variables, &spec.bindings);
                Self::of_table(schema, name, result).map(Some)
            }
            JobKind::Sweep { name, .. } | JobKind::Sample { name, .. } => {
                let result = ResultColumn::of(formula, inputs, &spec.bindings);
                Ok(Some(Self::of_inputs(inputs, name, result)))
            }
        }
    }

    /// The columns' names and types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of a block that holds every column.
    ///
    /// # Errors
    /// Where the block is not of these columns.
    pub fn of_block(&self, block: &Block, values: &Values) -> Result<RecordBatch, ArrowError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(block.columns.len() + 1);
        for (index, column) in block.columns.iter().enumerate() {
            let nulls = block.nulls.get(index).and_then(Option::as_ref);
            let nulls = nulls.map(|nulls| nulls.iter().map(|null| !null).collect::<NullBuffer>());
            arrays.push(array_of(column, nulls));
        }
        arrays.push(self.result_array(values)?);
        without_holes(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?, values)
    }

    /// The rows of a block whose columns were decoded as `batch`; types that hold the same text may differ.
    ///
    /// # Errors
    /// Where the values can't be of the computed column's type.
    pub fn of_batch(&self, batch: &RecordBatch, values: &Values) -> Result<RecordBatch, ArrowError> {
        let mut arrays = batch.columns().to_vec();
        arrays.push(self.result_array(values)?);
        let types = arrays.iter().map(|array| array.data_type().clone());
        let fields = self.schema.fields().iter().zip(types);
        let fields: Vec<Field> = fields.map(|(field, ty)| field.as_ref().clone().with_data_type(ty)).collect();
        without_holes(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?, values)
    }

    fn result_array(&self, values: &Values) -> Result<ArrayRef, ArrowError> {
        let valid = |state: &RowState| *state == RowState::Valid;
        let nulls = match values.states.iter().all(valid) {
            true => None,
            false => Some(values.states.iter().map(valid).collect::<NullBuffer>()),
        };
        let column = &values.column;
        if column.len() == values.states.len()
            && matches!(
                (self.result, column),
                (ResultColumn::Int, Column::Int(_))
                    | (ResultColumn::Float, Column::Float(_))
                    | (ResultColumn::Boolean, Column::Boolean(_))
                    | (ResultColumn::Text, Column::String(_))
            )
        {
            return Ok(array_of(column, nulls));
        }
        let cells = values.states.iter().enumerate().map(|(row, state)| match valid(state) {
            true => Cell::at(column, row),
            false => Cell::Null,
        });
        let misfit = |cell: Cell<'_>| {
            let mut text = Vec::new();
            cell.json(&mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            ArrowError::InvalidArgumentError(format!("the formula gave {text} in a column of {:?}", self.result))
        };
        Ok(match self.result {
            ResultColumn::Int => Arc::new(
                cells
                    .map(|cell| match cell {
                        Cell::Int(value) => Ok(Some(value)),
                        Cell::Null => Ok(None),
                        other => Err(misfit(other)),
                    })
                    .collect::<Result<Int64Array, _>>()?,
            ),
            ResultColumn::Float => Arc::new(
                cells
                    .map(|cell| match cell {
                        Cell::Float(value) => Ok(Some(value)),
                        Cell::Null => Ok(None),
                        other => Err(misfit(other)),
                    })
                    .collect::<Result<Float64Array, _>>()?,
            ),
            ResultColumn::Boolean => Arc::new(
                cells
                    .map(|cell| match cell {
                        Cell::Boolean(value) => Ok(Some(value)),
                        Cell::Null => Ok(None),
                        other => Err(misfit(other)),
                    })
                    .collect::<Result<BooleanArray, _>>()?,
            ),
            ResultColumn::Text => Arc::new(cells.map(text_of).collect::<StringArray>()),
        })
    }
}

fn type_of(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Int => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::String => DataType::Utf8,
    }
}

fn array_of(column: &Column, nulls: Option<NullBuffer>) -> ArrayRef {
    match column {
        Column::Int(values) => Arc::new(Int64Array::new(values.clone().into(), nulls)),
        Column::Float(values) => Arc::new(Float64Array::new(values.clone().into(), nulls)),
        Column::Boolean(values) => Arc::new(BooleanArray::new(values.as_slice().into(), nulls)),
        Column::String(values) => {
            let valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            let texts = values.iter().enumerate().map(|(row, text)| valid(row).then_some(text));
            Arc::new(texts.collect::<StringArray>())
        }
        Column::Mixed(values) => {
            let valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            let texts = values
                .iter()
                .enumerate()
                .map(|(row, value)| text_of(if valid(row) { Cell::from(value) } else { Cell::Null }));
            Arc::new(texts.collect::<StringArray>())
        }
    }
}

/// A value as text: a string as it is, anything else as its JSON.
fn text_of(cell: Cell<'_>) -> Option<String> {
    match cell {
        Cell::Null => None,
        Cell::Text(text) => Some(text.to_string()),
        other => {
            let mut text = Vec::new();
            other.json(&mut text);
            String::from_utf8(text).ok()
        }
    }
}

fn without_holes(batch: RecordBatch, values: &Values) -> Result<RecordBatch, ArrowError> {
    if !values.states.contains(&RowState::Hole) {
        return Ok(batch);
    }
    let kept: BooleanArray = values.states.iter().map(|state| Some(*state != RowState::Hole)).collect();
    filter_record_batch(&batch, &kept)
}
