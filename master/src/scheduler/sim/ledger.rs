//! What an onlooker knows of the scheduler from its events and effects alone, kept without a look into it.

use super::store::Store;
use crate::scheduler::{Effect, Event, JobOutcome, JobPlan, Millis, SchedulerConfig, WorkerFacts};
use quipu_shared::host::HostLoad;
use quipu_shared::ids::{AttemptId, Epoch, JobId, NodeId, ShardId, WorkerId};
use quipu_shared::wire::{HeldShard, Lease};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A worker in the schedule.
#[derive(Debug)]
pub struct SeenWorker {
    pub credits: u32,
    pub draining: bool,
    /// Leases that it has not reported.
    pub held: BTreeSet<Lease>,
    pub paused_until: Millis,
    /// Largest shard that it completed, by job.
    pub proven: BTreeMap<JobId, u64>,
    pub heard_at: Millis,
    /// The same, reports of its host apart.
    pub heard_of_work_at: Millis,
    pub facts: WorkerFacts,
    /// As it last said.
    pub host: HostLoad,
}

/// What speaks against a node, over all its connections.
#[derive(Debug, Default)]
pub struct SeenNode {
    /// Its attempts that failed since it last completed anything, of jobs that others can do and of shards that failed
    /// nowhere else: for these, nothing excuses it.
    pub guilty: BTreeSet<(JobId, ShardId, AttemptId)>,
    /// Whether any attempt failed here since then.
    pub is_doubtful: bool,
    /// Everything since then that might count against it.
    pub troubles: u64,
}

/// What a group of jobs got.
#[derive(Debug, Default)]
pub struct SeenGroup {
    pub rows_per_s: Option<u64>,
    /// The most by which what it got in any stretch of time up to now is over its rate.
    pub excess_millirows: u64,
    pub leased_at: Millis,
    /// Rows of the largest shard since the rate was set.
    pub shard_rows_max: u64,
}

impl SeenGroup {
    /// Excess after a lease of so many rows.
    pub fn excess_with(&self, now: Millis, rows: u64) -> u64 {
        let allowed = (now - self.leased_at) * self.rows_per_s.unwrap_or(0);
        self.excess_millirows.saturating_sub(allowed) + rows * 1_000
    }
}

/// A lease of this epoch.
#[derive(Debug)]
pub struct SeenLease {
    pub worker: WorkerId,
    pub first_row: u64,
    pub rows: u64,
    pub accepted: bool,
    pub progressed: bool,
    pub granted_at: Millis,
    pub renewed_at: Millis,
    /// Whether its shard had died so often that it was to run alone.
    pub quarantined: bool,
    /// First cancellation.
    pub cancelled_at: Option<Millis>,
    /// Whether it was cancelled for silence.
    pub expired: bool,
    /// Whether it took over an attempt of an older epoch.
    pub adopted: bool,
    pub node: NodeId,
}

/// A job, ended or not.
#[derive(Debug)]
pub struct SeenJob {
    pub plan: JobPlan,
    pub rows_known: u64,
    pub rows_final: bool,
    pub window: u64,
    /// First row to (end, shard) of what is recorded.
    pub records: BTreeMap<u64, (u64, ShardId)>,
    /// The lowest failed row that is recorded, where it matters.
    pub failing: Option<u64>,
    /// Ranges of shards; those of older epochs only if recorded.
    pub ranges: BTreeMap<ShardId, (u64, u64)>,
    /// Deaths in this epoch.
    pub deaths: BTreeMap<ShardId, u32>,
    /// Shards whose last attempt failed, and when: they are to pause.
    pub failed_at: BTreeMap<ShardId, Millis>,
    /// Nodes on which an attempt of a shard died.
    pub died_on: BTreeMap<ShardId, BTreeSet<NodeId>>,
    /// Nodes that completed anything in this epoch.
    pub done_by: BTreeSet<NodeId>,
    pub outcome: Option<JobOutcome>,
}

impl SeenJob {
    fn new(plan: &JobPlan) -> Self {
        Self {
            rows_known: plan.rows_known,
            rows_final: plan.rows_final,
            window: plan.up_to_row,
            plan: plan.clone(),
            records: BTreeMap::new(),
            failing: None,
            ranges: BTreeMap::new(),
            deaths: BTreeMap::new(),
            failed_at: BTreeMap::new(),
            died_on: BTreeMap::new(),
            done_by: BTreeSet::new(),
            outcome: None,
        }
    }

    /// Whether rows held from an older epoch are whole shards that nobody has and that the job needs.
    pub fn is_adoptable(&self, first_row: u64, rows: u64) -> bool {
        let end_row = first_row + rows;
        let is_last = self.rows_final && end_row == self.rows_known;
        let is_whole = rows > 0
            && first_row.is_multiple_of(self.plan.granule)
            && (end_row.is_multiple_of(self.plan.granule) || is_last);
        let is_needed = end_row <= self.rows_known && self.failing.is_none_or(|row| end_row <= row);
        // Every shard of this epoch is done, open or above a failing row.
        let is_free = self.ranges.values().all(|&(first, rows)| first + rows <= first_row || end_row <= first);
        self.outcome.is_none() && is_whole && is_needed && is_free
    }

    /// The lowest row that is not recorded.
    pub fn prefix(&self) -> u64 {
        let mut row = 0;
        while let Some((end_row, _)) = self.records.get(&row) {
            row = *end_row;
        }
        row
    }
}

/// Everything seen.
#[derive(Debug)]
pub struct Ledger {
    pub config: SchedulerConfig,
    pub now: Millis,
    pub epoch: Epoch,
    pub workers: BTreeMap<WorkerId, SeenWorker>,
    pub leases: BTreeMap<Lease, SeenLease>,
    /// Those of them that are neither reported, nor cancelled, nor of a lost worker.
    pub live: BTreeSet<Lease>,
    pub issued: BTreeSet<(Epoch, AttemptId)>,
    pub jobs: BTreeMap<JobId, SeenJob>,
    pub armed_at: Option<Millis>,
    /// The completion under way in this step, with its failed row.
    pub completed: Option<(WorkerId, Lease, Option<u64>)>,
    /// Live leases that were cancelled in this step.
    pub cancelled: Vec<Lease>,
    pub shards_leased: BTreeSet<(Epoch, JobId, ShardId)>,
    /// What the worker that joins in this step holds of older epochs.
    pub held: Vec<HeldShard>,
    /// How many of them were adopted or ended so far.
    pub answered: usize,
    /// The lowest priority that got a lease in this step, speculative attempts aside.
    pub served: Option<i8>,
    /// Leases of this step.
    pub granted: Vec<(WorkerId, Lease)>,
    /// The fewest failures that it took for a quarantine, at any time.
    pub breaker_failures_min: u32,
    pub nodes: BTreeMap<NodeId, SeenNode>,
    pub groups: BTreeMap<Arc<str>, SeenGroup>,
}

impl Ledger {
    pub fn new(config: SchedulerConfig) -> Self {
        Self {
            breaker_failures_min: config.breaker_failures,
            config,
            now: 0,
            epoch: Epoch(1),
            workers: BTreeMap::new(),
            leases: BTreeMap::new(),
            live: BTreeSet::new(),
            issued: BTreeSet::new(),
            jobs: BTreeMap::new(),
            armed_at: None,
            completed: None,
            cancelled: Vec::new(),
            shards_leased: BTreeSet::new(),
            held: Vec::new(),
            answered: 0,
            served: None,
            granted: Vec::new(),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// A new master: only what is durable is left.
    pub fn restart(&mut self, epoch: Epoch, store: &Store) {
        self.epoch = epoch;
        self.workers.clear();
        self.leases.clear();
        self.live.clear();
        self.armed_at = None;
        self.nodes.clear();
        self.groups.clear();
        self.jobs.retain(|job, _| store.recover().contains_key(job));
        for (&id, durable) in store.recover() {
            let job = self.jobs.entry(id).or_insert_with(|| SeenJob::new(&durable.plan));
            job.deaths.clear();
            job.failed_at.clear();
            job.died_on.clear();
            job.done_by.clear();
            job.records.clone_from(&durable.ranges);
            job.ranges = job.records.iter().map(|(&row, &(end_row, shard))| (shard, (row, end_row - row))).collect();
            (job.failing, job.outcome) = (durable.failed_row, durable.outcome);
        }
    }

    pub fn is_wanted(&self, lease: &Lease) -> bool {
        let (Some(job), Some(seen)) = (self.jobs.get(&lease.job), self.leases.get(lease)) else { return false };
        job.outcome.is_none()
            && !job.records.contains_key(&seen.first_row)
            && job.failing.is_none_or(|row| seen.first_row < row)
    }

    pub fn is_quarantined(&self, lease: &Lease) -> bool {
        let deaths = self.jobs.get(&lease.job).and_then(|job| job.deaths.get(&lease.shard)).copied();
        deaths.unwrap_or(0) >= self.config.quarantine_deaths
    }

    pub fn live(&self, job: JobId, shard: ShardId) -> impl Iterator<Item = &SeenLease> {
        let of_shard = move |lease: &&Lease| lease.job == job && lease.shard == shard;
        self.live.iter().filter(of_shard).filter_map(|lease| self.leases.get(lease))
    }

    fn die(&mut self, lease: Lease) {
        let Some(node) = self.leases.get(&lease).map(|seen| seen.node.clone()) else { return };
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            *job.deaths.entry(lease.shard).or_default() += 1;
            job.died_on.entry(lease.shard).or_default().insert(node.clone());
        }
        // Whoever else failed on this shard may be as good as this one.
        for (_, other) in self.nodes.iter_mut().filter(|(id, _)| **id != node) {
            other.guilty.retain(|(job, shard, _)| (*job, *shard) != (lease.job, lease.shard));
        }
    }

    fn trouble(&mut self, node: &NodeId) {
        self.nodes.entry(node.clone()).or_default().troubles += 1;
    }

    fn node_of(&self, worker: WorkerId) -> Option<NodeId> {
        self.workers.get(&worker).map(|seen| seen.facts.node.clone())
    }

    /// The worker reports the lease as over; true if it was live.
    fn report(&mut self, worker: WorkerId, lease: Lease) -> bool {
        if self.leases.get(&lease).is_none_or(|seen| seen.worker != worker) {
            return false;
        }
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.held.remove(&lease);
        }
        self.live.remove(&lease)
    }

    fn lose(&mut self, worker: WorkerId) {
        let Some(SeenWorker { held, facts, .. }) = self.workers.remove(&worker) else { return };
        self.trouble(&facts.node);
        for lease in held {
            if self.live.remove(&lease) {
                self.die(lease);
            }
        }
    }

    /// Before the core steps.
    pub fn see_event(&mut self, event: &Event) {
        self.completed = None;
        self.cancelled.clear();
        self.held.clear();
        self.answered = 0;
        self.served = None;
        self.granted.clear();
        if let Event::ShardAccepted { worker, .. }
        | Event::ShardRejected { worker, .. }
        | Event::ShardProgressed { worker, .. }
        | Event::ShardCompleted { worker, .. }
        | Event::HostReported { worker, .. }
        | Event::ShardFailed { worker, .. } = event
            && let Some(seen) = self.workers.get_mut(worker)
        {
            seen.heard_at = self.now;
            if !matches!(event, Event::HostReported { .. }) {
                seen.heard_of_work_at = self.now;
            }
        }
        match event {
            Event::JobSubmitted { job, plan } => {
                // One that a new master has found in its store already stays as it was found.
                self.jobs.entry(*job).or_insert_with(|| SeenJob::new(plan));
            }
            Event::RowsKnown { job, rows, last } => {
                if let Some(seen) = self.jobs.get_mut(job) {
                    (seen.rows_known, seen.rows_final) = (*rows, *last);
                }
            }
            Event::WindowMoved { job, up_to_row } => {
                if let Some(seen) = self.jobs.get_mut(job) {
                    seen.window = *up_to_row;
                }
            }
            Event::WorkerJoined { worker, facts, held } => {
                self.held = held.iter().filter(|held| held.lease.epoch < self.epoch).copied().collect();
                let seen = SeenWorker {
                    credits: facts.credits,
                    draining: false,
                    held: BTreeSet::new(),
                    paused_until: 0,
                    proven: BTreeMap::new(),
                    heard_at: self.now,
                    heard_of_work_at: self.now,
                    facts: facts.clone(),
                    host: HostLoad::default(),
                };
                self.workers.insert(*worker, seen);
            }
            Event::WorkerLost { worker } => self.lose(*worker),
            Event::WorkerDraining { worker, returned } => {
                if let Some(seen) = self.workers.get_mut(worker) {
                    seen.draining = true;
                }
                for lease in returned {
                    self.report(*worker, *lease);
                }
            }
            Event::ShardAccepted { worker, lease } | Event::ShardProgressed { worker, lease, .. } => {
                if let Some(seen) = self.leases.get_mut(lease).filter(|seen| seen.worker == *worker) {
                    seen.accepted = true;
                    seen.progressed |= matches!(event, Event::ShardProgressed { .. });
                    seen.renewed_at = self.now;
                }
            }
            Event::ShardRejected { worker, lease } => {
                if self.report(*worker, *lease)
                    && let Some(seen) = self.workers.get_mut(worker)
                {
                    seen.paused_until = self.now + self.config.reject_backoff_ms;
                    let node = seen.facts.node.clone();
                    self.trouble(&node);
                }
            }
            Event::ShardCompleted { worker, lease, failed_row, .. } => {
                self.completed = Some((*worker, *lease, *failed_row));
                if let Some(holder) = self.leases.get(lease).map(|seen| seen.worker) {
                    self.report(holder, *lease);
                }
            }
            Event::ShardFailed { worker, lease } => {
                if self.report(*worker, *lease) {
                    self.die(*lease);
                    self.suspect(*worker, *lease);
                    if self.live(lease.job, lease.shard).next().is_none()
                        && let Some(job) = self.jobs.get_mut(&lease.job)
                    {
                        job.failed_at.insert(lease.shard, self.now);
                    }
                }
            }
            Event::HostReported { worker, host } => {
                if let Some(seen) = self.workers.get_mut(worker) {
                    seen.host = *host;
                }
            }
            Event::GroupRateChanged { group, rows_per_s } => {
                let fresh = SeenGroup { rows_per_s: *rows_per_s, leased_at: self.now, ..SeenGroup::default() };
                self.groups.insert(Arc::clone(group), fresh);
            }
            Event::ConfigChanged { config } => {
                self.breaker_failures_min = self.breaker_failures_min.min(config.breaker_failures);
                self.config = SchedulerConfig::clone(config);
            }
            Event::TimerFired => self.armed_at = None,
            Event::JobRecovered { .. } | Event::JobCancelled { .. } => {}
        }
    }

    /// A live attempt has failed, and not because its worker went away.
    fn suspect(&mut self, worker: WorkerId, lease: Lease) {
        let (Some(node), Some(job)) = (self.node_of(worker), self.jobs.get(&lease.job)) else { return };
        let is_of_others = job.done_by.iter().any(|other| *other != node);
        let is_elsewhere = job.died_on.get(&lease.shard).is_some_and(|on| on.iter().any(|other| *other != node));
        let has_ended = job.outcome.is_some();
        let seen = self.nodes.entry(node).or_default();
        seen.troubles += 1;
        seen.is_doubtful = true;
        if is_of_others && !is_elsewhere && !has_ended {
            seen.guilty.insert((lease.job, lease.shard, lease.attempt));
        }
    }

    /// After the last effect of a step: what was cancelled and is still wanted had expired.
    pub fn end_step(&mut self) {
        for lease in std::mem::take(&mut self.cancelled) {
            let expired = self.is_wanted(&lease);
            if let Some(seen) = self.leases.get_mut(&lease) {
                seen.expired = expired;
            }
        }
    }

    /// After the effect was checked, and as it is carried out.
    pub fn see_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::RecordCompletion { job, shard, first_row, rows, lease } => {
                let completed = self.completed.filter(|(_, of, _)| of == lease);
                if let Some(node) = completed.and_then(|(worker, ..)| self.node_of(worker)) {
                    let died_on = self.jobs.get(job).and_then(|seen| seen.died_on.get(shard)).cloned();
                    for other in died_on.into_iter().flatten().filter(|other| *other != node) {
                        // What failed there works here; each of its attempts may count.
                        self.nodes.entry(other).or_default().troubles += u64::from(self.config.attempts_max);
                    }
                    self.nodes.insert(node.clone(), SeenNode::default());
                    if let Some(seen) = self.jobs.get_mut(job) {
                        seen.done_by.insert(node);
                    }
                }
                let failed_row = completed.and_then(|(.., row)| row);
                if let Some(seen) = completed.and_then(|(worker, ..)| self.workers.get_mut(&worker)) {
                    let proven = seen.proven.entry(*job).or_default();
                    *proven = (*proven).max(*rows);
                }
                if let Some(seen) = self.jobs.get_mut(job) {
                    seen.records.insert(*first_row, (first_row + rows, *shard));
                    if let Some(row) = failed_row.filter(|_| seen.plan.fail_fast) {
                        seen.failing = Some(seen.failing.map_or(row, |lowest| lowest.min(row)));
                    }
                }
            }
            Effect::LeaseShard { worker, lease, first_row, rows, .. }
            | Effect::AdoptShard { worker, lease, first_row, rows, .. } => {
                self.issued.insert((lease.epoch, lease.attempt));
                self.shards_leased.insert((lease.epoch, lease.job, lease.shard));
                let Some(node) = self.node_of(*worker) else { return };
                let seen = SeenLease {
                    node,
                    worker: *worker,
                    first_row: *first_row,
                    rows: *rows,
                    accepted: false,
                    progressed: false,
                    granted_at: self.now,
                    renewed_at: self.now,
                    quarantined: self.is_quarantined(lease),
                    cancelled_at: None,
                    expired: false,
                    adopted: matches!(effect, Effect::AdoptShard { .. }),
                };
                self.answered += usize::from(seen.adopted);
                if !seen.adopted {
                    self.granted.push((*worker, *lease));
                    let group = self.jobs.get(&lease.job).and_then(|job| job.plan.group.as_ref());
                    if let Some(group) = group.and_then(|group| self.groups.get_mut(group)) {
                        group.excess_millirows = group.excess_with(self.now, *rows);
                        group.leased_at = self.now;
                        group.shard_rows_max = group.shard_rows_max.max(*rows);
                    }
                }
                self.leases.insert(*lease, seen);
                self.live.insert(*lease);
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.held.insert(*lease);
                }
                if let Some(job) = self.jobs.get_mut(&lease.job) {
                    job.ranges.insert(lease.shard, (*first_row, *rows));
                    job.failed_at.remove(&lease.shard);
                    if matches!(effect, Effect::LeaseShard { speculative: false, .. }) {
                        self.served = Some(job.plan.priority);
                    }
                }
            }
            Effect::CancelAttempt { lease, .. } => {
                let wanted = self.is_wanted(lease);
                let Some(seen) = self.leases.get_mut(lease) else { return };
                seen.cancelled_at.get_or_insert(self.now);
                if self.live.remove(lease) {
                    self.cancelled.push(*lease);
                    let (node, accepted) = (seen.node.clone(), seen.accepted);
                    if wanted {
                        self.trouble(&node);
                    }
                    if wanted && accepted {
                        self.die(*lease);
                    }
                }
            }
            Effect::CloseWorker { worker } => self.lose(*worker),
            Effect::EndJob { job, outcome } => {
                if let Some(seen) = self.jobs.get_mut(job) {
                    seen.outcome = Some(*outcome);
                }
            }
            Effect::ArmTimer(at) => self.armed_at = Some(*at),
            Effect::ShowBreaker { .. } => {}
            Effect::AcknowledgeShard { lease, .. } => {
                self.answered += usize::from(self.held.iter().any(|held| held.lease == *lease));
            }
        }
    }
}
