//! The pause of a shard whose attempt failed.

use super::{Fixture, JOB, armed, leases, plan};
use crate::scheduler::{Effect, JobPlan, Millis};
use quipu_shared::ids::WorkerId;
use std::collections::BTreeSet;

/// The time until which the timer is armed next.
fn resumes_at(effects: &[Effect]) -> Millis {
    *armed(effects).last().expect("a pause has a timer")
}

#[test]
fn shard_whose_attempt_failed_pauses_and_the_pause_doubles() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let mut sent = leases(&fixture.join(1, 1, 1))[0];
    for pause_ms in [50, 100, 200] {
        let effects = fixture.panic(sent);
        assert_eq!(leases(&effects), []);
        let at = resumes_at(&effects);
        assert!((fixture.now + pause_ms / 2..=fixture.now + pause_ms * 3 / 2).contains(&at), "{pause_ms}: {at}");
        assert_eq!(leases(&fixture.timer(at - 1)), []);
        sent = leases(&fixture.timer(at))[0];
        assert_eq!(sent.first_row, 0);
    }
}

#[test]
fn pause_is_capped_before_it_is_spread() {
    let mut fixture = Fixture::new();
    fixture.core.config.attempts_max = 100;
    fixture.submit(plan(10));
    let mut sent = leases(&fixture.join(1, 1, 1))[0];
    for death in 1..100 {
        let effects = fixture.panic(sent);
        let at = resumes_at(&effects);
        assert!(at <= fixture.now + 3_000, "{death}: {at}");
        assert!(death < 7 || at >= fixture.now + 1_000, "{death}: {at}");
        sent = leases(&fixture.timer(at))[0];
    }
}

#[test]
fn shards_that_failed_together_come_back_apart_and_the_same_way_each_time() {
    let pauses = || {
        let mut fixture = Fixture::new();
        fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000) });
        let sent = leases(&fixture.join(1, 8, 16));
        fixture.step(crate::scheduler::Event::WorkerDraining { worker: WorkerId(1), returned: vec![] });
        for &sent in &sent {
            fixture.panic(sent);
        }
        let paused = fixture.core.jobs[&JOB].shards.values().filter_map(|shard| shard.paused_until);
        paused.collect::<Vec<_>>()
    };
    assert_eq!(pauses(), pauses());
    assert_eq!(pauses().len(), 16);
    assert!(pauses().into_iter().collect::<BTreeSet<_>>().len() > 8);
}

#[test]
fn shard_of_a_lost_worker_does_not_pause() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    fixture.join(1, 1, 1);
    fixture.lose(1);
    assert_eq!(leases(&fixture.join(2, 1, 1)).len(), 1);
}

#[test]
fn pause_ends_with_its_shard() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    fixture.panic(sent);
    // It was said to have failed, and has a result all the same.
    assert!(matches!(fixture.complete(sent)[..], [Effect::RecordCompletion { .. }, _, Effect::EndJob { .. }]));
    assert!(fixture.core.timers.is_empty());
}

#[test]
fn explanation_says_that_a_shard_pauses() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(10));
    let sent = leases(&fixture.join(1, 1, 1))[0];
    let at = resumes_at(&fixture.panic(sent));
    let line = format!("shard 0 died 1 times and pauses for {at} ms before its next attempt");
    assert!(fixture.core.explain(JOB).contains(&line), "{:?}", fixture.core.explain(JOB));
    assert_eq!(fixture.core.job_counts(JOB).map(|counts| (counts.queued, counts.leased)), Some((1, 0)));
}
