//! A shard's bytes as blocks of rows: the worker's side.

use super::cell::{parse_boolean, parse_float, parse_int, plain_float, plain_int, trim, type_that_reads};
use super::columnar::format_name;
use super::{
    CsvCursor, Field, JsonCursor, KeySink, RECORD_BYTES_MAX, STRING_CELL_BYTES_MAX, TableError, check_delimiter,
    scan_object, shorten,
};
use crate::BLOCK_ROWS;
use crate::block::{Block, Column, RowError};
use crate::spec::{ColumnType, RowFormat, TableColumn, TableFormat, TableSchema};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// Strings of one block keep their allocation for the next one up to here; longer ones give it back.
const STRING_KEPT_BYTES: usize = 256;

/// Stable codes of rows that can't be read.
pub(crate) mod code {
    /// A cell does not fit its column's type.
    pub(crate) const CELL_TYPE: &str = "cell_type";
    /// A CSV record has fewer fields than the header.
    pub(crate) const MISSING_CELL: &str = "missing_cell";
    /// A CSV record has more fields than the header.
    pub(crate) const EXTRA_CELLS: &str = "extra_cells";
    /// A quote is open at the end of the file.
    pub(crate) const UNCLOSED_QUOTE: &str = "unclosed_quote";
    /// Text that is not UTF-8.
    pub(crate) const INVALID_UTF8: &str = "invalid_utf8";
    /// Text longer than a formula may read.
    pub(crate) const CELL_TOO_LONG: &str = "cell_too_long";
    /// A line that is no JSON object.
    pub(crate) const BAD_RECORD: &str = "bad_record";
    /// An object has a key that the output's columns don't have.
    pub(crate) const NEW_KEY: &str = "new_key";
    /// An object has a key with the name of the result.
    pub(crate) const NAME_TAKEN: &str = "name_taken";
}

/// Reads rows as a schema says.
#[derive(Debug)]
pub struct TableReader<'a> {
    bytes: &'a [u8],
    next_row: u64,
    wanted: Vec<Wanted>,
    form: Form<'a>,
}

/// A column that the formula reads.
#[derive(Debug)]
struct Wanted {
    index: usize,
    column: TableColumn,
}

#[derive(Debug)]
enum Form<'a> {
    Csv { cursor: Box<CsvCursor<'a>>, fields: Vec<Field>, columns: usize, fields_max: usize },
    Ndjson { cursor: JsonCursor<'a>, keys: Keys<'a> },
}

/// What is wrong with a row or a cell.
struct Fault {
    code: &'static str,
    message: String,
}

impl<'a> TableReader<'a> {
    /// Reads `bytes`, whose first record is row `first_row` (a multiple of [`BLOCK_ROWS`]; a CSV header is not among
    /// them), and of it the columns `wanted`, by their indexes in the schema, each once.
    pub fn new(schema: &TableSchema, wanted: &[usize], bytes: &'a [u8], first_row: u64) -> Result<Self, TableError> {
        let bad = |reason: String| TableError::BadSchema { reason };
        if !first_row.is_multiple_of(BLOCK_ROWS) {
            return Err(bad(format!("row {first_row} does not begin a block")));
        }
        let column = |(slot, index): (usize, &usize)| match schema.columns.get(*index) {
            Some(column) if !wanted[..slot].contains(index) => Ok(Wanted { index: *index, column: column.clone() }),
            _ => Err(bad(format!("column {index} is wanted twice or does not exist"))),
        };
        let wanted: Vec<Wanted> = wanted.iter().enumerate().map(column).collect::<Result<_, _>>()?;
        let form = match schema.format {
            TableFormat::Csv => {
                check_delimiter(schema.delimiter)?;
                let fields_max = wanted.iter().map(|wanted| wanted.index + 1).max().unwrap_or(0);
                let cursor = Box::new(CsvCursor::new(bytes, schema.delimiter));
                Form::Csv { cursor, fields: Vec::new(), columns: schema.columns.len(), fields_max }
            }
            TableFormat::Ndjson => Form::Ndjson { cursor: JsonCursor::new(bytes), keys: Keys::new(schema, &wanted) },
            other => return Err(TableError::NotText { format: format_name(other) }),
        };
        Ok(Self { bytes, next_row: first_row, wanted, form })
    }

    /// Makes errors of the rows that this output could not keep: JSON objects with the result's `name` among their
    /// keys, and, where CSV comes out of JSON-lines, with keys that inference has not seen.
    pub fn for_output(mut self, format: RowFormat, name: &str) -> Self {
        if let Form::Ndjson { keys, .. } = &mut self.form {
            match format {
                RowFormat::Csv => keys.refuse_new = true,
                RowFormat::Ndjson => keys.output_name = Some(name.to_string()),
                RowFormat::Plain | RowFormat::Parquet | RowFormat::Arrow => {}
            }
        }
        self
    }

    /// Reads up to [`BLOCK_ROWS`] rows, with one column for each that is wanted, and tells where each record stands in
    /// the bytes, without its line end. Gives how many rows there were, 0 at the end.
    pub fn next_block(&mut self, block: &mut Block, records: &mut Vec<Range<usize>>) -> Result<usize, TableError> {
        records.clear();
        block.bad_rows.clear();
        block.first_row = self.next_row;
        block.columns.resize_with(self.wanted.len(), || Column::Int(Vec::new()));
        block.nulls.clear();
        block.nulls.resize(self.wanted.len(), None);
        for (column, wanted) in block.columns.iter_mut().zip(&self.wanted) {
            prepare(column, wanted.column.ty);
        }
        let mut rows = 0;
        while (rows as u64) < BLOCK_ROWS {
            let Some(range) = self.read_row(block, rows)? else { break };
            records.push(range);
            rows += 1;
        }
        for column in &mut block.columns {
            truncate(column, rows);
        }
        for nulls in block.nulls.iter_mut().flatten() {
            nulls.resize(rows, false);
        }
        block.len = rows;
        self.next_row += rows as u64;
        Ok(rows)
    }

    /// Reads one row into the block.
    fn read_row(&mut self, block: &mut Block, row: usize) -> Result<Option<Range<usize>>, TableError> {
        let (range, fault) = match &mut self.form {
            Form::Csv { cursor, fields, columns, fields_max } => {
                let Some(record) = cursor.next_record(fields, *fields_max) else { return Ok(None) };
                let mut fault = csv_fault(&record, *columns);
                for (slot, wanted) in self.wanted.iter().enumerate() {
                    let field = fields.get(wanted.index);
                    if field.is_some_and(|field| push_plain(&mut block.columns[slot], field.raw(self.bytes))) {
                        continue;
                    }
                    let cell = field.map_or(Cow::Borrowed(&b""[..]), |field| field.text(self.bytes));
                    let result = set_text(&mut block.columns[slot], row, &wanted.column, &cell);
                    note_cell(result, &mut block.nulls[slot], row, &mut fault);
                }
                (record.range, fault)
            }
            Form::Ndjson { cursor, keys } => {
                let Some(range) = cursor.next_record() else { return Ok(None) };
                let mut fault = keys.scan(&self.bytes[range.clone()]);
                for (slot, wanted) in self.wanted.iter().enumerate() {
                    let result = set_json(&mut block.columns[slot], row, &wanted.column, keys.values[slot]);
                    note_cell(result, &mut block.nulls[slot], row, &mut fault);
                }
                (range, fault)
            }
        };
        let number = block.first_row + row as u64;
        if range.len() as u64 > RECORD_BYTES_MAX {
            // The indexer has refused such a file, so that this one is not what was indexed.
            let place = format!("row {}", number + 1);
            let line = memchr::memchr_iter(b'\n', &self.bytes[..range.start]).count() as u64 + 1;
            return Err(TableError::RecordTooLong {
                place,
                line,
                max: RECORD_BYTES_MAX,
                hint: "has the file changed?",
            });
        }
        if let Some(Fault { code, message }) = fault {
            let message = format!("row {}: {message}", number + 1);
            block.bad_rows.push(RowError { row: number, code: code.to_string(), message });
        }
        Ok(Some(range))
    }
}

/// What is wrong with a record whatever its cells hold.
fn csv_fault(record: &super::csv_record::CsvRecord, columns: usize) -> Option<Fault> {
    let fields = record.fields;
    let (code, message) = if record.unclosed {
        (code::UNCLOSED_QUOTE, "a quote is opened and never closed".to_string())
    } else if fields < columns {
        (code::MISSING_CELL, format!("it has {fields} of {columns} fields; an empty cell needs its delimiter too"))
    } else if fields > columns {
        (code::EXTRA_CELLS, format!("it has {fields} fields, but the header has {columns}; quote delimiters in cells"))
    } else {
        return None;
    };
    Some(Fault { code, message })
}

/// Files what became of a cell: whether it is null, and the row's first fault.
fn note_cell(result: Result<bool, Fault>, nulls: &mut Option<Vec<bool>>, row: usize, fault: &mut Option<Fault>) {
    match result {
        Ok(false) => {}
        Ok(true) => {
            let nulls = nulls.get_or_insert_with(|| Vec::with_capacity(BLOCK_ROWS as usize));
            nulls.resize(row, false);
            nulls.push(true);
        }
        Err(found) => {
            fault.get_or_insert(found);
        }
    }
}

/// Empties the column, and makes it one of the type.
fn prepare(column: &mut Column, ty: ColumnType) {
    match (column, ty) {
        (Column::Int(values), ColumnType::Int) => values.clear(),
        (Column::Float(values), ColumnType::Float) => values.clear(),
        (Column::Boolean(values), ColumnType::Boolean) => values.clear(),
        // Strings are overwritten one by one.
        (Column::String(_), ColumnType::String) => {}
        (column, ty) => {
            *column = match ty {
                ColumnType::Int => Column::Int(Vec::new()),
                ColumnType::Float => Column::Float(Vec::new()),
                ColumnType::Boolean => Column::Boolean(Vec::new()),
                ColumnType::String => Column::String(Vec::new()),
            }
        }
    }
}

fn truncate(column: &mut Column, rows: usize) {
    match column {
        Column::Int(values) => values.truncate(rows),
        Column::Float(values) => values.truncate(rows),
        Column::Boolean(values) => values.truncate(rows),
        Column::String(values) => values.truncate(rows),
        Column::Mixed(values) => values.truncate(rows),
    }
}

/// Sets the string of a row; rows come in order.
fn set_string(values: &mut Vec<String>, row: usize, text: &str) {
    match values.get_mut(row) {
        Some(value) if value.capacity() <= STRING_KEPT_BYTES => {
            value.clear();
            value.push_str(text);
        }
        Some(value) => *value = text.to_string(),
        None => values.push(text.to_string()),
    }
}

/// Pushes a number that is written as most are; false where the cell has to be looked at more closely.
fn push_plain(values: &mut Column, raw: &[u8]) -> bool {
    match values {
        Column::Float(values) => plain_float(raw).map(|value| values.push(value)).is_some(),
        Column::Int(values) => plain_int(raw).map(|value| values.push(value)).is_some(),
        _ => false,
    }
}

/// Sets a cell from text; gives whether it is null. Every column gets a value, whatever the cell holds.
fn set_text(values: &mut Column, row: usize, column: &TableColumn, cell: &[u8]) -> Result<bool, Fault> {
    // What a numeric or boolean cell comes to, where it holds nothing that fits.
    let misfit = || if trim(cell).is_empty() { Ok(true) } else { Err(cell_fault(column, cell)) };
    match values {
        Column::Int(values) => {
            let value = parse_int(cell);
            values.push(value.unwrap_or_default());
            value.map_or_else(misfit, |_| Ok(false))
        }
        Column::Float(values) => {
            let value = parse_float(cell);
            values.push(value.unwrap_or_default());
            value.map_or_else(misfit, |_| Ok(false))
        }
        Column::Boolean(values) => {
            let value = parse_boolean(cell);
            values.push(value.unwrap_or_default());
            value.map_or_else(misfit, |_| Ok(false))
        }
        Column::String(values) => {
            let result = check_text(column, cell);
            set_string(values, row, result.as_ref().map_or("", |text| text));
            result.map(str::is_empty)
        }
        Column::Mixed(_) => Ok(true),
    }
}

/// Sets a cell from a value's JSON text.
fn set_json(values: &mut Column, row: usize, column: &TableColumn, json: Option<&str>) -> Result<bool, Fault> {
    let json = json.unwrap_or("null");
    match json.as_bytes() {
        b"null" => {
            let _ = set_text(values, row, column, b"");
            Ok(true)
        }
        [b'{', ..] => nested_fault(values, row, column, "an object"),
        [b'[', ..] => nested_fault(values, row, column, "an array"),
        [b'"', inner @ .., b'"'] => {
            let text = match memchr::memchr(b'\\', inner) {
                None => Cow::Borrowed(inner),
                // Lone surrogates are the one thing that a scanned string may still hide.
                Some(_) => match serde_json::from_str::<String>(json) {
                    Ok(text) => Cow::Owned(text.into_bytes()),
                    Err(_) => {
                        let _ = set_text(values, row, column, b"");
                        let message = format!("column {:?} holds text with half a surrogate pair", column.variable);
                        return Err(Fault { code: code::INVALID_UTF8, message });
                    }
                },
            };
            let null = set_text(values, row, column, &text)?;
            match column.ty {
                // JSON has null for null, so that empty text is text.
                ColumnType::String => Ok(false),
                _ if null => Err(cell_fault(column, &text)),
                _ => Ok(false),
            }
        }
        token => set_text(values, row, column, token),
    }
}

fn nested_fault(values: &mut Column, row: usize, column: &TableColumn, what: &str) -> Result<bool, Fault> {
    let _ = set_text(values, row, column, b"");
    let message = format!("column {:?} holds {what}, which a formula can't read", column.variable);
    Err(Fault { code: code::CELL_TYPE, message })
}

/// The cell as text that a formula may read.
fn check_text<'c>(column: &TableColumn, cell: &'c [u8]) -> Result<&'c str, Fault> {
    let variable = &column.variable;
    if cell.len() > STRING_CELL_BYTES_MAX {
        let message = format!(
            "column {variable:?} holds {} bytes of text; a formula reads at most {STRING_CELL_BYTES_MAX}",
            cell.len()
        );
        return Err(Fault { code: code::CELL_TOO_LONG, message });
    }
    std::str::from_utf8(cell).map_err(|_| {
        let message =
            format!("column {variable:?} holds {}, which is not UTF-8; convert the file first", shorten(cell));
        Fault { code: code::INVALID_UTF8, message }
    })
}

fn cell_fault(column: &TableColumn, cell: &[u8]) -> Fault {
    let TableColumn { variable, ty, .. } = column;
    let reads = type_that_reads(cell, *ty).name();
    let message = format!(
        "column {variable:?} holds {}, which is no {}; --types {variable}={reads} reads it",
        shorten(cell),
        ty.name()
    );
    Fault { code: code::CELL_TYPE, message }
}

/// Finds wanted values in objects.
#[derive(Debug)]
struct Keys<'a> {
    /// Every column's slot among the wanted, by key.
    slots: HashMap<String, Option<usize>>,
    /// JSON text of the wanted values of the record at hand.
    values: Vec<Option<&'a str>>,
    refuse_new: bool,
    output_name: Option<String>,
    /// The first key of the record at hand that spoils the output.
    refused: Option<(&'static str, String)>,
}

impl<'a> Keys<'a> {
    fn new(schema: &TableSchema, wanted: &[Wanted]) -> Self {
        let mut slots: HashMap<String, Option<usize>> =
            schema.columns.iter().map(|column| (column.name.clone(), None)).collect();
        for (slot, wanted) in wanted.iter().enumerate() {
            slots.insert(wanted.column.name.clone(), Some(slot));
        }
        Self { slots, values: vec![None; wanted.len()], refuse_new: false, output_name: None, refused: None }
    }

    /// Reads an object's wanted values, or says what is wrong with it.
    fn scan(&mut self, record: &'a [u8]) -> Option<Fault> {
        self.values.fill(None);
        self.refused = None;
        if let Err(reason) = scan_object(record, self) {
            self.values.fill(None);
            return Some(Fault { code: code::BAD_RECORD, message: format!("it is no JSON object: {reason}") });
        }
        let (code, key) = self.refused.take()?;
        let message = if code == code::NAME_TAKEN {
            format!("it has a key {} already; choose another name for the result with --as", shorten(key.as_bytes()))
        } else {
            format!(
                "its key {} is new, and CSV has its columns fixed; write JSON-lines instead",
                shorten(key.as_bytes())
            )
        };
        Some(Fault { code, message })
    }
}

impl<'a> KeySink<'a> for Keys<'a> {
    fn key(&mut self, key: &str) -> Option<usize> {
        let slot = self.slots.get(key);
        if self.refused.is_none() {
            if slot.is_none() && self.refuse_new {
                self.refused = Some((code::NEW_KEY, key.to_string()));
            } else if self.output_name.as_deref() == Some(key) {
                self.refused = Some((code::NAME_TAKEN, key.to_string()));
            }
        }
        slot.copied().flatten()
    }

    fn value(&mut self, slot: usize, json: &'a str) {
        self.values[slot] = Some(json);
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
