//! Where blocks of rows begin in a file, found in one pass without keeping the file.

use super::json_record::is_blank;
use super::scan::{self, BLOCK, Marks, WINDOW, scan};
use super::{BLOCK_BYTES_MAX, BOM, RECORD_BYTES_MAX, TableError, check_delimiter, not_columnar};
use crate::BLOCK_ROWS;
use crate::spec::{TableFormat, TableSchema};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Where a table's blocks are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordIndex {
    /// Byte offset of the first record of each block of [`BLOCK_ROWS`] rows.
    pub blocks: Vec<u64>,
    /// Rows in all; a CSV header is none.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl RecordIndex {
    /// The bytes of a shard: `first_row` is a multiple of [`BLOCK_ROWS`], and so is `rows` unless the table ends there.
    /// `None` where that is not so.
    pub fn range(&self, first_row: u64, rows: u64) -> Option<Range<u64>> {
        let end_row = first_row.checked_add(rows)?;
        if !first_row.is_multiple_of(BLOCK_ROWS) || first_row >= self.records || rows == 0 {
            return None;
        }
        let block = |row: u64| self.blocks.get(usize::try_from(row / BLOCK_ROWS).ok()?).copied();
        let end = match end_row {
            end if end == self.records => self.bytes,
            end if end < self.records && end.is_multiple_of(BLOCK_ROWS) => block(end)?,
            _ => return None,
        };
        Some(block(first_row)?..end)
    }
}

/// Where the bytes so far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the file, all of them, look like a byte order mark.
    Start(usize),
    /// Between records (or, for JSON-lines, in the blanks before one).
    Between,
    /// In a record.
    Within,
}

/// Finds the records of a file whose bytes come in pieces of any size. Memory is eight bytes a block.
#[derive(Clone, Debug)]
pub struct RecordIndexer {
    format: TableFormat,
    delimiter: u8,
    state: State,
    /// What a quote would mean in CSV.
    quotes: scan::State,
    /// Bytes before the piece at hand.
    offset: u64,
    /// Line feeds so far.
    line_feeds: u64,
    record_start: u64,
    record_line: u64,
    /// Whether the first record is still to come, or open, and names the columns.
    header: bool,
    blocks: Vec<u64>,
    records: u64,
}

impl RecordIndexer {
    /// For a file of this schema.
    pub fn new(schema: &TableSchema) -> Result<Self, TableError> {
        Self::with_format(schema.format, schema.delimiter)
    }

    /// For a file whose schema is not known yet.
    pub fn with_format(format: TableFormat, delimiter: u8) -> Result<Self, TableError> {
        if format == TableFormat::Csv {
            check_delimiter(delimiter)?;
        }
        not_columnar(format)?;
        Ok(Self {
            format,
            delimiter,
            state: State::Start(0),
            quotes: scan::State::Open,
            offset: 0,
            line_feeds: 0,
            record_start: 0,
            record_line: 1,
            header: format == TableFormat::Csv,
            blocks: Vec::new(),
            records: 0,
        })
    }

    /// Offsets of the blocks that are known to begin: all but the last of them are complete.
    pub fn offsets(&self) -> &[u64] {
        &self.blocks
    }

    /// Rows that have begun.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TableError> {
        let start = self.skip_mark(bytes);
        if start < bytes.len() {
            match self.format {
                TableFormat::Csv => self.push_csv(bytes, start)?,
                TableFormat::Ndjson => self.push_json(bytes, start)?,
                other => not_columnar(other)?,
            }
        }
        self.offset += bytes.len() as u64;
        if self.state == State::Within {
            self.check_length(self.offset, self.quotes == scan::State::Quoted)?;
        }
        Ok(())
    }

    /// The end of the file.
    pub fn finish(mut self) -> Result<RecordIndex, TableError> {
        if matches!(self.state, State::Start(1..)) {
            self.begin_record(0, 0);
            self.state = State::Within;
        }
        if self.state == State::Within {
            self.check_length(self.offset, self.quotes == scan::State::Quoted)?;
        }
        Ok(RecordIndex { blocks: self.blocks, records: self.records, bytes: self.offset })
    }

    /// Passes over a byte order mark at the start of the file; gives where the piece goes on.
    fn skip_mark(&mut self, bytes: &[u8]) -> usize {
        let State::Start(seen) = self.state else { return 0 };
        let equal = BOM[seen..].iter().zip(bytes).take_while(|(mark, byte)| mark == byte).count();
        if seen + equal == BOM.len() {
            self.state = State::Between;
        } else if equal == bytes.len() {
            self.state = State::Start(seen + equal);
        } else if seen + equal == 0 {
            self.state = State::Between;
        } else {
            // Half a mark is text, and the record's first.
            self.begin_record(0, 0);
            self.state = State::Within;
            self.quotes = scan::State::Plain;
        }
        equal
    }

    fn push_csv(&mut self, bytes: &[u8], start: usize) -> Result<(), TableError> {
        let mut marks = Marks::NONE;
        let mut base = self.offset + start as u64;
        for window in bytes[start..].chunks(WINDOW) {
            self.quotes = scan(window, self.delimiter, self.quotes, &mut marks);
            for ((block, ends), line_feeds) in window.chunks(BLOCK).zip(marks.ends).zip(marks.line_feeds) {
                self.take_block(base, block.len(), ends, line_feeds)?;
                base += block.len() as u64;
            }
        }
        Ok(())
    }

    /// Takes in a block of up to [`BLOCK`] bytes from `base` on, of which these end records and feed lines.
    fn take_block(&mut self, base: u64, len: usize, ends: u64, line_feeds: u64) -> Result<(), TableError> {
        // A record begins with the first byte that ends none behind one that does, and ends with the next that does.
        let all = u64::MAX >> BLOCK.saturating_sub(len);
        let after_end = ends << 1 | u64::from(self.state != State::Within);
        let begins = !ends & after_end & all;
        let count = u64::from(begins.count_ones());
        let left_in_block = (BLOCK_ROWS - self.records % BLOCK_ROWS) % BLOCK_ROWS;
        let end = base + len as u64;
        let is_long = end - self.record_start > RECORD_BYTES_MAX
            || self.blocks.last().is_some_and(|block| end - block > BLOCK_BYTES_MAX);
        if self.header || is_long || count > left_in_block {
            let mut events = begins | (ends & !after_end);
            while events != 0 {
                let bit = events & events.wrapping_neg();
                let at = base + u64::from(bit.trailing_zeros());
                if begins & bit != 0 {
                    self.begin_record(at, line_feeds & bit.wrapping_sub(1));
                } else {
                    self.end_record(at)?;
                }
                events ^= bit;
            }
        } else if begins != 0 {
            let bit = begins.ilog2();
            self.records += count;
            self.record_start = base + u64::from(bit);
            self.record_line = self.line_after(line_feeds & ((1 << bit) - 1));
        }
        self.line_feeds += u64::from(line_feeds.count_ones());
        let ends_record = ends >> (len.saturating_sub(1) & 63) & 1 == 1;
        self.state = if ends_record { State::Between } else { State::Within };
        Ok(())
    }

    fn push_json(&mut self, bytes: &[u8], mut position: usize) -> Result<(), TableError> {
        while position < bytes.len() {
            if self.state == State::Within {
                let Some(found) = memchr::memchr(b'\n', &bytes[position..]) else { break };
                position += found;
                self.end_record(self.offset + position as u64)?;
                self.state = State::Between;
            } else if bytes[position] == b'\n' {
                self.line_feeds += 1;
                position += 1;
            } else if is_blank(bytes[position]) {
                position += 1;
            } else {
                self.begin_record(self.offset + position as u64, 0);
                self.state = State::Within;
            }
        }
        Ok(())
    }

    /// Line of a byte before which these bits are set for line feeds that are not counted yet.
    fn line_after(&self, line_feeds: u64) -> u64 {
        self.line_feeds + u64::from(line_feeds.count_ones()) + 1
    }

    /// A record begins at `offset`; `line_feeds` as [`Self::line_after`] takes them.
    fn begin_record(&mut self, offset: u64, line_feeds: u64) {
        self.record_start = offset;
        self.record_line = self.line_after(line_feeds);
        if self.header {
            return;
        }
        if self.records.is_multiple_of(BLOCK_ROWS) {
            self.blocks.push(offset);
        }
        self.records += 1;
    }

    fn end_record(&mut self, end: u64) -> Result<(), TableError> {
        self.check_length(end, false)?;
        self.header = false;
        Ok(())
    }

    /// Checks the record at hand, of which `end` is the end so far, `in_quotes` or not.
    fn check_length(&self, end: u64, in_quotes: bool) -> Result<(), TableError> {
        if end - self.record_start > RECORD_BYTES_MAX {
            return Err(TableError::RecordTooLong {
                place: if self.header { "the header".to_string() } else { format!("row {}", self.records) },
                line: self.record_line,
                max: RECORD_BYTES_MAX,
                hint: if in_quotes { "a quote is opened and never closed" } else { "is this a table of text?" },
            });
        }
        match self.blocks.last() {
            Some(block) if end - block > BLOCK_BYTES_MAX => Err(TableError::BlockTooLong {
                first: (self.records - 1) / BLOCK_ROWS * BLOCK_ROWS + 1,
                last: self.records,
                max: BLOCK_BYTES_MAX,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
