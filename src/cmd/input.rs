//! Tables that `map` reads: found, copied if they can be read only once, typed, and handed to the cluster.

use crate::cmd::{Session, parse, runner};
use crate::failure::{Exit, Failure};
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use quipu_shared::spec::{TableFormat, TableInput, TableSchema};
use quipu_shared::table::columnar::Source;
use quipu_shared::table::{self, InferOptions, TableError, infer_columnar};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

/// Pieces in which a table is uploaded.
const UPLOAD_BYTES: usize = 256 * 1024;
/// Columns that are shown; wider tables are cut.
const COLUMNS_SHOWN_MAX: usize = 30;

/// Which table, and how to read it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct InputArgs {
    /// The table: CSV with a header, one JSON object a line, Parquet or Arrow IPC; - is standard input
    #[arg(value_name = "INPUT")]
    path: PathBuf,

    /// Form of the table; without it, its ending or its first character tells
    #[arg(long, value_name = "FORM")]
    input_format: Option<InputFormat>,

    /// Separator of a CSV table, such as ';' or tab [default: comma, tab for .tsv]
    #[arg(long, value_name = "CHARACTER", value_parser = parse::delimiter)]
    delimiter: Option<u8>,

    /// Set types of columns: int, float, boolean or string; repeats
    #[arg(long, value_name = "NAME=TYPE,..")]
    types: Vec<String>,

    /// Don't upload: every node of the cluster can open INPUT by its path
    #[arg(long)]
    shared: bool,

    /// Show types and notes even where standard error is no terminal
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// Forms of a table.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum InputFormat {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Ndjson,
    /// Apache Parquet
    Parquet,
    /// An Arrow IPC file
    Arrow,
}

/// A table that can be read by its path.
pub(crate) struct Table {
    /// Absolute.
    path: PathBuf,
    /// As the user named it.
    name: String,
    /// Names and types of its columns.
    pub(crate) schema: TableSchema,
    notes: Vec<String>,
    shared: bool,
    /// Holds what came in through a pipe.
    _spool: Option<NamedTempFile>,
}

impl Table {
    /// Finds the table and fixes its types. `column` is the name of the computed one.
    pub(crate) async fn open(session: &Session, args: &InputArgs, column: &str) -> Result<Self, Failure> {
        let name = if args.path == Path::new("-") { "standard input".into() } else { args.path.display().to_string() };
        let spool = match args.path == Path::new("-") || !is_file(&args.path)? {
            false => None,
            true if args.shared => {
                return Err(Failure::usage(format!("{name} is no file, and so not --shared")));
            }
            true => Some(spool_file(session, &name)?),
        };
        let options = Options {
            format: args.input_format,
            delimiter: args.delimiter,
            types: args.types.join(","),
            column: column.to_owned(),
            shared: args.shared,
        };
        let source = args.path.clone();
        // A pipe may keep its thread waiting for as long as it likes.
        let opened = tokio::task::spawn_blocking(move || options.open(&source, name, spool));
        tokio::select! {
            biased;
            () = session.signals.first() => Err(runner::interrupted()),
            opened = opened => {
                opened.map_err(|error| Failure::new(Exit::Internal, format!("read the table: {error}")))?
            }
        }
    }

    /// Shows types and notes.
    pub(crate) fn tell(&self, session: &Session, verbose: bool) {
        let say = |text: std::fmt::Arguments<'_>| if verbose { session.ui.say(text) } else { session.note(text) };
        let mut columns: Vec<String> = self
            .schema
            .columns
            .iter()
            .take(COLUMNS_SHOWN_MAX)
            .map(|column| format!("{} {}", column.variable, column.ty.name()))
            .collect();
        if self.schema.columns.len() > COLUMNS_SHOWN_MAX {
            columns.push(format!("and {} more", self.schema.columns.len() - COLUMNS_SHOWN_MAX));
        }
        say(format_args!("columns: {}", columns.join(", ")));
        for note in &self.notes {
            say(format_args!("note: {note}"));
        }
    }

    /// Makes the table readable for the cluster.
    pub(crate) async fn hand_over(&self, session: &Session) -> Result<TableInput, Failure> {
        if !session.remote || self.shared {
            let path = self.path.to_str().ok_or_else(|| {
                Failure::usage(format!("the path of {} is not UTF-8", self.name))
                    .hint("give it on standard input: quipu map FORMULA - < INPUT")
            })?;
            return Ok(TableInput::Shared { path: path.to_owned() });
        }
        let file = tokio::fs::File::open(&self.path).await.map_err(|error| Failure::read(&error, &self.name))?;
        let upload = session.service.upload(ReaderStream::with_capacity(file, UPLOAD_BYTES).boxed());
        session.note(format_args!("uploading {}", self.name));
        tokio::select! {
            biased;
            () = session.signals.first() => Err(runner::interrupted()),
            upload = upload => Ok(TableInput::Uploaded { digest: upload?.digest }),
        }
    }
}

/// Whether the path names a file that can be read again and again; an error where it names nothing.
fn is_file(path: &Path) -> Result<bool, Failure> {
    let there = fs::metadata(path).map_err(|error| Failure::read(&error, &path.display()))?;
    if there.is_dir() {
        return Err(Failure::read(&io::ErrorKind::IsADirectory.into(), &path.display()));
    }
    Ok(there.is_file())
}

fn spool_file(session: &Session, name: &str) -> Result<NamedTempFile, Failure> {
    let spool = tempfile::Builder::new()
        .prefix("quipu-input-")
        .tempfile()
        .map_err(|error| Failure::new(Exit::Internal, format!("make a temporary file for {name}: {error}")))?;
    session.signals.leftover(Some(spool.path().to_path_buf()));
    Ok(spool)
}

/// What opening a table needs, on a thread that may block.
struct Options {
    format: Option<InputFormat>,
    delimiter: Option<u8>,
    types: String,
    column: String,
    shared: bool,
}

impl Options {
    fn open(self, source: &Path, name: String, mut spool: Option<NamedTempFile>) -> Result<Table, Failure> {
        let read = |error: io::Error| Failure::read(&error, &name);
        if let Some(spool) = &mut spool {
            let mut pipe: Box<dyn Read> = if source == Path::new("-") {
                Box::new(io::stdin())
            } else {
                Box::new(File::open(source).map_err(read)?)
            };
            io::copy(&mut pipe, spool)
                .map_err(|error| Failure::new(Exit::Internal, format!("copy {name} to a temporary file: {error}")))?;
        }
        let path = match &spool {
            Some(spool) => spool.path().to_path_buf(),
            None => fs::canonicalize(source).map_err(read)?,
        };
        let mut file = BufReader::new(File::open(&path).map_err(read)?);
        let (format, delimiter) = self.form(source, &mut file, &name)?;
        file.rewind().map_err(read)?;
        let trouble = |error: TableError| failure(&name, &error);
        let mut inferred = match format.is_columnar() {
            true => Source::file(file.into_inner())
                .map_err(TableError::from)
                .and_then(|source| infer_columnar(format, source)),
            false => table::infer(file, InferOptions { format, delimiter }),
        }
        .map_err(trouble)?;
        table::apply_types(&mut inferred.schema, &self.types).map_err(trouble)?;
        table::check_output_name(&inferred.schema, &self.column).map_err(trouble)?;
        let (schema, notes) = (inferred.schema, inferred.notes);
        Ok(Table { path, name, schema, notes, shared: self.shared, _spool: spool })
    }

    /// The table's form: as given, by its ending, or by its first character.
    fn form(&self, source: &Path, file: &mut impl BufRead, name: &str) -> Result<(TableFormat, u8), Failure> {
        let ending = source.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let refuse = |problem: &str, hint: &str| Err(Failure::usage(format!("{name}: {problem}")).hint(hint));
        let format = match (self.format, ending.as_str()) {
            (Some(InputFormat::Csv), _) | (None, "csv" | "tsv") => TableFormat::Csv,
            (Some(InputFormat::Ndjson), _) | (None, "ndjson" | "jsonl") => TableFormat::Ndjson,
            (Some(InputFormat::Parquet), _) | (None, "parquet" | "pq") => TableFormat::Parquet,
            (Some(InputFormat::Arrow), _) | (None, "arrow" | "ipc" | "feather") => TableFormat::Arrow,
            (None, "gz" | "zst" | "xz" | "bz2" | "zip") => {
                return refuse(
                    "compressed tables are not read",
                    "give it on standard input: zcat FILE | quipu map FORMULA -",
                );
            }
            (None, "json") => {
                return refuse("a JSON document is no table", "write one object a line and name it .ndjson");
            }
            (None, _) => {
                let head = file.fill_buf().map_err(|error| Failure::read(&error, &name))?;
                if head.starts_with(b"PAR1") {
                    return Ok((TableFormat::Parquet, b','));
                }
                if head.starts_with(b"ARROW1") {
                    return Ok((TableFormat::Arrow, b','));
                }
                let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
                match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
                    Some(b'{') => TableFormat::Ndjson,
                    _ => TableFormat::Csv,
                }
            }
        };
        let delimiter = self.delimiter.unwrap_or(if ending == "tsv" { b'\t' } else { b',' });
        Ok((format, delimiter))
    }
}

/// Trouble with a table as a failure of the command.
fn failure(name: &str, error: &TableError) -> Failure {
    let exit = match error {
        TableError::Io(_) => Exit::NoInput,
        TableError::BadDelimiter { .. }
        | TableError::BadTypes { .. }
        | TableError::UnknownType { .. }
        | TableError::TypeOfFile { .. }
        | TableError::UnknownColumn { .. }
        | TableError::TypeGivenTwice { .. }
        | TableError::OutputNameTaken { .. }
        | TableError::OutputName { .. } => Exit::Usage,
        _ => Exit::Data,
    };
    Failure::new(exit, format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::{FakeCluster, session};
    use std::sync::Arc;

    fn args(path: &Path) -> InputArgs {
        InputArgs {
            path: path.to_path_buf(),
            input_format: None,
            delimiter: None,
            types: Vec::new(),
            shared: false,
            verbose: false,
        }
    }

    async fn open(args: InputArgs) -> Result<Table, Failure> {
        let (_interrupt, session) = session(Arc::new(FakeCluster::with(Vec::new())));
        Table::open(&session, &args, "result").await
    }

    fn types(table: &Table) -> Vec<(&str, &str)> {
        table.schema.columns.iter().map(|c| (c.variable.as_str(), c.ty.name())).collect()
    }

    #[tokio::test]
    async fn endings_and_first_characters_tell_the_form() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, format) in [
            ("a.csv", "x,y\n1,2.5\n", TableFormat::Csv),
            ("a.tsv", "x\ty\n1\t2.5\n", TableFormat::Csv),
            ("a.ndjson", "{\"x\":1,\"y\":2.5}\n", TableFormat::Ndjson),
            ("a.JSONL", "{\"x\":1,\"y\":2.5}\n", TableFormat::Ndjson),
            ("a.data", "\n {\"x\":1,\"y\":2.5}\n", TableFormat::Ndjson),
            ("a", "x,y\n1,2.5\n", TableFormat::Csv),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let table = open(args(&path)).await.unwrap_or_else(|f| panic!("{name}: {}", f.message));
            assert_eq!(table.schema.format, format, "{name}");
            assert_eq!(types(&table), [("x", "int"), ("y", "float")], "{name}");
        }
    }

    #[tokio::test]
    async fn types_and_delimiter_can_be_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "x;y\n1;2\n").unwrap();
        let given =
            InputArgs { delimiter: Some(b';'), types: vec!["x=float".into(), "y=string".into()], ..args(&path) };
        assert_eq!(types(&open(given).await.unwrap()), [("x", "float"), ("y", "string")]);
    }

    #[tokio::test]
    async fn what_is_wrong_decides_the_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let missing = folder.path().join("missing.csv");
        assert_eq!(open(args(&missing)).await.err().unwrap().exit, Exit::NoInput);
        assert_eq!(open(args(folder.path())).await.err().unwrap().exit, Exit::NoInput);
        let empty = write("empty.csv", b"");
        assert_eq!(open(args(&empty)).await.err().unwrap().exit, Exit::Data);
        assert_eq!(open(args(&write("a.parquet", b"x"))).await.err().unwrap().exit, Exit::Data);
        for name in ["a.json", "a.csv.gz"] {
            assert_eq!(open(args(&write(name, b"x"))).await.err().unwrap().exit, Exit::Usage, "{name}");
        }
        let good = write("good.csv", b"x,result\n1,2\n");
        assert_eq!(open(args(&good)).await.err().unwrap().exit, Exit::Usage);
        let typed = InputArgs { types: vec!["z=int".into()], ..args(&good) };
        assert_eq!(open(typed).await.err().unwrap().exit, Exit::Usage);
    }
}
