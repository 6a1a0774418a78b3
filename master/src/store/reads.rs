//! What the store knows, read without waiting for anybody.

use super::record::{
    JobRecord, META_KEY, Meta, OutputRecord, Progress, ResultHead, ScheduleRecord, ShardRecord, Table, TokenRecord,
    decode, job_key, last_number, pair_key,
};
use super::{Opened, Store, StoreError};
use crate::store::kv::Kv;
use bytes::Bytes;
use quipu_shared::ids::{JobId, ScheduleId, TokenId};
use serde::de::DeserializeOwned;

/// A key above every number.
const ABOVE_ALL: [u8; 9] = [0xff; 9];

/// Everything that can be asked of committed state.
pub trait Reads {
    /// The tables.
    fn kv(&self) -> &dyn Kv;

    /// The store's head; none before the first command.
    ///
    /// # Errors
    /// Where it can't be read.
    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        read(self.kv(), Table::Meta, META_KEY)
    }

    /// A job.
    ///
    /// # Errors
    /// Where it can't be read.
    fn job(&self, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        read(self.kv(), Table::Jobs, &job_key(job))
    }

    /// A job's spec as JSON.
    ///
    /// # Errors
    /// Where it can't be read.
    fn spec(&self, job: JobId) -> Result<Option<Bytes>, StoreError> {
        self.kv().get(Table::Specs, &job_key(job))
    }

    /// What is done of a job that has not ended.
    ///
    /// # Errors
    /// Where it can't be read.
    fn progress(&self, job: JobId) -> Result<Progress, StoreError> {
        Ok(read(self.kv(), Table::Progress, &job_key(job))?.unwrap_or_default())
    }

    /// How a job's results begin and end.
    ///
    /// # Errors
    /// Where it can't be read.
    fn result(&self, job: JobId) -> Result<Option<ResultHead>, StoreError> {
        read(self.kv(), Table::Results, &job_key(job))
    }

    /// The output of the shard that begins at a row.
    ///
    /// # Errors
    /// Where it can't be read.
    fn output(&self, job: JobId, first_row: u64) -> Result<Option<OutputRecord>, StoreError> {
        let record: Option<ShardRecord> = read(self.kv(), Table::Shards, &pair_key(job, first_row))?;
        Ok(record.map(|record| record.output))
    }

    /// A job's recorded shards with their first rows, in row order; `each` gives false to end.
    ///
    /// # Errors
    /// Where they can't be read.
    fn shards(&self, job: JobId, each: &mut dyn FnMut(u64, ShardRecord) -> bool) -> Result<(), StoreError> {
        let (from, to) = (pair_key(job, 0), job_key(JobId(job.0 + 1)));
        self.kv().scan(Table::Shards, &from, &to, &mut |key, value| {
            Ok(each(last_number(key), decode(Table::Shards, value)?))
        })
    }

    /// Every job, oldest first; `each` gives false to end.
    ///
    /// # Errors
    /// Where they can't be read.
    fn jobs(&self, each: &mut dyn FnMut(JobId, JobRecord) -> bool) -> Result<(), StoreError> {
        self.kv().scan(Table::Jobs, &[], &ABOVE_ALL, &mut |key, value| {
            Ok(each(JobId(last_number(key)), decode(Table::Jobs, value)?))
        })
    }

    /// Jobs that others are noted to wait for.
    ///
    /// # Errors
    /// Where they can't be read.
    fn waited_for(&self) -> Result<Vec<JobId>, StoreError> {
        let mut jobs = Vec::new();
        self.kv().scan(Table::Waits, &[], &ABOVE_ALL, &mut |key, _| {
            let job = JobId(last_number(&key[..key.len().min(8)]));
            if jobs.last() != Some(&job) {
                jobs.push(job);
            }
            Ok(true)
        })?;
        Ok(jobs)
    }

    /// A schedule.
    ///
    /// # Errors
    /// Where it can't be read.
    fn schedule(&self, schedule: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        read(self.kv(), Table::Schedules, &schedule.0.to_be_bytes())
    }

    /// Every schedule.
    ///
    /// # Errors
    /// Where they can't be read.
    fn schedules(&self) -> Result<Vec<(ScheduleId, ScheduleRecord)>, StoreError> {
        let mut schedules = Vec::new();
        self.kv().scan(Table::Schedules, &[], &ABOVE_ALL, &mut |key, value| {
            schedules.push((ScheduleId(last_number(key)), decode(Table::Schedules, value)?));
            Ok(true)
        })?;
        Ok(schedules)
    }

    /// Every token.
    ///
    /// # Errors
    /// Where they can't be read.
    fn tokens(&self) -> Result<Vec<(TokenId, TokenRecord)>, StoreError> {
        let mut tokens = Vec::new();
        self.kv().scan(Table::Tokens, &[], &ABOVE_ALL, &mut |key, value| {
            tokens.push((TokenId(last_number(key)), decode(Table::Tokens, value)?));
            Ok(true)
        })?;
        Ok(tokens)
    }
}

fn read<T: DeserializeOwned>(kv: &dyn Kv, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
    kv.get(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
}

impl Reads for Store {
    fn kv(&self) -> &dyn Kv {
        &*self.kv
    }
}

impl Reads for Opened {
    fn kv(&self) -> &dyn Kv {
        &*self.kv
    }
}
