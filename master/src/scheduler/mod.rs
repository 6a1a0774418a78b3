//! The scheduler: a pure core. Time and events come in, effects go out; no async, no clock, no random source, no I/O.
//!
//! ```text
//!   job events ----------+                       +--> RecordCompletion, then AcknowledgeShard
//!   worker events -------+--> Scheduler::step ---+--> LeaseShard, CancelAttempt, CloseWorker
//!   TimerFired ----------+                       +--> EndJob, ArmTimer
//! ```
//!
//! The rows of a job are cut into shards in row order, each at the moment it is leased. An attempt lives from its
//! lease to the worker's report:
//!
//! ```text
//!   leased --> completed                    the first completion of a shard wins, whatever became of the attempt
//!      |-----> rejected, handed back        the shard waits again
//!      |-----> failed                       the shard pauses and then waits again, one death older
//!      |-----> worker lost                  the shard waits again, one death older
//!      +-----> ended (expired, or another attempt won, or the job ended)
//!                 the worker is told and its credit stays taken until it reports: a paused worker is not
//!                 oversubscribed. It is asked again each lease time, and one that never answers is closed.
//! ```
//!
//! Recovery is `Scheduler::new(epoch + 1)` and [`Event::JobRecovered`]; what workers still have from before is adopted
//! as they join, so that no work is lost. For the shell:
//! - Execute effects in order. A record may be committed later, but then every [`Effect::AcknowledgeShard`] waits until
//!   all that was proposed before it is committed.
//! - Feed [`Event::JobSubmitted`] once the job is committed: after a crash its id may else be given to another job, to
//!   which workers would bring rows of this one.
//! - Feed [`Event::JobRecovered`] for every job before the first [`Event::WorkerJoined`], or what could be adopted is
//!   thrown away.
//! - Feed [`Event::ShardProgressed`] while a large output is being fetched, so that its lease does not expire.

mod adopt;
mod breaker;
mod counts;
mod dispatch;
mod fitness;
mod groups;
mod job;
mod placement;
mod queries;
#[cfg(test)]
mod sim;
mod stragglers;
#[cfg(test)]
mod tests;
mod timers;
mod types;
mod worker;

pub use counts::AttemptCounts;
pub use types::{
    Done, Effect, Event, JobOutcome, JobPlan, Millis, PressureLimits, RowRange, SchedulerConfig, WorkerFacts,
};
pub use worker::WorkerLoad;

use adopt::retry_pause_ms;
use breaker::{Parked, Standing};
use counts::LeaseEnd;
use fitness::Census;
use groups::{GroupKey, Groups};
use job::{Job, ReadyKey, Shard};
use quipu_shared::ids::{AttemptId, Epoch, JobId, WorkerId};
use quipu_shared::wire::{HeldShard, Lease};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use stragglers::Stragglers;
use worker::{Rate, Worker};

/// A time at which something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKey {
    /// The lease expires, or its end is announced again.
    Attempt(AttemptId),
    /// The worker may be tried again after a rejection.
    Backoff(WorkerId),
    /// The worker's time in quarantine is over.
    Breaker(WorkerId),
    /// The job's time is over.
    Deadline(JobId),
    /// The group may be leased rows again.
    Group(GroupKey),
    /// The shard with this first row may be leased again after a failure.
    Pause(JobId, u64),
}

/// How an attempt ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It never ran, or was stopped: nothing is known of its shard.
    Unused,
    /// Its worker went away, or fell silent.
    Died,
    /// Its worker lives, and says so: what is wrong may need a moment.
    Failed,
}

/// An attempt that takes a credit of a worker.
#[derive(Clone, Debug)]
struct Attempt {
    lease: Lease,
    worker: WorkerId,
    /// The key of its worker's node.
    node: u64,
    first_row: u64,
    speculative: bool,
    /// Whether its worker had it before it was granted.
    is_adopted: bool,
    granted_at: Millis,
    /// Last news of it.
    renewed_at: Millis,
    accepted: bool,
    /// Rows done, once it has reported any progress.
    progress: Option<u64>,
    /// When its lease ended; until then it is live.
    ended_at: Option<Millis>,
    /// Its entry among the timers.
    timer_at: Millis,
}

/// Decides which worker executes which rows, and when a job has ended.
#[derive(Clone, Debug)]
pub struct Scheduler {
    epoch: Epoch,
    config: SchedulerConfig,
    now: Millis,
    jobs: BTreeMap<JobId, Job>,
    workers: BTreeMap<WorkerId, Worker>,
    /// Workers by node: each completion asks for the newest connection of its node.
    connections: BTreeSet<(u64, WorkerId)>,
    /// By id, which never repeats within an epoch.
    attempts: BTreeMap<AttemptId, Attempt>,
    last_attempt: u64,
    counts: AttemptCounts,
    /// Workers that may be given something, least loaded first.
    free: BTreeSet<(u64, WorkerId)>,
    /// Jobs with something to lease, in the order in which they are served.
    ready: BTreeSet<(ReadyKey, JobId)>,
    /// Shards with one live attempt.
    stragglers: Stragglers,
    /// Jobs with shards in quarantine, by priority.
    quarantines: BTreeSet<(Reverse<i8>, JobId)>,
    /// The worker that is being emptied for a shard in quarantine.
    reserved: Option<WorkerId>,
    /// Slots of the workers that are not draining.
    slots: u64,
    census: Census,
    /// Whether workers under pressure get work all the same, because nobody else can.
    strain_ignored: bool,
    /// Breakers of nodes that are not connected.
    parked: Parked,
    last_blame: u64,
    /// Virtual time, for the placement by weight.
    pass: u64,
    groups: Groups,
    timers: BTreeSet<(Millis, TimerKey)>,
    armed_at: Option<Millis>,
    /// When this master last woke from a pause of its own; nothing counts as silent before.
    awake_since: Millis,
}

impl Scheduler {
    /// An empty scheduler. `epoch` is above that of every master before.
    pub fn new(epoch: Epoch, config: SchedulerConfig) -> Self {
        Self {
            epoch,
            config,
            now: 0,
            jobs: BTreeMap::new(),
            workers: BTreeMap::new(),
            connections: BTreeSet::new(),
            attempts: BTreeMap::new(),
            last_attempt: 0,
            counts: AttemptCounts::default(),
            free: BTreeSet::new(),
            ready: BTreeSet::new(),
            stragglers: Stragglers::default(),
            quarantines: BTreeSet::new(),
            reserved: None,
            slots: 0,
            census: Census::default(),
            strain_ignored: true,
            parked: Parked::new(),
            last_blame: 0,
            pass: 0,
            groups: Groups::default(),
            timers: BTreeSet::new(),
            armed_at: None,
            awake_since: 0,
        }
    }

    /// The sole entry point: state, time and event determine the effects, which are appended in order.
    pub fn step(&mut self, now: Millis, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if event == Event::TimerFired {
            self.armed_at = None;
        }
        self.run_timers(effects);
        self.handle(event, effects);
        self.keep_live(effects);
        self.dispatch(effects);
        self.arm_timer(effects);
    }

    fn handle(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::JobSubmitted { job, plan } => self.add_job(job, plan, &Done::default(), effects),
            Event::JobRecovered { job, plan, done } => self.add_job(job, plan, &done, effects),
            Event::RowsKnown { job, rows, last } => {
                if let Some(state) = self.jobs.get_mut(&job)
                    && !state.rows_final
                {
                    state.rows_known = state.rows_known.max(rows);
                    state.rows_final = last;
                    self.settle(job, effects);
                }
            }
            Event::WindowMoved { job, up_to_row } => {
                if let Some(state) = self.jobs.get_mut(&job) {
                    state.window = up_to_row;
                    self.settle(job, effects);
                }
            }
            Event::JobCancelled { job } => self.end_job(job, JobOutcome::Cancelled, effects),
            Event::WorkerJoined { worker, facts, held } => self.add_worker(worker, facts, &held, effects),
            Event::WorkerLost { worker } => self.lose_worker(worker, effects),
            Event::WorkerDraining { worker, returned } => self.drain_worker(worker, &returned, effects),
            Event::ShardAccepted { worker, lease } => self.renew(worker, lease, None, effects),
            Event::ShardProgressed { worker, lease, rows_done } => self.renew(worker, lease, Some(rows_done), effects),
            Event::ShardRejected { worker, lease } => self.reject(worker, lease, effects),
            Event::ShardCompleted { worker, lease, busy_us, failed_row } => {
                self.complete(worker, lease, busy_us, failed_row, effects);
            }
            Event::ShardFailed { worker, lease } => {
                self.hear(worker);
                if let Some(attempt) = self.report(worker, lease) {
                    self.counts.end(&attempt, LeaseEnd::Failed);
                    self.blame_attempt(&attempt, effects);
                    self.detach(&attempt, End::Failed, effects);
                }
            }
            Event::HostReported { worker, host } => {
                // It is there, which says nothing of what waits in its queue: that may never have arrived.
                self.trust_again(worker);
                self.see_host(worker, host);
            }
            Event::GroupRateChanged { group, rows_per_s } => self.change_group_rate(&group, rows_per_s),
            Event::ConfigChanged { config } => self.reconfigure(*config, effects),
            Event::TimerFired => {}
        }
    }

    fn add_job(&mut self, job: JobId, plan: JobPlan, done: &Done, effects: &mut Vec<Effect>) {
        if self.jobs.contains_key(&job) {
            return;
        }
        let mut state = Job::new(plan, done);
        state.group = state.plan.group.as_ref().map(|group| self.groups.enter(group, job));
        if let Some(at) = state.plan.deadline_at {
            self.timers.insert((at, TimerKey::Deadline(job)));
        }
        self.jobs.insert(job, state);
        self.settle(job, effects);
        if self.jobs.get(&job).is_some_and(|state| state.plan.deadline_at.is_some_and(|at| at <= self.now)) {
            self.end_job(job, JobOutcome::DeadlinePassed, effects);
        }
    }

    /// Ends the job if it is done, and keeps the sets that it stands in true.
    fn settle(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        match self.jobs.get(&job).and_then(Job::outcome) {
            Some(outcome) => self.end_job(job, outcome, effects),
            None => self.refresh_job(job),
        }
    }

    fn end_job(&mut self, job: JobId, outcome: JobOutcome, effects: &mut Vec<Effect>) {
        let Some(mut state) = self.jobs.remove(&job) else { return };
        let priority = state.plan.priority;
        for shard in std::mem::take(&mut state.shards).into_values() {
            self.void_shard(job, priority, &shard, LeaseEnd::Unwanted, effects);
        }
        if let Some(key) = state.ready_key {
            self.ready.remove(&(key, job));
        }
        if let Some(at) = state.plan.deadline_at {
            self.timers.remove(&(at, TimerKey::Deadline(job)));
        }
        self.quarantines.remove(&(Reverse(state.plan.priority), job));
        if let Some(group) = state.group {
            self.groups.leave(group, job);
        }
        for worker in self.workers.values_mut() {
            worker.rates.remove(&job);
        }
        effects.push(Effect::EndJob { job, outcome });
    }

    /// What is left of a shard that was taken out: its live attempts end.
    fn void_shard(&mut self, job: JobId, priority: i8, shard: &Shard, end: LeaseEnd, effects: &mut Vec<Effect>) {
        if let Some(at) = shard.straggler_at {
            self.stragglers.remove(priority, (at, job, shard.first_row));
        }
        if let Some(at) = shard.paused_until {
            self.timers.remove(&(at, TimerKey::Pause(job, shard.first_row)));
        }
        for &attempt in &shard.live {
            self.end_attempt(attempt, end, effects);
        }
    }

    fn complete(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        busy_us: u64,
        failed_row: Option<u64>,
        effects: &mut Vec<Effect>,
    ) {
        self.hear(worker);
        if lease.epoch > self.epoch {
            // A newer master leads and wants this output; acknowledging would destroy it.
            return;
        }
        let wanted = self.wants(&lease);
        // The reporter may have reconnected: the credit is its old connection's then.
        if let Some(attempt) = self.attempts.get(&lease.attempt)
            && attempt.lease == lease
            && let Some(released) = self.release(lease.attempt)
        {
            self.counts.end(&released, LeaseEnd::Completed);
        }
        let taken = self.jobs.get_mut(&lease.job).filter(|_| wanted).and_then(|job| {
            let first_row = job.shard(lease.shard)?.first_row;
            Some((job.remove(first_row)?, job.plan.priority))
        });
        let Some((mut shard, priority)) = taken else {
            effects.push(Effect::AcknowledgeShard { worker, lease });
            return;
        };
        let (first_row, rows) = (shard.first_row, shard.rows);
        effects.push(Effect::RecordCompletion { job: lease.job, shard: shard.id, lease, first_row, rows });
        effects.push(Effect::AcknowledgeShard { worker, lease });
        shard.live.retain(|&attempt| attempt != lease.attempt);
        self.void_shard(lease.job, priority, &shard, LeaseEnd::Superseded, effects);
        if let Some(state) = self.workers.get_mut(&worker) {
            state.rejections = 0;
            state.measure(lease.job, rows, busy_us);
        }
        if let Some(node) = self.absolve(worker, &shard.failures, effects) {
            self.note_proof(lease.job, node);
        }
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        job.shards_done += 1;
        job.rows_done += rows;
        match &mut job.rate {
            Some(rate) => rate.measure(rows, busy_us),
            None => job.rate = Some(Rate::first(rows, busy_us)),
        }
        if let Some(row) = failed_row.filter(|row| job.plan.fail_fast && (first_row..first_row + rows).contains(row)) {
            for shard in job.fail_row(row) {
                self.void_shard(lease.job, priority, &shard, LeaseEnd::Unwanted, effects);
            }
        }
        self.settle(lease.job, effects);
    }

    fn reject(&mut self, worker: WorkerId, lease: Lease, effects: &mut Vec<Effect>) {
        self.hear(worker);
        let Some(attempt) = self.report(worker, lease) else { return };
        self.counts.end(&attempt, LeaseEnd::Returned);
        if attempt.ended_at.is_none()
            && let Some(state) = self.workers.get_mut(&worker)
        {
            // What was sent in one go comes back in one go.
            let is_news = state.backoff_until.is_none() && !state.draining && !attempt.is_adopted;
            let doublings = state.rejections.min(16);
            let pause_ms = (self.config.reject_backoff_ms << doublings).min(self.config.reject_backoff_max_ms);
            state.rejections += 1;
            if let Some(at) = state.backoff_until.replace(self.now + pause_ms) {
                self.timers.remove(&(at, TimerKey::Backoff(worker)));
            }
            self.timers.insert((self.now + pause_ms, TimerKey::Backoff(worker)));
            self.refresh_worker(worker);
            if is_news {
                self.blame_rejection(attempt.node, effects);
            }
        }
        self.detach(&attempt, End::Unused, effects);
    }

    /// News of an attempt that goes on.
    fn renew(&mut self, worker: WorkerId, lease: Lease, progress: Option<u64>, effects: &mut Vec<Effect>) {
        self.hear(worker);
        if let Some(attempt) = self.attempts.get_mut(&lease.attempt)
            && attempt.lease == lease
            && attempt.worker == worker
        {
            attempt.renewed_at = self.now;
            attempt.accepted = true;
            attempt.progress = progress.or(attempt.progress);
            if attempt.ended_at.is_none()
                && let Some(state) = self.workers.get_mut(&worker)
            {
                state.rejections = 0;
            }
        } else if lease.epoch <= self.epoch && !self.wants(&lease) {
            // It runs without a lease, after a reconnect or a lost message, and is of no use. (A useful one may go on.)
            effects.push(Effect::CancelAttempt { worker, lease });
        }
    }

    /// The worker lives.
    fn hear(&mut self, worker: WorkerId) {
        if let Some(state) = self.workers.get_mut(&worker) {
            state.heard_at = self.now;
        }
        self.trust_again(worker);
    }

    fn trust_again(&mut self, worker: WorkerId) {
        if self.workers.get_mut(&worker).is_some_and(|state| std::mem::take(&mut state.suspect)) {
            self.refresh_worker(worker);
        }
    }

    /// Takes an attempt that its worker reports as over.
    fn report(&mut self, worker: WorkerId, lease: Lease) -> Option<Attempt> {
        let attempt = self.attempts.get(&lease.attempt)?;
        if attempt.lease == lease && attempt.worker == worker { self.release(lease.attempt) } else { None }
    }

    /// Gives the credit of an attempt back.
    fn release(&mut self, id: AttemptId) -> Option<Attempt> {
        let attempt = self.attempts.remove(&id)?;
        self.timers.remove(&(attempt.timer_at, TimerKey::Attempt(id)));
        if let Some(worker) = self.workers.get_mut(&attempt.worker) {
            worker.held.remove(&id);
            worker.exclusive.take_if(|exclusive| *exclusive == id);
            if let Standing::HalfOpen { probe } = &mut worker.breaker.standing {
                probe.take_if(|probe| *probe == id);
            }
            self.refresh_worker(attempt.worker);
        }
        Some(attempt)
    }

    /// Takes a released or expired attempt from its shard, which waits again or is poison.
    fn detach(&mut self, attempt: &Attempt, end: End, effects: &mut Vec<Effect>) {
        let (id, job) = (attempt.lease.attempt, attempt.lease.job);
        let Some(state) = self.jobs.get_mut(&job) else { return };
        let Some(shard) = state.shards.get_mut(&attempt.first_row).filter(|shard| shard.live.contains(&id)) else {
            return;
        };
        shard.live.retain(|&live| live != id);
        state.leased -= 1;
        shard.deaths += u32::from(end != End::Unused);
        if shard.live.is_empty() {
            if shard.deaths >= self.config.attempts_max {
                let outcome = JobOutcome::Poisoned {
                    shard: shard.id,
                    first_row: shard.first_row,
                    rows: shard.rows,
                    attempts: shard.deaths,
                };
                self.end_job(job, outcome, effects);
                return;
            }
            if end == End::Failed {
                let at = self.now + retry_pause_ms(&self.config, job, shard);
                shard.paused_until = Some(at);
                state.paused.insert(attempt.first_row);
                self.timers.insert((at, TimerKey::Pause(job, attempt.first_row)));
            } else {
                state.queue(attempt.first_row, self.config.quarantine_deaths);
            }
        }
        self.watch_straggler(job, attempt.first_row);
        self.refresh_job(job);
    }

    /// Ends the lease of a live attempt and tells its worker.
    fn end_attempt(&mut self, id: AttemptId, end: LeaseEnd, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        self.counts.end(attempt, end);
        attempt.ended_at = Some(self.now);
        self.timers.remove(&(attempt.timer_at, TimerKey::Attempt(id)));
        attempt.timer_at = self.now + self.config.lease_ttl_ms;
        self.timers.insert((attempt.timer_at, TimerKey::Attempt(id)));
        effects.push(Effect::CancelAttempt { worker: attempt.worker, lease: attempt.lease });
    }

    fn add_worker(&mut self, worker: WorkerId, facts: WorkerFacts, held: &[HeldShard], effects: &mut Vec<Effect>) {
        self.lose_worker(worker, effects);
        let mut state = Worker::new(self.now, facts, &self.config);
        let breaker = self.unpark_breaker(state.node);
        let slots = u64::from(state.facts.slots);
        state.strained = self.config.pressure.exceeded_by(&state.host);
        self.connections.insert((state.node, worker));
        self.workers.insert(worker, state);
        self.slots += slots;
        self.refresh_worker(worker);
        self.take_breaker_over(worker, breaker, effects);
        self.adopt_held(worker, held, effects);
    }

    fn lose_worker(&mut self, worker: WorkerId, effects: &mut Vec<Effect>) {
        let Some(mut state) = self.remove_worker(worker) else { return };
        let (node, draining) = (state.node, state.draining);
        let gone: Vec<Attempt> =
            std::mem::take(&mut state.held).into_iter().filter_map(|id| self.release(id)).collect();
        self.park_breaker(worker, state, effects);
        if !draining {
            let live = gone.iter().filter(|attempt| attempt.ended_at.is_none());
            self.blame_worker(node, &live.cloned().collect::<Vec<_>>(), effects);
        }
        for attempt in gone {
            self.counts.end(&attempt, LeaseEnd::Lost);
            self.detach(&attempt, End::Died, effects);
        }
    }

    fn drain_worker(&mut self, worker: WorkerId, returned: &[Lease], effects: &mut Vec<Effect>) {
        self.hear(worker);
        let Some(state) = self.workers.get_mut(&worker) else { return };
        if !std::mem::replace(&mut state.draining, true) {
            self.slots -= u64::from(state.facts.slots);
        }
        self.refresh_worker(worker);
        for &lease in returned {
            if let Some(attempt) = self.report(worker, lease) {
                self.counts.end(&attempt, LeaseEnd::Returned);
                self.detach(&attempt, End::Unused, effects);
            }
        }
    }
}
