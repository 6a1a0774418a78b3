//! The table of jobs. It outlives the dispatcher, which takes its jobs from here when it is started again, and clients
//! read it without going through the dispatcher.

use crate::input::table_index::TableIndex;
use crate::jobs::admission::Admitted;
use crate::jobs::results::ResultLog;
use quipu_shared::ids::{JobId, ShardId};
use quipu_shared::reduce::ReducerSet;
use quipu_shared::service::{JobState, JobView, ServiceError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// A shard whose result is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedShard {
    /// The shard.
    pub shard: ShardId,
    /// First row.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
}

/// What is recorded of a job's rows.
#[derive(Default)]
pub struct Recorded {
    /// Shards in the order of their completion.
    pub shards: Vec<CompletedShard>,
    /// Rows of these shards.
    pub rows: u64,
    /// The merged partials, where the job has reductions.
    pub reducers: Option<ReducerSet>,
}

/// One job.
pub struct JobEntry {
    /// Its id.
    pub id: JobId,
    /// What was accepted.
    pub admitted: Admitted,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// When it was accepted.
    pub accepted_at: Instant,
    /// What came out so far.
    pub results: Arc<ResultLog>,
    /// Where its table's records begin, for a `map`.
    pub index: Option<Arc<TableIndex>>,
    recorded: Mutex<Recorded>,
    view: watch::Sender<JobView>,
}

impl JobEntry {
    /// A job that was just accepted.
    pub fn new(
        id: JobId,
        admitted: Admitted,
        traceparent: Option<String>,
        results: Arc<ResultLog>,
        index: Option<Arc<TableIndex>>,
    ) -> Self {
        let submitted_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let rows_total = admitted.plan.rows_final.then_some(admitted.plan.rows_known);
        let (view, _) = watch::channel(JobView {
            id,
            kind: admitted.spec.kind.name().to_owned(),
            name: admitted.spec.name.clone(),
            format: admitted.spec.result_format(),
            state: JobState::Queued,
            submitted_at_ms,
            elapsed_ms: 0,
            rows_total,
            rows_done: 0,
            rows_failed: 0,
            row_errors: Vec::new(),
            shards: quipu_shared::service::ShardCounts::default(),
            error: None,
            traceparent: traceparent.clone(),
            labels: admitted.spec.queue.labels.clone(),
            priority: admitted.spec.queue.priority,
            after: admitted.spec.queue.after.clone(),
            not_before_ms: admitted.spec.queue.not_before_ms,
            ended_at_ms: None,
            retries: 0,
            retry_of: None,
            schedule: None,
        });
        let recorded = Mutex::new(Recorded { shards: Vec::new(), rows: 0, reducers: admitted.reducers.clone() });
        Self { id, admitted, traceparent, accepted_at: Instant::now(), results, index, recorded, view }
    }

    /// The job as it is now.
    pub fn view(&self) -> JobView {
        self.timed(self.view.borrow().clone())
    }

    /// Hears of each change.
    pub fn subscribe(&self) -> watch::Receiver<JobView> {
        self.view.subscribe()
    }

    /// Fills in the time of a job that is still under way.
    pub fn timed(&self, mut view: JobView) -> JobView {
        if !view.state.is_final() {
            view.elapsed_ms = self.accepted_at.elapsed().as_millis() as u64;
        }
        view
    }

    /// Changes what clients see.
    pub fn update(&self, change: impl FnOnce(&mut JobView)) {
        self.view.send_modify(change);
    }

    /// Moves the job to a state, where the table of arrows allows it; says whether it did.
    pub fn become_state(&self, next: JobState, error: Option<ServiceError>) -> bool {
        let elapsed_ms = self.accepted_at.elapsed().as_millis() as u64;
        self.view.send_if_modified(|view| {
            let legal = view.state.may_become(next);
            if legal {
                view.state = next;
                view.error = error;
                view.elapsed_ms = elapsed_ms;
            }
            legal
        })
    }

    /// What is recorded of its rows.
    pub fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every job that is not forgotten.
#[derive(Default)]
pub struct JobTable {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<JobId, Arc<JobEntry>>,
    keys: BTreeMap<String, JobId>,
    /// Jobs that have ended, oldest first.
    ended: VecDeque<JobId>,
    last_id: u64,
}

impl JobTable {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job's id.
    pub fn next_id(&self) -> JobId {
        let mut inner = self.lock();
        inner.last_id += 1;
        JobId(inner.last_id)
    }

    /// Adds a job, under its idempotency key where it has one.
    pub fn insert(&self, entry: Arc<JobEntry>, key: Option<String>) {
        let mut inner = self.lock();
        if let Some(key) = key {
            inner.keys.insert(key, entry.id);
        }
        inner.jobs.insert(entry.id, entry);
    }

    /// A job.
    pub fn get(&self, id: JobId) -> Option<Arc<JobEntry>> {
        self.lock().jobs.get(&id).cloned()
    }

    /// The job that was submitted with this key.
    pub fn by_key(&self, key: &str) -> Option<Arc<JobEntry>> {
        let inner = self.lock();
        inner.jobs.get(inner.keys.get(key)?).cloned()
    }

    /// Jobs above an id, oldest first.
    pub fn after(&self, after: Option<JobId>, limit: usize) -> Vec<Arc<JobEntry>> {
        let first = JobId(after.map_or(0, |id| id.0.saturating_add(1)));
        self.lock().jobs.range(first..).take(limit).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// Jobs that have not ended.
    pub fn active(&self) -> Vec<Arc<JobEntry>> {
        self.lock().jobs.values().filter(|entry| !entry.view.borrow().state.is_final()).cloned().collect()
    }

    /// How many jobs have not ended.
    pub fn active_count(&self) -> usize {
        let inner = self.lock();
        inner.jobs.len() - inner.ended.len()
    }

    /// Notes a job as ended, and forgets the oldest ended ones beyond `kept_max`.
    pub fn note_ended(&self, id: JobId, kept_max: usize) {
        let mut inner = self.lock();
        inner.ended.push_back(id);
        while inner.ended.len() > kept_max {
            let Some(oldest) = inner.ended.pop_front() else { break };
            inner.jobs.remove(&oldest);
            inner.keys.retain(|_, job| *job != oldest);
        }
    }
}
