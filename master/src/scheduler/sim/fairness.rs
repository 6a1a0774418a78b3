//! The invariants of quarantine, pressure and rates.

use super::ledger::Ledger;
use crate::scheduler::breaker::Standing;
use crate::scheduler::worker::Worker;
use crate::scheduler::{Effect, Scheduler};
use quipu_shared::ids::{NodeId, WorkerId};
use std::collections::BTreeMap;

/// In no stretch of time does a group get more than its rate, one bucket and one shard.
pub fn group_stays_within_its_rate(ledger: &Ledger, effect: &Effect) -> bool {
    let Effect::LeaseShard { lease, rows, .. } = effect else { return true };
    let group = ledger.jobs.get(&lease.job).and_then(|job| job.plan.group.as_ref());
    let Some(seen) = group.and_then(|group| ledger.groups.get(group)) else { return true };
    let Some(rows_per_s) = seen.rows_per_s else { return true };
    let shard_rows = seen.shard_rows_max.max(*rows);
    seen.excess_with(ledger.now, *rows) <= (rows_per_s.max(1) + shard_rows) * 1_000
}

/// An open breaker lets nothing through.
pub fn worker_in_quarantine_gets_nothing(ledger: &Ledger, core: &Scheduler) -> bool {
    let is_open = |worker: &WorkerId| core.workers.get(worker).is_some_and(|worker| worker.breaker.is_open());
    !ledger.granted.iter().any(|(worker, _)| is_open(worker))
}

/// A half-open one lets one attempt through, and the next when that is over.
pub fn worker_on_trial_has_one_probe(ledger: &Ledger, core: &Scheduler) -> bool {
    core.workers.iter().all(|(id, worker)| match worker.breaker.standing {
        Standing::HalfOpen { probe } => {
            let granted: Vec<_> =
                ledger.granted.iter().filter(|(to, _)| to == id).map(|(_, lease)| lease.attempt).collect();
            let is_held = probe.is_none_or(|probe| worker.held.contains(&probe));
            is_held && (granted.is_empty() || granted == Vec::from_iter(probe))
        }
        _ => true,
    })
}

/// The newest connection of each node.
fn newest(ledger: &Ledger) -> BTreeMap<&NodeId, WorkerId> {
    ledger.workers.iter().map(|(&id, seen)| (&seen.facts.node, id)).collect()
}

/// Whoever fails, time and again, what others can do is not left closed.
pub fn worker_that_keeps_failing_is_in_quarantine(ledger: &Ledger, core: &Scheduler) -> bool {
    let guilty = |node| ledger.nodes.get(node).map_or(0, |seen| seen.guilty.len());
    newest(ledger).iter().all(|(node, id)| {
        guilty(*node) < ledger.config.breaker_failures as usize || !core.workers[id].breaker.is_closed()
    })
}

/// Nobody gets there with less against it than it takes.
pub fn quarantine_has_a_reason(ledger: &Ledger, core: &Scheduler) -> bool {
    let troubles = |node| ledger.nodes.get(node).map_or(0, |seen| seen.troubles);
    newest(ledger).iter().all(|(node, id)| {
        core.workers[id].breaker.is_closed() || troubles(*node) >= u64::from(ledger.breaker_failures_min)
    })
}

/// Of the workers that are there, not all are in quarantine.
pub fn somebody_may_always_work(_: &Ledger, core: &Scheduler) -> bool {
    let mut present = core.workers.values().filter(|worker| !worker.draining && !worker.suspect).peekable();
    present.peek().is_none() || present.any(|worker| !worker.breaker.is_open())
}

/// A worker beyond a threshold of pressure gets nothing, unless all are.
pub fn worker_under_pressure_gets_nothing_while_another_is_fit(ledger: &Ledger, core: &Scheduler) -> bool {
    let strained = |id: &WorkerId| {
        ledger.workers.get(id).is_some_and(|seen| {
            let (host, max) = (seen.host, ledger.config.pressure);
            host.cpu_pressure > max.cpu_max
                || host.memory_pressure > max.memory_max
                || host.memory_available_bytes.is_some_and(|bytes| bytes < max.memory_available_min_bytes)
        })
    };
    let newest = newest(ledger);
    let is_doubtful = |id: &WorkerId| {
        let node = &ledger.workers[id].facts.node;
        // An older connection is nobody's.
        newest[node] != *id || ledger.nodes.get(node).is_some_and(|seen| seen.is_doubtful)
    };
    let is_fit = |(id, worker): (&WorkerId, &Worker)| {
        !worker.draining && !worker.suspect && worker.breaker.is_closed() && !strained(id) && !is_doubtful(id)
    };
    !ledger.granted.iter().any(|(id, _)| strained(id)) || !core.workers.iter().any(is_fit)
}
