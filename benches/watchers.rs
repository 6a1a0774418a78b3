//! What those who watch cost: `cargo bench --bench watchers -- [watchers] [pairs]`.
//!
//! A sweep on two workers of this machine, in turns with nobody and with a thousand watchers of `GET /v1/events`, which
//! are read by one thread of this process: what reading costs is counted in, since it takes the same cores.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Cluster, quipu};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, watch};

const FORMULA: &str = "math::sin(x) * math::exp(-x * x / 50.0) + x / (x * x + 1.0)";
const POINTS: &str = "x=-20.0:20.0/600000000";
const READ_BYTES: usize = 16 << 10;

/// Watchers, and what they have read.
struct Crowd {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    bytes: Arc<AtomicU64>,
}

impl Crowd {
    /// Opens so many streams, and returns when each has had its first event.
    fn open(address: &str, token: &str, count: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let bytes = Arc::new(AtomicU64::new(0));
        let (ready, all_ready) = std::sync::mpsc::channel();
        let (address, token, read) = (address.to_owned(), token.to_owned(), Arc::clone(&bytes));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let barrier = Arc::new(Barrier::new(count + 1));
                for _ in 0..count {
                    let watcher = watcher(address.clone(), token.clone(), Arc::clone(&barrier), Arc::clone(&read));
                    tokio::spawn(watcher);
                }
                barrier.wait().await;
                ready.send(()).expect("somebody waits");
                let mut stopped = stopped;
                // Dropped is stopped, too.
                let _ = stopped.wait_for(|stop| *stop).await;
            });
        });
        all_ready.recv_timeout(Duration::from_secs(60)).expect("every watcher has had an event");
        Self { stop, thread: Some(thread), bytes }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the watchers end");
        }
    }
}

async fn watcher(address: String, token: String, barrier: Arc<Barrier>, bytes: Arc<AtomicU64>) {
    let mut stream = TcpStream::connect(&address).await.expect("connects");
    let request = format!("GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asks");
    let mut buffer = vec![0; READ_BYTES];
    let mut seen = String::new();
    while !seen.contains("\ndata: ") {
        let read = stream.read(&mut buffer).await.expect("reads");
        assert!(read > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    drop(seen);
    barrier.wait().await;
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Time of all cores that a process has used.
fn cpu_seconds(pid: nix::unistd::Pid) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields behind the name").split(' ').collect();
    // Hundredths of seconds, of the process and of the system for it.
    [11, 12].iter().map(|&at| fields[at].parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (count, pairs) = (numbers.next().unwrap_or(1_000), numbers.next().unwrap_or(7));
    let cluster = Cluster::start(2);
    let mut command = quipu();
    command.args(["secret", "token", "--cluster-id", "test", "--secret-file"]).arg(cluster.secret());
    let token = String::from_utf8(command.output().expect("token").stdout).expect("UTF-8");
    let address = cluster.master.address("http").trim_start_matches("http://").to_owned();
    let pid = cluster.master.pid();
    let run = || {
        let (begun, cpu) = (Instant::now(), cpu_seconds(pid));
        cluster.output(&["sweep", FORMULA, "--over", POINTS, "--reduce", "sum", "-O", "json"]);
        let seconds = begun.elapsed().as_secs_f64();
        (seconds, (cpu_seconds(pid) - cpu) / seconds)
    };
    run();
    let (mut alone, mut watched, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..pairs {
        alone.push(run());
        let crowd = Crowd::open(&address, token.trim(), count);
        watched.push(run());
        bytes = crowd.bytes.load(Ordering::Relaxed);
    }
    let medians = |runs: &[(f64, f64)]| {
        (median(runs.iter().map(|run| run.0).collect()), 1e3 * median(runs.iter().map(|run| run.1).collect()))
    };
    let ((alone, alone_ms), (watched, watched_ms)) = (medians(&alone), medians(&watched));
    println!(
        "events/watch/{count}: the job takes {alone:.3} s alone and {watched:.3} s watched, {:+.1} % (aim: below 5 %); the \
         master's CPU {alone_ms:.0} and {watched_ms:.0} ms a second; {:.1} MB were sent in the last run",
        (watched / alone - 1.0) * 100.0,
        bytes as f64 / 1e6
    );
}
