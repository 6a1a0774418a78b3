//! Commands: the only ways in which the store changes.

use super::record::{ErrorRecord, JobFacts, OutputRecord, TokenRecord};
use bytes::Bytes;
use quipu_shared::block::RowError;
use quipu_shared::ids::{Epoch, JobId, ScheduleId, ShardId, TokenId};
use quipu_shared::service::{JobState, ScheduleChange};

/// A change, complete in itself: no clock is read and no random number drawn while it is applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A master takes over: what older ones still propose is refused from here on.
    BeginLeader,
    /// Accept a job.
    Submit(Box<NewJob>),
    /// A shard is done.
    Complete(Box<Completion>),
    /// A job has come to its end.
    Conclude(Box<Conclusion>),
    /// A job ran into trouble that is not its own, and is tried again.
    Postpone {
        /// The job.
        job: JobId,
        /// Who says so.
        epoch: Epoch,
        /// Unix time before which it does not run.
        not_before_ms: u64,
        /// What the trouble was.
        error: ErrorRecord,
    },
    /// A job's time has come.
    Release {
        /// The job.
        job: JobId,
        /// Unix time.
        now_ms: u64,
    },
    /// Let the jobs that wait for an ended one go on, or fail with it.
    Settle {
        /// The ended job.
        job: JobId,
        /// Unix time.
        now_ms: u64,
    },
    /// Forget an ended job with all that it has.
    Forget {
        /// The job.
        job: JobId,
    },
    /// Accept a recurring job.
    AddSchedule {
        /// Its spec as JSON.
        spec: Bytes,
        /// The client's key and the digest of what was submitted.
        key: Option<(String, [u8; 32])>,
        /// Unix time.
        now_ms: u64,
    },
    /// Pause, resume or remove a schedule.
    ChangeSchedule {
        /// Which one.
        schedule: ScheduleId,
        /// How. One that goes on has missed the runs in between.
        change: ScheduleChange,
    },
    /// Make a token.
    AddToken(Box<TokenRecord>),
    /// Make a token worth nothing.
    RevokeToken(TokenId),
    /// Leave runs of a schedule out.
    SkipRuns {
        /// Which one.
        schedule: ScheduleId,
        /// Up to this time.
        up_to_ms: u64,
        /// How many these are.
        runs: u64,
    },
}

/// A job to be accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// What is fixed with it.
    pub facts: JobFacts,
    /// Unix time before which it does not run.
    pub not_before_ms: Option<u64>,
    /// Its spec as JSON; empty where the store is in memory, whose master keeps the spec itself.
    pub spec: Bytes,
    /// BLAKE3 of the spec: the same key with another one is refused.
    pub digest: [u8; 32],
    /// Where a schedule submits it: when the run was due.
    pub due_ms: Option<u64>,
    /// Largest number of jobs that may wait for one.
    pub dependents_max: u32,
}

/// A shard's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The job.
    pub job: JobId,
    /// The epoch of the master that granted the lease.
    pub epoch: Epoch,
    /// The shard.
    pub shard: ShardId,
    /// Its first row.
    pub first_row: u64,
    /// Its number of rows.
    pub rows: u64,
    /// Rows that failed.
    pub failed: u64,
    /// The first of them.
    pub errors: Vec<RowError>,
    /// What came out.
    pub output: OutputRecord,
}

/// A job's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The job.
    pub job: JobId,
    /// Who says so.
    pub epoch: Epoch,
    /// Its final state.
    pub state: JobState,
    /// Why it has no result.
    pub error: Option<ErrorRecord>,
    /// Unix time.
    pub now_ms: u64,
    /// Where only the lowest failed row is told of: that row.
    pub only_row: Option<u64>,
    /// Its result, where it succeeded.
    pub result: Option<super::record::ResultHead>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// A master leads under this epoch.
    Leading(Epoch),
    /// A job was accepted.
    Accepted(JobId),
    /// A schedule was accepted.
    Scheduled(ScheduleId),
    /// A token was made.
    TokenAdded(TokenId),
    /// The key was used for the same thing before.
    Known(u64),
    /// The key was used for something else.
    KeyReused(u64),
    /// It changes nothing: the job has ended, the shard is done, the run is decided.
    Ignored,
    /// It comes from a master that leads no more.
    Stale,
    /// There is no such job, schedule or token.
    Unknown,
    /// The job has not ended.
    NotEnded,
    /// Too many jobs wait for this one.
    TooManyDependents(JobId),
}
