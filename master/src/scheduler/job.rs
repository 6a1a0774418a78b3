//! A job's rows: which are cut into shards, which wait, which are done.

use super::breaker::{Failure, Proof};
use super::groups::GroupKey;
use super::types::{Done, JobOutcome, JobPlan, Millis, SchedulerConfig};
use super::worker::{Rate, shard_rows};
use quipu_shared::ids::{AttemptId, ShardId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The order in which jobs are served: by priority, then those with the fewest live attempts.
pub(super) type ReadyKey = (Reverse<i8>, u64);

/// A shard that is cut and not done. It keeps its range over all attempts.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub id: ShardId,
    pub first_row: u64,
    pub rows: u64,
    /// Attempts that died.
    pub deaths: u32,
    /// Every attempt of this epoch: a result of any of them is good.
    pub issued: Vec<AttemptId>,
    /// Those whose lease is valid.
    pub live: Vec<AttemptId>,
    /// Its entry in the set of possible stragglers.
    pub straggler_at: Option<Millis>,
    /// Until when it is not leased again after a failure; its timer is set.
    pub paused_until: Option<Millis>,
    /// Its attempts that failed.
    pub failures: Vec<Failure>,
}

impl Shard {
    fn new(id: ShardId, first_row: u64, rows: u64) -> Self {
        let (issued, live) = (Vec::new(), Vec::new());
        let failures = Vec::new();
        Self { id, first_row, rows, deaths: 0, issued, live, straggler_at: None, paused_until: None, failures }
    }

    pub fn end_row(&self) -> u64 {
        self.first_row + self.rows
    }
}

/// A job that has not ended.
///
/// Rows below `cursor` are done, or in an open shard; rows from it on are uncut, but for `taken_ahead`.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub plan: JobPlan,
    pub rows_known: u64,
    pub rows_final: bool,
    pub window: u64,
    /// The lowest row that is known to fail, where that ends the job.
    pub failing: Option<u64>,
    pub cursor: u64,
    /// Ranges from `cursor` on that are done (recovered) or in an open shard (adopted): first row to end, disjoint.
    taken_ahead: BTreeMap<u64, u64>,
    taken_ahead_rows: u64,
    /// Open shards by first row.
    pub shards: BTreeMap<u64, Shard>,
    first_row_of: BTreeMap<ShardId, u64>,
    /// First rows of the open shards without a live attempt; those in quarantine are apart.
    pub queued: BTreeSet<u64>,
    pub quarantined: BTreeSet<u64>,
    /// First rows of the open shards that pause after a failure; they have no live attempt either.
    pub paused: BTreeSet<u64>,
    next_shard: u64,
    /// Live attempts.
    pub leased: u64,
    pub shards_done: u64,
    pub rows_done: u64,
    pub retried: u64,
    pub speculative: u64,
    /// Over all workers.
    pub rate: Option<Rate>,
    /// Its entry in the set of jobs with something to lease.
    pub ready_key: Option<ReadyKey>,
    /// Who has completed anything of it.
    pub proof: Proof,
    /// Whose rate it counts against.
    pub group: Option<GroupKey>,
}

impl Job {
    pub fn new(mut plan: JobPlan, done: &Done) -> Self {
        plan.granule = plan.granule.max(1);
        let mut job = Self {
            rows_known: plan.rows_known,
            rows_final: plan.rows_final,
            window: plan.up_to_row,
            failing: done.failed_row.filter(|_| plan.fail_fast),
            cursor: 0,
            taken_ahead: done
                .ranges
                .iter()
                .filter(|d| d.rows > 0)
                .map(|d| (d.first_row, d.first_row + d.rows))
                .collect(),
            taken_ahead_rows: done.ranges.iter().map(|d| d.rows).sum(),
            shards: BTreeMap::new(),
            first_row_of: BTreeMap::new(),
            queued: BTreeSet::new(),
            quarantined: BTreeSet::new(),
            paused: BTreeSet::new(),
            next_shard: done.next_shard,
            leased: 0,
            shards_done: done.shards,
            rows_done: done.ranges.iter().map(|d| d.rows).sum(),
            retried: 0,
            speculative: 0,
            rate: None,
            ready_key: None,
            proof: Proof::Nobody,
            group: None,
            plan,
        };
        job.skip_taken();
        job
    }

    /// Moves the cursor over ranges that were taken before it came there.
    fn skip_taken(&mut self) {
        while let Some(entry) = self.taken_ahead.first_entry() {
            if *entry.key() > self.cursor {
                break;
            }
            let (first_row, end_row) = entry.remove_entry();
            self.taken_ahead_rows -= end_row - first_row;
            self.cursor = self.cursor.max(end_row);
        }
    }

    /// Rows known and not cut; counts rows that a failure has made superfluous.
    pub fn uncut_rows(&self) -> u64 {
        self.rows_known.saturating_sub(self.cursor).saturating_sub(self.taken_ahead_rows)
    }

    /// Where cutting ends for now.
    fn end_row(&self) -> u64 {
        self.rows_known.min(self.failing.unwrap_or(u64::MAX))
    }

    /// How the job ended, if it did.
    pub fn outcome(&self) -> Option<JobOutcome> {
        if !self.shards.is_empty() || self.cursor < self.end_row() {
            return None;
        }
        match self.failing {
            Some(row) if self.rows_final || self.cursor >= row => Some(JobOutcome::FailedRow { row }),
            None if self.rows_final => Some(JobOutcome::Succeeded),
            _ => None,
        }
    }

    /// Whether a queued shard may be leased: within the window, or the lowest unfinished.
    pub fn is_open(&self, first_row: u64) -> bool {
        let Some(shard) = self.shards.get(&first_row) else { return false };
        // Below an adopted shard ahead of the cursor there are rows that nobody has.
        let is_lowest =
            || first_row < self.cursor && self.shards.first_key_value().is_some_and(|(&lowest, _)| lowest == first_row);
        shard.end_row() <= self.window || is_lowest()
    }

    /// Rows that a shard cut now may have at most.
    fn cuttable_rows(&self) -> u64 {
        let gap_end = self.taken_ahead.keys().next().map_or(self.end_row(), |&next| next.min(self.end_row()));
        let granule = self.plan.granule;
        let mut rows = gap_end.saturating_sub(self.cursor);
        if gap_end == self.rows_known && !self.rows_final {
            // The block at the end may still fill up.
            rows -= rows % granule;
        }
        let room = self.window.saturating_sub(self.cursor);
        if rows > room {
            let whole = room - room % granule;
            // Someone must bring the row that the window waits for.
            let is_lowest = || self.shards.first_key_value().is_none_or(|(&lowest, _)| lowest > self.cursor);
            rows = if whole == 0 && is_lowest() { rows.min(granule) } else { whole };
        }
        rows
    }

    /// Whether anything outside quarantine can be leased.
    pub fn is_ready(&self) -> bool {
        // Ranges are disjoint, so if the lowest queued shard ends beyond the window, all do.
        self.queued.first().is_some_and(|&row| self.is_open(row)) || self.cuttable_rows() > 0
    }

    /// The shard that waits to be leased next, if one does.
    pub fn next_queued(&self) -> Option<&Shard> {
        self.queued.first().filter(|&&row| self.is_open(row)).and_then(|row| self.shards.get(row))
    }

    /// The first row of the shard to lease next, cut for a worker of this rate if none waits.
    pub fn next_shard(
        &mut self,
        config: &SchedulerConfig,
        rate: Option<&Rate>,
        slots: u64,
        rows_max: u64,
    ) -> Option<u64> {
        if let Some(row) = self.next_queued().map(|shard| shard.first_row) {
            self.queued.remove(&row);
            return Some(row);
        }
        let granule = self.plan.granule;
        let rows_max = (rows_max / granule * granule).max(granule).min(self.plan.shard_rows_max);
        let wanted = shard_rows(config, &self.plan, rate, self.uncut_rows(), slots).min(rows_max);
        let rows = self.cuttable_rows().min(wanted);
        if rows == 0 {
            return None;
        }
        let first_row = self.cursor;
        self.open(first_row, rows);
        self.cursor += rows;
        self.skip_taken();
        Some(first_row)
    }

    fn open(&mut self, first_row: u64, rows: u64) {
        let id = ShardId(self.next_shard);
        self.next_shard += 1;
        self.first_row_of.insert(id, first_row);
        self.shards.insert(first_row, Shard::new(id, first_row, rows));
    }

    /// Opens a shard for rows that an attempt of an older epoch has; false if they are not whole, or not to be had.
    pub fn adopt(&mut self, first_row: u64, rows: u64) -> bool {
        let Some(end_row) = first_row.checked_add(rows).filter(|_| rows > 0) else { return false };
        let granule = self.plan.granule;
        let is_last = self.rows_final && end_row == self.rows_known;
        let is_whole = first_row.is_multiple_of(granule) && (end_row.is_multiple_of(granule) || is_last);
        let is_taken = self.taken_ahead.range(..end_row).next_back().is_some_and(|(_, &taken)| taken > first_row);
        if !is_whole || is_taken || first_row < self.cursor || end_row > self.end_row() {
            return false;
        }
        self.open(first_row, rows);
        self.taken_ahead.insert(first_row, end_row);
        self.taken_ahead_rows += rows;
        self.skip_taken();
        true
    }

    /// An open shard.
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.first_row_of.get(&id).and_then(|first_row| self.shards.get(first_row))
    }

    /// Puts a shard without live attempts into its queue.
    pub fn queue(&mut self, first_row: u64, quarantine_deaths: u32) {
        self.paused.remove(&first_row);
        let suspect = self.shards.get(&first_row).is_some_and(|shard| shard.deaths >= quarantine_deaths);
        if suspect { &mut self.quarantined } else { &mut self.queued }.insert(first_row);
    }

    /// Takes an open shard out, done or void.
    pub fn remove(&mut self, first_row: u64) -> Option<Shard> {
        let shard = self.shards.remove(&first_row)?;
        self.first_row_of.remove(&shard.id);
        self.queued.remove(&first_row);
        self.quarantined.remove(&first_row);
        self.paused.remove(&first_row);
        self.leased -= shard.live.len() as u64;
        Some(shard)
    }

    /// Notes a failed row and takes out the open shards above it.
    pub fn fail_row(&mut self, row: u64) -> Vec<Shard> {
        if self.failing.is_some_and(|lowest| lowest <= row) {
            return Vec::new();
        }
        self.failing = Some(row);
        let above: Vec<u64> = self.shards.range(row..).map(|(&first_row, _)| first_row).collect();
        for first_row in &above {
            if let Some(end_row) = self.taken_ahead.remove(first_row) {
                self.taken_ahead_rows -= end_row - first_row;
            }
        }
        above.into_iter().filter_map(|first_row| self.remove(first_row)).collect()
    }

    /// Time after which a shard of so many rows counts as a straggler.
    pub fn patience_ms(&self, config: &SchedulerConfig, rate: Option<&Rate>, rows: u64) -> u64 {
        let expected_ms = rate.or(self.rate.as_ref()).map_or(0, |rate| rate.ms_for(rows));
        expected_ms.saturating_mul(config.straggler_factor).max(config.straggler_min_ms).max(1)
    }
}
