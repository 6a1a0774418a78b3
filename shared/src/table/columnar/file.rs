//! A columnar file of either form, and the rows of a shard as blocks.

use super::cells::fill;
use super::guard::invalid;
use super::ipc_file::{IpcFile, IpcRows};
use super::packed::Packing;
use super::parquet_file::{ParquetFile, ParquetRows};
use super::retype::retyped;
use super::source::Source;
use crate::BLOCK_ROWS;
use crate::block::{Block, Column};
use crate::spec::{TableColumn, TableFormat, TableSchema};
use crate::table::{BLOCK_BYTES_MAX, TableError, arrow_schema};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;

/// An open file whose footer is read and checked.
#[derive(Debug)]
pub struct ColumnarFile {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Parquet(ParquetFile),
    Arrow(Arc<IpcFile>),
}

impl ColumnarFile {
    /// Reads the footer of a file of this form.
    ///
    /// # Errors
    /// Where it is not such a file, or is over a limit.
    pub fn open(format: TableFormat, source: Source) -> Result<Self, TableError> {
        let form = match format {
            TableFormat::Parquet => Form::Parquet(ParquetFile::open(source)?),
            TableFormat::Arrow => Form::Arrow(Arc::new(IpcFile::open(source)?)),
            other => return Err(invalid(other, "it is no table in columns")),
        };
        Ok(Self { form })
    }

    /// The columns and their types, with dictionaries resolved.
    pub fn types(&self) -> &SchemaRef {
        match &self.form {
            Form::Parquet(file) => file.types(),
            Form::Arrow(file) => file.types(),
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        match &self.form {
            Form::Parquet(file) => file.rows(),
            Form::Arrow(file) => file.rows(),
        }
    }

    /// The file's length.
    pub fn bytes(&self) -> u64 {
        match &self.form {
            Form::Parquet(file) => file.bytes(),
            Form::Arrow(file) => file.bytes(),
        }
    }

    /// Where the bytes are.
    pub fn source(&self) -> &Source {
        match &self.form {
            Form::Parquet(file) => file.source(),
            Form::Arrow(file) => file.source(),
        }
    }

    /// What a reader of these rows needs of the file: the record batches or row groups that they lie in, as a whole,
    /// and what tells their places.
    pub fn packing(&self, rows: &Range<u64>) -> Packing {
        let parts = match &self.form {
            Form::Parquet(file) => file.parts_of(rows),
            Form::Arrow(file) => file.parts_of(rows),
        };
        Packing::new(self.bytes(), parts)
    }

    /// Checks that this is the file that the schema was made from.
    ///
    /// # Errors
    /// Where its columns are other ones.
    pub fn check(&self, schema: &TableSchema) -> Result<(), TableError> {
        let types = arrow_schema(schema)?;
        if types.is_some_and(|types| types.fields() == self.types().fields()) {
            return Ok(());
        }
        Err(invalid(schema.format, "its columns are not those of the job; has the file changed?"))
    }

    /// Reads the rows of a shard. `first_row` is a multiple of [`BLOCK_ROWS`]; `wanted` are the columns that formulas
    /// read, by their indexes in the schema; other columns are decoded where the output
    /// needs them.
    ///
    /// # Errors
    /// Where the file is not the one that the schema was made from, or has no such rows.
    pub fn read(
        &self,
        schema: &TableSchema,
        wanted: &[usize],
        decode: Decode,
        first_row: u64,
        rows: u64,
    ) -> Result<ColumnarReader, TableError> {
        let changed = |what: &str| invalid(schema.format, format_args!("{what}; has the file changed?"));
        self.check(schema)?;
        let end = first_row.checked_add(rows).filter(|end| *end <= self.rows());
        let range = first_row..end.ok_or_else(|| changed("it has too few rows"))?;
        if !first_row.is_multiple_of(BLOCK_ROWS) {
            return Err(TableError::BadSchema { reason: format!("row {first_row} does not begin a block") });
        }
        let mut columns: Vec<usize> = match decode {
            Decode::Wanted => wanted.to_vec(),
            Decode::All | Decode::AllTyped => (0..schema.columns.len()).collect(),
        };
        columns.sort_unstable();
        columns.dedup();
        let slot = |index: &usize| {
            let slot = columns.iter().position(|column| column == index);
            let column = schema.columns.get(*index).cloned();
            slot.zip(column).ok_or_else(|| TableError::BadSchema { reason: format!("there is no column {index}") })
        };
        let wanted = wanted.iter().map(slot).collect::<Result<Vec<_>, _>>()?;
        let batches = match &self.form {
            _ if columns.is_empty() => Batches::Bare,
            Form::Parquet(file) => Batches::Parquet(Box::new(file.rows_of(&range, &columns)?)),
            Form::Arrow(file) => Batches::Arrow(IpcRows::new(Arc::clone(file), columns.clone(), range.clone())),
        };
        let types = (decode == Decode::AllTyped).then(|| self.types().clone());
        Ok(ColumnarReader { format: schema.format, batches, wanted, types, rows: range })
    }
}

/// Which columns of a table are decoded, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// Those that formulas read.
    Wanted,
    /// All; text and bytes may be views into the file's pages.
    All,
    /// All, each in the type that [`ColumnarFile::types`] tells.
    AllTyped,
}

/// Reads rows, block by block.
pub struct ColumnarReader {
    format: TableFormat,
    batches: Batches,
    /// The columns that formulas read: where they are in a batch, and what they are.
    wanted: Vec<(usize, TableColumn)>,
    /// What a batch's columns are to be, where that matters.
    types: Option<SchemaRef>,
    /// What is still to come.
    rows: Range<u64>,
}

enum Batches {
    /// No column is read: rows only count.
    Bare,
    Parquet(Box<ParquetRows>),
    Arrow(IpcRows),
}

impl ColumnarReader {
    /// Reads up to [`BLOCK_ROWS`] rows into the block, with one column for each that is wanted; gives the columns that
    /// were decoded, and nothing at the end.
    ///
    /// # Errors
    /// Where the file turns out to be broken, or a block takes too much memory.
    pub fn next_block(&mut self, block: &mut Block) -> Result<Option<RecordBatch>, TableError> {
        let len = (self.rows.end - self.rows.start).min(BLOCK_ROWS);
        if len == 0 {
            return Ok(None);
        }
        let batch = match &mut self.batches {
            Batches::Bare => {
                let options = RecordBatchOptions::new().with_row_count(Some(len as usize));
                let bare = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
                Some(bare.map_err(|error| invalid(self.format, error))?)
            }
            Batches::Parquet(rows) => rows.next_batch()?,
            Batches::Arrow(rows) => rows.next_batch()?,
        };
        let batch = batch.filter(|batch| batch.num_rows() as u64 == len);
        let batch = batch.ok_or_else(|| invalid(self.format, "it has fewer rows than its footer says"))?;
        self.check_size(&batch)?;
        block.first_row = self.rows.start;
        block.len = batch.num_rows();
        block.bad_rows.clear();
        block.columns.resize_with(self.wanted.len(), || Column::Int(Vec::new()));
        block.nulls.resize(self.wanted.len(), None);
        let mut faults = Vec::new();
        for (index, (slot, column)) in self.wanted.iter().enumerate() {
            let array = batch.columns().get(*slot).ok_or_else(|| invalid(self.format, "it misses a column"))?;
            let (values, nulls) = (&mut block.columns[index], &mut block.nulls[index]);
            fill(array, column, block.first_row, values, nulls, &mut faults);
        }
        // The first fault of each row, by the order of the columns.
        faults.sort_by_key(|(row, _)| *row);
        faults.dedup_by_key(|(row, _)| *row);
        block.bad_rows.extend(faults.into_iter().map(|(_, fault)| fault));
        self.rows.start += len;
        let Some(types) = &self.types else { return Ok(Some(batch)) };
        let columns = batch.columns().iter().zip(types.fields());
        let columns = columns.map(|(array, field)| retyped(array, field.data_type())).collect::<Result<Vec<_>, _>>();
        let typed = columns.and_then(|columns| RecordBatch::try_new(types.clone(), columns));
        typed.map(Some).map_err(|error| invalid(self.format, error))
    }

    /// Refuses a block whose texts, each written out, would take too much: a dictionary may name one long text in
    /// every row.
    fn check_size(&self, batch: &RecordBatch) -> Result<(), TableError> {
        let text_bytes = |array: &dyn Array| -> u64 {
            let views = array
                .as_string_view_opt()
                .map(|array| array.views())
                .or_else(|| array.as_binary_view_opt().map(|array| array.views()));
            // The length is the view's low half.
            views.map_or(0, |views| views.iter().map(|view| u64::from(*view as u32)).sum())
        };
        let bytes: u64 = batch.columns().iter().map(|array| text_bytes(array)).sum();
        if bytes > BLOCK_BYTES_MAX {
            let (first, last) = (self.rows.start + 1, self.rows.start + batch.num_rows() as u64);
            return Err(TableError::BlockTooLong { first, last, max: BLOCK_BYTES_MAX });
        }
        Ok(())
    }
}
