//! Carrying out what the scheduler asks for, and taking in what shards give.

use super::{DispatcherMessage, DispatcherState, until};
use crate::jobs::entry::JobEntry;
use crate::jobs::history::Begun;
use crate::scheduler::{Effect, Millis};
use crate::store::sequencer::unix_ms;
use bytes::Bytes;
use quipu_shared::detail::AttemptOutcome;
use quipu_shared::ids::{JobId, WorkerId};
use quipu_shared::service::{BreakerState, ErrorKind, JobState, ServiceError, ShardCounts};
use quipu_shared::spec::JobKind;
use quipu_shared::wire::{CHUNK_BYTES, Lease, ShardInput, WorkerCommand};
use std::sync::Arc;
use std::time::Instant;

impl DispatcherState {
    pub(super) fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::RecordCompletion { job, shard, lease, first_row, rows } => {
                self.args.jobs.histories.completed(&lease, unix_ms());
                self.record(job, shard, lease, first_row, rows);
            }
            Effect::AcknowledgeShard { worker, lease } => {
                self.in_hand.remove(&lease);
                self.attempt_ended(&lease, AttemptOutcome::Superseded, None);
                self.let_go(lease);
                if !self.recording.acknowledge_later(lease, worker) {
                    self.peers.send(worker, WorkerCommand::AcknowledgeShard { lease });
                }
                self.show_load(worker);
            }
            Effect::LeaseShard { worker, lease, first_row, rows, speculative } => {
                self.lease(worker, lease, first_row, rows, speculative);
            }
            Effect::AdoptShard { worker, held, lease, first_row, rows } => {
                self.leased.insert(lease, (first_row, rows));
                self.attempt_begun(worker, lease, first_row, rows, false);
                self.peers.send(worker, WorkerCommand::AdoptShard { held, lease });
            }
            Effect::CancelAttempt { worker, lease } => {
                self.attempt_ended(&lease, self.cancelled_as, None);
                self.let_go(lease);
                self.peers.send(worker, WorkerCommand::CancelAttempt { lease });
            }
            Effect::CloseWorker { worker } => {
                tracing::warn!(worker_id = %worker, "worker does not answer, its connection is closed");
                self.disconnect(worker);
            }
            Effect::ShowBreaker { worker, state, open_ms } => self.show_breaker(worker, state, open_ms),
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

    /// Lets people know that a worker is in quarantine, is tried, or is out of it.
    fn show_breaker(&mut self, worker: WorkerId, state: BreakerState, open_ms: Millis) {
        let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) else { return };
        let node = &hello.node_id;
        match state {
            BreakerState::Open => {
                tracing::warn!(node_id = %node, open_ms, "worker quarantined: its attempts keep failing");
            }
            BreakerState::HalfOpen => tracing::info!(node_id = %node, "quarantined worker tried with one shard"),
            BreakerState::Closed => tracing::info!(node_id = %node, "worker out of quarantine"),
        }
        self.args.nodes.breaker(node, state, open_ms);
    }

    /// Shows how many attempts a worker holds.
    pub(super) fn show_load(&mut self, worker: WorkerId) {
        let leased = self.scheduler.worker_load(worker).map_or(0, |load| load.leased);
        if let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) {
            self.args.nodes.leased(&hello.node_id, leased);
        }
    }

    /// Forgets what was known of an attempt under way.
    pub(super) fn let_go(&mut self, lease: Lease) {
        self.leased.remove(&lease);
        self.offered.remove(&lease);
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
        let node = peer.hello.as_ref().map(|hello| &hello.node_id);
        let trace = self.spans.leased(lease, node, (first_row, rows), speculative);
        peer.link.send(WorkerCommand::LeaseShard { lease, first_row, rows, input, deadline_ms, trace });
        self.leased.insert(lease, (first_row, rows));
        self.attempt_begun(worker, lease, first_row, rows, speculative);
        self.offered.insert(lease, Instant::now());
        self.show_load(worker);
        // One that goes on after a restart, or is tried again, has had its first lease before.
        let is_first =
            entry.become_state(JobState::Running, None) && entry.retries == 0 && entry.view().shards.done == 0;
        if is_first {
            self.args.metrics.job_queue.observe_time(entry.accepted_at.elapsed());
        }
        self.show_progress(lease.job);
    }

    /// Notes for people that an attempt has begun.
    fn attempt_begun(&mut self, worker: WorkerId, lease: Lease, first_row: u64, rows: u64, speculative: bool) {
        let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) else { return };
        let node = &hello.node_id;
        let begun = Begun { lease, worker, node, first_row, rows, speculative, now_ms: unix_ms() };
        self.args.jobs.histories.begun(&begun);
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

    /// Brings what clients see of a job up to date.
    pub(super) fn show_progress(&self, job: JobId) {
        let Some(entry) = self.args.jobs.get(job) else { return };
        let running: u64 = self.progress.get(&job).map_or(0, |leases| leases.values().sum());
        // What the scheduler counts as done may still be on its way to the disk.
        let (done, shards) = {
            let recorded = entry.recorded();
            (recorded.progress.rows(), recorded.progress.shards)
        };
        let counts = self.scheduler.job_counts(job).map(|counts| ShardCounts { done: shards, ..counts });
        entry.update(|view| {
            if !view.state.is_final() {
                view.rows_done = view.rows_total.map_or(done + running, |total| (done + running).min(total));
                if let Some(counts) = counts {
                    view.shards = counts;
                }
            }
        });
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

pub(super) fn internal(code: &str, message: String) -> ServiceError {
    ServiceError { kind: ErrorKind::Internal, code: code.into(), message, place: None, retry_after_s: None }
}

impl JobEntry {
    /// The trace that the job belongs to; empty without one.
    pub fn trace_id(&self) -> &str {
        self.traceparent.as_deref().and_then(|text| text.split('-').nth(1)).unwrap_or_default()
    }
}
