//! Facts about the core, one behaviour each.

use super::{Effect, Event, JobOutcome, JobPlan, Millis, Scheduler, SchedulerConfig};
use quipu_shared::ids::{Epoch, JobId, ShardId, WorkerId};
use quipu_shared::wire::Lease;

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
        fail_fast: false,
        deadline_at: None,
        up_to_row: u64::MAX,
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
        self.step(Event::WorkerJoined { worker: WorkerId(worker), slots, credits })
    }

    fn complete(&mut self, sent: Sent) -> Vec<Effect> {
        self.complete_in(sent, 100_000)
    }

    fn complete_in(&mut self, sent: Sent, busy_us: u64) -> Vec<Effect> {
        self.step(Event::ShardCompleted { worker: sent.worker, lease: sent.lease, busy_us, failed_row: None })
    }
}

#[test]
fn shards_are_cut_in_row_order_and_cover_every_row() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_234));
    let mut sent = leases(&fixture.join(1, 1, 2));
    let (mut next_row, mut ended) = (0, None);
    while let Some(shard) = sent.first().copied() {
        assert_eq!(shard.first_row, next_row);
        next_row += shard.rows;
        assert!(next_row == 1_234 || shard.rows % 10 == 0);
        sent.remove(0);
        let effects = fixture.complete(shard);
        sent.extend(leases(&effects));
        ended = outcome(&effects);
    }
    assert_eq!((next_row, ended), (1_234, Some(JobOutcome::Succeeded)));
}

#[test]
fn completion_is_recorded_before_it_is_acknowledged() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    let effects = fixture.complete(sent);
    assert_eq!(
        effects[..3],
        [
            Effect::RecordCompletion { job: JOB, shard: ShardId(0), lease: sent.lease, first_row: 0, rows: 10 },
            Effect::AcknowledgeShard { worker: sent.worker, lease: sent.lease },
            Effect::EndJob { job: JOB, outcome: JobOutcome::Succeeded },
        ]
    );
}

#[test]
fn job_without_rows_ends_at_once() {
    let mut fixture = Fixture::new();
    assert_eq!(outcome(&fixture.submit(plan(0))), Some(JobOutcome::Succeeded));
}

#[test]
fn worker_never_gets_more_leases_than_credits() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000_000));
    assert_eq!(leases(&fixture.join(1, 2, 3)).len(), 3);
    assert_eq!(leases(&fixture.join(2, 2, 100)).len(), 4);
}
