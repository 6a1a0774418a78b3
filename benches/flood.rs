//! What a flood of bad requests costs a job that runs meanwhile: `cargo bench --bench flood -- [--quick]`.
//!
//! One master, one worker of one slot, and the flood from this process, on this machine: 64 connections that ask again
//! as soon as they are answered. Each kind of bad request has its turn, between turns without one. Figures are printed
//! and never fail anything.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::Context as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 64;
const FORMULA: &str = "if(x > 0.5, math::sin(x) / (x + 1.0), x * x - 0.25)";

/// A kind of bad request: its name and its bytes.
fn kinds(token: &str) -> Vec<(&'static str, Vec<u8>)> {
    let request = |line: &str, headers: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
            .into_bytes()
    };
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let json = format!("{bearer}Content-Type: application/json\r\n");
    let deep = format!(r#"{{"kind":{{"eval":{{"formulas":["{}1"]}}}}}}"#, "(".repeat(4000));
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

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rows = if quick { 100_000_000 } else { 1_000_000_000 };
    let cluster = Cluster::start(1);
    let address = cluster.master.address("http").trim_start_matches("http://").to_owned();
    let mut secret = support::quipu();
    secret.args(["secret", "token", "--cluster-id", "test", "--secret-file"]).arg(cluster.secret());
    let token = String::from_utf8(secret.output()?.stdout)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    throughput(&cluster, rows).context("the first run")?;
    println!("{:<28} {:>12} {:>12} {:>8}", "flood of", "answers/s", "Mrows/s", "ratio");
    for (name, request) in kinds(token.trim()) {
        let alone = throughput(&cluster, rows)?;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let request = Arc::new(request);
        let flooding: Vec<_> = (0..CONNECTIONS)
            .map(|_| runtime.spawn(flood(address.clone(), request.clone(), stop.clone(), answered.clone())))
            .collect();
        let begun = Instant::now();
        let flooded = throughput(&cluster, rows)?;
        let rate = answered.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for task in flooding {
            runtime.block_on(task)?;
        }
        let after = throughput(&cluster, rows)?;
        let ratio = flooded / ((alone + after) / 2.0);
        println!("{name:<28} {rate:>12.0} {:>12.1} {ratio:>8.3}", flooded / 1e6);
    }
    Ok(())
}
