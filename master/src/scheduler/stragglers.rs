//! The shards that may be stragglers, by priority and then by the time from which they are.

use super::types::Millis;
use quipu_shared::ids::JobId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// When, and the shard's job and first row.
pub(super) type Straggler = (Millis, JobId, u64);

/// A set of shards. There are few priorities at a time, so a look at each of them is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Stragglers(BTreeMap<Reverse<i8>, BTreeSet<Straggler>>);

impl Stragglers {
    pub fn insert(&mut self, priority: i8, straggler: Straggler) {
        self.0.entry(Reverse(priority)).or_default().insert(straggler);
    }

    pub fn remove(&mut self, priority: i8, straggler: Straggler) {
        if let Some(of_priority) = self.0.get_mut(&Reverse(priority)) {
            of_priority.remove(&straggler);
            if of_priority.is_empty() {
                self.0.remove(&Reverse(priority));
            }
        }
    }

    /// The earliest time of any of them.
    pub fn first_at(&self) -> Option<Millis> {
        self.0.values().filter_map(BTreeSet::first).map(|&(at, ..)| at).min()
    }

    /// Takes out the one of the highest priority whose time has come.
    pub fn pop_due(&mut self, now: Millis) -> Option<Straggler> {
        let is_due = |first: &Straggler| first.0 <= now;
        let (&Reverse(priority), of_priority) = self.0.iter().find(|(_, set)| set.first().is_some_and(is_due))?;
        let due = of_priority.first().copied()?;
        self.remove(priority, due);
        Some(due)
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (i8, Straggler)> + '_ {
        self.0.iter().flat_map(|(&Reverse(priority), set)| set.iter().map(move |&straggler| (priority, straggler)))
    }
}
