//! Which of the workers with room gets a shard. Each policy is a pure function of the candidates, in a file of its own.
//!
//! Candidates are the workers that may be given something, least loaded first. Whatever the policy, one of them is
//! chosen: work never waits beside a worker that could have it.

mod consistent_hash;
mod least_loaded;
mod round_robin;
#[cfg(test)]
mod tests;
mod weighted;
mod zone_spread;

use super::Scheduler;
use super::worker::Worker;
use quipu_shared::config::PlacementPolicy;
use quipu_shared::ids::{JobId, WorkerId};
use std::collections::BTreeMap;

pub(super) use weighted::stride;

/// A worker with room, as far as any policy looks at it.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    worker: WorkerId,
    /// Its node's key.
    node: u64,
    zone: &'a str,
    /// Leases for each thousand slots, and more under pressure; as in [`Worker::load_permille`].
    load_permille: u64,
    slots: u64,
    held: u64,
    /// Rows a microsecond of this job, once measured.
    rate: Option<f64>,
    /// When it was last given something, counted in grants.
    turn: u64,
    /// Its virtual time, as in [`weighted`].
    pass: u64,
}

impl<'a> Candidate<'a> {
    fn of(worker: WorkerId, state: &'a Worker, job: JobId) -> Self {
        Self {
            worker,
            node: state.node,
            zone: &state.facts.zone,
            load_permille: state.load_permille(),
            slots: u64::from(state.facts.slots),
            held: state.held.len() as u64,
            rate: state.rates.get(&job).map(|rate| rate.rows_per_us),
            turn: state.turn,
            pass: state.pass,
        }
    }
}

impl Scheduler {
    /// Who gets the next shard of this job; none where nobody has room.
    pub(super) fn place(&self, job: JobId) -> Option<WorkerId> {
        let state = self.jobs.get(&job)?;
        let failed_on = state.next_queued().map_or(&[][..], |shard| &shard.failures);
        if failed_on.is_empty() {
            return self.choose(job, |_| true);
        }
        // A shard that failed somewhere goes elsewhere, so that one of the two is known to be at fault.
        let elsewhere = |node: u64| failed_on.iter().all(|failure| failure.node != node);
        self.choose(job, elsewhere).or_else(|| self.choose(job, |_| true))
    }

    fn choose(&self, job: JobId, may_be: impl Fn(u64) -> bool) -> Option<WorkerId> {
        let candidates = self
            .free
            .iter()
            .filter_map(|(_, id)| Some(Candidate::of(*id, self.workers.get(id)?, job)))
            .filter(|candidate| may_be(candidate.node));
        match self.config.placement {
            PlacementPolicy::LeastLoaded => least_loaded::choose(candidates),
            PlacementPolicy::RoundRobin => round_robin::choose(candidates),
            PlacementPolicy::Weighted => weighted::choose(candidates),
            PlacementPolicy::ConsistentHash => {
                let affinity = self.jobs.get(&job)?.plan.affinity;
                let all = self.workers.values().filter(|worker| worker.is_present());
                let (held, slots) = all.fold((0, 0), |(held, slots), worker| {
                    (held + worker.held.len() as u64, slots + u64::from(worker.facts.slots))
                });
                consistent_hash::choose(candidates, affinity, held, slots)
            }
            PlacementPolicy::ZoneSpread => zone_spread::choose(candidates, &self.leased_by_zone(job)),
        }
    }

    /// Live attempts of a job in each zone.
    fn leased_by_zone(&self, job: JobId) -> BTreeMap<&str, u64> {
        let mut leased = BTreeMap::new();
        let shards = self.jobs.get(&job).into_iter().flat_map(|state| state.shards.values());
        for attempt in shards.flat_map(|shard| &shard.live).filter_map(|attempt| self.attempts.get(attempt)) {
            if let Some(worker) = self.workers.get(&attempt.worker) {
                *leased.entry(worker.facts.zone.as_str()).or_default() += 1;
            }
        }
        leased
    }

    /// For people: how a job's shards find their workers.
    pub(super) fn explain_placement(&self, job: JobId) -> String {
        let policy = self.config.placement;
        match policy {
            PlacementPolicy::ConsistentHash => {
                let affinity = self.jobs.get(&job).map_or(0, |state| state.plan.affinity);
                let present = self.workers.values().filter(|worker| worker.is_present());
                match present.max_by_key(|worker| consistent_hash::score(affinity, worker.node)) {
                    Some(first) => format!("placed by {policy}: its formula prefers node {}", first.facts.node),
                    None => format!("placed by {policy}"),
                }
            }
            PlacementPolicy::ZoneSpread => {
                let leased = self.leased_by_zone(job);
                let counts: Vec<String> = leased
                    .iter()
                    .map(|(zone, count)| format!("{count} in {}", if zone.is_empty() { "no zone" } else { zone }))
                    .collect();
                format!(
                    "placed by {policy}: {}",
                    if counts.is_empty() { "none runs".into() } else { counts.join(", ") }
                )
            }
            _ => format!("placed by {policy}"),
        }
    }
}
