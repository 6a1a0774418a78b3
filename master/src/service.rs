//! The master as a service: the one way in for clients, within the process and over HTTP.

use crate::access::tokens::TokenTable;
use crate::dispatcher::DispatcherMessage;
use crate::dispatcher::spans::commit;
use crate::jobs::admission::{Admission, Admitted};
use crate::jobs::entry::{JobEntry, JobTable};
use crate::jobs::opening::{JobOpener, error, gone, new_job, no_uploads, store_error};
use crate::jobs::results::ResultLog;
use crate::jobs::view::view_of;
use crate::nodes::NodeTable;
use crate::store::Store;
use crate::store::command::{Command, Outcome};
use crate::store::reads::Reads;
use crate::store::sequencer::unix_ms;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use quipu_shared::access::{IssuedToken, NewToken, TokenView};
use quipu_shared::detail::{AttemptList, ClusterView, JobDetail, NodeAttempt, ShardMap};
use quipu_shared::ids::{JobId, NodeId, ScheduleId, TokenId};
use quipu_shared::service::{
    ErrorKind, JobQuery, JobService, JobState, JobView, NodeView, ScheduleChange, ScheduleView, ServiceError,
    SubmitRequest, Upload,
};
use quipu_shared::spec::{JobKind, JobSpec, ScheduleSpec, TableInput};
use quipu_shared::telemetry::TraceParent;
use quipu_shared::telemetry::spans::{SpanKind, TraceSpan};
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Watchers hear at most ten changes a second.
const WATCH_PERIOD: Duration = Duration::from_millis(100);
/// How long the dispatcher may take to answer.
const DISPATCHER_PATIENCE_MS: u64 = 10_000;
/// Jobs that are checked on a thread that serves others too; more are checked on one of their own.
const PREPARED_AT_ONCE_MAX: usize = 32;
/// Jobs that are looked at before a list is asked for more room.
const LIST_CHUNK: usize = 256;

/// What the service is made of.
pub struct MasterService {
    /// The dispatcher, now and after each restart.
    pub dispatcher: watch::Receiver<Option<ActorRef<DispatcherMessage>>>,
    /// The jobs.
    pub jobs: Arc<JobTable>,
    /// The nodes.
    pub nodes: Arc<NodeTable>,
    /// The job log, what is admitted, and where uploads and results are.
    pub opener: JobOpener,
    /// Who may ask.
    pub tokens: Arc<TokenTable>,
    /// Whether the disk has room.
    pub disk: crate::disk::DiskWatch,
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

    fn store(&self) -> &Arc<Store> {
        &self.opener.store
    }

    fn admission(&self) -> Arc<Admission> {
        self.opener.admission.get()
    }

    /// A job as it is, served or not.
    pub(crate) fn view(&self, job: JobId) -> Result<JobView, ServiceError> {
        if let Some(entry) = self.jobs.get(job) {
            return Ok(entry.view());
        }
        let record = self.store().job(job).map_err(store_error)?.ok_or_else(|| gone(job))?;
        Ok(view_of(job, &record))
    }

    /// A job's spec.
    pub(crate) fn spec(&self, job: JobId) -> Result<JobSpec, ServiceError> {
        match self.jobs.get(job) {
            Some(entry) => Ok((*entry.admitted.spec).clone()),
            None => self.opener.spec(job),
        }
    }

    /// Checks a request and makes the command that accepts it.
    /// One that belongs to no trace is in that of `trace`.
    fn prepare(
        &self,
        mut request: SubmitRequest,
        retry_of: Option<JobId>,
        trace: Option<TraceParent>,
    ) -> Result<(Command, Admitted), ServiceError> {
        self.admission().narrow(&mut request.spec);
        let admitted = self.admission().admit(&request.spec)?;
        if let JobKind::Map { input: input @ TableInput::Uploaded { .. }, .. } = &request.spec.kind {
            self.opener.table_path(input)?;
        }
        let mut new = new_job(&request.spec, &admitted, unix_ms(), self.admission().dependents_max)?;
        new.facts.traceparent = request.traceparent.or_else(|| trace.map(|trace| trace.to_string()));
        // Keys of one namespace say nothing to another.
        let namespace = &request.spec.queue.namespace;
        new.facts.idempotency_key =
            request.idempotency_key.map(|key| if namespace.is_default() { key } else { format!("{namespace}/{key}") });
        new.facts.retry_of = retry_of;
        if !self.store().is_durable() {
            new.spec = Bytes::new();
        }
        Ok((Command::Submit(Box::new(new)), admitted))
    }

    /// Submits many, with one wait for the disk.
    async fn accept(
        self: &Arc<Self>,
        requests: Vec<(SubmitRequest, Option<JobId>)>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError> {
        self.disk.check()?;
        self.store().check_room().map_err(store_error)?;
        let mut more = BTreeMap::new();
        for (request, _) in &requests {
            *more.entry(request.spec.queue.namespace.clone()).or_default() += 1;
        }
        self.admission().check_room(&self.jobs, &more)?;
        let parent = requests.iter().find_map(|(request, _)| request.traceparent.as_deref()?.parse().ok());
        let mut admission = TraceSpan::begin("admit job", SpanKind::Internal, parent);
        let trace = parent.or(admission.context());
        let prepared: Vec<_> = if requests.len() <= PREPARED_AT_ONCE_MAX {
            requests.into_iter().map(|(request, retry_of)| self.prepare(request, retry_of, trace)).collect()
        } else {
            let service = Arc::clone(self);
            let prepare = move || {
                let each = requests.into_iter();
                each.map(|(request, retry_of)| service.prepare(request, retry_of, trace)).collect()
            };
            tokio::task::spawn_blocking(prepare)
                .await
                .map_err(|panic| error(ErrorKind::Internal, "undecided", format!("check the jobs: {panic}")))?
        };
        let (mut answers, mut commands, mut places) = (Vec::with_capacity(prepared.len()), Vec::new(), Vec::new());
        let mut first_refusal = None;
        for prepared in prepared {
            match prepared {
                Ok((command, admitted)) => {
                    places.push((answers.len(), admitted));
                    commands.push(command);
                    // Decided below.
                    answers.push(Err(error(ErrorKind::Internal, "undecided", "the store gave no answer".into())));
                }
                Err(refused) => {
                    first_refusal.get_or_insert_with(|| refused.clone());
                    answers.push(Err(refused));
                }
            }
        }
        admission.set_number("quipu.jobs.count", answers.len() as u64);
        if let (Some(refused), true) = (first_refusal, commands.is_empty()) {
            admission.fail(&refused.code, &refused.message);
        }
        drop(admission);
        if commands.is_empty() {
            // No need to write that nothing was decided.
            return Ok(answers);
        }
        let commit = commit(commands.len(), trace);
        let outcomes = self.store().decide(commands).await.map_err(store_error)?;
        drop(commit);
        let mut submitted = Vec::new();
        for (outcome, (place, admitted)) in outcomes.into_iter().zip(places) {
            if let Outcome::Accepted(job) = outcome {
                let mut admitted = Some(Box::new(admitted));
                if !self.store().is_durable()
                    && let Some(admitted) = admitted.take()
                {
                    self.jobs.keep_fresh(job, admitted);
                }
                submitted.push((job, admitted));
            }
            answers[place] = accepted(outcome);
        }
        if !submitted.is_empty()
            && let Some(dispatcher) = &*self.dispatcher.borrow()
        {
            // One that is gone is started again, and finds what is queued.
            let _ = dispatcher.cast(DispatcherMessage::Submitted(submitted));
        }
        Ok(answers)
    }

    /// The jobs that fit a query, of which chunk after chunk is looked at.
    fn list(&self, query: &JobQuery) -> Result<Vec<JobView>, ServiceError> {
        let (mut found, mut after) = (Vec::new(), query.after);
        // Running is not durable: such a job is queued as far as the index knows.
        let may_be = |state: JobState| {
            query.states.is_empty()
                || query.states.contains(&state)
                || (state == JobState::Queued && query.states.contains(&JobState::Running))
        };
        loop {
            let chunk: Vec<JobId> = self.jobs.index(|index| {
                let ids = index
                    .after(after, query.newest_first, query.namespace.as_ref())
                    .filter(|(_, state)| may_be(*state));
                ids.map(|(job, _)| job).take(LIST_CHUNK.max(query.limit)).collect()
            });
            let Some(last) = chunk.last() else { return Ok(found) };
            after = Some(*last);
            for job in chunk {
                // One that was forgotten meanwhile is not listed.
                let Ok(view) = self.view(job) else { continue };
                let fits = (query.states.is_empty() || query.states.contains(&view.state))
                    && query.name.as_ref().is_none_or(|name| view.name.as_ref() == Some(name))
                    && query.labels.iter().all(|(key, value)| view.labels.get(key) == Some(value));
                if fits {
                    found.push(view);
                    if found.len() >= query.limit {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Waits until a job is served or has ended; gives its entry where there is one.
    async fn until_served(self: &Arc<Self>, job: JobId) -> Result<Option<Arc<JobEntry>>, ServiceError> {
        loop {
            let bell = self.jobs.bell(job);
            let rung = bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if let Some(entry) = self.jobs.get(job) {
                return Ok(Some(entry));
            }
            if self.view(job)?.state.is_final() {
                return Ok(None);
            }
            rung.await;
        }
    }
}

/// What became of a submission.
fn accepted(outcome: Outcome) -> Result<JobId, ServiceError> {
    match outcome {
        Outcome::Accepted(job) => Ok(job),
        Outcome::Known(id) => Ok(JobId(id)),
        Outcome::KeyReused(id) => Err(error(
            ErrorKind::Conflict,
            "idempotency_key_reused",
            format!("this idempotency key was used for job {id} with another body; choose a new key"),
        )),
        Outcome::Unknown => Err(error(
            ErrorKind::NotFound,
            "unknown_dependency",
            "a job that this one is to wait for is not there; `quipu job list` shows those there are".into(),
        )),
        Outcome::TooManyDependents(job) => Err(error(
            ErrorKind::TooLarge,
            "too_many_dependents",
            format!("too many jobs wait for job {job} already (limits.dependents_max)"),
        )),
        other => Err(error(ErrorKind::Internal, "store", format!("the store answered {other:?}"))),
    }
}

/// A service that can be had by its streams too.
#[derive(Clone)]
pub struct Master(pub Arc<MasterService>);

#[async_trait]
impl JobService for Master {
    fn ready(&self) -> Result<(), ServiceError> {
        self.0.disk.check()?;
        if let Some(trouble) = self.0.store().trouble() {
            return Err(store_error(trouble));
        }
        self.0.dispatcher().map(drop)
    }

    async fn submit(&self, request: SubmitRequest) -> Result<JobId, ServiceError> {
        one(self.0.accept(vec![(request, None)]).await?)
    }

    async fn submit_batch(
        &self,
        requests: Vec<SubmitRequest>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, ServiceError> {
        self.0.accept(requests.into_iter().map(|request| (request, None)).collect()).await
    }

    async fn retry(&self, job: JobId, idempotency_key: Option<String>) -> Result<JobId, ServiceError> {
        let view = self.0.view(job)?;
        if !view.state.is_final() {
            return Err(not_ended(job, view.state));
        }
        let mut spec = self.0.spec(job)?;
        // It runs now, whatever the first one waited for.
        (spec.queue.not_before_ms, spec.queue.after) = (None, Vec::new());
        let request = SubmitRequest { spec, traceparent: view.traceparent, idempotency_key };
        one(self.0.accept(vec![(request, Some(job))]).await?)
    }

    async fn forget(&self, job: JobId) -> Result<(), ServiceError> {
        let outcome = self.0.store().decide(vec![Command::Forget { job }]).await.map_err(store_error)?;
        match outcome[..] {
            [Outcome::Done] => {
                self.0.opener.remove_results(job);
                Ok(())
            }
            [Outcome::NotEnded] => Err(not_ended(job, self.0.view(job)?.state)),
            _ => Err(gone(job)),
        }
    }

    async fn explain(&self, job: JobId) -> Result<Vec<String>, ServiceError> {
        let view = self.0.view(job)?;
        if self.0.jobs.get(job).is_some() && !view.state.is_final() {
            let lines = ractor::call_t!(self.0.dispatcher()?, DispatcherMessage::Explain, DISPATCHER_PATIENCE_MS, job);
            return lines.map_err(|_| error(ErrorKind::Busy, "restarting", "the dispatcher does not answer".into()));
        }
        Ok(self.0.explain_unserved(&view))
    }

    async fn job_detail(&self, job: JobId) -> Result<JobDetail, ServiceError> {
        self.0.detail(job)
    }

    async fn job_shards(&self, job: JobId) -> Result<ShardMap, ServiceError> {
        self.0.shards(job)
    }

    async fn job_attempts(&self, job: JobId) -> Result<AttemptList, ServiceError> {
        self.0.attempts(job)
    }

    async fn node_attempts(&self, node: NodeId) -> Result<Vec<NodeAttempt>, ServiceError> {
        Ok(self.0.attempts_on(&node))
    }

    async fn cancel(&self, job: JobId) -> Result<(), ServiceError> {
        self.0.view(job)?;
        self.0.tell(DispatcherMessage::Cancel(job))
    }

    async fn job(&self, job: JobId) -> Result<JobView, ServiceError> {
        self.0.view(job)
    }

    async fn jobs(&self, query: JobQuery) -> Result<Vec<JobView>, ServiceError> {
        let service = Arc::clone(&self.0);
        let listed = tokio::task::spawn_blocking(move || service.list(&query)).await;
        listed.unwrap_or_else(|panic| Err(error(ErrorKind::Internal, "list", format!("list the jobs: {panic}"))))
    }

    async fn watch(&self, job: JobId) -> Result<BoxStream<'static, JobView>, ServiceError> {
        let first = self.0.view(job)?;
        let begin = Watching { service: Arc::clone(&self.0), job, first: Some(first), entry: None, ended: false };
        Ok(stream::unfold(begin, |mut watching| async move {
            let view = watching.next().await?;
            Some((view, watching))
        })
        .boxed())
    }

    async fn results(&self, job: JobId) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        self.results_from(job, 0).await
    }

    async fn results_from(
        &self,
        job: JobId,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        let view = self.0.view(job)?;
        if let Some(entry) = self.0.jobs.get(job) {
            return entry.results.read_from(offset);
        }
        if view.state.is_final() {
            return self.0.ended_results(job, offset);
        }
        let service = Arc::clone(&self.0);
        let rows = stream::once(async move {
            match service.until_served(job).await? {
                Some(entry) => entry.results.read_from(offset),
                None => service.ended_results(job, offset),
            }
        });
        Ok(rows.try_flatten().boxed())
    }

    async fn upload(&self, bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Upload, ServiceError> {
        self.0.disk.check()?;
        match &self.0.opener.uploads {
            Some(uploads) => uploads.receive(bytes).await,
            None => Err(no_uploads()),
        }
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, ServiceError> {
        Ok(self.0.nodes.all())
    }

    async fn cluster(&self) -> Result<ClusterView, ServiceError> {
        Ok(self.0.cluster_view())
    }

    async fn drain(&self, node: NodeId) -> Result<(), ServiceError> {
        ractor::call_t!(self.0.dispatcher()?, DispatcherMessage::Drain, DISPATCHER_PATIENCE_MS, node)
            .map_err(|_| error(ErrorKind::Busy, "restarting", "the master's dispatcher does not answer".into()))?
    }

    async fn add_schedule(
        &self,
        spec: ScheduleSpec,
        idempotency_key: Option<String>,
    ) -> Result<ScheduleView, ServiceError> {
        self.0.add_schedule(spec, idempotency_key).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, ServiceError> {
        self.0.schedules()
    }

    async fn change_schedule(
        &self,
        schedule: ScheduleId,
        change: ScheduleChange,
    ) -> Result<ScheduleView, ServiceError> {
        self.0.change_schedule(schedule, change).await
    }

    async fn add_token(&self, token: NewToken) -> Result<IssuedToken, ServiceError> {
        self.0.tokens.issue(self.0.store(), token).await
    }

    async fn tokens(&self) -> Result<Vec<TokenView>, ServiceError> {
        Ok(self.0.tokens.all())
    }

    async fn revoke_token(&self, token: TokenId) -> Result<(), ServiceError> {
        self.0.tokens.revoke(self.0.store(), token).await
    }
}

impl MasterService {
    /// The results of a job that is not served any more.
    fn ended_results(
        &self,
        job: JobId,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
        let record = self.store().job(job).map_err(store_error)?.ok_or_else(|| gone(job))?;
        if let Some(error) = record.error.filter(|_| record.state != JobState::Succeeded) {
            return Ok(stream::iter([Err(error.into())]).boxed());
        }
        let head = self.store().result(job).map_err(store_error)?.ok_or_else(|| gone(job))?;
        let place = self.opener.place(job).ok_or_else(|| gone(job))?;
        Arc::new(ResultLog::ended(place, head).map_err(store_error)?).read_from(offset)
    }

    /// Why a job that is not served stands where it stands.
    fn explain_unserved(&self, view: &JobView) -> Vec<String> {
        match view.state {
            JobState::Scheduled => {
                let at_ms = view.not_before_ms.unwrap_or_default();
                let in_ms = at_ms.saturating_sub(unix_ms());
                let mut lines = vec![format!("waits for its time, {}.{:03} s from now", in_ms / 1000, in_ms % 1000)];
                lines.extend(view.error.iter().map(|error| format!("it is tried again after: {}", error.message)));
                lines
            }
            JobState::Waiting => view
                .after
                .iter()
                .filter_map(|other| Some((other, self.view(other.job).ok()?)))
                .filter(|(_, other)| !other.state.is_final())
                .map(|(dependency, other)| format!("waits for job {}, which is {}", dependency.job, other.state.name()))
                .collect(),
            JobState::Queued | JobState::Running => {
                let (ahead, active) = self.jobs.index(|index| (index.ahead_of(view.id), index.active_count()));
                vec![format!(
                    "waits for its turn: {ahead} jobs are ahead of it, {active} are served (limits.jobs_active_max)"
                )]
            }
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
                let mut lines = vec![format!("it has ended: {}", view.state.name())];
                lines.extend(view.error.iter().map(|error| format!("{} ({})", error.message, error.code)));
                lines
            }
        }
    }
}

/// A stream of a job's views, over the times in which it is served and those in which it is not.
struct Watching {
    service: Arc<MasterService>,
    job: JobId,
    first: Option<JobView>,
    entry: Option<(Arc<JobEntry>, watch::Receiver<JobView>)>,
    ended: bool,
}

impl Watching {
    async fn next(&mut self) -> Option<JobView> {
        if self.ended {
            return None;
        }
        let view = match self.first.take() {
            Some(view) => view,
            None => self.change().await?,
        };
        self.ended = view.state.is_final();
        Some(view)
    }

    async fn change(&mut self) -> Option<JobView> {
        loop {
            let Some((entry, changes)) = &mut self.entry else {
                match self.service.until_served(self.job).await.ok()? {
                    Some(entry) => {
                        let changes = entry.subscribe();
                        self.entry = Some((Arc::clone(&entry), changes));
                        return Some(entry.view());
                    }
                    None => return self.service.view(self.job).ok(),
                }
            };
            // A job that is tried again has an end, and then another entry.
            let waits_again = entry.view().state == JobState::Scheduled;
            if waits_again {
                self.entry = None;
                continue;
            }
            changes.changed().await.ok()?;
            if !changes.borrow().state.is_final() {
                tokio::time::sleep(WATCH_PERIOD).await;
            }
            let view = entry.timed(changes.borrow_and_update().clone());
            return Some(view);
        }
    }
}

fn one(answers: Vec<Result<JobId, ServiceError>>) -> Result<JobId, ServiceError> {
    let undecided = || error(ErrorKind::Internal, "undecided", "the store gave no answer".into());
    answers.into_iter().next().unwrap_or_else(|| Err(undecided()))
}

fn not_ended(job: JobId, state: JobState) -> ServiceError {
    let message = format!("job {job} is {}; cancel it first, or wait for its end", state.name());
    error(ErrorKind::Conflict, "job_not_ended", message)
}
