//! Formulas evaluated at once over HTTP, beside a bare axum handler around evalexpr and a FastAPI handler around
//! simpleeval, in one run, in turns: `cargo bench --bench eval -- [--quick]`.
//!
//! Three loads, each on keep-alive connections of one client thread that shares the cores with the server: a closed loop
//! (every connection sends its next request when it has its answer), an open loop (requests are due at fixed times; the
//! latency counts from when a request was due, not from when it could be sent, so that a server that stalls can't hide
//! it), and a gradient of connections. Figures are printed and never fail anything. `QUIPU_BENCH_PYTHON` names the Python
//! that has the packages of `benches/peers/eval_service.py`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context as _, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::cell::RefCell;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use support::{Cluster, START_PATIENCE, quipu, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CLOSED_CONNECTIONS: usize = 64;
const OPEN_RATE_PER_S: u64 = 5_000;
const GRADIENT: [usize; 6] = [100, 250, 500, 1_000, 2_500, 5_000];

/// Where a server is, and how it is asked.
#[derive(Clone)]
struct Target {
    host: SocketAddr,
    authorization: String,
}

impl Target {
    /// The request of a number: its values differ, so that nothing but the formula can be kept.
    fn request(&self, number: usize) -> Vec<u8> {
        let body = format!(
            r#"{{"formula":"price * qty * (1.0 - discount)","variables":{{"price":{}.5,"qty":3.0,"discount":0.1}}}}"#,
            number % 1_000
        );
        format!(
            "POST /v1/eval HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            self.authorization,
            body.len()
        )
        .into_bytes()
    }
}

/// Status and length of the answer at the start of a buffer; `None` where more must come.
fn answer(buffer: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(head) = buffer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let text = std::str::from_utf8(&buffer[..head])?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    let mut length = None;
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let whole = head + length.context("an answer with a length")?;
    if buffer.len() < whole {
        return Ok(None);
    }
    let body = &buffer[head..whole];
    ensure!(status != 200 || body.windows(8).any(|word| word == b"\"value\":"), "{}", String::from_utf8_lossy(body));
    Ok(Some((status, whole)))
}

/// What a load has shown.
#[derive(Default)]
struct Load {
    seconds: f64,
    answered: usize,
    busy: usize,
    /// Of answers with a value.
    latencies: Vec<Duration>,
    errors: Vec<String>,
}

impl Load {
    fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    fn ms(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).ceil() as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    fn print(&mut self, subject: &str, base: &mut Option<f64>) {
        self.latencies.sort_unstable();
        let base = *base.get_or_insert(self.rate());
        println!(
            "eval/{subject:<34} {:>8.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  p99.9 {:>8.3} ms  max {:>8.3} ms  429: {:>6}  errors: {}  {:>5.2} x",
            self.rate(),
            self.ms(0.5),
            self.ms(0.99),
            self.ms(0.999),
            self.ms(1.0),
            self.busy,
            self.errors.len(),
            self.rate() / base
        );
        for error in self.errors.iter().take(3) {
            println!("     {error}");
        }
    }
}

/// Every connection sends its next request once it has its answer.
async fn closed_loop(target: &Target, connections: usize, time: Duration) -> Load {
    let load = RefCell::new(Load::default());
    let begin = Instant::now();
    let client = async |first: usize| -> anyhow::Result<()> {
        let mut stream =
            TcpStream::connect(target.host).await.with_context(|| format!("connect to {}", target.host))?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(1 << 10);
        let mut number = first;
        while begin.elapsed() < time {
            let request = target.request(number);
            number += 1;
            let sent = Instant::now();
            stream.write_all(&request).await?;
            buffer.clear();
            let status = loop {
                ensure!(stream.read_buf(&mut buffer).await? > 0, "the connection is closed");
                if let Some((status, _)) = answer(&buffer)? {
                    break status;
                }
            };
            let mut load = load.borrow_mut();
            match status {
                200 => {
                    load.answered += 1;
                    load.latencies.push(sent.elapsed());
                }
                429 => load.busy += 1,
                status => bail!("{status}: {}", String::from_utf8_lossy(&buffer)),
            }
        }
        Ok(())
    };
    let ends = futures_util::future::join_all((0..connections).map(|index| client(index * 7))).await;
    let mut load = load.into_inner();
    load.seconds = begin.elapsed().as_secs_f64();
    load.errors = ends.into_iter().filter_map(|end| end.err().map(|error| format!("{error:#}"))).collect();
    load
}

/// Connections that wait for a request.
#[derive(Default)]
struct Idle {
    connections: Mutex<Vec<usize>>,
    freed: Condvar,
}

impl Idle {
    fn take(&self) -> usize {
        let mut connections = self.connections.lock().expect("unpoisoned");
        loop {
            if let Some(connection) = connections.pop() {
                return connection;
            }
            connections = self.freed.wait(connections).expect("unpoisoned");
        }
    }

    fn put(&self, connection: usize) {
        self.connections.lock().expect("unpoisoned").push(connection);
        self.freed.notify_one();
    }
}

/// Requests are due at fixed times, whatever became of those before.
async fn open_loop(target: &Target, connections: usize, rate_per_s: u64, time: Duration) -> anyhow::Result<Load> {
    let idle = Arc::new(Idle::default());
    let due_of = Arc::new(Mutex::new(vec![Instant::now(); connections]));
    let load = Arc::new(Mutex::new(Load::default()));
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for index in 0..connections {
        let stream = std::net::TcpStream::connect(target.host)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        writers.push(stream.try_clone()?);
        idle.put(index);
        let (idle, due_of, load) = (Arc::clone(&idle), Arc::clone(&due_of), Arc::clone(&load));
        let mut stream = TcpStream::from_std(stream)?;
        readers.push(tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(1 << 10);
            loop {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return anyhow::Ok(());
                }
                let Some((status, _)) = answer(&buffer)? else { continue };
                let latency = due_of.lock().expect("unpoisoned")[index].elapsed();
                {
                    let mut load = load.lock().expect("unpoisoned");
                    match status {
                        200 => {
                            load.answered += 1;
                            load.latencies.push(latency);
                        }
                        429 => load.busy += 1,
                        status => load.errors.push(format!("{status}: {}", String::from_utf8_lossy(&buffer))),
                    }
                }
                buffer.clear();
                idle.put(index);
            }
        }));
    }
    // A thread of its own: the runtime's timers count in milliseconds.
    let target = target.clone();
    let sender = std::thread::spawn(move || {
        let begin = Instant::now();
        for number in 0.. {
            let due = begin + Duration::from_nanos(number * 1_000_000_000 / rate_per_s);
            if due - begin >= time {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let connection = idle.take();
            due_of.lock().expect("unpoisoned")[connection] = due;
            writers[connection].write_all(&target.request(number as usize))?;
        }
        // What is under way comes to its end before the connections do.
        for _ in 0..writers.len() {
            idle.take();
        }
        let seconds = begin.elapsed().as_secs_f64();
        for writer in &writers {
            writer.shutdown(std::net::Shutdown::Both)?;
        }
        anyhow::Ok(seconds)
    });
    for reader in readers {
        reader.await??;
    }
    let seconds = sender.join().expect("the sender's thread")?;
    let mut load = std::mem::take(&mut *load.lock().expect("unpoisoned"));
    load.seconds = seconds;
    Ok(load)
}

/// A process that ends with the bench.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts a peer and waits until it takes connections.
fn peer(name: &str, host: SocketAddr, command: &mut Command) -> anyhow::Result<(Peer, Target)> {
    let mut child = Peer(command.stdin(Stdio::null()).spawn().with_context(|| format!("start {name}"))?);
    let started = wait_for(&format!("{name} at {host}"), START_PATIENCE, || {
        let ended = child.0.try_wait().ok().flatten().is_some();
        if ended { Some(false) } else { std::net::TcpStream::connect(host).ok().map(|_| true) }
    });
    ensure!(started, "{name} ended at its start");
    Ok((child, Target { host, authorization: String::new() }))
}

/// The bare handler: what axum and evalexpr cost with nothing around them.
mod bare {
    use axum::extract::Json;
    use axum::http::StatusCode;
    use evalexpr::{ContextWithMutableVariables as _, HashMapContext, Value, eval_with_context};
    use std::collections::HashMap;

    #[derive(serde::Deserialize)]
    struct Request {
        formula: String,
        variables: HashMap<String, f64>,
    }

    async fn evaluate(Json(request): Json<Request>) -> Result<Json<serde_json::Value>, StatusCode> {
        let mut context = HashMapContext::new();
        for (name, value) in request.variables {
            context.set_value(name, Value::Float(value)).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
        }
        let value = eval_with_context(&request.formula, &context).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
        let value = value.as_number().map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
        Ok(Json(serde_json::json!({ "type": "float", "value": value })))
    }

    pub fn serve(port: u16) -> anyhow::Result<()> {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
            let router = axum::Router::new().route("/v1/eval", axum::routing::post(evaluate));
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
            Ok(axum::serve(listener, router).await?)
        })
    }
}

async fn run(time: Duration) -> anyhow::Result<()> {
    let info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |m| m.1);
    let cores = std::thread::available_parallelism()?;
    println!("machine: {model}, {cores} cores, shared by server and load; the last column is the rate over quipu's");
    println!("goals: closed loop 20,000/s; open loop at {OPEN_RATE_PER_S}/s p50 < 1 ms, p99 < 5 ms; no error but 429");

    let cluster = Cluster::master();
    let pooled = Cluster::master_on("127.0.0.1:0", |mut command| {
        command.env("QUIPU_LIMITS__EVAL_INLINE_COST_NS_MAX", "0");
        command
    });
    let target_of = |cluster: &Cluster| -> anyhow::Result<Target> {
        let mut command = quipu();
        command.args(["secret", "token", "--cluster-id", "test", "--secret-file"]).arg(cluster.secret());
        let token = command.output()?;
        let token = String::from_utf8(token.stdout)?.trim().to_owned();
        let host = cluster.master.address("http").trim_start_matches("http://").parse()?;
        Ok(Target { host, authorization: format!("authorization: bearer {token}\r\n") })
    };
    let mut targets = vec![("quipu", target_of(&cluster)?), ("quipu, pool", target_of(&pooled)?)];
    let host = free_port()?;
    let mut bare = Command::new(std::env::current_exe()?);
    let (_bare, target) = peer("axum", host, bare.args(["--serve", &host.port().to_string()]))?;
    targets.push(("axum", target));
    let host = free_port()?;
    let python = std::env::var("QUIPU_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut fastapi = Command::new(python);
    fastapi.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers"));
    fastapi.args(["eval_service.py", &host.port().to_string(), &cores.to_string()]);
    let _fastapi = match peer("fastapi", host, &mut fastapi) {
        Ok((peer, target)) => {
            targets.push(("fastapi", target));
            Some(peer)
        }
        Err(error) => {
            println!("eval/fastapi: left out: {error:#}; pip install fastapi 'uvicorn[standard]' simpleeval adds it");
            None
        }
    };
    for (_, target) in &targets {
        closed_loop(target, CLOSED_CONNECTIONS, time / 4).await;
    }
    let mut base = None;
    for (name, target) in &targets {
        let mut load = closed_loop(target, CLOSED_CONNECTIONS, time).await;
        load.print(&format!("closed/{CLOSED_CONNECTIONS} connections/{name}"), &mut base);
    }
    let mut base = None;
    for (name, target) in &targets {
        // The slowest peer would not come to an end.
        let rate_per_s = if *name == "fastapi" { OPEN_RATE_PER_S / 5 } else { OPEN_RATE_PER_S };
        match open_loop(target, 2 * CLOSED_CONNECTIONS, rate_per_s, time).await {
            Ok(mut load) => load.print(&format!("open/{rate_per_s} a second/{name}"), &mut base),
            Err(error) => println!("eval/open/{name} broke off: {error:#}"),
        }
    }
    for connections in GRADIENT {
        let mut base = None;
        for (name, target) in targets.iter().filter(|(name, _)| *name != "quipu, pool") {
            let mut load = closed_loop(target, connections, time / 2).await;
            load.print(&format!("gradient/{connections} connections/{name}"), &mut base);
        }
    }
    println!("quipu's master: {} MB at most", cluster.master.peak_memory() >> 20);
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, serve, port] = &arguments[..]
        && serve == "--serve"
    {
        return bare::serve(port.parse()?);
    }
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if !has("--bench") {
        return Ok(()); // Built and listed along with tests.
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let time = Duration::from_secs(if has("--quick") { 2 } else { 10 });
    // One thread: the servers need the other core.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(time))
}
