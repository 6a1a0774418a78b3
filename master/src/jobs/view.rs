//! A job's record as clients see it.

use crate::store::record::JobRecord;
use crate::store::sequencer::unix_ms;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobView, ShardCounts};

/// The job as its record has it. What only a running job has is left at nothing.
pub fn view_of(id: JobId, record: &JobRecord) -> JobView {
    let facts = &record.fixed;
    let until_ms = record.ended_at_ms.unwrap_or_else(unix_ms);
    JobView {
        id,
        kind: facts.kind.clone(),
        name: facts.name.clone(),
        namespace: facts.namespace.clone(),
        format: facts.format,
        state: record.state,
        submitted_at_ms: facts.submitted_at_ms,
        elapsed_ms: until_ms.saturating_sub(facts.submitted_at_ms),
        rows_total: record.rows_total,
        rows_done: record.rows_done,
        rows_failed: record.rows_failed,
        row_errors: record.row_errors.clone(),
        shards: ShardCounts { done: record.shards_done, ..ShardCounts::default() },
        error: record.error.clone().map(Into::into),
        traceparent: facts.traceparent.clone(),
        labels: facts.labels.clone(),
        priority: facts.priority,
        after: facts.after.clone(),
        not_before_ms: record.not_before_ms,
        ended_at_ms: record.ended_at_ms,
        retries: record.retries,
        retry_of: facts.retry_of,
        schedule: facts.schedule,
    }
}
