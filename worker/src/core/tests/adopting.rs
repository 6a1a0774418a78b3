//! What a worker holds when its master was started again.

use super::*;

const NEXT: Epoch = Epoch(EPOCH.0 + 1);
const STORE: Uuid = Uuid::nil();

/// The lease under which shard 0 of [`super::lease`] goes on.
fn renewed(attempt: u64) -> Lease {
    Lease { epoch: NEXT, job: JobId(1), shard: ShardId(40), attempt: AttemptId(attempt) }
}

impl Bench {
    /// The link is lost and found; gives what `Hello` says.
    fn reconnect(&mut self) -> Hello {
        self.step(Event::Disconnected);
        self.step(Event::Connected);
        match self.sent().pop() {
            Some(WorkerEvent::Joined(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    fn welcome(&mut self, epoch: Epoch, store: Uuid) {
        self.command(WorkerCommand::Welcome { epoch, lease_ttl_ms: 1000, store });
    }

    /// One attempt is finished, one runs, and then the master is started again.
    fn restarted() -> Self {
        let mut bench = Self::new(2, 4);
        bench.lease(0, ShardInput::Generated);
        bench.lease(1, ShardInput::Generated);
        bench.finish(0, 0, b"x");
        bench.reconnect();
        bench.welcome(NEXT, STORE);
        assert_eq!(bench.sent(), [], "nothing of an older epoch is offered");
        bench
    }
}

#[test]
fn hello_names_the_store_and_what_is_held_finished_ones_first() {
    let mut bench = Bench::new(2, 4);
    for shard in 0..3 {
        let (first_row, rows, input) = (shard * 10, 10, ShardInput::Generated);
        bench.command(WorkerCommand::LeaseShard {
            lease: lease(shard),
            first_row,
            rows,
            input,
            deadline_ms: None,
            trace: None,
        });
    }
    bench.finish(1, 1, b"x");
    let hello = bench.reconnect();
    assert_eq!(hello.store, Some(STORE));
    let held = |shard: u64| HeldShard { lease: lease(shard), first_row: shard * 10, rows: 10 };
    assert_eq!(hello.held, [held(1), held(0), held(2)]);
}

#[test]
fn first_hello_names_no_store() {
    let bench = Bench::new(1, 2);
    let core = WorkerCore::new(bench.core.identity.clone(), false);
    assert_eq!((core.hello().store, core.hello().held), (None, vec![]));
}

#[test]
fn finished_attempt_is_offered_under_its_new_lease_once_it_is_adopted() {
    let mut bench = Bench::restarted();
    bench.command(WorkerCommand::AdoptShard { held: lease(0), lease: renewed(7) });
    let sent = bench.sent();
    assert!(matches!(&sent[..], [WorkerEvent::ShardCompleted { lease, busy_us: 7, .. }] if *lease == renewed(7)));
    assert_eq!(bench.reconnect().held.iter().map(|held| held.lease).collect::<Vec<_>>(), [renewed(7), lease(1)]);
    bench.command(WorkerCommand::AcknowledgeShard { lease: renewed(7) });
    assert!(bench.core.outputs.is_empty());
}

#[test]
fn running_attempt_goes_on_under_its_new_lease() {
    let mut bench = Bench::restarted();
    bench.command(WorkerCommand::AdoptShard { held: lease(1), lease: renewed(8) });
    assert_eq!(bench.sent(), [WorkerEvent::ShardAccepted(renewed(8))]);
    bench.step(Event::ProgressDue);
    assert_eq!(bench.sent(), [WorkerEvent::ShardProgressed { lease: renewed(8), rows_done: 0 }]);
    // The executor knows the lease with which it began.
    bench.finish(1, 1, b"y");
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardCompleted { lease, .. }] if *lease == renewed(8)));
    assert!(!bench.executed[1].1.control.is_cancelled());
}

#[test]
fn adopted_attempt_is_cancelled_and_fails_under_its_new_lease() {
    let mut bench = Bench::restarted();
    bench.command(WorkerCommand::AdoptShard { held: lease(1), lease: renewed(8) });
    bench.command(WorkerCommand::CancelAttempt { lease: renewed(8) });
    assert!(bench.executed[1].1.control.is_cancelled());
    bench.sent();
    bench.step(Event::AttemptFinished { slot: 1, lease: lease(1), busy_us: 1, result: Err("cancelled".into()) });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { lease, .. }] if *lease == renewed(8)));

    let mut bench = Bench::restarted();
    bench.command(WorkerCommand::AdoptShard { held: lease(1), lease: renewed(8) });
    bench.sent();
    bench.step(Event::ExecutorReady(1));
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardFailed { lease, .. }] if *lease == renewed(8)));
}

#[test]
fn adoption_of_what_is_not_here_is_rejected_and_a_repeated_one_is_answered_again() {
    let mut bench = Bench::restarted();
    bench.command(WorkerCommand::AdoptShard { held: lease(9), lease: renewed(9) });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { lease, .. }] if *lease == renewed(9)));
    for _ in 0..2 {
        bench.command(WorkerCommand::AdoptShard { held: lease(0), lease: renewed(7) });
        assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardCompleted { lease, .. }] if *lease == renewed(7)));
        bench.command(WorkerCommand::AdoptShard { held: lease(1), lease: renewed(8) });
        assert_eq!(bench.sent(), [WorkerEvent::ShardAccepted(renewed(8))]);
    }
    let stale = Lease { epoch: EPOCH, ..renewed(10) };
    bench.command(WorkerCommand::AdoptShard { held: renewed(7), lease: stale });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { lease, .. }] if *lease == stale));
}

#[test]
fn attempts_that_are_not_wanted_are_dropped_and_stopped_under_their_old_leases() {
    let mut bench = Bench::restarted();
    for shard in 0..2 {
        bench.command(WorkerCommand::AcknowledgeShard { lease: lease(shard) });
        bench.command(WorkerCommand::CancelAttempt { lease: lease(shard) });
    }
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { lease: first, .. }] if *first == lease(0)));
    assert!(bench.executed[1].1.control.is_cancelled());
    // It came to its end all the same: the answer is its completion, for which nobody waits.
    bench.finish(1, 1, b"y");
    assert!(is_completed(&bench.sent()[0], 1));
    bench.command(WorkerCommand::AcknowledgeShard { lease: lease(1) });
    assert!(bench.core.outputs.is_empty());
}

#[test]
fn attempt_that_ends_before_the_welcome_waits_for_its_adoption() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.reconnect();
    bench.finish(0, 0, b"x");
    bench.welcome(NEXT, STORE);
    assert_eq!(bench.sent(), []);
    bench.command(WorkerCommand::AdoptShard { held: lease(0), lease: renewed(1) });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardCompleted { lease, .. }] if *lease == renewed(1)));
}

#[test]
fn attempt_that_ends_before_the_welcome_of_the_same_master_is_offered_once() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.reconnect();
    bench.finish(0, 0, b"x");
    assert_eq!(bench.sent(), []);
    bench.welcome(EPOCH, STORE);
    let sent = bench.sent();
    assert!(sent.len() == 1 && is_completed(&sent[0], 0), "{sent:?}");
}

#[test]
fn output_whose_adoption_was_lost_is_offered_after_a_while() {
    let mut bench = Bench::restarted();
    bench.command(WorkerCommand::CancelAttempt { lease: lease(1) });
    for _ in 0..PERIODS_UNANSWERED_MAX {
        bench.step(Event::ProgressDue);
    }
    assert!(bench.sent().iter().any(|event| is_completed(event, 0)));
}

#[test]
fn with_another_store_everything_is_stopped_and_nothing_is_said_of_it() {
    let mut bench = Bench::new(2, 4);
    for shard in 0..3 {
        bench.lease(shard, ShardInput::Generated);
    }
    bench.finish(0, 0, b"x");
    bench.reconnect();
    // The other master may be in the very same epoch, with attempts of the very same names.
    bench.welcome(EPOCH, Uuid::from_u128(9));
    assert!(bench.executed[1..].iter().all(|(_, task)| task.control.is_cancelled()));
    assert!(bench.core.outputs.is_empty());
    bench.finish(0, 2, b"x");
    bench.step(Event::AttemptFinished { slot: 1, lease: lease(1), busy_us: 1, result: Err("cancelled".into()) });
    assert_eq!(bench.sent(), []);
    assert_eq!((bench.core.hello().store, bench.core.hello().held), (Some(Uuid::from_u128(9)), vec![]));
    assert_eq!(bench.core.busy_slots(), 0);
    bench.lease(0, ShardInput::Generated);
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { .. }]), "its job is not open");
}

#[test]
fn leases_are_refused_while_too_much_waits_for_the_acknowledgement() {
    let mut bench = Bench::new(1, 2);
    let bytes = Bytes::from(vec![0; 64 * 1024 * 1024]);
    for shard in 0..4 {
        bench.lease(shard, ShardInput::Generated);
        let output = RawOutput { tier: EvalTier::Jit, rows: 1, failed: 0, errors: vec![], bytes: bytes.clone() };
        bench.step(Event::AttemptFinished { slot: 0, lease: lease(shard), busy_us: 7, result: Ok(output) });
    }
    bench.sent();
    bench.lease(4, ShardInput::Generated);
    match &bench.sent()[..] {
        [WorkerEvent::ShardRejected { reason, .. }] => assert!(reason.contains("acknowledgement"), "{reason}"),
        other => panic!("{other:?}"),
    }
    bench.command(WorkerCommand::AcknowledgeShard { lease: lease(2) });
    bench.lease(4, ShardInput::Generated);
    assert_eq!(bench.sent(), [WorkerEvent::ShardAccepted(lease(4))]);
}
