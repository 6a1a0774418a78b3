//! The queue: jobs by state, submissions and ends, and the shards of what is served.

use super::collect::{counters, gauge, gauges};
use crate::jobs::admission::Admission;
use crate::jobs::entry::JobTable;
use crate::jobs::index::JobCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use quipu_shared::access::Namespace;
use quipu_shared::live::Live;
use quipu_shared::service::JobState;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Namespaces with figures of their own at most, the first ones to have had a job: each is about ten lines.
pub const NAMESPACES_EXPORTED_MAX: usize = 100;
/// What the others are summed up under: no namespace can be called so.
const OTHERS: &str = "_other";

/// Asks the table of jobs at each scrape.
pub struct JobsCollector {
    /// The jobs.
    pub jobs: Arc<JobTable>,
    /// Jobs that may be pending at once.
    pub admission: Live<Admission>,
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
        let (counts, pending, active) = self.jobs.index(|index| {
            let counts: Vec<(Namespace, JobCounts)> =
                index.counts().map(|(name, counts)| (name.clone(), *counts)).collect();
            (counts, index.pending_count(), index.active_count())
        });
        let by_namespace = by_namespace(counts, &running.jobs);
        let states = by_namespace.iter().flat_map(|(namespace, counts)| {
            JobState::ALL.map(|state| (labels(namespace, state), counts.states[state as usize] as i64))
        });
        gauges(encoder, "quipu_jobs", "Jobs by namespace and state; ended ones for as long as they are kept", states)?;
        let submitted =
            by_namespace.iter().map(|(namespace, counts)| ([("namespace", namespace.as_str())], counts.submitted));
        counters(encoder, "quipu_jobs_submitted", "Jobs that were accepted", submitted)?;
        let ended = by_namespace.iter().flat_map(|(namespace, counts)| {
            let finals = JobState::ALL.into_iter().filter(|state| state.is_final());
            finals.map(move |state| (labels(namespace, state), counts.ended[state as usize]))
        });
        counters(encoder, "quipu_jobs_ended", "Jobs that have ended, by how", ended)?;
        gauge(encoder, "quipu_jobs_pending", "Jobs that have not ended", pending as i64)?;
        let max = i64::try_from(self.admission.get().jobs_pending_max).unwrap_or(i64::MAX);
        gauge(encoder, "quipu_jobs_pending_limit", "Jobs that may be pending (limits.jobs_pending_max)", max)?;
        gauge(encoder, "quipu_jobs_served", "Jobs that have had their turn and have not ended", active as i64)?;
        let shards = [("queued", running.shards_queued), ("leased", running.shards_leased)];
        let shards = shards.map(|(state, count)| ([("state", state)], count as i64));
        gauges(encoder, "quipu_shards", "Shards of served jobs that were cut and are not done", shards)
    }
}

fn labels(namespace: &str, state: JobState) -> [(&'static str, &str); 2] {
    [("namespace", namespace), ("state", state.name())]
}

/// Figures by namespace, of which there are few. Running is not durable: to the index such a job is queued.
fn by_namespace(counts: Vec<(Namespace, JobCounts)>, running: &BTreeMap<Namespace, u64>) -> Vec<(String, JobCounts)> {
    let mut named: Vec<(String, JobCounts)> = Vec::new();
    let mut others = None;
    for (namespace, mut counts) in counts {
        let runs = running.get(&namespace).copied().unwrap_or(0).min(counts.states[JobState::Queued as usize]);
        counts.states[JobState::Queued as usize] -= runs;
        counts.states[JobState::Running as usize] += runs;
        if named.len() < NAMESPACES_EXPORTED_MAX {
            named.push((namespace.to_string(), counts));
        } else {
            others.get_or_insert_with(JobCounts::default).add(&counts);
        }
    }
    named.extend(others.map(|counts| (OTHERS.to_owned(), counts)));
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_jobs_are_no_queued_ones_and_many_namespaces_share_a_line() {
        let name = |number: usize| -> Namespace { format!("ns-{number}").parse().expect("a name") };
        let mut queued = JobCounts { submitted: 3, ..JobCounts::default() };
        queued.states[JobState::Queued as usize] = 3;
        let many = (0..NAMESPACES_EXPORTED_MAX + 5).map(|number| (name(number), queued)).collect();
        let running = BTreeMap::from([(name(0), 2), (name(1), 9)]);
        let by_namespace = by_namespace(many, &running);
        let states = |at: usize| {
            let states = by_namespace[at].1.states;
            (states[JobState::Queued as usize], states[JobState::Running as usize])
        };
        assert_eq!([states(0), states(1), states(2)], [(1, 2), (0, 3), (3, 0)]);
        assert_eq!(by_namespace.len(), NAMESPACES_EXPORTED_MAX + 1);
        let (last, counts) = by_namespace.last().expect("others");
        assert_eq!((last.as_str(), counts.submitted, counts.states[JobState::Queued as usize]), (OTHERS, 15, 15));
        assert!(OTHERS.parse::<Namespace>().is_err(), "no namespace can be taken for the others");
    }
}
