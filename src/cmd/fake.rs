//! A cluster for unit tests: every job has the results that the test lays down.

use crate::cmd::signals::Signals;
use crate::cmd::{Session, Ui};
use crate::output::progress::ProgressMode;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use quipu_shared::access::{IssuedToken, NewToken, TokenView};
use quipu_shared::detail::{AttemptList, ClusterView, JobDetail, NodeAttempt, ShardMap};
use quipu_shared::ids::{JobId, NodeId, ScheduleId, TokenId};
use quipu_shared::service::{
    ErrorKind, JobQuery, JobService, JobState, JobView, NodeView, ScheduleChange, ScheduleView, ServiceError,
    ShardCounts, SubmitRequest, Upload,
};
use quipu_shared::spec::{ResultFormat, ScheduleSpec};
use quipu_shared::telemetry::TraceParent;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Jobs that are there, by number from 1; empty where every number is a job.
    jobs: Mutex<Vec<JobView>>,
    /// So many more submits are told to try again.
    pub(crate) busy: AtomicU64,
    /// What was done with jobs: `cancel 3`.
    pub(crate) done: Mutex<Vec<String>>,
    schedules: Mutex<Vec<ScheduleView>>,
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
            jobs: Mutex::default(),
            busy: AtomicU64::new(0),
            done: Mutex::default(),
            schedules: Mutex::default(),
        }
    }

    /// So many jobs that have succeeded.
    pub(crate) fn with_jobs(count: u64) -> Self {
        let jobs = (1..=count).map(|id| view(JobId(id))).collect();
        Self { jobs: Mutex::new(jobs), ..Self::with(Vec::new()) }
    }

    /// Changes a job.
    pub(crate) fn change(&self, job: usize, change: impl FnOnce(&mut JobView)) {
        change(&mut self.jobs.lock().unwrap()[job - 1]);
    }

    fn find(&self, id: JobId) -> Result<JobView, ServiceError> {
        let jobs = self.jobs.lock().unwrap();
        if jobs.is_empty() {
            return Ok(JobView { rows_failed: self.rows_failed, ..view(id) });
        }
        jobs.iter().find(|job| job.id == id).cloned().ok_or_else(|| error(ErrorKind::NotFound, "there is no such job"))
    }

    fn ended(&self, id: JobId) -> Result<JobView, ServiceError> {
        let job = self.find(id)?;
        if job.state.is_final() { Ok(job) } else { Err(error(ErrorKind::Conflict, "the job has not ended")) }
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

/// A job that has succeeded.
pub(crate) fn view(id: JobId) -> JobView {
    JobView {
        namespace: Default::default(),
        id,
        kind: "sweep".into(),
        name: None,
        format: ResultFormat::Csv,
        state: JobState::Succeeded,
        submitted_at_ms: 0,
        elapsed_ms: 1,
        rows_total: Some(10),
        rows_done: 10,
        rows_failed: 0,
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
    }
}

#[async_trait]
impl JobService for FakeCluster {
    async fn submit(&self, request: SubmitRequest) -> Result<JobId, ServiceError> {
        self.submitted.lock().unwrap().push(request);
        if let Some(error) = &self.submit_error {
            return Err(error.clone());
        }
        if self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(ServiceError { retry_after_s: Some(0), ..error(ErrorKind::Busy, "the queue is full") });
        }
        let mut jobs = self.jobs.lock().unwrap();
        let id = JobId(jobs.len() as u64 + 1);
        jobs.push(JobView { rows_failed: self.rows_failed, ..view(id) });
        Ok(id)
    }

    async fn cancel(&self, job: JobId) -> Result<(), ServiceError> {
        self.find(job)?;
        self.done.lock().unwrap().push(format!("cancel {job}"));
        self.cancelled.send_replace(true);
        Ok(())
    }

    async fn job(&self, id: JobId) -> Result<JobView, ServiceError> {
        self.find(id)
    }

    async fn jobs(&self, query: JobQuery) -> Result<Vec<JobView>, ServiceError> {
        let mut jobs = self.jobs.lock().unwrap().clone();
        if query.newest_first {
            jobs.reverse();
        }
        let fits = |job: &JobView| {
            let behind = query.after.is_none_or(|after| (job.id < after) == query.newest_first && job.id != after);
            behind
                && (query.states.is_empty() || query.states.contains(&job.state))
                && query.labels.iter().all(|(key, value)| job.labels.get(key) == Some(value))
                && (query.name.is_none() || job.name == query.name)
        };
        Ok(jobs.into_iter().filter(fits).take(query.limit).collect())
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

    async fn retry(&self, job: JobId, _idempotency_key: Option<String>) -> Result<JobId, ServiceError> {
        let old = self.ended(job)?;
        self.done.lock().unwrap().push(format!("retry {job}"));
        let mut jobs = self.jobs.lock().unwrap();
        let id = JobId(jobs.len() as u64 + 1);
        jobs.push(JobView { id, retry_of: Some(job), ..old });
        Ok(id)
    }

    async fn forget(&self, job: JobId) -> Result<(), ServiceError> {
        self.ended(job)?;
        self.done.lock().unwrap().push(format!("forget {job}"));
        self.jobs.lock().unwrap().retain(|view| view.id != job);
        Ok(())
    }

    async fn job_detail(&self, job: JobId) -> Result<JobDetail, ServiceError> {
        self.find(job)?;
        let submitted = self.submitted.lock().unwrap();
        let request =
            submitted.get(job.0 as usize - 1).ok_or_else(|| error(ErrorKind::NotFound, "there is no spec"))?;
        Ok(JobDetail { spec: request.spec.clone(), formulas: 1, form: None })
    }

    async fn job_shards(&self, job: JobId) -> Result<ShardMap, ServiceError> {
        Ok(ShardMap::new(self.find(job)?.rows_total.unwrap_or(0), 1))
    }

    async fn job_attempts(&self, job: JobId) -> Result<AttemptList, ServiceError> {
        self.find(job).map(|_| AttemptList::default())
    }

    async fn node_attempts(&self, _node: NodeId) -> Result<Vec<NodeAttempt>, ServiceError> {
        Ok(Vec::new())
    }

    async fn cluster(&self) -> Result<ClusterView, ServiceError> {
        Ok(ClusterView::default())
    }

    async fn explain(&self, job: JobId) -> Result<Vec<String>, ServiceError> {
        Ok(vec![format!("job {job} is {}", self.find(job)?.state.name())])
    }

    async fn add_schedule(
        &self,
        spec: ScheduleSpec,
        _idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError> {
        let mut schedules = self.schedules.lock().unwrap();
        let view = ScheduleView {
            id: ScheduleId(schedules.len() as u64 + 1),
            spec,
            paused: false,
            next_at_ms: None,
            last_at_ms: None,
            last_job: None,
            runs: 0,
            missed: 0,
        };
        schedules.push(view.clone());
        Ok(view)
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError> {
        Ok(self.schedules.lock().unwrap().clone())
    }

    async fn change_schedule(
        &self,
        schedule: ScheduleId,
        change: ScheduleChange,
    ) -> Result<ScheduleView, ServiceError> {
        let mut schedules = self.schedules.lock().unwrap();
        let at = schedules.iter().position(|view| view.id == schedule);
        let at = at.ok_or_else(|| error(ErrorKind::NotFound, "there is no such schedule"))?;
        match change {
            ScheduleChange::Pause => schedules[at].paused = true,
            ScheduleChange::Resume => schedules[at].paused = false,
            ScheduleChange::Remove => return Ok(schedules.remove(at)),
        }
        Ok(schedules[at].clone())
    }

    async fn add_token(&self, _token: NewToken) -> Result<IssuedToken, ServiceError> {
        Err(error(ErrorKind::Internal, "no tokens here"))
    }

    async fn tokens(&self) -> Result<Vec<TokenView>, ServiceError> {
        Ok(Vec::new())
    }

    async fn revoke_token(&self, _token: TokenId) -> Result<(), ServiceError> {
        Err(error(ErrorKind::Internal, "no tokens here"))
    }
}
