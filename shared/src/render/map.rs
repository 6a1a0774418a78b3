//! A table's rows with a computed column, as text.
//!
//! What the input holds stays as it is, byte for byte, wherever the output has the same form.

use super::rows::csv_header;
use super::{Cell, end_csv_line, write_csv_text, write_json_text};
use crate::block::{Block, RowState, Values};
use crate::spec::{ColumnType, RowFormat, TableFormat, TableSchema};
use crate::table::cell::{parse_boolean, parse_float, parse_int, trim};
use crate::table::{CsvCursor, Field, KeySink, code, scan_object};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Bytes that a result takes with what stands around it, where it is a number.
const RESULT_BYTES_GUESS: usize = 26;

/// Writes a table's rows and a computed column.
#[derive(Clone, Debug)]
pub struct MapRenderer {
    schema: TableSchema,
    name: String,
    format: RowFormat,
    /// What stands before each column's value in an object that is made from CSV: `{"a":`, `,"b":`.
    keys: Vec<Vec<u8>>,
    /// What stands before the computed value: `"result":`.
    name_key: Vec<u8>,
    /// Columns by key, for objects that become CSV.
    by_key: HashMap<String, usize>,
    fields: Vec<Field>,
}

impl MapRenderer {
    /// For a table of this schema, the computed column's name (see [`crate::table::check_output_name`]) and the form
    /// of the output.
    pub fn new(schema: &TableSchema, name: &str, format: RowFormat) -> Self {
        let mut seen = HashSet::new();
        let mut keys = Vec::new();
        for column in &schema.columns {
            let mut key = vec![if keys.is_empty() { b'{' } else { b',' }];
            // An object has a key once, so that a second column of a name goes by its variable.
            let is_own = !column.name.is_empty() && seen.insert(column.name.as_str());
            write_json_text(&mut key, if is_own { &column.name } else { &column.variable });
            key.push(b':');
            keys.push(key);
        }
        let mut name_key = Vec::new();
        write_json_text(&mut name_key, name);
        name_key.push(b':');
        let by_key = schema.columns.iter().enumerate().map(|(index, column)| (column.name.clone(), index)).collect();
        Self { schema: schema.clone(), name: name.to_string(), format, keys, name_key, by_key, fields: Vec::new() }
    }

    /// What the whole output begins with.
    pub fn header(&self) -> Option<Vec<u8>> {
        let names = self.schema.columns.iter().map(|column| column.name.as_str()).chain([self.name.as_str()]);
        (self.format == RowFormat::Csv).then(|| csv_header(names, self.delimiter()))
    }

    /// Separator of CSV output: the input's, where that is CSV too.
    fn delimiter(&self) -> u8 {
        if self.schema.format == TableFormat::Csv { self.schema.delimiter } else { b',' }
    }

    /// Appends the rows of a block whose records stand in `bytes` at `records`, as
    /// [`crate::table::TableReader::next_block`] gave them. Holes are left out. A row that could not be read and is
    /// kept (`--on-error null`) is made to fit the output: cells are added or cut, what is no object becomes one.
    pub fn render(
        &mut self,
        bytes: &[u8],
        records: &[Range<usize>],
        block: &Block,
        values: &Values,
        out: &mut Vec<u8>,
    ) {
        let span = records.first().map_or(0, |first| first.start)..records.last().map_or(0, |last| last.end);
        out.reserve(span.len() + records.len() * RESULT_BYTES_GUESS);
        let span = bytes.get(span).unwrap_or_default();
        // Records follow each other, so that one pass finds the fields of all.
        let is_converted = (self.schema.format, self.format) == (TableFormat::Csv, RowFormat::Ndjson);
        let mut cursor = is_converted.then(|| CsvCursor::new(span, self.schema.delimiter));
        let mut bad_rows = block.bad_rows.iter().peekable();
        for ((row, state), range) in values.states.iter().enumerate().zip(records) {
            let number = block.first_row + row as u64;
            while bad_rows.next_if(|bad| bad.row < number).is_some() {}
            let fault = bad_rows.next_if(|bad| bad.row == number).map(|bad| bad.code.as_str());
            if let Some(cursor) = &mut cursor {
                cursor.next_record(&mut self.fields, self.schema.columns.len());
            }
            let value = match state {
                RowState::Hole => continue,
                RowState::Null => Cell::Null,
                RowState::Valid => Cell::at(&values.column, row),
            };
            let record = bytes.get(range.clone()).unwrap_or_default();
            match (self.schema.format, self.format) {
                (_, RowFormat::Plain) => {
                    value.plain(out);
                    out.push(b'\n');
                }
                (TableFormat::Csv, RowFormat::Csv) => self.csv_to_csv(record, fault, value, out),
                (TableFormat::Csv, RowFormat::Ndjson) => self.csv_to_json(span, value, out),
                (TableFormat::Ndjson, RowFormat::Ndjson) => self.json_to_json(record, fault, value, out),
                (TableFormat::Ndjson, RowFormat::Csv) => self.json_to_csv(record, fault, value, out),
                // Tables and outputs in columns have renderers of their own.
                (_, RowFormat::Csv | RowFormat::Ndjson | RowFormat::Parquet | RowFormat::Arrow) => {}
            }
        }
    }

    fn csv_to_csv(&mut self, record: &[u8], fault: Option<&str>, value: Cell<'_>, out: &mut Vec<u8>) {
        let delimiter = self.schema.delimiter;
        if matches!(fault, Some(code::MISSING_CELL | code::EXTRA_CELLS | code::UNCLOSED_QUOTE)) {
            let columns = self.schema.columns.len();
            CsvCursor::new(record, delimiter).next_record(&mut self.fields, columns);
            for index in 0..columns {
                match self.fields.get(index).map(|field| field.text(record)) {
                    Some(text) if !text.is_empty() => write_csv_text(out, &text, delimiter),
                    _ => {}
                }
                out.push(delimiter);
            }
        } else {
            out.extend_from_slice(record);
            out.push(delimiter);
        }
        value.csv(out, delimiter);
        out.push(b'\n');
    }

    /// Writes the record whose fields were found last.
    fn csv_to_json(&self, bytes: &[u8], value: Cell<'_>, out: &mut Vec<u8>) {
        for (index, (column, key)) in self.schema.columns.iter().zip(&self.keys).enumerate() {
            out.extend_from_slice(key);
            let text = self.fields.get(index).map_or(Cow::Borrowed(&b""[..]), |field| field.text(bytes));
            write_typed(out, column.ty, &text);
        }
        self.end_object(self.keys.is_empty(), value, out);
    }

    /// Writes the computed field and ends the object.
    fn end_object(&self, first: bool, value: Cell<'_>, out: &mut Vec<u8>) {
        out.push(if first { b'{' } else { b',' });
        out.extend_from_slice(&self.name_key);
        value.json(out);
        out.extend_from_slice(b"}\n");
    }

    fn json_to_json(&mut self, record: &[u8], fault: Option<&str>, value: Cell<'_>, out: &mut Vec<u8>) {
        let body = match fault {
            Some(code::BAD_RECORD) => None,
            Some(code::NAME_TAKEN) => {
                // The key is there already; only its value may change.
                let mut object: Map<String, Value> = serde_json::from_slice(record).unwrap_or_default();
                object.shift_remove(&self.name);
                let text = Value::Object(object).to_string();
                out.extend_from_slice(&text.as_bytes()[..text.len() - 1]);
                return self.end_spliced(text.len() == 2, value, out);
            }
            _ => record.strip_suffix(b"}"),
        };
        let Some(body) = body else { return self.end_object(true, value, out) };
        let is_empty = body.trim_ascii() == b"{";
        out.extend_from_slice(body);
        self.end_spliced(is_empty, value, out);
    }

    /// Ends an object that was written but for its brace.
    fn end_spliced(&self, is_empty: bool, value: Cell<'_>, out: &mut Vec<u8>) {
        if !is_empty {
            out.push(b',');
        }
        out.extend_from_slice(&self.name_key);
        value.json(out);
        out.extend_from_slice(b"}\n");
    }

    fn json_to_csv(&mut self, record: &[u8], fault: Option<&str>, value: Cell<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let mut row = Row { by_key: &self.by_key, values: vec![None; self.schema.columns.len()] };
        if fault == Some(code::BAD_RECORD) || scan_object(record, &mut row).is_err() {
            row.values.fill(None);
        }
        for json in row.values {
            match json {
                None | Some("null") => {}
                Some(json) if json.starts_with('"') => match serde_json::from_str::<String>(json) {
                    Ok(text) => write_csv_text(out, text.as_bytes(), b','),
                    Err(_) => write_csv_text(out, json.as_bytes(), b','),
                },
                Some(json) => write_csv_text(out, json.as_bytes(), b','),
            }
            out.push(b',');
        }
        value.csv(out, b',');
        end_csv_line(out, start);
    }
}

/// Writes a CSV cell as the JSON of its type; one that does not fit stays text.
fn write_typed(out: &mut Vec<u8>, ty: ColumnType, text: &[u8]) {
    let cell = match ty {
        ColumnType::Int => parse_int(text).map(Cell::Int),
        ColumnType::Float => parse_float(text).map(Cell::Float),
        ColumnType::Boolean => parse_boolean(text).map(Cell::Boolean),
        ColumnType::String => None,
    };
    match cell {
        Some(cell) => cell.json(out),
        None if text.is_empty() || (ty != ColumnType::String && trim(text).is_empty()) => Cell::Null.json(out),
        None => write_json_text(out, &String::from_utf8_lossy(text)),
    }
}

/// The values of an object, by column.
struct Row<'k, 'a> {
    by_key: &'k HashMap<String, usize>,
    values: Vec<Option<&'a str>>,
}

impl<'a> KeySink<'a> for Row<'_, 'a> {
    fn key(&mut self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    fn value(&mut self, slot: usize, json: &'a str) {
        self.values[slot] = Some(json);
    }
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
