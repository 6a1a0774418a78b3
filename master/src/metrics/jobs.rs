//! The queue: jobs by state, submissions and ends, and the shards of what is served.

use super::collect::{counter, counters, gauge, gauges};
use crate::jobs::entry::JobTable;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use quipu_shared::service::JobState;
use std::fmt;
use std::sync::Arc;

/// Asks the table of jobs at each scrape.
pub struct JobsCollector {
    /// The jobs.
    pub jobs: Arc<JobTable>,
    /// Jobs that may be pending at once.
    pub pending_max: usize,
}

impl fmt::Debug for JobsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobsCollector").finish_non_exhaustive()
    }
}

impl Collector for JobsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let running = self.jobs.running();
        let (mut counts, pending, active) =
            self.jobs.index(|index| (*index.counts(), index.pending_count(), index.active_count()));
        // Running is not durable: to the index such a job is queued.
        let runs = running.jobs.min(counts.states[JobState::Queued as usize]);
        counts.states[JobState::Queued as usize] -= runs;
        counts.states[JobState::Running as usize] += runs;
        let states = JobState::ALL.map(|state| ([("state", state.name())], counts.states[state as usize] as i64));
        gauges(encoder, "quipu_jobs", "Jobs by state; ended ones for as long as they are kept", states)?;
        counter(encoder, "quipu_jobs_submitted", "Jobs that were accepted", counts.submitted)?;
        let finals = JobState::ALL.into_iter().filter(|state| state.is_final());
        let ended = finals.map(|state| ([("state", state.name())], counts.ended[state as usize]));
        counters(encoder, "quipu_jobs_ended", "Jobs that have ended, by how", ended)?;
        gauge(encoder, "quipu_jobs_pending", "Jobs that have not ended", pending as i64)?;
        let max = i64::try_from(self.pending_max).unwrap_or(i64::MAX);
        gauge(encoder, "quipu_jobs_pending_limit", "Jobs that may be pending (limits.jobs_pending_max)", max)?;
        gauge(encoder, "quipu_jobs_served", "Jobs that have had their turn and have not ended", active as i64)?;
        let shards = [("queued", running.shards_queued), ("leased", running.shards_leased)];
        let shards = shards.map(|(state, count)| ([("state", state)], count as i64));
        gauges(encoder, "quipu_shards", "Shards of served jobs that were cut and are not done", shards)
    }
}
