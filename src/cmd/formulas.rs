//! Formulas from a file: one a line.

use crate::output::eval::Item;
use quipu_shared::render::EvalFailure;
use std::io::{self, BufRead};

/// A longer line is refused here, so that a file without line breaks does not fill the memory. The limit for formulas
/// themselves is the cluster's, and far lower.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Formulas that one job takes.
const JOB_FORMULAS_MAX: usize = 250_000;
/// Bytes of formulas that one job takes: as JSON they stay below `limits.request_bytes_max`, which is 16 MiB by default,
/// even where every other character is a quote.
const JOB_BYTES_MAX: usize = 6 << 20;

/// Reads formulas job by job.
pub(crate) struct FormulaReader<R> {
    lines: R,
    at_start: bool,
}

impl<R: BufRead> FormulaReader<R> {
    /// Reads from `lines`.
    pub(crate) fn new(lines: R) -> Self {
        Self { lines, at_start: true }
    }

    /// The formulas of the next job; empty at the end of the file.
    pub(crate) fn next_job(&mut self) -> io::Result<Vec<Item>> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < JOB_FORMULAS_MAX && bytes < JOB_BYTES_MAX {
            let Some(line) = self.next_line()? else { break };
            match line {
                Line::TooLong => items.push(unreadable(
                    "formula_too_long",
                    format!("the line is longer than {LINE_BYTES_MAX} bytes; write one formula a line"),
                )),
                Line::Whole(line) => match String::from_utf8(line) {
                    Ok(line) if line.trim().is_empty() => {}
                    Ok(line) => {
                        bytes += line.len();
                        items.push(Item::Formula(line));
                    }
                    Err(error) => {
                        let at = error.utf8_error().valid_up_to();
                        items.push(unreadable(
                            "invalid_utf8",
                            format!("the line is not UTF-8: byte {} of it does not fit", at + 1),
                        ));
                    }
                },
            }
        }
        Ok(items)
    }

    /// A line without its end (LF or CRLF).
    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
        loop {
            let buffer = match self.lines.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = buffer.iter().position(|b| *b == b'\n');
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            too_long |= line.len() + piece.len() > LINE_BYTES_MAX;
            if !too_long {
                line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.lines.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(if too_long { Line::TooLong } else { Line::Whole(line) }))
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

fn unreadable(code: &str, message: String) -> Item {
    Item::Unreadable(EvalFailure { code: code.to_owned(), message, line: None, column: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Item> {
        // A small buffer makes lines span several reads.
        FormulaReader::new(io::BufReader::with_capacity(3, bytes)).next_job().unwrap()
    }

    fn formulas(bytes: &[u8]) -> Vec<String> {
        read(bytes)
            .into_iter()
            .map(|item| match item {
                Item::Formula(text) => text,
                Item::Unreadable(error) => format!("<{}>", error.code),
            })
            .collect()
    }

    #[test]
    fn blank_lines_are_skipped_and_line_ends_cut() {
        assert_eq!(formulas(b"\xef\xbb\xbf1+1\r\n\n  \t\r\n2 \n3"), ["1+1", "2 ", "3"]);
        assert_eq!(formulas(b""), Vec::<String>::new());
        assert_eq!(formulas(b"\n\n"), Vec::<String>::new());
    }

    #[test]
    fn unreadable_lines_fail_alone() {
        assert_eq!(formulas(b"1\n\xff\xfe\n2\n"), ["1", "<invalid_utf8>", "2"]);
        let mut long = vec![b'1'; LINE_BYTES_MAX + 1];
        long.extend_from_slice(b"\n2\n");
        assert_eq!(formulas(&long), ["<formula_too_long>", "2"]);
    }

    #[test]
    fn longest_line_is_taken() {
        let long = vec![b'1'; LINE_BYTES_MAX];
        let items = FormulaReader::new(&long[..]).next_job().unwrap();
        assert!(matches!(&items[..], [Item::Formula(f)] if f.len() == LINE_BYTES_MAX));
    }

    #[test]
    fn many_formulas_are_cut_into_jobs() {
        let text = "1\n".repeat(JOB_FORMULAS_MAX + 5);
        let mut reader = FormulaReader::new(text.as_bytes());
        let sizes: Vec<_> = (0..3).map(|_| reader.next_job().unwrap().len()).collect();
        assert_eq!(sizes, [JOB_FORMULAS_MAX, 5, 0]);
    }
}
