//! The worker's state machine: leases in, outputs out, no I/O.
//!
//! A lease waits in the queue (for its input, then for a slot), runs on a slot, and is finished: its output is kept
//! until the master acknowledges it, over reconnects. Nothing is accepted beyond the credits that `Hello` announced.
//!
//! A master that was started again has another epoch and, if nothing is lost, the same store. What runs and what is
//! finished is then announced in `Hello` and waits for its word: it goes on under a new lease, or is dropped. With
//! another store it means nothing: equal ids name other things there.

mod outputs;

pub use outputs::UNACKNOWLEDGED_BYTES_MAX;

use outputs::{Finished, Outputs};

use crate::task::{AttemptControl, OpenJob, Task, TaskInput};
use bytes::{Bytes, BytesMut};
use quipu_shared::block::RowError;
use quipu_shared::config::TierChoice;
use quipu_shared::host::HostLoad;
use quipu_shared::ids::{Epoch, Generation, JobId, NodeId};
use quipu_shared::wire::{
    CHUNK_BYTES, CHUNKS_IN_FLIGHT, EvalTier, HeldShard, Hello, INLINE_BYTES_MAX, Lease, ShardInput, WorkerCommand,
    WorkerEvent,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Largest input of one shard that a worker takes into memory.
pub const SHARD_INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Progress reports after which an output that nobody has acknowledged is offered again.
const PERIODS_UNANSWERED_MAX: u32 = 5;

/// Number of an executor, from 0.
pub type Slot = usize;

/// What an executor made of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RawOutput {
    /// Who evaluated most of its rows.
    pub tier: EvalTier,
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
    pub boot_id: Uuid,
    /// Executors.
    pub slots: u32,
    /// Shards that it holds at once.
    pub credits: u32,
    /// Zone.
    pub zone: String,
    /// Its share, where the master places by weight.
    pub weight: u32,
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
    /// This is how the host does.
    HostMeasured(HostLoad),
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
    Running(Running),
    /// It runs what nobody wants, and will stop soon.
    Abandoned {
        task_lease: Lease,
    },
}

#[derive(Debug)]
struct Running {
    /// As the master calls it.
    lease: Lease,
    /// As the executor calls it: the lease under which it began.
    task_lease: Lease,
    first_row: u64,
    rows: u64,
    control: Arc<AttemptControl>,
}

/// The state machine of a worker.
#[derive(Debug)]
pub struct WorkerCore {
    identity: WorkerIdentity,
    /// Largest payload that travels inside a completion.
    inline_bytes_max: usize,
    /// Of the last welcome.
    epoch: Option<Epoch>,
    /// Of the last welcome.
    store: Option<Uuid>,
    connected: bool,
    /// Whether the master of this connection has said who it is.
    welcomed: bool,
    draining: bool,
    left: bool,
    jobs: BTreeMap<JobId, Arc<OpenJob>>,
    queue: VecDeque<Queued>,
    slots: Vec<SlotState>,
    outputs: Outputs,
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
            store: None,
            connected: false,
            welcomed: false,
            draining: false,
            left: false,
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            slots,
            outputs: Outputs::default(),
        }
    }

    /// Sole entry point: state, time and event determine the effects.
    pub fn step(&mut self, now: Instant, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Connected => {
                (self.connected, self.welcomed) = (true, false);
                effects.push(Effect::Send(WorkerEvent::Joined(self.hello())));
            }
            Event::Disconnected => {
                (self.connected, self.welcomed) = (false, false);
                // The master has leased these to others by now; what runs may still win.
                self.queue.clear();
            }
            Event::Commanded(command) => self.obey(now, command, effects),
            Event::ExecutorReady(slot) => {
                let before = std::mem::replace(&mut self.slots[slot], SlotState::Idle);
                if let SlotState::Running(Running { lease, .. }) = before {
                    let reason = format!("the executor of slot {slot} died");
                    self.send(WorkerEvent::ShardFailed { lease, reason }, effects);
                }
            }
            Event::AttemptFinished { slot, lease, busy_us, result } => {
                self.finish_attempt(slot, lease, busy_us, result, effects);
            }
            Event::ProgressDue => self.report_progress(effects),
            Event::HostMeasured(host) => {
                if self.welcomed {
                    self.send(WorkerEvent::HostReported(host), effects);
                }
            }
            Event::DrainRequested => self.drain(effects),
        }
        self.fill_slots(effects);
        let owes = self.connected && !self.outputs.is_empty();
        if self.draining && !self.left && self.busy_slots() == 0 && !owes && self.queue.is_empty() {
            self.left = true;
            effects.push(Effect::Leave);
        }
    }

    fn running(&self) -> impl Iterator<Item = &Running> {
        self.slots.iter().filter_map(|slot| match slot {
            SlotState::Running(running) => Some(running),
            _ => None,
        })
    }

    fn busy_slots(&self) -> usize {
        let is_busy = |slot: &&SlotState| matches!(slot, SlotState::Running(_) | SlotState::Abandoned { .. });
        self.slots.iter().filter(is_busy).count()
    }

    /// Finished attempts come first: the master adopts no more than the credits, and these need no more work.
    fn held(&self) -> Vec<HeldShard> {
        let running = self.running().filter(|running| !running.control.is_cancelled());
        let held =
            |running: &Running| HeldShard { lease: running.lease, first_row: running.first_row, rows: running.rows };
        self.outputs.held().chain(running.map(held)).collect()
    }

    fn hello(&self) -> Hello {
        Hello {
            node_id: self.identity.node_id.clone(),
            generation: self.identity.generation,
            boot_id: self.identity.boot_id,
            slots: self.identity.slots,
            credits: self.identity.credits,
            zone: self.identity.zone.clone(),
            weight: self.identity.weight,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: quipu_shared::PROTOCOL_VERSION,
            numerics: quipu_shared::NUMERICS_VERSION,
            store: self.store,
            held: self.held(),
        }
    }

    fn send(&self, event: WorkerEvent, effects: &mut Vec<Effect>) {
        if self.connected {
            effects.push(Effect::Send(event));
        }
    }

    fn obey(&mut self, now: Instant, command: WorkerCommand, effects: &mut Vec<Effect>) {
        match command {
            WorkerCommand::Welcome { epoch, store, .. } => self.welcome(epoch, store, effects),
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
            WorkerCommand::LeaseShard { lease, first_row, rows, input, deadline_ms, trace } => {
                let deadline = deadline_ms.map(|ms| now + Duration::from_millis(ms));
                match self.accept(lease, first_row, rows, input) {
                    Ok((task, transfer)) => {
                        self.queue.push_back(Queued { task: Task { deadline, trace, ..task }, transfer });
                        self.send(WorkerEvent::ShardAccepted(lease), effects);
                        self.pull(lease, effects);
                    }
                    Err(reason) => self.send(WorkerEvent::ShardRejected { lease, reason }, effects),
                }
            }
            WorkerCommand::AdoptShard { held, lease } => self.adopt(held, lease, effects),
            WorkerCommand::CancelAttempt { lease } => self.cancel(lease, effects),
            WorkerCommand::AcknowledgeShard { lease } => {
                self.outputs.remove(&lease);
            }
            WorkerCommand::FetchOutput { lease, offset } => {
                let bytes = self.outputs.get_mut(&lease).map_or_else(Bytes::new, |finished| {
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

    fn welcome(&mut self, epoch: Epoch, store: Uuid, effects: &mut Vec<Effect>) {
        if self.store != Some(store) {
            self.abandon_all();
        } else if self.epoch != Some(epoch) {
            self.queue.clear();
        }
        (self.epoch, self.store, self.welcomed) = (Some(epoch), Some(store), true);
        // What is of an older epoch waits for its adoption: under its old lease it would be acknowledged and dropped.
        for (lease, finished) in self.outputs.iter_mut() {
            finished.periods_unanswered = 0;
            if lease.epoch == epoch {
                effects.push(Effect::Send(finished.completed(*lease)));
            }
        }
    }

    /// Another store: its jobs, epochs and attempts have nothing to do with those that are here, and may be named the
    /// same. Nothing of them is spoken of any more.
    fn abandon_all(&mut self) {
        for slot in &mut self.slots {
            if let SlotState::Running(Running { task_lease, control, .. }) = slot {
                control.cancel();
                *slot = SlotState::Abandoned { task_lease: *task_lease };
            }
        }
        self.queue.clear();
        self.outputs.retain(|_| false);
        self.jobs.clear();
    }

    /// What is held under an older lease goes on under this one. (Said twice, it is answered twice.)
    fn adopt(&mut self, held: Lease, lease: Lease, effects: &mut Vec<Effect>) {
        if self.epoch == Some(lease.epoch) {
            if let Some(mut finished) = self.outputs.remove(&held) {
                finished.periods_unanswered = 0;
                self.outputs.keep(lease, finished);
            }
            for slot in &mut self.slots {
                if let SlotState::Running(running) = slot
                    && running.lease == held
                    && !running.control.is_cancelled()
                {
                    running.lease = lease;
                }
            }
        }
        let answer = if let Some(finished) = self.outputs.get(&lease) {
            finished.completed(lease)
        } else if self.running().any(|running| running.lease == lease) {
            WorkerEvent::ShardAccepted(lease)
        } else {
            WorkerEvent::ShardRejected { lease, reason: "what was to be adopted is not here any more".into() }
        };
        self.send(answer, effects);
    }

    /// What a lease asks for, or why it is not taken.
    fn accept(
        &self,
        lease: Lease,
        first_row: u64,
        rows: u64,
        input: ShardInput,
    ) -> Result<(Task, Option<Transfer>), String> {
        if self.epoch != Some(lease.epoch) {
            return Err(format!("lease of epoch {} in epoch {:?}", lease.epoch, self.epoch.map(|epoch| epoch.0)));
        }
        if self.draining {
            return Err("the worker is draining".into());
        }
        if self.outputs.is_over_limit() {
            let limit = UNACKNOWLEDGED_BYTES_MAX;
            return Err(format!("outputs of {limit} bytes and more wait for the master's acknowledgement"));
        }
        if self.queue.len() + self.busy_slots() >= self.identity.credits as usize {
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
        Ok((Task { lease, job, first_row, rows, input, deadline: None, trace: None, control }, transfer))
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
        if let Some(running) = self.running().find(|running| running.lease == lease) {
            running.control.cancel();
            return;
        }
        self.queue.retain(|queued| queued.task.lease != lease);
        match self.outputs.get(&lease) {
            // It has answered with its completion, and waits for the acknowledgement.
            Some(_) if self.epoch == Some(lease.epoch) => {}
            Some(finished) => self.send(finished.completed(lease), effects),
            None => self.send(WorkerEvent::ShardRejected { lease, reason: "cancelled".into() }, effects),
        }
    }

    fn close_job(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        self.jobs.remove(&job);
        self.outputs.retain(|lease| lease.job != job);
        let held: Vec<Lease> = self
            .queue
            .iter()
            .map(|queued| queued.task.lease)
            .chain(self.running().map(|running| running.lease))
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
        let (SlotState::Running(Running { task_lease, .. }) | SlotState::Abandoned { task_lease }) = &self.slots[slot]
        else {
            return;
        };
        if *task_lease != lease {
            return;
        }
        let before = std::mem::replace(&mut self.slots[slot], SlotState::Idle);
        let SlotState::Running(Running { lease, first_row, rows, control, .. }) = before else { return };
        let cancelled = control.is_cancelled();
        match result {
            Ok(raw) => {
                let finished = Finished::new(first_row, rows, busy_us, raw, self.inline_bytes_max);
                // One of an older epoch is offered once it is adopted; if it was cancelled, this is the answer.
                if self.welcomed && (self.epoch == Some(lease.epoch) || cancelled) {
                    self.send(finished.completed(lease), effects);
                }
                self.outputs.keep(lease, finished);
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
        for Running { lease, control, .. } in self.running() {
            self.send(WorkerEvent::ShardProgressed { lease: *lease, rows_done: control.rows_done() }, effects);
        }
        for queued in &self.queue {
            self.send(WorkerEvent::ShardProgressed { lease: queued.task.lease, rows_done: 0 }, effects);
        }
        let welcomed = self.welcomed;
        // Those of an older epoch too, after so long: the word that adopts them is lost, and the answer frees them.
        for (lease, finished) in self.outputs.iter_mut() {
            finished.periods_unanswered += 1;
            if welcomed && finished.periods_unanswered.is_multiple_of(PERIODS_UNANSWERED_MAX) {
                effects.push(Effect::Send(finished.completed(*lease)));
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
            let Task { lease, first_row, rows, .. } = task;
            let control = Arc::clone(&task.control);
            self.slots[slot] = SlotState::Running(Running { lease, task_lease: lease, first_row, rows, control });
            effects.push(Effect::Execute { slot, task });
        }
    }
}

#[cfg(test)]
mod tests;
