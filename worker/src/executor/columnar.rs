//! Rows of a table in columns: a shard decodes the blocks that it needs from the file itself.

use super::prepare::PreparedJob;
use super::run::{Rows, RunError};
use crate::task::{Task, TaskInput};
use arrow_array::RecordBatch;
use quipu_shared::block::{Block, Values};
use quipu_shared::render::{ColumnarWriter, ColumnsRenderer};
use quipu_shared::spec::{JobSpec, RowFormat, TableSchema};
use quipu_shared::table::TableError;
use quipu_shared::table::columnar::{ColumnarFile, ColumnarReader, Decode, Source, unpack};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

/// How messages name a table that the master holds.
const UPLOADED: &str = "the uploaded table";

/// The file of a job's table, opened once a process: its footer may be large.
#[derive(Debug, Default)]
pub struct OpenFile(Mutex<Option<Arc<ColumnarFile>>>);

impl OpenFile {
    /// The file at `path`, whose length was `len` when the job's rows were counted.
    fn get(&self, schema: &TableSchema, path: &str, len: u64) -> Result<Arc<ColumnarFile>, RunError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*open {
            return Ok(Arc::clone(file));
        }
        let trouble = |error: std::io::Error| RunError::Input(format!("open {path}: {error}"));
        let source = Source::file(File::open(path).map_err(trouble)?).map_err(trouble)?;
        if source.len() != len {
            return Err(RunError::Input(format!("{path} has {} bytes and had {len}; it has changed", source.len())));
        }
        let file = ColumnarFile::open(schema.format, source).map_err(|error| at(path, &error))?;
        Ok(Arc::clone(open.insert(Arc::new(file))))
    }
}

fn at(path: &str, error: &TableError) -> RunError {
    RunError::Input(format!("{path}: {error}"))
}

/// Rows of a shard, decoded block by block.
pub(super) struct ColumnarRows {
    /// The file, as messages name it.
    path: String,
    reader: ColumnarReader,
    renderer: ColumnsRenderer,
    /// Where the output is in columns too.
    writer: Option<ColumnarWriter>,
    /// Why rows could not be written.
    trouble: Option<String>,
    batch: Option<RecordBatch>,
}

impl ColumnarRows {
    /// The rows of a shard.
    pub(super) fn open(
        task: &Task,
        prepared: &PreparedJob,
        schema: &TableSchema,
        name: &str,
        spec: &JobSpec,
    ) -> Result<Self, RunError> {
        let (path, file) = match &task.input {
            TaskInput::File { path, len, .. } => (path.as_str(), prepared.file.get(schema, path, *len)?),
            TaskInput::Records(bytes) => {
                let opened = unpack(schema.format, bytes).and_then(|source| ColumnarFile::open(schema.format, source));
                (UPLOADED, Arc::new(opened.map_err(|error| at(UPLOADED, &error))?))
            }
            TaskInput::Generated | TaskInput::Formulas(_) => {
                return Err(RunError::Input("a shard of a table in columns came without its file".into()));
            }
        };
        let decode = match spec.format {
            _ if !spec.reductions.is_empty() => Decode::Wanted,
            RowFormat::Plain => Decode::Wanted,
            RowFormat::Csv | RowFormat::Ndjson | RowFormat::Parquet => Decode::All,
            RowFormat::Arrow => Decode::AllTyped,
        };
        let reader =
            file.read(schema, &prepared.wanted, decode, task.first_row, task.rows).map_err(|error| at(path, &error))?;
        let renderer = ColumnsRenderer::new(schema, name, spec.format);
        let writer = writer_of(prepared, spec)?;
        Ok(Self { path: path.to_owned(), reader, renderer, writer, trouble: None, batch: None })
    }
}

impl Rows for ColumnarRows {
    fn next(&mut self, block: &mut Block) -> Result<bool, RunError> {
        self.batch = self.reader.next_block(block).map_err(|error| at(&self.path, &error))?;
        Ok(self.batch.is_some())
    }

    fn render(&mut self, _block: &Block, values: &Values, out: &mut Vec<u8>) {
        let Some(batch) = &self.batch else { return };
        match &mut self.writer {
            None => self.renderer.render(batch, values, out),
            Some(writer) => keep(writer.write_batch(batch, values, out), &mut self.trouble),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), RunError> {
        finish(self.writer.as_mut(), self.trouble.take(), out)
    }
}

/// The writer of an output in columns; none for one of text or of reductions.
fn writer_of(prepared: &PreparedJob, spec: &JobSpec) -> Result<Option<ColumnarWriter>, RunError> {
    let columns = prepared.output.clone().filter(|_| spec.reductions.is_empty());
    let writer = columns.map(|columns| ColumnarWriter::new(spec.format, columns)).transpose();
    Ok(writer.map_err(RunError::Input)?.flatten())
}

/// Keeps the first trouble: rendering has no room for it, and the end of the shard tells.
fn keep(result: Result<(), String>, trouble: &mut Option<String>) {
    if let Err(error) = result {
        trouble.get_or_insert(error);
    }
}

fn finish(writer: Option<&mut ColumnarWriter>, trouble: Option<String>, out: &mut Vec<u8>) -> Result<(), RunError> {
    let ended = writer.map_or(Ok(()), |writer| writer.finish(out));
    trouble.map_or(ended, Err).map_err(|error| RunError::Input(format!("write rows: {error}")))
}

/// Rows of another source, whose blocks hold every column, as an output in columns where the job wants that.
pub(super) struct Columns<R> {
    rows: R,
    writer: Option<ColumnarWriter>,
    trouble: Option<String>,
}

impl<R: Rows> Columns<R> {
    /// Wraps the rows of a job.
    pub(super) fn new(rows: R, prepared: &PreparedJob, spec: &JobSpec) -> Result<Self, RunError> {
        Ok(Self { rows, writer: writer_of(prepared, spec)?, trouble: None })
    }
}

impl<R: Rows> Rows for Columns<R> {
    fn next(&mut self, block: &mut Block) -> Result<bool, RunError> {
        self.rows.next(block)
    }

    fn render(&mut self, block: &Block, values: &Values, out: &mut Vec<u8>) {
        match &mut self.writer {
            None => self.rows.render(block, values, out),
            Some(writer) => keep(writer.write_block(block, values, out), &mut self.trouble),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), RunError> {
        finish(self.writer.as_mut(), self.trouble.take(), out)
    }
}
