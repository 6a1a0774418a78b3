//! What an onlooker knows of the scheduler from its events and effects alone, kept without a look into it.

use super::store::Store;
use crate::scheduler::{Effect, Event, JobOutcome, JobPlan, Millis, SchedulerConfig};
use quipu_shared::ids::{AttemptId, Epoch, JobId, ShardId, WorkerId};
use quipu_shared::wire::{HeldShard, Lease};
use std::collections::{BTreeMap, BTreeSet};

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
}

impl Ledger {
    pub fn new(config: SchedulerConfig) -> Self {
        Self {
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
        }
    }

    /// A new master: only what is durable is left.
    pub fn restart(&mut self, epoch: Epoch, store: &Store) {
        self.epoch = epoch;
        self.workers.clear();
        self.leases.clear();
        self.live.clear();
        self.armed_at = None;
        self.jobs.retain(|job, _| store.recover().contains_key(job));
        for (&id, durable) in store.recover() {
            let job = self.jobs.entry(id).or_insert_with(|| SeenJob::new(&durable.plan));
            job.deaths.clear();
            job.failed_at.clear();
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
        if let Some(job) = self.jobs.get_mut(&lease.job) {
            *job.deaths.entry(lease.shard).or_default() += 1;
        }
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
        let held = self.workers.remove(&worker).map(|worker| worker.held).unwrap_or_default();
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
        if let Event::ShardAccepted { worker, .. }
        | Event::ShardRejected { worker, .. }
        | Event::ShardProgressed { worker, .. }
        | Event::ShardCompleted { worker, .. }
        | Event::ShardFailed { worker, .. } = event
            && let Some(seen) = self.workers.get_mut(worker)
        {
            seen.heard_at = self.now;
        }
        match event {
            Event::JobSubmitted { job, plan } => {
                self.jobs.insert(*job, SeenJob::new(plan));
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
            Event::WorkerJoined { worker, credits, held, .. } => {
                self.held = held.iter().filter(|held| held.lease.epoch < self.epoch).copied().collect();
                let seen = SeenWorker {
                    credits: *credits,
                    draining: false,
                    held: BTreeSet::new(),
                    paused_until: 0,
                    proven: BTreeMap::new(),
                    heard_at: self.now,
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
                    if self.live(lease.job, lease.shard).next().is_none()
                        && let Some(job) = self.jobs.get_mut(&lease.job)
                    {
                        job.failed_at.insert(lease.shard, self.now);
                    }
                }
            }
            Event::TimerFired => self.armed_at = None,
            Event::JobRecovered { .. } | Event::JobCancelled { .. } => {}
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
                let seen = SeenLease {
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
                    if wanted && seen.accepted {
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
            Effect::AcknowledgeShard { lease, .. } => {
                self.answered += usize::from(self.held.iter().any(|held| held.lease == *lease));
            }
        }
    }
}
