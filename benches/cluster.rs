//! What a cluster costs and keeps: `cargo bench --bench cluster -- [hostile overhead formulas kill bits map]`.
//!
//! Everything runs on this machine, side by side in one run; figures are printed and never fail anything.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use nix::sys::resource::{UsageWho, getrusage};
use quipu_shared::formula::hostile;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Cluster, quipu, wait_for};

const FORMULA: &str =
    "math::sin(x) * math::exp(-x * x / 50.0) + if(x > 3.0 && x < 4.0, math::sqrt(x), x / (x * x + 1.0))";
const CHEAP: &str = "x * x + 1.0";
const PATIENCE: Duration = Duration::from_secs(3600);

fn sweep(formula: &str, points: u64, reduce: &str) -> Vec<String> {
    let over = format!("x=-20.0:20.0/{points}");
    ["sweep", formula, "--over", &over, "--reduce", reduce, "-O", "json"].map(ToOwned::to_owned).to_vec()
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Runs a command and gives its seconds and its output.
fn timed(mut command: Command) -> (f64, String) {
    let start = Instant::now();
    let output = command.output().expect("runs");
    let seconds = start.elapsed().as_secs_f64();
    (seconds, String::from_utf8_lossy(&output.stdout).into_owned())
}

fn embedded(args: &[String], slots: &str) -> Command {
    let mut command = quipu();
    command.args(args).args(["--slots", slots]);
    command
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The same sweep on two executors in one process, and on two workers of one slot, in turns.
fn overhead() {
    let args = sweep(FORMULA, 2_000_000_000, "sum,mean,max");
    let cluster = Cluster::start(2);
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let (seconds, expected) = timed(embedded(&args, "2"));
        here.push(seconds);
        let (seconds, result) = timed(cluster.client(&refs(&args)));
        there.push(seconds);
        assert_eq!(result, expected, "the same bits");
    }
    let (here, there) = (median(here), median(there));
    println!(
        "overhead/sweep/2e9: embedded {here:.2} s, two workers {there:.2} s, ratio {:.3} (aim: 1.10)",
        there / here
    );
}

/// 100,000 distinct small formulas.
fn formulas() {
    const COUNT: u32 = 100_000;
    let cluster = Cluster::start(2);
    let path = cluster.folder.path().join("formulas.txt");
    let mut text = String::new();
    for index in 0..COUNT {
        writeln!(text, "{index} * 3 + {} - math::sqrt({index}.5)", index % 977).expect("text");
    }
    fs::write(&path, text).expect("formulas");
    let args = ["eval", "-O", "ndjson", "-f", path.to_str().expect("a path")];
    let seconds = median((0..5).map(|_| timed(cluster.client(&args)).0).collect());
    let elapsed_ms = cluster.jobs().last().and_then(|job| job["elapsed_ms"].as_f64()).expect("a job");
    let rate = f64::from(COUNT) / seconds;
    println!(
        "eval/formulas/1e5: {seconds:.3} s from start to end of the client, {rate:.0}/s; in the cluster {elapsed_ms} ms"
    );
    let dask = "import time\nfrom dask.distributed import LocalCluster, Client\ndef f(i): return i * 3 + i % 977 - (i + .5) ** .5\nif __name__ == '__main__':\n    with LocalCluster(n_workers=2, threads_per_worker=1, host='127.0.0.1', dashboard_address=None) as c, Client(c) as cl:\n        cl.gather(cl.map(f, range(10), pure=False)); n = 5000; t = time.perf_counter(); cl.gather(cl.map(f, range(n), pure=False)); print(n / (time.perf_counter() - t))\n";
    let script = cluster.folder.path().join("peer.py");
    fs::write(&script, dask).expect("script");
    match Command::new("python3").arg(&script).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let peer: f64 = text.trim().parse().unwrap_or(f64::NAN);
            println!("eval/formulas/1e5: Dask with two workers {peer:.0} tasks/s, ratio {:.0}", rate / peer);
        }
        _ => println!("eval/formulas/1e5: Dask is not here (pip install distributed), not compared"),
    }
}

/// What a worker that is killed in the middle costs beyond its share of the work.
fn kill() {
    let args = sweep(FORMULA, 2_000_000_000, "sum,mean,max");
    let mut cluster = Cluster::start(2);
    let (whole, expected) = timed(cluster.client(&refs(&args)));
    let start = Instant::now();
    let mut client = cluster.client(&refs(&args)).stdout(Stdio::piped()).spawn().expect("client");
    wait_for("a third of the job", PATIENCE, || (start.elapsed().as_secs_f64() > whole / 3.0).then_some(()));
    cluster.workers[0].kill();
    let killed = start.elapsed().as_secs_f64();
    wait_for("the end", PATIENCE, || client.try_wait().expect("waitable"));
    let seconds = start.elapsed().as_secs_f64();
    let output = client.wait_with_output().expect("output");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "the same bits");
    let share = killed + (whole - killed) * 2.0;
    println!(
        "kill/worker/1 of 2: {whole:.2} s undisturbed, killed at {killed:.2} s, ended at {seconds:.2} s where its share \
         alone gives {share:.2} s: {:.2} s more (aim: 2 s)",
        seconds - share
    );
}

/// Time and memory of each hostile formula from process start to end.
fn hostile_formulas() {
    let mut worst = (0.0, String::new());
    for (name, formula) in hostile::cases() {
        let mut command = quipu();
        command.args(["eval", "--", &formula]).stderr(Stdio::null());
        let (seconds, _) = if formula.len() > 100_000 {
            // Longer than an argument may be: by standard input.
            let path = std::env::temp_dir().join(format!("quipu-hostile-{}", std::process::id()));
            fs::write(&path, &formula).expect("formula");
            let mut command = quipu();
            command.args(["eval", "-f"]).arg(&path).stderr(Stdio::null());
            let timed = timed(command);
            fs::remove_file(path).expect("formula");
            timed
        } else {
            timed(command)
        };
        if seconds > worst.0 {
            worst = (seconds, name.to_owned());
        }
    }
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage").max_rss();
    let cases = hostile::cases().len();
    println!(
        "formula/hostile/{cases} cases: slowest {:.0} ms ({}), largest process {} MB (aims: 100 ms, 64 MB)",
        worst.0 * 1e3,
        worst.1,
        memory / 1024
    );
}

/// 10^10 points: embedded on one and two executors, on one, two and four workers, with a worker killed.
fn bits() {
    let args = sweep(CHEAP, 10_000_000_000, "sum,mean,max");
    let (seconds, expected) = timed(embedded(&args, "1"));
    println!("bits/sweep/1e10: one executor {seconds:.1} s: {}", expected.trim());
    let check = |what: &str, command: Command| {
        let (seconds, result) = timed(command);
        assert_eq!(result, expected, "{what}");
        println!("bits/sweep/1e10: {what} {seconds:.1} s, the same bits");
    };
    check("two executors", embedded(&args, "2"));
    let mut cluster = Cluster::start(1);
    check("one worker", cluster.client(&refs(&args)));
    cluster.add_worker();
    cluster.wait_for_workers(2);
    check("two workers", cluster.client(&refs(&args)));
    cluster.add_worker();
    cluster.add_worker();
    cluster.wait_for_workers(4);
    check("four workers", cluster.client(&refs(&args)));
    let client = cluster.client(&refs(&args)).stdout(Stdio::piped()).spawn().expect("client");
    wait_for("a part of the job", PATIENCE, || (cluster.rows_done() > 2_000_000_000).then_some(()));
    cluster.workers[0].kill();
    let output = client.wait_with_output().expect("output");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    println!("bits/sweep/1e10: four workers, one of them killed: the same bits");
}

/// Peak memory of a child that runs to its end, in bytes.
fn peak_memory(mut command: Command) -> (f64, u64) {
    let start = Instant::now();
    let mut child = command.spawn().expect("runs");
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0) * 1024);
        if child.try_wait().expect("waitable").is_some() {
            return (start.elapsed().as_secs_f64(), peak);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A CSV of 1 GB, embedded and on two workers: time, memory, and the same output.
fn map() {
    let cluster = Cluster::start(2);
    let folder = cluster.folder.path();
    let (input, here, there) = (folder.join("in.csv"), folder.join("here.csv"), folder.join("there.csv"));
    let mut file = BufWriter::new(fs::File::create(&input).expect("file"));
    writeln!(file, "id,price,qty,discount,note").expect("written");
    let mut rows = 0_u64;
    let mut bytes = 0_u64;
    while bytes < 1_000_000_000 {
        let line = format!("{rows},{}.{:02},{},0.{:02},\"row, {rows}\"\n", rows % 991, rows % 97, rows % 13, rows % 31);
        bytes += line.len() as u64;
        rows += 1;
        file.write_all(line.as_bytes()).expect("written");
    }
    file.into_inner().expect("flushed");
    let args = |out: &Path| {
        let text = |path: &Path| path.to_str().expect("a path").to_owned();
        ["map", "price * qty * (1.0 - discount)", &text(&input), "--as", "revenue", "-o", &text(out)]
            .map(ToOwned::to_owned)
            .to_vec()
    };
    let (seconds, memory) = peak_memory(embedded(&args(&here), "2"));
    println!("map/csv/1 GB: embedded {seconds:.1} s for {rows} rows, {} MB", memory >> 20);
    let (seconds, memory) = peak_memory(cluster.client(&refs(&args(&there))));
    let nodes: Vec<u64> =
        [&cluster.master].into_iter().chain(&cluster.workers).map(|node| node.peak_memory() >> 20).collect();
    println!(
        "map/csv/1 GB: two workers {seconds:.1} s; client {} MB, master and workers {nodes:?} MB (aim: 256 MB)",
        memory >> 20
    );
    let same = Command::new("cmp").args([&here, &there]).status().expect("cmp").success();
    println!("map/csv/1 GB: outputs are {}", if same { "the same bytes" } else { "DIFFERENT" });
}

fn main() {
    let benches: [(&str, fn()); 6] = [
        // First, since the largest child so far is what it measures.
        ("hostile", hostile_formulas),
        ("overhead", overhead),
        ("formulas", formulas),
        ("kill", kill),
        ("bits", bits),
        ("map", map),
    ];
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, run) in benches {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            run();
        }
    }
}
