//! A job's shards evenly over the zones, so that the loss of one costs as little of the job as can be; within a zone, the
//! least loaded.

use super::Candidate;
use quipu_shared::ids::WorkerId;
use std::collections::BTreeMap;

/// `leased` counts the job's live attempts in each zone; a zone without any may be missing.
pub(super) fn choose<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    leased: &BTreeMap<&str, u64>,
) -> Option<WorkerId> {
    let in_zone = |candidate: &Candidate<'_>| leased.get(candidate.zone).copied().unwrap_or(0);
    candidates
        .map(|candidate| (in_zone(&candidate), candidate.load_permille, candidate.worker))
        .min()
        .map(|(.., worker)| worker)
}
