//! The one JSON document of a job with reductions, in the form that was asked for.

use crate::output::Format;
use crate::output::encoder::{Encoder, Verbatim};
use crate::output::fields::{Fields, text};
use crate::output::table::Table;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{self, Write};

/// For a reductions document in this form.
pub(crate) fn for_reductions(format: Format) -> Box<dyn Encoder> {
    match format {
        // The document is one line.
        Format::Json | Format::Ndjson => Box::new(EndOfLine { inner: Verbatim, last: None }),
        // Forms in columns are refused before.
        Format::Plain | Format::Csv | Format::Table | Format::Parquet | Format::Arrow => {
            Box::new(Whole { format, document: Vec::new() })
        }
    }
}

/// Sees to it that output ends with a line break.
struct EndOfLine {
    inner: Verbatim,
    last: Option<u8>,
}

impl Encoder for EndOfLine {
    fn push(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.last = bytes.last().copied().or(self.last);
        self.inner.push(bytes, out)
    }
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.last {
            Some(b'\n') | None => Ok(()),
            Some(_) => out.write_all(b"\n"),
        }
    }
}

/// Keeps the document, which is small, until it is whole.
struct Whole {
    format: Format,
    document: Vec<u8>,
}

#[derive(Deserialize)]
struct Document {
    rows: u64,
    failed: u64,
    result: Fields,
}

impl Encoder for Whole {
    fn push(&mut self, bytes: &[u8], _out: &mut dyn Write) -> io::Result<()> {
        self.document.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.document.is_empty() {
            return Ok(());
        }
        let document: Document = serde_json::from_slice(&self.document)?;
        if self.format == Format::Plain {
            return document.result.0.iter().try_for_each(|(_, value)| writeln!(out, "{}", text(value)));
        }
        let mut lines = Vec::new();
        for (name, value) in &document.result.0 {
            flatten(name, value, &mut lines)?;
        }
        if self.format == Format::Csv {
            out.write_all(b"reduction,value\n")?;
            return lines.iter().try_for_each(|(name, value)| writeln!(out, "{},{}", csv_cell(name), csv_cell(value)));
        }
        lines.push(("rows".into(), document.rows.to_string()));
        if document.failed > 0 {
            lines.push(("failed rows".into(), document.failed.to_string()));
        }
        let mut table = Table::new(["reduction", "value"]);
        for (name, value) in lines {
            table.row(vec![name, value], out)?;
        }
        table.finish(out)
    }
}

/// One line a number: `argmin.row`, `histogram(0,1,2) [0, 0.5)`.
fn flatten(name: &str, value: &RawValue, lines: &mut Vec<(String, String)>) -> io::Result<()> {
    if !value.get().starts_with('{') {
        lines.push((name.to_owned(), text(value)));
        return Ok(());
    }
    let fields: Fields = serde_json::from_str(value.get())?;
    if let (Some(edges), Some(counts)) = (fields.get("edges"), fields.get("counts")) {
        let edges: Vec<Box<RawValue>> = serde_json::from_str(edges.get())?;
        let counts: Vec<Box<RawValue>> = serde_json::from_str(counts.get())?;
        for (bin, count) in counts.iter().enumerate() {
            let edge = |i: usize| edges.get(i).map(|e| text(e)).unwrap_or_default();
            let close = if bin + 1 == counts.len() { ']' } else { ')' };
            lines.push((format!("{name} [{}, {}{close}", edge(bin), edge(bin + 1)), text(count)));
        }
    }
    for (key, inner) in &fields.0 {
        if key != "edges" && key != "counts" {
            flatten(&format!("{name}.{key}"), inner, lines)?;
        }
    }
    Ok(())
}

/// A cell as RFC 4180 quotes it.
pub(crate) fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"version":1,"rows":10,"failed":1,"result":{"sum":285,"mean":28.5,"argmin":{"value":0,"row":0,"inputs":{"x":0}},"histogram(0,2,2)":{"edges":[0.0,1.0,2.0],"counts":[4,5],"under":0,"over":1,"nan":0},"min":"NaN"}}"#;

    fn encoded(format: Format) -> String {
        let mut encoder = for_reductions(format);
        let mut out = Vec::new();
        for piece in DOCUMENT.as_bytes().chunks(10) {
            encoder.push(piece, &mut out).unwrap();
        }
        encoder.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_is_the_document_itself() {
        assert_eq!(encoded(Format::Json), format!("{DOCUMENT}\n"));
    }

    #[test]
    fn plain_is_one_value_a_line_in_the_asked_order() {
        let plain = encoded(Format::Plain);
        assert_eq!(plain.lines().take(2).collect::<Vec<_>>(), ["285", "28.5"]);
        assert_eq!(plain.lines().last(), Some("NaN"));
        assert_eq!(plain.lines().count(), 5);
    }

    #[test]
    fn csv_and_table_have_one_line_a_number() {
        let csv = encoded(Format::Csv);
        for line in [
            "reduction,value",
            "sum,285",
            "argmin.row,0",
            "argmin.inputs.x,0",
            "\"histogram(0,2,2) [0.0, 1.0)\",4",
            "\"histogram(0,2,2) [1.0, 2.0]\",5",
            "\"histogram(0,2,2).over\",1",
        ] {
            assert!(csv.lines().any(|l| l == line), "{line} in\n{csv}");
        }
        let table = encoded(Format::Table);
        assert!(table.starts_with("reduction"), "{table}");
        assert!(table.contains("failed rows"), "{table}");
    }
}
