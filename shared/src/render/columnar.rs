//! Output in columns, of either form.

use super::OutputColumns;
use super::ipc::IpcBatches;
use super::parquet::{ParquetGroups, group_rows};
use crate::BLOCK_ROWS;
use crate::block::{Block, Values};
use crate::spec::RowFormat;
use arrow_array::RecordBatch;

/// Rows of an output's units, of which a shard must hold whole ones: [`BLOCK_ROWS`], and for Parquet a row group.
pub fn unit_rows(format: RowFormat, columns: &OutputColumns) -> u64 {
    match format {
        RowFormat::Parquet => group_rows(columns.schema().fields().len()),
        RowFormat::Csv | RowFormat::Ndjson | RowFormat::Plain | RowFormat::Arrow => BLOCK_ROWS,
    }
}

/// What an output in columns begins with, whatever its rows; nothing for one of text.
///
/// # Errors
/// Where the form can't keep the type of a column; the message names it.
pub fn columnar_header(format: RowFormat, columns: &OutputColumns) -> Result<Vec<u8>, String> {
    match format {
        RowFormat::Parquet => ParquetGroups::header(columns.schema()).map_err(|error| error.to_string()),
        RowFormat::Arrow => IpcBatches::header(columns.schema()).map_err(|error| error.to_string()),
        RowFormat::Csv | RowFormat::Ndjson | RowFormat::Plain => Ok(Vec::new()),
    }
}

/// Writes the rows of a shard in columns.
pub struct ColumnarWriter {
    columns: OutputColumns,
    form: Form,
}

enum Form {
    Parquet(Box<ParquetGroups>),
    Arrow(Box<IpcBatches>),
}

impl ColumnarWriter {
    /// For these columns; nothing for a form of text.
    ///
    /// # Errors
    /// As [`columnar_header`].
    pub fn new(format: RowFormat, columns: OutputColumns) -> Result<Option<Self>, String> {
        let form = match format {
            RowFormat::Parquet => Form::Parquet(Box::new(ParquetGroups::new(columns.schema().clone()))),
            RowFormat::Arrow => {
                Form::Arrow(Box::new(IpcBatches::new(columns.schema()).map_err(|error| error.to_string())?))
            }
            RowFormat::Csv | RowFormat::Ndjson | RowFormat::Plain => return Ok(None),
        };
        Ok(Some(Self { columns, form }))
    }

    /// Appends the rows of a block that holds every column of the output.
    ///
    /// # Errors
    /// Where a value is not of its column's type.
    pub fn write_block(&mut self, block: &Block, values: &Values, out: &mut Vec<u8>) -> Result<(), String> {
        let batch = self.columns.of_block(block, values).map_err(|error| error.to_string())?;
        self.write(block.first_row, &batch, out)
    }

    /// Appends the rows of a block that was decoded as `batch`.
    ///
    /// # Errors
    /// Where a value is not of its column's type.
    pub fn write_batch(&mut self, batch: &RecordBatch, values: &Values, out: &mut Vec<u8>) -> Result<(), String> {
        let batch = self.columns.of_batch(batch, values).map_err(|error| error.to_string())?;
        self.write(values.first_row, &batch, out)
    }

    fn write(&mut self, first_row: u64, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), String> {
        match &mut self.form {
            Form::Parquet(groups) => groups.write(first_row, batch, out).map_err(|error| error.to_string()),
            Form::Arrow(batches) => batches.write(batch, out).map_err(|error| error.to_string()),
        }
    }

    /// Appends what is still to be written of the shard.
    ///
    /// # Errors
    /// Where it can't be encoded.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        match &mut self.form {
            Form::Parquet(groups) => groups.finish(out).map_err(|error| error.to_string()),
            Form::Arrow(_) => Ok(()),
        }
    }
}
