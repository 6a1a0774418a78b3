//! What goes into the core and what comes out of it, and every limit that it obeys.

use quipu_shared::config::PlacementPolicy;
use quipu_shared::host::HostLoad;
use quipu_shared::ids::{JobId, NodeId, ShardId, WorkerId};
use quipu_shared::service::BreakerState;
use quipu_shared::wire::{HeldShard, Lease};
use std::sync::Arc;

/// Milliseconds on the caller's monotonic clock.
pub type Millis = u64;

/// Limits and tunables of the scheduler, each with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// How long a lease lives without news of it. Running attempts report each second, so ten reports in a row must
    /// be missing: a busy machine is not taken for a dead one.
    pub lease_ttl_ms: u64,
    /// How long a worker may leave the cancellation of an attempt unanswered before its connection is closed. It is
    /// the last resort against a credit that never comes back, and well above every pause that heals by itself.
    pub answer_ttl_ms: u64,
    /// Execution time that a shard is cut for: long enough to hide a round trip, short enough to spread and to lose.
    pub shard_target_ms: u64,
    /// Execution time below which a shard is not cut at the tail of a job: under it, the round trip dominates.
    pub shard_min_ms: u64,
    /// How much larger than the largest measured shard the next may be: one early measurement can be far off.
    pub shard_growth_max: u64,
    /// Deaths after which a shard is poison: low, because each one may have killed a worker.
    pub attempts_max: u32,
    /// Deaths after which a shard gets a worker for itself, so that the blame for the next death is certain and its
    /// neighbours (perhaps of other jobs) are out of harm. At most `attempts_max - 1` to have an effect.
    pub quarantine_deaths: u32,
    /// A shard is a straggler once it takes this many times what its size lets expect.
    pub straggler_factor: u64,
    /// No shard is a straggler before this: short shards vary a lot, and a duplicate costs a slot.
    pub straggler_min_ms: u64,
    /// First pause in leasing to a worker that rejected a shard; doubles with each further one.
    pub reject_backoff_ms: u64,
    /// Longest such pause.
    pub reject_backoff_max_ms: u64,
    /// First pause of a shard whose attempt failed: what was in its way (a file, memory) may be gone by then. Doubles
    /// with each death.
    pub retry_backoff_ms: u64,
    /// Longest such pause, before it is spread by half of itself either way.
    pub retry_backoff_max_ms: u64,
    /// Leases a worker may hold for each of its slots: one runs and one waits. More would only age in its queue.
    pub credits_per_slot_max: u32,
    /// Who gets a shard, of the workers that have room.
    pub placement: PlacementPolicy,
    /// A worker whose host is beyond one of these gets nothing while another can work.
    pub pressure: PressureLimits,
    /// Failures in a row, with nothing completed between them, after which a worker is quarantined. More than a few,
    /// because a lost link is one too; a worker that fails everything reaches any number at once.
    pub breaker_failures: u32,
    /// First time of quarantine, after which the worker gets one shard to prove itself. Doubles each time that it fails.
    pub breaker_open_ms: u64,
    /// Longest such time.
    pub breaker_open_max_ms: u64,
}

/// How much pressure of its host a worker may be under. What is just at the limit is not beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureLimits {
    /// Percent of the time in which something waited for a processor. All workers of a host at its limit share its
    /// fate, and a host that is merely full still gets work done, so this is high.
    pub cpu_max: u8,
    /// Percent of the time in which something waited for memory: a host that thrashes does little else.
    pub memory_max: u8,
    /// Memory that is to be had without swapping; below it the next shard may cost the process its life.
    pub memory_available_min_bytes: u64,
}

impl PressureLimits {
    /// Whether a host is beyond any of them.
    pub fn exceeded_by(&self, host: &HostLoad) -> bool {
        host.cpu_pressure > self.cpu_max
            || host.memory_pressure > self.memory_max
            || host.memory_available_bytes.is_some_and(|bytes| bytes < self.memory_available_min_bytes)
    }
}

impl Default for PressureLimits {
    fn default() -> Self {
        Self { cpu_max: 95, memory_max: 40, memory_available_min_bytes: 128 << 20 }
    }
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 10_000,
            answer_ttl_ms: 60_000,
            shard_target_ms: 100,
            shard_min_ms: 20,
            shard_growth_max: 4,
            attempts_max: 4,
            quarantine_deaths: 2,
            straggler_factor: 4,
            straggler_min_ms: 1_000,
            reject_backoff_ms: 20,
            reject_backoff_max_ms: 1_000,
            retry_backoff_ms: 50,
            retry_backoff_max_ms: 2_000,
            credits_per_slot_max: 2,
            placement: PlacementPolicy::LeastLoaded,
            pressure: PressureLimits::default(),
            breaker_failures: 5,
            breaker_open_ms: 5_000,
            breaker_open_max_ms: 120_000,
        }
    }
}

/// What the scheduler needs to know of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPlan {
    /// Shard boundaries are multiples of this many rows (the last one excepted): 4,096, or 1 for `eval`.
    pub granule: u64,
    /// Rows that exist so far.
    pub rows_known: u64,
    /// Whether there will be no more than these.
    pub rows_final: bool,
    /// Rows of a worker's first shards of this job, before its rate is measured.
    pub initial_rows: u64,
    /// Rows of the largest shard, a multiple of the granule: bounds what one shard reads and gives.
    pub shard_rows_max: u64,
    /// Whether the lowest failing row ends the job (`--on-error fail`).
    pub fail_fast: bool,
    /// When the job's time is over.
    pub deadline_at: Option<Millis>,
    /// The window to begin with, as in [`Event::WindowMoved`].
    pub up_to_row: u64,
    /// Jobs of a higher priority are leased first, those of one priority get equal shares.
    pub priority: i8,
    /// Equal for jobs whose workers have something to gain from the same formula: by it, a worker is chosen under
    /// [`PlacementPolicy::ConsistentHash`].
    pub affinity: u64,
    /// Whose rate the job's rows count against, as in [`Event::GroupRateChanged`].
    pub group: Option<Arc<str>>,
}

/// What the scheduler needs to know of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerFacts {
    /// Its node, which stays the same over its connections.
    pub node: NodeId,
    /// Its executors.
    pub slots: u32,
    /// Shards that it will hold at once.
    pub credits: u32,
    /// Where it stands.
    pub zone: String,
    /// Its share, under [`PlacementPolicy::Weighted`].
    pub weight: u32,
}

/// What is durably done of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows, as disjoint ranges in any order.
    pub ranges: Vec<RowRange>,
    /// How many shards made them.
    pub shards: u64,
    /// The first shard id that was never used.
    pub next_shard: u64,
    /// The lowest failed row that is recorded.
    pub failed_row: Option<u64>,
}

/// A range of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// The first one.
    pub first_row: u64,
    /// How many.
    pub rows: u64,
}

/// What happened. Every event may come late, twice, out of order or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A job was accepted.
    JobSubmitted {
        /// Its id; never used before.
        job: JobId,
        /// What to schedule.
        plan: JobPlan,
    },
    /// A job that had not ended was found in the store after a restart; the rows that are not done are cut again.
    JobRecovered {
        /// Its id.
        job: JobId,
        /// What to schedule.
        plan: JobPlan,
        /// What is recorded.
        done: Done,
    },
    /// A streamed input has grown.
    RowsKnown {
        /// The job.
        job: JobId,
        /// Rows that exist now.
        rows: u64,
        /// Whether these are all.
        last: bool,
    },
    /// Back-pressure: no shard that ends beyond this row may be leased, but for the lowest unfinished one.
    WindowMoved {
        /// The job.
        job: JobId,
        /// The bound; `u64::MAX` for none.
        up_to_row: u64,
    },
    /// The job is no longer wanted.
    JobCancelled {
        /// The job.
        job: JobId,
    },
    /// A worker said hello and was welcomed.
    WorkerJoined {
        /// This connection of it.
        worker: WorkerId,
        /// Who it is.
        facts: WorkerFacts,
        /// What it runs or has finished under leases of older epochs of this store. Each is adopted, or ended.
        held: Vec<HeldShard>,
    },
    /// Its connection is gone, for whatever reason.
    WorkerLost {
        /// Which one.
        worker: WorkerId,
    },
    /// The worker takes nothing new and leaves when it is done.
    WorkerDraining {
        /// Which one.
        worker: WorkerId,
        /// Leases that it has not begun and hands back.
        returned: Vec<Lease>,
    },
    /// The worker has the attempt, running or queued.
    ShardAccepted {
        /// Who.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
    },
    /// The worker does not have the attempt: no credit, draining, unknown, or stopped as it was told to.
    ShardRejected {
        /// Who.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
    },
    /// The attempt runs.
    ShardProgressed {
        /// Who.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
        /// How far it is.
        rows_done: u64,
    },
    /// The attempt has a result, and the shell has it in hand (or [`super::Scheduler::wants`] said that it is not
    /// needed).
    ShardCompleted {
        /// Who.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
        /// Execution time, for the rate.
        busy_us: u64,
        /// Its lowest failed row, if any row failed.
        failed_row: Option<u64>,
    },
    /// The attempt died: its executor panicked, or its input went away.
    ShardFailed {
        /// Who.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
    },
    /// The worker says how its host does.
    HostReported {
        /// Who.
        worker: WorkerId,
        /// How.
        host: HostLoad,
    },
    /// What the jobs of a group may be leased together.
    GroupRateChanged {
        /// Which one.
        group: Arc<str>,
        /// Rows a second; none for as many as there are.
        rows_per_s: Option<u64>,
    },
    /// The tunables are others from now on; what was leased stays leased.
    ConfigChanged {
        /// All of them.
        config: Box<SchedulerConfig>,
    },
    /// The time of the latest [`Effect::ArmTimer`] has come. Early or superfluous ones do no harm.
    TimerFired,
}

/// What is to be done about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append durably; comes before the acknowledgement, and nothing after it may happen unless it succeeds.
    RecordCompletion {
        /// The job.
        job: JobId,
        /// Its shard.
        shard: ShardId,
        /// The attempt whose output it is.
        lease: Lease,
        /// First row of the shard.
        first_row: u64,
        /// Rows of the shard.
        rows: u64,
    },
    /// Tell the worker that the output may go.
    AcknowledgeShard {
        /// Who.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
    },
    /// Send a shard.
    LeaseShard {
        /// To whom.
        worker: WorkerId,
        /// The right to it.
        lease: Lease,
        /// First row.
        first_row: u64,
        /// Number of rows.
        rows: u64,
        /// Whether another attempt still runs.
        speculative: bool,
    },
    /// Tell the worker that what it holds under an older lease goes on under a new one. Comes before any other effect
    /// for that lease.
    AdoptShard {
        /// Who.
        worker: WorkerId,
        /// As the worker knows it.
        held: Lease,
        /// As it is called from now on.
        lease: Lease,
        /// First row.
        first_row: u64,
        /// Number of rows.
        rows: u64,
    },
    /// Tell the worker to stop an attempt. It answers with [`Event::ShardCompleted`] if it has (had) the output, else
    /// with [`Event::ShardRejected`], also for an attempt that it never heard of: the answer frees the credit.
    CancelAttempt {
        /// Who.
        worker: WorkerId,
        /// Which attempt.
        lease: Lease,
    },
    /// Close the connection of a worker that does not answer; to the scheduler it is lost already.
    CloseWorker {
        /// Which one.
        worker: WorkerId,
    },
    /// Let people know that a worker is in quarantine, is being tried, or is out of it.
    ShowBreaker {
        /// Which one.
        worker: WorkerId,
        /// Where it stands now.
        state: BreakerState,
        /// How long it gets nothing, where it is in quarantine.
        open_ms: Millis,
    },
    /// The job has ended; its last effect.
    EndJob {
        /// Which one.
        job: JobId,
        /// How.
        outcome: JobOutcome,
    },
    /// Send [`Event::TimerFired`] at this time; replaces the earlier one.
    ArmTimer(Millis),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// Every row is done.
    Succeeded,
    /// A row failed, and every row below it is done: always the lowest failing row.
    FailedRow {
        /// The row.
        row: u64,
    },
    /// A shard died too often.
    Poisoned {
        /// Which one.
        shard: ShardId,
        /// Its first row.
        first_row: u64,
        /// Its number of rows.
        rows: u64,
        /// How often it died.
        attempts: u32,
    },
    /// Its time was over first.
    DeadlinePassed,
    /// On request.
    Cancelled,
}
