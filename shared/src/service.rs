//! What a cluster offers its clients: the same trait within a process and over HTTP.
//!
//! The master implements it; the HTTP API serves it; the HTTP client implements it again. So a command does not know
//! whether its cluster is embedded.

use crate::access::{IssuedToken, Namespace, NewToken, TokenView};
use crate::block::RowError;
use crate::detail::{AttemptList, ClusterView, JobDetail, NodeAttempt, ShardMap};
use crate::ids::{JobId, NodeId, Role, ScheduleId, TokenId};
use crate::spec::{Dependency, JobSpec, ResultFormat, ScheduleSpec};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The cluster as a client sees it.
#[async_trait]
pub trait JobService: Send + Sync + 'static {
    /// Whether jobs are accepted now; if not, why.
    fn ready(&self) -> Result<(), ServiceError> {
        Ok(())
    }
    /// Accepts a job, or says why not. Formulas of one-formula jobs are checked here; those of `eval` fail one by one.
    async fn submit(&self, request: SubmitRequest) -> Result<JobId, ServiceError>;
    /// Accepts many jobs with one wait for the disk; the answers are in the order of the requests. What is accepted is
    /// durable when this returns.
    async fn submit_batch(
        &self,
        requests: Vec<SubmitRequest>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError>;
    /// Submits the job of an ended one again, as a new job; [`ErrorKind::Conflict`] if it has not ended.
    async fn retry(&self, job: JobId, idempotency_key: Option<String>) -> Result<JobId, ServiceError>;
    /// Forgets an ended job with its results; [`ErrorKind::Conflict`] if it has not ended.
    async fn forget(&self, job: JobId) -> Result<(), ServiceError>;
    /// Why a job stands where it stands, in lines for people.
    async fn explain(&self, job: JobId) -> Result<Vec<String>, ServiceError>;
    /// What was asked for, and how it is evaluated.
    async fn job_detail(&self, job: JobId) -> Result<JobDetail, ServiceError>;
    /// How far each part of a job's rows is.
    async fn job_shards(&self, job: JobId) -> Result<ShardMap, ServiceError>;
    /// A job's attempts: all that run, and the last that have ended since the master was started.
    async fn job_attempts(&self, job: JobId) -> Result<AttemptList, ServiceError>;
    /// The last attempts on a node, latest start first.
    async fn node_attempts(&self, node: NodeId) -> Result<Vec<NodeAttempt>, ServiceError>;
    /// Cancels a job; no error if it has ended.
    async fn cancel(&self, job: JobId) -> Result<(), ServiceError>;
    /// The job as it is.
    async fn job(&self, job: JobId) -> Result<JobView, ServiceError>;
    /// The jobs that fit a query.
    async fn jobs(&self, query: JobQuery) -> Result<Vec<JobView>, ServiceError>;
    /// The job now and at each change (at most ten a second); ends after the final state.
    async fn watch(&self, job: JobId) -> Result<BoxStream<'static, JobView>, ServiceError>;
    /// The job's results in row order, as they come: rendered rows in the spec's format (CSV with its header), or one
    /// JSON document of the reductions. Ends with an error where the job fails or is cancelled.
    async fn results(&self, job: JobId) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError>;
    /// The results without their first bytes, for a caller that has these: they are the same bytes each time. An offset
    /// behind their end gives nothing, or an error.
    async fn results_from(
        &self,
        job: JobId,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        let mut left = offset;
        let rest = self.results(job).await?.map_ok(move |mut piece| {
            let skipped = left.min(piece.len() as u64);
            left -= skipped;
            // At most its length.
            piece.split_off(skipped as usize)
        });
        Ok(rest.try_filter(|piece| std::future::ready(!piece.is_empty())).boxed())
    }
    /// Takes a table's bytes for a later `map`.
    async fn upload(&self, bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Upload, ServiceError>;
    /// The cluster's nodes, by id.
    async fn nodes(&self) -> Result<Vec<NodeView>, ServiceError>;
    /// The cluster as it is now. Rates of jobs are those since their acceptance.
    async fn cluster(&self) -> Result<ClusterView, ServiceError>;
    /// Asks a worker to finish what it has and leave.
    async fn drain(&self, node: NodeId) -> Result<(), ServiceError>;
    /// Accepts a recurring job.
    async fn add_schedule(
        &self,
        spec: ScheduleSpec,
        idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError>;
    /// Every schedule, by id.
    async fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError>;
    /// Pauses, resumes or removes a schedule; jobs that it has submitted stay. Gives it as it is (or was) then.
    async fn change_schedule(&self, schedule: ScheduleId, change: ScheduleChange)
    -> Result<ScheduleView, ServiceError>;
    /// Makes a token, of which only a digest is kept.
    async fn add_token(&self, token: NewToken) -> Result<IssuedToken, ServiceError>;
    /// Every token, by id.
    async fn tokens(&self) -> Result<Vec<TokenView>, ServiceError>;
    /// Makes a token worth nothing, at once.
    async fn revoke_token(&self, token: TokenId) -> Result<(), ServiceError>;
}

/// Which jobs, in which order. The default is all of them, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Only jobs that come after this one in the order of the answer.
    pub after: Option<JobId>,
    /// At most so many.
    pub limit: usize,
    /// Newest first instead of oldest first.
    pub newest_first: bool,
    /// Only jobs in one of these states; empty for all.
    pub states: Vec<JobState>,
    /// Only jobs with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only jobs of this name.
    pub name: Option<String>,
    /// Only jobs of this namespace.
    pub namespace: Option<Namespace>,
}

/// What is done to a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleChange {
    /// Nothing is submitted until it is resumed.
    Pause,
    /// Goes on; runs in between count as missed.
    Resume,
    /// Ends it.
    Remove,
}

/// A recurring job as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// Its id.
    pub id: ScheduleId,
    /// What was accepted.
    pub spec: ScheduleSpec,
    /// Whether it is paused.
    pub paused: bool,
    /// Unix time of the next run; none where the pattern has no further one, or while it is paused.
    pub next_at_ms: Option<u64>,
    /// Unix time at which the last run was due.
    pub last_at_ms: Option<u64>,
    /// The job of that run.
    pub last_job: Option<JobId>,
    /// Jobs submitted so far.
    pub runs: u64,
    /// Runs left out so far.
    pub missed: u64,
}

/// A job to be accepted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// The job.
    pub spec: JobSpec,
    /// W3C trace context of the caller.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Chosen by the client before its first try and kept over retries; the same key with another spec is refused.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// An accepted upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// BLAKE3 of the bytes, in hexadecimal.
    pub digest: String,
    /// How many.
    pub bytes: u64,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize, ToSchema)]
#[error("{message}")]
pub struct ServiceError {
    /// What sort, which decides HTTP status and exit code.
    pub kind: ErrorKind,
    /// Stable code, such as `unknown_variable`.
    pub code: String,
    /// For people: names the input, the place and the fix.
    pub message: String,
    /// Formula, line and column, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Seconds after which to try again, where that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// Where in a formula.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// The formula.
    pub formula: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Sorts of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is malformed (HTTP 400, exit 2).
    Usage,
    /// A formula does not parse or is refused, or data is not what it says (422, exit 65).
    Invalid,
    /// No such job, upload or node (404, exit 66).
    NotFound,
    /// The same idempotency key with another body, or an illegal state (409, exit 65).
    Conflict,
    /// A row failed, and so the job (exit 1).
    Evaluation,
    /// The job was cancelled (exit 130).
    Cancelled,
    /// Its deadline passed (exit 124).
    Deadline,
    /// Over a limit; try again (429, exit 75).
    Busy,
    /// Larger than a limit allows (413, exit 65).
    TooLarge,
    /// No token, or a wrong one (401, exit 77).
    Unauthenticated,
    /// Not allowed (403, exit 77).
    Forbidden,
    /// The cluster can't be reached (exit 69).
    Unreachable,
    /// A defect or trouble of the service (500, exit 70).
    Internal,
}

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for its time.
    Scheduled,
    /// Waits for other jobs.
    Waiting,
    /// Waits for its turn: nothing is leased yet.
    Queued,
    /// Something was leased.
    Running,
    /// Every row is done.
    Succeeded,
    /// Ended without its result.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl JobState {
    /// Whether it never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 7] =
        [Self::Scheduled, Self::Waiting, Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The state's name, as people and programs write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The legal arrows. A job that is tried again after trouble goes back to [`Self::Scheduled`], and so does one
    /// whose master was started again to [`Self::Queued`]; no arrow leaves a final state.
    pub fn may_become(self, next: Self) -> bool {
        use JobState::{Cancelled, Failed, Queued, Running, Scheduled, Succeeded, Waiting};
        match self {
            Scheduled => matches!(next, Waiting | Queued | Failed | Cancelled),
            Waiting => matches!(next, Queued | Failed | Cancelled),
            Queued => matches!(next, Running | Scheduled | Succeeded | Failed | Cancelled),
            Running => matches!(next, Queued | Scheduled | Succeeded | Failed | Cancelled),
            Succeeded | Failed | Cancelled => false,
        }
    }
}

/// A job as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// `eval`, `map`, `sweep` or `sample`.
    pub kind: String,
    /// The name given with it.
    pub name: Option<String>,
    /// The namespace that it belongs to.
    #[serde(default)]
    pub namespace: Namespace,
    /// The form of its results: [`JobSpec::result_format`].
    pub format: ResultFormat,
    /// Where it stands.
    pub state: JobState,
    /// Unix time of its acceptance.
    pub submitted_at_ms: u64,
    /// Time from its acceptance to its end or to now.
    pub elapsed_ms: u64,
    /// Rows in all, once known.
    pub rows_total: Option<u64>,
    /// Rows done.
    pub rows_done: u64,
    /// Rows that failed.
    pub rows_failed: u64,
    /// The first of them.
    pub row_errors: Vec<RowError>,
    /// Its shards.
    pub shards: ShardCounts,
    /// Why it failed or was cancelled.
    pub error: Option<ServiceError>,
    /// W3C trace context that it runs under.
    pub traceparent: Option<String>,
    /// Pairs that were given with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Jobs of a higher priority are served first.
    #[serde(default)]
    pub priority: i8,
    /// Jobs that it waits for, or has waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// Unix time before which it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<u64>,
    /// Unix time of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// Times that it was tried again after trouble that was not its own.
    #[serde(default)]
    pub retries: u32,
    /// The job whose spec it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// The schedule that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
}

/// Shards of a job by state. Shards are cut as they are leased, so there is no total before the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardCounts {
    /// Cut, and waiting for a worker again.
    pub queued: u64,
    /// Leased.
    pub leased: u64,
    /// Done.
    pub done: u64,
    /// Attempts beyond each shard's first, speculative ones included.
    pub retried: u64,
    /// Speculative attempts.
    pub speculative: u64,
}

/// State of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Seen in gossip, not (yet) connected.
    Known,
    /// Connected and in the schedule.
    Up,
    /// Finishing what it has.
    Draining,
    /// Gossip says that it is down, or its link is closed.
    Down,
}

/// A node as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Where it stands.
    pub state: NodeState,
    /// Executors.
    pub slots: u32,
    /// Attempts it runs or has queued.
    pub leased: u32,
    /// Zone.
    pub zone: String,
    /// Version of the product.
    pub version: String,
    /// Address of its gossip.
    pub gossip: Option<String>,
    /// Rows a second, measured over its last shards.
    pub rows_per_s: f64,
    /// Shards that it has completed.
    pub shards_done: u64,
    /// Why it is not in the schedule, or gets nothing.
    pub note: Option<String>,
    /// Whether it is in quarantine because its attempts keep failing.
    #[serde(default)]
    pub breaker: BreakerState,
    /// Percent of the time in which something on its host waited for a processor.
    #[serde(default)]
    pub cpu_pressure: Option<u8>,
    /// Percent of the time in which something on its host waited for memory.
    #[serde(default)]
    pub memory_pressure: Option<u8>,
    /// Bytes of memory that are to be had on its host.
    #[serde(default)]
    pub memory_available_bytes: Option<u64>,
}

/// Where the circuit breaker of a worker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// It works like any other.
    #[default]
    Closed,
    /// Its attempts kept failing: it gets nothing for a while.
    Open,
    /// That time is over: it gets one shard at a time, until one succeeds or fails.
    HalfOpen,
}

#[cfg(test)]
mod tests {
    use super::JobState;

    #[test]
    fn no_arrow_leaves_a_final_state_and_every_state_can_end() {
        for state in JobState::ALL {
            let next: Vec<JobState> = JobState::ALL.into_iter().filter(|next| state.may_become(*next)).collect();
            assert_eq!(next.is_empty(), state.is_final(), "{state:?} may become {next:?}");
            assert!(!state.may_become(state), "{state:?} to itself is no arrow");
            assert!(state.is_final() || [JobState::Failed, JobState::Cancelled].iter().all(|end| next.contains(end)));
            assert_eq!(serde_json::to_string(&state).expect("JSON"), format!("{:?}", state.name()));
        }
    }
}
