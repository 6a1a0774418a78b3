//! Rows of a table in columns: a shard decodes the blocks that it needs from the file itself.

use super::prepare::PreparedJob;
use super::run::{Rows, RunError};
use crate::task::{Task, TaskInput};
use arrow_array::RecordBatch;
use quipu_shared::block::{Block, Values};
use quipu_shared::render::ColumnsRenderer;
use quipu_shared::spec::{JobSpec, RowFormat, TableSchema};
use quipu_shared::table::TableError;
use quipu_shared::table::columnar::{ColumnarFile, ColumnarReader, Source};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

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
        let TaskInput::File { path, len, .. } = &task.input else {
            return Err(RunError::Input("a shard of a table in columns came without its file".into()));
        };
        let file = prepared.file.get(schema, path, *len)?;
        let whole = spec.reductions.is_empty() && spec.format != RowFormat::Plain;
        let reader =
            file.read(schema, &prepared.wanted, whole, task.first_row, task.rows).map_err(|error| at(path, &error))?;
        let renderer = ColumnsRenderer::new(schema, name, spec.format);
        Ok(Self { path: path.clone(), reader, renderer, batch: None })
    }
}

impl Rows for ColumnarRows {
    fn next(&mut self, block: &mut Block) -> Result<bool, RunError> {
        self.batch = self.reader.next_block(block).map_err(|error| at(&self.path, &error))?;
        Ok(self.batch.is_some())
    }

    fn render(&mut self, _block: &Block, values: &Values, out: &mut Vec<u8>) {
        if let Some(batch) = &self.batch {
            self.renderer.render(batch, values, out);
        }
    }
}
