//! One job is one trace, from the command to the executor, and a collector that does not answer costs nobody anything.

mod support;

#[path = "support/collector.rs"]
mod collector;

use collector::{Collected, Collector};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::{Cluster, Node, START_PATIENCE, wait_for};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SWEEP: [&str; 7] = ["sweep", "x * x", "--over", "x=0:20000:1", "--reduce", "sum", "-q"];
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

fn traced_cluster(url: &str) -> Cluster {
    let mut cluster = Cluster::master_on("127.0.0.1:0", |mut command| {
        command.env(ENDPOINT, url);
        command
    });
    let mut worker = cluster.worker_command(&cluster.master.address("gossip"));
    worker.env(ENDPOINT, url);
    cluster.workers.push(Node::start(worker, cluster.folder.path().join("worker.log")));
    cluster.wait_for_workers(1);
    cluster
}

/// The spans of this name below `parent`.
fn below<'a>(spans: &'a [Collected], parent: &Collected, name: &str) -> Vec<&'a Collected> {
    spans.iter().filter(|span| span.parent == parent.id && span.name == name).collect()
}

fn the<'a>(spans: &'a [Collected], parent: &Collected, name: &str) -> &'a Collected {
    match below(spans, parent, name)[..] {
        [span] => span,
        ref found => panic!("{} spans {name:?} below {:?} in {spans:#?}", found.len(), parent.name),
    }
}

#[test]
fn one_job_is_one_trace_of_three_processes() {
    let collector = Collector::start();
    let cluster = traced_cluster(&collector.url);
    let output = cluster
        .client(&SWEEP)
        .args(["--otlp-endpoint", &collector.url])
        .env("TRACEPARENT", CALLER)
        .output()
        .expect("client runs");
    assert!(output.status.success(), "{output:?}");
    let spans = wait_for("the whole trace", START_PATIENCE, || {
        let spans: Vec<Collected> = collector.spans().into_iter().filter(|span| span.trace_id == TRACE).collect();
        let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
        let leases = named("lease shard");
        (named("quipu sweep") == 1 && named("job sweep") == 1 && leases > 0 && named("execute shard") == leases)
            .then_some(spans)
    });

    let root = spans.iter().find(|span| span.name == "quipu sweep").expect("found above");
    assert_eq!((root.parent.as_str(), root.kind, root.service()), ("b7ad6b7169203331", INTERNAL, "quipu-client"));
    assert_eq!(root.attributes["process.exit.code"], "0");
    let call = the(&spans, root, "POST /v1/jobs");
    assert_eq!((call.kind, call.service(), call.failed), (CLIENT, "quipu-client", false));
    assert_eq!(call.attributes["http.response.status_code"], "202");
    let request = the(&spans, call, "POST /v1/jobs");
    assert_eq!((request.kind, request.service()), (SERVER, "quipu-master"));
    assert_eq!(request.attributes["http.route"], "/v1/jobs");
    assert_eq!(request.attributes["client.address"], "127.0.0.1");
    assert_eq!(the(&spans, request, "admit job").service(), "quipu-master");
    assert_eq!(the(&spans, request, "store commit").attributes["db.operation.batch.size"], "1");
    let job = the(&spans, request, "job sweep");
    assert_eq!((job.kind, job.failed, job.attributes["quipu.job.state"].as_str()), (INTERNAL, false, "succeeded"));
    assert_eq!(job.attributes["quipu.rows.count"], "20000");
    assert_eq!(job.resource["service.instance.id"], cluster.master.id());
    the(&spans, job, "store commit");

    let leases = below(&spans, job, "lease shard");
    assert_eq!(leases.len().to_string(), job.attributes["quipu.shards.count"]);
    let mut rows = 0;
    for lease in leases {
        assert_eq!((lease.kind, lease.attributes["quipu.attempt.outcome"].as_str()), (CLIENT, "completed"));
        assert_eq!(lease.attributes["quipu.node.id"], cluster.workers[0].id());
        the(&spans, lease, "store commit");
        let attempt = the(&spans, lease, "execute shard");
        assert_eq!((attempt.kind, attempt.service()), (SERVER, "quipu-worker"));
        assert_eq!(attempt.resource["service.instance.id"], cluster.workers[0].id());
        assert_eq!(attempt.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(attempt.attributes["quipu.shard.id"], lease.attributes["quipu.shard.id"]);
        assert!(lease.begun_ns <= attempt.begun_ns && attempt.ended_ns <= lease.ended_ns, "{lease:?} {attempt:?}");
        rows += attempt.attributes["quipu.rows.count"].parse::<u64>().expect("a number");
    }
    assert_eq!(rows, 20_000);
    let results = the(&spans, root, "GET /v1/jobs/{id}/results");
    the(&spans, results, "GET /v1/jobs/{job}/results");
    let known: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    for span in &spans {
        assert!(span.id == root.id || known.contains(span.parent.as_str()), "{span:?} has no parent");
    }
    let said = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["message"] == "job succeeded" && line["trace_id"] == TRACE
    };
    assert!(cluster.master.logged().lines().any(said), "the log names the same trace:\n{}", cluster.master.logged());
}

#[test]
fn who_begins_a_trace_decides_whether_it_is_sampled() {
    let collector = Collector::start();
    let cluster = traced_cluster(&collector.url);
    let unsampled = CALLER.replace("-01", "-00");
    for (caller, ratio) in [(Some(unsampled.as_str()), "1.0"), (None, "0.0"), (Some(CALLER), "0.0")] {
        let mut client = cluster.client(&SWEEP);
        client.args(["--otlp-endpoint", &collector.url]).env("QUIPU_TELEMETRY__SAMPLE_RATIO", ratio);
        caller.map(|caller| client.env("TRACEPARENT", caller));
        let output = client.output().expect("client runs");
        assert!(output.status.success(), "{output:?}");
    }
    // The last one is sampled, and is sent after all others would be.
    wait_for("the sampled job", START_PATIENCE, || {
        collector.spans().iter().any(|span| span.name == "job sweep").then_some(())
    });
    let jobs: Vec<Collected> = collector.spans().into_iter().filter(|span| span.name == "job sweep").collect();
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    assert_eq!(jobs[0].trace_id, TRACE);
    // A client that exports nothing is in the trace all the same.
    let traces: BTreeSet<String> =
        cluster.jobs().iter().map(|job| job["traceparent"].as_str().expect("a trace")[3..35].to_owned()).collect();
    assert_eq!(traces.len(), 2, "two of the caller's and one of its own: {traces:?}");
}

#[test]
fn a_collector_that_never_answers_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        // Takes what comes, until the peer gives up, and says nothing.
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || std::io::copy(&mut stream.by_ref(), &mut std::io::sink()));
        }
    });
    let mut cluster = traced_cluster(&url);
    let timed = |adapt: &dyn Fn(&mut std::process::Command)| {
        let begun = Instant::now();
        let mut client = cluster.client(&SWEEP);
        adapt(&mut client);
        let output = client.output().expect("client runs");
        assert!(output.status.success(), "{output:?}");
        begun.elapsed()
    };
    // Neither the master nor the worker waits for it.
    let slowest = (0..20).map(|_| timed(&|_| {})).max().expect("some");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    // A command waits a moment at its end, and not for long.
    let exporting = timed(&|client| {
        client.args(["--otlp-endpoint", &url]);
    });
    assert!(exporting < Duration::from_secs(15), "{exporting:?}");
    let complaints = |cluster: &Cluster| cluster.master.logged().matches("spans not exported").count();
    wait_for("the master's word", START_PATIENCE, || (complaints(&cluster) > 0).then_some(()));
    let begun = Instant::now();
    cluster.master.signal(Signal::SIGTERM);
    let status = cluster.master.wait(START_PATIENCE);
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(complaints(&cluster), 1, "told once");
}
