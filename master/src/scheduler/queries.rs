//! What the shell may ask; nothing here changes anything.

use super::types::Millis;
use super::{Attempt, Scheduler, WorkerLoad};
use quipu_shared::ids::{Epoch, JobId, WorkerId};
use quipu_shared::service::ShardCounts;
use quipu_shared::wire::Lease;

/// Attempts, and shards that pause, that [`Scheduler::explain`] names.
const ATTEMPTS_EXPLAINED_MAX: usize = 5;

impl Scheduler {
    /// The epoch of this master.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a completion of this attempt would be recorded now: if not, its output need not be fetched.
    pub fn wants(&self, lease: &Lease) -> bool {
        lease.epoch == self.epoch
            && self
                .jobs
                .get(&lease.job)
                .and_then(|job| job.shard(lease.shard))
                .is_some_and(|shard| shard.issued.contains(&lease.attempt))
    }

    /// The shards of a job that has not ended.
    pub fn job_counts(&self, job: JobId) -> Option<ShardCounts> {
        self.jobs.get(&job).map(|job| {
            let queued = (job.queued.len() + job.quarantined.len() + job.paused.len()) as u64;
            ShardCounts {
                queued,
                leased: job.shards.len() as u64 - queued,
                done: job.shards_done,
                retried: job.retried,
                speculative: job.speculative,
            }
        })
    }

    /// Rows done of a job that has not ended, and rows known so far.
    pub fn job_rows(&self, job: JobId) -> Option<(u64, u64)> {
        self.jobs.get(&job).map(|job| (job.rows_done, job.rows_known))
    }

    /// The load of a worker in the schedule.
    pub fn worker_load(&self, worker: WorkerId) -> Option<WorkerLoad> {
        self.workers.get(&worker).map(|worker| WorkerLoad {
            slots: worker.facts.slots,
            credits: worker.credits,
            leased: worker.held.len() as u32,
            draining: worker.draining,
            suspect: worker.suspect,
            rows_per_s: worker.rate.as_ref().map_or(0.0, |rate| rate.rows_per_us * 1e6),
            shards_done: worker.shards_done,
        })
    }

    /// Why a job stands where it stands, in lines for people; empty once it has ended.
    pub fn explain(&self, job: JobId) -> Vec<String> {
        let Some(state) = self.jobs.get(&job) else { return Vec::new() };
        let more = if state.rows_final { "" } else { " so far" };
        let mut lines = vec![format!(
            "{} of {}{more} rows done in {} shards; {} rows are not cut into shards yet",
            state.rows_done,
            state.rows_known,
            state.shards_done,
            state.uncut_rows()
        )];
        if let Some(row) = state.failing {
            lines.push(format!("row {row} failed: nothing above it is leased, and the rows below it are finished"));
        }
        let waiting = state.queued.len() + state.quarantined.len();
        if waiting > 0 {
            lines.push(format!("{waiting} shards wait for another attempt"));
        }
        for shard in state.paused.iter().filter_map(|row| state.shards.get(row)).take(ATTEMPTS_EXPLAINED_MAX) {
            let (id, deaths) = (shard.id, shard.deaths);
            let left_ms: Millis = shard.paused_until.unwrap_or(self.now).saturating_sub(self.now);
            lines.push(format!("shard {id} died {deaths} times and pauses for {left_ms} ms before its next attempt"));
        }
        if state.paused.len() > ATTEMPTS_EXPLAINED_MAX {
            lines.push(format!("{} more shards pause after a failure", state.paused.len() - ATTEMPTS_EXPLAINED_MAX));
        }
        for shard in state.quarantined.iter().filter_map(|row| state.shards.get(row)) {
            let (id, deaths, max) = (shard.id, shard.deaths, self.config.attempts_max);
            lines.push(format!("shard {id} died {deaths} times of at most {max} and waits for a worker of its own"));
        }
        lines.push(self.explain_placement(job));
        lines.extend(self.explain_group(job));
        lines.extend(self.explain_fitness());
        let mut running: Vec<&Attempt> = state
            .shards
            .values()
            .flat_map(|shard| &shard.live)
            .filter_map(|attempt| self.attempts.get(attempt))
            .collect();
        running.sort_by_key(|attempt| (attempt.granted_at, attempt.lease.attempt));
        for attempt in running.iter().take(ATTEMPTS_EXPLAINED_MAX) {
            lines.push(self.explain_attempt(attempt));
        }
        if running.len() > ATTEMPTS_EXPLAINED_MAX {
            lines.push(format!("{} more attempts run", running.len() - ATTEMPTS_EXPLAINED_MAX));
        }
        if state.rows_known > state.cursor && state.window != u64::MAX && !state.is_ready() {
            lines.push(format!("results are read slower than they are made: leasing stops at row {}", state.window));
        }
        if !state.rows_final && !state.is_ready() {
            lines.push("waiting for more input".to_owned());
        }
        if state.is_ready() {
            lines.push(self.explain_workers());
        }
        lines
    }

    fn explain_attempt(&self, attempt: &Attempt) -> String {
        let kind = if attempt.speculative { "speculative attempt" } else { "attempt" };
        let age_ms: Millis = self.now - attempt.granted_at;
        let (shard, id, worker) = (attempt.lease.shard, attempt.lease.attempt, attempt.worker);
        let standing = match (attempt.progress, attempt.accepted) {
            (Some(rows), _) => format!("{rows} rows done"),
            (None, true) => "accepted".to_owned(),
            (None, false) => "not accepted yet".to_owned(),
        };
        format!("shard {shard}: {kind} {id} at worker {worker} for {age_ms} ms, {standing}")
    }

    fn explain_workers(&self) -> String {
        if self.workers.is_empty() {
            return "no worker is connected".to_owned();
        }
        let count = |is: fn(&super::worker::Worker) -> bool| self.workers.values().filter(|worker| is(worker)).count();
        format!(
            "waiting for a free credit: {} workers, of which {} full, {} draining, {} silent, {} pausing after a rejection, \
             {} taken by a shard in quarantine",
            self.workers.len(),
            count(|worker| worker.held.len() >= worker.credits as usize),
            count(|worker| worker.draining),
            count(|worker| worker.suspect),
            count(|worker| worker.backoff_until.is_some()),
            count(|worker| worker.exclusive.is_some()),
        )
    }
}
