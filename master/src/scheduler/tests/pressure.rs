//! Pressure of hosts, and what the policies make of it.

use super::{Fixture, JOB, leases, plan};
use crate::scheduler::{Event, JobPlan};
use quipu_shared::config::PlacementPolicy;
use quipu_shared::host::HostLoad;
use quipu_shared::ids::WorkerId;

fn press(fixture: &mut Fixture, worker: u64, cpu_pressure: u8) -> Vec<super::Sent> {
    let host = HostLoad { cpu_pressure, ..HostLoad::default() };
    leases(&fixture.step(Event::HostReported { worker: WorkerId(worker), host }))
}

#[test]
fn worker_past_a_threshold_gets_nothing_unless_all_are() {
    let mut fixture = Fixture::new();
    fixture.join(1, 1, 4);
    fixture.join(2, 1, 2);
    press(&mut fixture, 1, 96);
    let sent = leases(&fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000) }));
    assert_eq!(sent.iter().map(|sent| sent.worker.0).collect::<Vec<_>>(), [2, 2]);
    let lines = fixture.core.explain(JOB);
    assert!(lines.contains(&"1 workers get nothing: their hosts are under pressure".to_owned()), "{lines:?}");
    // At the threshold is not past it.
    assert_eq!(press(&mut fixture, 1, 95).len(), 2, "two credits a slot");
    let mut fixture = Fixture::new();
    fixture.join(1, 1, 2);
    fixture.join(2, 1, 2);
    press(&mut fixture, 1, 100);
    press(&mut fixture, 2, 100);
    assert_eq!(leases(&fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000) })).len(), 4);
}

#[test]
fn memory_counts_as_the_processor_does() {
    let mut fixture = Fixture::new();
    fixture.join(1, 1, 1);
    fixture.join(2, 1, 1);
    let little = HostLoad { memory_available_bytes: Some((128 << 20) - 1), ..HostLoad::default() };
    fixture.step(Event::HostReported { worker: WorkerId(1), host: little });
    let sent = leases(&fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000) }));
    assert_eq!(sent.iter().map(|sent| sent.worker.0).collect::<Vec<_>>(), [2]);
    let thrashing = HostLoad { memory_pressure: 41, ..HostLoad::default() };
    // With both beyond a threshold, both work.
    let sent = leases(&fixture.step(Event::HostReported { worker: WorkerId(2), host: thrashing }));
    assert_eq!(sent.iter().map(|sent| sent.worker.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn pressure_below_the_threshold_makes_slots_count_less() {
    let mut fixture = Fixture::new();
    fixture.join(1, 4, 8);
    fixture.join(2, 4, 8);
    press(&mut fixture, 1, 75);
    let sent = leases(&fixture.submit(JobPlan { initial_rows: 10, granule: 10, ..plan(80) }));
    let of = |worker| sent.iter().filter(|sent| sent.worker == WorkerId(worker)).count();
    assert!(of(2) > of(1) && of(1) > 0, "{sent:?}");
}

#[test]
fn policy_changes_while_the_cluster_works_and_is_explained() {
    let mut fixture = Fixture::new();
    fixture.join(1, 4, 8);
    fixture.join(2, 4, 8);
    let mut config = fixture.core.config.clone();
    config.placement = PlacementPolicy::ConsistentHash;
    fixture.step(Event::ConfigChanged { config: Box::new(config.clone()) });
    let sent = leases(&fixture.submit(JobPlan { initial_rows: 10, affinity: 7, ..plan(30) }));
    let home = sent[0].worker;
    assert!(sent.len() > 1 && sent.iter().all(|sent| sent.worker == home), "one home: {sent:?}");
    let lines = fixture.core.explain(JOB);
    let expected = format!("placed by consistent-hash: its formula prefers node worker-{home}");
    assert!(lines.contains(&expected), "{lines:?}");
    config.placement = PlacementPolicy::RoundRobin;
    fixture.step(Event::ConfigChanged { config: Box::new(config) });
    assert!(fixture.core.explain(JOB).contains(&"placed by round-robin".to_owned()));
}

#[test]
fn weights_share_the_shards_of_a_cluster_with_room() {
    let mut fixture = Fixture::new();
    fixture.core.config.placement = PlacementPolicy::Weighted;
    fixture.join(1, 100, 200);
    fixture.join(2, 100, 200);
    fixture.core.workers.get_mut(&WorkerId(2)).expect("joined").facts.weight = 3;
    let sent = leases(&fixture.submit(JobPlan { initial_rows: 10, ..plan(1_000) }));
    let of = |worker| sent.iter().filter(|sent| sent.worker == WorkerId(worker)).count();
    assert!((of(2)).abs_diff(3 * of(1)) <= 3 && sent.len() >= 100, "{} and {}", of(1), of(2));
}
