//! The end of a job: its result is made, its end recorded, and only then told.

use super::effects::internal;
use super::{DispatcherMessage, DispatcherState};
use crate::jobs::entry::JobEntry;
use crate::scheduler::{Event, JobOutcome};
use crate::store::StoreError;
use crate::store::command::{Command, Conclusion, Outcome};
use crate::store::record::ResultHead;
use crate::store::sequencer::unix_ms;
use bytes::Bytes;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobState, ServiceError};
use quipu_shared::wire::WorkerCommand;
use std::time::Duration;

/// Pause before a job is tried again after trouble that is not its own; doubled with each try, and spread by half.
const RETRY_BACKOFF: Duration = Duration::from_secs(1);
/// Longest such pause, before it is spread.
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Troubles that are not the job's own, and may pass.
const PASSING_TROUBLES: [&str; 3] = ["poison_shard", "spool_write", "spool_read"];

/// An end on its way into the store.
pub(super) struct Ending {
    state: JobState,
    error: Option<ServiceError>,
    result: Option<ResultHead>,
    /// Where only the lowest failed row is told of.
    only_row: Option<u64>,
    /// Whether it was cancelled meanwhile, which counts where it is to be tried again.
    unwanted: bool,
}

impl DispatcherState {
    pub(super) fn end_job(&mut self, job: JobId, outcome: JobOutcome) {
        let Some(entry) = self.args.jobs.get(job) else { return };
        if self.ending.contains_key(&job) {
            return;
        }
        if self.recording.has(job) {
            // The result is made of everything that is recorded.
            self.pending_ends.insert(job, outcome);
            return;
        }
        self.show_progress(job);
        let mut only_row = None;
        let (state, error) = match outcome {
            JobOutcome::Succeeded => (JobState::Succeeded, None),
            JobOutcome::Cancelled => (JobState::Cancelled, Some(cancelled(job))),
            JobOutcome::DeadlinePassed => {
                (JobState::Failed, Some(deadline_passed(job, entry.admitted.spec.deadline_ms.unwrap_or_default())))
            }
            JobOutcome::FailedRow { row } => {
                // How many rows above it had failed by now depends on timing, so only the lowest is told.
                only_row = Some(row);
                (JobState::Failed, Some(row_failed(&entry, row)))
            }
            JobOutcome::Poisoned { shard, first_row, rows, attempts } => (
                JobState::Failed,
                Some(internal(
                    "poison_shard",
                    format!(
                        "shard {shard} (rows {first_row} to {}) of job {job} failed {attempts} times{}; find the row \
                         with a smaller input",
                        first_row + rows - 1,
                        self.deaths.get(&job).map(|reason| format!(": {reason}")).unwrap_or_default()
                    ),
                )),
            ),
        };
        match (state, error) {
            (JobState::Succeeded, _) => match finish_results(&entry) {
                Ok(result) => self.conclude(
                    job,
                    Ending { state, error: None, result: Some(result), only_row: None, unwanted: false },
                ),
                Err(error) => self.conclude(
                    job,
                    Ending {
                        state: JobState::Failed,
                        error: Some(error),
                        result: None,
                        only_row: None,
                        unwanted: false,
                    },
                ),
            },
            (_, Some(error)) if self.may_be_tried_again(&entry, &error) => self.postpone(&entry, error),
            (state, error) => self.conclude(job, Ending { state, error, result: None, only_row, unwanted: false }),
        }
    }

    fn may_be_tried_again(&self, entry: &JobEntry, error: &ServiceError) -> bool {
        entry.retries_left > 0
            && error.kind == ErrorKind::Internal
            && PASSING_TROUBLES.contains(&error.code.as_str())
            && self.args.store().is_durable()
    }

    /// Ends a job for a reason that the scheduler does not know.
    pub(super) fn fail_job(&mut self, job: JobId, error: ServiceError) {
        if let Some(entry) = self.args.jobs.get(job)
            && !self.ending.contains_key(&job)
        {
            if self.may_be_tried_again(&entry, &error) {
                self.postpone(&entry, error);
            } else {
                self.conclude(job, failed(error));
            }
        }
        self.step(Event::JobCancelled { job });
    }

    /// Ends a job that is not served.
    pub(super) fn end_unserved(&mut self, job: JobId, state: JobState, error: ServiceError) {
        if !self.ending.contains_key(&job) {
            self.conclude(job, Ending { state, error: Some(error), result: None, only_row: None, unwanted: false });
        }
    }

    /// Notes that a job is not wanted whose end is on its way into the store; false if there is none.
    pub(super) fn cancel_ending(&mut self, job: JobId) -> bool {
        self.ending.get_mut(&job).map(|ending| ending.unwanted = true).is_some()
    }

    /// Records a job's end.
    fn conclude(&mut self, job: JobId, ending: Ending) {
        self.forget_running(job);
        let conclusion = Conclusion {
            job,
            epoch: self.epoch,
            state: ending.state,
            error: ending.error.clone().map(Into::into),
            now_ms: unix_ms(),
            only_row: ending.only_row,
            result: ending.result.clone(),
        };
        self.ending.insert(job, ending);
        self.propose_end(job, Command::Conclude(Box::new(conclusion)));
    }

    /// Records that a job is tried again; what is done of it stays done.
    fn postpone(&mut self, entry: &JobEntry, error: ServiceError) {
        let job = entry.id;
        self.forget_running(job);
        let pause = RETRY_BACKOFF.saturating_mul(1 << entry.retries.min(16)).min(RETRY_BACKOFF_MAX);
        let pause = pause.mul_f64(rand::random_range(0.5..1.5));
        tracing::warn!(job_id = %job, code = error.code, error = error.message, pause_ms = pause.as_millis() as u64, "job is tried again");
        let not_before_ms = unix_ms().saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let command = Command::Postpone { job, epoch: self.epoch, not_before_ms, error: error.clone().into() };
        self.ending.insert(
            job,
            Ending { state: JobState::Scheduled, error: Some(error), result: None, only_row: None, unwanted: false },
        );
        self.propose_end(job, command);
    }

    fn propose_end(&mut self, job: JobId, command: Command) {
        let myself = self.myself.clone();
        let span = self.spans.concluding(job);
        self.args.store().propose(
            vec![command],
            Box::new(move |decided| {
                drop(span);
                let outcome = decided.map(|outcomes| outcomes.into_iter().next().unwrap_or(Outcome::Ignored));
                // A dispatcher that is gone is started again, and reads how the job stands.
                let _ = myself.cast(DispatcherMessage::Concluded(job, outcome));
            }),
        );
    }

    /// The end is durable: now it may be told.
    pub(super) fn concluded(&mut self, job: JobId, outcome: Result<Outcome, StoreError>) {
        let Some(Ending { state, error, result, only_row, unwanted }) = self.ending.remove(&job) else { return };
        if !matches!(outcome, Ok(Outcome::Done)) {
            self.spans.forget(job);
        }
        match outcome {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Stale) => {
                return tracing::error!(job_id = %job, "another master leads; a job's end is left to it");
            }
            Ok(_) => return self.args.jobs.let_go(job, true),
            Err(cause) => {
                // Nothing is told that is not durable.
                return tracing::error!(job_id = %job, error = %cause, "end of a job not recorded");
            }
        }
        self.told(job, state, error, result, only_row);
        if unwanted && !state.is_final() {
            self.end_unserved(job, JobState::Cancelled, cancelled(job));
        }
        self.serve_next();
    }

    /// Tells those who wait for a job how it stands.
    pub(super) fn told(
        &mut self,
        job: JobId,
        state: JobState,
        error: Option<ServiceError>,
        result: Option<ResultHead>,
        only_row: Option<u64>,
    ) {
        let Some(entry) = self.args.jobs.get(job) else { return };
        if let Some(row) = only_row {
            entry.update(|view| {
                view.rows_failed = 1;
                view.row_errors.retain(|error| error.row == row);
            });
        }
        entry.update(|view| (view.shards.queued, view.shards.leased) = (0, 0));
        let became = entry.become_state(state, error.clone());
        self.spans.ended(job, || {
            let mut view = entry.view();
            view.shards.done = entry.recorded().progress.shards;
            view
        });
        if became {
            let view = entry.view();
            if state.is_final() {
                self.args.metrics.job_duration.observe_time(Duration::from_millis(view.elapsed_ms));
            }
            match &error {
                Some(error) => {
                    tracing::warn!(job_id = %job, trace_id = entry.trace_id(), code = error.code, error = error.message, elapsed_ms = view.elapsed_ms, "job ended without its result");
                }
                None => {
                    tracing::info!(job_id = %job, trace_id = entry.trace_id(), rows = view.rows_done, retried = view.shards.retried, elapsed_ms = view.elapsed_ms, "job succeeded");
                }
            }
        }
        match (result, error) {
            (Some(ResultHead::Document(document)), _) => entry.results.finish_document(document),
            (Some(ResultHead::Rows { rows, .. }), _) => entry.results.finish_rows(rows),
            (None, Some(error)) if state.is_final() => {
                entry.results.finish_error(error);
                let opener = self.args.opener.clone();
                tokio::task::spawn_blocking(move || opener.remove_results(job));
            }
            (None, _) => {}
        }
        self.args.jobs.let_go(job, state.is_final());
    }

    /// Forgets what runs of a job, here and on the workers.
    fn forget_running(&mut self, job: JobId) {
        if let Some(entry) = self.args.jobs.get(job)
            && let Some(index) = &entry.index
        {
            index.stop();
        }
        self.pending_ends.remove(&job);
        self.progress.remove(&job);
        self.deaths.remove(&job);
        self.leased.retain(|lease, _| lease.job != job);
        self.offered.retain(|lease, _| lease.job != job);
        self.in_hand.retain(|lease, _| lease.job != job);
        for worker in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(worker)
                && peer.opened.remove(&job)
            {
                peer.link.send(WorkerCommand::CloseJob { job });
            }
        }
    }
}

fn failed(error: ServiceError) -> Ending {
    let state = if error.kind == ErrorKind::Cancelled { JobState::Cancelled } else { JobState::Failed };
    Ending { state, error: Some(error), result: None, only_row: None, unwanted: false }
}

/// The results of a job whose rows are all done.
fn finish_results(entry: &JobEntry) -> Result<ResultHead, ServiceError> {
    let (rows, failed, reducers) = {
        let mut recorded = entry.recorded();
        (recorded.progress.rows(), recorded.progress.failed, recorded.reducers.take())
    };
    let Some(reducers) = reducers else {
        return Ok(ResultHead::Rows { header: entry.results.header().clone(), rows });
    };
    let document = reducers.finish(rows, failed).map_err(|error| ServiceError {
        kind: ErrorKind::Evaluation,
        code: error.code().into(),
        message: error.to_string(),
        place: None,
        retry_after_s: None,
    })?;
    Ok(ResultHead::Document(Bytes::from(format!("{document}\n"))))
}

pub(super) fn cancelled(job: JobId) -> ServiceError {
    ServiceError {
        kind: ErrorKind::Cancelled,
        code: "cancelled".into(),
        message: format!("job {job} was cancelled"),
        place: None,
        retry_after_s: None,
    }
}

pub(super) fn deadline_passed(job: JobId, deadline_ms: u64) -> ServiceError {
    ServiceError {
        kind: ErrorKind::Deadline,
        code: "deadline_passed".into(),
        message: format!("job {job} did not end within its deadline of {deadline_ms} ms"),
        place: None,
        retry_after_s: None,
    }
}

fn row_failed(entry: &JobEntry, row: u64) -> ServiceError {
    let view = entry.view();
    let known = view.row_errors.iter().find(|error| error.row == row);
    ServiceError {
        kind: ErrorKind::Evaluation,
        code: known.map_or("row_failed", |error| &error.code).into(),
        message: known.map_or_else(
            || format!("row {row} failed"),
            |error| format!("row {row}: {}; use --on-error null or skip to go on past such rows", error.message),
        ),
        place: None,
        retry_after_s: None,
    }
}
