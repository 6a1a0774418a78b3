//! The table of jobs. It outlives the dispatcher, which takes its jobs from here when it is started again, and clients
//! read it without going through the dispatcher. Jobs that are not served have no entry here, only a line in the index:
//! the rest of them is in the store.

use crate::input::table_index::TableIndex;
use crate::jobs::admission::Admitted;
use crate::jobs::history::Histories;
use crate::jobs::index::Index;
use crate::jobs::results::ResultLog;
use crate::jobs::view::view_of;
use crate::store::record::{JobRecord, Progress};
use crate::store::sequencer::unix_ms;
use quipu_shared::access::Namespace;
use quipu_shared::ids::JobId;
use quipu_shared::reduce::ReducerSet;
use quipu_shared::service::{JobState, JobView, ServiceError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// What is recorded of a job's rows, as far as the master needs it at hand.
#[derive(Default)]
pub struct Recorded {
    /// Rows done, and what a new dispatcher begins with.
    pub progress: Progress,
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
    /// Times that it may still be tried again after trouble that is not its own.
    pub retries_left: u32,
    /// Times that it was tried again.
    pub retries: u32,
    /// What came out so far.
    pub results: Arc<ResultLog>,
    /// Where its table's records begin, for a `map`.
    pub index: Option<Arc<TableIndex>>,
    recorded: Mutex<Recorded>,
    view: watch::Sender<JobView>,
}

impl JobEntry {
    /// A job that is served from now on, with what is recorded of it.
    pub fn new(
        id: JobId,
        record: &JobRecord,
        age: Duration,
        admitted: Admitted,
        recorded: Recorded,
        results: Arc<ResultLog>,
        index: Option<Arc<TableIndex>>,
    ) -> Self {
        let mut first = view_of(id, record);
        (first.rows_done, first.shards.done) = (recorded.progress.rows(), recorded.progress.shards);
        (first.rows_failed, first.row_errors) = (recorded.progress.failed, recorded.progress.errors.clone());
        let (view, _) = watch::channel(first);
        let now = Instant::now();
        Self {
            id,
            admitted,
            traceparent: record.fixed.traceparent.clone(),
            accepted_at: now.checked_sub(age).unwrap_or(now),
            retries_left: record.fixed.retries_max.saturating_sub(record.retries),
            retries: record.retries,
            results,
            index,
            recorded: Mutex::new(recorded),
            view,
        }
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
                if next.is_final() {
                    view.ended_at_ms = Some(view.submitted_at_ms + elapsed_ms);
                }
            }
            legal
        })
    }

    /// What is recorded of its rows.
    pub fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is under way, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Jobs of which something was leased, by namespace.
    pub jobs: BTreeMap<Namespace, u64>,
    /// Shards that were cut and wait for another attempt.
    pub shards_queued: u64,
    /// Shards that are leased.
    pub shards_leased: u64,
}

/// What the master has in memory of its jobs: those that it serves in full, and all of them in a few words.
pub struct JobTable {
    inner: Mutex<Inner>,
    /// Whether entries stay when their job has ended: a store in memory has nothing else of it.
    keeps_entries: bool,
    schedules_changed: AtomicBool,
    /// The attempts of these jobs.
    pub histories: Histories,
}

struct Inner {
    entries: BTreeMap<JobId, Arc<JobEntry>>,
    index: Index,
    /// Rung when something happens to a job that has no entry.
    bells: BTreeMap<JobId, Arc<Notify>>,
    /// Where the store is in memory: what was admitted and has not had its turn. The store does not have its specs.
    fresh: BTreeMap<JobId, Box<Admitted>>,
}

impl JobTable {
    /// Nothing yet. Ended jobs are kept for `retention_ms`; their entries only where `keeps_entries`.
    pub fn new(retention_ms: u64, keeps_entries: bool) -> Self {
        let (entries, bells, fresh) = Default::default();
        let inner = Inner { entries, index: Index::new(retention_ms), bells, fresh };
        let schedules_changed = AtomicBool::new(true);
        Self { inner: Mutex::new(inner), keeps_entries, schedules_changed, histories: Histories::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has become durable.
    pub fn note(&self, changes: &[(JobId, Option<JobRecord>)], schedules: bool) {
        if schedules {
            self.schedules_changed.store(true, Ordering::Release);
        }
        let mut inner = self.lock();
        for (job, record) in changes {
            inner.index.note(*job, record.as_ref());
            if record.is_none() {
                inner.entries.remove(job);
                self.histories.forget(*job);
            }
            inner.ring(*job);
        }
    }

    /// Whether schedules have changed since this was last asked.
    pub fn take_schedules_changed(&self) -> bool {
        self.schedules_changed.swap(false, Ordering::Acquire)
    }

    /// Looks something up among all jobs.
    pub fn index<T>(&self, look: impl FnOnce(&mut Index) -> T) -> T {
        look(&mut self.lock().index)
    }

    /// Keeps what was admitted for the job's turn, where the store does not.
    pub fn keep_fresh(&self, job: JobId, admitted: Box<Admitted>) {
        self.lock().fresh.insert(job, admitted);
    }

    /// What was admitted, where it was kept.
    pub fn take_fresh(&self, job: JobId) -> Option<Box<Admitted>> {
        self.lock().fresh.remove(&job)
    }

    /// The next job to be served, which is active from now on. A store in memory shows a job before its spec is kept
    /// here; such a one is left until its submission is told.
    pub fn activate_next(&self, active_max: usize) -> Option<JobId> {
        let mut inner = self.lock();
        let job = inner.index.activate_next(active_max)?;
        if self.keeps_entries && !inner.fresh.contains_key(&job) {
            inner.index.deactivate(job);
            return None;
        }
        Some(job)
    }

    /// A job that is served.
    pub fn get(&self, id: JobId) -> Option<Arc<JobEntry>> {
        self.lock().entries.get(&id).cloned()
    }

    /// Adds a job that is served from now on.
    pub fn insert(&self, entry: Arc<JobEntry>) {
        self.histories.reopen(entry.id);
        let mut inner = self.lock();
        let job = entry.id;
        inner.entries.insert(job, entry);
        inner.ring(job);
    }

    /// The job is no longer served: it has ended, or waits again.
    pub fn let_go(&self, job: JobId, ended: bool) {
        if let Some(entry) = self.get(job) {
            let done = entry.recorded().progress.ranges.clone();
            self.histories.close(job, done, unix_ms());
        }
        let mut inner = self.lock();
        if !(ended && self.keeps_entries) {
            inner.entries.remove(&job);
        }
        inner.index.deactivate(job);
        inner.ring(job);
    }

    /// Jobs that are served and have not ended.
    pub fn active(&self) -> Vec<Arc<JobEntry>> {
        self.lock().entries.values().filter(|entry| !entry.view.borrow().state.is_final()).cloned().collect()
    }

    /// Jobs that are served and run, and the shards of those that are served, without their copies.
    pub fn running(&self) -> Running {
        let mut running = Running::default();
        for entry in self.lock().entries.values() {
            let view = entry.view.borrow();
            if view.state.is_final() {
                continue;
            }
            if view.state == JobState::Running {
                *running.jobs.entry(view.namespace.clone()).or_default() += 1;
            }
            running.shards_queued += view.shards.queued;
            running.shards_leased += view.shards.leased;
        }
        running
    }

    /// Rings when something happens to a job.
    pub fn bell(&self, job: JobId) -> Arc<Notify> {
        Arc::clone(self.lock().bells.entry(job).or_default())
    }
}

impl Inner {
    fn ring(&mut self, job: JobId) {
        if let Some(bell) = self.bells.remove(&job) {
            bell.notify_waiters();
        }
    }
}
