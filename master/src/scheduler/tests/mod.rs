//! Facts about the core, one behaviour each. What holds in every history is in [`super::sim`].

mod adopting;
mod breaking;
mod cutting;
mod endings;
mod leases;
mod pausing;
mod pressure;
mod priorities;
mod quotas;

use super::{Done, Effect, Event, JobOutcome, JobPlan, Millis, RowRange, Scheduler, SchedulerConfig, WorkerFacts};
use quipu_shared::ids::{Epoch, JobId, NodeId, WorkerId};
use quipu_shared::wire::{HeldShard, Lease};

const JOB: JobId = JobId(1);
const EPOCH: Epoch = Epoch(7);

/// A scheduler, its clock, and what it asked for.
struct Fixture {
    core: Scheduler,
    now: Millis,
}

/// A lease as it was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sent {
    worker: WorkerId,
    lease: Lease,
    first_row: u64,
    rows: u64,
    speculative: bool,
}

fn plan(rows: u64) -> JobPlan {
    JobPlan {
        granule: 10,
        rows_known: rows,
        rows_final: true,
        initial_rows: 100,
        shard_rows_max: u64::MAX,
        fail_fast: false,
        deadline_at: None,
        up_to_row: u64::MAX,
        priority: 0,
        affinity: 0,
        group: None,
    }
}

/// These ranges (first row, rows) are done, one shard each.
fn done(ranges: &[(u64, u64)], next_shard: u64, failed_row: Option<u64>) -> Done {
    Done {
        ranges: ranges.iter().map(|&(first_row, rows)| RowRange { first_row, rows }).collect(),
        shards: ranges.len() as u64,
        next_shard,
        failed_row,
    }
}

/// What of the effects is a lease.
fn leases(effects: &[Effect]) -> Vec<Sent> {
    effects
        .iter()
        .filter_map(|effect| match *effect {
            Effect::LeaseShard { worker, lease, first_row, rows, speculative } => {
                Some(Sent { worker, lease, first_row, rows, speculative })
            }
            _ => None,
        })
        .collect()
}

fn outcome(effects: &[Effect]) -> Option<JobOutcome> {
    effects.iter().find_map(|effect| match *effect {
        Effect::EndJob { outcome, .. } => Some(outcome),
        _ => None,
    })
}

fn cancelled(effects: &[Effect]) -> Vec<Lease> {
    effects
        .iter()
        .filter_map(|effect| match *effect {
            Effect::CancelAttempt { lease, .. } => Some(lease),
            _ => None,
        })
        .collect()
}

fn armed(effects: &[Effect]) -> Vec<Millis> {
    effects
        .iter()
        .filter_map(|effect| match *effect {
            Effect::ArmTimer(at) => Some(at),
            _ => None,
        })
        .collect()
}

impl Fixture {
    fn new() -> Self {
        Self { core: Scheduler::new(EPOCH, SchedulerConfig::default()), now: 0 }
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.step(self.now, event, &mut effects);
        effects
    }

    fn submit(&mut self, plan: JobPlan) -> Vec<Effect> {
        self.step(Event::JobSubmitted { job: JOB, plan })
    }

    /// A worker with one slot unless told otherwise.
    fn join(&mut self, worker: u64, slots: u32, credits: u32) -> Vec<Effect> {
        self.join_with(worker, slots, credits, Vec::new())
    }

    fn join_with(&mut self, worker: u64, slots: u32, credits: u32, held: Vec<HeldShard>) -> Vec<Effect> {
        let node = NodeId::try_from(format!("worker-{worker}")).expect("a node id");
        let facts = WorkerFacts { node, slots, credits, zone: String::new(), weight: 1 };
        self.step(Event::WorkerJoined { worker: WorkerId(worker), facts, held })
    }

    fn complete(&mut self, sent: Sent) -> Vec<Effect> {
        self.complete_in(sent, 100_000)
    }

    fn complete_in(&mut self, sent: Sent, busy_us: u64) -> Vec<Effect> {
        self.step(Event::ShardCompleted { worker: sent.worker, lease: sent.lease, busy_us, failed_row: None })
    }

    fn fail_row(&mut self, sent: Sent, row: u64) -> Vec<Effect> {
        self.step(Event::ShardCompleted {
            worker: sent.worker,
            lease: sent.lease,
            busy_us: 100_000,
            failed_row: Some(row),
        })
    }

    fn accept(&mut self, sent: Sent) -> Vec<Effect> {
        self.step(Event::ShardAccepted { worker: sent.worker, lease: sent.lease })
    }

    fn timer(&mut self, now: Millis) -> Vec<Effect> {
        self.now = now;
        self.step(Event::TimerFired)
    }

    fn progress(&mut self, sent: Sent) -> Vec<Effect> {
        self.step(Event::ShardProgressed { worker: sent.worker, lease: sent.lease, rows_done: 1 })
    }

    fn reject(&mut self, sent: Sent) -> Vec<Effect> {
        self.step(Event::ShardRejected { worker: sent.worker, lease: sent.lease })
    }

    fn panic(&mut self, sent: Sent) -> Vec<Effect> {
        self.step(Event::ShardFailed { worker: sent.worker, lease: sent.lease })
    }

    /// The same, and what comes once the shard's pause is over.
    fn panic_and_wait(&mut self, sent: Sent) -> Vec<Effect> {
        let mut effects = self.panic(sent);
        effects.extend(self.timer(self.now + 200));
        effects
    }

    fn lose(&mut self, worker: u64) -> Vec<Effect> {
        self.step(Event::WorkerLost { worker: WorkerId(worker) })
    }
}
