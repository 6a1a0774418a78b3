//! What durable jobs cost when there are many of them: `cargo bench --bench durable -- [queued restart stopped]`.
//!
//! - `queued`: a million small jobs waiting, and what they take of the master's memory; then a restart over them.
//! - `restart`: 100,000 jobs waiting and one of about 100,000 shards half done; the master is killed and started again.
//! - `stopped`: a worker that is stopped (SIGSTOP) while the master has shards for it.
//!
//! Figures are printed and never fail anything; what must hold (nothing lost, nothing done again) is asserted.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Cluster, wait_for};

const PATIENCE: Duration = Duration::from_secs(600);

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Queues so many one-formula jobs from one client; gives jobs a second.
fn queue(cluster: &Cluster, count: usize) -> f64 {
    let path = cluster.folder.path().join("formulas.txt");
    let mut text = String::new();
    for index in 0..count {
        writeln!(text, "{index} + 1").expect("text");
    }
    fs::write(&path, text).expect("file");
    let start = Instant::now();
    let args = ["submit", "eval", "-f", path.to_str().expect("UTF-8"), "--each", "--quiet"];
    let status = cluster.client(&args).stdout(Stdio::null()).status().expect("runs");
    assert!(status.success(), "{status}");
    count as f64 / start.elapsed().as_secs_f64()
}

fn last_job(cluster: &Cluster) -> u64 {
    let list: serde_json::Value =
        serde_json::from_str(&cluster.output(&["job", "list", "--newest", "-n", "1", "-O", "json"])).expect("JSON");
    list[0]["id"].as_u64().expect("a job")
}

/// Kills the master and starts it again; gives the seconds until it says that it serves.
fn restart(cluster: &mut Cluster) -> f64 {
    cluster.master.kill();
    let start = Instant::now();
    cluster.restart_master();
    start.elapsed().as_secs_f64()
}

fn queued() {
    const COUNT: usize = 1_000_000;
    let mut cluster = Cluster::master();
    let rate = queue(&cluster, COUNT);
    let peak = megabytes(cluster.master.peak_memory());
    println!("queued/submit/1e6: {rate:.0} jobs/s from one client, master at most {peak:.0} MB (aim: 1,000)");
    let seconds = restart(&mut cluster);
    assert_eq!(last_job(&cluster), COUNT as u64, "nothing acknowledged is lost");
    let peak = megabytes(cluster.master.peak_memory());
    println!("queued/restart/1e6: serves again after {seconds:.2} s, {peak:.0} MB");
}

/// A field of the job with this number.
fn job(cluster: &Cluster, id: u64) -> serde_json::Value {
    serde_json::from_str(&cluster.output(&["job", "show", &id.to_string(), "-O", "json"])).expect("JSON")
}

fn half_done() {
    const SHARDS: u64 = 100_000;
    /// About what a shard of [`small_shards`] has on a machine of today.
    const SHARD_ROWS: u64 = 160_000;
    let mut cluster = Cluster::master_on("127.0.0.1:0", small_shards);
    for _ in 0..2 {
        cluster.add_worker();
    }
    cluster.wait_for_workers(2);
    let formula = "math::sin(x) * math::exp(-x * x / 50.0)";
    let over = format!("x=-20.0:20.0/{}", SHARDS * SHARD_ROWS);
    let id: u64 = cluster
        .output(&["submit", "sweep", formula, "--over", &over, "--reduce", "count,mean,max"])
        .trim()
        .parse()
        .expect("a job");
    let rate = queue(&cluster, 100_000);
    let total = job(&cluster, id)["rows_total"].as_u64().expect("rows");
    wait_for("half of the job", PATIENCE, || {
        let view = job(&cluster, id);
        (view["rows_done"].as_u64()? >= total / 2).then_some(())
    });
    let before = job(&cluster, id);
    let seconds = restart_with(&mut cluster, small_shards);
    let after = job(&cluster, id);
    let rejoined = Instant::now();
    cluster.wait_for_workers(2);
    let rejoined = rejoined.elapsed().as_secs_f64();
    let done = |view: &serde_json::Value| view["shards"]["done"].as_u64().expect("shards");
    assert!(done(&after) >= done(&before), "no finished shard is run again");
    wait_for("the end of the job", PATIENCE, || (job(&cluster, id)["state"] == "succeeded").then_some(()));
    let end = job(&cluster, id);
    assert_eq!(end["rows_done"], end["rows_total"], "every row once");
    println!(
        "restart/100,000 queued and {} of {} shards done: serves again after {seconds:.2} s (aim: 2), workers back \
         {rejoined:.2} s later (aim: 5), {} shards retried in all; queued at {rate:.0} jobs/s",
        done(&after),
        done(&end),
        end["shards"]["retried"],
    );
}

/// Shards of a few milliseconds, so that there are many.
fn small_shards(mut command: Command) -> Command {
    command.env("QUIPU_SCHEDULER__SHARD_TARGET_MS", "1").args(["--log-level", "warn"]);
    command
}

fn restart_with(cluster: &mut Cluster, adapt: impl FnOnce(Command) -> Command) -> f64 {
    cluster.master.kill();
    let start = Instant::now();
    cluster.restart_master_with(adapt);
    start.elapsed().as_secs_f64()
}

/// Memory that a process has now.
fn resident(pid: nix::unistd::Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS of a live process");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn stopped() {
    let cluster = Cluster::start(2);
    let run = |args: &[&str]| cluster.client(args).stdout(Stdio::null()).status().expect("runs");
    let table = cluster.folder.path().join("table.csv");
    let mut text = String::from("a,b\n");
    for row in 0..2_000_000_u32 {
        writeln!(text, "{row},{}.5", row % 977).expect("text");
    }
    fs::write(&table, text).expect("file");
    let before = resident(cluster.master.pid());
    cluster.workers[0].signal(Signal::SIGSTOP);
    let path = table.to_str().expect("UTF-8");
    assert!(run(&["map", "a * b", path, "-o", "/dev/null", "-O", "csv"]).success());
    let peak = cluster.master.peak_memory();
    cluster.workers[0].signal(Signal::SIGCONT);
    println!(
        "stopped/map/2e6 rows: the master had {:.0} MB before and {:.0} MB at most, with one of two workers stopped",
        megabytes(before),
        megabytes(peak)
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return; // Built and listed along with tests.
    }
    let chosen: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    for (name, bench) in [("queued", queued as fn()), ("restart", half_done), ("stopped", stopped)] {
        if chosen.is_empty() || chosen.contains(&name) {
            bench();
        }
    }
}
