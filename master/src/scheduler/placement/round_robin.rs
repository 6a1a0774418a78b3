//! Whoever has waited longest since its last lease, whatever its load.

use super::Candidate;
use quipu_shared::ids::WorkerId;

/// A worker that has had nothing yet comes first.
pub(super) fn choose<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Option<WorkerId> {
    candidates.map(|candidate| (candidate.turn, candidate.worker)).min().map(|(_, worker)| worker)
}
