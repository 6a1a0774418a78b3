//! Who gets what: fresh and requeued shards, shards in quarantine, speculative attempts.

use super::breaker::Standing;
use super::placement::stride;
use super::types::{Effect, Millis};
use super::worker::Worker;
use super::{Attempt, Scheduler, TimerKey};
use quipu_shared::ids::{AttemptId, JobId, WorkerId};
use quipu_shared::wire::Lease;
use std::cmp::Reverse;

/// Load at which every slot has something to do.
const LOAD_FULL_PERMILLE: u64 = 1_000;

impl Scheduler {
    /// Leases all that can be leased.
    pub(super) fn dispatch(&mut self, effects: &mut Vec<Effect>) {
        self.lease_quarantined(effects);
        let mut served = self.ready_priority();
        loop {
            self.lease_ready(&mut served, effects);
            if served == self.ready_priority() {
                break;
            }
            served = self.ready_priority();
            // Whoever was kept for a shard in quarantine may be there for everybody now.
            self.lease_quarantined(effects);
        }
        self.speculate(effects);
    }

    /// Leases what stands outside quarantine, to workers with room; `served` is the priority that has its turn.
    fn lease_ready(&mut self, served: &mut Option<Reverse<i8>>, effects: &mut Vec<Effect>) {
        while !self.free.is_empty()
            && let Some(&((priority, _), job)) = self.ready.first()
        {
            if *served != Some(priority) {
                // The turn of a lower priority, and so of its shards in quarantine.
                *served = Some(priority);
                self.lease_quarantined(effects);
                continue;
            }
            let Some(worker) = self.place(job) else { break };
            let rate = self.workers.get(&worker).and_then(|state| state.rates.get(&job));
            let Some(state) = self.jobs.get_mut(&job) else { break };
            let rows_max = self.groups.shard_rows_max(state.group);
            let Some(first_row) = state.next_shard(&self.config, rate, self.slots, rows_max) else { break };
            self.lease(worker, job, first_row, effects);
        }
    }

    /// The highest priority with something to lease outside quarantine.
    fn ready_priority(&self) -> Option<Reverse<i8>> {
        self.ready.first().map(|&((priority, _), _)| priority)
    }

    /// A shard that died repeatedly runs alone on its worker, and other shards make room for it.
    fn lease_quarantined(&mut self, effects: &mut Vec<Effect>) {
        while let Some((job, first_row)) = self.next_quarantined() {
            let idle = |worker: &Worker| worker.held.is_empty();
            let Some(worker) = self.worker_for_quarantined(job, first_row) else {
                // Whoever could show whether the shard is to blame will be there soon.
                self.release_reserved();
                return;
            };
            if !self.workers.get(&worker).is_some_and(idle) {
                self.reserve_worker(worker);
                return;
            }
            self.release_reserved();
            if let Some(state) = self.jobs.get_mut(&job) {
                state.quarantined.remove(&first_row);
                if state.quarantined.is_empty() {
                    self.quarantines.remove(&(Reverse(state.plan.priority), job));
                }
            }
            let attempt = self.lease(worker, job, first_row, effects);
            if let Some(state) = self.workers.get_mut(&worker) {
                state.exclusive = Some(attempt);
            }
            self.refresh_worker(worker);
        }
        self.release_reserved();
    }

    fn release_reserved(&mut self) {
        if let Some(worker) = self.reserved.take() {
            self.refresh_worker(worker);
        }
    }

    /// Nothing in quarantine empties a worker that a job of a higher priority could use.
    fn next_quarantined(&self) -> Option<(JobId, u64)> {
        let served = self.ready_priority();
        let in_turn =
            self.quarantines.iter().take_while(|(priority, _)| served.is_none_or(|served| *priority <= served));
        in_turn.into_iter().find_map(|&(_, job)| {
            let state = self.jobs.get(&job)?;
            let first = state.quarantined.first().copied().filter(|_| !self.groups.waits(state.group));
            first.filter(|&row| state.is_open(row)).map(|row| (job, row))
        })
    }

    /// Who is to have a shard in quarantine, once it is empty; none where that will be somebody who must not be given
    /// anything just now. First of all it is one on which the shard has not failed, so that the blame is certain
    /// afterwards; then one that is itself beyond doubt; then one that is empty already, or is reserved.
    fn worker_for_quarantined(&self, job: JobId, first_row: u64) -> Option<WorkerId> {
        let shard = self.jobs.get(&job).and_then(|state| state.shards.get(&first_row));
        let failures = |worker: &Worker| {
            shard.map_or(0, |shard| shard.failures.iter().filter(|failure| failure.node == worker.node).count())
        };
        let fresh_may_come = || self.workers.values().any(|worker| self.is_eligible(worker) && failures(worker) == 0);
        let rank = |(&id, worker): (&WorkerId, &Worker)| {
            let is_reserved = self.reserved == Some(id);
            let load = worker.load_permille();
            (failures(worker), !worker.breaker.is_closed(), load != 0, !is_reserved, load, id)
        };
        let willing = self.workers.iter().filter(|(_, worker)| self.is_willing(worker));
        let (failed, .., worker) = willing.map(rank).min()?;
        (failed == 0 || !fresh_may_come()).then_some(worker)
    }

    /// Keeps a worker free of new shards until it is empty.
    fn reserve_worker(&mut self, worker: WorkerId) {
        let before = self.reserved.replace(worker);
        for worker in before.into_iter().chain([worker]) {
            self.refresh_worker(worker);
        }
    }

    /// Gives stragglers of jobs with nothing left to lease a second attempt on idle slots.
    fn speculate(&mut self, effects: &mut Vec<Effect>) {
        // Workers with room were offered everything that is ready: if any is left, nothing is.
        while self.has_idle_slot()
            && let Some((_, job, first_row)) = self.stragglers.pop_due(self.now)
        {
            // Either branch below enters it again if it is to be looked at again, so that the loop ends.
            let state = self.jobs.get(&job);
            if state.is_some_and(|state| self.groups.waits(state.group)) {
                self.watch_straggler(job, first_row);
                continue;
            }
            let running_on = state
                .and_then(|state| state.shards.get(&first_row))
                .and_then(|shard| shard.live.first())
                .and_then(|attempt| self.attempts.get(attempt))
                .map(|attempt| attempt.worker);
            let other = self
                .free
                .iter()
                .take_while(|&&(load, _)| load < LOAD_FULL_PERMILLE)
                .find(|&&(_, worker)| Some(worker) != running_on)
                .map(|&(_, worker)| worker);
            match other {
                Some(worker) => {
                    self.lease(worker, job, first_row, effects);
                }
                None => self.watch_straggler(job, first_row),
            }
        }
    }

    /// Whether a willing worker has an executor with nothing to do.
    pub(super) fn has_idle_slot(&self) -> bool {
        self.free.first().is_some_and(|&(load, _)| load < LOAD_FULL_PERMILLE)
    }

    /// Leases an open shard that stands in no queue (any more).
    fn lease(&mut self, worker: WorkerId, job: JobId, first_row: u64, effects: &mut Vec<Effect>) -> AttemptId {
        self.grant(worker, job, first_row, None, effects)
    }

    /// The same, also for what the worker holds already under an older lease.
    pub(super) fn grant(
        &mut self,
        worker: WorkerId,
        job: JobId,
        first_row: u64,
        held: Option<Lease>,
        effects: &mut Vec<Effect>,
    ) -> AttemptId {
        self.last_attempt += 1;
        let id = AttemptId(self.last_attempt);
        let Some(state) = self.jobs.get_mut(&job) else { return id };
        let Some(shard) = state.shards.get_mut(&first_row) else { return id };
        let speculative = !shard.live.is_empty();
        let retried = !shard.issued.is_empty();
        state.retried += u64::from(retried);
        state.speculative += u64::from(speculative);
        self.counts.granted += 1;
        self.counts.adopted += u64::from(held.is_some());
        self.counts.retried += u64::from(retried);
        self.counts.speculative += u64::from(speculative);
        state.leased += 1;
        shard.issued.push(id);
        shard.live.push(id);
        let lease = Lease { epoch: self.epoch, job, shard: shard.id, attempt: id };
        let rows = shard.rows;
        let (group, is_adopted) = (state.group, held.is_some());
        effects.push(match held {
            Some(held) => Effect::AdoptShard { worker, held, lease, first_row, rows },
            None => Effect::LeaseShard { worker, lease, first_row, rows, speculative },
        });
        let timer_at = self.now + self.config.lease_ttl_ms;
        self.timers.insert((timer_at, TimerKey::Attempt(id)));
        let attempt = Attempt {
            lease,
            worker,
            node: self.workers.get(&worker).map_or(0, |state| state.node),
            first_row,
            speculative,
            is_adopted,
            granted_at: self.now,
            renewed_at: self.now,
            accepted: false,
            progress: None,
            ended_at: None,
            timer_at,
        };
        self.attempts.insert(id, attempt);
        if let Some(state) = self.workers.get_mut(&worker) {
            state.held.insert(id);
            state.turn = id.0;
            let pass = state.pass.max(self.pass);
            (self.pass, state.pass) = (pass, pass + stride(state.facts.weight));
            if let Standing::HalfOpen { probe } = &mut state.breaker.standing {
                probe.get_or_insert(id);
            }
        }
        if !is_adopted {
            self.charge(group, rows);
        }
        self.watch_straggler(job, first_row);
        self.refresh_worker(worker);
        self.refresh_job(job);
        id
    }

    /// Notes from when on a shard is a straggler; only one with a single live attempt and little suspicion can be.
    pub(super) fn watch_straggler(&mut self, job: JobId, first_row: u64) {
        let Some(state) = self.jobs.get_mut(&job) else { return };
        let Some(shard) = state.shards.get(&first_row) else { return };
        let running = match shard.live[..] {
            [one] if shard.deaths < self.config.quarantine_deaths => self.attempts.get(&one),
            _ => None,
        };
        let straggler_at: Option<Millis> = running.map(|attempt| {
            let rate = self.workers.get(&attempt.worker).and_then(|worker| worker.rates.get(&job));
            self.now + state.patience_ms(&self.config, rate, shard.rows)
        });
        let priority = state.plan.priority;
        if let Some(shard) = state.shards.get_mut(&first_row) {
            if let Some(at) = std::mem::replace(&mut shard.straggler_at, straggler_at) {
                self.stragglers.remove(priority, (at, job, first_row));
            }
            if let Some(at) = straggler_at {
                self.stragglers.insert(priority, (at, job, first_row));
            }
        }
    }

    /// Keeps the sets of jobs with something to lease true.
    pub(super) fn refresh_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let priority = Reverse(job.plan.priority);
        let is_ready = job.is_ready() && !self.groups.waits(job.group);
        let key = is_ready.then_some((priority, job.leased));
        if key != job.ready_key {
            if let Some(old) = std::mem::replace(&mut job.ready_key, key) {
                self.ready.remove(&(old, id));
            }
            self.ready.extend(key.map(|key| (key, id)));
        }
        if job.quarantined.is_empty() {
            self.quarantines.remove(&(priority, id));
        } else {
            self.quarantines.insert((priority, id));
        }
    }
}
