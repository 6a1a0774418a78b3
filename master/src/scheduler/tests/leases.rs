//! Who gets which lease, and what ends it.

use super::{EPOCH, Fixture, JOB, armed, cancelled, leases, outcome, plan};
use crate::scheduler::{Effect, Event, JobPlan};
use quipu_shared::ids::{Epoch, JobId, WorkerId};

#[test]
fn worker_never_gets_more_leases_than_credits() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000_000));
    assert_eq!(leases(&fixture.join(1, 2, 3)).len(), 3);
    assert_eq!(leases(&fixture.join(2, 2, 100)).len(), 4);
}

#[test]
fn requeued_shards_go_first_and_the_lowest_before_others() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000_000));
    let sent = leases(&fixture.join(1, 2, 4));
    fixture.lose(1);
    let again = leases(&fixture.join(2, 4, 5));
    let rows = |sent: &[super::Sent]| sent.iter().map(|sent| (sent.first_row, sent.rows)).collect::<Vec<_>>();
    assert_eq!(rows(&again[..4]), rows(&sent));
    assert!(again[4].first_row >= sent[3].first_row + sent[3].rows);
}

#[test]
fn idle_slots_fill_before_queues() {
    let mut fixture = Fixture::new();
    fixture.join(1, 1, 2);
    fixture.join(2, 1, 2);
    let sent = leases(&fixture.submit(plan(1_000)));
    assert_eq!(sent.iter().map(|sent| sent.worker.0).collect::<Vec<_>>(), [1, 2, 1, 2]);
}

#[test]
fn jobs_take_turns_by_fewest_leases() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000_000));
    fixture.join(1, 1, 2);
    fixture.step(Event::JobSubmitted { job: JobId(2), plan: plan(1_000_000) });
    let sent = leases(&fixture.join(2, 2, 4));
    assert_eq!(sent.iter().map(|sent| sent.lease.job.0).collect::<Vec<_>>(), [2, 2, 1, 2]);
}

#[test]
fn first_completion_wins_and_the_other_attempt_is_cancelled() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let first = leases(&fixture.join(1, 1, 1))[0];
    fixture.join(2, 1, 1);
    let second = leases(&fixture.timer(1_000))[0];
    let effects = fixture.complete(second);
    assert_eq!(cancelled(&effects), [first.lease]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::RecordCompletion { .. })));
    let late = fixture.complete(first);
    assert_eq!(late, [Effect::AcknowledgeShard { worker: first.worker, lease: first.lease }]);
}

#[test]
fn completion_after_the_lease_expired_is_recorded() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    assert_eq!(cancelled(&fixture.timer(10_000)), [sent.lease]);
    assert!(fixture.core.wants(&sent.lease));
    assert!(matches!(fixture.complete(sent)[0], Effect::RecordCompletion { .. }));
    assert!(!fixture.core.wants(&sent.lease));
}

#[test]
fn completion_resent_on_a_new_connection_is_recorded() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    fixture.lose(1);
    fixture.join(2, 1, 1);
    let effects = fixture.complete(super::Sent { worker: WorkerId(2), ..sent });
    assert!(matches!(effects[0], Effect::RecordCompletion { .. }));
    assert_eq!(effects[1], Effect::AcknowledgeShard { worker: WorkerId(2), lease: sent.lease });
}

#[test]
fn completion_of_an_older_epoch_is_acknowledged_but_not_recorded() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let mut stale = leases(&fixture.join(1, 1, 1))[0];
    stale.lease.epoch = Epoch(EPOCH.0 - 1);
    assert_eq!(fixture.complete(stale), [Effect::AcknowledgeShard { worker: stale.worker, lease: stale.lease }]);
}

#[test]
fn completion_of_a_newer_epoch_is_left_to_its_master() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let mut newer = leases(&fixture.join(1, 1, 1))[0];
    newer.lease.epoch = Epoch(EPOCH.0 + 1);
    assert_eq!(fixture.complete(newer), []);
}

#[test]
fn completion_of_an_unknown_job_is_acknowledged() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let mut unknown = leases(&fixture.join(1, 1, 1))[0];
    unknown.lease.job = JobId(99);
    assert_eq!(fixture.complete(unknown), [Effect::AcknowledgeShard { worker: unknown.worker, lease: unknown.lease }]);
}

#[test]
fn completion_of_an_attempt_that_was_never_issued_is_not_recorded() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let mut forged = leases(&fixture.join(1, 1, 1))[0];
    forged.lease.attempt.0 += 1;
    assert_eq!(fixture.complete(forged), [Effect::AcknowledgeShard { worker: forged.worker, lease: forged.lease }]);
}

#[test]
fn expired_lease_requeues_its_shard_and_keeps_its_credit() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    fixture.join(2, 1, 1);
    fixture.lose(2);
    let effects = fixture.timer(10_000);
    assert_eq!((cancelled(&effects), leases(&effects)), (vec![sent.lease], vec![]));
    assert_eq!(fixture.core.worker_load(WorkerId(1)).map(|load| (load.leased, load.suspect)), Some((1, true)));
    let again = leases(&fixture.reject(sent));
    assert_eq!((again[0].worker, again[0].first_row), (WorkerId(1), 0));
}

#[test]
fn progress_renews_a_lease() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    fixture.now = 9_000;
    fixture.progress(sent);
    let effects = fixture.timer(10_000);
    assert_eq!((cancelled(&effects), armed(&effects)), (vec![], vec![19_000]));
    assert_eq!(cancelled(&fixture.timer(19_000)), [sent.lease]);
}

#[test]
fn lease_in_a_workers_queue_lives_by_any_sign_of_its_worker() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(100));
    let sent = leases(&fixture.join(1, 1, 2));
    fixture.accept(sent[0]);
    fixture.accept(sent[1]);
    fixture.now = 9_000;
    fixture.progress(sent[0]);
    assert_eq!(cancelled(&fixture.timer(10_000)), []);
    assert_eq!(cancelled(&fixture.timer(19_000)).len(), 2);
}

#[test]
fn pause_of_the_master_expires_nothing() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    assert_eq!(cancelled(&fixture.timer(60_000)), []);
    assert_eq!(cancelled(&fixture.timer(70_000)), [sent.lease]);
}

#[test]
fn silent_worker_is_asked_again_and_closed_in_the_end() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    for now in [10_000, 20_000, 30_000, 40_000, 50_000, 60_000] {
        assert_eq!(cancelled(&fixture.timer(now)), [sent.lease]);
    }
    assert!(fixture.timer(70_000).contains(&Effect::CloseWorker { worker: sent.worker }));
    assert_eq!(fixture.core.worker_load(sent.worker), None);
}

#[test]
fn attempt_that_runs_without_a_lease_and_is_of_no_use_is_cancelled() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    fixture.complete(sent);
    assert_eq!(fixture.progress(sent), [Effect::CancelAttempt { worker: sent.worker, lease: sent.lease }]);
}

#[test]
fn straggler_gets_one_speculative_attempt_on_another_worker() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 2, 2))[0];
    fixture.now = 999;
    assert_eq!(leases(&fixture.join(2, 2, 4)), []);
    fixture.now = 1_000;
    let extra = leases(&fixture.join(3, 2, 4));
    assert_eq!(extra.len(), 1);
    assert!(extra[0].speculative && extra[0].worker != sent.worker);
    assert_eq!((extra[0].first_row, extra[0].rows), (sent.first_row, sent.rows));
    assert_eq!(leases(&fixture.timer(9_000)), []);
    assert_eq!(fixture.core.job_counts(JOB).map(|counts| (counts.speculative, counts.retried)), Some((1, 1)));
}

#[test]
fn straggler_is_judged_by_the_rate_of_its_worker() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { initial_rows: 10, ..plan(20) });
    let first = leases(&fixture.join(1, 1, 1))[0];
    // One second for ten rows: the second shard is expected to take as long, and may take four times that.
    let _second = leases(&fixture.complete_in(first, 1_000_000))[0];
    fixture.join(2, 1, 1);
    assert_eq!(leases(&fixture.timer(3_900)), []);
    assert_eq!(leases(&fixture.timer(4_000)).len(), 1);
}

#[test]
fn straggler_is_not_duplicated_on_its_own_worker() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 2, 4))[0];
    for now in [1_000, 2_000, 3_000] {
        fixture.now = now;
        fixture.progress(sent);
        assert_eq!(leases(&fixture.timer(now)), []);
    }
}

#[test]
fn rejections_back_off_and_double() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let mut sent = leases(&fixture.join(1, 1, 1))[0];
    for pause_ms in [20, 40, 80, 160, 320, 640, 1_000, 1_000] {
        let effects = fixture.reject(sent);
        assert_eq!(leases(&effects), []);
        assert_eq!(leases(&fixture.timer(fixture.now + pause_ms - 1)), []);
        sent = leases(&fixture.timer(fixture.now + 1))[0];
    }
    fixture.accept(sent);
    fixture.reject(sent);
    assert_eq!(leases(&fixture.timer(fixture.now + 20)).len(), 1);
}

#[test]
fn draining_worker_keeps_its_attempts_and_gets_no_new_ones() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000));
    let sent = leases(&fixture.join(1, 1, 2));
    let returned = vec![sent[1].lease];
    assert_eq!(leases(&fixture.step(Event::WorkerDraining { worker: WorkerId(1), returned })), []);
    let effects = fixture.complete(sent[0]);
    assert!(matches!(effects[0], Effect::RecordCompletion { .. }));
    assert_eq!((leases(&effects), outcome(&effects)), (vec![], None));
    assert_eq!(leases(&fixture.join(2, 1, 1))[0].first_row, sent[1].first_row);
}

#[test]
fn timer_is_armed_once_for_many_leases() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000_000));
    let mut effects = fixture.join(1, 1, 2);
    assert_eq!(armed(&effects), [10_000]);
    for now in 1..500 {
        fixture.now = now;
        let sent = leases(&effects)[0];
        effects = fixture.complete(sent);
        assert!(armed(&effects).is_empty());
    }
}

#[test]
fn explanation_says_what_a_job_waits_for() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { rows_final: false, ..plan(10) });
    assert!(fixture.core.explain(JOB).contains(&"no worker is connected".to_owned()));
    let sent = leases(&fixture.join(4, 1, 1))[0];
    fixture.now = 250;
    fixture.accept(sent);
    let lines = fixture.core.explain(JOB);
    assert_eq!(lines[0], "0 of 10 so far rows done in 0 shards; 0 rows are not cut into shards yet");
    assert!(lines.contains(&"shard 0: attempt 1 at worker 4 for 250 ms, accepted".to_owned()), "{lines:?}");
    assert!(lines.contains(&"waiting for more input".to_owned()));
    assert_eq!(fixture.core.explain(JobId(5)), Vec::<String>::new());
}

#[test]
fn each_attempt_has_one_outcome() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let first = leases(&fixture.join(1, 1, 1))[0];
    fixture.join(2, 1, 1);
    let second = leases(&fixture.timer(1_000))[0];
    fixture.complete(second);
    fixture.complete(first);
    let counts = fixture.core.attempt_counts();
    assert_eq!((counts.granted, counts.retried, counts.speculative), (2, 1, 1));
    assert_eq!((counts.completed, counts.superseded, counts.live()), (1, 1, 0), "a late completion changes nothing");
    fixture.step(Event::JobSubmitted { job: JobId(2), plan: plan(10) });
    let live = fixture.core.attempt_counts().live();
    assert_eq!(live, 1);
    fixture.lose(1);
    fixture.lose(2);
    let counts = fixture.core.attempt_counts();
    assert_eq!(counts.live(), 0, "{counts:?}");
    assert_eq!(counts.outcomes().iter().map(|(_, count)| count).sum::<u64>(), counts.granted);
    assert!(counts.lost >= 1, "{counts:?}");
}
