//! Rows a second, as seen from outside: from how far jobs are at each look.

use quipu_shared::ids::JobId;
use quipu_shared::service::JobView;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Looks that are remembered, for the line of bars.
const HISTORY_MAX: usize = 240;
/// Weight of the newest measurement in a job's rate: it follows within a few seconds and does not jump.
const WEIGHT: f64 = 0.5;

/// Measures rates.
#[derive(Debug, Default)]
pub(super) struct Meter {
    at: Option<Duration>,
    rows: BTreeMap<JobId, u64>,
    rates: BTreeMap<JobId, f64>,
    history: VecDeque<u64>,
}

impl Meter {
    /// Takes in how far jobs are.
    pub(super) fn look(&mut self, now: Duration, jobs: &[JobView]) {
        let elapsed_s = self.at.map(|at| now.saturating_sub(at).as_secs_f64()).filter(|elapsed_s| *elapsed_s > 0.0);
        let rows: BTreeMap<JobId, u64> = jobs.iter().map(|job| (job.id, job.rows_done)).collect();
        if let Some(elapsed_s) = elapsed_s {
            let mut sum = 0.0;
            let mut rates = BTreeMap::new();
            for job in jobs {
                // One that is new was begun since the last look; a master that was started again may have lost progress.
                let before = self.rows.get(&job.id).copied().unwrap_or(0);
                let known = self.rows.contains_key(&job.id);
                let newest = job.rows_done.saturating_sub(before) as f64 / elapsed_s;
                // One that was not shown before and has ended may have done its rows at any time.
                let newest = if known || !job.state.is_final() { newest } else { 0.0 };
                sum += newest;
                if !job.state.is_final() {
                    let rate = self.rates.get(&job.id).map_or(newest, |rate| rate + WEIGHT * (newest - rate));
                    rates.insert(job.id, rate);
                }
            }
            self.rates = rates;
            if self.history.len() == HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back(sum as u64);
        }
        self.at = Some(now);
        self.rows = rows;
    }

    /// Rows a second of a job that has not ended.
    pub(super) fn rate(&self, job: JobId) -> Option<f64> {
        self.rates.get(&job).copied()
    }

    /// Rows a second of all jobs at the last look.
    pub(super) fn total(&self) -> u64 {
        self.history.back().copied().unwrap_or(0)
    }

    /// The last of them, oldest first.
    pub(super) fn history(&self, most: usize) -> Vec<u64> {
        self.history.iter().skip(self.history.len().saturating_sub(most)).copied().collect()
    }
}
