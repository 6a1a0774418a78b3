//! The world around the core: a master that can crash, a store that takes its time, a network that can fail, processes,
//! clients, and a clock.

mod clients;
mod counting;
mod faults;
mod master;
mod network;
mod workers;

use super::chance::{Chance, Counted, Counts};
use super::ledger::Ledger;
use super::process::{Command, Fate, Output, Process, Report};
use super::store::Store;
use super::workload::{self, JobTruth};
use crate::scheduler::{Effect, Event, JobOutcome, Millis, Scheduler};
use quipu_shared::config::PlacementPolicy;
use quipu_shared::ids::{Epoch, JobId, WorkerId};
use quipu_shared::wire::Lease;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Running attempts report this often.
const PROGRESS_MS: Millis = 1_000;
/// Reports between two offers of an output that is not acknowledged.
const PERIODS_UNANSWERED_MAX: u64 = 5;
/// Time within which every job ends once faults have stopped: a closed worker, some expired leases, and the work.
const CONVERGENCE_MS_MAX: Millis = 400_000;
/// Time within which every pause and restart from before is over: until then, a worker that always fails may be alone.
const HEALED_MS_MAX: Millis = 100_000;
/// Steps after which a seed is taken for a hot loop.
const STEPS_MAX: u64 = 200_000;

/// What happens at a time.
enum Act {
    ToMaster(WorkerId, Report),
    ToWorker(WorkerId, Command),
    /// The shell has fetched a large output.
    Fetched(WorkerId, Lease, Output),
    RunEnds(usize, u64, u64, Fate, Output),
    ProgressTick(usize, u64),
    Connect(usize, u64),
    Start(usize),
    LinkSeenClosed(WorkerId),
    Timer(Epoch, Millis),
    JobStep(usize),
    /// The store has synced what was proposed before this position.
    Commit(Epoch, u64),
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
    last_run: u64,
    jobs: Vec<JobTruth>,
    faults_left: u64,
    fault_spacing_ms: u64,
    master_paused_until: Millis,
    /// Effects until the master crashes.
    crash_after: Option<u64>,
    store: Store,
    is_committing: bool,
    /// Of the one group that may have a rate.
    rows_per_s: Option<u64>,
    /// Acknowledgements that wait until the log is committed up to a position, in its order.
    held_back: VecDeque<(u64, Effect)>,
    /// What clients were told; nothing may make it untrue.
    acknowledged_submits: BTreeSet<JobId>,
    acknowledged_ends: BTreeMap<JobId, JobOutcome>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let config = faults::config(&mut chance);
        let mut processes: Vec<Process> = (0..chance.within(3..6))
            .map(|_| {
                let slots = chance.within(1..4) as usize;
                let (zone, weight) = (chance.pick(&["a", "b", ""]), chance.pick(&[1, 2, 7]));
                Process { zone, weight, ..Process::new(slots, slots * 2, chance.within(500..2_000)) }
            })
            .collect();
        let mut counts = Counts::default();
        if chance.permille(100) {
            counts.note(Counted::WorkerBrokenForGood);
            processes[0].broken_until = Millis::MAX;
        }
        let rows_per_s = chance.pick(&faults::RATES);
        let mut jobs = workload::jobs(&mut chance);
        if processes[0].broken_until == Millis::MAX {
            // It is to be alone among healthy ones.
            for (_, fate) in jobs.iter_mut().filter_map(|truth| truth.poison.as_mut()) {
                *fate = Fate::Panics;
            }
        }
        let (faults_left, fault_spacing_ms) = (chance.within(6..25), chance.pick(&[50, 300, 1_500]));
        Self {
            core: Scheduler::new(Epoch(1), config.clone()),
            counts,
            steps: 0,
            ledger: Ledger::new(config),
            now: 0,
            sequence: 0,
            acts: BTreeMap::new(),
            processes,
            links: BTreeMap::new(),
            last_link: 0,
            last_run: 0,
            jobs,
            faults_left,
            fault_spacing_ms,
            master_paused_until: 0,
            crash_after: None,
            store: Store::default(),
            is_committing: false,
            rows_per_s,
            held_back: VecDeque::new(),
            acknowledged_submits: BTreeSet::new(),
            acknowledged_ends: BTreeMap::new(),
            chance,
        }
    }

    /// The same with a policy of its own to begin with.
    pub fn placed(seed: u64, placement: PlacementPolicy) -> Self {
        let mut world = Self::new(seed);
        world.ledger.config.placement = placement;
        world.core = Scheduler::new(Epoch(1), world.ledger.config.clone());
        world
    }

    pub fn shards_leased(&self) -> usize {
        self.ledger.shards_leased.len()
    }

    /// Whether a job is in the group that may have a rate.
    pub fn is_metered(&self) -> bool {
        self.jobs.iter().any(|job| job.plan.group.is_some())
    }

    /// Phase 1 until the last fault, phase 2 until every job has ended.
    pub fn run(&mut self) {
        self.set_rate();
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
        let is_any_broken = self.processes.iter().any(|process| process.broken_until == Millis::MAX);
        let probed_at = self.now + if is_any_broken { HEALED_MS_MAX } else { 0 };
        self.at(probed_at, Act::JobStep(self.jobs.len() - 1));
        while !self.all_ended() {
            self.tick();
            assert!(
                self.now < calm_at + CONVERGENCE_MS_MAX,
                "invariant every_job_ends: {:#?}",
                self.ledger.jobs.keys().map(|&job| (job, self.core.explain(job))).collect::<Vec<_>>()
            );
        }
        self.check_promises();
        self.check_outcomes();
    }

    fn all_ended(&self) -> bool {
        self.acknowledged_ends.len() == self.jobs.len()
    }

    /// Turns the faults off and lets everyone come back.
    fn calm(&mut self) {
        self.crash_after = None;
        for index in 0..self.processes.len() {
            if self.processes[index].broken_until < Millis::MAX {
                self.processes[index].broken_until = 0;
            }
            if self.processes[index].draining {
                self.kill(index);
            }
        }
    }

    /// Every job ended as its rows say, and the one that knew no faults exactly so.
    fn check_outcomes(&self) {
        for (&outcome, truth) in self.acknowledged_ends.values().zip(&self.jobs) {
            let excused = match outcome {
                JobOutcome::Cancelled => truth.cancel_at.is_some(),
                JobOutcome::DeadlinePassed => truth.plan.deadline_at.is_some(),
                JobOutcome::Poisoned { .. } => !truth.is_probe,
                JobOutcome::Succeeded | JobOutcome::FailedRow { .. } => outcome == truth.outcome(),
            };
            assert!(excused, "invariant every_job_ends_as_its_rows_say: {outcome:?} of {truth:?}");
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
            Act::RunEnds(process, incarnation, run, fate, output) => {
                self.end_run(process, incarnation, run, fate, output);
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
            Act::Commit(epoch, up_to) => self.commit(epoch, up_to),
            Act::Fault => self.inject_fault(),
        }
    }
}
