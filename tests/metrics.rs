//! What a running master tells Prometheus: the figures are right, the files in `deploy` name only what is there, and
//! docs/METRICS.md all of it.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::{Cluster, START_PATIENCE, wait_for};

/// Ten times what a scrape and its check take.
const PATIENCE: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Asks a master by hand; gives status and body.
fn get(cluster: &Cluster, path: &str, accept: &str) -> (u16, Vec<u8>) {
    let token = cluster.output(&["secret", "token"]);
    let address = cluster.master.address("http").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    let status = String::from_utf8_lossy(&answer[9..12]).parse().expect("a status");
    (status, answer.split_off(head))
}

fn scrape(cluster: &Cluster, accept: &str) -> String {
    let (status, body) = get(cluster, "/metrics", accept);
    assert_eq!(status, 200);
    String::from_utf8(body).expect("text")
}

/// The sum of all series of a name that have all of these labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = text.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or("x");
        (rest.starts_with('{') || rest.starts_with(' ')) && labels.iter().all(|label| rest.contains(label))
    });
    lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")).sum()
}

/// Names of metrics in the Prometheus text format, each with its kind.
fn families(text: &str) -> BTreeSet<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split_once(' ').expect("a name and a kind")).map(|(n, k)| (n.into(), k.into())).collect()
}

/// Words of a text that may be names of our metrics.
fn named(text: &str) -> BTreeSet<String> {
    let is_part =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_' || letter == ':';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("quipu_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// Every series name that the families stand for.
fn series(families: &BTreeSet<(String, String)>) -> BTreeSet<String> {
    let of = |(name, kind): &(String, String)| match kind.as_str() {
        "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).to_vec(),
        _ => vec![name.clone()],
    };
    families.iter().flat_map(of).collect()
}

/// A cluster that has done a bit of everything.
fn used() -> Cluster {
    let cluster = Cluster::start(1);
    cluster.output(&["sweep", "math::sin(x) * x", "--over", "x=0.0:1.0/600000", "--reduce", "sum", "-O", "json"]);
    cluster.output(&["eval", "1 + 2"]);
    let failed = cluster.run(&["sweep", "1 / x", "--over", "x=0:10:1", "--on-error", "null", "-O", "csv"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    cluster
}

#[test]
fn figures_are_what_was_done() {
    let cluster = used();
    // They are counted now and then.
    let text = wait_for("the members of gossip to be counted", START_PATIENCE, || {
        let text = scrape(&cluster, "text/plain");
        (sum(&text, "quipu_gossip_members", &["state=\"alive\""]) == 1.0).then_some(text)
    });
    let total = |name: &str| sum(&text, name, &[]);
    assert_eq!(total("quipu_rows_total"), 600_011.0, "{text}");
    assert_eq!(total("quipu_rows_failed_total"), 1.0);
    assert_eq!((total("quipu_jobs_submitted_total"), total("quipu_jobs_pending")), (3.0, 0.0));
    let succeeded = ["namespace=\"default\"", "state=\"succeeded\""];
    assert_eq!(sum(&text, "quipu_jobs_ended_total", &succeeded), 3.0, "{text}");
    assert_eq!(sum(&text, "quipu_jobs", &succeeded), 3.0);
    assert_eq!((total("quipu_job_queue_seconds_count"), total("quipu_job_duration_seconds_count")), (3.0, 3.0));
    let shards = total("quipu_shards_completed_total");
    assert!(shards >= 3.0);
    assert_eq!(sum(&text, "quipu_attempts_ended_total", &["outcome=\"completed\""]), shards);
    assert!(total("quipu_attempts_granted_total") >= shards);
    assert_eq!(total("quipu_link_round_trip_seconds_count"), total("quipu_attempts_granted_total"));
    // The formulas of an eval are evalexpr's, and so is a block of ten rows or less; a long sweep ends as machine code.
    assert!(sum(&text, "quipu_evaluated_rows_total", &["tier=\"jit\""]) >= 400_000.0, "{text}");
    assert!(sum(&text, "quipu_evaluated_rows_total", &["tier=\"evalexpr\""]) >= 1.0, "{text}");
    assert!(sum(&text, "quipu_shard_execution_seconds_sum", &["tier=\"jit\""]) > 0.0);
    assert!(sum(&text, "quipu_shard_execution_seconds_count", &[]) >= shards);
    assert!(total("quipu_store_commit_seconds_count") >= 6.0 && total("quipu_store_journal_bytes") > 0.0);
    assert!(total("quipu_store_commit_commands_sum") >= total("quipu_store_commit_commands_count"));
    assert!(sum(&text, "quipu_link_bytes_total", &["direction=\"sent\""]) > 100.0);
    assert_eq!(total("quipu_link_peers"), 1.0);
    assert_eq!(
        sum(&text, "quipu_http_requests_total", &["route=\"/v1/jobs\"", "method=\"POST\"", "status=\"202\""]),
        3.0
    );
    let worker = format!("node_id=\"{}\"", cluster.workers[0].id());
    assert_eq!(sum(&text, "quipu_node_slots", &[&worker]), 1.0);
    assert_eq!(sum(&text, "quipu_node_shards_completed_total", &[&worker]), shards);
    assert!(total("process_resident_memory_bytes") > 1e6 && total("process_start_time_seconds") > 1.7e9);

    cluster.workers[0].signal(Signal::SIGKILL);
    let text = wait_for("the worker's figures to go", START_PATIENCE, || {
        let text = scrape(&cluster, "text/plain");
        (!text.contains(&worker)).then_some(text)
    });
    assert_eq!(sum(&text, "quipu_nodes", &["role=\"worker\"", "state=\"down\""]), 1.0);
    assert_eq!(sum(&text, "quipu_workers_lost_total", &[]), 1.0);
    assert_eq!(sum(&text, "quipu_rows_total", &[]), 600_011.0, "sums stay");
}

#[test]
fn a_restarted_master_counts_anew_and_knows_its_jobs() {
    let mut cluster = used();
    cluster.restart_master();
    let text = scrape(&cluster, "text/plain");
    assert_eq!(sum(&text, "quipu_jobs_submitted_total", &[]), 0.0, "none since its start");
    assert_eq!(sum(&text, "quipu_jobs_ended_total", &[]), 0.0);
    assert_eq!(sum(&text, "quipu_jobs", &["state=\"succeeded\""]), 3.0, "{text}");
}

#[test]
fn dashboard_alerts_and_documentation_name_what_is_there() {
    let cluster = used();
    let families = families(&scrape(&cluster, "text/plain"));
    let series = series(&families);

    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/quipu.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut asked = String::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "ids are unique: {panel}");
        assert!(!panel["title"].as_str().expect("a title").is_empty());
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().expect("x") + place["w"].as_u64().expect("w") <= 24, "{place} is on the grid");
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked += target["expr"].as_str().expect("an expression");
            asked.push('\n');
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        asked += variable["query"]["query"].as_str().unwrap_or_default();
        asked.push('\n');
    }
    let rules =
        ["alerts.yml", "recording.yml", "alerts_test.yml"].map(|file| read(&format!("deploy/prometheus/{file}")));
    for (what, text) in [("the dashboard", asked), ("the rules", rules.concat())] {
        let names = named(&text);
        assert!(names.len() > 10, "{what}: {names:?}");
        let missing: Vec<&String> = names.difference(&series).collect();
        assert!(missing.is_empty(), "{what}: no master exports {missing:?}");
    }

    let documented: BTreeSet<(String, String)> = read("docs/METRICS.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let name = cells.next()?.trim_end_matches('`').split('{').next()?.to_owned();
            let kind = cells.next()?.to_owned();
            ["counter", "gauge", "histogram"].contains(&kind.as_str()).then_some((name, kind))
        })
        .collect();
    let missing: Vec<_> = families.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/METRICS.md lacks {missing:?}");
    let too_much: Vec<_> = documented.difference(&families).collect();
    assert!(too_much.is_empty(), "docs/METRICS.md has what no master exports: {too_much:?}");
}

#[test]
fn promtool_finds_nothing_wrong() {
    let promtool = root().join("scripts/promtool");
    let path = Command::new(&promtool).arg("path").output().expect("runs");
    if !path.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&path.stderr).trim());
        return;
    }
    let check = |args: &[&Path]| {
        let output = Command::new(&promtool).args(args).output().expect("runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {said}");
    };
    check(&[]);
    let cluster = used();
    let file = cluster.folder.path().join("metrics.txt");
    fs::write(&file, scrape(&cluster, "text/plain")).expect("written");
    check(&[Path::new("metrics"), &file]);
}

#[test]
fn openmetrics_text_is_whole() {
    let cluster = used();
    let text = scrape(&cluster, "application/openmetrics-text; version=1.0.0");
    assert!(text.ends_with("# EOF\n"));
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(name), "{name} stands twice");
    }
    let counters = text.lines().filter(|line| line.starts_with("# TYPE") && line.ends_with(" counter"));
    for name in counters.filter_map(|line| line.split(' ').nth(2)) {
        assert!(
            !name.ends_with("_total") && seen.iter().any(|seen| seen.starts_with(&format!("{name}_total"))),
            "{name}"
        );
    }
}
