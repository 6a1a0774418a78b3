//! What became of attempts, in numbers, for metrics.

use super::{Attempt, Scheduler};

/// Attempts of one scheduler since its start. Each that was granted is live or has one of the outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Leases, adopted and speculative ones included.
    pub granted: u64,
    /// Of these, what workers had from before a restart of the master.
    pub adopted: u64,
    /// Of these, attempts beyond their shard's first.
    pub retried: u64,
    /// Of these, duplicates of stragglers.
    pub speculative: u64,
    /// Outcome: its output counts.
    pub completed: u64,
    /// Outcome: another attempt of its shard was first.
    pub superseded: u64,
    /// Outcome: its job has ended, or a lower row has failed.
    pub unwanted: u64,
    /// Outcome: its lease expired, for want of news.
    pub expired: u64,
    /// Outcome: it died, and its worker said so.
    pub failed: u64,
    /// Outcome: its worker did not take it, or handed it back.
    pub returned: u64,
    /// Outcome: the worker's connection was lost.
    pub lost: u64,
}

impl AttemptCounts {
    /// The outcomes, by the names that metrics give them.
    pub fn outcomes(&self) -> [(&'static str, u64); 7] {
        [
            ("completed", self.completed),
            ("superseded", self.superseded),
            ("unwanted", self.unwanted),
            ("expired", self.expired),
            ("failed", self.failed),
            ("returned", self.returned),
            ("lost", self.lost),
        ]
    }

    /// Attempts without an outcome yet.
    pub fn live(&self) -> u64 {
        self.granted - self.outcomes().iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Counts the end of a lease, once: one that had ended before has its outcome.
    pub(super) fn end(&mut self, attempt: &Attempt, end: LeaseEnd) {
        if attempt.ended_at.is_some() {
            return;
        }
        let count = match end {
            LeaseEnd::Completed => &mut self.completed,
            LeaseEnd::Superseded => &mut self.superseded,
            LeaseEnd::Unwanted => &mut self.unwanted,
            LeaseEnd::Expired => &mut self.expired,
            LeaseEnd::Failed => &mut self.failed,
            LeaseEnd::Returned => &mut self.returned,
            LeaseEnd::Lost => &mut self.lost,
        };
        *count += 1;
    }
}

/// How the lease of an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseEnd {
    Completed,
    Superseded,
    Unwanted,
    Expired,
    Failed,
    Returned,
    Lost,
}

impl Scheduler {
    /// What became of attempts so far.
    pub fn attempt_counts(&self) -> AttemptCounts {
        self.counts
    }
}
