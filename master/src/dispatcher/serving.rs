//! Which jobs are served: the store has any number of them queued, and the scheduler is given a bounded number.

use super::ending::cancelled;
use super::{DispatcherMessage, DispatcherState};
use crate::jobs::admission::Admitted;
use crate::jobs::entry::JobEntry;
use crate::scheduler::Event;
use crate::store::StoreError;
use crate::store::reads::Reads;
use crate::store::sequencer::unix_ms;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobState, ServiceError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Jobs that are opened side by side: opening reads the disk.
const OPENING_MAX: usize = 16;
/// How long a new dispatcher opens jobs before it hears of workers.
const TAKE_OVER_MAX: Duration = Duration::from_secs(1);

impl DispatcherState {
    /// Begins where the last dispatcher of this process, or the last master, has left.
    pub(super) fn take_over(&mut self) -> Result<(), StoreError> {
        self.args.jobs.histories.lost_all(unix_ms());
        let served = self.args.jobs.active();
        self.args.jobs.index(|index| index.keep_active(|job| served.iter().any(|entry| entry.id == job)));
        for entry in served {
            if self.refresh(&entry)? {
                self.spans.served(&entry);
                self.schedule(&entry);
            }
        }
        self.do_chores();
        // Workers may bring what they hold of these as soon as they are linked.
        let begun = Instant::now();
        while begun.elapsed() < TAKE_OVER_MAX
            && let Some(job) = self.activate_next()
        {
            let opened = self.opener_of(job)();
            self.opened(job, opened);
        }
        self.serve_next();
        Ok(())
    }

    fn activate_next(&mut self) -> Option<JobId> {
        let active_max = self.args.jobs_active_max;
        let job = self.args.jobs.activate_next(active_max)?;
        self.opening.insert(job, false);
        Some(job)
    }

    /// Opens a job; blocks on the disk.
    fn opener_of(&mut self, job: JobId) -> impl FnOnce() -> Result<Arc<JobEntry>, ServiceError> + Send + use<> {
        let fresh = self.fresh.remove(&job).or_else(|| self.args.jobs.take_fresh(job));
        let admitted = fresh.map(|admitted| *admitted);
        let (opener, reader) = (self.args.opener.clone(), self.myself.clone());
        move || {
            let taken = move |row| {
                // A dispatcher that is gone is started again with a fresh window.
                let _ = reader.cast(DispatcherMessage::ResultsTaken(job, row));
            };
            opener.open(job, admitted, taken).map(Arc::new)
        }
    }

    /// Takes over from the store what the dispatcher before may have recorded and not noted; false if the job is not to
    /// be served any more.
    fn refresh(&mut self, entry: &Arc<JobEntry>) -> Result<bool, StoreError> {
        let job = entry.id;
        let record = self.args.store().job(job)?;
        match record {
            Some(record) if record.state == JobState::Queued => {
                let recorded = self.args.opener.recorded(job, &entry.admitted);
                *entry.recorded() = recorded.map_err(|error| StoreError::Stopped(error.message))?;
                Ok(true)
            }
            Some(record) => {
                let result = self.args.store().result(job)?;
                self.told(job, record.state, record.error.map(Into::into), result, None);
                Ok(false)
            }
            None => {
                self.args.jobs.let_go(job, false);
                Ok(false)
            }
        }
    }

    /// Jobs were accepted.
    pub(super) fn submitted(&mut self, jobs: Vec<(JobId, Option<Box<Admitted>>)>) {
        for (job, admitted) in jobs {
            tracing::debug!(job_id = %job, "job accepted");
            if let Some(admitted) = admitted {
                self.fresh.insert(job, admitted);
            }
        }
        self.serve_next();
        // Whoever has to wait is read again when its turn comes.
        self.fresh.clear();
        self.watch_clock();
    }

    /// Opens jobs as long as there is room.
    pub(super) fn serve_next(&mut self) {
        while self.opening.len() < OPENING_MAX {
            let Some(job) = self.activate_next() else { return };
            let (open, myself) = (self.opener_of(job), self.myself.clone());
            let open = move || {
                // A dispatcher that is gone is started again, and finds the job queued.
                let _ = myself.cast(DispatcherMessage::Opened(job, open()));
            };
            if self.args.store().is_durable() {
                tokio::task::spawn_blocking(open);
            } else {
                open();
            }
        }
    }

    /// A job is open: it is scheduled.
    pub(super) fn opened(&mut self, job: JobId, opened: Result<Arc<JobEntry>, ServiceError>) {
        let unwanted = self.opening.remove(&job).unwrap_or(false);
        match opened {
            _ if unwanted => self.end_unserved(job, JobState::Cancelled, cancelled(job)),
            Ok(entry) => {
                tracing::info!(job_id = %job, kind = entry.admitted.spec.kind.name(), trace_id = entry.trace_id(), "job is served");
                self.args.jobs.insert(Arc::clone(&entry));
                self.spans.served(&entry);
                self.schedule(&entry);
            }
            Err(error) => self.end_unserved(job, JobState::Failed, error),
        }
    }

    /// Cancels a job, wherever it is.
    pub(super) fn cancel(&mut self, job: JobId) {
        if let Some(unwanted) = self.opening.get_mut(&job) {
            *unwanted = true;
        } else if self.cancel_ending(job) {
            // Whether it has ended or is tried again is about to be known.
        } else if self.args.jobs.get(job).is_some() {
            self.step(Event::JobCancelled { job });
        } else if self.args.jobs.index(|index| index.state(job)).is_some_and(|state| !state.is_final()) {
            self.args.jobs.take_fresh(job);
            self.end_unserved(job, JobState::Cancelled, cancelled(job));
        }
    }
}
