//! What the dispatcher counts: attempts, shards, rows, and how long jobs wait.

use super::by_label::ByLabel;
use super::histogram::{Buckets, Histogram};
use crate::scheduler::AttemptCounts;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use quipu_shared::wire::{EvalTier, ShardOutput};
use std::time::Duration;

const TIERS: usize = EvalTier::ALL.len();

/// Clones count together. Every incarnation of a dispatcher counts on.
#[derive(Clone, Debug)]
pub struct DispatchMetrics {
    granted: Counter,
    adopted: Counter,
    retried: Counter,
    speculative: Counter,
    /// In the order of [`AttemptCounts::outcomes`].
    outcomes: ByLabel<Counter, 7>,
    /// Shards whose completion is recorded.
    pub shards_completed: Counter,
    /// Rows of these.
    pub rows: Counter,
    /// Rows of these that failed.
    pub rows_failed: Counter,
    /// In the order of [`EvalTier::ALL`], as is the next.
    tier_rows: ByLabel<Counter, TIERS>,
    execution: ByLabel<Histogram, TIERS>,
    /// From a job's acceptance to its first lease.
    pub job_queue: Histogram,
    /// From a job's acceptance to its end.
    pub job_duration: Histogram,
    /// From a lease's way out to the word that it has arrived.
    pub round_trip: Histogram,
    /// Workers whose connection was lost with work or without a drain.
    pub workers_lost: Counter,
    /// Dispatchers that were started.
    pub starts: Counter,
}

impl Default for DispatchMetrics {
    fn default() -> Self {
        let tiers = EvalTier::ALL.map(EvalTier::name);
        Self {
            granted: Counter::default(),
            adopted: Counter::default(),
            retried: Counter::default(),
            speculative: Counter::default(),
            outcomes: ByLabel::new(
                "outcome",
                AttemptCounts::default().outcomes().map(|(name, _)| name),
                Counter::default,
            ),
            shards_completed: Counter::default(),
            rows: Counter::default(),
            rows_failed: Counter::default(),
            tier_rows: ByLabel::new("tier", tiers, Counter::default),
            execution: ByLabel::new("tier", tiers, || Histogram::new(Buckets::LATENCY)),
            job_queue: Histogram::new(Buckets::JOB_TIME),
            job_duration: Histogram::new(Buckets::JOB_TIME),
            round_trip: Histogram::new(Buckets::LATENCY),
            workers_lost: Counter::default(),
            starts: Counter::default(),
        }
    }
}

impl DispatchMetrics {
    /// Takes in what a scheduler has counted since `before`.
    pub fn attempts(&self, before: &AttemptCounts, now: &AttemptCounts) {
        self.granted.inc_by(now.granted - before.granted);
        self.adopted.inc_by(now.adopted - before.adopted);
        self.retried.inc_by(now.retried - before.retried);
        self.speculative.inc_by(now.speculative - before.speculative);
        let ends = before.outcomes().into_iter().zip(now.outcomes());
        for (index, ((_, before), (_, now))) in ends.enumerate() {
            if now > before {
                self.outcomes.at(index).inc_by(now - before);
            }
        }
    }

    /// A worker has executed a shard, whether its output counts or not.
    pub fn executed(&self, output: &ShardOutput, busy_us: u64) {
        let tier = output.tier as usize;
        self.tier_rows.at(tier).inc_by(output.rows);
        self.execution.at(tier).observe_time(Duration::from_micros(busy_us));
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("quipu_attempts_granted", "Leases of shards to workers", self.granted.clone());
        registry.register(
            "quipu_attempts_adopted",
            "Attempts that workers brought over a restart of the master",
            self.adopted.clone(),
        );
        registry.register("quipu_attempts_retried", "Attempts beyond their shard's first", self.retried.clone());
        registry.register("quipu_attempts_speculative", "Duplicates of stragglers", self.speculative.clone());
        registry.register("quipu_attempts_ended", "Attempts by how their lease ended", self.outcomes.clone());
        registry.register("quipu_shards_completed", "Shards whose output is recorded", self.shards_completed.clone());
        registry.register("quipu_rows", "Rows whose values are recorded", self.rows.clone());
        registry.register("quipu_rows_failed", "Rows of these that failed", self.rows_failed.clone());
        registry.register(
            "quipu_evaluated_rows",
            "Rows that workers evaluated, duplicates included, by who evaluated most of their shard",
            self.tier_rows.clone(),
        );
        registry.register(
            "quipu_shard_execution_seconds",
            "Time that a shard took on its worker, by who evaluated most of its rows",
            self.execution.clone(),
        );
        registry.register(
            "quipu_job_queue_seconds",
            "Time from a job's acceptance to its first lease",
            self.job_queue.clone(),
        );
        registry.register(
            "quipu_job_duration_seconds",
            "Time from a job's acceptance to its end",
            self.job_duration.clone(),
        );
        registry.register(
            "quipu_link_round_trip_seconds",
            "Time from the sending of a lease to the word that its worker has it, mailboxes included",
            self.round_trip.clone(),
        );
        registry.register(
            "quipu_workers_lost",
            "Workers whose connection was lost before they had drained",
            self.workers_lost.clone(),
        );
        registry.register("quipu_dispatcher_starts", "Dispatchers that this master has started", self.starts.clone());
    }
}
