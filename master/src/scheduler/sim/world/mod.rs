//! The world around the core: a master that can crash, a network that can fail, processes, jobs, and a clock.

mod faults;
mod network;
mod workers;

use super::chance::{Chance, Counted, Counts};
use super::invariants::{AFTER_STEP, ON_EFFECT, SAMPLED, SAMPLED_STEPS};
use super::ledger::Ledger;
use super::process::{Command, Fate, Output, Process, Report};
use super::workload::{self, JobTruth};
use crate::scheduler::{DoneShard, Effect, Event, JobOutcome, Millis, Scheduler, SchedulerConfig};
use quipu_shared::ids::{Epoch, JobId, WorkerId};
use quipu_shared::wire::Lease;
use std::collections::BTreeMap;

/// Running attempts report this often.
const PROGRESS_MS: Millis = 1_000;
/// Time within which every job ends once faults have stopped: a closed worker, some expired leases, and the work.
const CONVERGENCE_MS_MAX: Millis = 400_000;
/// Steps after which a seed is taken for a hot loop.
const STEPS_MAX: u64 = 200_000;

/// What happens at a time.
enum Act {
    ToMaster(WorkerId, Report),
    ToWorker(WorkerId, Command),
    /// The shell has fetched a large output.
    Fetched(WorkerId, Lease, Output),
    RunEnds(usize, u64, Lease, Fate, Output),
    ProgressTick(usize, u64),
    Connect(usize, u64),
    Start(usize),
    LinkSeenClosed(WorkerId),
    Timer(Epoch, Millis),
    JobStep(usize),
    Fault,
}

/// A connection of a process; it outlives the link until the master has seen it close.
struct Link {
    process: usize,
    up: bool,
    /// The master that welcomed it.
    epoch: Epoch,
    /// Earliest times of the next messages, to and from the worker: a link keeps their order.
    next_at: [Millis; 2],
}

pub struct World {
    pub core: Scheduler,
    pub counts: Counts,
    pub steps: u64,
    chance: Chance,
    ledger: Ledger,
    now: Millis,
    sequence: u64,
    acts: BTreeMap<(Millis, u64), Act>,
    processes: Vec<Process>,
    links: BTreeMap<WorkerId, Link>,
    last_link: u64,
    jobs: Vec<JobTruth>,
    faults_left: u64,
    fault_spacing_ms: u64,
    master_paused_until: Millis,
    /// Effects until the master crashes.
    crash_after: Option<u64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let config = SchedulerConfig::default();
        let processes = (0..chance.within(3..6))
            .map(|_| {
                let slots = chance.within(1..4) as usize;
                Process::new(slots, slots * 2, chance.within(500..2_000))
            })
            .collect();
        let jobs = workload::jobs(&mut chance);
        let (faults_left, fault_spacing_ms) = (chance.within(6..25), chance.pick(&[50, 300, 1_500]));
        Self {
            core: Scheduler::new(Epoch(1), config.clone()),
            counts: Counts::default(),
            steps: 0,
            ledger: Ledger::new(config),
            now: 0,
            sequence: 0,
            acts: BTreeMap::new(),
            processes,
            links: BTreeMap::new(),
            last_link: 0,
            jobs,
            faults_left,
            fault_spacing_ms,
            master_paused_until: 0,
            crash_after: None,
            chance,
        }
    }

    pub fn shards_leased(&self) -> usize {
        self.ledger.shards_leased.len()
    }

    /// Phase 1 until the last fault, phase 2 until every job has ended.
    pub fn run(&mut self) {
        for process in 0..self.processes.len() {
            self.at(0, Act::Start(process));
        }
        for job in 0..self.jobs.len() {
            self.at(self.jobs[job].submitted_at, Act::JobStep(job));
        }
        self.at(self.fault_spacing_ms, Act::Fault);
        while self.faults_left > 0 {
            self.tick();
        }
        let calm_at = self.now;
        self.calm();
        let probe = workload::probe(&mut self.chance);
        self.jobs.push(probe);
        self.at(self.now, Act::JobStep(self.jobs.len() - 1));
        while !self.all_ended() {
            self.tick();
            assert!(
                self.now < calm_at + CONVERGENCE_MS_MAX,
                "invariant every_job_ends: {:#?}",
                self.ledger.jobs.keys().map(|&job| (job, self.core.explain(job))).collect::<Vec<_>>()
            );
        }
        self.check_outcomes();
    }

    fn all_ended(&self) -> bool {
        self.ledger.jobs.len() == self.jobs.len() && self.ledger.jobs.values().all(|job| job.outcome.is_some())
    }

    /// Turns the faults off and lets everyone come back.
    fn calm(&mut self) {
        self.crash_after = None;
        for index in 0..self.processes.len() {
            if self.processes[index].draining {
                self.kill(index);
            }
        }
    }

    /// Every job ended as its rows say, and the one that knew no faults exactly so.
    fn check_outcomes(&self) {
        for (job, truth) in self.ledger.jobs.values().zip(&self.jobs) {
            let excused = match job.outcome {
                Some(JobOutcome::Cancelled) => truth.cancel_at.is_some(),
                Some(JobOutcome::DeadlinePassed) => truth.plan.deadline_at.is_some(),
                Some(JobOutcome::Poisoned { .. }) => !truth.is_probe,
                outcome => outcome == Some(truth.outcome()),
            };
            assert!(excused, "invariant every_job_ends_as_its_rows_say: {:?} of {truth:?}", job.outcome);
        }
    }

    fn is_calm(&self) -> bool {
        self.faults_left == 0
    }

    fn fault(&mut self, permille: u64, what: Counted) -> bool {
        let strikes = !self.is_calm() && self.chance.permille(permille);
        if strikes {
            self.counts.note(what);
        }
        strikes
    }

    fn at(&mut self, at: Millis, act: Act) {
        self.sequence += 1;
        self.acts.insert((at.max(self.now), self.sequence), act);
    }

    fn tick(&mut self) {
        let ((at, _), act) = self.acts.pop_first().expect("the world stands still");
        self.now = at;
        match act {
            Act::ToMaster(link, report) => self.reach_master(link, report),
            Act::ToWorker(link, command) => self.reach_worker(link, command),
            Act::Fetched(link, lease, output) => {
                if self.master_holds(link, Act::Fetched, lease, output) {
                    self.deliver_completion(link, lease, output);
                }
            }
            Act::RunEnds(process, incarnation, lease, fate, output) => {
                self.end_run(process, incarnation, lease, fate, output);
            }
            Act::ProgressTick(process, incarnation) => self.report_progress(process, incarnation),
            Act::Connect(process, incarnation) => self.connect(process, incarnation),
            Act::Start(process) => {
                if !self.processes[process].up {
                    self.processes[process].up = true;
                    let incarnation = self.processes[process].incarnation;
                    self.at(self.now + PROGRESS_MS, Act::ProgressTick(process, incarnation));
                    self.connect(process, incarnation);
                }
            }
            Act::LinkSeenClosed(link) => {
                if let Some(closed) = self.links.remove(&link)
                    && closed.epoch == self.ledger.epoch
                {
                    self.deliver(Event::WorkerLost { worker: link });
                }
            }
            Act::Timer(epoch, at) => {
                if epoch != self.ledger.epoch || self.ledger.armed_at != Some(at) {
                } else if self.master_paused_until > self.now {
                    self.at(self.master_paused_until, Act::Timer(epoch, at));
                } else {
                    self.deliver(Event::TimerFired);
                }
            }
            Act::JobStep(job) => self.step_job(job),
            Act::Fault => self.inject_fault(),
        }
    }

    // The master and its shell.

    /// Steps the core, holds it against the invariants and carries its effects out.
    fn deliver(&mut self, event: Event) {
        if self.ledger.armed_at.is_some_and(|at| at <= self.now) && event != Event::TimerFired {
            self.deliver(Event::TimerFired);
        }
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "invariant no_hot_loop: {event:?} at {}", self.now);
        self.ledger.now = self.now;
        self.ledger.see_event(&event);
        self.count_event(&event);
        let mut effects = Vec::new();
        self.core.step(self.now, event.clone(), &mut effects);
        for effect in effects {
            if self.crash_after.is_some_and(|left| left == 0) {
                self.crash_master();
                return;
            }
            self.crash_after = self.crash_after.map(|left| left - 1);
            for (name, holds) in ON_EFFECT {
                assert!(holds(&self.ledger, &effect), "invariant {name}: {effect:?} after {event:?} at {}", self.now);
            }
            self.count_effect(&effect);
            self.ledger.see_effect(&effect);
            self.carry_out(effect);
        }
        let sampled = if self.steps.is_multiple_of(SAMPLED_STEPS) { SAMPLED } else { &[] };
        for (name, holds) in AFTER_STEP.iter().chain(sampled) {
            assert!(
                holds(&self.ledger, &self.core),
                "invariant {name}: after {event:?} at {}: {:#?}",
                self.now,
                self.core
            );
        }
        self.ledger.end_step();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::LeaseShard { worker, lease, first_row, rows, .. } => {
                self.send_command(worker, Command::Lease { lease, first_row, rows });
            }
            Effect::CancelAttempt { worker, lease } => self.send_command(worker, Command::Cancel(lease)),
            Effect::AcknowledgeShard { worker, lease } => self.send_command(worker, Command::Acknowledge(lease)),
            Effect::CloseWorker { worker } => self.break_link(worker),
            Effect::ArmTimer(at) => self.at(at, Act::Timer(self.ledger.epoch, at)),
            Effect::RecordCompletion { .. } | Effect::EndJob { .. } => {}
        }
    }

    fn count_event(&mut self, event: &Event) {
        match event {
            Event::ShardCompleted { lease, .. } if lease.epoch < self.ledger.epoch => {
                self.counts.note(Counted::StaleCompletion);
            }
            Event::ShardCompleted { lease, .. } if !self.ledger.is_wanted(lease) => {
                self.counts.note(Counted::DuplicateCompletion);
            }
            Event::WorkerDraining { returned, .. } if !returned.is_empty() => self.counts.note(Counted::Returned),
            Event::JobRecovered { failed_row, .. } => {
                self.counts.note(Counted::Recovered);
                if failed_row.is_some() {
                    self.counts.note(Counted::RecoveredFailing);
                }
            }
            _ => {}
        }
    }

    fn count_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::LeaseShard { speculative: true, .. } => self.counts.note(Counted::Speculation),
            Effect::LeaseShard { lease, .. } if self.ledger.is_quarantined(lease) => {
                self.counts.note(Counted::Quarantine);
            }
            Effect::RecordCompletion { lease, .. } if self.ledger.leases[lease].expired => {
                self.counts.note(Counted::LateCompletion);
            }
            Effect::CloseWorker { .. } => self.counts.note(Counted::WorkerClosed),
            Effect::EndJob { outcome, .. } => self.counts.note(match outcome {
                JobOutcome::Succeeded => Counted::Succeeded,
                JobOutcome::FailedRow { .. } => Counted::FailedRow,
                JobOutcome::Poisoned { .. } => Counted::Poisoned,
                JobOutcome::DeadlinePassed => Counted::DeadlinePassed,
                JobOutcome::Cancelled => Counted::JobCancelled,
            }),
            _ => {}
        }
    }

    /// Only what was recorded survives.
    fn crash_master(&mut self) {
        self.counts.note(Counted::MasterCrash);
        self.crash_after = None;
        let epoch = Epoch(self.ledger.epoch.0 + 1);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.break_link(link);
        }
        self.ledger.restart(epoch);
        self.core = Scheduler::new(epoch, SchedulerConfig::default());
        let open: Vec<JobId> =
            self.ledger.jobs.iter().filter(|(_, job)| job.outcome.is_none()).map(|(&id, _)| id).collect();
        for job in open {
            let seen = &self.ledger.jobs[&job];
            let done = seen
                .records
                .iter()
                .map(|(&first_row, &(end_row, shard))| DoneShard { shard, first_row, rows: end_row - first_row })
                .collect();
            let mut plan = seen.plan.clone();
            (plan.rows_known, plan.rows_final, plan.up_to_row) = (seen.rows_known, seen.rows_final, seen.window);
            self.deliver(Event::JobRecovered { job, plan, done, failed_row: seen.failing });
        }
    }

    /// Whether the master is there to see something of this link; puts it off while the master is paused.
    fn master_holds<A>(
        &mut self,
        link: WorkerId,
        again: fn(WorkerId, A, Output) -> Act,
        what: A,
        output: Output,
    ) -> bool {
        if self.master_paused_until > self.now {
            self.at(self.master_paused_until, again(link, what, output));
            return false;
        }
        self.links.get(&link).is_some_and(|link| link.up && link.epoch == self.ledger.epoch)
    }

    fn reach_master(&mut self, worker: WorkerId, report: Report) {
        let no_output = Output { busy_us: 0, failed_row: None };
        if !self.master_holds(worker, |link, report, _| Act::ToMaster(link, report), report.clone(), no_output) {
            return;
        }
        match report {
            Report::Accepted(lease) => self.deliver(Event::ShardAccepted { worker, lease }),
            Report::Rejected(lease) => self.deliver(Event::ShardRejected { worker, lease }),
            Report::Progressed(lease, rows_done) => self.deliver(Event::ShardProgressed { worker, lease, rows_done }),
            Report::Failed(lease) => self.deliver(Event::ShardFailed { worker, lease }),
            Report::DrainStarted(returned) => self.deliver(Event::WorkerDraining { worker, returned }),
            Report::Completed(lease, output) => {
                if !self.core.wants(&lease) || self.chance.permille(700) {
                    self.deliver_completion(worker, lease, output);
                } else if self.fault(50, Counted::OutputGone) {
                    self.deliver(Event::ShardFailed { worker, lease });
                } else {
                    let fetched_at = self.now + self.chance.within(1..2_000);
                    self.at(fetched_at, Act::Fetched(worker, lease, output));
                }
            }
        }
    }

    fn deliver_completion(&mut self, worker: WorkerId, lease: Lease, output: Output) {
        let Output { busy_us, failed_row } = output;
        self.deliver(Event::ShardCompleted { worker, lease, busy_us, failed_row });
    }

    fn step_job(&mut self, index: usize) {
        if self.master_paused_until > self.now {
            self.at(self.master_paused_until, Act::JobStep(index));
            return;
        }
        let job = JobId(index as u64 + 1);
        let truth = &self.jobs[index];
        let Some(seen) = self.ledger.jobs.get(&job) else {
            let plan = truth.plan.clone();
            self.at(self.now + truth.step_ms, Act::JobStep(index));
            self.deliver(Event::JobSubmitted { job, plan });
            return;
        };
        if seen.outcome.is_some() {
            if truth.cancel_at.is_some() {
                // A client may cancel what has just ended.
                self.deliver(Event::JobCancelled { job });
            }
            return;
        }
        let (rows_known, rows_final, prefix, window) = (seen.rows_known, seen.rows_final, seen.prefix(), seen.window);
        let (rows, window_rows, step_ms) = (truth.rows, truth.window_rows, truth.step_ms);
        let is_cancelled = truth.cancel_at.is_some_and(|at| at <= self.now);
        self.at(self.now + step_ms, Act::JobStep(index));
        if is_cancelled {
            self.deliver(Event::JobCancelled { job });
            return;
        }
        if !rows_final {
            let known = rows.min(rows_known + self.chance.within(1..rows / 4 + 2));
            let last = known == rows && self.chance.permille(500);
            self.deliver(Event::RowsKnown { job, rows: known, last });
        }
        if let Some(window_rows) = window_rows
            && prefix + window_rows > window
        {
            self.deliver(Event::WindowMoved { job, up_to_row: prefix + window_rows });
        }
    }
}
