//! Chaos: a worker is cut off in the middle of a job and comes back. Hosts are network namespaces of the test's own,
//! so it needs root and iproute2; without them it says that it was skipped.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod support;

use std::process::Command;
use support::hosts::Hosts;
use support::job::{JOB_PATIENCE, Job};
use support::{Cluster, Node, quipu, wait_for};

#[test]
fn partitioned_worker_is_replaced_and_taken_back() {
    let hosts = match Hosts::new(3) {
        Ok(hosts) => hosts,
        Err(reason) => {
            eprintln!("skipped: network namespaces can't be made here: {reason}");
            return;
        }
    };
    let mut cluster = Cluster::master_on("0.0.0.0:0", |mut command| {
        command.args(["--advertise", &hosts.address(0, 1)]);
        for worker in 1..hosts.workers {
            command.args(["--host-name", &hosts.address(worker, 1)]);
        }
        hosts.on(&hosts.master(), &command)
    });
    let port = |field: &str| cluster.master.address(field).rsplit(':').next().map(ToOwned::to_owned).expect("a port");
    let (http, gossip) = (port("http"), port("gossip"));
    for worker in 0..hosts.workers {
        let seed = format!("{}:{gossip}", hosts.address(0, 1));
        let mut command = quipu();
        command.args(["worker", "--seed", &seed, "--slots", "1", "--cluster-id", "test", "--log-format", "json"]);
        command.args(["--gossip", &format!("{}:0", hosts.address(worker, 2)), "--secret-file"]).arg(cluster.secret());
        let log = cluster.folder.path().join(format!("worker-{worker}.log"));
        cluster.workers.push(Node::start(hosts.on(&hosts.worker(worker), &command), log));
    }
    let url = format!("https://{}:{http}", hosts.address(0, 1));
    let (master, secret) = (hosts.master(), cluster.secret());
    cluster.through({
        let client = hosts.on(&master, &quipu());
        move |args| {
            let mut command = Command::new(client.get_program());
            command.args(client.get_args()).args(args);
            command.args(["--cluster", &url, "--cluster-id", "test", "--secret-file"]).arg(&secret);
            command
        }
    });
    cluster.wait_for_workers(3);
    let job = Job::start(&cluster, |args| cluster.client(args));
    hosts.cable(2, "down");
    wait_for("the loss of the partitioned worker", JOB_PATIENCE, || {
        cluster.master.logged().contains("worker lost").then_some(())
    });
    hosts.cable(2, "up");
    cluster.wait_for_workers(3);
    job.finish(&cluster);
}
