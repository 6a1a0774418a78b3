//! A cluster of lies: a [`JobService`] in memory that does what a test tells it. The client's tests use it too.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use quipu_shared::access::{IssuedToken, NewToken, TokenView};
use quipu_shared::detail::{AttemptList, ClusterView, JobDetail, NodeAttempt, RunningJob, ShardMap};
use quipu_shared::ids::{JobId, NodeId, Role, ScheduleId, TokenId};
use quipu_shared::service::{
    ErrorKind, JobQuery, JobService, JobState, JobView, NodeState, NodeView, ScheduleChange, ScheduleView,
    ServiceError, ShardCounts, SubmitRequest, Upload,
};
use quipu_shared::spec::{JobKind, JobSpec, ScheduleSpec};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, watch};

pub type Pieces = BoxStream<'static, Result<Bytes, ServiceError>>;

pub struct Fake {
    jobs: Mutex<Vec<watch::Sender<JobView>>>,
    pub requests: Mutex<Vec<SubmitRequest>>,
    pub drained: Mutex<Vec<NodeId>>,
    pub uploaded: Mutex<Vec<u8>>,
    /// What every method answers while it is set.
    pub error: Mutex<Option<ServiceError>>,
    /// What the next call of `results` gives.
    pub results: Mutex<Option<Pieces>>,
    /// A submit waits for a permit of it.
    pub gate: Semaphore,
    /// Submits that have come in.
    pub submitting: AtomicUsize,
    /// Jobs of each batch that has come in.
    pub batches: Mutex<Vec<usize>>,
    /// So many more requests are told to try again: submits and looks at a job.
    pub busy: AtomicUsize,
    /// What `ready` answers.
    pub unready: Mutex<Option<ServiceError>>,
    pub schedules: Mutex<Vec<ScheduleView>>,
    pub tokens: Mutex<Vec<TokenView>>,
    pub forgotten: Mutex<Vec<JobId>>,
    /// What every job and every node has had.
    pub attempts: Mutex<AttemptList>,
    /// Times that the cluster was looked at.
    pub looks: AtomicUsize,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            requests: Mutex::default(),
            drained: Mutex::default(),
            uploaded: Mutex::default(),
            error: Mutex::default(),
            results: Mutex::default(),
            gate: Semaphore::new(1000),
            submitting: AtomicUsize::new(0),
            batches: Mutex::default(),
            busy: AtomicUsize::new(0),
            unready: Mutex::default(),
            schedules: Mutex::default(),
            tokens: Mutex::default(),
            forgotten: Mutex::default(),
            attempts: Mutex::default(),
            looks: AtomicUsize::new(0),
        }
    }
}

pub fn error(kind: ErrorKind, code: &str) -> ServiceError {
    ServiceError { kind, code: code.into(), message: format!("{code} happened"), place: None, retry_after_s: None }
}

pub fn eval_spec() -> JobSpec {
    serde_json::from_str(r#"{"kind":{"eval":{"formulas":["1+2"]}}}"#).unwrap()
}

impl Fake {
    /// Adds a job of this spec, running.
    pub fn add(&self, spec: &JobSpec) -> JobId {
        let mut jobs = self.jobs.lock().unwrap();
        let id = JobId(jobs.len() as u64 + 1);
        jobs.push(watch::Sender::new(view(id, spec)));
        id
    }

    /// Changes a job.
    pub fn change(&self, job: JobId, change: impl FnOnce(&mut JobView)) {
        self.jobs.lock().unwrap()[job.0 as usize - 1].send_modify(change);
    }

    /// How many watch a job.
    pub fn watchers(&self, job: JobId) -> usize {
        self.jobs.lock().unwrap()[job.0 as usize - 1].receiver_count()
    }

    fn fail(&self) -> Result<(), ServiceError> {
        self.error.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn refuse_while_busy(&self) -> Result<(), ServiceError> {
        let less = self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match less {
            Ok(_) => Err(ServiceError { retry_after_s: Some(0), ..error(ErrorKind::Busy, "queue_full") }),
            Err(_) => Ok(()),
        }
    }

    fn ended(&self, job: JobId) -> Result<JobView, ServiceError> {
        let view = self.find(job)?.borrow().clone();
        if view.state.is_final() { Ok(view) } else { Err(error(ErrorKind::Conflict, "not_ended")) }
    }

    fn find(&self, job: JobId) -> Result<watch::Receiver<JobView>, ServiceError> {
        self.fail()?;
        let jobs = self.jobs.lock().unwrap();
        let index = usize::try_from(job.0).ok().and_then(|id| id.checked_sub(1));
        index
            .and_then(|i| jobs.get(i))
            .map(watch::Sender::subscribe)
            .ok_or_else(|| error(ErrorKind::NotFound, "no_such_job"))
    }
}

fn view(id: JobId, spec: &JobSpec) -> JobView {
    JobView {
        id,
        kind: spec.kind.name().into(),
        name: spec.name.clone(),
        namespace: spec.queue.namespace.clone(),
        labels: spec.queue.labels.clone(),
        priority: spec.queue.priority,
        after: spec.queue.after.clone(),
        not_before_ms: spec.queue.not_before_ms,
        format: spec.result_format(),
        state: JobState::Running,
        submitted_at_ms: 1_700_000_000_000,
        elapsed_ms: 5,
        rows_total: Some(1),
        rows_done: 0,
        rows_failed: 0,
        row_errors: Vec::new(),
        shards: ShardCounts::default(),
        error: None,
        traceparent: None,
        ended_at_ms: None,
        retries: 0,
        retry_of: None,
        schedule: None,
    }
}

pub fn node() -> NodeView {
    NodeView {
        id: NodeId::try_from("worker-1".to_owned()).unwrap(),
        role: Role::Worker,
        state: NodeState::Up,
        slots: 2,
        leased: 1,
        zone: "a".into(),
        version: "0.1.0".into(),
        gossip: Some("127.0.0.1:7701".into()),
        rows_per_s: 1.5e9,
        shards_done: 3,
        note: None,
        breaker: Default::default(),
        cpu_pressure: Some(12),
        memory_pressure: Some(0),
        memory_available_bytes: Some(1 << 30),
    }
}

#[async_trait]
impl JobService for Fake {
    async fn submit(&self, request: SubmitRequest) -> Result<JobId, ServiceError> {
        self.fail()?;
        self.refuse_while_busy()?;
        assert!(request.spec.name.as_deref() != Some("panic"), "told to panic");
        self.submitting.fetch_add(1, Ordering::Relaxed);
        let _permit = self.gate.acquire().await.unwrap();
        let mut requests = self.requests.lock().unwrap();
        let same = |r: &SubmitRequest| r.idempotency_key.is_some() && r.idempotency_key == request.idempotency_key;
        if let Some(index) = requests.iter().position(same) {
            let known = requests[index].spec == request.spec;
            return if known { Ok(JobId(index as u64 + 1)) } else { Err(error(ErrorKind::Conflict, "key_reused")) };
        }
        if let JobKind::Eval { formulas } = &request.spec.kind
            && formulas.is_empty()
        {
            return Err(error(ErrorKind::Invalid, "no_formula"));
        }
        let id = self.add(&request.spec);
        requests.push(request);
        Ok(id)
    }

    async fn cancel(&self, job: JobId) -> Result<(), ServiceError> {
        self.find(job)?;
        self.change(job, |view| view.state = JobState::Cancelled);
        Ok(())
    }

    async fn job(&self, job: JobId) -> Result<JobView, ServiceError> {
        self.refuse_while_busy()?;
        Ok(self.find(job)?.borrow().clone())
    }

    async fn jobs(&self, query: JobQuery) -> Result<Vec<JobView>, ServiceError> {
        self.fail()?;
        let mut views: Vec<_> = self.jobs.lock().unwrap().iter().map(|job| job.borrow().clone()).collect();
        if query.newest_first {
            views.reverse();
        }
        let fits = |view: &JobView| {
            let behind = query.after.is_none_or(|after| (view.id < after) == query.newest_first && view.id != after);
            behind
                && (query.states.is_empty() || query.states.contains(&view.state))
                && query.labels.iter().all(|(key, value)| view.labels.get(key) == Some(value))
                && (query.name.is_none() || view.name == query.name)
        };
        Ok(views.into_iter().filter(fits).take(query.limit).collect())
    }

    // It goes on after the final state: to end is what the server is tested for.
    async fn watch(&self, job: JobId) -> Result<BoxStream<'static, JobView>, ServiceError> {
        let mut views = self.find(job)?;
        views.mark_changed();
        let views = stream::unfold(views, |mut views| async {
            views.changed().await.ok()?;
            let view = views.borrow_and_update().clone();
            Some((view, views))
        });
        Ok(views.boxed())
    }

    async fn results(&self, job: JobId) -> Result<Pieces, ServiceError> {
        self.find(job)?;
        Ok(self.results.lock().unwrap().take().unwrap_or_else(|| stream::empty().boxed()))
    }

    async fn upload(&self, bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Upload, ServiceError> {
        self.fail()?;
        let broken = |_| error(ErrorKind::Internal, "spool_failed");
        let pieces: Vec<Bytes> = bytes.try_collect().map(|read| read.map_err(broken)).await?;
        let whole = pieces.concat();
        let upload = Upload { digest: digest_of(&whole), bytes: whole.len() as u64 };
        *self.uploaded.lock().unwrap() = whole;
        Ok(upload)
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, ServiceError> {
        self.fail()?;
        Ok(vec![node()])
    }

    async fn drain(&self, node: NodeId) -> Result<(), ServiceError> {
        self.fail()?;
        if node.as_str() == "nobody" {
            return Err(error(ErrorKind::NotFound, "no_such_node"));
        }
        self.drained.lock().unwrap().push(node);
        Ok(())
    }

    fn ready(&self) -> Result<(), ServiceError> {
        self.unready.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn submit_batch(
        &self,
        requests: Vec<SubmitRequest>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError> {
        self.fail()?;
        self.batches.lock().unwrap().push(requests.len());
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.submit(request).await);
        }
        Ok(answers)
    }

    async fn retry(&self, job: JobId, idempotency_key: Option<String>) -> Result<JobId, ServiceError> {
        self.ended(job)?;
        let spec = self.requests.lock().unwrap().get(job.0 as usize - 1).map_or_else(eval_spec, |r| r.spec.clone());
        let retried = self.submit(SubmitRequest { spec, traceparent: None, idempotency_key }).await?;
        self.change(retried, |view| view.retry_of = Some(job));
        Ok(retried)
    }

    async fn forget(&self, job: JobId) -> Result<(), ServiceError> {
        self.ended(job)?;
        self.forgotten.lock().unwrap().push(job);
        Ok(())
    }

    async fn job_detail(&self, job: JobId) -> Result<JobDetail, ServiceError> {
        self.find(job)?;
        let spec = self.requests.lock().unwrap().get(job.0 as usize - 1).map_or_else(eval_spec, |r| r.spec.clone());
        Ok(JobDetail { spec, formulas: 1, form: None })
    }

    async fn job_shards(&self, job: JobId) -> Result<ShardMap, ServiceError> {
        let view = self.find(job)?.borrow().clone();
        let mut map = ShardMap::new(view.rows_total.unwrap_or(0), 1);
        map.count(0, view.rows_done, |cell| &mut cell.done);
        Ok(map)
    }

    async fn job_attempts(&self, job: JobId) -> Result<AttemptList, ServiceError> {
        self.find(job)?;
        Ok(self.attempts.lock().unwrap().clone())
    }

    async fn node_attempts(&self, _node: NodeId) -> Result<Vec<NodeAttempt>, ServiceError> {
        self.fail()?;
        let attempts = self.attempts.lock().unwrap().attempts.clone();
        Ok(attempts.into_iter().map(|attempt| NodeAttempt { job: JobId(1), attempt }).collect())
    }

    async fn cluster(&self) -> Result<ClusterView, ServiceError> {
        self.fail()?;
        self.looks.fetch_add(1, Ordering::Relaxed);
        let jobs = self.jobs(JobQuery { limit: 9, states: vec![JobState::Running], ..JobQuery::default() }).await?;
        let count = jobs.len() as u64;
        let jobs = jobs.into_iter().map(|view| RunningJob { view, rows_per_s: 0.0 }).collect();
        let nodes = vec![node()];
        Ok(ClusterView { nodes, nodes_total: 1, jobs, jobs_running: count, jobs_pending: count })
    }

    async fn explain(&self, job: JobId) -> Result<Vec<String>, ServiceError> {
        let state = self.find(job)?.borrow().state;
        Ok(vec![format!("job {job} is {}", state.name()), "it is a fake".into()])
    }

    async fn add_schedule(
        &self,
        spec: ScheduleSpec,
        _idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError> {
        self.fail()?;
        let mut schedules = self.schedules.lock().unwrap();
        let view = ScheduleView {
            id: ScheduleId(schedules.len() as u64 + 1),
            spec,
            paused: false,
            next_at_ms: Some(1_800_000_000_000),
            last_at_ms: None,
            last_job: None,
            runs: 0,
            missed: 0,
        };
        schedules.push(view.clone());
        Ok(view)
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError> {
        self.fail()?;
        Ok(self.schedules.lock().unwrap().clone())
    }

    async fn change_schedule(
        &self,
        schedule: ScheduleId,
        change: ScheduleChange,
    ) -> Result<ScheduleView, ServiceError> {
        self.fail()?;
        let mut schedules = self.schedules.lock().unwrap();
        let at = schedules.iter().position(|view| view.id == schedule);
        let at = at.ok_or_else(|| error(ErrorKind::NotFound, "unknown_schedule"))?;
        match change {
            ScheduleChange::Pause => schedules[at].paused = true,
            ScheduleChange::Resume => schedules[at].paused = false,
            ScheduleChange::Remove => return Ok(schedules.remove(at)),
        }
        Ok(schedules[at].clone())
    }

    async fn add_token(&self, token: NewToken) -> Result<IssuedToken, ServiceError> {
        self.fail()?;
        let mut tokens = self.tokens.lock().unwrap();
        let view = TokenView {
            id: TokenId(tokens.len() as u64 + 1),
            name: token.name,
            role: token.role,
            namespace: token.namespace,
            created_at_ms: 1_000,
            expires_at_ms: token.expires_in_ms.map(|ms| 1_000 + ms),
            requests_per_s: token.requests_per_s,
        };
        tokens.push(view.clone());
        Ok(IssuedToken { token: view, secret: "qp_new".into() })
    }

    async fn tokens(&self) -> Result<Vec<TokenView>, ServiceError> {
        self.fail()?;
        Ok(self.tokens.lock().unwrap().clone())
    }

    async fn revoke_token(&self, token: TokenId) -> Result<(), ServiceError> {
        self.fail()?;
        let mut tokens = self.tokens.lock().unwrap();
        let before = tokens.len();
        tokens.retain(|view| view.id != token);
        if tokens.len() < before { Ok(()) } else { Err(error(ErrorKind::NotFound, "unknown_token")) }
    }
}

/// Stands for a digest: what it is, is the service's business.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("{:064x}", bytes.iter().fold(7_u64, |hash, &b| hash.wrapping_mul(31).wrapping_add(u64::from(b))))
}
