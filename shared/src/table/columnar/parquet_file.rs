//! A Parquet file's footer, checked: where its rows are and what they are.

use super::guard::{guarded, invalid};
use super::pages::{Budget, CheckedPages, general};
use super::schema::{map_types, without_dictionaries};
use super::source::{SharedSource, Source};
use super::thrift::{Trouble, check_footer};
use super::{FOOTER_BYTES_MAX, NESTED_VALUES_MAX};
use crate::BLOCK_ROWS;
use crate::spec::TableFormat;
use crate::table::TableError;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection, RowSelector};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::PageReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::Type as SchemaType;
use std::ops::Range;
use std::sync::Arc;

const FORMAT: TableFormat = TableFormat::Parquet;
/// What a Parquet file begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// What a file with an encrypted footer ends with.
const MAGIC_ENCRYPTED: &[u8] = b"PARE";
/// Length of the footer, and the magic.
const TAIL_BYTES: usize = 8;

/// An open Parquet file.
#[derive(Debug)]
pub(super) struct ParquetFile {
    source: Arc<Source>,
    metadata: ParquetMetaData,
    /// What the columns are, their dictionaries resolved.
    types: SchemaRef,
    /// How they are decoded: text and bytes stay in the pages that hold them.
    decoded: SchemaRef,
    /// First row of each row group, and the number of rows.
    starts: Vec<u64>,
}

impl ParquetFile {
    pub(super) fn open(source: Source) -> Result<Self, TableError> {
        let bad = |reason: String| invalid(FORMAT, reason);
        let read = |offset, len| source.read(offset, len).map_err(|error| bad(error.to_string()));
        let tail_at = source.len().checked_sub(TAIL_BYTES as u64).ok_or_else(|| bad("it is too short".into()))?;
        let tail = read(tail_at, TAIL_BYTES)?;
        if tail.ends_with(MAGIC_ENCRYPTED) {
            return Err(bad("it is encrypted, and such files are not read".into()));
        }
        if !tail.ends_with(MAGIC) {
            return Err(bad("it does not end as such files do; is it cut off?".into()));
        }
        let footer_bytes = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if footer_bytes > FOOTER_BYTES_MAX {
            return Err(bad(format!("its footer has {footer_bytes} bytes, over {FOOTER_BYTES_MAX}")));
        }
        let footer_at = tail_at
            .checked_sub(footer_bytes)
            .ok_or_else(|| bad(format!("its footer has {footer_bytes} bytes, more than the file")))?;
        let footer = read(footer_at, footer_bytes as usize)?;
        check_footer(&footer).map_err(|trouble| match trouble {
            Trouble::Short => bad("its footer is cut off".into()),
            Trouble::Bad(reason) => bad(format!("its footer: {reason}")),
        })?;
        let metadata = guarded(FORMAT, || ParquetMetaDataReader::decode_metadata(&footer))?;
        let starts = check_groups(&metadata, footer_at)?;
        let file = metadata.file_metadata();
        let stored = guarded(FORMAT, || parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata()))?;
        let types = without_dictionaries(&stored);
        let decoded = map_types(&types, &|ty| match ty {
            DataType::Utf8 | DataType::LargeUtf8 => Some(DataType::Utf8View),
            DataType::Binary | DataType::LargeBinary => Some(DataType::BinaryView),
            _ => None,
        });
        Ok(Self { source: Arc::new(source), metadata, types: Arc::new(types), decoded: Arc::new(decoded), starts })
    }

    pub(super) fn types(&self) -> &SchemaRef {
        &self.types
    }

    pub(super) fn bytes(&self) -> u64 {
        self.source.len()
    }

    pub(super) fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The chunks of the row groups that rows lie in, and everything after the last chunk: indexes and footer.
    pub(super) fn parts_of(&self, rows: &Range<u64>) -> Vec<Range<u64>> {
        let chunks = |group: &RowGroupMetaData| -> Vec<Range<u64>> {
            let ranges = group.columns().iter().map(|column| column.byte_range());
            ranges.map(|(start, len)| start..start.saturating_add(len)).collect()
        };
        let groups = self.metadata.row_groups();
        let chunks_end = groups.iter().flat_map(chunks).map(|chunk| chunk.end).max().unwrap_or(0);
        let mut parts: Vec<Range<u64>> =
            groups.get(self.groups_of(rows)).unwrap_or_default().iter().flat_map(chunks).collect();
        parts.push(chunks_end.min(self.bytes())..self.bytes());
        parts
    }

    /// The row groups that rows lie in.
    pub(super) fn groups_of(&self, rows: &Range<u64>) -> Range<usize> {
        let first = self.starts.partition_point(|start| *start <= rows.start).saturating_sub(1);
        let end = self.starts.partition_point(|start| *start < rows.end).min(self.starts.len().saturating_sub(1));
        first..end.max(first)
    }

    /// A decoder of these rows, block by block, with these columns in the file's order; at least one.
    pub(super) fn rows_of(&self, rows: &Range<u64>, columns: &[usize]) -> Result<ParquetRows, TableError> {
        let groups = self.groups_of(rows);
        let start = self.starts.get(groups.start).copied().unwrap_or(0);
        let budget = Arc::new(Budget::default());
        let file = self.metadata.file_metadata().clone();
        let groups = self.metadata.row_groups().get(groups).unwrap_or_default().to_vec();
        let window: Arc<dyn FileReader> = Arc::new(GroupWindow {
            source: SharedSource(Arc::clone(&self.source)),
            metadata: ParquetMetaDataBuilder::new(file).set_row_groups(groups).build(),
            budget: Arc::clone(&budget),
        });
        let skipped = usize::try_from(rows.start - start).map_err(|error| invalid(FORMAT, error))?;
        let wanted = usize::try_from(rows.end - rows.start).map_err(|error| invalid(FORMAT, error))?;
        let selection = RowSelection::from(vec![RowSelector::skip(skipped), RowSelector::select(wanted)]);
        let descriptor = self.metadata.file_metadata().schema_descr();
        let mask = ProjectionMask::roots(descriptor, columns.iter().copied());
        let reader = guarded(FORMAT, || {
            let levels = parquet_to_arrow_field_levels(descriptor, mask, Some(self.decoded.fields()))?;
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &window, BLOCK_ROWS as usize, Some(selection))
        })?;
        Ok(ParquetRows { reader, budget })
    }
}

/// Decodes rows.
pub(super) struct ParquetRows {
    reader: ParquetRecordBatchReader,
    budget: Arc<Budget>,
}

impl ParquetRows {
    /// The next rows, up to a block.
    pub(super) fn next_batch(&mut self) -> Result<Option<arrow_array::RecordBatch>, TableError> {
        self.budget.begin();
        guarded(FORMAT, || self.reader.next().transpose())
    }
}

/// Checks what the footer says of its row groups against the file and itself; gives their first rows.
fn check_groups(metadata: &ParquetMetaData, data_end: u64) -> Result<Vec<u64>, TableError> {
    let file = metadata.file_metadata();
    let columns = file.schema_descr().num_columns();
    let mut starts = vec![0_u64];
    let mut next = 0_u64;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let bad = |reason: String| invalid(FORMAT, format!("row group {number}: {reason}"));
        let rows = u64::try_from(group.num_rows()).map_err(|_| bad("it has less than no rows".into()))?;
        next = next.checked_add(rows).ok_or_else(|| bad("there are too many rows".into()))?;
        if group.columns().len() != columns {
            return Err(bad(format!("it has {} of {columns} columns", group.columns().len())));
        }
        for chunk in group.columns() {
            let name = chunk.column_path().string();
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            let place = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let within = place.and_then(|(start, len)| start.checked_add(len)).is_some_and(|end| end <= data_end);
            if !within || chunk.file_path().is_some() {
                return Err(bad(format!("column {name:?} does not lie in this file")));
            }
            let nested = chunk.column_descr().max_rep_level() > 0;
            if nested && chunk.num_values() > NESTED_VALUES_MAX {
                let values = chunk.num_values();
                return Err(bad(format!("column {name:?} has {values} values, over {NESTED_VALUES_MAX}")));
            }
            if !nested && chunk.num_values() != group.num_rows() {
                return Err(bad(format!("column {name:?} has {} values", chunk.num_values())));
            }
        }
        starts.push(next);
    }
    if i64::try_from(next) != Ok(file.num_rows()) {
        return Err(invalid(FORMAT, format!("it says {} rows, and its row groups have {next}", file.num_rows())));
    }
    Ok(starts)
}

/// Some consecutive row groups, as the `parquet` crate reads them: a file of these alone.
struct GroupWindow {
    source: SharedSource,
    metadata: ParquetMetaData,
    budget: Arc<Budget>,
}

impl FileReader for GroupWindow {
    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    fn num_row_groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    fn get_row_group(&self, group: usize) -> ParquetResult<Box<dyn RowGroupReader + '_>> {
        let group = self.metadata.row_groups().get(group).ok_or_else(|| general("there is no such row group"))?;
        Ok(Box::new(Group { window: self, group }))
    }

    fn get_row_iter(&self, _projection: Option<SchemaType>) -> ParquetResult<RowIter<'_>> {
        Err(general("rows are read by column"))
    }
}

/// One row group of a window.
struct Group<'a> {
    window: &'a GroupWindow,
    group: &'a RowGroupMetaData,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.group
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> ParquetResult<Box<dyn PageReader>> {
        let pages = CheckedPages::open(&self.window.source, self.group, column, Arc::clone(&self.window.budget))?;
        Ok(Box::new(pages))
    }

    fn get_column_bloom_filter(&self, _column: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, _projection: Option<SchemaType>) -> ParquetResult<RowIter<'_>> {
        Err(general("rows are read by column"))
    }
}
