//! Rates of groups.

use super::{Fixture, JOB, armed, leases, plan};
use crate::scheduler::{Event, JobPlan, Millis};
use quipu_shared::ids::JobId;
use std::sync::Arc;

fn rate(fixture: &mut Fixture, rows_per_s: Option<u64>) -> Vec<super::Sent> {
    leases(&fixture.step(Event::GroupRateChanged { group: Arc::from("metered"), rows_per_s }))
}

fn metered(rows: u64) -> JobPlan {
    JobPlan { group: Some(Arc::from("metered")), ..plan(rows) }
}

#[test]
fn group_in_debt_waits_and_others_do_not() {
    let mut fixture = Fixture::new();
    rate(&mut fixture, Some(100));
    fixture.submit(metered(100_000));
    // A bucket of a second's worth, which is one shard of the first size.
    let sent = leases(&fixture.join(1, 8, 16));
    assert_eq!(sent.iter().map(|sent| sent.rows).sum::<u64>(), 100);
    let lines = fixture.core.explain(JOB);
    assert!(
        lines.iter().any(|line| line.contains("namespace metered") && line.contains("waits for 250 ms")),
        "{lines:?}"
    );
    let others = leases(&fixture.step(Event::JobSubmitted { job: JobId(2), plan: plan(100) }));
    assert!(!others.is_empty() && others.iter().all(|sent| sent.lease.job == JobId(2)));
    assert_eq!(leases(&fixture.timer(249)), []);
    assert_eq!(leases(&fixture.timer(250)).len(), 1);
}

#[test]
fn rate_is_kept_over_time_and_shards_are_no_larger_than_a_second_of_it() {
    let mut fixture = Fixture::new();
    rate(&mut fixture, Some(1_000));
    fixture.submit(JobPlan { initial_rows: 50_000, ..metered(1_000_000) });
    let mut sent = leases(&fixture.join(1, 4, 8));
    let (mut rows, mut shards) = (0, Vec::new());
    while fixture.now < 20_000 {
        let mut effects = Vec::new();
        for sent in sent.drain(..) {
            rows += sent.rows;
            shards.push(sent.rows);
            effects.extend(fixture.complete_in(sent, 1_000));
        }
        sent = leases(&effects);
        if sent.is_empty() {
            let at: Millis = armed(&effects).last().copied().unwrap_or(fixture.now + 50).min(fixture.now + 50);
            sent = leases(&fixture.timer(at.max(fixture.now + 1)));
        }
    }
    assert!((19_000..=22_000).contains(&rows), "{rows} rows in 20 s at 1000 a second");
    assert!(shards.iter().all(|&rows| rows <= 1_000), "{shards:?}");
}

#[test]
fn a_rate_below_a_granule_still_gets_on() {
    let mut fixture = Fixture::new();
    rate(&mut fixture, Some(1));
    fixture.submit(metered(20));
    let first = leases(&fixture.join(1, 1, 2));
    assert_eq!(first.iter().map(|sent| sent.rows).collect::<Vec<_>>(), [10], "one granule at least");
    // Nine rows of debt, and a quarter of a bucket.
    assert_eq!(leases(&fixture.timer(9_249)), []);
    assert_eq!(leases(&fixture.timer(9_250)).len(), 1);
}

#[test]
fn rate_that_is_lifted_lets_its_group_go_and_a_lower_one_keeps_the_debt() {
    let mut fixture = Fixture::new();
    rate(&mut fixture, Some(100));
    fixture.submit(metered(100_000));
    fixture.join(1, 1, 2);
    assert_eq!(rate(&mut fixture, Some(50)), []);
    assert_eq!(rate(&mut fixture, None).len(), 1);
}
