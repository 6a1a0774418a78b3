//! What the store keeps, as it is written. These types are the store's own: a change to what travels on a wire changes
//! nothing here. Each record begins with the version of its form.

use super::StoreError;
use bytes::Bytes;
use quipu_shared::access::{AccessRole, Namespace};
use quipu_shared::block::RowError;
use quipu_shared::ids::{JobId, ScheduleId, ShardId};
use quipu_shared::service::{ErrorKind, JobState, Place, ServiceError};
use quipu_shared::spec::{Dependency, ResultFormat};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Form of the records. A store of another one is refused when it is opened.
pub const FORMAT_VERSION: u8 = 2;

/// A table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// One record under [`META_KEY`]: [`Meta`].
    Meta,
    /// [`JobRecord`] by job.
    Jobs,
    /// The spec as JSON, by job. JSON outlives changes of the spec's type.
    Specs,
    /// [`KeyRecord`] by idempotency key.
    Keys,
    /// [`Progress`] by job, from its first completed shard to its end.
    Progress,
    /// [`ShardRecord`] by job and first row.
    Shards,
    /// [`ResultHead`] by job.
    Results,
    /// Nothing, by job and a job that waits for it.
    Waits,
    /// [`ScheduleRecord`] by schedule.
    Schedules,
    /// [`TokenRecord`] by token.
    Tokens,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 10] = [
        Self::Meta,
        Self::Jobs,
        Self::Specs,
        Self::Keys,
        Self::Progress,
        Self::Shards,
        Self::Results,
        Self::Waits,
        Self::Schedules,
        Self::Tokens,
    ];

    /// Its name on the disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Jobs => "jobs",
            Self::Specs => "specs",
            Self::Keys => "keys",
            Self::Progress => "progress",
            Self::Shards => "shards",
            Self::Results => "results",
            Self::Waits => "waits",
            Self::Schedules => "schedules",
            Self::Tokens => "tokens",
        }
    }
}

/// The only key of [`Table::Meta`].
pub const META_KEY: &[u8] = b"meta";

/// Key of a job.
pub fn job_key(job: JobId) -> [u8; 8] {
    job.0.to_be_bytes()
}

/// Key of something of a job: a shard by its first row, or a job that waits for it.
pub fn pair_key(job: JobId, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&job.0.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

/// The number in the last eight bytes of a key.
pub fn last_number(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The store as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Names this store. A copy that goes its own way gets another one.
    pub id: uuid::Uuid,
    /// Number of the last command that was applied.
    pub last_applied: u64,
    /// Number of the command that the leading master began with.
    pub epoch: u64,
    /// The last job.
    pub last_job: u64,
    /// The last schedule.
    pub last_schedule: u64,
    /// The last token.
    pub last_token: u64,
}

/// A job, without its spec and its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Where it stands: never [`JobState::Running`], which is no durable fact.
    pub state: JobState,
    /// What is fixed when it is submitted.
    pub fixed: JobFacts,
    /// Unix time before which it does not run; moved when it is tried again.
    pub not_before_ms: Option<u64>,
    /// Times that it was tried again.
    pub retries: u32,
    /// How it ended, or why it is tried again.
    pub error: Option<ErrorRecord>,
    /// Unix time of its end.
    pub ended_at_ms: Option<u64>,
    /// Rows in all, once known.
    pub rows_total: Option<u64>,
    /// Rows done, at its end.
    pub rows_done: u64,
    /// Rows that failed, at its end.
    pub rows_failed: u64,
    /// The first of them, at its end.
    pub row_errors: Vec<RowError>,
    /// Shards done, at its end.
    pub shards_done: u64,
}

/// What is fixed when a job is submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobFacts {
    /// `eval`, `map`, `sweep` or `sample`.
    pub kind: String,
    /// The name given with it.
    pub name: Option<String>,
    /// The namespace that it belongs to.
    pub namespace: Namespace,
    /// The form of its results.
    pub format: ResultFormat,
    /// Unix time of its acceptance.
    pub submitted_at_ms: u64,
    /// Unix time of its deadline.
    pub deadline_at_ms: Option<u64>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Pairs given with it.
    pub labels: BTreeMap<String, String>,
    /// Jobs of a higher priority go first.
    pub priority: i8,
    /// What it waits for.
    pub after: Vec<Dependency>,
    /// Times that it may be tried again.
    pub retries_max: u32,
    /// How long it is kept after its end.
    pub retention_ms: Option<u64>,
    /// The key that it was submitted with.
    pub idempotency_key: Option<String>,
    /// Bytes of its spec.
    pub spec_bytes: u64,
    /// Rows in all, where that is known from the start.
    pub rows_total: Option<u64>,
    /// Digest of the upload that it reads.
    pub upload: Option<String>,
    /// The job whose spec it repeats.
    pub retry_of: Option<JobId>,
    /// The schedule that submitted it.
    pub schedule: Option<ScheduleId>,
}

/// What an idempotency key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The job, or the schedule.
    pub id: u64,
    /// BLAKE3 of what was submitted.
    pub digest: [u8; 32],
}

/// What is done of a job that has not ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Rows done, as disjoint ranges in row order, first row and end; ranges that touch are one.
    pub ranges: Vec<(u64, u64)>,
    /// Shards done.
    pub shards: u64,
    /// The first shard id that was never used.
    pub next_shard: u64,
    /// Rows that failed.
    pub failed: u64,
    /// The first of them, in row order.
    pub errors: Vec<RowError>,
    /// The merged partials of all shards but the loose ones.
    pub partial: Option<Bytes>,
    /// Shards whose partials are in [`Table::Shards`] still.
    pub loose: u32,
    /// Bytes of the results' file that are in use.
    pub spooled_bytes: u64,
}

impl Progress {
    /// Rows done.
    pub fn rows(&self) -> u64 {
        self.ranges.iter().map(|(first, end)| end - first).sum()
    }

    /// Whether any row of this range is done.
    pub fn overlaps(&self, first_row: u64, end_row: u64) -> bool {
        let after = self.ranges.partition_point(|&(_, end)| end <= first_row);
        self.ranges.get(after).is_some_and(|&(first, _)| first < end_row)
    }

    /// Notes a range as done that does not overlap another.
    pub fn add(&mut self, first_row: u64, end_row: u64) {
        let mut at = self.ranges.partition_point(|&(_, end)| end < first_row);
        let mut merged = (first_row, end_row);
        while let Some(&(first, end)) = self.ranges.get(at)
            && first <= merged.1
        {
            merged = (merged.0.min(first), merged.1.max(end));
            self.ranges.remove(at);
        }
        at = at.min(self.ranges.len());
        self.ranges.insert(at, merged);
    }
}

/// A completed shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Its id.
    pub shard: ShardId,
    /// Its number of rows.
    pub rows: u64,
    /// What it gave.
    pub output: OutputRecord,
}

/// Where a shard's output is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OutputRecord {
    /// There is none.
    None,
    /// A reducer set, to be merged.
    Partial(Bytes),
    /// Rendered rows, a few.
    Inline(Bytes),
    /// Rendered rows in the job's file of results.
    Spooled {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// BLAKE3 of them.
        digest: [u8; 32],
    },
}

/// How a job's results begin and end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResultHead {
    /// Rows, from the shards' records.
    Rows {
        /// What comes first.
        header: Bytes,
        /// How many rows.
        rows: u64,
    },
    /// One document.
    Document(Bytes),
}

/// A recurring job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// The accepted spec as JSON.
    pub spec: Bytes,
    /// Unix time of its acceptance.
    pub created_at_ms: u64,
    /// Whether it is paused.
    pub paused: bool,
    /// The last time up to which its runs are decided: submitted, or left out.
    pub decided_ms: u64,
    /// When the last submitted run was due.
    pub last_at_ms: Option<u64>,
    /// Its job.
    pub last_job: Option<JobId>,
    /// Jobs submitted.
    pub runs: u64,
    /// Runs left out.
    pub missed: u64,
    /// The key that it was submitted with.
    pub idempotency_key: Option<String>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// For people, and for the audit log.
    pub name: String,
    /// What it allows.
    pub role: AccessRole,
    /// The namespace that it is kept to.
    pub namespace: Option<Namespace>,
    /// BLAKE3 of its text, which has 256 random bits: no salt and no slow hash would add to that.
    pub digest: [u8; 32],
    /// Unix time at which it was made.
    pub created_at_ms: u64,
    /// Unix time from which on it is worth nothing.
    pub expires_at_ms: Option<u64>,
    /// Requests a second that it is good for, where that is its own.
    pub requests_per_s: Option<u32>,
}

/// An error as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// What sort.
    pub kind: ErrorKind,
    /// Stable code.
    pub code: String,
    /// For people.
    pub message: String,
    /// Formula, line and column.
    pub place: Option<(String, u32, u32)>,
}

impl From<ServiceError> for ErrorRecord {
    fn from(error: ServiceError) -> Self {
        let place = error.place.map(|place| (place.formula, place.line, place.column));
        Self { kind: error.kind, code: error.code, message: error.message, place }
    }
}

impl From<ErrorRecord> for ServiceError {
    fn from(error: ErrorRecord) -> Self {
        let place = error.place.map(|(formula, line, column)| Place { formula, line, column });
        Self { kind: error.kind, code: error.code, message: error.message, place, retry_after_s: None }
    }
}

/// A record's bytes: the version of its form, then postcard.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    // A serialiser into memory has nothing to fail on: no type here is without a known length.
    postcard::to_extend(record, vec![FORMAT_VERSION]).unwrap_or_default()
}

/// A record from its bytes.
///
/// # Errors
/// [`StoreError::Corrupt`], which names the table.
pub fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&FORMAT_VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|error| StoreError::corrupt(table, error.to_string()))
        }
        Some((version, _)) => Err(StoreError::corrupt(table, format!("a record has version {version}"))),
        None => Err(StoreError::corrupt(table, "a record is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn ranges_are_disjoint_and_as_few_as_can_be(order in proptest::sample::subsequence((0..64_u64).collect::<Vec<_>>(), 0..64)) {
            let mut progress = Progress::default();
            let mut rows = std::collections::BTreeSet::new();
            for row in order.into_iter().map(|n| (n * 37) % 64) {
                prop_assert_eq!(progress.overlaps(row, row + 1), rows.contains(&row));
                if rows.insert(row) {
                    progress.add(row, row + 1);
                }
            }
            prop_assert_eq!(progress.rows(), rows.len() as u64);
            let starts = rows.iter().filter(|row| **row == 0 || !rows.contains(&(*row - 1))).count();
            prop_assert_eq!(progress.ranges.len(), starts);
        }
    }

    #[test]
    fn a_record_of_another_version_is_refused_by_name() {
        let mut bytes = encode(&KeyRecord { id: 1, digest: [7; 32] });
        assert_eq!(decode::<KeyRecord>(Table::Keys, &bytes).expect("as written").id, 1);
        bytes[0] = FORMAT_VERSION + 1;
        let refused = decode::<KeyRecord>(Table::Keys, &bytes).expect_err("another version").to_string();
        assert!(refused.contains("keys") && refused.contains(&format!("version {}", FORMAT_VERSION + 1)), "{refused}");
        assert!(decode::<KeyRecord>(Table::Keys, &bytes[..9]).is_err());
        assert!(decode::<KeyRecord>(Table::Keys, &[]).is_err());
    }
}
