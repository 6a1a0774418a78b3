//! How jobs end.

use super::{Fixture, JOB, Sent, cancelled, done, leases, outcome, plan};
use crate::scheduler::{Done, Effect, Event, JobOutcome, JobPlan};
use quipu_shared::ids::{JobId, ShardId, WorkerId};

#[test]
fn completion_is_recorded_before_it_is_acknowledged() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    let effects = fixture.complete(sent);
    assert_eq!(
        effects,
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
fn cancelled_job_cancels_its_attempts_and_frees_credits_only_when_they_are_reported() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000));
    let sent = leases(&fixture.join(1, 1, 2));
    let effects = fixture.step(Event::JobCancelled { job: JOB });
    assert_eq!(cancelled(&effects), [sent[0].lease, sent[1].lease]);
    assert_eq!(outcome(&effects), Some(JobOutcome::Cancelled));
    assert_eq!(leases(&fixture.step(Event::JobSubmitted { job: JobId(2), plan: plan(1_000) })), []);
    // A stopped attempt is no refusal: its worker gets the next shard at once.
    assert_eq!(leases(&fixture.reject(sent[0])).len(), 1);
    assert_eq!(fixture.step(Event::JobCancelled { job: JOB }), []);
}

#[test]
fn shard_that_died_four_times_is_poison_and_named() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    for worker in 1..4 {
        assert_eq!(leases(&fixture.join(worker, 1, 1)).len(), 1);
        assert_eq!(outcome(&fixture.lose(worker)), None);
    }
    let sent = leases(&fixture.join(4, 1, 1))[0];
    let poisoned = JobOutcome::Poisoned { shard: sent.lease.shard, first_row: 0, rows: 10, attempts: 4 };
    assert_eq!(outcome(&fixture.panic(sent)), Some(poisoned));
}

#[test]
fn handed_back_and_rejected_leases_are_no_deaths() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    for worker in 1..20 {
        let sent = leases(&fixture.join(worker, 1, 1))[0];
        let worker = sent.worker;
        fixture.step(Event::WorkerDraining { worker, returned: vec![sent.lease] });
        fixture.lose(worker.0);
    }
    let mut sent = leases(&fixture.join(20, 1, 1))[0];
    for _ in 0..20 {
        fixture.reject(sent);
        sent = leases(&fixture.timer(fixture.now + 1_000))[0];
    }
    assert_eq!(outcome(&fixture.complete(sent)), Some(JobOutcome::Succeeded));
}

#[test]
fn lease_that_expired_unaccepted_is_no_death() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let mut sent = leases(&fixture.join(1, 1, 1))[0];
    for _ in 0..10 {
        fixture.timer(fixture.now + 10_000);
        sent = leases(&fixture.reject(sent))[0];
    }
    assert_eq!(outcome(&fixture.complete(sent)), Some(JobOutcome::Succeeded));
}

#[test]
fn neighbours_of_a_poison_shard_are_not_blamed() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { initial_rows: 10, ..plan(40) });
    let poison_row = 10;
    let (mut worker, mut ended) = (1, None);
    let mut sent: Vec<Sent> = leases(&fixture.join(1, 2, 4));
    assert_eq!(sent.len(), 4);
    while ended.is_none() {
        let effects = if sent.iter().any(|sent| sent.first_row == poison_row) {
            let mut effects = fixture.lose(worker);
            worker += 1;
            effects.extend(fixture.join(worker, 2, 4));
            sent.clear();
            effects
        } else {
            let done = sent.remove(0);
            fixture.complete(done)
        };
        sent.extend(leases(&effects));
        ended = outcome(&effects);
        assert!(worker < 10, "the job goes on for ever");
    }
    let poisoned = JobOutcome::Poisoned { shard: ShardId(1), first_row: 10, rows: 10, attempts: 4 };
    assert_eq!(ended, Some(poisoned));
}

#[test]
fn worker_is_emptied_for_a_shard_in_quarantine() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { initial_rows: 10, ..plan(20) });
    let sent = leases(&fixture.join(1, 1, 2));
    let again = leases(&fixture.panic_and_wait(sent[0]))[0];
    assert_eq!((again.first_row, leases(&fixture.panic_and_wait(again))), (0, vec![]));
    assert_eq!(leases(&fixture.step(Event::JobSubmitted { job: JobId(2), plan: plan(1_000) })), []);
    let effects = fixture.complete(sent[1]);
    assert_eq!(leases(&effects).iter().map(|sent| sent.first_row).collect::<Vec<_>>(), [0]);
    let alone = leases(&effects)[0];
    assert_eq!(leases(&fixture.complete(alone)).len(), 2);
}

#[test]
fn lowest_failing_row_ends_the_job_once_all_below_is_done() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { fail_fast: true, initial_rows: 10, ..plan(1_000) });
    let sent = leases(&fixture.join(1, 2, 4));
    let effects = fixture.fail_row(sent[2], 25);
    assert_eq!((cancelled(&effects), leases(&effects)), (vec![sent[3].lease], vec![]));
    assert_eq!(outcome(&fixture.complete(sent[0])), None);
    assert_eq!(outcome(&fixture.fail_row(sent[1], 13)), Some(JobOutcome::FailedRow { row: 13 }));
}

#[test]
fn failing_rows_do_not_end_a_job_that_keeps_them() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    assert_eq!(outcome(&fixture.fail_row(sent, 3)), Some(JobOutcome::Succeeded));
}

#[test]
fn recovered_failing_row_still_ends_the_job() {
    let mut fixture = Fixture::new();
    fixture.join(1, 2, 4);
    let plan = JobPlan { fail_fast: true, ..plan(1_000) };
    let done = done(&[(20, 10)], 3, Some(21));
    let effects = fixture.step(Event::JobRecovered { job: JOB, plan, done });
    let sent = leases(&effects);
    assert_eq!(sent.iter().map(|sent| sent.rows).sum::<u64>(), 20);
    let last = sent.into_iter().map(|sent| outcome(&fixture.complete(sent))).next_back();
    assert_eq!(last, Some(Some(JobOutcome::FailedRow { row: 21 })));
}

#[test]
fn deadline_ends_a_job_by_timer() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { deadline_at: Some(700), ..plan(10) });
    let sent = leases(&fixture.join(1, 1, 1))[0];
    assert_eq!(fixture.timer(699), [Effect::ArmTimer(700)]);
    let effects = fixture.timer(700);
    assert_eq!((cancelled(&effects), outcome(&effects)), (vec![sent.lease], Some(JobOutcome::DeadlinePassed)));
}

#[test]
fn completion_after_the_deadline_comes_too_late() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { deadline_at: Some(700), ..plan(10) });
    let sent = leases(&fixture.join(1, 1, 1))[0];
    fixture.now = 701;
    assert_eq!(outcome(&fixture.complete(sent)), Some(JobOutcome::DeadlinePassed));
}

#[test]
fn job_recovered_after_its_deadline_gets_no_lease() {
    let mut fixture = Fixture::new();
    fixture.join(1, 1, 1);
    fixture.now = 10;
    let plan = JobPlan { deadline_at: Some(5), ..plan(10) };
    let effects = fixture.step(Event::JobRecovered { job: JOB, plan, done: Done::default() });
    assert_eq!((leases(&effects), outcome(&effects)), (vec![], Some(JobOutcome::DeadlinePassed)));
}

#[test]
fn lost_worker_is_told_nothing_more() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000));
    for worker in 1..4 {
        fixture.join(worker, 1, 2);
        let to_lost = fixture.lose(worker).into_iter().any(|effect| match effect {
            Effect::CancelAttempt { worker: to, .. } | Effect::LeaseShard { worker: to, .. } => to == WorkerId(worker),
            _ => false,
        });
        assert!(!to_lost);
    }
}
