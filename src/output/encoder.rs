//! Turns what the service renders into the form that was asked for, piece by piece.

use crate::output::Format;
use crate::output::fields::{Fields, text};
use crate::output::table::Table;
use quipu_shared::render::{IpcJoiner, ParquetJoiner};
use std::io::{self, Write};

/// Takes the service's bytes in pieces of any size.
pub(crate) trait Encoder: Send {
    /// The next piece.
    fn push(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()>;
    /// There is no more.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// For rows in this form; the service renders them as [`Format::rows`] says.
pub(crate) fn for_rows(format: Format) -> Box<dyn Encoder> {
    match format {
        Format::Plain | Format::Csv | Format::Ndjson => Box::new(Verbatim),
        Format::Json => Box::new(ByLine::new(JsonArray { rows: 0 })),
        Format::Table => Box::new(ByLine::new(RowTable { table: None, columns: Vec::new() })),
        Format::Parquet => Box::new(Joined(Some(ParquetJoiner::default()))),
        Format::Arrow => Box::new(Joined(Some(IpcJoiner::default()))),
    }
}

/// Parts of a file in columns, put together to the file.
struct Joined<J>(Option<J>);

impl Encoder for Joined<ParquetJoiner> {
    fn push(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(Vec::new()), |joiner| joiner.push(bytes)).and_then(|bytes| out.write_all(&bytes))
    }
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.0.take().map_or(Ok(Vec::new()), ParquetJoiner::finish).and_then(|bytes| out.write_all(&bytes))
    }
}

impl Encoder for Joined<IpcJoiner> {
    fn push(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(Vec::new()), |joiner| joiner.push(bytes)).and_then(|bytes| out.write_all(&bytes))
    }
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.0.take().map_or(Ok(Vec::new()), IpcJoiner::finish).and_then(|bytes| out.write_all(&bytes))
    }
}

/// Bytes as they are.
pub(crate) struct Verbatim;

impl Encoder for Verbatim {
    fn push(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        out.write_all(bytes)
    }
    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Takes whole lines.
pub(crate) trait LineEncoder: Send {
    /// A line without its end.
    fn line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<()>;
    /// There is no more.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Cuts pieces into lines.
pub(crate) struct ByLine<L> {
    lines: L,
    /// The begun line.
    partial: Vec<u8>,
}

impl<L: LineEncoder> ByLine<L> {
    /// Hands lines to `lines`.
    pub(crate) fn new(lines: L) -> Self {
        Self { lines, partial: Vec::new() }
    }

    /// The receiver of the lines.
    pub(crate) fn inner_mut(&mut self) -> &mut L {
        &mut self.lines
    }

    /// What was made of the lines.
    pub(crate) fn into_inner(self) -> L {
        self.lines
    }
}

impl<L: LineEncoder> Encoder for ByLine<L> {
    fn push(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let mut pieces = bytes.split(|b| *b == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            match (pieces.peek().is_some(), self.partial.is_empty()) {
                (true, true) => self.lines.line(piece, out)?,
                (true, false) => {
                    self.partial.extend_from_slice(piece);
                    let line = std::mem::take(&mut self.partial);
                    self.lines.line(&line, out)?;
                }
                (false, _) => self.partial.extend_from_slice(piece),
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.lines.line(&line, out)?;
        }
        self.lines.finish(out)
    }
}

/// Objects, one a line, as one array.
struct JsonArray {
    rows: u64,
}

impl LineEncoder for JsonArray {
    fn line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.rows == 0 { b"[\n" } else { b",\n" })?;
        self.rows += 1;
        out.write_all(line)
    }
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })
    }
}

/// Objects, one a line, as a table whose columns are the first object's.
struct RowTable {
    table: Option<Table>,
    columns: Vec<String>,
}

impl LineEncoder for RowTable {
    fn line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let row: Fields = serde_json::from_slice(line)?;
        if self.table.is_none() {
            self.columns = row.0.iter().map(|(name, _)| name.clone()).collect();
        }
        let table = self.table.get_or_insert_with(|| Table::new(self.columns.clone()));
        table.row(self.columns.iter().map(|name| row.get(name).map(text).unwrap_or_default()).collect(), out)
    }
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.table.take().map_or(Ok(()), |table| table.finish(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(format: Format, text: &str, piece: usize) -> String {
        let mut encoder = for_rows(format);
        let mut out = Vec::new();
        for bytes in text.as_bytes().chunks(piece) {
            encoder.push(bytes, &mut out).unwrap();
        }
        encoder.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const ROWS: &str = "{\"x\":1,\"s\":\"a\"}\n{\"x\":20,\"s\":\"b\\nc\"}\n";

    #[test]
    fn pieces_of_any_size_make_the_same_array() {
        for piece in [1, 2, 7, 1000] {
            let json = encoded(Format::Json, ROWS, piece);
            assert_eq!(json, "[\n{\"x\":1,\"s\":\"a\"},\n{\"x\":20,\"s\":\"b\\nc\"}\n]\n");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()[1]["x"], 20);
        }
    }

    #[test]
    fn no_rows_are_an_empty_array() {
        assert_eq!(encoded(Format::Json, "", 1), "[]\n");
        assert_eq!(encoded(Format::Table, "", 1), "");
    }

    #[test]
    fn tables_take_their_columns_from_the_first_row() {
        assert_eq!(encoded(Format::Table, ROWS, 3), " x  s\n 1  a\n20  b\\nc\n");
    }

    #[test]
    fn csv_and_ndjson_pass_unchanged() {
        for format in [Format::Csv, Format::Ndjson, Format::Plain] {
            assert_eq!(encoded(format, ROWS, 5), ROWS);
        }
    }
}
