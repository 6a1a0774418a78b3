//! The master as a service: the one way in for clients, within the process and over HTTP.

use crate::dispatcher::DispatcherMessage;
use crate::input::table_index::TableIndex;
use crate::input::uploads::Uploads;
use crate::jobs::admission::{Admission, Admitted};
use crate::jobs::entry::{JobEntry, JobTable};
use crate::jobs::results::ResultLog;
use crate::nodes::NodeTable;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use quipu_shared::ids::{JobId, NodeId, ScheduleId};
use quipu_shared::service::{
    ErrorKind, JobQuery, JobService, JobView, NodeView, ScheduleChange, ScheduleView, ServiceError, SubmitRequest,
    Upload,
};
use quipu_shared::spec::{JobKind, ScheduleSpec, TableInput};
use ractor::ActorRef;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Watchers hear at most ten changes a second.
const WATCH_PERIOD: Duration = Duration::from_millis(100);
/// How long the dispatcher may take to answer.
const DISPATCHER_PATIENCE_MS: u64 = 10_000;

/// Where results wait for their readers.
#[derive(Clone, Debug)]
pub enum ResultPlace {
    /// In memory, for one reader: an embedded master, whose client is in the same process.
    Memory,
    /// In a folder.
    Spool {
        /// The folder, which exists.
        folder: PathBuf,
        /// Largest results of one job.
        job_bytes_max: u64,
    },
}

/// What the service is made of.
pub struct MasterService {
    /// The dispatcher, now and after each restart.
    pub dispatcher: watch::Receiver<Option<ActorRef<DispatcherMessage>>>,
    /// The jobs.
    pub jobs: Arc<JobTable>,
    /// The nodes.
    pub nodes: Arc<NodeTable>,
    /// What is admitted.
    pub admission: Admission,
    /// Where uploads are kept; an embedded master takes none.
    pub uploads: Option<Arc<Uploads>>,
    /// Where results wait.
    pub results: ResultPlace,
    /// Serialises submissions, so that one idempotency key gives one job.
    pub submitting: Mutex<()>,
}

impl MasterService {
    fn dispatcher(&self) -> Result<ActorRef<DispatcherMessage>, ServiceError> {
        self.dispatcher
            .borrow()
            .clone()
            .ok_or_else(|| error(ErrorKind::Busy, "starting", "the master is starting".into()))
    }

    fn tell(&self, message: DispatcherMessage) -> Result<(), ServiceError> {
        self.dispatcher()?
            .cast(message)
            .map_err(|_| error(ErrorKind::Busy, "restarting", "the master's dispatcher is restarting".into()))
    }

    fn entry(&self, job: JobId) -> Result<Arc<JobEntry>, ServiceError> {
        self.jobs.get(job).ok_or_else(|| {
            error(
                ErrorKind::NotFound,
                "unknown_job",
                format!("there is no job {job}; `quipu job list` shows those there are"),
            )
        })
    }

    /// The file of a table, where it is one that this master may read.
    fn table_path(&self, input: &TableInput) -> Result<PathBuf, ServiceError> {
        match (input, &self.uploads) {
            (TableInput::Shared { path }, _) => Ok(PathBuf::from(path)),
            (TableInput::Uploaded { digest }, Some(uploads)) => uploads.path(digest).ok_or_else(|| {
                error(
                    ErrorKind::NotFound,
                    "unknown_upload",
                    format!("there is no upload {digest:.80}; upload the table first"),
                )
            }),
            (TableInput::Uploaded { .. }, None) => Err(no_uploads()),
        }
    }

    fn accept(&self, admitted: Admitted, request: SubmitRequest) -> Result<JobId, ServiceError> {
        let id = self.jobs.next_id();
        let index = match &admitted.spec.kind {
            JobKind::Map { input, schema, .. } => {
                Some(Arc::new(TableIndex::new(self.table_path(input)?, schema.clone())))
            }
            _ => None,
        };
        let header = Bytes::from(admitted.header.clone());
        let results = match &self.results {
            ResultPlace::Spool { folder, job_bytes_max } if admitted.reducers.is_none() => {
                let path = folder.join(format!("results-{id}"));
                let log = ResultLog::spooled(header, &path, *job_bytes_max).map_err(|cause| {
                    error(ErrorKind::Internal, "spool_write", format!("create {}: {cause}", path.display()))
                })?;
                // The open file is all that is needed; without a name it can't be left behind.
                if let Err(cause) = std::fs::remove_file(&path) {
                    tracing::warn!(error = %cause, path = %path.display(), "unlink a spool file");
                }
                log
            }
            _ => {
                let dispatcher = self.dispatcher.clone();
                ResultLog::ephemeral(header, move |row| {
                    if let Some(dispatcher) = &*dispatcher.borrow() {
                        // A dispatcher that is gone is started again with a fresh window.
                        let _ = dispatcher.cast(DispatcherMessage::ResultsTaken(id, row));
                    }
                })
            }
        };
        let entry = Arc::new(JobEntry::new(id, admitted, request.traceparent, Arc::new(results), index));
        self.jobs.insert(Arc::clone(&entry), request.idempotency_key);
        self.tell(DispatcherMessage::Submit(entry))?;
        Ok(id)
    }
}

#[async_trait]
impl JobService for MasterService {
    async fn submit(&self, request: SubmitRequest) -> Result<JobId, ServiceError> {
        let admitted = self.admission.admit(&request.spec)?;
        let _one_at_a_time = self.submitting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = request.idempotency_key.as_deref().and_then(|key| self.jobs.by_key(key)) {
            if *known.admitted.spec == request.spec {
                return Ok(known.id);
            }
            return Err(error(
                ErrorKind::Conflict,
                "idempotency_key_reused",
                format!("this idempotency key was used for job {} with another body; choose a new key", known.id),
            ));
        }
        self.admission.check_room(&self.jobs)?;
        self.accept(admitted, request)
    }

    async fn cancel(&self, job: JobId) -> Result<(), ServiceError> {
        self.entry(job)?;
        self.tell(DispatcherMessage::Cancel(job))
    }

    async fn job(&self, job: JobId) -> Result<JobView, ServiceError> {
        Ok(self.entry(job)?.view())
    }

    async fn jobs(&self, query: JobQuery) -> Result<Vec<JobView>, ServiceError> {
        let JobQuery { after, limit, .. } = query;
        Ok(self.jobs.after(after, limit).iter().map(|entry| entry.view()).collect())
    }

    async fn watch(&self, job: JobId) -> Result<BoxStream<'static, JobView>, ServiceError> {
        let entry = self.entry(job)?;
        let changes = entry.subscribe();
        let begin = (entry, changes, true, false);
        Ok(stream::unfold(begin, |(entry, mut changes, first, ended)| async move {
            if ended {
                return None;
            }
            if !first {
                changes.changed().await.ok()?;
                if !changes.borrow().state.is_final() {
                    tokio::time::sleep(WATCH_PERIOD).await;
                }
            }
            let view = entry.timed(changes.borrow_and_update().clone());
            let ended = view.state.is_final();
            Some((view, (entry, changes, false, ended)))
        })
        .boxed())
    }

    async fn results(&self, job: JobId) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        self.entry(job)?.results.read()
    }

    async fn upload(&self, bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Upload, ServiceError> {
        match &self.uploads {
            Some(uploads) => uploads.receive(bytes).await,
            None => Err(no_uploads()),
        }
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, ServiceError> {
        Ok(self.nodes.all())
    }

    async fn drain(&self, node: NodeId) -> Result<(), ServiceError> {
        ractor::call_t!(self.dispatcher()?, DispatcherMessage::Drain, DISPATCHER_PATIENCE_MS, node)
            .map_err(|_| error(ErrorKind::Busy, "restarting", "the master's dispatcher does not answer".into()))?
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
        Err(ServiceError {
            kind: ErrorKind::Internal,
            code: "unsupported".into(),
            message: "not here".into(),
            place: None,
            retry_after_s: None,
        })
    }

    async fn forget(&self, _job: JobId) -> Result<(), ServiceError> {
        Err(ServiceError {
            kind: ErrorKind::Internal,
            code: "unsupported".into(),
            message: "not here".into(),
            place: None,
            retry_after_s: None,
        })
    }

    async fn explain(&self, _job: JobId) -> Result<Vec<String>, ServiceError> {
        Err(ServiceError {
            kind: ErrorKind::Internal,
            code: "unsupported".into(),
            message: "not here".into(),
            place: None,
            retry_after_s: None,
        })
    }

    async fn add_schedule(
        &self,
        _spec: ScheduleSpec,
        _idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError> {
        Err(ServiceError {
            kind: ErrorKind::Internal,
            code: "unsupported".into(),
            message: "not here".into(),
            place: None,
            retry_after_s: None,
        })
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError> {
        Err(ServiceError {
            kind: ErrorKind::Internal,
            code: "unsupported".into(),
            message: "not here".into(),
            place: None,
            retry_after_s: None,
        })
    }

    async fn change_schedule(
        &self,
        _schedule: ScheduleId,
        _change: ScheduleChange,
    ) -> Result<ScheduleView, ServiceError> {
        Err(ServiceError {
            kind: ErrorKind::Internal,
            code: "unsupported".into(),
            message: "not here".into(),
            place: None,
            retry_after_s: None,
        })
    }
}

fn no_uploads() -> ServiceError {
    error(ErrorKind::Usage, "no_uploads", "an embedded cluster reads files itself and takes no uploads".into())
}

fn error(kind: ErrorKind, code: &str, message: String) -> ServiceError {
    let retry_after_s = (kind == ErrorKind::Busy).then_some(1);
    ServiceError { kind, code: code.into(), message, place: None, retry_after_s }
}
