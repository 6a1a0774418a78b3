//! Durable submits beside Redis (`appendfsync always`) and etcd, on the same disk, in one run, in turns:
//! `cargo bench --bench submit -- [--quick]`.
//!
//! Batches from one client, and single submits of 64 clients that wait for each answer. Every request carries the same
//! bytes for every store: a spec and an idempotency key. Figures are printed and never fail anything.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Cluster, START_PATIENCE, quipu, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CLIENTS: usize = 64;
const BATCH_JOBS: usize = 5000;
/// What etcd takes in one transaction at its defaults.
const TXN_PUTS: usize = 128;
const SPEC: &str = r#"{"kind":{"eval":{"formulas":["1+2"]}}}"#;

/// A process that ends with the bench.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one request looks like and when its answer is complete.
trait Protocol {
    /// The request that stores the items of these numbers.
    fn request(&self, items: std::ops::Range<usize>) -> Vec<u8>;
    /// Bytes of the complete answer at the start of `buffer`, or `None` where more must come; an error if it is not the
    /// acknowledgement of so many items.
    fn acknowledged(&self, buffer: &[u8], items: usize) -> anyhow::Result<Option<usize>>;
}

fn key(item: usize) -> String {
    format!("{:08x}-0000-4000-8000-{item:012x}", std::process::id())
}

fn line(item: usize) -> String {
    format!(r#"{{"spec":{SPEC},"idempotency_key":"{}"}}"#, key(item))
}

/// Head and body of a complete HTTP response with 2xx, and its length.
fn response(buffer: &[u8]) -> anyhow::Result<Option<(&[u8], usize)>> {
    let Some(head) = buffer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
    let length = match text.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next()) {
        Some(length) => head + length.trim().parse::<usize>()?,
        None if text.contains("transfer-encoding: chunked") => match buffer[head..].ends_with(b"0\r\n\r\n") {
            true => buffer.len(),
            false => return Ok(None),
        },
        None => bail!("a response without a length: {text}"),
    };
    if buffer.len() < length {
        return Ok(None);
    }
    ensure!(text.starts_with("http/1.1 2"), "{}", String::from_utf8_lossy(&buffer[head..length.min(head + 600)]));
    Ok(Some((&buffer[head..length], length)))
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|found| *found == word).count()
}

struct Quipu {
    host: SocketAddr,
    token: String,
    batch: bool,
}

impl Protocol for Quipu {
    fn request(&self, items: std::ops::Range<usize>) -> Vec<u8> {
        let Self { host, token, .. } = self;
        let (path, kind, key, body) = if self.batch {
            let body: String = items.map(|item| line(item) + "\n").collect();
            (":batch", "application/x-ndjson", String::new(), body)
        } else {
            let key = format!("idempotency-key: {}\r\n", key(items.start));
            ("", "application/json", key, SPEC.to_owned())
        };
        format!(
            "POST /v1/jobs{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: bearer {token}\r\ncontent-type: {kind}\r\n\
             {key}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    fn acknowledged(&self, buffer: &[u8], items: usize) -> anyhow::Result<Option<usize>> {
        let Some((body, length)) = response(buffer)? else { return Ok(None) };
        let jobs = if self.batch { count(body, br#"{"job":"#) } else { count(body, br#"{"id":"#) };
        ensure!(jobs == items, "{jobs} of {items} jobs acknowledged: {}", String::from_utf8_lossy(body));
        Ok(Some(length))
    }
}

struct Redis;

impl Protocol for Redis {
    fn request(&self, items: std::ops::Range<usize>) -> Vec<u8> {
        let mut request = Vec::new();
        for item in items {
            let (key, value) = (key(item), line(item));
            let set = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len());
            request.extend_from_slice(set.as_bytes());
        }
        request
    }

    fn acknowledged(&self, buffer: &[u8], items: usize) -> anyhow::Result<Option<usize>> {
        const OK: &[u8] = b"+OK\r\n";
        let expected = items * OK.len();
        if buffer.len() < expected {
            return Ok(None);
        }
        ensure!(buffer.chunks(OK.len()).take(items).all(|answer| answer == OK), "not every SET was acknowledged");
        Ok(Some(expected))
    }
}

struct Etcd {
    host: SocketAddr,
    txn: bool,
}

impl Protocol for Etcd {
    fn request(&self, items: std::ops::Range<usize>) -> Vec<u8> {
        let put = |item| format!(r#"{{"key":"{}","value":"{}"}}"#, BASE64.encode(key(item)), BASE64.encode(line(item)));
        let (path, body) = if self.txn {
            let puts: Vec<String> = items.map(|item| format!(r#"{{"requestPut":{}}}"#, put(item))).collect();
            ("txn", format!(r#"{{"success":[{}]}}"#, puts.join(",")))
        } else {
            ("put", put(items.start))
        };
        let length = body.len();
        format!("POST /v3/kv/{path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n{body}", self.host).into()
    }

    fn acknowledged(&self, buffer: &[u8], items: usize) -> anyhow::Result<Option<usize>> {
        let Some((body, length)) = response(buffer)? else { return Ok(None) };
        let puts = if self.txn { count(body, b"response_put") } else { count(body, b"revision") };
        ensure!(puts == items, "{puts} of {items} puts acknowledged: {}", String::from_utf8_lossy(body));
        Ok(Some(length))
    }
}

/// What a load has shown.
struct Load {
    items_per_s: f64,
    latencies: Vec<Duration>,
}

impl Load {
    fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len() - 1;
        self.latencies[(last as f64 * share).ceil() as usize]
    }
}

/// `connections` clients, each with one request of `items` in flight, for so long.
async fn closed_loop(
    host: SocketAddr,
    protocol: &impl Protocol,
    connections: usize,
    items: usize,
    time: Duration,
    next: &std::cell::Cell<usize>,
) -> anyhow::Result<Load> {
    let start = Instant::now();
    let client = async || {
        let mut stream = TcpStream::connect(host).await.with_context(|| format!("connect to {host}"))?;
        stream.set_nodelay(true)?;
        let (mut buffer, mut latencies) = (Vec::with_capacity(1 << 16), Vec::new());
        while start.elapsed() < time {
            let first = next.replace(next.get() + items);
            let request = protocol.request(first..first + items);
            let sent = Instant::now();
            stream.write_all(&request).await?;
            buffer.clear();
            while protocol.acknowledged(&buffer, items)?.is_none() {
                ensure!(stream.read_buf(&mut buffer).await? > 0, "{host} closed the connection");
            }
            latencies.push(sent.elapsed());
        }
        anyhow::Ok(latencies)
    };
    let clients = futures_util::future::try_join_all((0..connections).map(|_| client())).await?;
    let seconds = start.elapsed().as_secs_f64();
    let mut latencies = clients.concat();
    latencies.sort_unstable();
    Ok(Load { items_per_s: (latencies.len() * items) as f64 / seconds, latencies })
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts a peer and waits until it takes connections; `None`, with a line that says so, where it is not installed.
fn peer(program: &str, package: &str, host: SocketAddr, args: &[String], log: &Path) -> anyhow::Result<Option<Peer>> {
    let log = File::create(log)?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = match command.spawn() {
        Ok(child) => Peer(child),
        Err(error) => {
            println!("submit/{program}: left out: {error}; apt-get install {package} adds it");
            return Ok(None);
        }
    };
    wait_for(&format!("{program} at {host}"), START_PATIENCE, || std::net::TcpStream::connect(host).ok());
    Ok(Some(child))
}

fn redis(folder: &Path) -> anyhow::Result<Option<(Peer, SocketAddr)>> {
    let host = free_port()?;
    let data = folder.join("redis");
    std::fs::create_dir_all(&data)?;
    let args = format!("--bind 127.0.0.1 --port {} --appendonly yes --appendfsync always --save", host.port());
    let mut args: Vec<String> = args.split(' ').map(ToOwned::to_owned).collect();
    args.extend(["".to_owned(), "--dir".to_owned(), data.display().to_string()]);
    let peer = peer("redis-server", "redis-server", host, &args, &folder.join("redis.log"))?;
    Ok(peer.map(|peer| (peer, host)))
}

fn etcd(folder: &Path) -> anyhow::Result<Option<(Peer, SocketAddr)>> {
    let (host, between) = (free_port()?, free_port()?);
    let data = folder.join("etcd").display().to_string();
    let args = [
        ("--data-dir", data),
        ("--listen-client-urls", format!("http://{host}")),
        ("--advertise-client-urls", format!("http://{host}")),
        ("--listen-peer-urls", format!("http://{between}")),
        ("--initial-advertise-peer-urls", format!("http://{between}")),
        ("--initial-cluster", format!("default=http://{between}")),
    ];
    let args: Vec<String> = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let peer = peer("etcd", "etcd-server", host, &args, &folder.join("etcd.log"))?;
    if peer.is_some() {
        // It listens before it has elected itself.
        let health = || Command::new("etcdctl").args(["--endpoints", &host.to_string(), "endpoint", "health"]).output();
        wait_for("etcd's health, by etcdctl of etcd-client", START_PATIENCE, || {
            health().is_ok_and(|output| output.status.success()).then_some(())
        });
    }
    Ok(peer.map(|peer| (peer, host)))
}

/// Processor, cores, file system, and the time of one synced write of 4 KiB.
fn machine(folder: &Path) -> anyhow::Result<()> {
    let info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |m| m.1);
    let cores = std::thread::available_parallelism()?;
    let disk = Command::new("findmnt").args(["-no", "SOURCE,FSTYPE", "--target"]).arg(folder).output()?;
    let mut file = File::create(folder.join("synced"))?;
    let mut times = Vec::new();
    for _ in 0..500 {
        file.write_all(&[1; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!(
        "machine: {model}, {cores} cores, {}; fdatasync after 4 KiB: p50 {:.0} us, p99 {:.0} us",
        String::from_utf8_lossy(&disk.stdout).split_whitespace().collect::<Vec<_>>().join(" "),
        times[250].as_secs_f64() * 1e6,
        times[495].as_secs_f64() * 1e6
    );
    Ok(())
}

/// One line of the table; `base` is quipu's figure.
fn print(subject: &str, load: anyhow::Result<Load>, base: &mut Option<f64>) {
    match load {
        Ok(load) => {
            let base = *base.get_or_insert(load.items_per_s);
            let ms = |share| load.quantile(share).as_secs_f64() * 1e3;
            println!(
                "submit/{subject:<28} {:>9.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  p99.9 {:>8.3} ms  max {:>8.3} ms  {:>6.2} x",
                load.items_per_s,
                ms(0.5),
                ms(0.99),
                ms(0.999),
                ms(1.0),
                load.items_per_s / base
            );
        }
        Err(error) => println!("submit/{subject:<28} left out: {error:#}"),
    }
}

async fn run(time: Duration) -> anyhow::Result<()> {
    let cluster = Cluster::master();
    let folder = cluster.folder.path();
    machine(folder)?;
    println!(
        "goals: 50,000 jobs/s in batches from one client; p99 below 10 ms at {CLIENTS} clients; the last column is the rate over quipu's"
    );
    let token =
        quipu().args(["secret", "token", "--cluster-id", "test", "--secret-file"]).arg(cluster.secret()).output()?;
    let token = String::from_utf8(token.stdout)?.trim().to_owned();
    let host: SocketAddr = cluster.master.address("http").trim_start_matches("http://").parse()?;
    let master = |batch| Quipu { host, token: token.clone(), batch };
    let (redis, etcd) = (redis(folder)?, etcd(folder)?);
    let next = std::cell::Cell::new(0);
    for in_flight in [1, 4] {
        let mut base = None;
        let what = |store, items| format!("batch/{store}/{items} x {in_flight}");
        let load = closed_loop(host, &master(true), in_flight, BATCH_JOBS, time, &next).await;
        if load.is_err() {
            // Without quipu's figure there is nothing to be a ratio of.
            base = Some(f64::NAN);
        }
        print(&what("quipu", BATCH_JOBS), load, &mut base);
        if let Some((_, host)) = &redis {
            let load = closed_loop(*host, &Redis, in_flight, BATCH_JOBS, time, &next).await;
            print(&what("redis", BATCH_JOBS), load, &mut base);
        }
        if let Some((_, host)) = &etcd {
            let protocol = Etcd { host: *host, txn: true };
            let load = closed_loop(*host, &protocol, in_flight, TXN_PUTS, time, &next).await;
            print(&what("etcd", TXN_PUTS), load, &mut base);
        }
    }
    let mut base = None;
    let what = |store| format!("single/{store}/{CLIENTS} clients");
    let load = closed_loop(host, &master(false), CLIENTS, 1, time, &next).await;
    if load.is_err() {
        base = Some(f64::NAN);
    }
    print(&what("quipu"), load, &mut base);
    if let Some((_, host)) = &redis {
        print(&what("redis"), closed_loop(*host, &Redis, CLIENTS, 1, time, &next).await, &mut base);
    }
    if let Some((_, host)) = &etcd {
        let protocol = Etcd { host: *host, txn: false };
        print(&what("etcd"), closed_loop(*host, &protocol, CLIENTS, 1, time, &next).await, &mut base);
    }
    println!("quipu's master: {} MB at most", cluster.master.peak_memory() >> 20);
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let has = |name: &str| std::env::args().any(|argument| argument == name);
    if !has("--bench") {
        return Ok(()); // Built and listed along with tests.
    }
    let time = Duration::from_secs(if has("--quick") { 2 } else { 15 });
    // One thread: the servers need the other cores.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(time))
}
