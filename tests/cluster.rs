//! A cluster of real processes gives what an embedded one gives, and keeps out who has not its secret.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quipu_shared::formula::hostile;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Output, Stdio};
use support::{Cluster, Node, START_PATIENCE, quipu, wait_for};

const FORMULA: &str = "if(x > 0.5, math::sin(x) / (x + 1.0), x * x - 0.25)";
const REDUCE: &str =
    "count,sum,mean,min,max,argmin,argmax,variance,stddev,histogram(-1,1,7),quantile(0.5),quantile(0.99)";
/// What every process of a `map` must stay under.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;

fn embedded(args: &[&str]) -> Output {
    quipu().args(args).output().expect("runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn hostile_formulas_fail_alike_everywhere_and_harm_nobody() {
    let cluster = Cluster::start(2);
    let mut batch = String::new();
    for (_, formula) in hostile::cases() {
        let line = formula.replace(['\n', '\r'], " ");
        writeln!(batch, "20 + 22\n{line}\n2.5 * 2.0").expect("text");
    }
    let path = cluster.folder.path().join("hostile.txt");
    fs::write(&path, batch).expect("batch");
    let args = ["eval", "-O", "ndjson", "-f", path.to_str().expect("a path")];
    let (there, here) = (cluster.run(&args), embedded(&args));
    assert_eq!(text(&there), text(&here));
    assert_eq!(there.status.code(), Some(1), "{}", String::from_utf8_lossy(&there.stderr));
    let good = text(&there).lines().filter(|line| line.ends_with("\"type\":\"int\",\"value\":42}")).count();
    assert_eq!(good, hostile::cases().len(), "the good formulas between them are right");
    cluster.wait_for_workers(2);
    assert_eq!(cluster.output(&["eval", "6 * 7"]), "42\n");
}

#[test]
fn bits_depend_neither_on_the_tier_nor_on_the_number_of_workers() {
    let sweep = ["sweep", FORMULA, "--over", "x=-1.0:1.0/1500001", "--reduce", REDUCE, "-O", "json"];
    let draw = "x=normal(0,1)";
    let sample = ["sample", FORMULA, "-n", "700000", "--draw", draw, "--seed", "5", "--reduce", REDUCE, "-O", "json"];
    let rows = ["sweep", "x / 3.0", "--over", "x=0.0:1.0/50000", "-O", "csv"];
    let jobs: [&[&str]; 3] = [&sweep, &sample, &rows];
    let on_slots = |args: &[&str], slots| text(&embedded(&[args, &["--slots", slots][..]].concat()));
    let expected: Vec<String> = jobs.iter().map(|args| on_slots(args, "1")).collect();
    assert!(expected.iter().all(|result| result.len() > 100), "{expected:?}");
    let check = |what: &str, run: &dyn Fn(&[&str]) -> String| {
        for (args, expected) in jobs.iter().zip(&expected) {
            assert!(&run(args) == expected, "{what}: {args:?}");
        }
    };
    check("two executors", &|args| on_slots(args, "2"));
    for tier in ["evalexpr", "interpreter", "jit"] {
        check(tier, &|args| text(&quipu().env("QUIPU_WORKER__TIER", tier).args(args).output().expect("runs")));
    }
    let mut cluster = Cluster::start(1);
    check("one worker", &|args| cluster.output(args));
    cluster.add_worker();
    cluster.wait_for_workers(2);
    check("two workers", &|args| cluster.output(args));
    cluster.add_worker();
    cluster.add_worker();
    cluster.wait_for_workers(4);
    check("four workers", &|args| cluster.output(args));
}

#[test]
fn map_keeps_row_order_and_little_memory() {
    let cluster = Cluster::start(2);
    let path = cluster.folder.path().join("table.csv");
    let mut table = String::from("id,price,qty,note\r\n");
    for id in 0..300_000_u32 {
        let qty = if id % 1000 == 7 { "oops".to_owned() } else { (id % 17).to_string() };
        write!(table, "{id},{}.25,{qty},\"a \"\"note\"\", {id}\nof two lines\"\r\n", id % 911).expect("text");
    }
    fs::write(&path, table).expect("table");
    let run = |out: &Path, remote: bool| {
        let (table, out) = (path.to_str().expect("a path"), out.to_str().expect("a path"));
        let mut args = vec!["map", "price * qty", table, "--as", "revenue", "--types", "qty=int"];
        args.extend(["--where", "price > 1.0", "--on-error", "skip", "-o", out]);
        if remote { cluster.run(&args) } else { embedded(&args) }
    };
    let out = [cluster.folder.path().join("there.csv"), cluster.folder.path().join("here.csv")];
    let (there, here) = (run(&out[0], true), run(&out[1], false));
    assert_eq!((there.status.code(), here.status.code()), (Some(1), Some(1)), "{there:?} {here:?}");
    let (there, here) = (support::text(&out[0]), support::text(&out[1]));
    assert!(there == here, "the same bytes");
    let ids: Vec<u32> = there.lines().skip(1).filter_map(|line| line.split(',').next()?.parse().ok()).collect();
    assert!(ids.len() > 200_000 && ids.is_sorted(), "{} rows in order", ids.len());
    for node in cluster.workers.iter().chain([&cluster.master]) {
        assert!(node.peak_memory() < MEMORY_MAX, "{} bytes at {}", node.peak_memory(), node.id());
    }
}

#[test]
fn who_has_another_secret_stays_out() {
    let mut cluster = Cluster::start(1);
    let other = cluster.folder.path().join("other");
    fs::write(&other, embedded(&["secret", "new"]).stdout).expect("secret");
    fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
    let client = quipu()
        .args(["eval", "1", "--cluster-id", "test", "--cluster", &cluster.master.address("http"), "--secret-file"])
        .arg(&other)
        .output()
        .expect("runs");
    assert_eq!(client.status.code(), Some(77), "{client:?}");

    let mut command = quipu();
    command.args(["worker", "--seed", &cluster.master.address("gossip"), "--gossip", "127.0.0.1:0", "--slots", "1"]);
    command.args(["--cluster-id", "test", "--secret-file"]).arg(&other);
    let stranger = Node::start(command, cluster.folder.path().join("stranger.log"));
    // A worker that belongs here joins within the time in which the stranger might have.
    cluster.add_worker();
    cluster.wait_for_workers(2);
    assert_eq!(cluster.node_state(&stranger.id()), None);
    assert_eq!(cluster.output(&["eval", "6 * 7"]), "42\n");
}

fn status_of(cluster: &Cluster, path: &str) -> String {
    let url = cluster.master.address("http");
    let address = url.strip_prefix("http://").expect("plain HTTP on loopback");
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(START_PATIENCE)).expect("timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn without_a_token_only_health_is_answered() {
    let cluster = Cluster::master();
    assert_eq!(status_of(&cluster, "/healthz"), "HTTP/1.1 200 OK");
    for path in ["/v1/jobs", "/v1/nodes", "/v1/version", "/nothing"] {
        assert_eq!(status_of(&cluster, path), "HTTP/1.1 401 Unauthorized", "{path}");
    }
}

#[test]
fn interrupted_client_cancels_its_job() {
    let cluster = Cluster::start(1);
    let mut client = cluster
        .client(&["sweep", FORMULA, "--over", "x=0.0:1.0/4000000000", "--reduce", "sum"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("client");
    wait_for("rows of the job", START_PATIENCE, || (cluster.rows_done() > 0).then_some(()));
    kill(Pid::from_raw(i32::try_from(client.id()).expect("a process id")), Signal::SIGINT).expect("signal");
    let status = wait_for("the end of the client", START_PATIENCE, || client.try_wait().expect("waitable"));
    assert_eq!(status.code(), Some(130));
    assert_eq!(cluster.jobs().pop().expect("the job")["state"], "cancelled");
    assert_eq!(cluster.output(&["eval", "6 * 7"]), "42\n");
}

#[test]
fn worker_finds_the_master_through_another_worker_and_comes_back_under_its_name() {
    let mut cluster = Cluster::start(1);
    let seed = cluster.workers[0].address("gossip");
    let start = |cluster: &Cluster, log: &str| {
        let mut command = cluster.worker_command(&seed);
        command.args(["--node-id", "worker-second"]);
        Node::start(command, cluster.folder.path().join(log))
    };
    let second = start(&cluster, "second.log");
    cluster.workers.push(second);
    cluster.wait_for_workers(2);
    cluster.workers[1].kill();
    let again = start(&cluster, "again.log");
    cluster.workers.push(again);
    wait_for("the worker under its old name", START_PATIENCE, || {
        let is_up = cluster.node_state("worker-second").as_deref() == Some("up");
        (is_up && cluster.workers[2].logged().contains("linked to a master")).then_some(())
    });
}

#[test]
fn uploaded_tables_in_columns_give_what_embedded_ones_give() {
    let cluster = Cluster::start(2);
    let folder = cluster.folder.path();
    let path = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
    for form in ["parquet", "arrow"] {
        let input = path(&format!("in.{form}"));
        // Several row groups, and a last one that is not whole.
        let made = embedded(&["sweep", "x * 2.0", "--over", "i=0:400:1", "--over", "x=0.0:1.0/901", "-o", &input]);
        assert!(made.status.success(), "{made:?}");
        let formula = "if(i > 200, result - x, math::sin(x))";
        for output in ["csv", "parquet", "arrow"] {
            let (here, there) = (path(&format!("here.{output}")), path(&format!("there.{output}")));
            let args = |output| ["map", formula, input.as_str(), "--as", "y", "--where", "x < 0.5", "-o", output];
            assert!(embedded(&args(&here)).status.success());
            cluster.output(&args(&there));
            assert!(fs::read(&here).expect("output") == fs::read(&there).expect("output"), "{form} to {output}");
        }
        let reduce = ["map", formula, &input, "--as", "y", "--reduce", "sum,variance,argmax", "-O", "json"];
        assert_eq!(cluster.output(&reduce), text(&embedded(&reduce)), "{form}");
    }
}
