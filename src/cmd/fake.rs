//! A cluster for unit tests: every job has the results that the test lays down.

use crate::cmd::signals::Signals;
use crate::cmd::{Session, Ui};
use crate::output::progress::ProgressMode;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use quipu_shared::ids::{JobId, NodeId, ScheduleId};
use quipu_shared::service::{ScheduleChange, ScheduleView, JobQuery, 
    ErrorKind, JobService, JobState, JobView, NodeView, ServiceError, ShardCounts, SubmitRequest, Upload,
};
use quipu_shared::spec::{ScheduleSpec, ResultFormat};
use quipu_shared::telemetry::TraceParent;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Pieces of a results stream.
pub(crate) type Pieces = Vec<Result<Bytes, ServiceError>>;

/// Answers every job with the same results.
pub(crate) struct FakeCluster {
    pieces: Mutex<Option<Pieces>>,
    /// Whether the stream stays open behind its pieces until the job is cancelled.
    endless: bool,
    pub(crate) rows_failed: u64,
    pub(crate) submitted: Mutex<Vec<SubmitRequest>>,
    cancelled: watch::Sender<bool>,
    submit_error: Option<ServiceError>,
    pub(crate) streaming: Arc<AtomicBool>,
}

impl FakeCluster {
    /// Jobs with these results.
    pub(crate) fn with(pieces: Pieces) -> Self {
        Self {
            pieces: Mutex::new(Some(pieces)),
            endless: false,
            rows_failed: 0,
            submitted: Mutex::default(),
            cancelled: watch::channel(false).0,
            submit_error: None,
            streaming: Arc::default(),
        }
    }

    /// Jobs that run until they are cancelled.
    pub(crate) fn endless(pieces: Pieces) -> Self {
        Self { endless: true, ..Self::with(pieces) }
    }

    /// Refuses every job.
    pub(crate) fn refusing(error: ServiceError) -> Self {
        Self { submit_error: Some(error), ..Self::with(Vec::new()) }
    }

    /// Whether the job was cancelled.
    pub(crate) fn was_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }
}

/// An error of this kind.
pub(crate) fn error(kind: ErrorKind, message: &str) -> ServiceError {
    ServiceError { kind, code: "test".into(), message: message.into(), place: None, retry_after_s: None }
}

/// A session on `cluster`, and what interrupts it.
pub(crate) fn session(cluster: Arc<FakeCluster>) -> (watch::Sender<bool>, Session) {
    let (interrupt, signals) = Signals::silent();
    let ui = Ui {
        stdout_terminal: false,
        stderr_terminal: false,
        colour: false,
        quiet: true,
        progress: ProgressMode::Never,
    };
    (
        interrupt,
        Session {
            service: cluster,
            _cluster: None,
            remote: false,
            ui,
            signals,
            traceparent: TraceParent::new_random().to_string(),
        },
    )
}

#[async_trait]
impl JobService for FakeCluster {
    async fn submit(&self, request: SubmitRequest) -> Result<JobId, ServiceError> {
        self.submitted.lock().unwrap().push(request);
        self.submit_error.clone().map_or(Ok(JobId(1)), Err)
    }

    async fn cancel(&self, _job: JobId) -> Result<(), ServiceError> {
        self.cancelled.send_replace(true);
        Ok(())
    }

    async fn job(&self, id: JobId) -> Result<JobView, ServiceError> {
        Ok(JobView {
            id,
            kind: "sweep".into(),
            name: None,
            format: ResultFormat::Csv,
            state: JobState::Succeeded,
            submitted_at_ms: 0,
            elapsed_ms: 1,
            rows_total: Some(10),
            rows_done: 10,
            rows_failed: self.rows_failed,
            row_errors: Vec::new(),
            shards: ShardCounts::default(),
            error: None,
            traceparent: None,
            labels: Default::default(),
            priority: 0,
            after: Vec::new(),
            not_before_ms: None,
            ended_at_ms: None,
            retries: 0,
            retry_of: None,
            schedule: None,
        })
    }

    async fn jobs(&self, _query: JobQuery) -> Result<Vec<JobView>, ServiceError> {
        Ok(Vec::new())
    }

    async fn watch(&self, job: JobId) -> Result<BoxStream<'static, JobView>, ServiceError> {
        Ok(stream::iter([self.job(job).await?]).boxed())
    }

    async fn results(&self, _job: JobId) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        let pieces = self.pieces.lock().unwrap().take().expect("results are read once");
        let streaming = Arc::clone(&self.streaming);
        let first = stream::iter(pieces);
        if !self.endless {
            return Ok(first.boxed());
        }
        let mut cancelled = self.cancelled.subscribe();
        let last = stream::once(async move {
            streaming.store(true, Ordering::SeqCst);
            let _ = cancelled.wait_for(|c| *c).await;
            Err(error(ErrorKind::Cancelled, "the job was cancelled"))
        });
        Ok(first.chain(last).boxed())
    }

    async fn upload(&self, _bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Upload, ServiceError> {
        Err(error(ErrorKind::Internal, "no uploads here"))
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, ServiceError> {
        Ok(Vec::new())
    }

    async fn drain(&self, _node: NodeId) -> Result<(), ServiceError> {
        Ok(())
    }
    async fn submit_batch(
        &self,
        requests: Vec<SubmitRequest>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.submit(request).await);
        }
        Ok(answers)
    }

    async fn retry(&self, _job: JobId, _idempotency_key: Option<String>) -> Result<JobId, ServiceError> {
        Err(ServiceError { kind: ErrorKind::Internal, code: "unsupported".into(), message: "not here".into(), place: None, retry_after_s: None })
    }

    async fn forget(&self, _job: JobId) -> Result<(), ServiceError> {
        Err(ServiceError { kind: ErrorKind::Internal, code: "unsupported".into(), message: "not here".into(), place: None, retry_after_s: None })
    }

    async fn explain(&self, _job: JobId) -> Result<Vec<String>, ServiceError> {
        Err(ServiceError { kind: ErrorKind::Internal, code: "unsupported".into(), message: "not here".into(), place: None, retry_after_s: None })
    }

    async fn add_schedule(
        &self,
        _spec: ScheduleSpec,
        _idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError> {
        Err(ServiceError { kind: ErrorKind::Internal, code: "unsupported".into(), message: "not here".into(), place: None, retry_after_s: None })
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError> {
        Err(ServiceError { kind: ErrorKind::Internal, code: "unsupported".into(), message: "not here".into(), place: None, retry_after_s: None })
    }

    async fn change_schedule(
        &self,
        _schedule: ScheduleId,
        _change: ScheduleChange,
    ) -> Result<ScheduleView, ServiceError> {
        Err(ServiceError { kind: ErrorKind::Internal, code: "unsupported".into(), message: "not here".into(), place: None, retry_after_s: None })
    }
}
