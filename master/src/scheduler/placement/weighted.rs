//! Shards in proportion to the workers' weights: stride scheduling. Each lease moves a worker's virtual time on by a
//! step that is the shorter the higher its weight, and the one that is furthest behind is next.

use super::Candidate;
use quipu_shared::ids::WorkerId;

/// Virtual time of one lease at weight 1; the largest weight still moves it by many steps.
const STRIDE: u64 = 1 << 20;

/// How far a lease moves the virtual time of a worker of this weight.
pub(in crate::scheduler) fn stride(weight: u32) -> u64 {
    STRIDE / u64::from(weight.max(1))
}

/// The one that is furthest behind.
pub(super) fn choose<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Option<WorkerId> {
    candidates.map(|candidate| (candidate.pass, candidate.worker)).min().map(|(_, worker)| worker)
}
