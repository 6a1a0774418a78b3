//! Running one shard: rows in, rendered rows or partials out. Pure but for reading a file's range.
//!
//! Block by block: fill the columns, evaluate, hand the values to a reducer set or to a renderer. Between blocks (and
//! between the formulas of an `eval`) the attempt looks whether it was cancelled or its time is over.

use crate::core::RawOutput;
use crate::engine::Engine;
use crate::executor::columnar::{ColumnarRows, Columns};
use crate::executor::prepare::{PreparedJob, PreparedJobError};
use crate::task::{Task, TaskInput};
use bytes::Bytes;
use quipu_shared::BLOCK_ROWS;
use quipu_shared::block::{Block, Column, RowError, RowState, Values};
use quipu_shared::formula::{Evaluator, Formula, Symbols};
use quipu_shared::reduce::ReducerSet;
use quipu_shared::render::{EvalFailure, MapRenderer, RowRenderer, write_eval_line};
use quipu_shared::spec::{JobKind, JobSpec, OnError, Scalar};
use quipu_shared::table::TableReader;
use quipu_shared::wire::{ERRORS_KEPT_MAX, EvalTier};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Why an attempt has no output.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The job's time is over.
    #[error("the deadline has passed")]
    DeadlinePassed,
    /// The job can't be run here.
    #[error(transparent)]
    Prepare(#[from] PreparedJobError),
    /// The input can't be read.
    #[error("{0}")]
    Input(String),
}

/// Runs a shard.
///
/// # Errors
/// Where it was stopped, or its input went away. Rows that fail are part of the output.
pub fn run_shard(task: &Task) -> Result<RawOutput, RunError> {
    let prepared = task.job.prepared()?;
    let spec = &*task.job.spec;
    match (&spec.kind, &task.input) {
        (JobKind::Eval { .. }, TaskInput::Formulas(formulas)) => run_eval(task, prepared, formulas),
        (JobKind::Map { schema, name, .. }, _) if schema.format.is_columnar() => {
            let rows = ColumnarRows::open(task, prepared, schema, name, spec)?;
            Shard::new(task, prepared)?.run(rows)
        }
        (JobKind::Map { schema, name, .. }, input) => {
            let bytes = table_bytes(input)?;
            let reader = TableReader::new(schema, &prepared.wanted, &bytes, task.first_row)
                .map_err(|error| RunError::Input(error.to_string()))?;
            let reader = if spec.reductions.is_empty() { reader.for_output(spec.format, name) } else { reader };
            let renderer = MapRenderer::new(schema, name, spec.format);
            let rows = TableRows { reader, records: Vec::new(), bytes: &bytes, renderer };
            let room = bytes.len() + RESULT_BYTES_GUESS * usize::try_from(task.rows).unwrap_or_default();
            Shard::new(task, prepared)?.with_room(room).run(Columns::new(rows, prepared, spec)?)
        }
        (JobKind::Sweep { name, .. } | JobKind::Sample { name, .. }, _) => {
            let renderer = RowRenderer::new(&prepared.variables, name, spec.format);
            let rows = GeneratedRows { prepared, renderer, next_row: task.first_row, end: task.first_row + task.rows };
            Shard::new(task, prepared)?.run(Columns::new(rows, prepared, spec)?)
        }
        (JobKind::Eval { .. }, _) => Err(RunError::Input("an eval shard came without its formulas".into())),
    }
}

/// Bytes that a result and its separator add to a record.
const RESULT_BYTES_GUESS: usize = 26;
/// Room for output that is set aside at most, whatever the guess.
const ROOM_BYTES_MAX: usize = 32 * 1024 * 1024;

fn check_time(task: &Task) -> Result<(), RunError> {
    if task.control.is_cancelled() {
        return Err(RunError::Cancelled);
    }
    match task.deadline {
        Some(deadline) if Instant::now() >= deadline => Err(RunError::DeadlinePassed),
        _ => Ok(()),
    }
}

fn run_eval(task: &Task, prepared: &PreparedJob, formulas: &[String]) -> Result<RawOutput, RunError> {
    let spec = &*task.job.spec;
    let symbols = Symbols {
        variables: spec.bindings.iter().map(|(name, _)| (name.clone(), None)).collect(),
        policy: spec.symbols.clone(),
    };
    let mut out = Vec::with_capacity(formulas.len() * 48);
    let mut failed = 0;
    let mut errors = Vec::new();
    for (row, text) in (task.first_row..).zip(formulas) {
        check_time(task)?;
        let result = Formula::parse(text, &prepared.limits).and_then(|formula| {
            formula.check(&symbols)?;
            Evaluator::new(&formula, &[], &spec.bindings, &prepared.limits).evaluate_once()
        });
        if let Err(error) = &result {
            failed += 1;
            if errors.len() < ERRORS_KEPT_MAX {
                errors.push(RowError { row, code: error.code.as_str().into(), message: error.message.clone() });
            }
        }
        write_eval_line(&mut out, row, &result.map_err(|error| EvalFailure::from(&error)));
        task.control.add_rows(1);
    }
    Ok(RawOutput { tier: EvalTier::Evalexpr, rows: formulas.len() as u64, failed, errors, bytes: out.into() })
}

fn table_bytes(input: &TaskInput) -> Result<Bytes, RunError> {
    match input {
        TaskInput::Records(bytes) => Ok(bytes.clone()),
        TaskInput::File { path, offset, len } => {
            let trouble = |error: std::io::Error| RunError::Input(format!("read {len} bytes of {path}: {error}"));
            let mut bytes = vec![0; usize::try_from(*len).map_err(|error| RunError::Input(error.to_string()))?];
            let file = File::open(path).map_err(trouble)?;
            file.read_exact_at(&mut bytes, *offset).map_err(trouble)?;
            Ok(bytes.into())
        }
        TaskInput::Generated | TaskInput::Formulas(_) => Err(RunError::Input("a map shard came without bytes".into())),
    }
}

/// Rows of a shard, block by block, and how they are rendered.
pub(super) trait Rows {
    /// Fills the next block; false at the end.
    fn next(&mut self, block: &mut Block) -> Result<bool, RunError>;
    /// Renders the rows of the block that was filled last.
    fn render(&mut self, block: &Block, values: &Values, out: &mut Vec<u8>);
    /// Renders what is still to be written after the last block.
    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), RunError> {
        Ok(())
    }
}

struct GeneratedRows<'a> {
    prepared: &'a PreparedJob,
    renderer: RowRenderer,
    next_row: u64,
    end: u64,
}

impl Rows for GeneratedRows<'_> {
    fn next(&mut self, block: &mut Block) -> Result<bool, RunError> {
        if self.next_row >= self.end {
            return Ok(false);
        }
        let source = self.prepared.source.as_ref().ok_or_else(|| RunError::Input("no source of rows".into()))?;
        let len = (self.end - self.next_row).min(BLOCK_ROWS);
        source.fill(self.next_row, len as usize, block);
        self.next_row += len;
        Ok(true)
    }

    fn render(&mut self, block: &Block, values: &Values, out: &mut Vec<u8>) {
        self.renderer.render(block, values, out);
    }
}

struct TableRows<'a> {
    reader: TableReader<'a>,
    records: Vec<Range<usize>>,
    bytes: &'a [u8],
    renderer: MapRenderer,
}

impl Rows for TableRows<'_> {
    fn next(&mut self, block: &mut Block) -> Result<bool, RunError> {
        let rows = self.reader.next_block(block, &mut self.records);
        Ok(rows.map_err(|error| RunError::Input(error.to_string()))? > 0)
    }

    fn render(&mut self, block: &Block, values: &Values, out: &mut Vec<u8>) {
        self.renderer.render(self.bytes, &self.records, block, values, out);
    }
}

/// What a shard gathers.
struct Shard<'a> {
    task: &'a Task,
    spec: &'a JobSpec,
    formula: Engine,
    condition: Option<Engine>,
    /// Buffers of the condition's values.
    tested: Values,
    selected: Vec<bool>,
    reducers: Option<ReducerSet>,
    out: Vec<u8>,
    rows: u64,
    failed: u64,
    errors: Vec<RowError>,
}

impl<'a> Shard<'a> {
    fn new(task: &'a Task, prepared: &PreparedJob) -> Result<Self, RunError> {
        let spec = &*task.job.spec;
        let plan = prepared.formula.as_ref().ok_or_else(|| RunError::Input("the job has no formula".into()))?;
        let reducers = match spec.reductions.is_empty() {
            true => None,
            false => Some(
                ReducerSet::new(&spec.reductions, &prepared.variables, spec.exact)
                    .map_err(|error| RunError::Input(error.to_string()))?,
            ),
        };
        Ok(Self {
            task,
            spec,
            formula: Engine::new(plan),
            condition: prepared.condition.as_ref().map(Engine::new),
            tested: Values::default(),
            selected: Vec::new(),
            reducers,
            out: Vec::new(),
            rows: 0,
            failed: 0,
            errors: Vec::new(),
        })
    }

    /// Sets aside room for the output: grown by doubling, it would be copied again and again and held twice.
    fn with_room(mut self, bytes: usize) -> Self {
        if self.reducers.is_none() {
            self.out.reserve(bytes.min(ROOM_BYTES_MAX));
        }
        self
    }

    fn run(mut self, mut rows: impl Rows) -> Result<RawOutput, RunError> {
        let mut block = Block::default();
        let mut values = Values::default();
        while rows.next(&mut block)? {
            check_time(self.task)?;
            self.evaluate(&block, &mut values);
            self.reduce(&block, &mut values);
            self.rows += block.len as u64;
            self.task.control.add_rows(block.len as u64);
            let fails = self.spec.on_error == OnError::Fail && !values.errors.is_empty();
            self.failed += values.errors.len() as u64;
            let room = ERRORS_KEPT_MAX - self.errors.len();
            self.errors.extend(values.errors.iter().take(room).cloned());
            if fails {
                // The job will fail with this row or a lower one: nothing above it is of use.
                return Ok(RawOutput {
                    tier: self.formula.main_tier(),
                    rows: self.rows,
                    failed: self.failed,
                    errors: self.errors,
                    bytes: Bytes::new(),
                });
            }
            if self.reducers.is_none() {
                rows.render(&block, &values, &mut self.out);
            }
        }
        if self.reducers.is_none() {
            rows.finish(&mut self.out)?;
        }
        let bytes = match self.reducers {
            Some(reducers) => reducers.to_bytes().into(),
            None => self.out.into(),
        };
        let tier = self.formula.main_tier();
        Ok(RawOutput { tier, rows: self.rows, failed: self.failed, errors: self.errors, bytes })
    }

    /// Hands the values to the reducers. A value that they do not take is a failed row like any other.
    fn reduce(&mut self, block: &Block, values: &mut Values) {
        let Some(reducers) = &mut self.reducers else { return };
        while let Err(error) = reducers.push(block, values) {
            let Some(state) = values.states.get_mut((error.row - block.first_row) as usize) else { return };
            *state = if self.spec.on_error == OnError::Null { RowState::Null } else { RowState::Hole };
            let at = values.errors.partition_point(|earlier| earlier.row < error.row);
            values.errors.insert(at, error);
        }
    }

    /// Evaluates the condition, then the formula on the rows for which it holds.
    fn evaluate(&mut self, block: &Block, values: &mut Values) {
        let on_error = self.spec.on_error;
        let Some(condition) = &mut self.condition else {
            return self.formula.evaluate(block, None, on_error, values);
        };
        let Self { tested, selected, .. } = self;
        condition.evaluate(block, None, on_error, tested);
        selected.clear();
        match &tested.column {
            Column::Boolean(holds) => {
                let rows = tested.states.iter().zip(holds);
                selected.extend(rows.map(|(state, holds)| *state == RowState::Valid && *holds));
            }
            column => {
                selected.resize(block.len, false);
                for (row, selected) in selected.iter_mut().enumerate() {
                    if tested.states[row] != RowState::Valid {
                        continue;
                    }
                    match column.get(row) {
                        Scalar::Boolean(holds) => *selected = holds,
                        _ => tested.errors.push(RowError {
                            row: block.first_row + row as u64,
                            code: "condition_not_boolean".into(),
                            message: "the condition (--where) is neither true nor false; compare something".into(),
                        }),
                    }
                }
            }
        }
        self.formula.evaluate(block, Some(selected), on_error, values);
        if !tested.errors.is_empty() {
            // Rows that failed in the condition are not selected, so that none fails twice.
            if on_error == OnError::Null {
                for error in &tested.errors {
                    if let Some(state) = values.states.get_mut((error.row - block.first_row) as usize) {
                        *state = RowState::Null;
                    }
                }
            }
            values.errors.append(&mut tested.errors);
            values.errors.sort_by_key(|error| error.row);
        }
    }
}
