//! The worker with the fewest leases for its slots, where pressure of its host makes slots count less; of several, the
//! one that is fastest at this job. Shards are cut for a worker's measured rate, so that equal load is equal time.

use super::Candidate;
use quipu_shared::ids::WorkerId;
use std::cmp::Ordering;

/// Workers of equal load that are compared; with more, the first of them are as good as any.
const TIES_MAX: usize = 16;

/// Takes candidates by load and looks no further than at those with the least.
pub(super) fn choose<'a>(mut candidates: impl Iterator<Item = Candidate<'a>>) -> Option<WorkerId> {
    let first = candidates.next()?;
    let ties = candidates.take(TIES_MAX - 1).take_while(|other| other.load_permille == first.load_permille);
    let best = ties.fold(first, |best, other| if is_faster(&other, &best) { other } else { best });
    Some(best.worker)
}

/// One that is not measured yet comes first: what it can do is worth knowing.
fn is_faster(other: &Candidate<'_>, best: &Candidate<'_>) -> bool {
    match (other.rate, best.rate) {
        (Some(other), Some(best)) => other.total_cmp(&best) == Ordering::Greater,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}
