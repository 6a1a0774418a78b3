//! An Arrow IPC file's footer, checked, and its record batches.

use super::guard::{guarded, invalid};
use super::schema::without_dictionaries;
use super::source::Source;
use super::{BATCH_BYTES_MAX, FOOTER_BYTES_MAX};
use crate::BLOCK_ROWS;
use crate::spec::TableFormat;
use crate::table::{BLOCK_BYTES_MAX, TableError};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::Block;
use arrow_ipc::reader::FileDecoder;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

const FORMAT: TableFormat = TableFormat::Arrow;
/// What such a file begins and ends with.
const MAGIC: &[u8] = b"ARROW1";
/// Length of the footer, and the magic.
const TAIL_BYTES: u64 = 10;
/// What a message of a stream begins with.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Record batches that are kept: shards of one batch follow each other.
const BATCHES_KEPT: usize = 2;

/// An open Arrow IPC file.
pub(super) struct IpcFile {
    source: Source,
    /// Holds the dictionaries.
    decoder: FileDecoder,
    /// What the columns are, their dictionaries resolved.
    types: SchemaRef,
    batches: Vec<Block>,
    /// First row of each batch, and the number of rows.
    starts: Vec<u64>,
    /// The last batches that were decoded, by number.
    kept: Mutex<VecDeque<(usize, RecordBatch)>>,
}

impl std::fmt::Debug for IpcFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcFile").field("types", &self.types).finish_non_exhaustive()
    }
}

fn bad(reason: &str) -> TableError {
    invalid(FORMAT, reason)
}

impl IpcFile {
    pub(super) fn open(source: Source) -> Result<Self, TableError> {
        let read = |offset, len| source.read(offset, len).map_err(|error| invalid(FORMAT, error));
        let head = source.read_up_to(0, 8).map_err(|error| invalid(FORMAT, error))?;
        if head.starts_with(&CONTINUATION) {
            return Err(bad("it is a stream, and only the file format is read"));
        }
        let tail_at = source.len().checked_sub(TAIL_BYTES).ok_or_else(|| bad("it is too short"))?;
        let tail = read(tail_at, TAIL_BYTES as usize)?;
        if !head.starts_with(MAGIC) || !tail.ends_with(MAGIC) {
            return Err(bad("it does not begin and end as such files do; is it cut off?"));
        }
        let footer_bytes = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if footer_bytes > FOOTER_BYTES_MAX {
            return Err(invalid(FORMAT, format_args!("its footer has {footer_bytes} bytes, over {FOOTER_BYTES_MAX}")));
        }
        let footer_at = tail_at.checked_sub(footer_bytes).ok_or_else(|| bad("its footer is longer than the file"))?;
        let footer = read(footer_at, footer_bytes as usize)?;
        let (schema, version, dictionaries, batches) = guarded(FORMAT, || {
            let footer = arrow_ipc::root_as_footer(&footer).map_err(|error| error.to_string())?;
            let schema = footer.schema().ok_or("its footer has no schema")?;
            let schema = arrow_ipc::convert::try_fb_to_schema(schema).map_err(|error| error.to_string())?;
            let blocks = |list: Option<_>| list.into_iter().flatten().copied().collect::<Vec<Block>>();
            let found = (blocks(footer.dictionaries()), blocks(footer.recordBatches()));
            Ok::<_, String>((schema, footer.version(), found.0, found.1))
        })?;
        if let Some(field) = schema.fields().iter().find(|field| has_odd_dictionary(field.data_type(), true)) {
            return Err(invalid(
                FORMAT,
                format_args!("column {:?} has a dictionary within {}", field.name(), field.data_type()),
            ));
        }
        for block in dictionaries.iter().chain(&batches) {
            check_block(block, footer_at)?;
        }
        let mut starts = vec![0_u64];
        let mut next = 0_u64;
        for block in &batches {
            let rows = guarded(FORMAT, || rows_of_block(&source, block))?;
            next = next.checked_add(rows).ok_or_else(|| bad("there are too many rows"))?;
            starts.push(next);
        }
        let types = Arc::new(without_dictionaries(&schema));
        let mut decoder = FileDecoder::new(Arc::new(schema), version);
        let held: i64 = dictionaries.iter().map(Block::bodyLength).fold(0, i64::saturating_add);
        if held > BATCH_BYTES_MAX.cast_signed() {
            return Err(invalid(FORMAT, format_args!("its dictionaries take more than {BATCH_BYTES_MAX} bytes")));
        }
        for block in &dictionaries {
            let bytes = block_bytes(&source, block)?;
            guarded(FORMAT, || decoder.read_dictionary(block, &bytes))?;
        }
        Ok(Self { source, decoder, types, batches, starts, kept: Mutex::default() })
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The record batches that rows lie in; of the others their heads, which tell their rows; and everything that is
    /// no record batch: dictionaries and footer.
    pub(super) fn parts_of(&self, rows: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::with_capacity(self.batches.len() + 1);
        let mut bodies: Vec<Range<u64>> = Vec::new();
        for (block, starts) in self.batches.iter().zip(self.starts.windows(2)) {
            let needed = starts[0] < rows.end && starts[1] > rows.start;
            if !needed {
                let body = block.offset() + i64::from(block.metaDataLength());
                bodies.push(body.cast_unsigned()..(body + block.bodyLength()).cast_unsigned());
            }
        }
        bodies.sort_by_key(|body| body.start);
        let mut next = 0;
        for body in bodies {
            if body.start > next {
                parts.push(next..body.start);
            }
            next = next.max(body.end);
        }
        parts.push(next.min(self.bytes())..self.bytes());
        parts
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

    /// A record batch, decoded; the last ones are kept.
    fn batch(&self, number: usize) -> Result<RecordBatch, TableError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, batch)) = kept().iter().find(|(kept, _)| *kept == number) {
            return Ok(batch.clone());
        }
        let block = self.batches.get(number).ok_or_else(|| bad("there is no such record batch"))?;
        let bytes = block_bytes(&self.source, block)?;
        let batch = guarded(FORMAT, || self.decoder.read_record_batch(block, &bytes))?;
        let rows = self.starts[number + 1] - self.starts[number];
        let batch = batch.filter(|batch| batch.num_rows() as u64 == rows);
        let batch = batch.ok_or_else(|| bad("a record batch has other rows than its header says"))?;
        let mut kept = kept();
        kept.push_back((number, batch.clone()));
        while kept.len() > BATCHES_KEPT {
            kept.pop_front();
        }
        Ok(batch)
    }

    /// Up to a block of rows, with these columns.
    fn rows_of(&self, rows: &Range<u64>, columns: &[usize]) -> Result<RecordBatch, TableError> {
        let mut parts = Vec::new();
        let mut at = rows.start;
        while at < rows.end {
            let number = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
            let end = self.starts.get(number + 1).copied().unwrap_or(at).min(rows.end);
            if end <= at {
                return Err(bad("it has fewer rows than its footer says"));
            }
            let batch = self.batch(number)?;
            let part = guarded(FORMAT, || {
                let offset = usize::try_from(at - self.starts[number]).unwrap_or(usize::MAX);
                resolved(&batch.project(columns)?.slice(offset, (end - at) as usize))
            })?;
            parts.push(part);
            at = end;
        }
        match &parts[..] {
            [one] => Ok(one.clone()),
            [] => Err(bad("there are no such rows")),
            [first, ..] => guarded(FORMAT, || concat_batches(&first.schema(), &parts)),
        }
    }
}

/// Rows of a file, block by block.
pub(super) struct IpcRows {
    file: Arc<IpcFile>,
    columns: Vec<usize>,
    rows: Range<u64>,
}

impl IpcRows {
    pub(super) fn new(file: Arc<IpcFile>, columns: Vec<usize>, rows: Range<u64>) -> Self {
        Self { file, columns, rows }
    }

    /// The next rows, up to a block.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        let end = self.rows.end.min(self.rows.start + BLOCK_ROWS);
        let batch = self.file.rows_of(&(self.rows.start..end), &self.columns)?;
        self.rows.start = end;
        Ok(Some(batch))
    }
}

/// Checks that a block lies in the file and is not too large.
fn check_block(block: &Block, data_end: u64) -> Result<(), TableError> {
    let place = u64::try_from(block.offset()).ok();
    let lens = u64::try_from(block.metaDataLength()).ok().zip(u64::try_from(block.bodyLength()).ok());
    let end = place.zip(lens).and_then(|(start, (head, body))| start.checked_add(head)?.checked_add(body));
    if end.is_none_or(|end| end > data_end) {
        return Err(bad("a record batch does not lie in the file"));
    }
    match lens {
        Some((head, body)) if head <= FOOTER_BYTES_MAX && body <= BATCH_BYTES_MAX => Ok(()),
        _ => Err(invalid(
            FORMAT,
            format_args!("a record batch has more than {BATCH_BYTES_MAX} bytes; write smaller ones"),
        )),
    }
}

fn block_bytes(source: &Source, block: &Block) -> Result<Buffer, TableError> {
    let len = i64::from(block.metaDataLength()) + block.bodyLength();
    let bytes = source.read(block.offset().cast_unsigned(), usize::try_from(len).unwrap_or(usize::MAX));
    Ok(Buffer::from(bytes.map_err(|error| invalid(FORMAT, error))?))
}

/// The number of rows that a record batch's header tells.
fn rows_of_block(source: &Source, block: &Block) -> Result<u64, String> {
    let head = usize::try_from(block.metaDataLength()).map_err(|error| error.to_string())?;
    let bytes = source.read(block.offset().cast_unsigned(), head).map_err(|error| error.to_string())?;
    let skipped = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
    let message = bytes.get(skipped..).ok_or("a message is cut off")?;
    let message = arrow_ipc::root_as_message(message).map_err(|error| error.to_string())?;
    let batch = message.header_as_record_batch().ok_or("a message is no record batch")?;
    if batch.compression().is_some() {
        return Err("its record batches are compressed, which is not read; write them without compression".into());
    }
    u64::try_from(batch.length()).map_err(|_| "a record batch has less than no rows".into())
}

/// Whether a type has a dictionary in a place where it is not resolved: within another type, or of nested values.
fn has_odd_dictionary(ty: &DataType, top: bool) -> bool {
    match ty {
        DataType::Dictionary(_, value) => !top || value.is_nested() || matches!(**value, DataType::Dictionary(..)),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_odd_dictionary(field.data_type(), false)
        }
        DataType::ListView(field) | DataType::LargeListView(field) | DataType::Map(field, _) => {
            has_odd_dictionary(field.data_type(), false)
        }
        DataType::RunEndEncoded(_, field) => has_odd_dictionary(field.data_type(), false),
        DataType::Struct(fields) => fields.iter().any(|field| has_odd_dictionary(field.data_type(), false)),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_odd_dictionary(field.data_type(), false)),
        _ => false,
    }
}

/// The rows with each dictionary's values in its place.
fn resolved(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let column = match column.as_any_dictionary_opt() {
            None => Arc::clone(column),
            Some(dictionary) => {
                check_length(dictionary.values(), &dictionary.normalized_keys())?;
                take(dictionary.values(), dictionary.keys(), None)?
            }
        };
        let ty = column.data_type().clone();
        fields.push(Field::new(field.name(), ty, field.is_nullable()).with_metadata(field.metadata().clone()));
        columns.push(column);
    }
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// Refuses a dictionary whose values, each written out, would take too much.
fn check_length(values: &dyn Array, keys: &[usize]) -> Result<(), ArrowError> {
    let total = |len: &dyn Fn(usize) -> usize| keys.iter().map(|key| len(*key) as u64).sum::<u64>();
    let bytes = match values.data_type() {
        DataType::Utf8 => total(&|key| values.as_string::<i32>().value(key).len()),
        DataType::LargeUtf8 => total(&|key| values.as_string::<i64>().value(key).len()),
        DataType::Binary => total(&|key| values.as_binary::<i32>().value(key).len()),
        DataType::LargeBinary => total(&|key| values.as_binary::<i64>().value(key).len()),
        _ => 0,
    };
    if bytes > BLOCK_BYTES_MAX {
        return Err(ArrowError::ParseError(format!("a block of rows takes more than {BLOCK_BYTES_MAX} bytes")));
    }
    Ok(())
}
