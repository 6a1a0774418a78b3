//! The schema of a table, guessed from its first records.

use super::cell::{CellKind, classify, parse_int};
use super::{
    BOM, COLUMNS_MAX, CsvCursor, Field, HEADER_BYTES_MAX, INFER_BYTES_MAX, INFER_ROWS_MAX, JsonCursor, KeySink,
    NOTES_MAX, RecordIndexer, TableError, check_delimiter, columnar, names, scan_object, shorten,
};
use crate::spec::{ColumnType, TableColumn, TableFormat, TableSchema};
use std::collections::HashMap;
use std::io::Read;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Whole numbers up to here are floats without loss.
const EXACT_INT_MAX: u64 = 1 << 53;

/// What is known before a byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferOptions {
    /// Form of the bytes.
    pub format: TableFormat,
    /// Separator of a CSV file.
    pub delimiter: u8,
}

impl Default for InferOptions {
    fn default() -> Self {
        Self { format: TableFormat::Csv, delimiter: b',' }
    }
}

/// A schema, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inferred {
    /// Names and types.
    pub schema: TableSchema,
    /// Rows that it was inferred from; the table may have more.
    pub rows_seen: u64,
    /// For people: replaced names, columns whose type may surprise. At most [`NOTES_MAX`] and one.
    pub notes: Vec<String>,
}

/// Infers the schema from the first [`INFER_ROWS_MAX`] records, or fewer where they take over [`INFER_BYTES_MAX`].
/// The reader is left somewhere behind them.
pub fn infer(mut reader: impl Read, options: InferOptions) -> Result<Inferred, TableError> {
    let mut indexer = RecordIndexer::with_format(options.format, options.delimiter)?;
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        let read = (&mut reader).take(READ_BYTES as u64).read_to_end(&mut bytes)?;
        if read == 0 {
            return infer_bytes(&bytes, true, options);
        }
        indexer.push(&bytes[start..])?;
        // One more than are wanted, so that the last one wanted is known to be whole.
        if indexer.records() > INFER_ROWS_MAX || bytes.len() >= INFER_BYTES_MAX {
            return infer_bytes(&bytes, false, options);
        }
    }
}

/// Infers the schema from the head of a file; `complete` says that it is the whole file.
pub fn infer_bytes(bytes: &[u8], complete: bool, options: InferOptions) -> Result<Inferred, TableError> {
    let body = bytes.strip_prefix(BOM).unwrap_or(bytes);
    match options.format {
        TableFormat::Csv => infer_csv(body, complete, options.delimiter),
        TableFormat::Ndjson => infer_json(body, complete),
        other => Err(TableError::NotText { format: columnar::format_name(other) }),
    }
}

/// What a column's cells looked like.
#[derive(Clone, Debug, Default)]
struct Seen {
    ints: u64,
    floats: u64,
    booleans: u64,
    texts: u64,
    /// `"NaN"`, `"inf"`, `"-inf"` as JSON strings: floats among numbers, else text.
    float_words: u64,
    nested: u64,
    /// A whole number that no float has, as text.
    inexact: Option<String>,
    /// Row from 1 and text of the first cell that is text.
    first_text: Option<(u64, String)>,
}

impl Seen {
    fn cell(&mut self, cell: &[u8], row: u64) {
        match classify(cell) {
            CellKind::Empty => {}
            CellKind::Boolean => self.booleans += 1,
            CellKind::Text => self.text(cell, row),
            CellKind::Int => {
                self.ints += 1;
                let large = |value: i64| value.unsigned_abs() > EXACT_INT_MAX;
                if self.inexact.is_none() && parse_int(cell).is_some_and(large) {
                    self.inexact = Some(shorten(cell));
                }
            }
            CellKind::Float => {
                self.floats += 1;
                // Whole numbers beyond i64; `-0` is none.
                let digits = cell.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b' ' | b'\t'));
                if self.inexact.is_none() && digits && cell.len() > 3 {
                    self.inexact = Some(shorten(cell));
                }
            }
        }
    }

    fn text(&mut self, cell: &[u8], row: u64) {
        self.texts += 1;
        if self.first_text.is_none() {
            self.first_text = Some((row, shorten(cell)));
        }
    }

    fn json(&mut self, json: &str, row: u64) {
        match json.as_bytes() {
            b"null" => {}
            [b'"', ..] if matches!(json, "\"NaN\"" | "\"inf\"" | "\"-inf\"") => self.float_words += 1,
            [b'"', ..] => self.text(json.as_bytes(), row),
            [b'{' | b'[', ..] => self.nested += 1,
            token => self.cell(token, row),
        }
    }

    fn ty(&self) -> ColumnType {
        match (self.ints, self.floats + self.float_words, self.booleans, self.texts + self.nested) {
            (1.., 0, 0, 0) => ColumnType::Int,
            (_, 1.., 0, 0) if self.ints + self.floats > 0 => ColumnType::Float,
            (0, 0, 1.., 0) => ColumnType::Boolean,
            _ => ColumnType::String,
        }
    }

    /// What a person should know about the column, if anything.
    fn note(&self, name: &str, rows: u64) -> Option<String> {
        let numbers = self.ints + self.floats;
        let filled = numbers + self.booleans + self.texts + self.float_words + self.nested;
        if self.nested > 0 {
            return Some(format!("column {name:?} holds objects or arrays, which a formula can't read"));
        }
        match self.ty() {
            ColumnType::String if filled == 0 && rows > 0 => {
                Some(format!("column {name:?} is empty so far and taken as string; --types {name}=float reads numbers"))
            }
            ColumnType::String if numbers > 0 && self.texts > 0 => {
                let (row, text) = self.first_text.as_ref()?;
                Some(format!(
                    "column {name:?} is taken as string: {numbers} of {filled} cells are numbers, but row {row} holds {text}"
                ))
            }
            ColumnType::String if numbers > 0 || (self.booleans > 0 && self.texts > 0) => {
                Some(format!("column {name:?} mixes types and is taken as string"))
            }
            ColumnType::Float => self.inexact.as_ref().map(|digits| {
                format!("column {name:?} is float, which rounds whole numbers such as {digits}; --types {name}=string keeps them")
            }),
            _ => None,
        }
    }
}

fn infer_csv(bytes: &[u8], complete: bool, delimiter: u8) -> Result<Inferred, TableError> {
    check_delimiter(delimiter)?;
    let mut cursor = CsvCursor::new(bytes, delimiter);
    let mut fields = Vec::new();
    let header = cursor.next_record(&mut fields, COLUMNS_MAX).ok_or(TableError::NoHeader)?;
    if header.fields > COLUMNS_MAX {
        return Err(TableError::TooManyColumns { max: COLUMNS_MAX });
    }
    if header.range.len() > HEADER_BYTES_MAX {
        return Err(TableError::HeaderTooLong { max: HEADER_BYTES_MAX });
    }
    let headers = fields.iter().map(|field| header_text(field, bytes)).collect::<Result<Vec<_>, _>>()?;
    let mut seen = vec![Seen::default(); headers.len()];
    let mut rows = 0;
    let mut ragged = None;
    while rows < INFER_ROWS_MAX {
        let Some(record) = cursor.next_record(&mut fields, headers.len()) else { break };
        if !complete && record.range.end == bytes.len() {
            break;
        }
        rows += 1;
        for (field, seen) in fields.iter().zip(&mut seen) {
            seen.cell(&field.text(bytes), rows);
        }
        if record.fields != headers.len() {
            ragged.get_or_insert((rows, record.fields));
        }
    }
    let mut notes = Vec::new();
    if let Some((row, fields)) = ragged {
        notes.push(format!("row {row} has {fields} fields, but the header has {}; such rows fail", headers.len()));
    }
    Ok(finish(TableFormat::Csv, delimiter, headers, &seen, rows, notes))
}

fn header_text(field: &Field, bytes: &[u8]) -> Result<String, TableError> {
    String::from_utf8(field.text(bytes).into_owned()).map_err(|_| TableError::HeaderEncoding {
        hint: if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            ", it seems to be UTF-16"
        } else {
            ""
        },
    })
}

/// The keys of all objects so far.
#[derive(Default)]
struct Keys<'a> {
    headers: Vec<String>,
    header_bytes: usize,
    by_name: HashMap<String, usize>,
    seen: Vec<Seen>,
    /// Values of the record at hand; it counts only as a whole.
    values: Vec<(usize, &'a str)>,
}

impl Keys<'_> {
    /// Forgets the record at hand, and the keys from `known` on that came with it.
    fn forget(&mut self, known: usize) {
        self.values.clear();
        self.seen.truncate(known);
        for key in self.headers.drain(known..) {
            self.header_bytes -= key.len();
            self.by_name.remove(&key);
        }
    }
}

impl<'a> KeySink<'a> for Keys<'a> {
    fn key(&mut self, key: &str) -> Option<usize> {
        if let Some(slot) = self.by_name.get(key) {
            return Some(*slot);
        }
        // Over the limits nothing more is kept; the caller refuses the table.
        if self.headers.len() <= COLUMNS_MAX && self.header_bytes <= HEADER_BYTES_MAX {
            let slot = self.headers.len();
            self.header_bytes += key.len();
            self.headers.push(key.to_string());
            self.by_name.insert(key.to_string(), slot);
            self.seen.push(Seen::default());
            return Some(slot);
        }
        None
    }

    fn value(&mut self, slot: usize, json: &'a str) {
        self.values.push((slot, json));
    }
}

fn infer_json(bytes: &[u8], complete: bool) -> Result<Inferred, TableError> {
    let mut cursor = JsonCursor::new(bytes);
    let mut keys = Keys::default();
    let (mut rows, mut bad_rows, mut first_bad) = (0, 0, None);
    while rows < INFER_ROWS_MAX {
        let Some(range) = cursor.next_record() else { break };
        if !complete && !cursor.is_complete(range.end) {
            break;
        }
        rows += 1;
        let known = keys.headers.len();
        let result = scan_object(&bytes[range.clone()], &mut keys);
        if keys.headers.len() > COLUMNS_MAX {
            return Err(TableError::TooManyColumns { max: COLUMNS_MAX });
        }
        if keys.header_bytes > HEADER_BYTES_MAX {
            return Err(TableError::HeaderTooLong { max: HEADER_BYTES_MAX });
        }
        match result {
            Ok(()) => {
                for (slot, json) in keys.values.drain(..) {
                    keys.seen[slot].json(json, rows);
                }
            }
            Err(reason) => {
                keys.forget(known);
                bad_rows += 1;
                first_bad.get_or_insert((rows, range.start, reason));
            }
        }
    }
    let mut notes = Vec::new();
    if let Some((row, start, reason)) = first_bad {
        if bad_rows == rows {
            let line = memchr::memchr_iter(b'\n', &bytes[..start]).count() as u64 + 1;
            return Err(TableError::NotJsonLines { line, reason });
        }
        notes.push(format!("row {row} is no JSON object: {reason}; such rows fail"));
    } else if rows == 0 {
        return Err(TableError::NoRecords);
    }
    Ok(finish(TableFormat::Ndjson, b',', keys.headers, &keys.seen, rows, notes))
}

fn finish(
    format: TableFormat,
    delimiter: u8,
    headers: Vec<String>,
    seen: &[Seen],
    rows_seen: u64,
    mut notes: Vec<String>,
) -> Inferred {
    let variables = names::variables(&headers);
    for (index, (header, variable)) in headers.iter().zip(&variables).enumerate() {
        if header.trim() != variable {
            notes.push(format!("column {} {}: formulas call it {variable}", index + 1, shorten(header.as_bytes())));
        }
    }
    notes.extend(variables.iter().zip(seen).filter_map(|(variable, seen)| seen.note(variable, rows_seen)));
    if notes.len() > NOTES_MAX {
        let more = notes.len() - NOTES_MAX;
        notes.truncate(NOTES_MAX);
        notes.push(format!("and {more} more such notes"));
    }
    let columns = headers
        .into_iter()
        .zip(variables)
        .zip(seen)
        .map(|((name, variable), seen)| TableColumn { name, variable, ty: seen.ty() })
        .collect();
    Inferred { schema: TableSchema { format, delimiter, columns, arrow: None }, rows_seen, notes }
}

#[cfg(test)]
#[path = "infer_tests.rs"]
mod tests;
