//! Which workers are fit to work: present, not in quarantine, their hosts not under too much pressure. And that the rules
//! against unfit ones never leave work standing:
//!
//! - A worker under pressure gets nothing only as long as another is fit: one without pressure whose last attempt did not
//!   fail.
//! - Where every worker is in quarantine, the one that has been there longest is tried at once.

use super::breaker::Standing;
use super::types::{Effect, Millis};
use super::worker::Worker;
use super::{Scheduler, TimerKey};
use quipu_shared::host::HostLoad;
use quipu_shared::ids::WorkerId;

/// How many of the present workers are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Those that are neither draining nor silent.
    pub present: usize,
    /// Of these, those with a closed breaker, no pressure, and no failure since they last completed anything.
    pub fit: usize,
    /// Of the present, those with an open breaker.
    pub open: usize,
}

impl Census {
    /// One worker's part.
    pub fn of(worker: &Worker) -> Self {
        let present = worker.is_present();
        let fit = present && worker.breaker.is_closed() && !worker.breaker.is_doubtful && !worker.strained;
        let open = present && worker.breaker.is_open();
        Self { present: present.into(), fit: fit.into(), open: open.into() }
    }

    pub fn add(&mut self, part: Self) {
        self.present += part.present;
        self.fit += part.fit;
        self.open += part.open;
    }

    pub fn subtract(&mut self, part: Self) {
        self.present -= part.present;
        self.fit -= part.fit;
        self.open -= part.open;
    }
}

impl Scheduler {
    pub(super) fn see_host(&mut self, worker: WorkerId, host: HostLoad) {
        let Some(state) = self.workers.get_mut(&worker) else { return };
        state.host = host;
        state.strained = self.config.pressure.exceeded_by(&host);
        self.refresh_worker(worker);
    }

    /// Everything that hangs on the tunables, anew.
    pub(super) fn reconfigure(&mut self, config: super::SchedulerConfig, effects: &mut Vec<Effect>) {
        self.config = config;
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            if let Some(state) = self.workers.get_mut(&id) {
                state.strained = self.config.pressure.exceeded_by(&state.host);
            }
            self.refresh_worker(id);
            self.judge_again(id, effects);
        }
    }

    /// After whatever happened, and before anything is leased: somebody may work, if anybody is there.
    pub(super) fn keep_live(&mut self, effects: &mut Vec<Effect>) {
        if self.census.present > 0 && self.census.open == self.census.present {
            let opened_at = |worker: &Worker| match worker.breaker.standing {
                Standing::Open { since, .. } if worker.is_present() => Some(since),
                _ => None,
            };
            let longest: Option<(Millis, WorkerId)> =
                self.workers.iter().filter_map(|(&id, worker)| Some((opened_at(worker)?, id))).min();
            if let Some((_, worker)) = longest {
                self.half_open(worker, effects);
            }
        }
        let ignored = self.census.fit == 0;
        if std::mem::replace(&mut self.strain_ignored, ignored) != ignored {
            let strained: Vec<WorkerId> =
                self.workers.iter().filter(|(_, worker)| worker.strained).map(|(&id, _)| id).collect();
            for worker in strained {
                self.refresh_worker(worker);
            }
        }
    }

    /// Whether a worker may be given anything, its load aside.
    pub(super) fn is_willing(&self, worker: &Worker) -> bool {
        worker.is_willing() && (!worker.strained || self.strain_ignored)
    }

    /// Whether a worker will be given something sooner or later.
    pub(super) fn is_eligible(&self, worker: &Worker) -> bool {
        worker.is_present() && !worker.breaker.is_open() && (!worker.strained || self.strain_ignored)
    }

    /// Keeps the set of workers with room, and the count of fit ones, true.
    pub(super) fn refresh_worker(&mut self, id: WorkerId) {
        let strain_ignored = self.strain_ignored;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let part = Census::of(worker);
        self.census.subtract(std::mem::replace(&mut worker.part, part));
        self.census.add(part);
        let has_room = worker.held.len() < worker.credits as usize;
        let is_willing = worker.is_willing() && (!worker.strained || strain_ignored);
        let is_free = has_room && is_willing && self.reserved != Some(id);
        let key = is_free.then(|| worker.load_permille());
        if key != worker.free_key {
            if let Some(old) = std::mem::replace(&mut worker.free_key, key) {
                self.free.remove(&(old, id));
            }
            self.free.extend(key.map(|key| (key, id)));
        }
    }

    /// Takes a worker out of everything that it stands in, but for its attempts.
    pub(super) fn remove_worker(&mut self, worker: WorkerId) -> Option<Worker> {
        let state = self.workers.remove(&worker)?;
        self.connections.remove(&(state.node, worker));
        self.census.subtract(state.part);
        if let Some(key) = state.free_key {
            self.free.remove(&(key, worker));
        }
        if let Some(at) = state.backoff_until {
            self.timers.remove(&(at, TimerKey::Backoff(worker)));
        }
        if !state.draining {
            self.slots -= u64::from(state.facts.slots);
        }
        self.reserved.take_if(|reserved| *reserved == worker);
        Some(state)
    }

    /// For people: what keeps workers from being given anything, where there is any of it.
    pub(super) fn explain_fitness(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let count = |is: &dyn Fn(&Worker) -> bool| self.workers.values().filter(|worker| is(worker)).count();
        let open = count(&|worker| worker.breaker.is_open());
        let tried = count(&|worker| matches!(worker.breaker.standing, Standing::HalfOpen { .. }));
        if open + tried > 0 {
            lines.push(format!(
                "{open} workers are in quarantine after {} failures in a row, {tried} are being tried with one shard",
                self.config.breaker_failures
            ));
        }
        let strained = count(&|worker| worker.strained);
        if strained > 0 {
            let rule = if self.strain_ignored { "work all the same, for no other can" } else { "get nothing" };
            lines.push(format!("{strained} workers {rule}: their hosts are under pressure"));
        }
        lines
    }
}
