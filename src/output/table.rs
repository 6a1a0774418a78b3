//! Tables for reading: columns aligned, two blanks between them.

use crate::failure::sanitise;
use std::io::{self, Write};
use unicode_width::UnicodeWidthStr;

/// Widths come from this many first rows; later rows are written as they come, so that a table of any length needs
/// little memory and loses nothing.
const MEASURED_ROWS: usize = 1_000;
/// Blanks between columns.
const GAP: usize = 2;

/// Writes rows as aligned columns.
pub(crate) struct Table {
    header: Vec<String>,
    waiting: Vec<Vec<String>>,
    /// Width and whether the column is of numbers, once measured.
    columns: Option<Vec<(usize, bool)>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new(header: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), waiting: Vec::new(), columns: None }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>, out: &mut dyn Write) -> io::Result<()> {
        match &self.columns {
            Some(columns) => write_row(&cells, columns, out),
            None => {
                self.waiting.push(cells);
                if self.waiting.len() >= MEASURED_ROWS { self.measure(out) } else { Ok(()) }
            }
        }
    }

    /// Writes what is still waiting.
    pub(crate) fn finish(mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.columns.is_none() { self.measure(out) } else { Ok(()) }
    }

    fn measure(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let columns: Vec<(usize, bool)> = (0..self.header.len())
            .map(|c| {
                let cells = || self.waiting.iter().filter_map(|row| row.get(c));
                let width = cells().map(|cell| shown(cell).width()).max().unwrap_or(0).max(self.header[c].width());
                let mut filled = cells().filter(|cell| !cell.is_empty()).peekable();
                (width, filled.peek().is_some() && filled.all(|cell| is_number(cell)))
            })
            .collect();
        write_row(&self.header, &columns, out)?;
        for row in self.waiting.drain(..) {
            write_row(&row, &columns, out)?;
        }
        self.columns = Some(columns);
        Ok(())
    }
}

fn is_number(cell: &str) -> bool {
    cell.parse::<f64>().is_ok()
}

/// A cell on one line.
fn shown(cell: &str) -> String {
    sanitise(cell).replace('\n', "\\n").replace('\t', "\\t")
}

fn write_row(cells: &[String], columns: &[(usize, bool)], out: &mut dyn Write) -> io::Result<()> {
    let mut line = String::new();
    for (cell, (width, right)) in cells.iter().zip(columns) {
        let cell = shown(cell);
        let fill = width.saturating_sub(cell.width());
        if *right {
            line.extend(std::iter::repeat_n(' ', fill));
        }
        line.push_str(&cell);
        line.extend(std::iter::repeat_n(' ', GAP + if *right { 0 } else { fill }));
    }
    line.truncate(line.trim_end_matches(' ').len());
    line.push('\n');
    out.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(row: &[&str]) -> Vec<String> {
        row.iter().map(|c| (*c).to_string()).collect()
    }

    #[test]
    fn numbers_stand_right_and_text_left() {
        let mut table = Table::new(["name", "n"]);
        let mut out = Vec::new();
        for row in [["ab", "1"], ["数", "-20"], ["x\x1by\n", ""]] {
            table.row(cells(&row), &mut out).unwrap();
        }
        table.finish(&mut out).unwrap();
        let expected = "name          n\nab            1\n数          -20\nx\\u{1b}y\\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn long_tables_lose_no_row() {
        let mut table = Table::new(["n"]);
        let mut out = Vec::new();
        for n in 0..3 * MEASURED_ROWS {
            table.row(vec![n.to_string()], &mut out).unwrap();
        }
        table.finish(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 3 * MEASURED_ROWS + 1);
        assert_eq!(text.lines().last(), Some("2999"));
    }

    #[test]
    fn empty_table_is_its_header() {
        let mut out = Vec::new();
        Table::new(["a", "b"]).finish(&mut out).unwrap();
        assert_eq!(out, b"a  b\n");
    }
}
