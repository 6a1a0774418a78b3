//! A job that is long enough to do harm in its middle, and the bits that it must give.

use super::{Cluster, quipu, wait_for};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough that every fault happens in the middle.
const JOB_SECONDS: f64 = 20.0;
/// Ten times what the slowest scenario takes.
pub const JOB_PATIENCE: Duration = Duration::from_secs(200);
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
pub struct Job {
    client: Child,
    expected: String,
    started: Instant,
}

impl Job {
    /// Starts the job through a client's command and waits until some of it is done.
    pub fn start(cluster: &Cluster, client: impl FnOnce(&[&str]) -> Command) -> Self {
        let (points, expected) = reference();
        let args = job_args(points);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let client = client(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("client");
        let job = Self { client, expected, started: Instant::now() };
        wait_for("a part of the job", JOB_PATIENCE, || (cluster.rows_done() >= points / 10).then_some(()));
        job
    }

    /// Waits for the end: same bits, every row once.
    pub fn finish(mut self, cluster: &Cluster) {
        wait_for("the end of the job", JOB_PATIENCE, || self.client.try_wait().expect("waitable"));
        let output = self.client.wait_with_output().expect("output");
        assert!(output.status.success(), "{output:?}\n{}", cluster.master.logged());
        assert_eq!(String::from_utf8_lossy(&output.stdout), self.expected, "the bits of a single-threaded run");
        eprintln!("job took {:.1} s", self.started.elapsed().as_secs_f64());
        let job = cluster.jobs().pop().expect("the job");
        assert_eq!(job["rows_done"], job["rows_total"], "every row is done, and none twice: {job}");
    }
}
