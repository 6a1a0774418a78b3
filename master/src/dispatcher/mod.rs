//! The dispatcher: the actor around the scheduler.
//!
//! Owned by the master's supervisor. It converts messages to events, calls [`Scheduler::step`] and carries out the
//! effects in order: a record before its acknowledgement. When it dies it is started again under a new epoch and takes
//! its jobs from the table, with the shards that are recorded; workers are welcomed again under that epoch.

mod effects;
mod fetches;
pub mod peers;

use crate::input::table_index::IndexProgress;
use crate::jobs::entry::{CompletedShard, JobEntry, JobTable};
use crate::jobs::results::Stored;
use crate::nodes::NodeTable;
use crate::scheduler::{Done, Effect, Event, Millis, RowRange, Scheduler, SchedulerConfig};
use fetches::Fetches;
use peers::{Peers, WorkerLink};
use quipu_shared::formula::FormulaLimits;
use quipu_shared::ids::{Epoch, JobId, NodeId, WorkerId};
use quipu_shared::service::{ErrorKind, JobState, ServiceError};
use quipu_shared::wire::{Hello, Lease, ShardOutput, WorkerCommand, WorkerEvent};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Bytes of results that may wait in memory for the reader of an embedded job.
const RESULT_WINDOW_BYTES: u64 = 32 * 1024 * 1024;

/// Shards that may at least be under way, however large their rows: row groups of Parquet can't be cut.
const RESULT_WINDOW_SHARDS: u64 = 6;

/// What a dispatcher starts with; shared by all its incarnations.
#[derive(Clone)]
pub struct DispatcherArgs {
    /// Tunables of the scheduler.
    pub scheduler: SchedulerConfig,
    /// Limits on formulas, for the workers.
    pub formula_limits: FormulaLimits,
    /// The jobs.
    pub jobs: Arc<JobTable>,
    /// What clients see of the nodes.
    pub nodes: Arc<NodeTable>,
    /// Epoch of the last incarnation.
    pub epoch: Arc<AtomicU64>,
    /// Ended jobs that are kept for clients to look at.
    pub jobs_kept_max: usize,
    /// Whether workers open a table's file themselves, by its path.
    pub shared_files: bool,
    /// Names the store that the jobs are in.
    pub store: uuid::Uuid,
}

/// Messages to the dispatcher.
pub enum DispatcherMessage {
    /// Schedule a job that is in the table.
    Submit(Arc<JobEntry>),
    /// Cancel a job.
    Cancel(JobId),
    /// Ask a worker to leave.
    Drain(NodeId, RpcReplyPort<Result<(), ServiceError>>),
    /// A worker has connected, under an id that was never used before.
    WorkerConnected(WorkerId, Arc<dyn WorkerLink>),
    /// A worker says something.
    WorkerSaid(WorkerId, WorkerEvent),
    /// A worker's connection is gone.
    WorkerDisconnected(WorkerId),
    /// More of a table's rows have a known place.
    Indexed(JobId, Result<IndexProgress, String>),
    /// The reader of an embedded job has taken its results up to this row.
    ResultsTaken(JobId, u64),
    /// A shard's rows are stored (or could not be).
    OutputStored {
        /// Who made it.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
        /// Execution time.
        busy_us: u64,
        /// Counts and errors of the shard.
        output: ShardOutput,
        /// Where its rows are.
        stored: Result<Stored, ServiceError>,
    },
    /// A chunk of a table was read for a worker.
    InputRead {
        /// For whom.
        worker: WorkerId,
        /// For which attempt.
        lease: Lease,
        /// Byte offset within the shard's input.
        offset: u64,
        /// The bytes; empty where they can't be read.
        bytes: bytes::Bytes,
    },
    /// The scheduler's timer.
    TimerFired,
    /// Panic; for tests of the supervision.
    #[cfg(test)]
    Panic,
}

impl ractor::Message for DispatcherMessage {}

/// The dispatcher actor.
pub struct Dispatcher;

/// State of a [`Dispatcher`].
pub struct DispatcherState {
    args: DispatcherArgs,
    myself: ActorRef<DispatcherMessage>,
    epoch: Epoch,
    started_at: Instant,
    scheduler: Scheduler,
    peers: Peers,
    fetches: Fetches,
    /// Outputs that are in hand while the scheduler decides about them.
    in_hand: BTreeMap<Lease, (ShardOutput, Option<Stored>)>,
    /// Shards that are leased: first row and number of rows by attempt.
    leased: BTreeMap<Lease, (u64, u64)>,
    /// Rows done so far of attempts that run.
    progress: BTreeMap<JobId, BTreeMap<Lease, u64>>,
    /// Why the last attempt of a job died, as its worker said.
    deaths: BTreeMap<JobId, String>,
    timer: Option<AbortHandle>,
    effects: Vec<Effect>,
}

impl DispatcherState {
    fn now(&self) -> Millis {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Steps the scheduler and carries out what it asks for.
    fn step(&mut self, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        self.scheduler.step(self.now(), event, &mut effects);
        for effect in effects.drain(..) {
            self.execute(effect);
        }
        self.effects = effects;
    }

    fn schedule(&mut self, entry: &Arc<JobEntry>, recovered: bool) {
        let mut plan = entry.admitted.plan.clone();
        let now = self.now();
        plan.deadline_at = entry.admitted.spec.deadline_ms.map(|ms| {
            let spent = u64::try_from(entry.accepted_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            now.saturating_add(ms.saturating_sub(spent))
        });
        plan.up_to_row = self.window(entry, 0);
        let job = entry.id;
        if recovered {
            let done = {
                let recorded = entry.recorded();
                let range = |done: &CompletedShard| RowRange { first_row: done.first_row, rows: done.rows };
                Done {
                    ranges: recorded.shards.iter().map(range).collect(),
                    shards: recorded.shards.len() as u64,
                    next_shard: recorded.shards.iter().map(|done| done.shard.0 + 1).max().unwrap_or(0),
                    failed_row: entry.view().row_errors.first().map(|error| error.row).filter(|_| plan.fail_fast),
                }
            };
            self.step(Event::JobRecovered { job, plan, done });
        } else {
            self.step(Event::JobSubmitted { job, plan });
        }
        if entry.index.is_some() {
            self.index(entry);
        }
    }

    /// Reads a table's file in the background and reports the rows as they are found.
    fn index(&self, entry: &Arc<JobEntry>) {
        let (Some(index), job, myself) = (entry.index.clone(), entry.id, self.myself.clone()) else { return };
        tokio::task::spawn_blocking(move || {
            let found = index.build(|progress| {
                // A dispatcher that is gone is started again, and reads the file again.
                let _ = myself.cast(DispatcherMessage::Indexed(job, Ok(progress)));
            });
            if let Err(error) = found {
                let _ = myself.cast(DispatcherMessage::Indexed(job, Err(error)));
            }
        });
    }

    /// The row up to which shards may be leased when the reader has taken rows up to `taken`.
    fn window(&self, entry: &JobEntry, taken: u64) -> u64 {
        if entry.results.is_spooled() || entry.admitted.reducers.is_some() {
            return u64::MAX;
        }
        let rows = RESULT_WINDOW_BYTES / entry.admitted.row_bytes.max(1);
        taken.saturating_add(rows.max(RESULT_WINDOW_SHARDS * entry.admitted.plan.granule))
    }

    fn worker_said(&mut self, worker: WorkerId, event: WorkerEvent) {
        let welcomed = self.peers.get_mut(worker).is_some_and(|peer| peer.hello.is_some());
        if !welcomed && !matches!(event, WorkerEvent::Joined(_)) {
            tracing::debug!(worker_id = %worker, "message before hello dropped");
            return;
        }
        match event {
            WorkerEvent::Joined(hello) => self.welcome(worker, hello),
            WorkerEvent::ShardAccepted(lease) => self.step(Event::ShardAccepted { worker, lease }),
            WorkerEvent::ShardRejected { lease, reason } => {
                tracing::debug!(job_id = %lease.job, shard_id = %lease.shard, worker_id = %worker, reason, "shard rejected");
                self.step(Event::ShardRejected { worker, lease });
            }
            WorkerEvent::ShardProgressed { lease, rows_done } => {
                if self.leased.contains_key(&lease) {
                    self.progress.entry(lease.job).or_default().insert(lease, rows_done);
                    self.show_progress(lease.job);
                }
                self.step(Event::ShardProgressed { worker, lease, rows_done });
            }
            WorkerEvent::ShardCompleted { lease, busy_us, output } => self.completed(worker, lease, busy_us, output),
            WorkerEvent::ShardFailed { lease, reason } => {
                tracing::warn!(
                    job_id = %lease.job, shard_id = %lease.shard, attempt = %lease.attempt, worker_id = %worker,
                    error = %reason, "attempt died, the shard runs again"
                );
                self.deaths.insert(lease.job, reason);
                self.step(Event::ShardFailed { worker, lease });
            }
            WorkerEvent::InputWanted { lease, offset } => self.read_input(worker, lease, offset),
            WorkerEvent::OutputDelivered { lease, offset, bytes } => self.fetched(worker, lease, offset, bytes),
            WorkerEvent::DrainStarted { returned } => {
                let node = self.peers.get_mut(worker).and_then(|peer| {
                    peer.draining = true;
                    peer.hello.as_ref().map(|hello| hello.node_id.clone())
                });
                if let Some(node) = node {
                    tracing::info!(node_id = %node, returned = returned.len(), "worker drains");
                    self.args.nodes.draining(&node);
                }
                self.step(Event::WorkerDraining { worker, returned });
            }
            WorkerEvent::Left => {
                if let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) {
                    tracing::info!(node_id = %hello.node_id, "worker has drained and left");
                }
            }
        }
    }

    /// Takes a worker into the schedule, or refuses it with both versions named.
    fn welcome(&mut self, worker: WorkerId, hello: Hello) {
        let ours = (quipu_shared::PROTOCOL_VERSION, quipu_shared::NUMERICS_VERSION);
        if (hello.protocol, hello.numerics) != ours {
            let reason = format!(
                "worker {} {} speaks protocol {} with numerics {}, this master {} speaks protocol {} with numerics {}; \
                 run the same version on both",
                hello.node_id,
                hello.version,
                hello.protocol,
                hello.numerics,
                env!("CARGO_PKG_VERSION"),
                ours.0,
                ours.1
            );
            tracing::error!(node_id = %hello.node_id, error = reason, "worker refused");
            self.args.nodes.refused(&hello, &reason);
            self.peers.send(worker, WorkerCommand::Refuse { reason });
            return;
        }
        // The same node on an older connection (it has not noticed yet, or its agent was started again).
        if let Some(older) = self.peers.of_node(&hello.node_id) {
            if older != worker {
                self.disconnect(older);
            } else {
                self.step(Event::WorkerLost { worker });
            }
        }
        let Some(peer) = self.peers.get_mut(worker) else { return };
        tracing::info!(
            node_id = %hello.node_id, generation = hello.generation.0, slots = hello.slots, zone = hello.zone,
            "worker joined"
        );
        peer.hello = Some(hello.clone());
        peer.opened.clear();
        peer.draining = false;
        let lease_ttl_ms = self.args.scheduler.lease_ttl_ms;
        let store = self.args.store;
        peer.link.send(WorkerCommand::Welcome { epoch: self.epoch, lease_ttl_ms, store });
        self.args.nodes.joined(&hello);
        let held = if hello.store == Some(store) { hello.held } else { Vec::new() };
        self.step(Event::WorkerJoined { worker, slots: hello.slots, credits: hello.credits, held });
    }

    fn disconnect(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.disconnect(worker) else { return };
        peer.link.close();
        self.fetches.forget(worker);
        if let Some(hello) = &peer.hello {
            if peer.draining {
                tracing::info!(node_id = %hello.node_id, "connection of a drained worker closed");
            } else {
                tracing::warn!(node_id = %hello.node_id, "worker lost, its shards run again");
            }
            self.args.nodes.lost(&hello.node_id);
        }
        self.step(Event::WorkerLost { worker });
    }

    fn drain(&mut self, node: &NodeId) -> Result<(), ServiceError> {
        match self.peers.of_node(node) {
            Some(worker) => {
                self.peers.send(worker, WorkerCommand::DrainWorker);
                Ok(())
            }
            None => Err(ServiceError {
                kind: ErrorKind::NotFound,
                code: "unknown_node".into(),
                message: format!("no worker {node} is connected; `quipu node list` shows those that are"),
                place: None,
                retry_after_s: None,
            }),
        }
    }
}

impl Actor for Dispatcher {
    type Msg = DispatcherMessage;
    type State = DispatcherState;
    type Arguments = DispatcherArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<DispatcherMessage>,
        args: DispatcherArgs,
    ) -> Result<DispatcherState, ActorProcessingErr> {
        let epoch = Epoch(args.epoch.fetch_add(1, Ordering::SeqCst) + 1);
        let mut state = DispatcherState {
            scheduler: Scheduler::new(epoch, args.scheduler.clone()),
            args,
            myself,
            epoch,
            started_at: Instant::now(),
            peers: Peers::default(),
            fetches: Fetches::default(),
            in_hand: BTreeMap::new(),
            leased: BTreeMap::new(),
            progress: BTreeMap::new(),
            deaths: BTreeMap::new(),
            timer: None,
            effects: Vec::new(),
        };
        for entry in state.args.jobs.active() {
            state.schedule(&entry, true);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<DispatcherMessage>,
        message: DispatcherMessage,
        state: &mut DispatcherState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DispatcherMessage::Submit(entry) => {
                tracing::info!(job_id = %entry.id, kind = entry.admitted.spec.kind.name(), trace_id = entry.trace_id(), "job accepted");
                state.schedule(&entry, false);
            }
            DispatcherMessage::Cancel(job) => state.step(Event::JobCancelled { job }),
            DispatcherMessage::Drain(node, reply) => {
                // A caller that is gone has no use for the answer.
                let _ = reply.send(state.drain(&node));
            }
            DispatcherMessage::WorkerConnected(worker, link) => state.peers.connect(worker, link),
            DispatcherMessage::WorkerSaid(worker, event) => state.worker_said(worker, event),
            DispatcherMessage::WorkerDisconnected(worker) => state.disconnect(worker),
            DispatcherMessage::Indexed(job, Ok(IndexProgress { rows, last })) => {
                if let Some(entry) = state.args.jobs.get(job)
                    && last
                {
                    entry.update(|view| view.rows_total = Some(rows));
                }
                state.step(Event::RowsKnown { job, rows, last });
            }
            DispatcherMessage::Indexed(job, Err(message)) => state.fail_job(
                job,
                ServiceError {
                    kind: ErrorKind::Invalid,
                    code: "unreadable_table".into(),
                    message,
                    place: None,
                    retry_after_s: None,
                },
            ),
            DispatcherMessage::ResultsTaken(job, row) => {
                if let Some(entry) = state.args.jobs.get(job) {
                    let up_to_row = state.window(&entry, row);
                    state.step(Event::WindowMoved { job, up_to_row });
                }
            }
            DispatcherMessage::OutputStored { worker, lease, busy_us, output, stored } => match stored {
                Ok(stored) => state.have(worker, lease, busy_us, output, Some(stored)),
                Err(error) => state.fail_job(lease.job, error),
            },
            DispatcherMessage::InputRead { worker, lease, offset, bytes } => {
                state.peers.send(worker, WorkerCommand::DeliverInput { lease, offset, bytes });
            }
            DispatcherMessage::TimerFired => state.step(Event::TimerFired),
            #[cfg(test)]
            DispatcherMessage::Panic => panic!("asked to"),
        }
        drop(myself);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<DispatcherMessage>,
        state: &mut DispatcherState,
    ) -> Result<(), ActorProcessingErr> {
        for worker in state.peers.ids() {
            if let Some(peer) = state.peers.disconnect(worker) {
                peer.link.close();
            }
        }
        for entry in state.args.jobs.active() {
            entry.become_state(JobState::Cancelled, Some(stopped()));
            entry.results.finish_error(stopped());
        }
        Ok(())
    }
}

fn stopped() -> ServiceError {
    ServiceError {
        kind: ErrorKind::Cancelled,
        code: "master_stopped".into(),
        message: "the master stopped before the job was done".into(),
        place: None,
        retry_after_s: None,
    }
}

/// How long the timer sleeps until `at`.
fn until(now: Millis, at: Millis) -> Duration {
    Duration::from_millis(at.saturating_sub(now))
}
