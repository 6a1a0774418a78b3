//! Where blocks of rows begin in a file, found in one pass without keeping the file.

use super::json_record::is_blank;
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

/// Where in a CSV record the bytes so far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the file, all of them, look like a byte order mark.
    Start(usize),
    /// Between records (or, for JSON-lines, in the blanks before one).
    Between,
    /// In a record, not in quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// After a quote within quotes: the end of them, or half of a doubled one.
    QuoteInQuoted,
}

/// Finds the records of a file whose bytes come in pieces of any size. Memory is eight bytes a block.
#[derive(Clone, Debug)]
pub struct RecordIndexer {
    format: TableFormat,
    delimiter: u8,
    state: State,
    /// Bytes before the piece at hand.
    offset: u64,
    /// Last byte of the piece before.
    last: u8,
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
            offset: 0,
            last: 0,
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
        let Some(last) = bytes.last() else { return Ok(()) };
        let start = self.skip_mark(bytes);
        if start < bytes.len() {
            match self.format {
                TableFormat::Csv => self.push_csv(bytes, start)?,
                TableFormat::Ndjson => self.push_json(bytes, start)?,
                other => not_columnar(other)?,
            }
        }
        self.offset += bytes.len() as u64;
        self.last = *last;
        if !matches!(self.state, State::Between | State::Start(_)) {
            self.check_length(self.offset)?;
        }
        Ok(())
    }

    /// The end of the file.
    pub fn finish(mut self) -> Result<RecordIndex, TableError> {
        if matches!(self.state, State::Start(1..)) {
            self.begin_record(0);
            self.state = State::Plain;
        }
        if !matches!(self.state, State::Between | State::Start(_)) {
            self.end_record(self.offset)?;
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
            self.begin_record(0);
            self.state = State::Plain;
        }
        equal
    }

    fn push_csv(&mut self, bytes: &[u8], mut position: usize) -> Result<(), TableError> {
        while position < bytes.len() {
            match self.state {
                State::Start(_) | State::Between => match bytes[position] {
                    b'\n' => {
                        self.line_feeds += 1;
                        position += 1;
                    }
                    b'\r' => position += 1,
                    first => {
                        self.begin_record(self.offset + position as u64);
                        position += 1;
                        self.state = if first == b'"' { State::Quoted } else { State::Plain };
                    }
                },
                State::Plain => {
                    let Some(found) = memchr::memchr3(b'"', b'\n', b'\r', &bytes[position..]) else { break };
                    let at = position + found;
                    if bytes[at] == b'"' {
                        // A quote opens only where a field begins. The start of a record is not seen here.
                        let before = if at == 0 { self.last } else { bytes[at - 1] };
                        if before == self.delimiter {
                            self.state = State::Quoted;
                        }
                        position = at + 1;
                    } else {
                        self.end_record(self.offset + at as u64)?;
                        self.state = State::Between;
                        position = at;
                    }
                }
                State::Quoted => {
                    let Some(found) = memchr::memchr2(b'"', b'\n', &bytes[position..]) else { break };
                    position += found + 1;
                    if bytes[position - 1] == b'"' {
                        self.state = State::QuoteInQuoted;
                    } else {
                        self.line_feeds += 1;
                    }
                }
                State::QuoteInQuoted if bytes[position] == b'"' => {
                    position += 1;
                    self.state = State::Quoted;
                }
                State::QuoteInQuoted => self.state = State::Plain,
            }
        }
        Ok(())
    }

    fn push_json(&mut self, bytes: &[u8], mut position: usize) -> Result<(), TableError> {
        while position < bytes.len() {
            if self.state == State::Plain {
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
                self.begin_record(self.offset + position as u64);
                self.state = State::Plain;
            }
        }
        Ok(())
    }

    fn begin_record(&mut self, offset: u64) {
        self.record_start = offset;
        self.record_line = self.line_feeds + 1;
        if self.header {
            return;
        }
        if self.records.is_multiple_of(BLOCK_ROWS) {
            self.blocks.push(offset);
        }
        self.records += 1;
    }

    fn end_record(&mut self, end: u64) -> Result<(), TableError> {
        self.check_length(end)?;
        self.header = false;
        Ok(())
    }

    /// Checks the record at hand, of which `end` is the end so far.
    fn check_length(&self, end: u64) -> Result<(), TableError> {
        if end - self.record_start > RECORD_BYTES_MAX {
            let in_quotes = matches!(self.state, State::Quoted | State::QuoteInQuoted);
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
