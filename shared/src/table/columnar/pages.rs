//! The pages of a column, each checked before it is decoded.
//!
//! The headers of a chunk's pages are walked first, without their bodies: so it is known which rows each holds (and a
//! page of other rows is never read), and that none declares more than its limit. What a page says of its own content
//! is checked once it is decompressed, where the decoders would allocate as it says.

use super::source::SharedSource;
use super::thrift::{PageHeader, Trouble};
use super::{DECODED_BYTES_MAX, PAGE_HEADER_BYTES_MAX};
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::serialized_reader::SerializedPageReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in which most headers of pages fit.
const HEADER_BYTES_GUESS: usize = 512;

/// What is decompressed for one block of rows, over all columns.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    /// A block begins.
    pub(super) fn begin(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> Result<()> {
        let before = self.0.fetch_add(bytes as u64, Ordering::Relaxed);
        if before.saturating_add(bytes as u64) > DECODED_BYTES_MAX {
            return Err(general(format!("the pages of one block of rows take more than {DECODED_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

pub(super) fn general(reason: impl Into<String>) -> ParquetError {
    ParquetError::General(reason.into())
}

/// Walks over the headers of a chunk's pages; gives where each data page is and which row it begins with (or, in a
/// nested column, which value).
fn walk(source: &SharedSource, chunk: &ColumnChunkMetaData) -> Result<Vec<PageLocation>> {
    let (start, len) = chunk.byte_range();
    let end = start.saturating_add(len);
    let mut locations = Vec::new();
    let (mut at, mut values) = (start, 0_i64);
    while at < end {
        let header = read_header(source, at, end)?;
        let header_len = header.header_len as u64;
        let size = header_len + header.compressed.cast_unsigned();
        if size > end - at {
            return Err(general("a page is longer than its column"));
        }
        if header.is_data() {
            let compressed_page_size = i32::try_from(size).map_err(|error| general(error.to_string()))?;
            locations.push(PageLocation { offset: at.cast_signed(), compressed_page_size, first_row_index: values });
            values = values.saturating_add(header.values);
        } else if header.kind != 2 || at != start {
            // What stands before the first data page is taken for a dictionary, and nothing may stand between them.
            return Err(general("a column has a page of another kind between its rows"));
        }
        at += size;
    }
    if values != chunk.num_values() {
        return Err(general(format!("a column has {values} values of {}", chunk.num_values())));
    }
    Ok(locations)
}

fn read_header(source: &SharedSource, at: u64, end: u64) -> Result<PageHeader> {
    let mut len = HEADER_BYTES_GUESS;
    loop {
        let there = usize::try_from(end - at).unwrap_or(usize::MAX).min(len);
        let bytes = source.0.read(at, there).map_err(|error| general(error.to_string()))?;
        match PageHeader::read(&bytes) {
            Ok(header) => return Ok(header),
            Err(Trouble::Short) if there == len && len < PAGE_HEADER_BYTES_MAX => len *= 4,
            Err(Trouble::Short) => return Err(general("the header of a page is cut off or too long")),
            Err(Trouble::Bad(reason)) => return Err(general(reason)),
        }
    }
}

/// Pages of one chunk.
pub(super) struct CheckedPages {
    inner: SerializedPageReader<SharedSource>,
    /// Highest repetition and definition level.
    levels: [i16; 2],
    budget: Arc<Budget>,
}

impl CheckedPages {
    /// The pages of a column of a row group.
    pub(super) fn open(
        source: &SharedSource,
        group: &RowGroupMetaData,
        column: usize,
        budget: Arc<Budget>,
    ) -> Result<Self> {
        let chunk = group.columns().get(column).ok_or_else(|| general("there is no such column"))?;
        let descriptor = chunk.column_descr();
        let locations = walk(source, chunk)?;
        let rows = usize::try_from(group.num_rows()).map_err(|error| general(error.to_string()))?;
        // In a nested column only the levels tell which rows a page holds.
        let locations = (descriptor.max_rep_level() == 0).then_some(locations);
        let inner = SerializedPageReader::new(Arc::new(source.clone()), chunk, rows, locations)?;
        Ok(Self { inner, levels: [descriptor.max_rep_level(), descriptor.max_def_level()], budget })
    }

    /// Checks a page whose content is at hand.
    fn check(&self, page: &Page) -> Result<()> {
        self.budget.take(page.buffer().len())?;
        match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                // A value takes a byte at least; there are no dictionaries of booleans.
                if *num_values as usize > buf.len() {
                    return Err(general("a dictionary has fewer bytes than values"));
                }
                Ok(())
            }
            Page::DataPage { buf, num_values, encoding, .. } => {
                check_values(*encoding, after_levels(buf, self.levels)?, *num_values)
            }
            Page::DataPageV2 { buf, num_values, encoding, rep_levels_byte_len, def_levels_byte_len, .. } => {
                let levels = (*rep_levels_byte_len as usize).saturating_add(*def_levels_byte_len as usize);
                if levels > buf.len() {
                    return Err(general("a page is shorter than its levels"));
                }
                check_values(*encoding, buf.slice(levels..), *num_values)
            }
        }
    }
}

/// The values of a page of version 1, whose levels say themselves how long they are.
fn after_levels(buf: &Bytes, levels: [i16; 2]) -> Result<Bytes> {
    let mut rest = buf.clone();
    for _ in levels.iter().filter(|level| **level > 0) {
        let head = rest.get(..4).and_then(|head| head.try_into().ok()).map(u32::from_le_bytes);
        let len = head.map(|len| len as usize).filter(|len| *len <= rest.len() - 4);
        let len = len.ok_or_else(|| general("a page is shorter than its levels"))?;
        rest = rest.slice(4 + len..);
    }
    Ok(rest)
}

/// Checks the number of values of encodings whose decoders believe it.
fn check_values(encoding: Encoding, mut values: Bytes, page_values: u32) -> Result<()> {
    // Prefixes and suffixes of the last one follow each other; the crate checks the second against the first.
    let delta = matches!(
        encoding,
        Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY
    );
    if !delta || values.is_empty() {
        return Ok(());
    }
    let mut number = || {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *values.first()?;
            values = values.slice(1..);
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    let (block, minis, count) = (number(), number(), number());
    let fits = block.zip(minis).zip(count).is_some_and(|((block, minis), count)| {
        block <= u64::from(u32::MAX) && minis <= block && count <= u64::from(page_values)
    });
    if fits { Ok(()) } else { Err(general("a page says more values of its encoding than it has")) }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.inner.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.inner.take_deferred_dictionary()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}
