//! Which jobs are served: the store has any number of them queued, and the scheduler is given a bounded number.

use super::ending::cancelled;
use super::{DispatcherMessage, DispatcherState};
use crate::jobs::admission::Admitted;
use crate::jobs::entry::JobEntry;
use crate::scheduler::Event;
use crate::store::StoreError;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobState, ServiceError};
use std::sync::Arc;

/// Jobs that are opened side by side: opening reads the disk.
const OPENING_MAX: usize = 16;

impl DispatcherState {
    /// Begins where the last dispatcher of this process, or the last master, has left.
    pub(super) fn take_over(&mut self) -> Result<(), StoreError> {
        for entry in self.args.jobs.active() {
            self.refresh(&entry)?;
            self.schedule(&entry);
        }
        self.do_chores();
        self.serve_next();
        Ok(())
    }

    /// Takes over from the store what a dispatcher before may have recorded and not noted.
    fn refresh(&self, entry: &Arc<JobEntry>) -> Result<(), StoreError> {
        use crate::store::reads::Reads;
        let durable = self.args.store().progress(entry.id)?;
        if durable == entry.recorded().progress {
            return Ok(());
        }
        match self.args.opener.recorded(entry.id, &entry.admitted) {
            Ok(recorded) => *entry.recorded() = recorded,
            Err(error) => return Err(StoreError::Stopped(error.message)),
        }
        Ok(())
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
        if self.args.store().is_durable() {
            // Whoever has to wait is read again when its turn comes.
            self.fresh.clear();
        }
        self.watch_clock();
    }

    /// Opens jobs as long as there is room.
    pub(super) fn serve_next(&mut self) {
        while self.opening.len() < OPENING_MAX {
            let active_max = self.args.jobs_active_max;
            let Some(job) = self.args.jobs.index(|index| index.activate_next(active_max)) else { return };
            let admitted = self.fresh.remove(&job).map(|admitted| *admitted);
            self.opening.insert(job, false);
            let (opener, myself) = (self.args.opener.clone(), self.myself.clone());
            let reader = myself.clone();
            let open = move || {
                let taken = move |row| {
                    // A dispatcher that is gone is started again with a fresh window.
                    let _ = reader.cast(DispatcherMessage::ResultsTaken(job, row));
                };
                let opened = opener.open(job, admitted, taken).map(Arc::new);
                // A dispatcher that is gone is started again, and finds the job queued.
                let _ = myself.cast(DispatcherMessage::Opened(job, opened));
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
                self.schedule(&entry);
            }
            Err(error) => self.end_unserved(job, JobState::Failed, error),
        }
        self.serve_next();
    }

    /// Cancels a job, wherever it is.
    pub(super) fn cancel(&mut self, job: JobId) {
        if let Some(unwanted) = self.opening.get_mut(&job) {
            *unwanted = true;
        } else if self.args.jobs.get(job).is_some() {
            self.step(Event::JobCancelled { job });
        } else if self.args.jobs.index(|index| index.state(job)).is_some_and(|state| !state.is_final()) {
            self.fresh.remove(&job);
            self.end_unserved(job, JobState::Cancelled, cancelled(job));
        }
    }
}
