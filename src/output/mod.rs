//! Where values go: the form in which they are written, and to what.

pub(crate) mod destination;
pub(crate) mod encoder;
pub(crate) mod eval;
pub(crate) mod fields;
pub(crate) mod progress;
pub(crate) mod reductions;
pub(crate) mod table;

use crate::failure::Failure;
use clap::ValueEnum;
use quipu_shared::config::OutputFormat;
use quipu_shared::spec::RowFormat;
use std::path::Path;

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Values alone, one a line
    Plain,
    /// One JSON document
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated values with a header
    Csv,
    /// Aligned columns for reading
    Table,
    /// Rows as Apache Parquet
    Parquet,
    /// Rows as an Arrow IPC file
    Arrow,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Plain => Self::Plain,
            OutputFormat::Json => Self::Json,
            OutputFormat::Ndjson => Self::Ndjson,
            OutputFormat::Csv => Self::Csv,
            OutputFormat::Table => Self::Table,
        }
    }
}

impl Format {
    /// The form that a file's ending asks for; an ending that says nothing is an error.
    pub(crate) fn of_file(path: &Path) -> Result<Self, Failure> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "csv" => Ok(Self::Csv),
            "ndjson" | "jsonl" => Ok(Self::Ndjson),
            "json" => Ok(Self::Json),
            "txt" => Ok(Self::Plain),
            "parquet" | "pq" => Ok(Self::Parquet),
            "arrow" | "ipc" | "feather" => Ok(Self::Arrow),
            _ => Err(Failure::usage(format!("the ending of {} does not say in which form to write", path.display()))
                .hint("give -O with a form, or an ending out of .csv .ndjson .json .txt .parquet .arrow")),
        }
    }

    /// The form in which the service renders rows so that this form can be made of them.
    pub(crate) fn rows(self) -> RowFormat {
        match self {
            Self::Plain => RowFormat::Plain,
            Self::Csv => RowFormat::Csv,
            Self::Json | Self::Ndjson | Self::Table => RowFormat::Ndjson,
            Self::Parquet => RowFormat::Parquet,
            Self::Arrow => RowFormat::Arrow,
        }
    }

    /// Refuses forms that only rows have.
    pub(crate) fn for_text(self, what: &str) -> Result<Self, Failure> {
        match self {
            Self::Parquet | Self::Arrow => Err(Failure::usage(format!("{what} can't be written in columns"))
                .hint("rows of map, sweep and sample can; give -O json or csv")),
            text => Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn endings_choose_the_form() {
        for (name, format) in [
            ("out.csv", Format::Csv),
            ("a.b/OUT.NDJSON", Format::Ndjson),
            ("x.jsonl", Format::Ndjson),
            ("x.json", Format::Json),
            ("x.txt", Format::Plain),
            ("x.parquet", Format::Parquet),
            ("x.arrow", Format::Arrow),
        ] {
            assert_eq!(Format::of_file(Path::new(name)).unwrap(), format, "{name}");
        }
        for name in ["out", "out.xlsx", ".csv"] {
            assert_eq!(Format::of_file(Path::new(name)).unwrap_err().exit, Exit::Usage, "{name}");
        }
    }
}
