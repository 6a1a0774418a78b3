//! Jobs of a higher priority come first.

use super::{Fixture, JOB, leases, plan};
use crate::scheduler::{Effect, Event, JobPlan};
use quipu_shared::ids::JobId;

fn submit(fixture: &mut Fixture, job: u64, priority: i8, rows: u64) -> Vec<Effect> {
    fixture.step(Event::JobSubmitted { job: JobId(job), plan: JobPlan { priority, initial_rows: 10, ..plan(rows) } })
}

fn jobs(effects: &[Effect]) -> Vec<u64> {
    leases(effects).iter().map(|sent| sent.lease.job.0).collect()
}

#[test]
fn higher_priority_is_served_until_it_has_nothing_to_lease() {
    let mut fixture = Fixture::new();
    submit(&mut fixture, 1, -1, 1_000);
    submit(&mut fixture, 2, 100, 30);
    submit(&mut fixture, 3, 5, 20);
    assert_eq!(jobs(&fixture.join(1, 4, 8)), [2, 2, 2, 3, 3, 1, 1, 1]);
}

#[test]
fn jobs_of_one_priority_share_and_lower_ones_wait() {
    let mut fixture = Fixture::new();
    for (job, priority) in [(1, 0), (2, 7), (3, 7)] {
        submit(&mut fixture, job, priority, 1_000);
    }
    assert_eq!(jobs(&fixture.join(1, 2, 4)), [2, 3, 2, 3]);
}

#[test]
fn higher_priority_gets_the_next_credit_of_a_busy_cluster() {
    let mut fixture = Fixture::new();
    submit(&mut fixture, 1, 0, 1_000);
    let sent = leases(&fixture.join(1, 1, 2));
    assert!(jobs(&submit(&mut fixture, 2, 1, 10)).is_empty());
    assert_eq!(jobs(&fixture.complete(sent[0])), [2]);
    assert_eq!(jobs(&fixture.complete(sent[1])), [1]);
}

/// Kills the shard at row 0 of a job often enough for quarantine, on a worker of its own; it waits afterwards.
fn quarantine(fixture: &mut Fixture, job: u64, priority: i8) {
    submit(fixture, job, priority, 10);
    for worker in [91, 92] {
        assert_eq!(jobs(&fixture.join(worker, 1, 1)), [job]);
        fixture.lose(worker);
    }
}

#[test]
fn quarantine_of_a_lower_priority_empties_no_worker_that_a_higher_one_needs() {
    let mut fixture = Fixture::new();
    quarantine(&mut fixture, 1, 0);
    submit(&mut fixture, 2, 3, 50);
    let mut sent = leases(&fixture.join(1, 1, 2));
    assert_eq!(sent.iter().map(|sent| sent.lease.job.0).collect::<Vec<_>>(), [2, 2]);
    let mut order = vec![];
    while let Some(next) = (!sent.is_empty()).then(|| sent.remove(0)) {
        order.push(next.lease.job.0);
        sent.extend(leases(&fixture.complete(next)));
    }
    assert_eq!(order, [2, 2, 2, 2, 2, 1]);
}

#[test]
fn quarantine_of_a_higher_priority_comes_first() {
    let mut fixture = Fixture::new();
    quarantine(&mut fixture, 1, 3);
    submit(&mut fixture, 2, 0, 50);
    let sent = leases(&fixture.join(1, 1, 2));
    assert_eq!(sent.iter().map(|sent| sent.lease.job.0).collect::<Vec<_>>(), [1]);
    assert_eq!(jobs(&fixture.complete(sent[0])), [2, 2]);
}

#[test]
fn straggler_of_a_higher_priority_gets_the_idle_slot() {
    let mut fixture = Fixture::new();
    submit(&mut fixture, 1, 0, 10);
    submit(&mut fixture, 2, 1, 10);
    assert_eq!(jobs(&fixture.join(1, 2, 2)), [2, 1]);
    fixture.now = 5_000;
    let extra = fixture.join(2, 1, 1);
    assert_eq!(jobs(&extra), [2]);
    assert!(leases(&extra)[0].speculative);
    assert!(fixture.core.job_counts(JOB).is_some_and(|counts| counts.speculative == 0));
}
