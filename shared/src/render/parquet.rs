//! Output as Parquet: workers encode whole row groups, and whoever writes the file puts them one after the other.
//!
//! A row group is made of the rows between two multiples of [`group_rows`], whoever computes them, so that the file
//! does not depend on shards. On its way it is a small Parquet file of its own with its length in front; a file without
//! rows comes first and names the columns.

use crate::BLOCK_ROWS;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks of a row group of a narrow table: as many rows as DuckDB's groups have, and few enough that a group of wide
/// rows fits into a worker's memory.
const GROUP_BLOCKS_MAX: u64 = 30;
/// Cells of a row group: tables of more columns have smaller groups.
const GROUP_CELLS_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of a column's dictionary in a row group: a column of more values is written plain from there on, as hashing
/// every value of one that hardly repeats takes several times as long as writing it.
const DICTIONARY_BYTES_MAX: usize = 64 * 1024;
/// Bytes in front of each part: its length.
const LENGTH_BYTES: usize = 8;
/// Longest part; the length of a broken one is not believed.
const PART_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Rows of a row group of the output, for a table of so many columns with the computed one: a multiple of
/// [`BLOCK_ROWS`].
pub fn group_rows(columns: usize) -> u64 {
    let blocks = GROUP_CELLS_MAX / (columns.max(1) as u64).saturating_mul(BLOCK_ROWS);
    blocks.clamp(1, GROUP_BLOCKS_MAX) * BLOCK_ROWS
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(format!("quipu {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_max_row_group_row_count(None)
        .build()
}

/// Makes row groups of rows that come in order.
pub(super) struct ParquetGroups {
    schema: SchemaRef,
    group_rows: u64,
    /// The group at hand, and the row that ends it.
    group: Option<ArrowWriter<Vec<u8>>>,
    end: u64,
}

impl ParquetGroups {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let group_rows = group_rows(schema.fields().len());
        Self { schema, group_rows, group: None, end: 0 }
    }

    /// What the output begins with: a part without rows.
    pub(super) fn header(schema: &SchemaRef) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties()))?;
        write_part(writer, &mut out)?;
        Ok(out)
    }

    /// Adds the rows of a block that begins with `first_row`.
    pub(super) fn write(&mut self, first_row: u64, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        if first_row >= self.end {
            self.finish(out)?;
            self.end = (first_row / self.group_rows + 1) * self.group_rows;
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let group = match &mut self.group {
            Some(group) => group,
            none => none.insert(ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties()))?),
        };
        group.write(batch)
    }

    /// Ends the group at hand.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.group.take().map_or(Ok(()), |group| write_part(group, out))
    }
}

fn write_part(writer: ArrowWriter<Vec<u8>>, out: &mut Vec<u8>) -> Result<()> {
    let part = writer.into_inner()?;
    out.extend_from_slice(&(part.len() as u64).to_le_bytes());
    out.extend_from_slice(&part);
    Ok(())
}

/// Puts the parts of a result together to one file.
#[derive(Default)]
pub struct ParquetJoiner {
    /// The begun part.
    partial: Vec<u8>,
    file: Option<SerializedFileWriter<Written>>,
    written: Written,
}

/// What was written and not yet taken.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ParquetJoiner {
    /// Takes the next bytes of a result, in pieces of any size; gives the next bytes of the file.
    ///
    /// # Errors
    /// Where they are no parts.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.partial.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(head) = self.partial.get(at..at + LENGTH_BYTES) {
            let len = head.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
            if len > PART_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a row group is longer than any"));
            }
            let start = at + LENGTH_BYTES;
            let end = start + len as usize;
            let Some(part) = self.partial.get(start..end) else { break };
            append(&mut self.file, &self.written, Bytes::copy_from_slice(part)).map_err(broken)?;
            at = end;
        }
        self.partial.drain(..at);
        Ok(self.written.take())
    }

    /// The end of the result; gives the rest of the file.
    ///
    /// # Errors
    /// Where the result is not whole.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        let file = self.file.take().filter(|_| self.partial.is_empty());
        let file = file.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the result is cut off"))?;
        file.close().map_err(broken)?;
        Ok(self.written.take())
    }
}

fn broken(error: ParquetError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Appends the row groups of a part; the first part begins the file.
fn append(file: &mut Option<SerializedFileWriter<Written>>, written: &Written, part: Bytes) -> Result<()> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&part)?;
    let of_part = metadata.file_metadata();
    let file = match file {
        Some(file) => file,
        none => {
            let schema = of_part.schema_descr().root_schema_ptr();
            let named = properties().into_builder().set_key_value_metadata(of_part.key_value_metadata().cloned());
            none.insert(SerializedFileWriter::new(written.clone(), schema, Arc::new(named.build()))?)
        }
    };
    for group in metadata.row_groups() {
        let mut next = file.next_row_group()?;
        for column in group.columns() {
            let closed = ColumnCloseResult {
                bytes_written: column.compressed_size().cast_unsigned(),
                rows_written: group.num_rows().cast_unsigned(),
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            next.append_column(&part, closed)?;
        }
        next.close()?;
    }
    Ok(())
}
