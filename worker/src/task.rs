//! What an executor is given: one attempt at one shard.

use bytes::Bytes;
use quipu_shared::config::TierChoice;
use quipu_shared::formula::FormulaLimits;
use quipu_shared::ids::JobId;
use quipu_shared::spec::JobSpec;
use quipu_shared::telemetry::TraceParent;
use quipu_shared::wire::Lease;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::executor::prepare::{PreparedJob, PreparedJobError};

/// A job as a worker knows it.
#[derive(Debug)]
pub struct OpenJob {
    /// Its id.
    pub id: JobId,
    /// Its spec.
    pub spec: Arc<JobSpec>,
    /// W3C trace context of the client's command.
    pub traceparent: Option<String>,
    limits: FormulaLimits,
    tier: TierChoice,
    prepared: OnceLock<Result<PreparedJob, PreparedJobError>>,
}

impl OpenJob {
    /// A job that no executor has looked at yet.
    pub fn new(
        id: JobId,
        spec: Arc<JobSpec>,
        limits: FormulaLimits,
        tier: TierChoice,
        traceparent: Option<String>,
    ) -> Self {
        Self { id, spec, traceparent, limits, tier, prepared: OnceLock::new() }
    }

    /// The trace that the job belongs to; empty without one.
    pub fn trace_id(&self) -> &str {
        // version-traceid-parentid-flags
        self.traceparent.as_deref().and_then(|text| text.split('-').nth(1)).unwrap_or_default()
    }

    /// The job with its formula parsed and its source built: once a process, by the first executor that needs it.
    ///
    /// # Errors
    /// Whatever the spec has wrong; the master has checked it, so this means different versions or limits.
    pub fn prepared(&self) -> Result<&PreparedJob, PreparedJobError> {
        self.prepared
            .get_or_init(|| PreparedJob::new(&self.spec, self.limits.clone(), self.tier))
            .as_ref()
            .map_err(Clone::clone)
    }
}

/// Where an attempt's rows come from, once they are here.
#[derive(Clone, Debug)]
pub enum TaskInput {
    /// From the spec alone.
    Generated,
    /// Formulas of an `eval`.
    Formulas(Vec<String>),
    /// A byte range of a file.
    File {
        /// Absolute path.
        path: String,
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Whole records.
    Records(Bytes),
}

/// One attempt, as an executor runs it.
#[derive(Clone, Debug)]
pub struct Task {
    /// The right to it.
    pub lease: Lease,
    /// Its job.
    pub job: Arc<OpenJob>,
    /// First row.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// The rows' source.
    pub input: TaskInput,
    /// When the job must be done.
    pub deadline: Option<Instant>,
    /// The span of the lease, where it is exported.
    pub trace: Option<TraceParent>,
    /// Shared with the agent.
    pub control: Arc<AttemptControl>,
}

/// What agent and executor share of a running attempt.
#[derive(Debug, Default)]
pub struct AttemptControl {
    cancelled: AtomicBool,
    rows_done: AtomicU64,
}

impl AttemptControl {
    /// Asks the executor to stop at the next block.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Rows done so far.
    pub fn rows_done(&self) -> u64 {
        self.rows_done.load(Ordering::Relaxed)
    }

    /// Notes rows as done.
    pub fn add_rows(&self, rows: u64) {
        self.rows_done.fetch_add(rows, Ordering::Relaxed);
    }
}
