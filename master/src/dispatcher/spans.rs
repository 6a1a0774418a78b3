//! Spans of jobs, of their leases and of their commits, where traces are exported. Where they are not, nothing is kept
//! here, and each call ends at the look whether there is anything.

use crate::jobs::entry::JobEntry;
use quipu_shared::detail::AttemptOutcome;
use quipu_shared::ids::{JobId, NodeId};
use quipu_shared::service::JobView;
use quipu_shared::telemetry::TraceParent;
use quipu_shared::telemetry::export::is_on;
use quipu_shared::telemetry::spans::{SpanKind, TraceSpan};
use quipu_shared::wire::{Lease, ShardOutput};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The first attempts of a job have a span each.
const ATTEMPTS_TRACED_FIRST: u64 = 64;
/// After these, one of so many has: a job may have millions, and a trace of thousands is read by nobody.
const ATTEMPTS_TRACED_EVERY: u64 = 64;

/// Spans that have begun and not ended.
#[derive(Default)]
pub(super) struct JobSpans {
    jobs: BTreeMap<JobId, JobSpan>,
}

struct JobSpan {
    span: TraceSpan,
    attempts: u64,
    leases: BTreeMap<Lease, LeaseSpan>,
}

struct LeaseSpan {
    span: TraceSpan,
    /// Whether its result is here, and the scheduler decides about it.
    completed: bool,
}

/// A commit, from its proposal to its end on the disk.
pub(crate) fn commit(commands: usize, parent: Option<TraceParent>) -> TraceSpan {
    let mut span = TraceSpan::within("store commit", SpanKind::Internal, parent);
    span.set("db.system.name", "fjall");
    span.set("db.operation.name", "commit");
    span.set_number("db.operation.batch.size", commands as u64);
    span
}

impl JobSpans {
    /// A job is served. Its span reaches back to when it was accepted.
    pub fn served(&mut self, entry: &JobEntry) {
        let Some(parent) = entry.traceparent.as_deref().filter(|_| is_on()).and_then(|text| text.parse().ok()) else {
            return;
        };
        let kind = entry.admitted.spec.kind.name();
        let accepted_at = SystemTime::now().checked_sub(entry.accepted_at.elapsed()).unwrap_or_else(SystemTime::now);
        let mut span = TraceSpan::begun_at(format!("job {kind}"), SpanKind::Internal, Some(parent), accepted_at);
        span.set_number("quipu.job.id", entry.id.0);
        span.set("quipu.job.kind", kind);
        if let Some(name) = &entry.admitted.spec.name {
            span.set_with("quipu.job.name", || name.clone());
        }
        span.set_number("quipu.job.retries", u64::from(entry.retries));
        span.event("served");
        self.jobs.insert(entry.id, JobSpan { span, attempts: 0, leases: BTreeMap::new() });
    }

    /// A shard is leased; gives the context for its worker, where this attempt is one of those that are traced.
    pub fn leased(
        &mut self,
        lease: Lease,
        node: Option<&NodeId>,
        (first_row, rows): (u64, u64),
        speculative: bool,
    ) -> Option<TraceParent> {
        let job = self.jobs.get_mut(&lease.job)?;
        job.attempts += 1;
        let traced =
            speculative || job.attempts <= ATTEMPTS_TRACED_FIRST || job.attempts.is_multiple_of(ATTEMPTS_TRACED_EVERY);
        if !traced || !job.span.is_recording() {
            return None;
        }
        let mut span = TraceSpan::within("lease shard", SpanKind::Client, job.span.context());
        span.set_number("quipu.job.id", lease.job.0);
        span.set_number("quipu.shard.id", lease.shard.0);
        span.set_number("quipu.attempt.id", lease.attempt.0);
        span.set("quipu.attempt.speculative", speculative);
        span.set_number("quipu.rows.first", first_row);
        span.set_number("quipu.rows.count", rows);
        if let Some(node) = node {
            span.set_with("quipu.node.id", || node.to_string());
        }
        let context = span.context();
        job.leases.insert(lease, LeaseSpan { span, completed: false });
        context
    }

    /// The worker has a result.
    pub fn completed(&mut self, lease: Lease, busy_us: u64, output: &ShardOutput) {
        // A worker that hears nothing offers its result again.
        if let Some(LeaseSpan { span, completed }) = self.lease(lease)
            && !std::mem::replace(completed, true)
        {
            span.set_number("quipu.attempt.busy_us", busy_us);
            span.set_number("quipu.rows.failed", output.failed);
        }
    }

    /// The result counts: its commit, and the lease's span, which ends after it.
    pub fn recording(&mut self, lease: Lease) -> Option<(TraceSpan, TraceSpan)> {
        let LeaseSpan { mut span, .. } = self.jobs.get_mut(&lease.job)?.leases.remove(&lease)?;
        span.set("quipu.attempt.outcome", AttemptOutcome::Completed.name());
        Some((commit(1, span.context()), span))
    }

    /// The attempt is over, and has no result that counts.
    pub fn over(&mut self, lease: Lease, outcome: AttemptOutcome, note: Option<&str>) {
        let Some(LeaseSpan { mut span, .. }) = self.jobs.get_mut(&lease.job).and_then(|job| job.leases.remove(&lease))
        else {
            return;
        };
        span.set("quipu.attempt.outcome", outcome.name());
        if outcome.went_wrong() {
            span.fail(outcome.name(), note.unwrap_or_default());
        }
    }

    /// The commit of a job's end.
    pub fn concluding(&self, job: JobId) -> TraceSpan {
        commit(1, self.jobs.get(&job).and_then(|job| job.span.context()))
    }

    /// The job has ended, or waits again.
    pub fn ended(&mut self, job: JobId, view: impl FnOnce() -> JobView) {
        let Some(JobSpan { mut span, leases, .. }) = self.jobs.remove(&job) else { return };
        let view = view();
        for (_, mut left) in leases {
            left.span.set("quipu.attempt.outcome", AttemptOutcome::Stopped.name());
        }
        span.set("quipu.job.state", view.state.name());
        span.set_number("quipu.rows.count", view.rows_done);
        span.set_number("quipu.rows.failed", view.rows_failed);
        span.set_number("quipu.shards.count", view.shards.done);
        span.set_number("quipu.shards.retried", view.shards.retried);
        if let Some(error) = &view.error {
            span.fail(&error.code, &error.message);
        }
    }

    /// How the job ended is not known here.
    pub fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    fn lease(&mut self, lease: Lease) -> Option<&mut LeaseSpan> {
        self.jobs.get_mut(&lease.job)?.leases.get_mut(&lease)
    }
}
