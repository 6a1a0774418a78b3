//! What master and worker say to each other, over the link or within a process.
//!
//! Commands are imperative, events past tense. Every message is a value: bytes that do not decode are counted and
//! dropped by the receiver, and never end its actor.

use crate::formula::FormulaLimits;
use crate::host::HostLoad;
use crate::ids::{AttemptId, Epoch, Generation, JobId, NodeId, ShardId};
use crate::spec::JobSpec;
use crate::telemetry::TraceParent;
use bytes::Bytes;
use ractor::BytesConvertable;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// Largest output that travels inside [`WorkerEvent::ShardCompleted`]; larger ones are pulled in chunks.
pub const INLINE_BYTES_MAX: usize = 256 * 1024;
/// Size of a pulled chunk of input or output.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks of one transfer under way at once.
pub const CHUNKS_IN_FLIGHT: usize = 2;

/// Carries any serde value as postcard; what does not decode is an error value, not a panic.
#[derive(Debug, Clone)]
pub struct Wire<T>(pub Result<T, String>);

impl<T> Wire<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(Ok(value))
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> BytesConvertable for Wire<T> {
    fn into_bytes(self) -> Vec<u8> {
        self.0.ok().and_then(|value| postcard::to_stdvec(&value).ok()).unwrap_or_default()
    }
    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(postcard::from_bytes(&bytes).map_err(|error| error.to_string()))
    }
}

/// Who a worker is; sent first on every connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The worker's node.
    pub node_id: NodeId,
    /// Its incarnation.
    pub generation: Generation,
    /// Names this process's start; part of its node name on the link.
    pub boot_id: uuid::Uuid,
    /// Executors.
    pub slots: u32,
    /// Shards that it will hold at once.
    pub credits: u32,
    /// Where it stands, for people and placement.
    pub zone: String,
    /// Its share, where the master places by weight.
    pub weight: u32,
    /// Version of the product.
    pub version: String,
    /// [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// [`crate::NUMERICS_VERSION`].
    pub numerics: u32,
    /// The store of the master that leased what is held; none before the first welcome.
    pub store: Option<uuid::Uuid>,
    /// Attempts that run here, or have finished and were not acknowledged.
    pub held: Vec<HeldShard>,
}

/// An attempt that a worker has, and may offer to a master that was started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldShard {
    /// As it was granted.
    pub lease: Lease,
    /// First row of the shard.
    pub first_row: u64,
    /// Rows of the shard.
    pub rows: u64,
}

/// The right of one worker to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Term of the master that granted it.
    pub epoch: Epoch,
    /// The job.
    pub job: JobId,
    /// Its shard.
    pub shard: ShardId,
    /// This attempt.
    pub attempt: AttemptId,
}

/// From master to worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WorkerCommand {
    /// Answer to [`Hello`]: the worker is in the schedule.
    Welcome {
        /// Term of this master; commands of older terms are refused from now on.
        epoch: Epoch,
        /// How long a lease lives without progress.
        lease_ttl_ms: u64,
        /// The store of this master: what was leased under an older epoch of the same store may be adopted.
        store: uuid::Uuid,
    },
    /// What the worker holds under a lease of an older epoch is wanted: it goes on under this one.
    AdoptShard {
        /// As the worker announced it in [`Hello`].
        held: Lease,
        /// Its name from now on.
        lease: Lease,
    },
    /// Answer to [`Hello`]: the worker is not taken, for a reason that names both versions.
    Refuse {
        /// For people.
        reason: String,
    },
    /// Announces a job before its first shard on this connection.
    OpenJob {
        /// The job.
        job: JobId,
        /// Its spec; `formulas` of an `eval` are left out and come with each shard.
        spec: Arc<JobSpec>,
        /// Limits on its formulas, as the master has them.
        limits: FormulaLimits,
        /// W3C trace context of the client's command.
        traceparent: Option<String>,
    },
    /// The job has ended: forget it, and stop what still runs of it.
    CloseJob {
        /// The job.
        job: JobId,
    },
    /// Execute a shard.
    LeaseShard {
        /// The right to it.
        lease: Lease,
        /// First row.
        first_row: u64,
        /// Number of rows.
        rows: u64,
        /// Where its rows come from.
        input: ShardInput,
        /// Time left until the job's deadline.
        deadline_ms: Option<u64>,
        /// The span of the lease, where it is exported.
        trace: Option<TraceParent>,
    },
    /// Stop an attempt: another one won, or the lease has ended.
    CancelAttempt {
        /// Which one.
        lease: Lease,
    },
    /// The completion is recorded (or not wanted): its output may go.
    AcknowledgeShard {
        /// Which one.
        lease: Lease,
    },
    /// Send a chunk of a completed shard's output.
    FetchOutput {
        /// Which shard.
        lease: Lease,
        /// Byte offset.
        offset: u64,
    },
    /// A chunk of a shard's input, as asked for by [`WorkerEvent::InputWanted`].
    DeliverInput {
        /// Which attempt.
        lease: Lease,
        /// Byte offset within the shard's input.
        offset: u64,
        /// The bytes; empty where the master no longer has them.
        bytes: Bytes,
    },
    /// Take nothing new, finish, leave.
    DrainWorker,
}

/// Where a shard's rows come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ShardInput {
    /// From the spec alone (sweep, sample).
    Generated,
    /// Formulas of an `eval`, in order.
    Formulas(Vec<String>),
    /// A byte range of a file that the worker can open.
    File {
        /// Absolute path.
        path: String,
        /// First byte of the first record.
        offset: u64,
        /// Bytes up to the end of the last record.
        len: u64,
    },
    /// Bytes that the worker pulls from the master.
    Pulled {
        /// How many.
        len: u64,
    },
}

/// From worker to master.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WorkerEvent {
    /// First message of a connection.
    Joined(Hello),
    /// The attempt was started or queued.
    ShardAccepted(Lease),
    /// The worker has no credit for it, or drains.
    ShardRejected {
        /// Which one.
        lease: Lease,
        /// For people.
        reason: String,
    },
    /// Sent each second for each running attempt; renews its lease.
    ShardProgressed {
        /// Which one.
        lease: Lease,
        /// Rows done so far.
        rows_done: u64,
    },
    /// The attempt has a result.
    ShardCompleted {
        /// Which one.
        lease: Lease,
        /// Execution time, for the worker's rate.
        busy_us: u64,
        /// What came out.
        output: ShardOutput,
    },
    /// The attempt died (its executor panicked, its input went away); the shard is to run again.
    ShardFailed {
        /// Which one.
        lease: Lease,
        /// For people and logs.
        reason: String,
    },
    /// Asks for a chunk of input.
    InputWanted {
        /// Which attempt.
        lease: Lease,
        /// Byte offset within the shard's input.
        offset: u64,
    },
    /// A chunk of output, as asked for by [`WorkerCommand::FetchOutput`].
    OutputDelivered {
        /// Which shard.
        lease: Lease,
        /// Byte offset.
        offset: u64,
        /// The bytes; empty where the worker no longer has them.
        bytes: Bytes,
    },
    /// How the worker's host does; sent each second.
    HostReported(HostLoad),
    /// The worker has begun to drain: what it was leased and has not begun comes back.
    DrainStarted {
        /// Handed back.
        returned: Vec<Lease>,
    },
}

/// Who evaluates formulas: the values are the same, the speed is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EvalTier {
    /// evalexpr, row by row.
    #[default]
    Evalexpr,
    /// The vectorised interpreter.
    Interpreter,
    /// Machine code.
    Jit,
}

impl EvalTier {
    /// Every tier, the slowest first.
    pub const ALL: [Self; 3] = [Self::Evalexpr, Self::Interpreter, Self::Jit];

    /// As users and metrics know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evalexpr => "evalexpr",
            Self::Interpreter => "interpreter",
            Self::Jit => "jit",
        }
    }
}

/// The result of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardOutput {
    /// Who evaluated most of its rows.
    pub tier: EvalTier,
    /// Rows that were evaluated.
    pub rows: u64,
    /// Rows that failed.
    pub failed: u64,
    /// The first failed rows, in row order; at most [`ERRORS_KEPT_MAX`].
    pub errors: Vec<crate::block::RowError>,
    /// Rows or partials.
    pub payload: Payload,
}

/// Failed rows that a shard and a job keep in full.
pub const ERRORS_KEPT_MAX: usize = 10;

/// What a shard made: rendered rows, or the postcard form of a reducer set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Payload {
    /// The bytes themselves.
    Inline(Bytes),
    /// The worker holds them until acknowledged.
    Ready {
        /// How many.
        len: u64,
        /// BLAKE3 of them.
        digest: [u8; 32],
    },
}
