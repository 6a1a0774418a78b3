//! Carrying out what the scheduler asks for, and taking in what shards give.

use super::{DispatcherMessage, DispatcherState, fetches::Fetched, until};
use crate::jobs::entry::{CompletedShard, JobEntry};
use crate::jobs::results::Stored;
use crate::scheduler::{Effect, Event, JobOutcome};
use bytes::Bytes;
use quipu_shared::ids::{JobId, ShardId, WorkerId};
use quipu_shared::reduce::ReducerSet;
use quipu_shared::service::{ErrorKind, JobState, ServiceError};
use quipu_shared::spec::JobKind;
use quipu_shared::wire::{CHUNK_BYTES, ERRORS_KEPT_MAX, Lease, Payload, ShardInput, ShardOutput, WorkerCommand};
use std::sync::Arc;

impl DispatcherState {
    pub(super) fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::RecordCompletion { job, shard, lease, first_row, rows } => {
                self.record(job, shard, lease, first_row, rows);
            }
            Effect::AcknowledgeShard { worker, lease } => {
                self.in_hand.remove(&lease);
                self.let_go(lease);
                self.peers.send(worker, WorkerCommand::AcknowledgeShard { lease });
                self.show_load(worker);
            }
            Effect::LeaseShard { worker, lease, first_row, rows, speculative } => {
                self.lease(worker, lease, first_row, rows, speculative);
            }
            Effect::AdoptShard { worker, held, lease, first_row, rows } => {
                self.leased.insert(lease, (first_row, rows));
                self.peers.send(worker, WorkerCommand::AdoptShard { held, lease });
            }
            Effect::CancelAttempt { worker, lease } => {
                self.let_go(lease);
                self.peers.send(worker, WorkerCommand::CancelAttempt { lease });
            }
            Effect::CloseWorker { worker } => {
                tracing::warn!(worker_id = %worker, "worker does not answer, its connection is closed");
                self.disconnect(worker);
            }
            Effect::EndJob { job, outcome } => self.end_job(job, outcome),
            Effect::ArmTimer(at) => {
                if let Some(timer) = self.timer.take() {
                    timer.abort();
                }
                let timer = self.myself.send_after(until(self.now(), at), || DispatcherMessage::TimerFired);
                self.timer = Some(timer.abort_handle());
            }
        }
    }

    /// Shows how many attempts a worker holds.
    fn show_load(&mut self, worker: WorkerId) {
        let leased = self.scheduler.worker_load(worker).map_or(0, |load| load.leased);
        if let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) {
            self.args.nodes.leased(&hello.node_id, leased);
        }
    }

    /// Forgets what was known of an attempt under way.
    fn let_go(&mut self, lease: Lease) {
        self.leased.remove(&lease);
        if let Some(progress) = self.progress.get_mut(&lease.job) {
            progress.remove(&lease);
        }
    }

    fn lease(&mut self, worker: WorkerId, lease: Lease, first_row: u64, rows: u64, speculative: bool) {
        let Some(entry) = self.args.jobs.get(lease.job) else { return };
        let Some(input) = self.input_of(&entry, first_row, rows) else {
            return self.fail_job(lease.job, internal("no_input", format!("rows {first_row}.. have no known place")));
        };
        if speculative {
            tracing::info!(job_id = %lease.job, shard_id = %lease.shard, attempt = %lease.attempt, worker_id = %worker, "speculative attempt");
        } else {
            tracing::debug!(job_id = %lease.job, shard_id = %lease.shard, attempt = %lease.attempt, worker_id = %worker, first_row, rows, "shard leased");
        }
        let Some(peer) = self.peers.get_mut(worker) else { return };
        if peer.opened.insert(lease.job) {
            let (spec, traceparent) = (Arc::clone(&entry.admitted.lean_spec), entry.traceparent.clone());
            let limits = self.args.formula_limits.clone();
            peer.link.send(WorkerCommand::OpenJob { job: lease.job, spec, limits, traceparent });
        }
        let deadline_ms =
            entry.admitted.spec.deadline_ms.map(|ms| {
                ms.saturating_sub(u64::try_from(entry.accepted_at.elapsed().as_millis()).unwrap_or(u64::MAX))
            });
        peer.link.send(WorkerCommand::LeaseShard { lease, first_row, rows, input, deadline_ms });
        self.leased.insert(lease, (first_row, rows));
        self.show_load(worker);
        entry.become_state(JobState::Running, None);
        self.show_progress(lease.job);
    }

    fn input_of(&self, entry: &JobEntry, first_row: u64, rows: u64) -> Option<ShardInput> {
        match &entry.admitted.spec.kind {
            JobKind::Eval { formulas } => {
                let first = usize::try_from(first_row).ok()?;
                let formulas = formulas.get(first..first + usize::try_from(rows).ok()?)?;
                Some(ShardInput::Formulas(formulas.to_vec()))
            }
            JobKind::Sweep { .. } | JobKind::Sample { .. } => Some(ShardInput::Generated),
            JobKind::Map { .. } => {
                let index = entry.index.as_ref()?;
                if self.args.shared_files || entry.admitted.shared_input {
                    let (offset, len) = index.range(first_row, rows)?;
                    Some(ShardInput::File { path: index.path().to_str()?.to_owned(), offset, len })
                } else {
                    Some(ShardInput::Pulled { len: index.pulled_bytes(first_row, rows)? })
                }
            }
        }
    }

    /// A worker has a shard's output: fetch it where it is large and wanted, then let the scheduler decide.
    pub(super) fn completed(&mut self, worker: WorkerId, lease: Lease, busy_us: u64, mut output: ShardOutput) {
        if !self.scheduler.wants(&lease) {
            return self.step(Event::ShardCompleted { worker, lease, busy_us, failed_row: None });
        }
        let empty = Payload::Inline(Bytes::new());
        match std::mem::replace(&mut output.payload, empty) {
            Payload::Inline(bytes) => self.store(worker, lease, busy_us, output, bytes),
            Payload::Ready { len, .. } if len > super::fetches::SHARD_OUTPUT_BYTES_MAX => {
                self.fail_job(lease.job, internal("output_too_large", format!("a shard made {len} bytes of output")));
            }
            Payload::Ready { len, digest } => {
                for offset in self.fetches.begin(worker, lease, busy_us, output, len, digest) {
                    self.peers.send(worker, WorkerCommand::FetchOutput { lease, offset });
                }
            }
        }
    }

    pub(super) fn fetched(&mut self, worker: WorkerId, lease: Lease, offset: u64, bytes: Bytes) {
        match self.fetches.take(worker, lease, offset, &bytes) {
            Fetched::More(offsets) => {
                for offset in offsets {
                    self.peers.send(worker, WorkerCommand::FetchOutput { lease, offset });
                }
                let rows_done = self.leased.get(&lease).map_or(0, |(_, rows)| *rows);
                self.step(Event::ShardProgressed { worker, lease, rows_done });
            }
            Fetched::Whole { busy_us, output, bytes } => self.store(worker, lease, busy_us, output, bytes),
            Fetched::Broken(reason) => {
                tracing::warn!(job_id = %lease.job, shard_id = %lease.shard, worker_id = %worker, error = reason, "output not fetched");
                self.step(Event::ShardFailed { worker, lease });
            }
            Fetched::Unknown => {}
        }
    }

    fn store(&mut self, worker: WorkerId, lease: Lease, busy_us: u64, mut output: ShardOutput, bytes: Bytes) {
        let Some(entry) = self.args.jobs.get(lease.job) else { return };
        if entry.admitted.reducers.is_some() {
            output.payload = Payload::Inline(bytes);
            self.have(worker, lease, busy_us, output, None);
        } else if entry.results.is_spooled() {
            let myself = self.myself.clone();
            tokio::task::spawn_blocking(move || {
                let stored = entry.results.put(bytes);
                // A dispatcher that is gone is started again, and leases the shard again.
                let _ = myself.cast(DispatcherMessage::OutputStored { worker, lease, busy_us, output, stored });
            });
        } else {
            match entry.results.put(bytes) {
                Ok(stored) => self.have(worker, lease, busy_us, output, Some(stored)),
                Err(error) => self.fail_job(lease.job, error),
            }
        }
    }

    /// The output is in hand: the scheduler decides whether it counts.
    pub(super) fn have(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        busy_us: u64,
        output: ShardOutput,
        stored: Option<Stored>,
    ) {
        let failed_row = output.errors.first().map(|error| error.row);
        if let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) {
            self.args.nodes.completed(&hello.node_id, output.rows, busy_us);
        }
        self.in_hand.insert(lease, (output, stored));
        self.step(Event::ShardCompleted { worker, lease, busy_us, failed_row });
        self.in_hand.remove(&lease);
    }

    fn record(&mut self, job: JobId, shard: ShardId, lease: Lease, first_row: u64, rows: u64) {
        let (Some(entry), Some((output, stored))) = (self.args.jobs.get(job), self.in_hand.remove(&lease)) else {
            // The scheduler records what was just handed to it, so this is a broken invariant.
            panic!("completion of job {job} shard {shard} was recorded without its output");
        };
        {
            let mut recorded = entry.recorded();
            if let (Some(reducers), Payload::Inline(bytes)) = (&mut recorded.reducers, &output.payload)
                && (output.errors.is_empty() || !entry.admitted.plan.fail_fast)
                && let Err(error) = ReducerSet::from_bytes(bytes).and_then(|partial| reducers.merge(partial))
            {
                drop(recorded);
                return self.fail_job(job, internal("bad_partial", format!("shard {shard}: {error}")));
            }
            recorded.shards.push(CompletedShard { shard, first_row, rows });
            recorded.rows += rows;
        }
        if let Some(stored) = stored {
            entry.results.commit(first_row, rows, stored);
        }
        entry.update(|view| {
            view.rows_failed += output.failed;
            view.row_errors.extend(output.errors);
            view.row_errors.sort_by_key(|error| error.row);
            view.row_errors.truncate(ERRORS_KEPT_MAX);
        });
        self.let_go(lease);
        self.show_progress(job);
    }

    /// Brings what clients see of a job up to date.
    pub(super) fn show_progress(&self, job: JobId) {
        let Some(entry) = self.args.jobs.get(job) else { return };
        let running: u64 = self.progress.get(&job).map_or(0, |leases| leases.values().sum());
        let done = entry.recorded().rows;
        let counts = self.scheduler.job_counts(job);
        entry.update(|view| {
            if !view.state.is_final() {
                view.rows_done = view.rows_total.map_or(done + running, |total| (done + running).min(total));
                if let Some(counts) = counts {
                    view.shards = counts;
                }
            }
        });
    }

    fn end_job(&mut self, job: JobId, outcome: JobOutcome) {
        let Some(entry) = self.args.jobs.get(job) else { return };
        self.show_progress(job);
        let (state, error) = match outcome {
            JobOutcome::Succeeded => (JobState::Succeeded, self.finish_results(&entry).err()),
            JobOutcome::Cancelled => (JobState::Cancelled, Some(cancelled(job))),
            JobOutcome::DeadlinePassed => (JobState::Failed, Some(deadline_passed(&entry))),
            JobOutcome::FailedRow { row } => {
                let error = row_failed(&entry, row);
                // How many rows above it had failed by now depends on timing, so only the lowest is told.
                entry.update(|view| {
                    view.rows_failed = 1;
                    view.row_errors.retain(|error| error.row == row);
                });
                (JobState::Failed, Some(error))
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
        let state = if error.is_some() && state == JobState::Succeeded { JobState::Failed } else { state };
        self.conclude(&entry, state, error);
    }

    /// Completes the results of a job whose rows are all done.
    fn finish_results(&self, entry: &JobEntry) -> Result<(), ServiceError> {
        let failed = entry.view().rows_failed;
        let (rows, reducers) = {
            let mut recorded = entry.recorded();
            (recorded.rows, recorded.reducers.take())
        };
        match reducers {
            Some(reducers) => {
                let document = reducers.finish(rows, failed).map_err(|error| ServiceError {
                    kind: ErrorKind::Evaluation,
                    code: error.code().into(),
                    message: error.to_string(),
                    place: None,
                    retry_after_s: None,
                })?;
                entry.results.finish_document(Bytes::from(format!("{document}\n")));
            }
            None => entry.results.finish_rows(rows),
        }
        Ok(())
    }

    /// Ends a job for a reason that the scheduler does not know.
    pub(super) fn fail_job(&mut self, job: JobId, error: ServiceError) {
        if let Some(entry) = self.args.jobs.get(job)
            && !entry.view().state.is_final()
        {
            self.conclude(&entry, JobState::Failed, Some(error));
        }
        self.step(Event::JobCancelled { job });
    }

    fn conclude(&mut self, entry: &Arc<JobEntry>, state: JobState, error: Option<ServiceError>) {
        let job = entry.id;
        if let Some(index) = &entry.index {
            index.stop();
        }
        if entry.become_state(state, error.clone()) {
            let view = entry.view();
            match &error {
                Some(error) => {
                    tracing::warn!(job_id = %job, trace_id = entry.trace_id(), code = error.code, error = error.message, elapsed_ms = view.elapsed_ms, "job ended without its result");
                }
                None => {
                    tracing::info!(job_id = %job, trace_id = entry.trace_id(), rows = view.rows_done, retried = view.shards.retried, elapsed_ms = view.elapsed_ms, "job succeeded");
                }
            }
            self.args.jobs.note_ended(job, self.args.jobs_kept_max);
        }
        if let Some(error) = error {
            entry.results.finish_error(error);
        }
        entry.update(|view| (view.shards.queued, view.shards.leased) = (0, 0));
        self.progress.remove(&job);
        self.deaths.remove(&job);
        self.leased.retain(|lease, _| lease.job != job);
        self.in_hand.retain(|lease, _| lease.job != job);
        for worker in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(worker)
                && peer.opened.remove(&job)
            {
                peer.link.send(WorkerCommand::CloseJob { job });
            }
        }
    }

    /// Reads a chunk of a table for a worker, off the runtime.
    pub(super) fn read_input(&self, worker: WorkerId, lease: Lease, offset: u64) {
        let place = self.leased.get(&lease).and_then(|(first_row, rows)| {
            let index = self.args.jobs.get(lease.job)?.index.clone()?;
            Some((index, *first_row, *rows))
        });
        let Some((index, first_row, rows)) = place else {
            let bytes = Bytes::new();
            return self.peers.send(worker, WorkerCommand::DeliverInput { lease, offset, bytes });
        };
        let myself = self.myself.clone();
        tokio::task::spawn_blocking(move || {
            let read = index.read_pulled(first_row, rows, offset, CHUNK_BYTES);
            let bytes = read.unwrap_or_else(|error| {
                tracing::error!(job_id = %lease.job, error = %error, path = %index.path().display(), "read a table for a worker");
                Vec::new()
            });
            // A dispatcher that is gone has closed its workers' connections.
            let _ = myself.cast(DispatcherMessage::InputRead { worker, lease, offset, bytes: bytes.into() });
        });
    }
}

fn internal(code: &str, message: String) -> ServiceError {
    ServiceError { kind: ErrorKind::Internal, code: code.into(), message, place: None, retry_after_s: None }
}

fn cancelled(job: JobId) -> ServiceError {
    ServiceError {
        kind: ErrorKind::Cancelled,
        code: "cancelled".into(),
        message: format!("job {job} was cancelled"),
        place: None,
        retry_after_s: None,
    }
}

fn deadline_passed(entry: &JobEntry) -> ServiceError {
    ServiceError {
        kind: ErrorKind::Deadline,
        code: "deadline_passed".into(),
        message: format!(
            "job {} did not end within its deadline of {} ms",
            entry.id,
            entry.admitted.spec.deadline_ms.unwrap_or_default()
        ),
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

impl JobEntry {
    /// The trace that the job belongs to; empty without one.
    pub fn trace_id(&self) -> &str {
        self.traceparent.as_deref().and_then(|text| text.split('-').nth(1)).unwrap_or_default()
    }
}
