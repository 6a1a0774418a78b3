//! Outcomes of `eval`: one a formula, in input order, in the form that was asked for.

use crate::failure::{self, Exit, Failure};
use crate::output::Format;
use crate::output::encoder::LineEncoder;
use crate::output::table::Table;
use quipu_shared::render::{EVAL_CSV_HEADER, EvalFailure, EvalOutcome, EvalResult, csv_of, plain_of};
use quipu_shared::service::Place;
use std::collections::VecDeque;
use std::io::{self, Write};

/// This many failed formulas are shown in full on standard error; the rest are counted.
const FAILURES_SHOWN_MAX: u64 = 10;

/// One line of input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// To be evaluated.
    Formula(String),
    /// Can't be a formula; fails alone.
    Unreadable(EvalFailure),
}

/// Writes outcomes; lives as long as the command, while jobs come and go.
pub(crate) struct EvalWriter {
    format: Format,
    /// Whether the command has this one formula only.
    alone: bool,
    /// What the current job was made from, and what has no outcome yet.
    waiting: VecDeque<Item>,
    written: u64,
    failed: u64,
    first: Option<(u64, String, EvalFailure)>,
    table: Option<Table>,
    errors: Box<dyn Write + Send>,
    colour: bool,
}

impl EvalWriter {
    /// Errors of single formulas go to `errors`.
    pub(crate) fn new(format: Format, alone: bool, errors: Box<dyn Write + Send>, colour: bool) -> Self {
        let table = (format == Format::Table).then(|| Table::new(["index", "formula", "type", "value"]));
        Self { format, alone, waiting: VecDeque::new(), written: 0, failed: 0, first: None, table, errors, colour }
    }

    /// The next lines follow these items.
    pub(crate) fn expect(&mut self, items: impl IntoIterator<Item = Item>) {
        self.waiting.extend(items);
    }

    /// There are no more jobs: ends the document.
    pub(crate) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match (self.format, self.written) {
            (Format::Json, 0) => out.write_all(b"[]\n"),
            (Format::Json, _) => out.write_all(b"\n]\n"),
            (Format::Csv, 0) => out.write_all(EVAL_CSV_HEADER.as_bytes()),
            (Format::Table, _) => self.table.take().map_or(Ok(()), |table| table.finish(out)),
            _ => Ok(()),
        }
    }

    /// How the command ends.
    pub(crate) fn verdict(self) -> Result<(), Failure> {
        let Some((index, formula, error)) = self.first else { return Ok(()) };
        if self.alone {
            let exit = if error.is_refusal() { Exit::Data } else { Exit::Evaluation };
            return Err(Failure { place: place(&formula, &error), ..Failure::new(exit, error.message) });
        }
        let (failed, written) = (self.failed, self.written);
        let summary = format!(
            "{failed} of {written} formulas failed; first: formula {index}: {} ({})",
            error.message, error.code
        );
        Err(Failure::new(Exit::Evaluation, summary))
    }

    /// Items that the job did not get have their outcome already.
    fn unreadable(&mut self, out: &mut dyn Write) -> io::Result<()> {
        while let Some(Item::Unreadable(_)) = self.waiting.front() {
            if let Some(Item::Unreadable(error)) = self.waiting.pop_front() {
                let outcome = EvalOutcome { index: self.written, result: EvalResult::Failed { error } };
                self.write(&outcome, &serde_json::to_vec(&outcome)?, String::new(), out)?;
            }
        }
        Ok(())
    }

    /// `line` is the outcome as one line of JSON.
    fn write(&mut self, outcome: &EvalOutcome, line: &[u8], formula: String, out: &mut dyn Write) -> io::Result<()> {
        let index = self.written;
        self.written += 1;
        let error = match &outcome.result {
            EvalResult::Value { .. } => None,
            EvalResult::Failed { error } => Some(error),
        };
        match self.format {
            // A failed formula leaves its line empty, so that line and formula stay side by side.
            Format::Plain if error.is_none() || !self.alone => writeln!(out, "{}", plain_of(outcome))?,
            Format::Plain => {}
            Format::Ndjson => {
                out.write_all(line)?;
                out.write_all(b"\n")?;
            }
            Format::Json => {
                out.write_all(if index == 0 { b"[\n" } else { b",\n" })?;
                out.write_all(line)?;
            }
            // Refused before the first formula.
            Format::Parquet | Format::Arrow => {}
            Format::Csv => {
                if index == 0 {
                    out.write_all(EVAL_CSV_HEADER.as_bytes())?;
                }
                out.write_all(csv_of(outcome).as_bytes())?;
            }
            Format::Table => {
                let (ty, value) = match &outcome.result {
                    EvalResult::Value { ty, .. } => (ty.name(), plain_of(outcome)),
                    EvalResult::Failed { error } => ("error", error.message.clone()),
                };
                if let Some(table) = &mut self.table {
                    table.row(vec![index.to_string(), formula.clone(), ty.to_owned(), value], out)?;
                }
            }
        }
        let Some(error) = error else { return Ok(()) };
        self.failed += 1;
        if self.format == Format::Plain && !self.alone && self.failed <= FAILURES_SHOWN_MAX {
            // What was written before stands above the message.
            out.flush()?;
            let message = format!("formula {index}: {}", error.message);
            let failure = Failure { place: place(&formula, error), ..Failure::new(Exit::Evaluation, message) };
            failure::print(&failure, &mut self.errors, self.colour);
        }
        if self.first.is_none() {
            self.first = Some((index, formula, error.clone()));
        }
        Ok(())
    }
}

impl LineEncoder for EvalWriter {
    fn line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.unreadable(out)?;
        let mut outcome: EvalOutcome = serde_json::from_slice(line)?;
        let Some(Item::Formula(formula)) = self.waiting.pop_front() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more outcomes than formulas"));
        };
        if outcome.index == self.written {
            return self.write(&outcome, line, formula, out);
        }
        // Indexes count over all jobs of the command.
        outcome.index = self.written;
        self.write(&outcome, &serde_json::to_vec(&outcome)?, formula, out)
    }

    /// The job is at its end.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.unreadable(out)?;
        match self.waiting.len() {
            0 => Ok(()),
            n => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{n} formulas have no outcome"))),
        }
    }
}

fn place(formula: &str, error: &EvalFailure) -> Option<Place> {
    Some(Place { formula: formula.to_owned(), line: error.line?, column: error.column? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::encoder::{ByLine, Encoder};
    use std::sync::{Arc, Mutex};

    /// Standard error of a test.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const GOOD: &str = r#"{"index":0,"type":"int","value":16}"#;
    const BAD: &str = r#"{"index":1,"error":{"code":"unexpected_end","message":"it ends","line":1,"column":4}}"#;
    const TEXT: &str = r#"{"index":2,"type":"string","value":"a,\"b\""}"#;

    fn formulas(texts: &[&str]) -> Vec<Item> {
        texts.iter().map(|t| Item::Formula((*t).to_string())).collect()
    }

    /// Output, errors and verdict of jobs with these items and lines.
    fn written(format: Format, alone: bool, jobs: Vec<(Vec<Item>, String)>) -> (String, String, Result<(), Failure>) {
        let errors = Shared::default();
        let mut out = Vec::new();
        let mut writer = ByLine::new(EvalWriter::new(format, alone, Box::new(errors.clone()), false));
        for (items, lines) in jobs {
            writer.inner_mut().expect(items);
            for piece in lines.as_bytes().chunks(7) {
                writer.push(piece, &mut out).unwrap();
            }
            writer.finish(&mut out).unwrap();
        }
        let mut writer = writer.into_inner();
        writer.end(&mut out).unwrap();
        let verdict = writer.verdict();
        let errors = String::from_utf8(errors.0.lock().unwrap().clone()).unwrap();
        (String::from_utf8(out).unwrap(), errors, verdict)
    }

    fn three(format: Format) -> (String, String, Result<(), Failure>) {
        let items = formulas(&["10+6", "1 +", "\"a,\\\"b\\\"\""]);
        written(format, false, vec![(items, format!("{GOOD}\n{BAD}\n{TEXT}\n"))])
    }

    #[test]
    fn plain_keeps_lines_beside_formulas_and_shows_errors() {
        let (out, errors, verdict) = three(Format::Plain);
        assert_eq!(out, "16\n\na,\"b\"\n");
        assert_eq!(errors, "error: formula 1: it ends\n  1:4 | 1 +\n      |    ^\n");
        let failure = verdict.unwrap_err();
        assert_eq!(failure.exit, Exit::Evaluation);
        assert_eq!(failure.message, "1 of 3 formulas failed; first: formula 1: it ends (unexpected_end)");
    }

    #[test]
    fn ndjson_passes_lines_unchanged() {
        let (out, errors, verdict) = three(Format::Ndjson);
        assert_eq!(out, format!("{GOOD}\n{BAD}\n{TEXT}\n"));
        assert_eq!(errors, "");
        assert!(verdict.is_err());
    }

    #[test]
    fn json_csv_and_table_hold_every_outcome() {
        assert_eq!(three(Format::Json).0, format!("[\n{GOOD},\n{BAD},\n{TEXT}\n]\n"));
        assert_eq!(
            three(Format::Csv).0,
            "index,type,value,code,message\n0,int,16,,\n1,,,unexpected_end,it ends\n2,string,\"a,\"\"b\"\"\",,\n"
        );
        let table = three(Format::Table).0;
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("it ends"), "{table}");
    }

    #[test]
    fn indexes_go_on_over_jobs_and_unreadable_lines() {
        let unreadable = Item::Unreadable(EvalFailure {
            code: "invalid_utf8".into(),
            message: "the line is not UTF-8".into(),
            line: None,
            column: None,
        });
        let mut first = formulas(&["10+6"]);
        first.push(unreadable.clone());
        let jobs = vec![
            (first, format!("{GOOD}\n")),
            (formulas(&["10+6"]), format!("{GOOD}\n")),
            (vec![unreadable], String::new()),
        ];
        let (out, _, verdict) = written(Format::Ndjson, false, jobs);
        let error = r#""error":{"code":"invalid_utf8","message":"the line is not UTF-8"}}"#;
        let expected = format!(
            "{GOOD}\n{{\"index\":1,{error}\n{{\"index\":2,\"type\":\"int\",\"value\":16}}\n{{\"index\":3,{error}\n"
        );
        assert_eq!(out, expected);
        assert!(verdict.unwrap_err().message.starts_with("2 of 4 formulas failed; first: formula 1:"));
    }

    #[test]
    fn one_formula_ends_by_what_is_wrong_with_it() {
        let line = BAD.replace("\"index\":1", "\"index\":0");
        let (out, errors, verdict) = written(Format::Plain, true, vec![(formulas(&["1 +"]), line)]);
        assert_eq!((out.as_str(), errors.as_str()), ("", ""));
        let failure = verdict.unwrap_err();
        assert_eq!((failure.exit, failure.place.map(|p| p.column)), (Exit::Data, Some(4)));
        let line = r#"{"index":0,"error":{"code":"division_by_zero","message":"no"}}"#.to_owned();
        let (_, _, verdict) = written(Format::Plain, true, vec![(formulas(&["1/0"]), line)]);
        assert_eq!(verdict.unwrap_err().exit, Exit::Evaluation);
    }

    #[test]
    fn no_formulas_are_an_empty_document() {
        assert_eq!(written(Format::Json, false, Vec::new()).0, "[]\n");
        assert_eq!(written(Format::Plain, false, Vec::new()).0, "");
        assert_eq!(written(Format::Csv, false, Vec::new()).0, "index,type,value,code,message\n");
    }

    #[test]
    fn missing_and_surplus_outcomes_are_trouble() {
        let mut writer = EvalWriter::new(Format::Plain, false, Box::new(io::sink()), false);
        writer.expect(formulas(&["1"]));
        assert!(LineEncoder::finish(&mut writer, &mut io::sink()).is_err());
        writer.line(GOOD.as_bytes(), &mut io::sink()).unwrap();
        assert!(writer.line(GOOD.as_bytes(), &mut io::sink()).is_err());
    }
}
