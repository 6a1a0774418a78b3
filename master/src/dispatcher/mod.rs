//! The dispatcher: the actor around the scheduler.
//!
//! Owned by the master's supervisor. It converts messages to events, calls [`Scheduler::step`] and carries out the
//! effects in order: a record before its acknowledgement. When it dies it is started again under a new epoch and takes
//! its jobs from the table, with the shards that are recorded; workers are welcomed again under that epoch. A master
//! that is started again has an empty table, and serves what the store has queued.

mod chores;
mod effects;
mod ending;
mod fetches;
pub mod peers;
mod recording;
mod serving;
pub(crate) mod spans;
mod tunables;

pub use tunables::Tunables;

use crate::input::table_index::IndexProgress;
use crate::jobs::admission::Admitted;
use crate::jobs::entry::{JobEntry, JobTable};
use crate::jobs::opening::JobOpener;
use crate::jobs::results::Stored;
use crate::metrics::DispatchMetrics;
use crate::nodes::NodeTable;
use crate::scheduler::{AttemptCounts, Done, Effect, Event, JobOutcome, Millis, RowRange, Scheduler, WorkerFacts};
use crate::store::command::{Command, Outcome};
use crate::store::record::OutputRecord;
use crate::store::sequencer::unix_ms;
use crate::store::{Store, StoreError};
use chores::Chores;
use fetches::Fetches;
use peers::{Peers, WorkerLink};
use quipu_shared::detail::AttemptOutcome;
use quipu_shared::formula::FormulaLimits;
use quipu_shared::ids::{Epoch, JobId, NodeId, WorkerId};
use quipu_shared::live::Live;
use quipu_shared::service::{ErrorKind, JobState, ServiceError};
use quipu_shared::wire::{Hello, Lease, ShardOutput, WorkerCommand, WorkerEvent};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use recording::{InHand, RecordedShard, Recording};
use spans::JobSpans;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Bytes of results that may wait in memory for the reader of an embedded job.
const RESULT_WINDOW_BYTES: u64 = 32 * 1024 * 1024;

/// Shards that may at least be under way, however large their rows: row groups of Parquet can't be cut.
const RESULT_WINDOW_SHARDS: u64 = 6;

/// What a dispatcher starts with; shared by all its incarnations.
#[derive(Clone)]
pub struct DispatcherArgs {
    /// What may change while it works.
    pub tunables: Live<Tunables>,
    /// Limits on formulas, for the workers.
    pub formula_limits: FormulaLimits,
    /// The jobs.
    pub jobs: Arc<JobTable>,
    /// What clients see of the nodes.
    pub nodes: Arc<NodeTable>,
    /// The job log, and what jobs are opened with.
    pub opener: JobOpener,
    /// Jobs that are served at once.
    pub jobs_active_max: usize,
    /// Ended jobs that are kept at most.
    pub jobs_kept_max: usize,
    /// Runs of a schedule that are made up for at most.
    pub catch_up_max: u32,
    /// Whether workers open a table's file themselves, by its path.
    pub shared_files: bool,
    /// Where it counts.
    pub metrics: DispatchMetrics,
}

impl DispatcherArgs {
    fn store(&self) -> &Arc<Store> {
        &self.opener.store
    }
}

/// Messages to the dispatcher.
pub enum DispatcherMessage {
    /// Jobs are in the store; those that were just admitted need not be read again.
    Submitted(Vec<(JobId, Option<Box<Admitted>>)>),
    /// A job has been opened to be served, or can't be.
    Opened(JobId, Result<Arc<JobEntry>, ServiceError>),
    /// A completion is durable, or not wanted.
    Recorded(Box<RecordedShard>, Result<Outcome, StoreError>),
    /// A job's end is durable.
    Concluded(JobId, Result<Outcome, StoreError>),
    /// What was due by time is done.
    ChoresDone {
        /// Jobs that are forgotten.
        forgotten: Vec<JobId>,
        /// Whether there may be more.
        more: bool,
    },
    /// The tunables are others.
    TunablesChanged,
    /// Time to look at what is due.
    Tick,
    /// Say why a job stands where it stands.
    Explain(JobId, RpcReplyPort<Vec<String>>),
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
        /// Where its rows are, and what its record says of that.
        stored: Result<(Stored, OutputRecord), ServiceError>,
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
    /// Those that the scheduler knows.
    tunables: Arc<Tunables>,
    peers: Peers,
    fetches: Fetches,
    /// Outputs that are in hand while the scheduler decides about them.
    in_hand: BTreeMap<Lease, InHand>,
    /// Completions on their way into the store.
    recording: Recording,
    /// Ends that wait for completions on their way.
    pending_ends: BTreeMap<JobId, JobOutcome>,
    /// Jobs whose end is on its way into the store.
    ending: BTreeMap<JobId, ending::Ending>,
    /// Jobs that were just admitted, for those of them that have their turn at once.
    fresh: BTreeMap<JobId, Box<Admitted>>,
    /// Jobs that are being opened, and whether they were cancelled meanwhile.
    opening: BTreeMap<JobId, bool>,
    chores: Chores,
    /// Shards that are leased: first row and number of rows by attempt.
    leased: BTreeMap<Lease, (u64, u64)>,
    /// When leases went out of which their worker has not said that it has them.
    offered: BTreeMap<Lease, Instant>,
    /// Attempts as far as they are counted.
    counted: AttemptCounts,
    /// Rows done so far of attempts that run.
    progress: BTreeMap<JobId, BTreeMap<Lease, u64>>,
    /// Why the last attempt of a job died, as its worker said.
    deaths: BTreeMap<JobId, String>,
    spans: JobSpans,
    timer: Option<AbortHandle>,
    effects: Vec<Effect>,
    /// Why the attempts end that are cancelled in this step.
    cancelled_as: AttemptOutcome,
}

impl DispatcherState {
    fn now(&self) -> Millis {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Steps the scheduler and carries out what it asks for.
    fn step(&mut self, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        self.cancelled_as = match event {
            Event::TimerFired => AttemptOutcome::Expired,
            _ => AttemptOutcome::Stopped,
        };
        self.scheduler.step(self.now(), event, &mut effects);
        for effect in effects.drain(..) {
            self.execute(effect);
        }
        self.effects = effects;
        let counts = self.scheduler.attempt_counts();
        if counts != self.counted {
            self.args.metrics.attempts(&self.counted, &counts);
            self.counted = counts;
        }
    }

    fn schedule(&mut self, entry: &Arc<JobEntry>) {
        let mut plan = entry.admitted.plan.clone();
        let now = self.now();
        plan.deadline_at = entry.admitted.spec.deadline_ms.map(|ms| {
            let spent = u64::try_from(entry.accepted_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            now.saturating_add(ms.saturating_sub(spent))
        });
        plan.up_to_row = self.window(entry, 0);
        let job = entry.id;
        let done = {
            let progress = &entry.recorded().progress;
            let range = |&(first_row, end_row): &(u64, u64)| RowRange { first_row, rows: end_row - first_row };
            Done {
                ranges: progress.ranges.iter().map(range).collect(),
                shards: progress.shards,
                next_shard: progress.next_shard,
                failed_row: progress.errors.first().map(|error| error.row).filter(|_| plan.fail_fast),
            }
        };
        if done.shards > 0 {
            // An input is indexed anew, but what is done of it is there.
            let done_rows = done.ranges.iter().map(|range| range.first_row + range.rows).max().unwrap_or(0);
            plan.rows_known = plan.rows_known.max(done_rows);
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
        if entry.results.is_on_disk() || entry.admitted.reducers.is_some() {
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
            WorkerEvent::ShardAccepted(lease) => {
                if let Some(at) = self.offered.remove(&lease) {
                    self.args.metrics.round_trip.observe_time(at.elapsed());
                }
                self.step(Event::ShardAccepted { worker, lease });
            }
            WorkerEvent::ShardRejected { lease, reason } => {
                tracing::debug!(job_id = %lease.job, shard_id = %lease.shard, worker_id = %worker, reason, "shard rejected");
                self.attempt_ended(&lease, AttemptOutcome::Rejected, Some(&reason));
                self.step(Event::ShardRejected { worker, lease });
            }
            WorkerEvent::ShardProgressed { lease, rows_done } => {
                if self.leased.contains_key(&lease) {
                    self.progress.entry(lease.job).or_default().insert(lease, rows_done);
                    self.args.jobs.histories.progressed(&lease, rows_done);
                    self.show_progress(lease.job);
                }
                self.step(Event::ShardProgressed { worker, lease, rows_done });
            }
            WorkerEvent::ShardCompleted { lease, busy_us, output } => {
                self.spans.completed(lease, busy_us, &output);
                self.completed(worker, lease, busy_us, output);
            }
            WorkerEvent::ShardFailed { lease, reason } => {
                tracing::warn!(
                    job_id = %lease.job, shard_id = %lease.shard, attempt = %lease.attempt, worker_id = %worker,
                    error = %reason, "attempt died, the shard runs again"
                );
                self.attempt_ended(&lease, AttemptOutcome::Failed, Some(&reason));
                self.deaths.insert(lease.job, reason);
                self.step(Event::ShardFailed { worker, lease });
            }
            WorkerEvent::HostReported(host) => {
                if let Some(hello) = self.peers.get_mut(worker).and_then(|peer| peer.hello.as_ref()) {
                    self.args.nodes.host(&hello.node_id, &host);
                }
                self.step(Event::HostReported { worker, host });
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
                for lease in &returned {
                    self.attempt_ended(lease, AttemptOutcome::Returned, None);
                }
                self.step(Event::WorkerDraining { worker, returned });
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
                self.attempts_lost(worker);
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
        let lease_ttl_ms = self.tunables.scheduler.lease_ttl_ms;
        let store = self.args.store().id();
        peer.link.send(WorkerCommand::Welcome { epoch: self.epoch, lease_ttl_ms, store });
        self.args.nodes.joined(&hello);
        let held = if hello.store == Some(store) { hello.held } else { Vec::new() };
        let facts = WorkerFacts {
            node: hello.node_id,
            slots: hello.slots,
            credits: hello.credits,
            zone: hello.zone,
            weight: hello.weight,
        };
        self.step(Event::WorkerJoined { worker, facts, held });
    }

    fn disconnect(&mut self, worker: WorkerId) {
        let Some(peer) = self.peers.disconnect(worker) else { return };
        peer.link.close();
        self.fetches.forget(worker);
        if let Some(hello) = &peer.hello {
            // A worker leaves when all that it did is acknowledged: no word of farewell would say more, nor surely arrive.
            let leased = self.scheduler.worker_load(worker).is_some_and(|load| load.leased > 0);
            if peer.draining && !leased {
                tracing::info!(node_id = %hello.node_id, "worker has drained and left");
                self.args.nodes.left(&hello.node_id);
            } else {
                tracing::warn!(node_id = %hello.node_id, "worker lost, its shards run again");
                self.args.nodes.lost(&hello.node_id);
                self.args.metrics.workers_lost.inc();
            }
        }
        self.attempts_lost(worker);
        self.step(Event::WorkerLost { worker });
    }

    /// Notes for people what became of an attempt.
    fn attempt_ended(&mut self, lease: &Lease, outcome: AttemptOutcome, note: Option<&str>) {
        self.spans.over(*lease, outcome, note);
        self.args.jobs.histories.ended(lease, outcome, unix_ms(), note);
    }

    /// What a worker that is gone had under way is not done by anybody.
    fn attempts_lost(&mut self, worker: WorkerId) {
        for lease in self.args.jobs.histories.lost(worker, unix_ms()) {
            self.spans.over(lease, AttemptOutcome::Lost, None);
            self.let_go(lease);
        }
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
        let began = args.store().decide(vec![Command::BeginLeader]).await?;
        let [Outcome::Leading(epoch)] = began[..] else { return Err("the store did not let this master lead".into()) };
        let mut state = DispatcherState {
            scheduler: Scheduler::new(epoch, args.tunables.get().scheduler.clone()),
            tunables: Arc::default(),
            args,
            myself,
            epoch,
            started_at: Instant::now(),
            peers: Peers::default(),
            fetches: Fetches::default(),
            in_hand: BTreeMap::new(),
            recording: Recording::default(),
            pending_ends: BTreeMap::new(),
            ending: BTreeMap::new(),
            fresh: BTreeMap::new(),
            opening: BTreeMap::new(),
            chores: Chores::default(),
            leased: BTreeMap::new(),
            offered: BTreeMap::new(),
            counted: AttemptCounts::default(),
            progress: BTreeMap::new(),
            deaths: BTreeMap::new(),
            spans: JobSpans::default(),
            timer: None,
            effects: Vec::new(),
            cancelled_as: AttemptOutcome::Stopped,
        };
        state.args.metrics.starts.inc();
        state.follow_tunables();
        state.take_over()?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<DispatcherMessage>,
        message: DispatcherMessage,
        state: &mut DispatcherState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DispatcherMessage::Submitted(jobs) => state.submitted(jobs),
            DispatcherMessage::Opened(job, opened) => {
                state.opened(job, opened);
                state.serve_next();
            }
            DispatcherMessage::Recorded(shard, outcome) => state.recorded(*shard, outcome),
            DispatcherMessage::Concluded(job, outcome) => state.concluded(job, outcome),
            DispatcherMessage::ChoresDone { forgotten, more } => state.chores_done(&forgotten, more),
            DispatcherMessage::TunablesChanged => state.follow_tunables(),
            DispatcherMessage::Tick => state.do_chores(),
            DispatcherMessage::Explain(job, reply) => {
                // A caller that is gone has no use for the answer.
                let _ = reply.send(state.scheduler.explain(job));
            }
            DispatcherMessage::Cancel(job) => state.cancel(job),
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
            DispatcherMessage::OutputStored { worker, lease, busy_us, output, stored } => {
                state.stored(worker, lease, busy_us, output, stored);
            }
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
            // A durable job goes on with the next master; who waits for it here hears that this one stops.
            if !state.args.store().is_durable() {
                entry.become_state(JobState::Cancelled, Some(stopped()));
            }
            entry.results.finish_error(stopped());
        }
        Ok(())
    }
}

fn stopped() -> ServiceError {
    ServiceError {
        kind: ErrorKind::Unreachable,
        code: "master_stopped".into(),
        message: "the master stopped before the job was done; a durable job goes on when it is started again".into(),
        place: None,
        retry_after_s: None,
    }
}

/// How long the timer sleeps until `at`.
fn until(now: Millis, at: Millis) -> Duration {
    Duration::from_millis(at.saturating_sub(now))
}
