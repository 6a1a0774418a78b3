//! Chaos on real processes: a job of at least 20 s on three workers, while nodes are killed, paused, added, drained.
//! Each time the job ends, and its bits are those of one executor in one process.
//!
//! The partition has a file of its own (`chaos_partition.rs`), since it needs network namespaces.

mod support;

use nix::sys::signal::Signal;
use std::time::Duration;
use support::job::{JOB_PATIENCE, Job};
use support::{Cluster, wait_for};

/// Starts the long job on a cluster.
fn start_job(cluster: &Cluster) -> Job {
    Job::start(cluster, |args| cluster.client(args))
}

fn assert_logged(log: &str, message: &str) {
    assert!(log.contains(message), "the log says {message:?}:\n{log}");
}

#[test]
fn one_killed_worker_costs_nothing_but_time() {
    let mut cluster = Cluster::start(3);
    let job = start_job(&cluster);
    cluster.workers[0].kill();
    job.finish(&cluster);
    assert_logged(&cluster.master.logged(), "worker lost");
}

#[test]
fn one_worker_is_enough_when_all_others_are_killed() {
    let mut cluster = Cluster::start(3);
    let job = start_job(&cluster);
    cluster.workers[0].kill();
    cluster.workers[1].kill();
    job.finish(&cluster);
    cluster.wait_for_workers(1);
}

#[test]
fn paused_worker_loses_its_leases_and_is_taken_back() {
    let cluster = Cluster::start(3);
    let job = start_job(&cluster);
    let paused = &cluster.workers[0];
    paused.signal(Signal::SIGSTOP);
    wait_for("the loss of the paused worker", JOB_PATIENCE, || {
        cluster.master.logged().contains("worker lost").then_some(())
    });
    paused.signal(Signal::SIGCONT);
    cluster.wait_for_workers(3);
    job.finish(&cluster);
}

#[test]
fn workers_added_midway_take_their_share() {
    let mut cluster = Cluster::start(1);
    let job = start_job(&cluster);
    cluster.add_worker();
    cluster.add_worker();
    job.finish(&cluster);
    let shares: Vec<u64> = cluster
        .nodes()
        .iter()
        .filter(|node| node["role"] == "worker")
        .map(|node| node["shards_done"].as_u64().expect("a number"))
        .collect();
    assert!(shares.len() == 3 && shares.iter().all(|share| *share > 0), "{shares:?}");
}

#[test]
fn drained_worker_hands_back_and_exits_with_success() {
    let mut cluster = Cluster::start(3);
    let job = start_job(&cluster);
    let id = cluster.workers[0].id();
    cluster.output(&["node", "drain", &id]);
    let status = cluster.workers[0].wait(Duration::from_secs(60));
    assert!(status.success(), "{status:?}\n{}", cluster.workers[0].logged());
    job.finish(&cluster);
    assert_logged(&cluster.master.logged(), "worker has drained and left");
}

#[test]
fn terminated_worker_drains() {
    let mut cluster = Cluster::start(2);
    let job = start_job(&cluster);
    cluster.workers[0].signal(Signal::SIGTERM);
    let status = cluster.workers[0].wait(Duration::from_secs(60));
    assert!(status.success(), "{status:?}\n{}", cluster.workers[0].logged());
    job.finish(&cluster);
}
