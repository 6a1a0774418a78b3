//! Generated rows (sweep, sample) as text.

use super::{Cell, end_csv_line, write_csv_text, write_json_text};
use crate::block::{Block, RowState, Values};
use crate::spec::RowFormat;

/// Writes rows of inputs and a computed column.
#[derive(Clone, Debug)]
pub struct RowRenderer {
    names: Vec<String>,
    format: RowFormat,
    /// For JSON: what stands before each value, as `{"x":` and `,"y":`.
    keys: Vec<Vec<u8>>,
}

impl RowRenderer {
    /// For inputs of these names, in the order of the block's columns, and the computed column's.
    pub fn new(inputs: &[String], name: &str, format: RowFormat) -> Self {
        let names: Vec<String> = inputs.iter().cloned().chain([name.to_string()]).collect();
        let key = |(index, name): (usize, &String)| {
            let mut key = vec![if index == 0 { b'{' } else { b',' }];
            write_json_text(&mut key, name);
            key.push(b':');
            key
        };
        let keys = names.iter().enumerate().map(key).collect();
        Self { names, format, keys }
    }

    /// What the whole output begins with.
    pub fn header(&self) -> Option<Vec<u8>> {
        (self.format == RowFormat::Csv).then(|| csv_header(self.names.iter().map(String::as_str), b','))
    }

    /// Appends the block's rows; holes are left out, nulls are empty or null.
    pub fn render(&mut self, block: &Block, values: &Values, out: &mut Vec<u8>) {
        for (row, state) in values.states.iter().enumerate() {
            let value = match state {
                RowState::Hole => continue,
                RowState::Null => Cell::Null,
                RowState::Valid => Cell::at(&values.column, row),
            };
            let inputs = (0..self.names.len() - 1).map(|index| input(block, index, row));
            let cells = inputs.chain([value]);
            match self.format {
                RowFormat::Csv => {
                    let start = out.len();
                    for (index, cell) in cells.enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        cell.csv(out, b',');
                    }
                    end_csv_line(out, start);
                }
                RowFormat::Ndjson => {
                    for (key, cell) in self.keys.iter().zip(cells) {
                        out.extend_from_slice(key);
                        cell.json(out);
                    }
                    out.extend_from_slice(b"}\n");
                }
                // Written by `ColumnarWriter`.
                RowFormat::Parquet | RowFormat::Arrow => {}
                RowFormat::Plain => {
                    value.plain(out);
                    out.push(b'\n');
                }
            }
        }
    }
}

/// An input's value.
fn input(block: &Block, index: usize, row: usize) -> Cell<'_> {
    let nulls = block.nulls.get(index).and_then(Option::as_ref);
    if nulls.and_then(|nulls| nulls.get(row)) == Some(&true) {
        return Cell::Null;
    }
    block.columns.get(index).map_or(Cell::Null, |column| Cell::at(column, row))
}

/// A header record with its line end.
pub(super) fn csv_header<'a>(names: impl Iterator<Item = &'a str>, delimiter: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, name) in names.enumerate() {
        if index > 0 {
            out.push(delimiter);
        }
        write_csv_text(&mut out, name.as_bytes(), delimiter);
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::RowRenderer;
    use crate::block::{Block, Column, RowState, Values};
    use crate::spec::{RowFormat, Scalar};

    fn block() -> Block {
        Block {
            first_row: 4096,
            len: 4,
            columns: vec![
                Column::Int(vec![1, 2, 3, 4]),
                Column::String(vec!["a,b".into(), String::new(), "c\"".into(), "d".into()]),
            ],
            nulls: vec![None, Some(vec![false, false, false, true])],
            bad_rows: Vec::new(),
        }
    }

    fn values(column: Column) -> Values {
        let states = vec![RowState::Valid, RowState::Null, RowState::Hole, RowState::Valid];
        Values { first_row: 4096, column, states, errors: Vec::new() }
    }

    fn rendered(format: RowFormat, column: Column) -> String {
        let mut renderer = RowRenderer::new(&["x".into(), "a b".into()], "res\"ult", format);
        let mut out = renderer.header().unwrap_or_default();
        renderer.render(&block(), &values(column), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_has_a_header_and_leaves_holes_out() {
        assert_eq!(
            rendered(RowFormat::Csv, Column::Float(vec![1.0, 9.0, 9.0, 1e300])),
            "x,a b,\"res\"\"ult\"\n1,\"a,b\",1.0\n2,\"\",\n4,,1e300\n"
        );
    }

    #[test]
    fn ndjson_has_an_object_a_row() {
        let tuple = Scalar::Tuple(vec![Scalar::Int(1), Scalar::Float(f64::NAN)]);
        let mixed = vec![tuple, Scalar::Int(0), Scalar::Int(0), Scalar::Boolean(true)];
        assert_eq!(
            rendered(RowFormat::Ndjson, Column::Mixed(mixed)),
            "{\"x\":1,\"a b\":\"a,b\",\"res\\\"ult\":[1,\"NaN\"]}\n{\"x\":2,\"a b\":\"\",\"res\\\"ult\":null}\n{\"x\":4,\"a b\":null,\"res\\\"ult\":true}\n"
        );
    }

    #[test]
    fn plain_is_the_value_alone() {
        let texts = Column::String(vec!["a".into(), "b".into(), "c".into(), "d e".into()]);
        assert_eq!(rendered(RowFormat::Plain, texts), "a\n\nd e\n");
    }

    #[test]
    fn a_row_of_one_null_is_no_blank_line() {
        let mut renderer = RowRenderer::new(&[], "result", RowFormat::Csv);
        let mut out = Vec::new();
        renderer.render(&Block::default(), &values(Column::Int(vec![1, 2, 3, 4])), &mut out);
        assert_eq!(out, b"1\n\"\"\n4\n");
    }

    #[test]
    fn columns_that_are_too_short_are_null() {
        let mut renderer = RowRenderer::new(&["x".into()], "y", RowFormat::Csv);
        let mut out = Vec::new();
        renderer.render(&Block::default(), &values(Column::Int(vec![1])), &mut out);
        assert_eq!(out, b",1\n,\n,\n");
    }
}
