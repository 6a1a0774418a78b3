//! Circuit breaking: who is blamed, who is not, and how a worker comes back.

use super::{Fixture, JOB, Sent, leases, outcome, plan};
use crate::scheduler::{Effect, Event, JobOutcome, JobPlan};
use quipu_shared::ids::{JobId, WorkerId};
use quipu_shared::service::BreakerState;

/// What people are told of breakers.
fn shown(effects: &[Effect]) -> Vec<(u64, BreakerState, u64)> {
    effects
        .iter()
        .filter_map(|effect| match *effect {
            Effect::ShowBreaker { worker, state, open_ms } => Some((worker.0, state, open_ms)),
            _ => None,
        })
        .collect()
}

/// Two workers of one slot and credit; the second has completed a shard, the first holds one. Three failures open.
fn pair() -> (Fixture, Sent) {
    let mut fixture = Fixture::new();
    fixture.core.config.breaker_failures = 3;
    fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000_000) });
    let bad = leases(&fixture.join(1, 1, 1))[0];
    let good = leases(&fixture.join(2, 1, 1))[0];
    fixture.complete(good);
    (fixture, bad)
}

/// Fails on the first worker, with a fresh shard each time, until that gets nothing more; gives what was shown last.
fn fail_until_open(fixture: &mut Fixture, mut bad: Sent) -> Vec<(u64, BreakerState, u64)> {
    for _ in 0..20 {
        let effects = fixture.panic(bad);
        let shown = shown(&effects);
        match leases(&effects).into_iter().find(|sent| sent.worker == WorkerId(1)) {
            Some(next) => bad = next,
            None => return shown,
        }
    }
    panic!("it never opens");
}

#[test]
fn worker_that_fails_what_others_can_do_is_quarantined_and_back_after_a_probe() {
    let (mut fixture, bad) = pair();
    assert_eq!(fail_until_open(&mut fixture, bad), [(1, BreakerState::Open, 5_000)]);
    assert!(fixture.core.explain(JOB).iter().any(|line| line.starts_with("1 workers are in quarantine after 3")));
    assert_eq!(leases(&fixture.timer(4_999)).iter().filter(|sent| sent.worker == WorkerId(1)).count(), 0);
    let effects = fixture.timer(5_000);
    assert_eq!(shown(&effects), [(1, BreakerState::HalfOpen, 0)]);
    let probes: Vec<Sent> = leases(&effects).into_iter().filter(|sent| sent.worker == WorkerId(1)).collect();
    let [probe] = probes[..] else { panic!("one probe: {probes:?}") };
    let effects = fixture.complete(probe);
    assert_eq!(shown(&effects), [(1, BreakerState::Closed, 0)]);
    assert!(leases(&effects).iter().any(|sent| sent.worker == WorkerId(1)));
}

#[test]
fn time_in_quarantine_doubles_with_each_failed_probe_up_to_a_cap() {
    let (mut fixture, bad) = pair();
    fixture.core.config.breaker_open_max_ms = 15_000;
    fixture.core.config.lease_ttl_ms = 1_000_000;
    fail_until_open(&mut fixture, bad);
    let mut at = 5_000;
    for open_ms in [10_000, 15_000, 15_000] {
        let effects = fixture.timer(at);
        let probe = *leases(&effects).iter().find(|sent| sent.worker == WorkerId(1)).expect("a probe");
        assert_eq!(shown(&fixture.panic(probe)), [(1, BreakerState::Open, open_ms)]);
        at += open_ms;
    }
}

#[test]
fn worker_on_trial_has_one_shard_however_many_credits() {
    let (mut fixture, _) = pair();
    let mut bad = leases(&fixture.join(3, 4, 8));
    while let Some(sent) = bad.pop() {
        bad.extend(leases(&fixture.panic(sent)).into_iter().filter(|sent| sent.worker == WorkerId(3)));
        assert!(bad.len() < 50, "it never opens");
    }
    let probes = leases(&fixture.timer(5_000));
    assert_eq!(probes.iter().filter(|sent| sent.worker == WorkerId(3)).count(), 1, "{probes:?}");
}

#[test]
fn job_that_nobody_can_do_blames_nobody() {
    let mut fixture = Fixture::new();
    fixture.core.config.breaker_failures = 2;
    fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000_000) });
    let mut sent = leases(&fixture.join(1, 1, 1));
    sent.extend(leases(&fixture.join(2, 1, 1)));
    for _ in 0..20 {
        let effects: Vec<Effect> = sent.drain(..).flat_map(|sent| fixture.panic(sent)).collect();
        assert_eq!(shown(&effects), []);
        sent = leases(&effects);
        if let Some(ended) = outcome(&effects) {
            assert!(matches!(ended, JobOutcome::Poisoned { .. }));
            return;
        }
        let now = fixture.now;
        sent.extend(leases(&fixture.timer(now + 100)));
    }
    assert!(fixture.core.jobs.contains_key(&JOB), "it fails everywhere, or goes on");
}

#[test]
fn shard_that_fails_on_two_workers_excuses_both() {
    let mut fixture = Fixture::new();
    fixture.core.config.breaker_failures = 1;
    fixture.submit(JobPlan { initial_rows: 10, ..plan(40) });
    fixture.join(3, 1, 1);
    let first = leases(&fixture.join(1, 1, 1))[0];
    // The third has proven that the job can be done.
    let done = fixture.core.attempts.values().find(|attempt| attempt.worker == WorkerId(3)).expect("leased").clone();
    fixture.step(Event::ShardCompleted { worker: WorkerId(3), lease: done.lease, busy_us: 1_000, failed_row: None });
    assert_eq!(shown(&fixture.panic(first)), [(1, BreakerState::Open, 5_000)]);
    fixture.join(2, 1, 2);
    let mut cleared = Vec::new();
    for now in [100, 200, 400, 800, 1_600] {
        fixture.timer(now);
        let again = fixture.core.attempts.values().find(|attempt| attempt.first_row == first.first_row).cloned();
        if let Some(attempt) = again {
            assert_ne!(attempt.worker, WorkerId(1), "elsewhere");
            cleared = shown(&fixture.step(Event::ShardFailed { worker: attempt.worker, lease: attempt.lease }));
            break;
        }
    }
    assert_eq!(cleared, [(1, BreakerState::Closed, 0)], "and the second is not blamed at all");
}

#[test]
fn shard_that_failed_goes_to_another_worker_although_that_has_work() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { initial_rows: 10, ..plan(20) });
    let failed = leases(&fixture.join(1, 1, 1))[0];
    assert_eq!(leases(&fixture.join(2, 1, 2)).len(), 1, "the second shard, and room for one more");
    let again = leases(&fixture.panic_and_wait(failed));
    assert_eq!(again.iter().map(|sent| sent.worker).collect::<Vec<_>>(), [WorkerId(2)]);
}

#[test]
fn breaker_outlives_the_connection_and_the_same_node_is_the_same() {
    let (mut fixture, bad) = pair();
    fail_until_open(&mut fixture, bad);
    fixture.lose(1);
    let effects = fixture.join(1, 1, 1);
    assert_eq!(shown(&effects), [(1, BreakerState::Open, 5_000)]);
    assert_eq!(leases(&effects), []);
    fixture.lose(1);
    fixture.now = 6_000;
    let effects = fixture.join(1, 1, 1);
    assert_eq!(shown(&effects), [(1, BreakerState::HalfOpen, 0)]);
    assert_eq!(leases(&effects).len(), 1);
}

#[test]
fn where_all_are_in_quarantine_the_longest_is_tried_at_once() {
    let (mut fixture, bad) = pair();
    fixture.core.config.breaker_failures = 1;
    assert_eq!(shown(&fixture.panic(bad)), [(1, BreakerState::Open, 5_000)]);
    fixture.now = 10;
    // The second fails too, on a shard that failed nowhere else.
    let held = fixture.core.attempts.values().find(|attempt| attempt.worker == WorkerId(2)).cloned();
    let attempt = held.expect("leased");
    fixture.core.jobs.get_mut(&JOB).expect("open").proof = crate::scheduler::breaker::Proof::Several;
    let effects = fixture.step(Event::ShardFailed { worker: WorkerId(2), lease: attempt.lease });
    assert_eq!(shown(&effects), [(2, BreakerState::Open, 5_000), (1, BreakerState::HalfOpen, 0)]);
    assert!(leases(&effects).iter().all(|sent| sent.worker == WorkerId(1)));
}

#[test]
fn lost_connections_and_lone_rejections_count_and_a_burst_of_them_counts_once() {
    let (mut fixture, bad) = pair();
    fixture.core.config.breaker_failures = 2;
    assert_eq!(shown(&fixture.reject(bad)), []);
    let again = leases(&fixture.timer(20)).into_iter().find(|sent| sent.worker == WorkerId(1)).expect("leased again");
    assert_eq!(shown(&fixture.reject(again)), [(1, BreakerState::Open, 5_000)]);

    let mut fixture = Fixture::new();
    fixture.core.config.breaker_failures = 2;
    fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000_000) });
    let burst = leases(&fixture.join(1, 4, 8));
    fixture.join(2, 1, 1);
    assert!(burst.iter().all(|&sent| shown(&fixture.reject(sent)).is_empty()));
    fixture.timer(3_000);
    // A lost connection, with all that it held, is the second.
    fixture.lose(1);
    assert_eq!(shown(&fixture.join(1, 4, 8)), [(1, BreakerState::Open, 5_000)]);
}

#[test]
fn shard_in_quarantine_goes_where_it_has_not_failed() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { initial_rows: 10, ..plan(10) });
    let first = leases(&fixture.join(1, 1, 1))[0];
    let second = leases(&fixture.panic_and_wait(first))[0];
    fixture.step(Event::JobSubmitted { job: JobId(2), plan: JobPlan { initial_rows: 10, ..plan(1_000) } });
    let other = leases(&fixture.join(2, 1, 1))[0];
    // The first worker has nothing to do, and must not have it; the second is emptied for it.
    let effects = fixture.panic_and_wait(second);
    assert!(leases(&effects).iter().all(|sent| sent.lease.job == JobId(2)), "{effects:?}");
    let then = leases(&fixture.complete(other));
    assert_eq!(then.iter().map(|sent| (sent.worker.0, sent.lease.job)).collect::<Vec<_>>(), [(2, JOB)]);
}
