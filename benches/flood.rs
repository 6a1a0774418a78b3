//! What a flood of bad requests costs a job that runs meanwhile: `cargo bench --bench flood -- [--quick]`.
//!
//! One master, one worker of one slot, and the flood from a process of the least priority, on this machine: 64
//! connections that ask again as soon as they are answered. Each kind of bad request has its turns, between turns without
//! one, and the medians are compared. Figures are printed and never fail anything.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::Context as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 64;
/// Runs with and without a flood of each kind, in turns: one alone differs from the next by a tenth.
const PAIRS: usize = 7;
const FORMULA: &str = "if(x > 0.5, math::sin(x) / (x + 1.0), x * x - 0.25)";

/// A kind of bad request: its name and its bytes.
fn kinds(token: &str) -> Vec<(&'static str, Vec<u8>)> {
    let request = |line: &str, headers: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
            .into_bytes()
    };
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let json = format!("{bearer}Content-Type: application/json\r\n");
    // Formulas of an eval fail one by one; the one formula of a sweep is looked at when it is submitted.
    let axes = r#"[{"name":"x","values":{"list":[{"int":1}]}}]"#;
    let deep = format!(r#"{{"kind":{{"sweep":{{"formula":"{}x","name":"y","axes":{axes}}}}}}}"#, "(".repeat(4000));
    vec![
        ("no token", request("GET /v1/jobs", "", "")),
        ("a wrong token", request("POST /v1/jobs", "Authorization: Bearer qp_wrong\r\n", "{}")),
        ("another host", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec()),
        ("no HTTP at all", b"\x16\x03\x01\x02\x00 rubbish\r\n\r\n".to_vec()),
        ("no such path", request("GET /v1/nowhere", &bearer, "")),
        ("no JSON", request("POST /v1/jobs", &json, "{{{{")),
        ("a formula that is refused", request("POST /v1/jobs", &json, &deep)),
    ]
}

/// Rows a second of one job.
fn throughput(cluster: &Cluster, rows: u64) -> anyhow::Result<f64> {
    let over = format!("x=0.0:1.0/{rows}");
    let begun = Instant::now();
    let output = cluster.run(&["sweep", FORMULA, "--over", &over, "--reduce", "sum"]);
    anyhow::ensure!(output.status.success(), "{output:?}");
    Ok(rows as f64 / begun.elapsed().as_secs_f64())
}

/// Sends the same request again and again; a connection that is closed is made anew.
async fn flood(address: String, request: Arc<Vec<u8>>, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let mut buffer = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
        while !stop.load(Ordering::Relaxed) {
            if stream.write_all(&request).await.is_err() {
                break;
            }
            match tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await {
                Ok(Ok(1..)) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                _ => break,
            }
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The flood: another process, which gives way to everybody, since an attacker brings a machine of their own. It tells how
/// many answers it got when its standard input ends.
fn attack(address: &str, kind: usize) -> anyhow::Result<()> {
    let mut token = String::new();
    std::io::stdin().read_line(&mut token)?;
    let (_, request) = kinds(token.trim()).swap_remove(kind);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let request = Arc::new(request);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let flooding: Vec<_> = (0..CONNECTIONS)
        .map(|_| runtime.spawn(flood(address.to_owned(), request.clone(), stop.clone(), answered.clone())))
        .collect();
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    stop.store(true, Ordering::Relaxed);
    for task in flooding {
        runtime.block_on(task)?;
    }
    println!("{}", answered.load(Ordering::Relaxed));
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, address, kind, ..] = &args[..]
        && flag == "--attack"
    {
        return attack(address, kind.parse()?);
    }
    let rows = if args.iter().any(|arg| arg == "--quick") { 100_000_000 } else { 600_000_000 };
    let cluster = Cluster::start(1);
    let address = cluster.master.address("http").trim_start_matches("http://").to_owned();
    // What an operator would give to somebody, with the rate that tokens have unless it is said.
    let token = cluster.output(&["token", "new", "flood", "--role", "submit"]);
    throughput(&cluster, rows).context("the first run")?;
    println!("{:<28} {:>12} {:>12} {:>8}", "flood of", "answers/s", "Mrows/s", "ratio");
    for (kind, (name, _)) in kinds(token.trim()).iter().enumerate() {
        let (mut alone, mut flooded, mut answers) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..PAIRS {
            alone.push(throughput(&cluster, rows)?);
            let mut attacker = Command::new("nice")
                .args(["-n", "19"])
                .arg(std::env::current_exe()?)
                .args(["--attack", &address, &kind.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let mut orders = attacker.stdin.take().context("its standard input")?;
            writeln!(orders, "{}", token.trim())?;
            let begun = Instant::now();
            flooded.push(throughput(&cluster, rows)?);
            drop(orders);
            let told = String::from_utf8(attacker.wait_with_output()?.stdout)?;
            answers += told.trim().parse::<f64>().context("the attacker's count")? / begun.elapsed().as_secs_f64();
        }
        let (rate, flooded) = (answers / PAIRS as f64, median(flooded));
        let ratio = flooded / median(alone);
        println!("{name:<28} {rate:>12.0} {:>12.1} {ratio:>8.3}", flooded / 1e6);
    }
    Ok(())
}
