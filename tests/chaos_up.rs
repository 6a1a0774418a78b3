//! Chaos: a worker is killed again and again while `quipu up` starts it again.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::job::{JOB_PATIENCE, Job};
use support::{Cluster, Node, quipu, wait_for};

/// Fewer than `up` puts up with in a minute.
const KILLS: usize = 4;

/// Process ids of all starts of a node, in their order.
fn starts(up: &Node, name: &str) -> Vec<i32> {
    let log = up.logged();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["message"] == "node ready" && event["node"] == name)
        .filter_map(|event| i32::try_from(event["pid"].as_i64()?).ok())
        .collect()
}

#[test]
fn worker_killed_again_and_again_is_started_again() {
    let folder = tempfile::tempdir().expect("folder");
    let mut command = quipu();
    command.args(["up", "--workers", "3", "--slots-per-worker", "1", "--http", "127.0.0.1:0"]);
    command.args(["--log-format", "json", "--secret-file"]).arg(folder.path().join("secret"));
    let up = Node::start(command, folder.path().join("up.log"));
    let (url, secret) = (up.address("http"), up.address("secret_file"));
    let cluster = Cluster::around(up, folder, move |args| {
        let mut command = quipu();
        command.args(args).args(["--cluster", &url, "--secret-file", &secret]);
        command
    });
    cluster.wait_for_workers(3);
    let job = Job::start(&cluster, |args| cluster.client(args));
    for round in 0..KILLS {
        let pid =
            wait_for("a start of the worker", JOB_PATIENCE, || starts(&cluster.master, "worker-1").get(round).copied());
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the process is there");
    }
    job.finish(&cluster);
    cluster.wait_for_workers(3);
    assert_eq!(starts(&cluster.master, "worker-1").len(), KILLS + 1);
}
