//! Outputs of shards on their way into the store: fetched, put away, decided about by the scheduler, recorded. A worker
//! hears that its output may go when the record is durable, and not before.

use super::effects::internal;
use super::fetches::{Fetched, SHARD_OUTPUT_BYTES_MAX};
use super::{DispatcherMessage, DispatcherState};
use crate::jobs::results::Stored;
use crate::scheduler::Event;
use crate::store::StoreError;
use crate::store::command::{Command, Completion, Outcome};
use crate::store::record::OutputRecord;
use bytes::Bytes;
use quipu_shared::ids::{JobId, ShardId, WorkerId};
use quipu_shared::reduce::ReducerSet;
use quipu_shared::service::ServiceError;
use quipu_shared::wire::{ERRORS_KEPT_MAX, Lease, Payload, ShardOutput, WorkerCommand};
use std::collections::{BTreeMap, VecDeque};

/// A completion as the worker reported it.
type Completed = (WorkerId, Lease, u64, ShardOutput);

/// An output that is in hand.
pub(super) struct InHand {
    output: ShardOutput,
    /// Where its rows are; for reductions the payload is the partial.
    stored: Option<Stored>,
    record: OutputRecord,
}

/// Completions on their way into the store.
#[derive(Default)]
pub(super) struct Recording {
    /// How many of a job are under way.
    jobs: BTreeMap<JobId, u32>,
    /// Number of the last completion that was proposed; they are decided in this order.
    proposed: u64,
    /// Who is to hear that an output may go, once the completion of this number is durable.
    acknowledgements: VecDeque<(u64, WorkerId, Lease)>,
    /// Completions that came while the store had enough to do. Each holds a credit of its worker, so they are few.
    held_back: VecDeque<Completed>,
}

impl Recording {
    /// Leaves an acknowledgement to the moment in which everything before it is durable: a duplicate is superfluous only
    /// when the first completion is. False if nothing of the job is under way.
    pub fn acknowledge_later(&mut self, lease: Lease, worker: WorkerId) -> bool {
        let later = self.has(lease.job);
        if later {
            self.acknowledgements.push_back((self.proposed, worker, lease));
        }
        later
    }

    /// Whether completions of a job are under way.
    pub fn has(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }
}

/// A completion whose record is on its way.
pub struct RecordedShard {
    number: u64,
    lease: Lease,
    shard: ShardId,
    first_row: u64,
    rows: u64,
    output: ShardOutput,
    stored: Option<Stored>,
}

impl DispatcherState {
    /// A worker has a shard's output: fetch it where it is large and wanted, then let the scheduler decide.
    pub(super) fn completed(&mut self, worker: WorkerId, lease: Lease, busy_us: u64, mut output: ShardOutput) {
        if !self.scheduler.wants(&lease) {
            return self.step(Event::ShardCompleted { worker, lease, busy_us, failed_row: None });
        }
        if !self.recording.jobs.is_empty() && self.args.store().check_room().is_err() {
            if !self.recording.held_back.iter().any(|(_, held, ..)| *held == lease) {
                self.recording.held_back.push_back((worker, lease, busy_us, output));
            }
            return;
        }
        let empty = Payload::Inline(Bytes::new());
        match std::mem::replace(&mut output.payload, empty) {
            Payload::Inline(bytes) => self.put_away(worker, lease, busy_us, output, bytes),
            Payload::Ready { len, .. } if len > SHARD_OUTPUT_BYTES_MAX => {
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
            Fetched::Whole { busy_us, output, bytes } => self.put_away(worker, lease, busy_us, output, bytes),
            Fetched::Broken(reason) => {
                tracing::warn!(job_id = %lease.job, shard_id = %lease.shard, worker_id = %worker, error = reason, "output not fetched");
                self.step(Event::ShardFailed { worker, lease });
            }
            Fetched::Unknown => {}
        }
    }

    fn put_away(&mut self, worker: WorkerId, lease: Lease, busy_us: u64, output: ShardOutput, bytes: Bytes) {
        let Some(entry) = self.args.jobs.get(lease.job) else { return };
        if entry.admitted.reducers.is_some() {
            // What failed before the lowest failing row was known has no part in any result.
            let counts = output.errors.is_empty() || !entry.admitted.plan.fail_fast;
            let record = if counts { OutputRecord::Partial(bytes) } else { OutputRecord::None };
            self.have(worker, lease, busy_us, InHand { output, stored: None, record });
        } else if entry.results.is_on_disk() {
            let myself = self.myself.clone();
            tokio::task::spawn_blocking(move || {
                let stored = entry.results.put(bytes);
                // A dispatcher that is gone is started again, and the worker offers the shard again.
                let _ = myself.cast(DispatcherMessage::OutputStored { worker, lease, busy_us, output, stored });
            });
        } else {
            self.stored(worker, lease, busy_us, output, entry.results.put(bytes));
        }
    }

    /// A shard's rows are put away.
    pub(super) fn stored(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        busy_us: u64,
        output: ShardOutput,
        stored: Result<(Stored, OutputRecord), ServiceError>,
    ) {
        match stored {
            Ok((stored, record)) => {
                self.have(worker, lease, busy_us, InHand { output, stored: Some(stored), record });
            }
            Err(error) => self.fail_job(lease.job, error),
        }
    }

    /// The output is in hand: the scheduler decides whether it counts.
    fn have(&mut self, worker: WorkerId, lease: Lease, busy_us: u64, in_hand: InHand) {
        let failed_row = in_hand.output.errors.first().map(|error| error.row);
        self.args.metrics.executed(&in_hand.output, busy_us);
        if let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) {
            self.args.nodes.completed(&hello.node_id, in_hand.output.rows, busy_us);
        }
        self.in_hand.insert(lease, in_hand);
        self.step(Event::ShardCompleted { worker, lease, busy_us, failed_row });
        self.in_hand.remove(&lease);
    }

    /// Proposes the record of a completion that counts.
    pub(super) fn record(&mut self, job: JobId, shard: ShardId, lease: Lease, first_row: u64, rows: u64) {
        let Some(InHand { output, stored, record }) = self.in_hand.remove(&lease) else {
            // The scheduler records what was just handed to it, so this is a broken invariant.
            panic!("completion of job {job} shard {shard} was recorded without its output");
        };
        let completion = Completion {
            job,
            epoch: self.epoch,
            shard,
            first_row,
            rows,
            failed: output.failed,
            errors: output.errors.clone(),
            output: record.clone(),
        };
        let mut output = output;
        let mut stored = stored;
        if let Some(in_memory @ Stored::Memory(_)) = stored.take_if(|stored| matches!(stored, Stored::Memory(_)))
            && let Some(entry) = self.args.jobs.get(job)
        {
            // There it has to be before a dispatcher that dies could lose it on the way back from the store.
            entry.results.commit(first_row, rows, in_memory);
        }
        if let OutputRecord::Partial(bytes) = record {
            output.payload = Payload::Inline(bytes);
        }
        self.recording.proposed += 1;
        let number = self.recording.proposed;
        *self.recording.jobs.entry(job).or_default() += 1;
        let shard = Box::new(RecordedShard { number, lease, shard, first_row, rows, output, stored });
        let myself = self.myself.clone();
        let spans = self.spans.recording(lease);
        self.args.store().propose(
            vec![Command::Complete(Box::new(completion))],
            Box::new(move |decided| {
                drop(spans);
                let outcome = decided.map(|outcomes| outcomes.into_iter().next().unwrap_or(Outcome::Ignored));
                // A dispatcher that is gone is started again, and reads what is recorded.
                let _ = myself.cast(DispatcherMessage::Recorded(shard, outcome));
            }),
        );
    }

    /// A completion is durable: it counts, and its worker may drop it.
    pub(super) fn recorded(&mut self, done: RecordedShard, outcome: Result<Outcome, StoreError>) {
        let job = done.lease.job;
        if let Some(under_way) = self.recording.jobs.get_mut(&job) {
            *under_way -= 1;
            if *under_way == 0 {
                self.recording.jobs.remove(&job);
            }
        }
        match outcome {
            Ok(Outcome::Stale) => {
                tracing::error!(job_id = %job, shard_id = %done.shard, "another master leads; a completion is left to it");
                return;
            }
            Err(error) => {
                tracing::error!(job_id = %job, shard_id = %done.shard, error = %error, "completion not recorded");
                return;
            }
            Ok(Outcome::Done) => self.take_in(&done),
            // The job has ended meanwhile.
            Ok(_) => {}
        }
        while let Some((_, worker, lease)) =
            self.recording.acknowledgements.pop_front_if(|(after, ..)| *after <= done.number)
        {
            self.peers.send(worker, WorkerCommand::AcknowledgeShard { lease });
        }
        if !self.recording.has(job)
            && let Some(outcome) = self.pending_ends.remove(&job)
        {
            self.end_job(job, outcome);
        }
        while self.args.store().check_room().is_ok()
            && let Some((worker, lease, busy_us, output)) = self.recording.held_back.pop_front()
        {
            self.completed(worker, lease, busy_us, output);
        }
    }

    /// What the master keeps at hand of a recorded shard.
    fn take_in(&mut self, done: &RecordedShard) {
        let job = done.lease.job;
        let Some(entry) = self.args.jobs.get(job) else { return };
        let output = &done.output;
        self.args.metrics.shards_completed.inc();
        self.args.metrics.rows.inc_by(done.rows);
        self.args.metrics.rows_failed.inc_by(output.failed);
        let merged = {
            let mut recorded = entry.recorded();
            let progress = &mut recorded.progress;
            progress.add(done.first_row, done.first_row + done.rows);
            progress.shards += 1;
            progress.next_shard = progress.next_shard.max(done.shard.0 + 1);
            progress.failed += output.failed;
            progress.errors.extend(output.errors.iter().cloned());
            progress.errors.sort_by_key(|error| error.row);
            progress.errors.truncate(ERRORS_KEPT_MAX);
            match (&mut recorded.reducers, &output.payload) {
                (Some(reducers), Payload::Inline(bytes))
                    if output.errors.is_empty() || !entry.admitted.plan.fail_fast =>
                {
                    ReducerSet::from_bytes(bytes).and_then(|partial| reducers.merge(partial))
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = merged {
            return self.fail_job(job, internal("bad_partial", format!("shard {}: {error}", done.shard)));
        }
        if let Some(stored) = &done.stored {
            entry.results.commit(done.first_row, done.rows, stored.clone());
        }
        let (failed, errors) = {
            let recorded = entry.recorded();
            (recorded.progress.failed, recorded.progress.errors.clone())
        };
        entry.update(|view| (view.rows_failed, view.row_errors) = (failed, errors));
        self.show_progress(job);
    }
}
