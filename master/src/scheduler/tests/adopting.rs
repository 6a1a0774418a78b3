//! What workers bring from before a restart of the master.

use super::{EPOCH, Fixture, JOB, Sent, cancelled, done, leases, outcome, plan};
use crate::scheduler::{Effect, Event, JobOutcome, JobPlan};
use quipu_shared::ids::{AttemptId, Epoch, JobId, ShardId, WorkerId};
use quipu_shared::wire::{HeldShard, Lease};

/// An attempt of the epoch before.
fn held(attempt: u64, first_row: u64, rows: u64) -> HeldShard {
    let epoch = Epoch(EPOCH.0 - 1);
    let lease = Lease { epoch, job: JOB, shard: ShardId(attempt), attempt: AttemptId(attempt) };
    HeldShard { lease, first_row, rows }
}

/// What was adopted: the old lease, and the new one as if it had been sent.
fn adopted(effects: &[Effect]) -> Vec<(Lease, Sent)> {
    let adoption = |effect: &Effect| match *effect {
        Effect::AdoptShard { worker, held, lease, first_row, rows } => {
            Some((held, Sent { worker, lease, first_row, rows, speculative: false }))
        }
        _ => None,
    };
    effects.iter().filter_map(adoption).collect()
}

fn assert_ended(effects: &[Effect], held: HeldShard) {
    let worker = WorkerId(1);
    let acknowledged =
        effects.iter().position(|effect| *effect == Effect::AcknowledgeShard { worker, lease: held.lease });
    let cancelled = effects.iter().position(|effect| *effect == Effect::CancelAttempt { worker, lease: held.lease });
    assert!(acknowledged.is_some() && acknowledged < cancelled, "{effects:?}");
}

#[test]
fn held_shard_goes_on_under_a_new_lease_and_its_rows_are_not_cut_again() {
    let mut fixture = Fixture::new();
    fixture.step(Event::JobRecovered { job: JOB, plan: plan(100), done: done(&[(0, 20)], 9, None) });
    let effects = fixture.join_with(1, 4, 8, vec![held(3, 40, 30)]);
    let [(old, new)] = adopted(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(old, held(3, 40, 30).lease);
    assert_eq!((new.first_row, new.rows, new.lease.epoch, new.lease.shard), (40, 30, EPOCH, ShardId(9)));
    let sent = leases(&effects);
    let ranges: Vec<_> = sent.iter().map(|sent| (sent.first_row, sent.first_row + sent.rows)).collect();
    assert_eq!(ranges, [(20, 30), (30, 40), (70, 80), (80, 90), (90, 100)]);
    assert!(matches!(
        fixture.complete(new)[..2],
        [Effect::RecordCompletion { shard: ShardId(9), first_row: 40, rows: 30, .. }, Effect::AcknowledgeShard { .. }]
    ));
    let ends: Vec<_> = sent.into_iter().filter_map(|sent| outcome(&fixture.complete(sent))).collect();
    assert_eq!(ends, [JobOutcome::Succeeded]);
}

#[test]
fn adoption_comes_before_leases_and_counts_against_the_credits() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000));
    let effects = fixture.join_with(1, 1, 2, vec![held(1, 0, 10), held(2, 500, 10), held(3, 600, 10)]);
    assert_eq!((adopted(&effects).len(), leases(&effects)), (2, vec![]));
    assert_ended(&effects, held(3, 600, 10));
    let again = fixture.complete(adopted(&effects)[0].1);
    assert_eq!(leases(&again)[0].first_row, 10);
}

#[test]
fn held_shard_that_cannot_be_had_is_ended() {
    let stream = JobPlan { rows_known: 95, rows_final: false, ..plan(0) };
    let cases = [
        (plan(95), held(1, 0, 10), "done"),
        (plan(95), held(1, 0, 60), "done in part"),
        (plan(95), held(1, 45, 10), "begins within a granule"),
        (plan(95), held(1, 50, 11), "ends within a granule"),
        (plan(95), held(1, 50, 0), "empty"),
        (plan(95), held(1, 90, 10), "beyond the last row"),
        (plan(95), held(1, 100, 10), "beyond all rows"),
        (plan(95), held(1, 90, u64::MAX), "too long to be true"),
        (stream, held(1, 90, 5), "a block that may still fill up"),
        (
            plan(95),
            HeldShard { lease: Lease { job: JobId(77), ..held(1, 50, 10).lease }, ..held(1, 50, 10) },
            "unknown job",
        ),
        (JobPlan { fail_fast: true, ..plan(95) }, held(1, 70, 10), "above a failing row"),
    ];
    for (plan, held, why) in cases {
        let mut fixture = Fixture::new();
        let failed_row = plan.fail_fast.then_some(25);
        fixture.step(Event::JobRecovered { job: JOB, plan, done: done(&[(0, 10), (20, 20)], 4, failed_row) });
        let effects = fixture.join_with(1, 1, 2, vec![held]);
        assert_eq!(adopted(&effects), [], "{why}");
        assert_ended(&effects, held);
    }
}

#[test]
fn last_rows_of_a_job_are_adopted_though_they_are_no_granule() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(95));
    assert_eq!(adopted(&fixture.join_with(1, 1, 2, vec![held(1, 90, 5)])).len(), 1);
}

#[test]
fn rows_in_an_open_shard_are_not_adopted() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000));
    let sent = leases(&fixture.join(2, 1, 2));
    let effects = fixture.join_with(1, 4, 8, vec![held(1, sent[1].first_row, 10), held(2, 500, 20), held(3, 510, 20)]);
    assert_eq!(adopted(&effects).iter().map(|(_, new)| new.first_row).collect::<Vec<_>>(), [500]);
    assert_ended(&effects, held(1, 0, 0));
    assert_ended(&effects, held(3, 0, 0));
}

#[test]
fn leases_of_this_epoch_and_of_newer_ones_are_left_alone() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { rows_known: 0, rows_final: false, ..plan(0) });
    let of = |epoch| HeldShard { lease: Lease { epoch, ..held(1, 50, 10).lease }, ..held(1, 50, 10) };
    assert_eq!(fixture.join_with(1, 1, 2, vec![of(EPOCH), of(Epoch(EPOCH.0 + 1))]), []);
}

#[test]
fn adopted_attempt_expires_fails_and_is_rejected_like_any_other() {
    let adopt = || {
        let mut fixture = Fixture::new();
        fixture.submit(plan(100));
        // Too few rows are left for anyone else to be in the way.
        let new = adopted(&fixture.join_with(1, 1, 1, vec![held(1, 0, 100)]))[0].1;
        (fixture, new)
    };
    let (mut fixture, new) = adopt();
    assert_eq!(cancelled(&fixture.timer(10_000)), [new.lease]);
    assert_eq!(leases(&fixture.join(2, 1, 1))[0].lease.shard, new.lease.shard);
    let (mut fixture, new) = adopt();
    assert_eq!(leases(&fixture.panic_and_wait(new))[0].lease.shard, new.lease.shard);
    let (mut fixture, new) = adopt();
    fixture.reject(new);
    assert_eq!(leases(&fixture.timer(20))[0].lease.shard, new.lease.shard);
}

#[test]
fn rows_below_an_adopted_shard_pass_the_window_and_the_shard_itself_does_not() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { up_to_row: 5, ..plan(1_000) });
    let effects = fixture.join_with(1, 2, 4, vec![held(1, 500, 10)]);
    assert_eq!(leases(&effects).iter().map(|sent| (sent.first_row, sent.rows)).collect::<Vec<_>>(), [(0, 10)]);
    let (adopted, lowest) = (adopted(&effects)[0].1, leases(&effects)[0]);
    assert_eq!(leases(&fixture.reject(adopted)), []);
    assert_eq!(leases(&fixture.timer(1_000)), []);
    assert_eq!(leases(&fixture.complete(lowest)).iter().map(|sent| sent.first_row).collect::<Vec<_>>(), [10]);
}

#[test]
fn adopted_shard_above_a_row_that_fails_is_cancelled() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { fail_fast: true, initial_rows: 10, ..plan(1_000) });
    let effects = fixture.join_with(1, 1, 2, vec![held(1, 500, 10)]);
    let new = adopted(&effects)[0].1;
    let effects = fixture.fail_row(leases(&effects)[0], 3);
    assert_eq!((cancelled(&effects), outcome(&effects)), (vec![new.lease], Some(JobOutcome::FailedRow { row: 3 })));
}
