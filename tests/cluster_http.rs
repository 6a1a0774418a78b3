//! The HTTP API of a real master with a real worker: forms of results, and the examples of its document.

mod support;

#[allow(dead_code, reason = "the harness of histories uses the rest")]
#[path = "support/history/http.rs"]
mod http;

use http::Client;
use quipu_shared::render::IpcJoiner;
use std::process::{Command, Stdio};
use support::{Cluster, quipu};

fn token(cluster: &Cluster) -> String {
    let mut command = quipu();
    command.args(["secret", "token", "--cluster-id", "test", "--secret-file"]).arg(cluster.secret());
    let output = command.output().expect("a token");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

fn client(cluster: &Cluster) -> Client {
    let address = cluster.master.address("http").trim_start_matches("http://").parse().expect("an address");
    Client::new(address, &token(cluster))
}

/// Submits a sweep of 10,000 rows whose results are of a format; gives its path.
fn sweep(client: &mut Client, format: &str) -> String {
    let spec = format!(
        r#"{{"kind":{{"sweep":{{"formula":"x * 0.5","name":"y","axes":[{{"name":"x","values":
            {{"int_range":{{"start":0,"stop":10000,"step":1}}}}}}]}}}},"format":"{format}"}}"#
    );
    let json = [("content-type", "application/json")];
    let answer = client.ask("POST", "/v1/jobs", &json, spec.as_bytes()).expect("submitted");
    assert_eq!(answer.status, 202, "{answer:?}");
    format!("/v1/jobs/{}", answer.json()["id"])
}

#[test]
fn results_come_in_the_form_of_the_job_and_in_no_other() {
    let cluster = Cluster::start(1);
    let mut client = client(&cluster);
    let stream = "application/vnd.apache.arrow.stream";
    let job = sweep(&mut client, "arrow");
    let answer = client.ask("GET", &format!("{job}/results"), &[("accept", stream)], b"").expect("results");
    assert_eq!((answer.status, answer.media_type.as_str()), (200, stream));
    let mut joiner = IpcJoiner::default();
    let mut file = joiner.push(&answer.body).expect("a stream of Arrow IPC");
    file.append(&mut joiner.finish().expect("a whole stream"));
    let here = cluster.folder.path().join("here.arrow");
    let made = quipu().args(["sweep", "x * 0.5", "--over", "x=0:10000:1", "--as", "y", "-o"]).arg(&here).status();
    assert!(made.expect("runs").success());
    assert!(file == std::fs::read(here).expect("a file"), "the stream is the file that the command makes");

    let job = sweep(&mut client, "ndjson");
    let accept = [("accept", "application/json;q=0.5, application/x-ndjson")];
    let answer = client.ask("GET", &format!("{job}/results"), &accept, b"").expect("results");
    assert_eq!((answer.status, answer.media_type.as_str()), (200, "application/x-ndjson"));
    let lines: Vec<serde_json::Value> = answer
        .body
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 10_000);
    assert_eq!(lines[9_999], serde_json::json!({ "x": 9999, "y": 4999.5 }));

    for accept in ["text/csv", "application/json", "application/x-ndjson;q=0, text/*"] {
        let answer = client.ask("GET", &format!("{job}/results"), &[("accept", accept)], b"").expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (406, "not_acceptable"), "{accept}");
        assert!(answer.json()["detail"].as_str().is_some_and(|text| text.contains("application/x-ndjson")));
    }
}

/// What is evaluated at once has the same bits, types and errors as a job of the command has.
#[test]
fn values_are_those_of_a_job() {
    let cluster = Cluster::start(1);
    let mut client = client(&cluster);
    let formulas = [
        "10 + 2 * 3",
        "7 / 2",
        "0.1 + 0.2",
        "2 ^ 0.5",
        "math::sin(1e10)",
        "0.0 / 0",
        "-1.0 / 0",
        "(1, 2.0, \"x\")",
        "1 / 0",
        "1 +",
        "9223372036854775807 + 1",
        "str::to_uppercase(\"é\")",
        "foo(1)",
        "a",
        "a = 3; a * a",
        "1 == 1.0",
    ];
    let file = cluster.folder.path().join("formulas");
    std::fs::write(&file, formulas.join("\n")).expect("formulas");
    let ran = cluster.run(&["eval", "-O", "json", "-f", file.to_str().expect("a path")]);
    let job: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let evaluations: Vec<_> = formulas.iter().map(|formula| serde_json::json!({ "formula": formula })).collect();
    let body = serde_json::json!({ "evaluations": evaluations }).to_string();
    let json = [("content-type", "application/json")];
    let answer = client.ask("POST", "/v1/eval", &json, body.as_bytes()).expect("evaluated");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["results"], job);
}

/// Blocks of a document that are fenced as `sh`.
fn examples(document: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut within = false;
    for line in document.lines() {
        if line.starts_with("```") {
            within = !within && line == "```sh";
            if within {
                blocks.push(String::new());
            }
        } else if within && let Some(block) = blocks.last_mut() {
            *block += line;
            block.push('\n');
        }
    }
    blocks
}

#[test]
fn examples_of_the_document_work() {
    let cluster = Cluster::start(1);
    let document = include_str!("../docs/HTTP.md");
    let blocks = examples(document);
    let ([begin, examples @ ..], true) = (&blocks[..], blocks.len() > 4) else { panic!("{blocks:?}") };
    let settings: String = begin.lines().filter(|line| line.starts_with("api()")).collect();
    let mut scripts = 0;
    for example in examples {
        let script = format!("set -euo pipefail\n{settings}\n{example}");
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(&script).stdin(Stdio::null());
        shell.env("url", cluster.master.address("http")).env("token", token(&cluster));
        let output = shell.output().expect("bash, curl and python3");
        assert!(output.status.success(), "{example}\n{output:?}");
        let printed = String::from_utf8_lossy(&output.stdout);
        for shown in example.lines().filter_map(|line| line.strip_prefix("# ")).filter(|shown| !shown.contains("..")) {
            assert!(printed.contains(shown), "{example}\nprinted: {printed}");
        }
        scripts += 1;
    }
    assert!(scripts >= 4);
}
