//! The worker's state machine: leases in, outputs out, no I/O.
//!
//! A lease waits in the queue (for its input, then for a slot), runs on a slot, and is finished: its output is kept
//! until the master acknowledges it, over reconnects. Nothing is accepted beyond the credits that `Hello` announced.

use crate::task::{AttemptControl, OpenJob, Task, TaskInput};
use bytes::{Bytes, BytesMut};
use quipu_shared::block::RowError;
use quipu_shared::config::TierChoice;
use quipu_shared::ids::{Epoch, Generation, JobId, NodeId};
use quipu_shared::wire::{
    CHUNK_BYTES, CHUNKS_IN_FLIGHT, Hello, INLINE_BYTES_MAX, Lease, Payload, ShardInput, ShardOutput, WorkerCommand,
    WorkerEvent,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Largest input of one shard that a worker takes into memory.
pub const SHARD_INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Progress reports after which an output that nobody has acknowledged is offered again.
const PERIODS_UNANSWERED_MAX: u32 = 5;

/// Number of an executor, from 0.
pub type Slot = usize;

/// What an executor made of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RawOutput {
    /// Rows that were evaluated.
    pub rows: u64,
    /// Rows that failed.
    pub failed: u64,
    /// The first of them.
    pub errors: Vec<RowError>,
    /// Rendered rows, or the bytes of a reducer set.
    pub bytes: Bytes,
}

/// Static facts of a worker.
#[derive(Clone, Debug)]
pub struct WorkerIdentity {
    /// Its node.
    pub node_id: NodeId,
    /// Its incarnation.
    pub generation: Generation,
    /// Names this process's start.
    pub boot_id: uuid::Uuid,
    /// Executors.
    pub slots: u32,
    /// Shards that it holds at once.
    pub credits: u32,
    /// Zone.
    pub zone: String,
    /// Who evaluates formulas here.
    pub tier: TierChoice,
}

/// What happens to a worker.
#[derive(Debug)]
pub enum Event {
    /// There is a link to the master.
    Connected,
    /// There is none any more.
    Disconnected,
    /// The master says something.
    Commanded(WorkerCommand),
    /// A slot's executor is (again) ready.
    ExecutorReady(Slot),
    /// An attempt came to its end.
    AttemptFinished {
        /// Where.
        slot: Slot,
        /// Which.
        lease: Lease,
        /// Execution time.
        busy_us: u64,
        /// What came out, or why nothing did.
        result: Result<RawOutput, String>,
    },
    /// Time to report progress.
    ProgressDue,
    /// The worker is to leave.
    DrainRequested,
}

/// What a worker does.
#[derive(Debug)]
pub enum Effect {
    /// Tell the master.
    Send(WorkerEvent),
    /// Run an attempt.
    Execute {
        /// Where.
        slot: Slot,
        /// What.
        task: Task,
    },
    /// Nothing is left to do: leave.
    Leave,
}

#[derive(Debug)]
struct Queued {
    task: Task,
    /// Bytes still to be pulled.
    transfer: Option<Transfer>,
}

#[derive(Debug)]
struct Transfer {
    len: u64,
    asked: u64,
    bytes: BytesMut,
    /// Chunks that came before their turn: the master reads those in flight side by side.
    early: BTreeMap<u64, Bytes>,
}

#[derive(Debug)]
enum SlotState {
    /// Its executor is (re)starting.
    Down,
    Idle,
    Running {
        lease: Lease,
        control: Arc<AttemptControl>,
    },
}

#[derive(Debug)]
struct Finished {
    busy_us: u64,
    output: ShardOutput,
    /// The payload, where it does not travel inline.
    bytes: Bytes,
    /// Progress reports since it was offered.
    periods_unanswered: u32,
}

/// The state machine of a worker.
#[derive(Debug)]
pub struct WorkerCore {
    identity: WorkerIdentity,
    /// Largest payload that travels inside a completion.
    inline_bytes_max: usize,
    epoch: Option<Epoch>,
    connected: bool,
    draining: bool,
    left: bool,
    jobs: BTreeMap<JobId, Arc<OpenJob>>,
    queue: VecDeque<Queued>,
    slots: Vec<SlotState>,
    finished: BTreeMap<Lease, Finished>,
}

impl WorkerCore {
    /// A worker that is not connected and whose executors are starting.
    ///
    /// `embedded`: outputs never leave the process, so they all travel inline.
    pub fn new(identity: WorkerIdentity, embedded: bool) -> Self {
        let slots = (0..identity.slots).map(|_| SlotState::Down).collect();
        let inline_bytes_max = if embedded { usize::MAX } else { INLINE_BYTES_MAX };
        Self {
            identity,
            inline_bytes_max,
            epoch: None,
            connected: false,
            draining: false,
            left: false,
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            slots,
            finished: BTreeMap::new(),
        }
    }

    /// Sole entry point: state, time and event determine the effects.
    pub fn step(&mut self, now: Instant, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Connected => {
                self.connected = true;
                effects.push(Effect::Send(WorkerEvent::Joined(self.hello())));
            }
            Event::Disconnected => {
                self.connected = false;
                // The master has leased these to others by now; what runs may still win.
                self.queue.clear();
            }
            Event::Commanded(command) => self.obey(now, command, effects),
            Event::ExecutorReady(slot) => {
                let before = std::mem::replace(&mut self.slots[slot], SlotState::Idle);
                if let SlotState::Running { lease, .. } = before {
                    let reason = format!("the executor of slot {slot} died");
                    self.send(WorkerEvent::ShardFailed { lease, reason }, effects);
                }
            }
            Event::AttemptFinished { slot, lease, busy_us, result } => {
                self.finish_attempt(slot, lease, busy_us, result, effects);
            }
            Event::ProgressDue => self.report_progress(effects),
            Event::DrainRequested => self.drain(effects),
        }
        self.fill_slots(effects);
        let busy = self.slots.iter().any(|slot| matches!(slot, SlotState::Running { .. }));
        let owes = self.connected && !self.finished.is_empty();
        if self.draining && !self.left && !busy && !owes && self.queue.is_empty() {
            self.left = true;
            self.send(WorkerEvent::Left, effects);
            effects.push(Effect::Leave);
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            node_id: self.identity.node_id.clone(),
            generation: self.identity.generation,
            boot_id: self.identity.boot_id,
            slots: self.identity.slots,
            credits: self.identity.credits,
            zone: self.identity.zone.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: quipu_shared::PROTOCOL_VERSION,
            numerics: quipu_shared::NUMERICS_VERSION,
            store: None,
            held: Vec::new(),
        }
    }

    fn send(&self, event: WorkerEvent, effects: &mut Vec<Effect>) {
        if self.connected {
            effects.push(Effect::Send(event));
        }
    }

    fn obey(&mut self, now: Instant, command: WorkerCommand, effects: &mut Vec<Effect>) {
        match command {
            WorkerCommand::Welcome { epoch, .. } => self.welcome(epoch, effects),
            WorkerCommand::Refuse { reason } => {
                tracing::error!(error = reason, "the master refuses this worker");
            }
            WorkerCommand::OpenJob { job, spec, limits, traceparent } => {
                self.jobs.insert(job, Arc::new(OpenJob::new(job, spec, limits, self.identity.tier, traceparent)));
            }
            WorkerCommand::CloseJob { job } => self.close_job(job, effects),
            WorkerCommand::LeaseShard { lease, input: ShardInput::Pulled { len }, .. }
                if len > SHARD_INPUT_BYTES_MAX =>
            {
                // Too large for every worker: an attempt that failed counts, where a refusal would be tried for ever.
                let reason = format!(
                    "the shard's input of {len} bytes is over the limit of {SHARD_INPUT_BYTES_MAX}; give the \
                     table by --shared, or write it with smaller row groups"
                );
                self.send(WorkerEvent::ShardAccepted(lease), effects);
                self.send(WorkerEvent::ShardFailed { lease, reason }, effects);
            }
            WorkerCommand::LeaseShard { lease, first_row, rows, input, deadline_ms } => {
                let deadline = deadline_ms.map(|ms| now + Duration::from_millis(ms));
                match self.accept(lease, first_row, rows, input, deadline) {
                    Ok(()) => {
                        self.send(WorkerEvent::ShardAccepted(lease), effects);
                        self.pull(lease, effects);
                    }
                    Err(reason) => self.send(WorkerEvent::ShardRejected { lease, reason }, effects),
                }
            }
            WorkerCommand::AdoptShard { .. } => {}
            WorkerCommand::CancelAttempt { lease } => self.cancel(lease, effects),
            WorkerCommand::AcknowledgeShard { lease } => {
                self.finished.remove(&lease);
            }
            WorkerCommand::FetchOutput { lease, offset } => {
                let bytes = self.finished.get_mut(&lease).map_or_else(Bytes::new, |finished| {
                    finished.periods_unanswered = 0;
                    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(finished.bytes.len());
                    finished.bytes.slice(from..finished.bytes.len().min(from + CHUNK_BYTES))
                });
                self.send(WorkerEvent::OutputDelivered { lease, offset, bytes }, effects);
            }
            WorkerCommand::DeliverInput { lease, offset, bytes } => self.take_input(lease, offset, bytes, effects),
            WorkerCommand::DrainWorker => self.drain(effects),
        }
    }

    fn welcome(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if self.epoch.is_some_and(|known| known != epoch) {
            // A new master does not know these attempts; what they would give could not be recorded.
            for slot in &self.slots {
                if let SlotState::Running { control, .. } = slot {
                    control.cancel();
                }
            }
            self.jobs.clear();
        }
        self.epoch = Some(epoch);
        for (lease, finished) in &self.finished {
            self.send(completed(*lease, finished), effects);
        }
    }

    fn accept(
        &mut self,
        lease: Lease,
        first_row: u64,
        rows: u64,
        input: ShardInput,
        deadline: Option<Instant>,
    ) -> Result<(), String> {
        if self.epoch != Some(lease.epoch) {
            return Err(format!("lease of epoch {} in epoch {:?}", lease.epoch, self.epoch.map(|epoch| epoch.0)));
        }
        if self.draining {
            return Err("the worker is draining".into());
        }
        let running = self.slots.iter().filter(|slot| matches!(slot, SlotState::Running { .. })).count();
        if self.queue.len() + running >= self.identity.credits as usize {
            return Err(format!("all {} credits are in use", self.identity.credits));
        }
        let Some(job) = self.jobs.get(&lease.job).cloned() else {
            return Err(format!("job {} is not open here", lease.job));
        };
        let (input, transfer) = match input {
            ShardInput::Generated => (TaskInput::Generated, None),
            ShardInput::Formulas(formulas) => (TaskInput::Formulas(formulas), None),
            ShardInput::File { path, offset, len } => (TaskInput::File { path, offset, len }, None),
            ShardInput::Pulled { len } => (
                TaskInput::Records(Bytes::new()),
                Some(Transfer { len, asked: 0, bytes: BytesMut::new(), early: BTreeMap::new() }),
            ),
        };
        let control = Arc::new(AttemptControl::default());
        let task = Task { lease, job, first_row, rows, input, deadline, control };
        self.queue.push_back(Queued { task, transfer });
        Ok(())
    }

    /// Asks for chunks of a queued lease's input, as many as may be in flight.
    fn pull(&mut self, lease: Lease, effects: &mut Vec<Effect>) {
        let connected = self.connected;
        let Some(transfer) = self.transfer_mut(lease) else { return };
        let in_flight_max = (CHUNKS_IN_FLIGHT * CHUNK_BYTES) as u64;
        while transfer.asked < transfer.len && transfer.asked < transfer.bytes.len() as u64 + in_flight_max {
            if connected {
                effects.push(Effect::Send(WorkerEvent::InputWanted { lease, offset: transfer.asked }));
            }
            transfer.asked += CHUNK_BYTES as u64;
        }
    }

    fn transfer_mut(&mut self, lease: Lease) -> Option<&mut Transfer> {
        self.queue.iter_mut().find(|queued| queued.task.lease == lease)?.transfer.as_mut()
    }

    fn take_input(&mut self, lease: Lease, offset: u64, bytes: Bytes, effects: &mut Vec<Effect>) {
        let Some(transfer) = self.transfer_mut(lease) else { return };
        let expected = transfer.bytes.len() as u64;
        let is_asked_for = (expected..transfer.asked).contains(&offset) && transfer.early.len() < CHUNKS_IN_FLIGHT;
        if bytes.is_empty() || !is_asked_for || offset + bytes.len() as u64 > transfer.len {
            self.queue.retain(|queued| queued.task.lease != lease);
            let reason = format!("the input from byte {offset} on did not arrive (expected byte {expected})");
            self.send(WorkerEvent::ShardFailed { lease, reason }, effects);
            return;
        }
        transfer.early.insert(offset, bytes);
        while let Some(chunk) = transfer.early.remove(&(transfer.bytes.len() as u64)) {
            transfer.bytes.extend_from_slice(&chunk);
        }
        if (transfer.bytes.len() as u64) < transfer.len {
            self.pull(lease, effects);
        } else if let Some(queued) = self.queue.iter_mut().find(|queued| queued.task.lease == lease)
            && let Some(transfer) = queued.transfer.take()
        {
            queued.task.input = TaskInput::Records(transfer.bytes.freeze());
        }
    }

    /// Stops an attempt, wherever it is. Answers in every case, so that the master knows that the credit is free.
    fn cancel(&mut self, lease: Lease, effects: &mut Vec<Effect>) {
        for slot in &self.slots {
            if let SlotState::Running { lease: running, control } = slot
                && *running == lease
            {
                control.cancel();
                return;
            }
        }
        self.queue.retain(|queued| queued.task.lease != lease);
        // A finished attempt has answered with its completion, and waits for the acknowledgement.
        if !self.finished.contains_key(&lease) {
            self.send(WorkerEvent::ShardRejected { lease, reason: "cancelled".into() }, effects);
        }
    }

    fn close_job(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        self.jobs.remove(&job);
        self.finished.retain(|lease, _| lease.job != job);
        let held: Vec<Lease> = self
            .queue
            .iter()
            .map(|queued| queued.task.lease)
            .chain(self.slots.iter().filter_map(|slot| match slot {
                SlotState::Running { lease, .. } => Some(*lease),
                _ => None,
            }))
            .filter(|lease| lease.job == job)
            .collect();
        for lease in held {
            self.cancel(lease, effects);
        }
    }

    fn finish_attempt(
        &mut self,
        slot: Slot,
        lease: Lease,
        busy_us: u64,
        result: Result<RawOutput, String>,
        effects: &mut Vec<Effect>,
    ) {
        let SlotState::Running { lease: running, control } = &self.slots[slot] else { return };
        if *running != lease {
            return;
        }
        let cancelled = control.is_cancelled();
        self.slots[slot] = SlotState::Idle;
        match result {
            Ok(raw) => {
                let (payload, bytes) = if raw.bytes.len() <= self.inline_bytes_max {
                    (Payload::Inline(raw.bytes), Bytes::new())
                } else {
                    let len = raw.bytes.len() as u64;
                    (Payload::Ready { len, digest: *blake3::hash(&raw.bytes).as_bytes() }, raw.bytes)
                };
                let output = ShardOutput { rows: raw.rows, failed: raw.failed, errors: raw.errors, payload };
                let finished = Finished { busy_us, output, bytes, periods_unanswered: 0 };
                self.send(completed(lease, &finished), effects);
                self.finished.insert(lease, finished);
            }
            Err(_) if cancelled => {
                self.send(WorkerEvent::ShardRejected { lease, reason: "cancelled".into() }, effects);
            }
            Err(reason) => self.send(WorkerEvent::ShardFailed { lease, reason }, effects),
        }
    }

    /// Renews every lease that is held here (those that run and those that wait), and offers outputs again whose
    /// acknowledgement is overdue.
    fn report_progress(&mut self, effects: &mut Vec<Effect>) {
        for slot in &self.slots {
            if let SlotState::Running { lease, control } = slot {
                self.send(WorkerEvent::ShardProgressed { lease: *lease, rows_done: control.rows_done() }, effects);
            }
        }
        for queued in &self.queue {
            self.send(WorkerEvent::ShardProgressed { lease: queued.task.lease, rows_done: 0 }, effects);
        }
        let connected = self.connected;
        for (lease, finished) in &mut self.finished {
            finished.periods_unanswered += 1;
            if connected && finished.periods_unanswered.is_multiple_of(PERIODS_UNANSWERED_MAX) {
                effects.push(Effect::Send(completed(*lease, finished)));
            }
        }
    }

    fn drain(&mut self, effects: &mut Vec<Effect>) {
        if !self.draining {
            self.draining = true;
            let returned = self.queue.drain(..).map(|queued| queued.task.lease).collect();
            self.send(WorkerEvent::DrainStarted { returned }, effects);
        }
    }

    fn fill_slots(&mut self, effects: &mut Vec<Effect>) {
        for slot in 0..self.slots.len() {
            if !matches!(self.slots[slot], SlotState::Idle) {
                continue;
            }
            let Some(next) = self.queue.iter().position(|queued| queued.transfer.is_none()) else { return };
            let Some(Queued { task, .. }) = self.queue.remove(next) else { return };
            self.slots[slot] = SlotState::Running { lease: task.lease, control: Arc::clone(&task.control) };
            effects.push(Effect::Execute { slot, task });
        }
    }
}

fn completed(lease: Lease, finished: &Finished) -> WorkerEvent {
    WorkerEvent::ShardCompleted { lease, busy_us: finished.busy_us, output: finished.output.clone() }
}

#[cfg(test)]
mod tests;
