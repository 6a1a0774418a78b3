//! How long one short formula takes from the start of a process to its end, beside other calculators.
//!
//! `cargo bench --bench start` prints the median of 200 runs of `quipu eval '1+1'` and of each peer that is installed,
//! and how many times as long as `awk` it took. Timing never fails it.
#![allow(clippy::print_stdout, reason = "figures go to stdout")]

use anyhow::ensure;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 200;
/// What the design promises for quipu.
const GOAL: Duration = Duration::from_millis(5);

const PEERS: [(&str, &[&str]); 5] = [
    ("true", &[]),
    ("awk", &["BEGIN{print 1+1}"]),
    ("sh", &["-c", "echo 1+1 | bc"]),
    ("python3", &["-c", "print(1+1)"]),
    (env!("CARGO_BIN_EXE_quipu"), &["eval", "1+1"]),
];

fn main() -> anyhow::Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(()); // Built and listed along with tests.
    }
    println!("goal for quipu: a median of at most {GOAL:?}");
    let mut awk = None;
    for (program, arguments) in PEERS {
        let name = if arguments.first() == Some(&"eval") { "quipu" } else { program };
        let line = [&[name], arguments].concat().join(" ");
        match median(program, arguments) {
            Ok(time) => {
                if name == "awk" {
                    awk = Some(time);
                }
                let ratio =
                    awk.map_or(String::new(), |awk| format!("{:.1} x awk", time.as_secs_f64() / awk.as_secs_f64()));
                println!("start/{line:<24} {:8.3} ms  {ratio}", time.as_secs_f64() * 1e3);
            }
            Err(error) => println!("start/{line:<24} left out: {error}"),
        }
    }
    Ok(())
}

/// Of the time from start to end.
fn median(program: &str, arguments: &[&str]) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        let status = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .status()?;
        times.push(start.elapsed());
        ensure!(status.success(), "{status}");
    }
    times.sort_unstable();
    Ok(times[RUNS / 2])
}
