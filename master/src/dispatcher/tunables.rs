//! What of a dispatcher may be changed while it works, and how the scheduler hears of it.

use super::DispatcherState;
use crate::scheduler::{Event, SchedulerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What of a dispatcher may be changed while it works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunables {
    /// Of the scheduler.
    pub scheduler: SchedulerConfig,
    /// Rows a second that the jobs of a namespace may be leased together, for those that have a rate.
    pub namespace_rates: BTreeMap<Arc<str>, u64>,
}

impl DispatcherState {
    /// Tells the scheduler of tunables that are others than it knows.
    pub(super) fn follow_tunables(&mut self) {
        let new = self.args.tunables.get();
        let old = std::mem::replace(&mut self.tunables, Arc::clone(&new));
        if old.scheduler != new.scheduler {
            self.step(Event::ConfigChanged { config: Box::new(new.scheduler.clone()) });
        }
        let names: BTreeSet<&Arc<str>> = old.namespace_rates.keys().chain(new.namespace_rates.keys()).collect();
        for group in names.into_iter().cloned() {
            let rows_per_s = new.namespace_rates.get(&group).copied();
            if old.namespace_rates.get(&group).copied() != rows_per_s {
                self.step(Event::GroupRateChanged { group, rows_per_s });
            }
        }
    }
}
