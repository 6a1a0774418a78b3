//! A job made ready to run: its formulas parsed, its source built. Once a process and job.

use super::columnar::OpenFile;
use crate::engine::Plan;
use quipu_shared::config::TierChoice;
use quipu_shared::formula::{Formula, FormulaError, FormulaLimits};
use quipu_shared::render::OutputColumns;
use quipu_shared::source::{RowSource, SampleSource, SweepSource};
use quipu_shared::spec::{ColumnType, JobKind, JobSpec};
use std::sync::Arc;

/// Why a job can't be run here.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PreparedJobError {
    /// Its formula.
    #[error("{0}")]
    Formula(#[from] FormulaError),
    /// Its axes or draws.
    #[error("{0}")]
    Source(String),
}

/// A job that is ready to run.
pub struct PreparedJob {
    /// Limits on its formulas, as the master has them.
    pub limits: FormulaLimits,
    /// What is computed; none for `eval`, whose formulas come with each shard.
    pub formula: Option<Arc<Plan>>,
    /// Which rows of a table count.
    pub condition: Option<Arc<Plan>>,
    /// Where generated rows come from.
    pub source: Option<Box<dyn RowSource>>,
    /// The inputs, in the order of a block's columns.
    pub variables: Vec<String>,
    /// For a table: which of its columns the formulas read, in the order of a block's columns.
    pub wanted: Vec<usize>,
    /// For an output in columns: what they are.
    pub output: Option<OutputColumns>,
    /// For a table in columns: its file.
    pub file: OpenFile,
}

impl std::fmt::Debug for PreparedJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedJob").field("variables", &self.variables).finish_non_exhaustive()
    }
}

impl PreparedJob {
    /// Makes a job ready.
    ///
    /// # Errors
    /// Where its formula or its source is not valid.
    pub fn new(spec: &JobSpec, limits: FormulaLimits, tier: TierChoice) -> Result<Self, PreparedJobError> {
        let source_error = |error: &dyn std::fmt::Display| PreparedJobError::Source(error.to_string());
        let mut job = Self {
            limits,
            formula: None,
            condition: None,
            source: None,
            variables: Vec::new(),
            wanted: Vec::new(),
            output: None,
            file: OpenFile::default(),
        };
        let mut types: Vec<ColumnType> = Vec::new();
        let (formula, condition) = match &spec.kind {
            JobKind::Eval { .. } => return Ok(job),
            JobKind::Sweep { formula, axes, .. } => {
                job.source = Some(Box::new(SweepSource::new(axes).map_err(|error| source_error(&error))?));
                (Formula::parse(formula, &job.limits)?, None)
            }
            JobKind::Sample { formula, rows, seed, draws, .. } => {
                let source = SampleSource::new(draws, *rows, *seed).map_err(|error| source_error(&error))?;
                job.source = Some(Box::new(source));
                (Formula::parse(formula, &job.limits)?, None)
            }
            JobKind::Map { formula, condition, schema, .. } => {
                let formula = Formula::parse(formula, &job.limits)?;
                let condition =
                    condition.as_ref().map(|condition| Formula::parse(condition, &job.limits)).transpose()?;
                let reads = |name: &String| {
                    formula.variables().contains(name)
                        || condition.as_ref().is_some_and(|condition| condition.variables().contains(name))
                };
                // An output in columns needs the values of all of them; a file in columns has them at hand.
                let all = spec.format.is_columnar() && spec.reductions.is_empty() && !schema.format.is_columnar();
                for (index, column) in schema.columns.iter().enumerate() {
                    if all || reads(&column.variable) {
                        job.wanted.push(index);
                        job.variables.push(column.variable.clone());
                        types.push(column.ty);
                    }
                }
                (formula, condition)
            }
        };
        if let Some(source) = &job.source {
            job.variables = source.variables().to_vec();
            types = source.column_types().to_vec();
        }
        let columns: Vec<(String, ColumnType)> = job.variables.iter().cloned().zip(types).collect();
        job.output = OutputColumns::of_job(spec, &formula, &columns).map_err(|error| source_error(&error))?;
        let plan = |formula| Arc::new(Plan::new(&formula, &columns, &spec.bindings, &job.limits, tier));
        (job.formula, job.condition) = (Some(plan(formula)), condition.map(plan));
        Ok(job)
    }
}
