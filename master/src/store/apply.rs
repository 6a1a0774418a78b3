//! The law of the store: what a command does to it. State and command alone decide, so that every replay of the same
//! commands gives the same state: no clock, no randomness, no unordered maps.
//!
//! ```text
//!   Submit ----> scheduled --Release--> waiting --Conclude of others--> queued --Conclude--> succeeded, failed, cancelled
//!                    ^                                                   |
//!                    +---------------------- Postpone -------------------+
//! ```

use super::StoreError;
use super::command::{Command, Completion, Conclusion, NewJob, Outcome};
use super::kv::Draft;
use super::record::{
    ErrorRecord, JobRecord, KeyRecord, META_KEY, Meta, OutputRecord, Progress, ScheduleRecord, ShardRecord, Table,
    decode, encode, job_key, last_number, pair_key,
};
use bytes::Bytes;
use quipu_shared::block::RowError;
use quipu_shared::ids::{Epoch, JobId, ScheduleId, TokenId};
use quipu_shared::reduce::ReducerSet;
use quipu_shared::service::{ErrorKind, JobState, ScheduleChange};
use quipu_shared::spec::DependencyEnd;
use quipu_shared::wire::ERRORS_KEPT_MAX;
use serde::de::DeserializeOwned;

/// Shards of a job with reductions whose partials wait to be merged: merging each at once would write the whole set
/// anew with each.
const LOOSE_MAX: u32 = 64;

/// Applies commands to a draft and notes what changes.
pub struct Applier<'a> {
    draft: Draft<'a>,
    meta: Meta,
    /// Jobs that are not what they were; those that are gone have no record.
    pub changed: Vec<(JobId, Option<JobRecord>)>,
    /// Jobs that failed with another one, and whose dependents are to be settled by a command of its own: a chain of
    /// jobs may be long.
    pub to_settle: Vec<JobId>,
    /// Whether a schedule is not what it was.
    pub schedules_changed: bool,
}

impl<'a> Applier<'a> {
    /// Over a state whose head is `meta`.
    pub fn new(draft: Draft<'a>, meta: Meta) -> Self {
        Self { draft, meta, changed: Vec::new(), to_settle: Vec::new(), schedules_changed: false }
    }

    /// Applies the next command.
    ///
    /// # Errors
    /// Where the state can't be read, or is not what it can be. The draft is worth nothing then.
    pub fn apply(&mut self, command: Command) -> Result<Outcome, StoreError> {
        self.meta.last_applied += 1;
        match command {
            Command::BeginLeader => {
                self.meta.epoch = self.meta.last_applied;
                Ok(Outcome::Leading(Epoch(self.meta.epoch)))
            }
            Command::Submit(job) => self.submit(*job),
            Command::Complete(completion) => self.complete(*completion),
            Command::Conclude(conclusion) => self.conclude(*conclusion),
            Command::Postpone { job, epoch, not_before_ms, error } => self.postpone(job, epoch, not_before_ms, error),
            Command::Settle { job, now_ms } => {
                let succeeded = self.job(job)?.is_none_or(|record| record.state == JobState::Succeeded);
                self.settle(job, succeeded, now_ms)?;
                Ok(Outcome::Done)
            }
            Command::Release { job, now_ms } => self.release(job, now_ms),
            Command::Forget { job } => self.forget(job),
            Command::AddSchedule { spec, key, now_ms } => self.add_schedule(spec, key, now_ms),
            Command::ChangeSchedule { schedule, change } => self.change_schedule(schedule, change),
            Command::SkipRuns { schedule, up_to_ms, runs } => self.skip_runs(schedule, up_to_ms, runs),
            Command::AddToken(record) => {
                self.meta.last_token += 1;
                let token = TokenId(self.meta.last_token);
                self.draft.put(Table::Tokens, &token.0.to_be_bytes(), encode(&*record));
                Ok(Outcome::TokenAdded(token))
            }
            Command::RevokeToken(token) => {
                let key = token.0.to_be_bytes();
                let known = self.draft.get(Table::Tokens, &key)?.is_some();
                self.draft.remove(Table::Tokens, &key);
                Ok(if known { Outcome::Done } else { Outcome::Unknown })
            }
        }
    }

    /// What is to be committed, and the new head.
    pub fn finish(mut self) -> (super::kv::Writes, Meta) {
        self.draft.put(Table::Meta, META_KEY, encode(&self.meta));
        (self.draft.into_writes(), self.meta)
    }

    fn read<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.draft.get(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
    }

    fn job(&self, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.read(Table::Jobs, &job_key(job))
    }

    fn put_job(&mut self, job: JobId, record: JobRecord) {
        self.draft.put(Table::Jobs, &job_key(job), encode(&record));
        self.changed.push((job, Some(record)));
    }

    fn known(&self, key: &str, digest: [u8; 32]) -> Result<Option<Outcome>, StoreError> {
        let known: Option<KeyRecord> = self.read(Table::Keys, key.as_bytes())?;
        Ok(known.map(|known| match known.digest == digest {
            true => Outcome::Known(known.id),
            false => Outcome::KeyReused(known.id),
        }))
    }

    fn submit(&mut self, new: NewJob) -> Result<Outcome, StoreError> {
        if let Some(key) = &new.facts.idempotency_key
            && let Some(outcome) = self.known(key, new.digest)?
        {
            return Ok(outcome);
        }
        let job = JobId(self.meta.last_job + 1);
        if let (Some(schedule), Some(due_ms)) = (new.facts.schedule, new.due_ms) {
            let Some(mut record) = self.schedule(schedule)? else { return Ok(Outcome::Unknown) };
            if record.paused || due_ms <= record.decided_ms {
                return Ok(Outcome::Ignored);
            }
            record.decided_ms = due_ms;
            (record.last_at_ms, record.last_job) = (Some(due_ms), Some(job));
            record.runs += 1;
            self.put_schedule(schedule, &record);
        }
        let mut waits = Vec::new();
        let mut broken = None;
        for dependency in &new.facts.after {
            // Jobs of other namespaces are as good as not there.
            let other = self.job(dependency.job)?.filter(|other| other.fixed.namespace == new.facts.namespace);
            let Some(other) = other else { return Ok(Outcome::Unknown) };
            if !other.state.is_final() {
                let key = pair_key(dependency.job, 0);
                let waiting = self.draft.pairs(Table::Waits, &key, &job_key(JobId(dependency.job.0 + 1)))?;
                if waiting.len() >= new.dependents_max as usize {
                    return Ok(Outcome::TooManyDependents(dependency.job));
                }
                waits.push(dependency.job);
            } else if dependency.on == DependencyEnd::Success && other.state != JobState::Succeeded {
                broken = Some(dependency.job);
            }
        }
        self.meta.last_job = job.0;
        for other in &waits {
            self.draft.put(Table::Waits, &pair_key(*other, job.0), Bytes::new());
        }
        if let Some(key) = &new.facts.idempotency_key {
            self.draft.put(Table::Keys, key.as_bytes(), encode(&KeyRecord { id: job.0, digest: new.digest }));
        }
        if !new.spec.is_empty() {
            self.draft.put(Table::Specs, &job_key(job), new.spec);
        }
        let now_ms = new.facts.submitted_at_ms;
        let state = match (broken, new.not_before_ms) {
            (Some(_), _) => JobState::Failed,
            (None, Some(at_ms)) if at_ms > now_ms => JobState::Scheduled,
            (None, _) if !waits.is_empty() => JobState::Waiting,
            (None, _) => JobState::Queued,
        };
        let record = JobRecord {
            state,
            not_before_ms: new.not_before_ms,
            retries: 0,
            error: broken.map(dependency_failed),
            ended_at_ms: broken.map(|_| now_ms),
            rows_total: new.facts.rows_total,
            rows_done: 0,
            rows_failed: 0,
            row_errors: Vec::new(),
            shards_done: 0,
            fixed: new.facts,
        };
        self.put_job(job, record);
        Ok(Outcome::Accepted(job))
    }

    /// The record of a job that has not ended, for its leader.
    fn of_leader(&self, job: JobId, epoch: Epoch) -> Result<Result<JobRecord, Outcome>, StoreError> {
        Ok(match self.job(job)? {
            _ if epoch.0 != self.meta.epoch => Err(Outcome::Stale),
            None => Err(Outcome::Unknown),
            Some(record) if record.state.is_final() => Err(Outcome::Ignored),
            Some(record) => Ok(record),
        })
    }

    fn complete(&mut self, done: Completion) -> Result<Outcome, StoreError> {
        if let Err(refused) = self.of_leader(done.job, done.epoch)? {
            return Ok(refused);
        }
        let key = job_key(done.job);
        let mut progress: Progress = self.read(Table::Progress, &key)?.unwrap_or_default();
        let end_row = done.first_row.saturating_add(done.rows);
        if done.rows == 0 || progress.overlaps(done.first_row, end_row) {
            return Ok(Outcome::Ignored);
        }
        progress.add(done.first_row, end_row);
        progress.shards += 1;
        progress.next_shard = progress.next_shard.max(done.shard.0 + 1);
        progress.failed += done.failed;
        add_errors(&mut progress.errors, done.errors);
        if let OutputRecord::Spooled { offset, len, .. } = done.output {
            progress.spooled_bytes = progress.spooled_bytes.max(offset + len);
        }
        progress.loose += u32::from(matches!(done.output, OutputRecord::Partial(_)));
        if !matches!(done.output, OutputRecord::None) {
            let record = ShardRecord { shard: done.shard, rows: done.rows, output: done.output };
            self.draft.put(Table::Shards, &pair_key(done.job, done.first_row), encode(&record));
        }
        if progress.loose >= LOOSE_MAX {
            self.merge_loose(done.job, &mut progress)?;
        }
        self.draft.put(Table::Progress, &key, encode(&progress));
        Ok(Outcome::Done)
    }

    /// Merges the partials that wait for it. Merging is exact, so that its order is of no consequence.
    fn merge_loose(&mut self, job: JobId, progress: &mut Progress) -> Result<(), StoreError> {
        let shards = self.shards(job)?;
        let bad = |error: quipu_shared::reduce::ReduceError| StoreError::corrupt(Table::Shards, error.to_string());
        let mut merged = progress.partial.as_deref().map(ReducerSet::from_bytes).transpose().map_err(bad)?;
        for (key, record) in shards {
            let OutputRecord::Partial(bytes) = record.output else { continue };
            let partial = ReducerSet::from_bytes(&bytes).map_err(bad)?;
            match &mut merged {
                Some(merged) => merged.merge(partial).map_err(bad)?,
                None => merged = Some(partial),
            }
            self.draft.remove(Table::Shards, &key);
        }
        progress.partial = merged.map(|merged| merged.to_bytes().into());
        progress.loose = 0;
        Ok(())
    }

    fn shards(&self, job: JobId) -> Result<Vec<(Vec<u8>, ShardRecord)>, StoreError> {
        let pairs = self.draft.pairs(Table::Shards, &pair_key(job, 0), &job_key(JobId(job.0 + 1)))?;
        pairs.into_iter().map(|(key, bytes)| Ok((key, decode(Table::Shards, &bytes)?))).collect()
    }

    fn conclude(&mut self, end: Conclusion) -> Result<Outcome, StoreError> {
        let mut record = match self.of_leader(end.job, end.epoch)? {
            Ok(record) => record,
            Err(refused) => return Ok(refused),
        };
        let key = job_key(end.job);
        let progress: Progress = self.read(Table::Progress, &key)?.unwrap_or_default();
        if progress.loose > 0 || end.state != JobState::Succeeded {
            // The result stands in the conclusion, or there is none.
            for shard in self.draft.pairs(Table::Shards, &pair_key(end.job, 0), &job_key(JobId(end.job.0 + 1)))?.keys()
            {
                self.draft.remove(Table::Shards, shard);
            }
        }
        self.draft.remove(Table::Progress, &key);
        record.state = end.state;
        record.error = end.error;
        record.ended_at_ms = Some(end.now_ms);
        record.rows_done = progress.rows();
        record.shards_done = progress.shards;
        (record.rows_failed, record.row_errors) = match end.only_row {
            None => (progress.failed, progress.errors),
            Some(row) => (1, progress.errors.into_iter().filter(|error| error.row == row).collect()),
        };
        if end.state == JobState::Succeeded {
            record.rows_total = Some(record.rows_done);
        }
        if let Some(result) = end.result {
            self.draft.put(Table::Results, &key, encode(&result));
        }
        let succeeded = end.state == JobState::Succeeded;
        self.put_job(end.job, record);
        self.settle(end.job, succeeded, end.now_ms)?;
        Ok(Outcome::Done)
    }

    /// Jobs that waited for one that has ended go on, or fail with it.
    fn settle(&mut self, ended: JobId, succeeded: bool, now_ms: u64) -> Result<(), StoreError> {
        let waiting = self.draft.pairs(Table::Waits, &pair_key(ended, 0), &job_key(JobId(ended.0 + 1)))?;
        for key in waiting.keys() {
            self.draft.remove(Table::Waits, key);
            let waiter = JobId(last_number(key));
            let Some(mut record) = self.job(waiter)?.filter(|record| !record.state.is_final()) else { continue };
            let wants_success =
                record.fixed.after.iter().any(|other| other.job == ended && other.on == DependencyEnd::Success);
            if wants_success && !succeeded {
                record.state = JobState::Failed;
                record.error = Some(dependency_failed(ended));
                record.ended_at_ms = Some(now_ms);
                self.to_settle.push(waiter);
            } else if record.state == JobState::Waiting && !self.waits(&record)? {
                record.state = JobState::Queued;
            } else {
                continue;
            }
            self.put_job(waiter, record);
        }
        Ok(())
    }

    /// Whether a job waits for another one still.
    fn waits(&self, record: &JobRecord) -> Result<bool, StoreError> {
        for dependency in &record.fixed.after {
            // One that was forgotten has ended.
            if self.job(dependency.job)?.is_some_and(|other| !other.state.is_final()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn postpone(
        &mut self,
        job: JobId,
        epoch: Epoch,
        not_before_ms: u64,
        error: ErrorRecord,
    ) -> Result<Outcome, StoreError> {
        let mut record = match self.of_leader(job, epoch)? {
            Ok(record) => record,
            Err(refused) => return Ok(refused),
        };
        record.state = JobState::Scheduled;
        record.not_before_ms = Some(not_before_ms);
        record.retries += 1;
        record.error = Some(error);
        self.put_job(job, record);
        Ok(Outcome::Done)
    }

    fn release(&mut self, job: JobId, now_ms: u64) -> Result<Outcome, StoreError> {
        let Some(mut record) = self.job(job)? else { return Ok(Outcome::Unknown) };
        if record.state != JobState::Scheduled || record.not_before_ms.is_some_and(|at_ms| at_ms > now_ms) {
            return Ok(Outcome::Ignored);
        }
        record.state = if self.waits(&record)? { JobState::Waiting } else { JobState::Queued };
        self.put_job(job, record);
        Ok(Outcome::Done)
    }

    fn forget(&mut self, job: JobId) -> Result<Outcome, StoreError> {
        let Some(record) = self.job(job)? else { return Ok(Outcome::Unknown) };
        if !record.state.is_final() {
            return Ok(Outcome::NotEnded);
        }
        let key = job_key(job);
        for shard in self.draft.pairs(Table::Shards, &pair_key(job, 0), &job_key(JobId(job.0 + 1)))?.keys() {
            self.draft.remove(Table::Shards, shard);
        }
        for table in [Table::Jobs, Table::Specs, Table::Results] {
            self.draft.remove(table, &key);
        }
        if let Some(idempotency_key) = &record.fixed.idempotency_key {
            self.draft.remove(Table::Keys, idempotency_key.as_bytes());
        }
        for dependency in &record.fixed.after {
            self.draft.remove(Table::Waits, &pair_key(dependency.job, job.0));
        }
        self.changed.push((job, None));
        Ok(Outcome::Done)
    }

    fn schedule(&self, schedule: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        self.read(Table::Schedules, &schedule.0.to_be_bytes())
    }

    fn put_schedule(&mut self, schedule: ScheduleId, record: &ScheduleRecord) {
        self.draft.put(Table::Schedules, &schedule.0.to_be_bytes(), encode(record));
        self.schedules_changed = true;
    }

    fn add_schedule(
        &mut self,
        spec: Bytes,
        key: Option<(String, [u8; 32])>,
        now_ms: u64,
    ) -> Result<Outcome, StoreError> {
        if let Some((key, digest)) = &key
            && let Some(outcome) = self.known(key, *digest)?
        {
            return Ok(outcome);
        }
        self.meta.last_schedule += 1;
        let schedule = ScheduleId(self.meta.last_schedule);
        if let Some((key, digest)) = &key {
            self.draft.put(Table::Keys, key.as_bytes(), encode(&KeyRecord { id: schedule.0, digest: *digest }));
        }
        let record = ScheduleRecord {
            spec,
            created_at_ms: now_ms,
            paused: false,
            decided_ms: now_ms,
            last_at_ms: None,
            last_job: None,
            runs: 0,
            missed: 0,
            idempotency_key: key.map(|(key, _)| key),
        };
        self.put_schedule(schedule, &record);
        Ok(Outcome::Scheduled(schedule))
    }

    fn change_schedule(&mut self, schedule: ScheduleId, change: ScheduleChange) -> Result<Outcome, StoreError> {
        let Some(mut record) = self.schedule(schedule)? else { return Ok(Outcome::Unknown) };
        match change {
            ScheduleChange::Pause => record.paused = true,
            ScheduleChange::Resume => record.paused = false,
            ScheduleChange::Remove => {
                self.draft.remove(Table::Schedules, &schedule.0.to_be_bytes());
                if let Some(key) = &record.idempotency_key {
                    self.draft.remove(Table::Keys, key.as_bytes());
                }
                self.schedules_changed = true;
                return Ok(Outcome::Done);
            }
        }
        self.put_schedule(schedule, &record);
        Ok(Outcome::Done)
    }

    fn skip_runs(&mut self, schedule: ScheduleId, up_to_ms: u64, runs: u64) -> Result<Outcome, StoreError> {
        let Some(mut record) = self.schedule(schedule)? else { return Ok(Outcome::Unknown) };
        if up_to_ms <= record.decided_ms {
            return Ok(Outcome::Ignored);
        }
        record.decided_ms = up_to_ms;
        record.missed += runs;
        self.put_schedule(schedule, &record);
        Ok(Outcome::Done)
    }
}

/// Adds failed rows; the first ones are kept, in row order.
fn add_errors(errors: &mut Vec<RowError>, more: Vec<RowError>) {
    errors.extend(more);
    errors.sort_by_key(|error| error.row);
    errors.truncate(ERRORS_KEPT_MAX);
}

fn dependency_failed(job: JobId) -> ErrorRecord {
    ErrorRecord {
        kind: ErrorKind::Conflict,
        code: "dependency_failed".into(),
        message: format!("job {job}, which this one waited for, did not succeed"),
        place: None,
    }
}
