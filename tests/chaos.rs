//! Chaos on real processes: a job of at least 20 s on three workers, while nodes are killed, paused, added, drained.
//! Each time the job ends, and its bits are those of one executor in one process.
//!
//! The partition has a file of its own (`chaos_partition.rs`), since it needs network namespaces.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use support::{Cluster, quipu, wait_for};

/// Long enough that every fault happens in the middle.
const JOB_SECONDS: f64 = 20.0;
/// Ten times what the slowest scenario takes.
const JOB_PATIENCE: Duration = Duration::from_secs(200);
const FORMULA: &str =
    "math::sin(x) * math::exp(-x * x / 50.0) + if(x > 3.0 && x < 4.0, math::sqrt(x), x / (x * x + 1.0))";
const REDUCE: &str = "count,sum,mean,min,max,argmax,variance,histogram(-10,10,20),quantile(0.9)";

fn job_args(points: u64) -> Vec<String> {
    let over = format!("x=-20.0:20.0/{points}");
    ["sweep", FORMULA, "--over", &over, "--reduce", REDUCE, "-O", "json"].map(ToOwned::to_owned).to_vec()
}

/// On so many executors; 0 is one a core.
fn run_embedded(points: u64, slots: &str) -> String {
    let output = quipu().args(job_args(points)).args(["--slots", slots]).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Points that keep this machine's cores busy for [`JOB_SECONDS`], and the result of one executor. Found once a build.
fn reference() -> (u64, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos-reference.json");
    let binary = fs::metadata(env!("CARGO_BIN_EXE_quipu")).and_then(|file| file.modified()).expect("the binary");
    if let Ok(text) = fs::read_to_string(&path)
        && fs::metadata(&path).and_then(|file| file.modified()).is_ok_and(|written| written > binary)
        && let Ok(Value::Array(known)) = serde_json::from_str(&text)
    {
        return (known[0].as_u64().expect("points"), known[1].as_str().expect("result").to_owned());
    }
    let mut points = 100_000;
    let seconds = loop {
        let start = Instant::now();
        run_embedded(points, "0");
        let seconds = start.elapsed().as_secs_f64();
        if seconds > 1.0 {
            break seconds;
        }
        points *= 2;
    };
    let points = (points as f64 * JOB_SECONDS * 1.2 / seconds) as u64;
    let result = run_embedded(points, "1");
    fs::write(&path, serde_json::json!([points, result]).to_string()).expect("reference file");
    (points, result)
}

/// A job that runs on a cluster while the test does harm.
struct Job {
    client: Child,
    expected: String,
    started: Instant,
}

impl Job {
    /// Starts the job and waits until some of it is done.
    fn start(cluster: &Cluster) -> Self {
        let (points, expected) = reference();
        let args = job_args(points);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let client = cluster.client(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("client");
        let job = Self { client, expected, started: Instant::now() };
        job.wait_for_share(cluster, points / 10);
        job
    }

    fn wait_for_share(&self, cluster: &Cluster, rows: u64) {
        wait_for("a part of the job", JOB_PATIENCE, || (cluster.rows_done() >= rows).then_some(()));
    }

    /// Waits for the end: same bits, every row once.
    fn finish(mut self, cluster: &Cluster) -> Value {
        wait_for("the end of the job", JOB_PATIENCE, || self.client.try_wait().expect("waitable"));
        let output = self.client.wait_with_output().expect("output");
        assert!(output.status.success(), "{output:?}\n{}", cluster.master.logged());
        assert_eq!(String::from_utf8_lossy(&output.stdout), self.expected, "the bits of a single-threaded run");
        eprintln!("job took {:.1} s", self.started.elapsed().as_secs_f64());
        let job = cluster.jobs().pop().expect("the job");
        assert_eq!(job["rows_done"], job["rows_total"], "every row is done, and none twice: {job}");
        job
    }
}

fn assert_logged(log: &str, message: &str) {
    assert!(log.contains(message), "the log says {message:?}:\n{log}");
}

#[test]
fn one_killed_worker_costs_nothing_but_time() {
    let mut cluster = Cluster::start(3);
    let job = Job::start(&cluster);
    cluster.workers[0].kill();
    job.finish(&cluster);
    assert_logged(&cluster.master.logged(), "worker lost");
}

#[test]
fn one_worker_is_enough_when_all_others_are_killed() {
    let mut cluster = Cluster::start(3);
    let job = Job::start(&cluster);
    cluster.workers[0].kill();
    cluster.workers[1].kill();
    job.finish(&cluster);
    cluster.wait_for_workers(1);
}

#[test]
fn paused_worker_loses_its_leases_and_is_taken_back() {
    let cluster = Cluster::start(3);
    let job = Job::start(&cluster);
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
    let job = Job::start(&cluster);
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
    let job = Job::start(&cluster);
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
    let job = Job::start(&cluster);
    cluster.workers[0].signal(Signal::SIGTERM);
    let status = cluster.workers[0].wait(Duration::from_secs(60));
    assert!(status.success(), "{status:?}\n{}", cluster.workers[0].logged());
    job.finish(&cluster);
}
