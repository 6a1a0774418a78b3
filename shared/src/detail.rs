//! What clients may ask beyond the views of one job and one node: a job's spec, typed form, shards and attempts, and the
//! cluster as it is at one moment.

use crate::ids::{AttemptId, JobId, NodeId, ShardId};
use crate::service::{JobView, NodeView};
use crate::spec::JobSpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Cells of a [`ShardMap`] at most: as many as a person can tell apart on one screen.
pub const CELLS_MAX: u64 = 320;

/// Formulas of an `eval` that a [`JobDetail`] carries; there may be a hundred thousand.
pub const FORMULAS_TOLD_MAX: usize = 100;

/// What was asked for, and how it is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    /// As it was submitted; but of an `eval` the first [`FORMULAS_TOLD_MAX`] formulas.
    pub spec: JobSpec,
    /// Formulas of an `eval` in all; 1 for every other job.
    pub formulas: u64,
    /// How the formula is evaluated; none for several of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<FormulaForm>,
}

/// How a formula is evaluated, as `quipu explain` says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FormulaForm {
    /// Type of its value; none where that depends on the row.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub value_type: Option<String>,
    /// Estimated nanoseconds a row on one core.
    pub cost_ns: f64,
    /// The columns that it reads, by the numbers that the typed form gives them, with their types.
    pub columns: Vec<String>,
    /// The typed form, one instruction a line; empty where there is none.
    pub lines: Vec<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// A job's rows in equal parts, and how far each of them is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardMap {
    /// Rows in all, or those that are known so far.
    pub rows: u64,
    /// Rows of every cell but the last.
    pub rows_per_cell: u64,
    /// In row order; none where it is not known any more which rows were done.
    pub cells: Vec<ShardCell>,
}

/// One part of a job's rows. What is in none of its counts is not cut into shards yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ShardCell {
    /// Rows done.
    #[serde(skip_serializing_if = "is_zero")]
    pub done: u64,
    /// Rows that are leased.
    #[serde(skip_serializing_if = "is_zero")]
    pub leased: u64,
    /// Rows of shards that wait for another attempt.
    #[serde(skip_serializing_if = "is_zero")]
    pub queued: u64,
    /// Rows of shards that had more than one attempt.
    #[serde(skip_serializing_if = "is_zero")]
    pub retried: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// It runs, or waits in its worker's queue.
    Running,
    /// Its output is the shard's.
    Completed,
    /// Another attempt of its shard was first.
    Superseded,
    /// Its executor died, or its input went away.
    Failed,
    /// Its worker was lost.
    Lost,
    /// There was no news of it for too long, or the job's time was over.
    Expired,
    /// Its worker did not take it.
    Rejected,
    /// Its worker leaves, and had not begun it.
    Returned,
    /// The job was over.
    Stopped,
}

impl AttemptOutcome {
    /// Whether somebody may want to know why.
    pub fn went_wrong(self) -> bool {
        matches!(self, Self::Failed | Self::Lost | Self::Expired | Self::Rejected)
    }

    /// The outcome as people and programs write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Returned => "returned",
            Self::Stopped => "stopped",
        }
    }
}

/// One execution of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Its number, which never repeats in one run of a master.
    pub attempt: AttemptId,
    /// The shard.
    pub shard: ShardId,
    /// The worker's node.
    pub node: NodeId,
    /// First row of the shard.
    pub first_row: u64,
    /// Rows of the shard.
    pub rows: u64,
    /// Rows done, as last reported.
    pub rows_done: u64,
    /// Whether another attempt of the shard ran when this one began.
    pub speculative: bool,
    /// Unix time of its lease.
    pub started_at_ms: u64,
    /// Unix time of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// What became of it.
    pub outcome: AttemptOutcome,
    /// What its worker said of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The attempts of a job: all that run, and the last of those that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptList {
    /// Attempts in all since the master was started, kept or not.
    pub total: u64,
    /// By start.
    pub attempts: Vec<AttemptView>,
}

/// An attempt with the job that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeAttempt {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptView,
}

/// The last attempts on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeAttemptList {
    /// Latest start first.
    pub attempts: Vec<NodeAttempt>,
}

/// Running jobs that a [`ClusterView`] tells of.
pub const RUNNING_TOLD_MAX: usize = 100;
/// Nodes that a [`ClusterView`] tells of; those that are down go first.
pub const NODES_TOLD_MAX: usize = 500;

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// By id; at most [`NODES_TOLD_MAX`].
    pub nodes: Vec<NodeView>,
    /// How many there are.
    pub nodes_total: u64,
    /// Jobs that run, oldest first; at most [`RUNNING_TOLD_MAX`].
    pub jobs: Vec<RunningJob>,
    /// How many there are.
    pub jobs_running: u64,
    /// Jobs that have not ended, those included.
    pub jobs_pending: u64,
}

/// A job that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningJob {
    /// The job.
    #[serde(rename = "job")]
    pub view: JobView,
    /// Rows a second over the last seconds.
    pub rows_per_s: f64,
}

impl ShardMap {
    /// An empty map of so many rows, whose cells begin where shards of this granule may.
    pub fn new(rows: u64, granule: u64) -> Self {
        let granule = granule.max(1);
        let rows_per_cell = rows.div_ceil(CELLS_MAX).div_ceil(granule).max(1).saturating_mul(granule);
        // At most CELLS_MAX.
        let cells = vec![ShardCell::default(); rows.div_ceil(rows_per_cell) as usize];
        Self { rows, rows_per_cell, cells }
    }

    /// Rows of a cell.
    pub fn rows_of(&self, cell: usize) -> u64 {
        let first = self.rows_per_cell.saturating_mul(cell as u64);
        self.rows_per_cell.min(self.rows.saturating_sub(first))
    }

    /// Counts the rows from `first_row` up to `end_row` in the cells that they are in.
    pub fn count(&mut self, first_row: u64, end_row: u64, count: impl Fn(&mut ShardCell) -> &mut u64) {
        let (mut row, end_row) = (first_row, end_row.min(self.rows));
        while row < end_row {
            let cell = row / self.rows_per_cell;
            let next = (cell + 1).saturating_mul(self.rows_per_cell).min(end_row);
            if let Some(cell) = self.cells.get_mut(cell as usize) {
                *count(cell) += next - row;
            }
            row = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CELLS_MAX, ShardCell, ShardMap};

    #[test]
    fn cells_are_few_and_cover_every_row() {
        for (rows, granule, cells, rows_per_cell) in [
            (0, 4096, 0, 4096),
            (1, 4096, 1, 4096),
            (3, 1, 3, 1),
            (4096 * 320, 4096, 320, 4096),
            (4096 * 321, 4096, 161, 8192),
        ] {
            let map = ShardMap::new(rows, granule);
            assert_eq!((map.cells.len(), map.rows_per_cell), (cells, rows_per_cell), "{rows}");
            assert_eq!((0..cells).map(|cell| map.rows_of(cell)).sum::<u64>(), rows);
        }
        let map = ShardMap::new(u64::MAX, 4096);
        assert!(map.cells.len() as u64 <= CELLS_MAX);
    }

    #[test]
    fn rows_are_counted_in_the_cells_that_they_are_in() {
        let mut map = ShardMap::new(1000, 1);
        assert_eq!(map.rows_per_cell, 4);
        map.count(2, 9, |cell| &mut cell.done);
        map.count(998, 5000, |cell| &mut cell.leased);
        let done: Vec<u64> = map.cells.iter().take(4).map(|cell| cell.done).collect();
        assert_eq!(done, [2, 4, 1, 0]);
        assert_eq!(map.cells.last(), Some(&ShardCell { leased: 2, ..ShardCell::default() }));
        assert_eq!(map.cells.iter().map(|cell| cell.done + cell.leased).sum::<u64>(), 9);
    }
}
