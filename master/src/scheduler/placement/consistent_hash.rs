//! The same formula to the same workers, so that what they compiled and cached is of use: rendezvous hashing with
//! bounded loads. Every pair of formula and node has a score, and the highest score wins, so that a node that comes or
//! goes moves only its own formulas.
//!
//! A favourite gets no more than its slots while others are idle, and no more than its share of the load (and a quarter
//! on top) after that: nobody starves, and nobody idles while work waits.

use super::Candidate;
use crate::scheduler::adopt::mix;
use quipu_shared::ids::WorkerId;
use std::cmp::Reverse;

/// How much of the mean load a worker may have, in percent.
const LOAD_MAX_PERCENT: u64 = 125;

/// How much a formula likes a node.
pub(in crate::scheduler) fn score(affinity: u64, node: u64) -> u64 {
    mix(mix(affinity) ^ node)
}

/// `held` leases on `slots` slots are the load of all workers, those without room included.
pub(super) fn choose<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    affinity: u64,
    held: u64,
    slots: u64,
) -> Option<WorkerId> {
    let rank = |candidate: Candidate<'a>| {
        let share = ((held + 1) * candidate.slots * LOAD_MAX_PERCENT).div_ceil(100 * slots.max(1));
        let tier = match candidate.held {
            held if held < candidate.slots => 0,
            held if held < share => 1,
            _ => 2,
        };
        (tier, Reverse(score(affinity, candidate.node)), candidate.worker)
    };
    candidates.map(rank).min().map(|(.., worker)| worker)
}
