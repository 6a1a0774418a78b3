//! Chaos: a worker is cut off in the middle of a job and comes back. Hosts are network namespaces of the test's own,
//! so it needs root and iproute2; without them it says that it was skipped.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod support;

use std::process::Command;
use support::job::{JOB_PATIENCE, Job};
use support::{Cluster, Node, quipu, wait_for};

/// A command of iproute2, or what it complained about.
fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// One namespace for the master, one for each worker, each worker on a cable of its own to the master.
struct Hosts {
    prefix: String,
    workers: usize,
}

impl Hosts {
    fn new(workers: usize) -> Result<Self, String> {
        let hosts = Self { prefix: format!("qp{}", std::process::id()), workers };
        let master = hosts.master();
        ip(&["netns", "add", &master])?;
        ip(&["-n", &master, "link", "set", "lo", "up"])?;
        for worker in 0..workers {
            let (name, cable, end) = (hosts.worker(worker), format!("m{worker}"), format!("w{worker}"));
            let subnet = |host| format!("{}/30", hosts.address(worker, host));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &master, "link", "add", &cable, "type", "veth", "peer", "name", &end, "netns", &name])?;
            ip(&["-n", &master, "addr", "add", &subnet(1), "dev", &cable])?;
            ip(&["-n", &name, "addr", "add", &subnet(2), "dev", &end])?;
            ip(&["-n", &master, "link", "set", &cable, "up"])?;
            ip(&["-n", &name, "link", "set", &end, "up"])?;
            // Everything else of the cluster is reached through the master's host.
            ip(&["-n", &name, "route", "add", "default", "via", &hosts.address(worker, 1)])?;
        }
        let forward = ["netns", "exec", &master, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        ip(&forward)?;
        Ok(hosts)
    }

    fn master(&self) -> String {
        format!("{}m", self.prefix)
    }

    fn worker(&self, worker: usize) -> String {
        format!("{}w{worker}", self.prefix)
    }

    /// Address of the master's (1) or the worker's (2) end of a worker's cable.
    fn address(&self, worker: usize, host: u8) -> String {
        format!("10.77.{worker}.{host}")
    }

    /// The same command on one of the hosts.
    fn on(&self, host: &str, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", host]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there.stdin(std::process::Stdio::null());
        there
    }

    fn cable(&self, worker: usize, state: &str) {
        ip(&["-n", &self.master(), "link", "set", &format!("m{worker}"), state]).expect("the cable is there");
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in (0..self.workers).map(|worker| self.worker(worker)).chain([self.master()]) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

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
