//! The durable side: records are proposed in order, committed in groups after a while, and lost if the master crashes
//! in between. It knows nothing of the scheduler; it refuses, loudly, what may never be durable. Every committed record
//! goes through the law of the real store too, which must agree.

use crate::scheduler::{Done, JobOutcome, JobPlan, RowRange};
use crate::store::apply::Applier;
use crate::store::command::{Command, Completion, Conclusion, Outcome};
use crate::store::kv::{Draft, Kv, MemoryKv};
use crate::store::record::{Meta, OutputRecord, Progress, Table, decode, job_key};
use crate::store::tests::new_job;
use quipu_shared::block::RowError;
use quipu_shared::ids::{Epoch, JobId, ShardId};
use quipu_shared::service::JobState;
use std::collections::{BTreeMap, VecDeque};

/// What the shell makes durable.
#[derive(Clone, Debug)]
pub enum Record {
    Submitted { job: JobId, plan: JobPlan },
    Completed { job: JobId, shard: ShardId, first_row: u64, rows: u64, failed_row: Option<u64> },
    Ended { job: JobId, outcome: JobOutcome },
}

/// A job as a new master finds it.
#[derive(Clone, Debug)]
pub struct DurableJob {
    pub plan: JobPlan,
    /// First row to (end, shard).
    pub ranges: BTreeMap<u64, (u64, ShardId)>,
    pub failed_row: Option<u64>,
    pub outcome: Option<JobOutcome>,
}

impl DurableJob {
    pub fn done(&self) -> Done {
        let range =
            |(&first_row, &(end_row, _)): (&u64, &(u64, ShardId))| RowRange { first_row, rows: end_row - first_row };
        Done {
            ranges: self.ranges.iter().map(range).collect(),
            shards: self.ranges.len() as u64,
            next_shard: self.ranges.values().map(|(_, shard)| shard.0 + 1).max().unwrap_or(0),
            failed_row: self.failed_row,
        }
    }

    pub fn overlaps(&self, first_row: u64, end_row: u64) -> bool {
        self.ranges.range(..end_row).next_back().is_some_and(|(_, &(end, _))| end > first_row)
    }
}

/// Records of all masters, and those of the present one that are not committed yet.
#[derive(Default)]
pub struct Store {
    jobs: BTreeMap<JobId, DurableJob>,
    pending: VecDeque<Record>,
    committed: u64,
    law: Law,
}

impl Store {
    /// Where the log ends, counting what is not committed.
    pub fn proposed(&self) -> u64 {
        self.committed + self.pending.len() as u64
    }

    /// Up to where the log is committed.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    pub fn propose(&mut self, record: Record) {
        self.pending.push_back(record);
    }

    pub fn is_submit_pending(&self, of: JobId) -> bool {
        self.pending.iter().any(|record| matches!(record, Record::Submitted { job, .. } if *job == of))
    }

    /// Makes everything before this position durable, and tells what that was.
    pub fn commit(&mut self, up_to: u64) -> Vec<Record> {
        let count = up_to.saturating_sub(self.committed).min(self.pending.len() as u64);
        let group: Vec<Record> = self.pending.drain(..count as usize).collect();
        self.committed += count;
        for record in &group {
            self.apply(record);
        }
        group
    }

    /// Loses what is proposed, but for so many records that became durable though nobody was told; tells how many are
    /// lost.
    pub fn crash(&mut self, durable: u64) -> usize {
        self.commit(self.committed + durable);
        let lost = self.pending.len();
        self.pending.clear();
        for (job, durable) in self.jobs.iter().filter(|(_, durable)| durable.outcome.is_none()) {
            self.law.check(*job, durable);
        }
        self.law.lead();
        lost
    }

    /// What a new master finds.
    pub fn recover(&self) -> &BTreeMap<JobId, DurableJob> {
        &self.jobs
    }

    fn apply(&mut self, record: &Record) {
        self.law.follow(record);
        match record {
            Record::Submitted { job, plan } => {
                let new = DurableJob { plan: plan.clone(), ranges: BTreeMap::new(), failed_row: None, outcome: None };
                let old = self.jobs.insert(*job, new);
                assert!(old.is_none(), "invariant job_is_durable_once: {record:?}");
            }
            Record::Completed { job, shard, first_row, rows, failed_row } => {
                let found = self.jobs.get_mut(job).filter(|job| job.outcome.is_none());
                let state = found.unwrap_or_else(|| panic!("invariant record_is_of_an_open_durable_job: {record:?}"));
                let end_row = first_row + rows;
                assert!(!state.overlaps(*first_row, end_row), "invariant row_is_durable_once: {record:?}");
                let mut ids = state.ranges.values();
                assert!(ids.all(|(_, used)| used != shard), "invariant durable_shard_id_is_used_once: {record:?}");
                state.ranges.insert(*first_row, (end_row, *shard));
                if let Some(row) = failed_row.filter(|_| state.plan.fail_fast) {
                    state.failed_row = Some(state.failed_row.map_or(row, |lowest| lowest.min(row)));
                }
            }
            Record::Ended { job, outcome } => {
                let found = self.jobs.get_mut(job).filter(|job| job.outcome.is_none());
                let state = found.unwrap_or_else(|| panic!("invariant job_ends_once_in_the_store: {record:?}"));
                state.outcome = Some(*outcome);
            }
        }
    }
}

/// The law of the real store, over tables in memory.
#[derive(Default)]
struct Law {
    tables: MemoryKv,
    meta: Meta,
    /// The store numbers jobs itself, and submits that were lost come again in another order.
    ids: BTreeMap<JobId, JobId>,
}

impl Law {
    fn decide(&mut self, command: Command) -> Outcome {
        let mut applier = Applier::new(Draft::new(&self.tables), self.meta);
        let outcome = applier.apply(command).expect("tables in memory can be read");
        let (writes, meta) = applier.finish();
        self.tables.commit(writes).expect("tables in memory can be written");
        self.meta = meta;
        outcome
    }

    fn lead(&mut self) {
        let outcome = self.decide(Command::BeginLeader);
        assert!(matches!(outcome, Outcome::Leading(_)), "invariant law_lets_lead: {outcome:?}");
    }

    fn follow(&mut self, record: &Record) {
        if self.meta.epoch == 0 {
            self.lead();
        }
        let epoch = Epoch(self.meta.epoch);
        let command = match record {
            Record::Submitted { .. } => Command::Submit(Box::new(new_job(None))),
            Record::Completed { job, shard, first_row, rows, failed_row } => Command::Complete(Box::new(Completion {
                job: self.ids[job],
                epoch,
                shard: *shard,
                first_row: *first_row,
                rows: *rows,
                failed: u64::from(failed_row.is_some()),
                errors: failed_row
                    .map(|row| RowError { row, code: String::new(), message: String::new() })
                    .into_iter()
                    .collect(),
                output: OutputRecord::None,
            })),
            Record::Ended { job, outcome } => Command::Conclude(Box::new(Conclusion {
                job: self.ids[job],
                epoch,
                state: match outcome {
                    JobOutcome::Succeeded => JobState::Succeeded,
                    JobOutcome::Cancelled => JobState::Cancelled,
                    JobOutcome::FailedRow { .. } | JobOutcome::Poisoned { .. } | JobOutcome::DeadlinePassed => {
                        JobState::Failed
                    }
                },
                error: None,
                now_ms: 0,
                only_row: None,
                result: None,
            })),
        };
        match (self.decide(command), record) {
            (Outcome::Accepted(id), Record::Submitted { job, .. }) => drop(self.ids.insert(*job, id)),
            (Outcome::Done, Record::Completed { .. } | Record::Ended { .. }) => {}
            (outcome, record) => panic!("invariant law_agrees: {outcome:?} for {record:?}"),
        }
    }

    /// What a new master would read of a job.
    fn check(&self, job: JobId, durable: &DurableJob) {
        let bytes = self.tables.get(Table::Progress, &job_key(self.ids[&job])).expect("readable");
        let progress: Progress =
            bytes.map(|bytes| decode(Table::Progress, &bytes).expect("a record")).unwrap_or_default();
        let done = durable.done();
        let rows: u64 = done.ranges.iter().map(|range| range.rows).sum();
        let failed_row = progress.errors.first().map(|error| error.row).filter(|_| durable.plan.fail_fast);
        assert_eq!(
            (progress.rows(), progress.shards, progress.next_shard, failed_row),
            (rows, done.shards, done.next_shard, done.failed_row),
            "invariant law_recovers_what_was_committed: job {job}"
        );
        for range in &done.ranges {
            let end_row = range.first_row + range.rows;
            assert!(
                progress.overlaps(range.first_row, end_row),
                "invariant law_recovers_what_was_committed: {range:?}"
            );
        }
    }
}
