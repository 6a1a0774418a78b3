//! What a job must be to be accepted, and what the scheduler needs to know of it.

use crate::jobs::entry::JobTable;
use crate::scheduler::JobPlan;
use quipu_shared::BLOCK_ROWS;
use quipu_shared::access::Namespace;
use quipu_shared::config::NamespaceQuota;
use quipu_shared::formula::typed::TypedFormula;
use quipu_shared::formula::{Formula, FormulaError, FormulaLimits, Symbols};
use quipu_shared::reduce::{ReduceError, ReducerSet};
use quipu_shared::render::{MapRenderer, OutputColumns, RowRenderer, columnar_header, unit_rows};
use quipu_shared::service::{ErrorKind, Place, ServiceError};
use quipu_shared::source::{RowSource, SampleSource, SweepSource};
use quipu_shared::spec::{ColumnType, JobKind, JobSpec, OnError, QueueOptions, RowFormat, Scalar, TableInput};
use quipu_shared::table::{
    check_formula_inputs, check_output_name, check_schema, check_text_output, variables as variables_of,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of output that a shard is cut for, so that a worker's memory does not grow with a job's rows.
const SHARD_BYTES_TARGET: u64 = 4 * 1024 * 1024;
/// Bytes of a job's name: it stands in tables and logs.
const NAME_BYTES_MAX: usize = 128;
/// Labels of a job: they stand in its record, which is rewritten when it changes.
const LABELS_MAX: usize = 16;
/// Bytes of a label's name, and of its value.
const LABEL_BYTES_MAX: usize = 128;
/// Highest priority, and with a minus the lowest.
const PRIORITY_MAX: i8 = 100;
/// Jobs that one may wait for.
const DEPENDENCIES_MAX: usize = 1_000;
/// Times that a job may be tried again.
const RETRIES_MAX: u32 = 100;
/// Formulas of a worker's first shard of an `eval`, before its rate is measured.
const EVAL_INITIAL_ROWS: u64 = 64;
/// Formulas of one shard of an `eval`: they travel with the lease.
const EVAL_SHARD_ROWS_MAX: u64 = 4096;
/// What the first shards of generated rows are cut for, nanoseconds: long beside a round trip, short beside a job.
const INITIAL_NS: f64 = 5e6;
/// A generated value's price, nanoseconds, and that of reducing it.
const SOURCE_NS: f64 = 1.0;
/// Rows of the first shards at most: estimates may be wrong.
const INITIAL_ROWS_MAX: u64 = 1 << 20;
/// Bytes that a row of results takes beside its inputs: a number, a separator, a line end.
const RESULT_BYTES_GUESS: u64 = 24;
/// Bytes of a record where nothing is known of it.
const RECORD_BYTES_GUESS: u64 = 128;

/// Bytes of a cell of a table in columns.
const CELL_BYTES_GUESS: u64 = 16;
/// Rows of the first shards of a table in columns, and at least of the largest: a page holds about so many.
const COLUMNAR_ROWS: u64 = 8 * BLOCK_ROWS;

/// Rows of a shard of an uploaded table in columns: its row groups are pulled as a whole, and many writers make them of
/// this size, so that none is pulled twice.
const PULLED_COLUMNAR_ROWS: u64 = 30 * BLOCK_ROWS;

/// Limits on jobs.
#[derive(Clone, Debug)]
pub struct Admission {
    /// On formulas.
    pub formula: FormulaLimits,
    /// Jobs that have not ended.
    pub jobs_pending_max: usize,
    /// Bytes of the specs of jobs that have not ended.
    pub pending_bytes_max: u64,
    /// Jobs that may wait for one.
    pub dependents_max: u32,
    /// Namespaces that have jobs.
    pub namespaces_max: usize,
    /// What those of them that are named in the configuration may take.
    pub namespaces: BTreeMap<Namespace, NamespaceQuota>,
    /// Formulas of one `eval`.
    pub formulas_per_job_max: usize,
    /// Rows of one job.
    pub rows_max: u64,
    /// Whether a `map` may name a file of the workers by its path. On a cluster that is the operator's to allow, since
    /// it makes every file readable that the workers can read.
    pub shared_paths: bool,
}

/// A job that may run.
pub struct Admitted {
    /// As submitted.
    pub spec: Arc<JobSpec>,
    /// As workers get it: without the formulas of an `eval`, which come with each shard.
    pub lean_spec: Arc<JobSpec>,
    /// For the scheduler.
    pub plan: JobPlan,
    /// An empty set, where the job has reductions.
    pub reducers: Option<ReducerSet>,
    /// What the results begin with.
    pub header: Vec<u8>,
    /// Bytes of results that a row is expected to make.
    pub row_bytes: u64,
    /// Whether workers open the table themselves.
    pub shared_input: bool,
}

impl Admission {
    /// Checks a job.
    ///
    /// # Errors
    /// What is wrong with it: [`ErrorKind::Invalid`] for a formula, with its place, [`ErrorKind::Usage`] for the rest.
    pub fn admit(&self, spec: &JobSpec) -> Result<Admitted, ServiceError> {
        if let Some(name) = &spec.name
            && name.len() > NAME_BYTES_MAX
        {
            return Err(usage("name_too_long", format!("a job's name has at most {NAME_BYTES_MAX} bytes")));
        }
        check_queue_options(&spec.queue)?;
        let mut shared_input = false;
        let shape = match &spec.kind {
            JobKind::Eval { formulas } => {
                if !spec.reductions.is_empty() {
                    return Err(usage("no_reductions", "eval has no rows to reduce; use sweep, sample or map".into()));
                }
                if formulas.len() > self.formulas_per_job_max {
                    return Err(ServiceError {
                        kind: ErrorKind::TooLarge,
                        ..usage(
                            "too_many_formulas",
                            format!(
                                "{} formulas are over the limit of {} a job (limits.formulas_per_job_max)",
                                formulas.len(),
                                self.formulas_per_job_max
                            ),
                        )
                    });
                }
                Shape::eval(formulas.len() as u64)
            }
            JobKind::Sweep { formula, name, axes } => {
                let source = SweepSource::new(axes).map_err(|error| usage("bad_axis", error.to_string()))?;
                self.check_generated(spec, formula, name, &source)?
            }
            JobKind::Sample { formula, name, rows, seed, draws } => {
                let source =
                    SampleSource::new(draws, *rows, *seed).map_err(|error| usage("bad_draw", error.to_string()))?;
                self.check_generated(spec, formula, name, &source)?
            }
            JobKind::Map { formula, condition, name, schema, input } => {
                shared_input = matches!(input, TableInput::Shared { .. });
                if shared_input && !self.shared_paths {
                    return Err(ServiceError {
                        kind: ErrorKind::Forbidden,
                        ..usage(
                            "shared_paths_off",
                            "this cluster does not open files by path (limits.shared_paths); upload the table".into(),
                        )
                    });
                }
                check_schema(schema).map_err(|error| usage("bad_schema", error.to_string()))?;
                check_output_name(schema, name).map_err(|error| usage("bad_name", error.to_string()))?;
                let variables: Vec<_> =
                    schema.columns.iter().map(|column| (column.variable.clone(), Some(column.ty))).collect();
                let formula = self.check_formula(spec, formula, variables.clone())?;
                let mut read = formula.variables().to_vec();
                if let Some(condition) = condition {
                    read.extend(self.check_formula(spec, condition, variables)?.variables().iter().cloned());
                }
                check_formula_inputs(schema, &read).map_err(|error| usage("unreadable_column", error.to_string()))?;
                if spec.reductions.is_empty() {
                    check_text_output(schema, spec.format)
                        .map_err(|error| usage("column_without_text", error.to_string()))?;
                }
                let columnar = schema.format.is_columnar();
                let pulled = columnar && !shared_input;
                let output = Self::output_columns(spec, &formula, &[])?;
                let text_header = || MapRenderer::new(schema, name, spec.format).header().unwrap_or_default();
                Shape {
                    rows: 0,
                    rows_final: false,
                    granule: match &output {
                        Some(output) if spec.format == RowFormat::Parquet => output.unit_rows,
                        _ if pulled => PULLED_COLUMNAR_ROWS,
                        Some(output) => output.unit_rows,
                        None => BLOCK_ROWS,
                    },
                    initial_rows: match &output {
                        _ if pulled => PULLED_COLUMNAR_ROWS,
                        Some(output) => output.unit_rows,
                        None if columnar => COLUMNAR_ROWS,
                        None => BLOCK_ROWS,
                    },
                    // Workers read no other columns, and partials name their inputs.
                    inputs: variables_of(schema)
                        .filter(|name| read.iter().any(|r| r == name))
                        .map(Into::into)
                        .collect(),
                    header: output.map_or_else(text_header, |output| output.header),
                    row_bytes: match columnar {
                        true => CELL_BYTES_GUESS * schema.columns.len() as u64 + RESULT_BYTES_GUESS,
                        false => RECORD_BYTES_GUESS + RESULT_BYTES_GUESS,
                    },
                }
            }
        };
        if spec.exact && spec.reductions.is_empty() {
            return Err(usage("bad_reduction", ReduceError::ExactWithoutReductions.to_string()));
        }
        let reducers = match spec.reductions.is_empty() {
            true => None,
            false => Some(
                ReducerSet::new(&spec.reductions, &shape.inputs, spec.exact)
                    .map_err(|error| usage("bad_reduction", error.to_string()))?,
            ),
        };
        let plan = JobPlan {
            granule: shape.granule,
            rows_known: shape.rows,
            rows_final: shape.rows_final,
            initial_rows: shape.initial_rows,
            shard_rows_max: match (&spec.kind, &reducers) {
                // A row group; it can't be cut.
                (_, None) if spec.format == RowFormat::Parquet => shape.granule,
                (JobKind::Eval { .. }, _) => EVAL_SHARD_ROWS_MAX,
                // Whole row groups are pulled for it.
                (JobKind::Map { schema, input: TableInput::Uploaded { .. }, .. }, _) if schema.format.is_columnar() => {
                    shape.granule
                }
                // Read block by block, whatever their number; small shards would decode the pages between them twice.
                (JobKind::Map { schema, .. }, Some(_)) if schema.format.is_columnar() => u64::MAX,
                (JobKind::Map { schema, .. }, None) if schema.format.is_columnar() => {
                    (SHARD_BYTES_TARGET / shape.row_bytes).next_multiple_of(BLOCK_ROWS).max(COLUMNAR_ROWS)
                }
                (JobKind::Map { .. }, _) | (_, None) => {
                    (SHARD_BYTES_TARGET / shape.row_bytes.max(1)).max(1).next_multiple_of(BLOCK_ROWS)
                }
                _ => u64::MAX,
            },
            fail_fast: spec.on_error == OnError::Fail && !matches!(spec.kind, JobKind::Eval { .. }),
            deadline_at: None,
            up_to_row: u64::MAX,
            priority: spec.queue.priority,
            affinity: affinity(&spec.kind),
            group: Some(spec.queue.namespace.to_string().into()),
        };
        let header = if reducers.is_some() { Vec::new() } else { shape.header };
        Ok(Admitted {
            spec: Arc::new(spec.clone()),
            lean_spec: Arc::new(lean(spec)),
            plan,
            reducers,
            header,
            row_bytes: shape.row_bytes,
            shared_input,
        })
    }

    /// Refuses further jobs, so many in each namespace, where too many have not ended.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`], with when to try again.
    pub fn check_room(&self, jobs: &JobTable, more: &BTreeMap<Namespace, usize>) -> Result<(), ServiceError> {
        let (pending, bytes) = jobs.index(|index| (index.pending_count(), index.pending_bytes()));
        for (namespace, more) in more {
            self.check_namespace(jobs, namespace, *more)?;
        }
        let message = if pending + more.values().sum::<usize>() > self.jobs_pending_max {
            format!("{pending} jobs have not ended, and {} may (limits.jobs_pending_max)", self.jobs_pending_max)
        } else if bytes > self.pending_bytes_max {
            format!(
                "the specs of jobs that have not ended take {bytes} bytes, and {} may be (limits.pending_bytes_max)",
                self.pending_bytes_max
            )
        } else {
            return Ok(());
        };
        Err(busy("too_many_jobs", message))
    }

    fn check_namespace(&self, jobs: &JobTable, namespace: &Namespace, more: usize) -> Result<(), ServiceError> {
        let (usage, (namespaces, known)) = jobs.index(|index| (index.usage(namespace), index.namespaces(namespace)));
        if !known && namespaces >= self.namespaces_max {
            let message = format!(
                "there are {namespaces} namespaces with jobs already (limits.namespaces_max), {namespace} is new"
            );
            return Err(busy("too_many_namespaces", message));
        }
        let Some(quota) = self.namespaces.get(namespace) else { return Ok(()) };
        if let Some(max) = quota.jobs_pending_max
            && usage.pending + more > max
        {
            let message = format!(
                "{} jobs of namespace {namespace} have not ended, and {max} may \
                 (namespaces.{namespace}.jobs_pending_max)",
                usage.pending
            );
            return Err(busy("namespace_jobs", message));
        }
        if let Some(max) = quota.pending_bytes_max
            && usage.pending_bytes > max
        {
            let message = format!(
                "the specs of jobs of namespace {namespace} that have not ended take {} bytes, and {max} may be \
                 (namespaces.{namespace}.pending_bytes_max)",
                usage.pending_bytes
            );
            return Err(busy("namespace_bytes", message));
        }
        Ok(())
    }

    /// Takes from a job what its namespace does not allow.
    pub fn narrow(&self, spec: &mut JobSpec) {
        if let Some(functions) = self.namespaces.get(&spec.queue.namespace).and_then(|quota| quota.functions) {
            spec.symbols.functions = std::cmp::min(spec.symbols.functions, functions);
        }
    }

    fn check_generated(
        &self,
        spec: &JobSpec,
        formula: &str,
        name: &str,
        source: &dyn RowSource,
    ) -> Result<Shape, ServiceError> {
        if source.rows() > self.rows_max {
            return Err(ServiceError {
                kind: ErrorKind::TooLarge,
                ..usage(
                    "too_many_rows",
                    format!("{} rows are over the limit of {} (limits.rows_max)", source.rows(), self.rows_max),
                )
            });
        }
        let variables = source.variables().to_vec();
        if variables.iter().any(|variable| variable == name) {
            return Err(usage("bad_name", format!("{name} is a variable already; name the result otherwise (--as)")));
        }
        let columns: Vec<(String, ColumnType)> =
            variables.iter().cloned().zip(source.column_types().iter().copied()).collect();
        let typed = columns.iter().map(|(name, ty)| (name.clone(), Some(*ty))).collect();
        let formula = self.check_formula(spec, formula, typed)?;
        let row_bytes = RESULT_BYTES_GUESS * (variables.len() as u64 + 1);
        let output = Self::output_columns(spec, &formula, &columns)?;
        let text_header = || RowRenderer::new(&variables, name, spec.format).header().unwrap_or_default();
        let granule = output.as_ref().map_or(BLOCK_ROWS, |output| output.unit_rows);
        Ok(Shape {
            rows: source.rows(),
            rows_final: true,
            granule,
            initial_rows: initial_rows(&formula, &columns, &spec.bindings).next_multiple_of(granule),
            header: output.map_or_else(text_header, |output| output.header),
            inputs: variables,
            row_bytes,
        })
    }

    /// For an output in columns: what it begins with, and how many rows its parts have.
    fn output_columns(
        spec: &JobSpec,
        formula: &Formula,
        inputs: &[(String, ColumnType)],
    ) -> Result<Option<ColumnarOutput>, ServiceError> {
        let columns =
            OutputColumns::of_job(spec, formula, inputs).map_err(|error| usage("bad_schema", error.to_string()))?;
        let Some(columns) = columns else { return Ok(None) };
        let header = columnar_header(spec.format, &columns).map_err(|error| {
            usage("column_without_form", format!("the output can't keep the table's columns: {error}"))
        })?;
        Ok(Some(ColumnarOutput { header, unit_rows: unit_rows(spec.format, &columns) }))
    }

    /// The formula, parsed and checked.
    fn check_formula(
        &self,
        spec: &JobSpec,
        formula: &str,
        mut variables: Vec<(String, Option<ColumnType>)>,
    ) -> Result<Formula, ServiceError> {
        for (name, value) in &spec.bindings {
            if variables.iter().any(|(variable, _)| variable == name) {
                return Err(usage("bound_twice", format!("{name} is an input of the job and bound with -v too")));
            }
            variables.push((name.clone(), value.column_type()));
        }
        let symbols = Symbols { variables, policy: spec.symbols.clone() };
        Formula::parse(formula, &self.formula)
            .and_then(|parsed| parsed.check(&symbols).map(|()| parsed))
            .map_err(|error| invalid_formula(formula, &error))
    }
}

/// A spec without the formulas of an `eval`.
fn lean(spec: &JobSpec) -> JobSpec {
    let kind = match &spec.kind {
        JobKind::Eval { .. } => JobKind::Eval { formulas: Vec::new() },
        kind => kind.clone(),
    };
    JobSpec {
        kind,
        bindings: spec.bindings.clone(),
        symbols: spec.symbols.clone(),
        on_error: spec.on_error,
        reductions: spec.reductions.clone(),
        exact: spec.exact,
        format: spec.format,
        deadline_ms: spec.deadline_ms,
        name: spec.name.clone(),
        queue: QueueOptions::default(),
    }
}

fn check_queue_options(queue: &QueueOptions) -> Result<(), ServiceError> {
    let long = |text: &String| text.is_empty() || text.len() > LABEL_BYTES_MAX;
    if queue.labels.len() > LABELS_MAX
        || queue.labels.iter().any(|(key, value)| long(key) || value.len() > LABEL_BYTES_MAX)
    {
        let message = format!("a job has at most {LABELS_MAX} labels, of 1 to {LABEL_BYTES_MAX} bytes each");
        return Err(usage("bad_label", message));
    }
    if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&queue.priority) {
        let message = format!("priority {} is not from -{PRIORITY_MAX} to {PRIORITY_MAX}", queue.priority);
        return Err(usage("bad_priority", message));
    }
    if queue.after.len() > DEPENDENCIES_MAX {
        return Err(usage("too_many_dependencies", format!("a job waits for at most {DEPENDENCIES_MAX} others")));
    }
    if queue.retries > RETRIES_MAX {
        return Err(usage("too_many_retries", format!("a job is tried again at most {RETRIES_MAX} times")));
    }
    Ok(())
}

/// Rows of the first shards of generated rows: a few milliseconds by the formula's price, before a rate is measured.
fn initial_rows(formula: &Formula, columns: &[(String, ColumnType)], bindings: &[(String, Scalar)]) -> u64 {
    let price = match TypedFormula::new(formula, columns, bindings) {
        Ok(typed) => typed.cost_ns(),
        Err(_) => formula.tree_cost_ns(),
    };
    let row_ns = price + SOURCE_NS * columns.len() as f64;
    ((INITIAL_NS / row_ns) as u64).clamp(1, INITIAL_ROWS_MAX).next_multiple_of(BLOCK_ROWS)
}

/// An output in columns.
struct ColumnarOutput {
    header: Vec<u8>,
    unit_rows: u64,
}

/// What the sources differ in.
struct Shape {
    rows: u64,
    rows_final: bool,
    granule: u64,
    initial_rows: u64,
    inputs: Vec<String>,
    header: Vec<u8>,
    row_bytes: u64,
}

impl Shape {
    fn eval(rows: u64) -> Self {
        Self {
            rows,
            rows_final: true,
            granule: 1,
            initial_rows: EVAL_INITIAL_ROWS,
            inputs: Vec::new(),
            header: Vec::new(),
            row_bytes: 2 * RESULT_BYTES_GUESS,
        }
    }
}

/// Equal for jobs of the same formula, whatever its rows.
fn affinity(kind: &JobKind) -> u64 {
    let mut hasher = blake3::Hasher::new();
    match kind {
        JobKind::Eval { formulas } => formulas.iter().for_each(|formula| {
            hasher.update(formula.as_bytes());
        }),
        JobKind::Map { formula, .. } | JobKind::Sweep { formula, .. } | JobKind::Sample { formula, .. } => {
            hasher.update(formula.as_bytes());
        }
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// A formula's error as clients see it.
fn invalid_formula(formula: &str, error: &FormulaError) -> ServiceError {
    let place = error.line.zip(error.column).map(|(line, column)| Place { formula: formula.to_owned(), line, column });
    ServiceError {
        kind: ErrorKind::Invalid,
        code: error.code.as_str().into(),
        message: error.message.clone(),
        place,
        retry_after_s: None,
    }
}

fn busy(code: &str, message: String) -> ServiceError {
    ServiceError { kind: ErrorKind::Busy, code: code.into(), message, place: None, retry_after_s: Some(1) }
}

fn usage(code: &str, message: String) -> ServiceError {
    ServiceError { kind: ErrorKind::Usage, code: code.into(), message, place: None, retry_after_s: None }
}
