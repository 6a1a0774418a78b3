//! `quipu submit` and `quipu job` against a real cluster: jobs outlive the command that submitted them.

mod support;

use serde_json::Value;
use std::fs;
use support::{Cluster, quipu};

#[test]
fn submitted_jobs_outlive_their_command() {
    let cluster = Cluster::start(1);
    let sweep = ["x * x - 1", "--over", "x=0:1000:1"];
    let named = ["--name", "squares", "--label", "team=pricing", "--priority", "-5", "--deadline", "60s"];
    let id = cluster.output(&[&["submit", "sweep"][..], &sweep, &named].concat());
    let id = id.trim();
    assert_eq!(id, "1");
    assert!(cluster.run(&["job", "wait", id]).status.success());
    let embedded = quipu().arg("sweep").args(sweep).output().expect("runs").stdout;
    assert_eq!(cluster.output(&["job", "result", id]).as_bytes(), embedded);
    let shown: Value = serde_json::from_str(&cluster.output(&["job", "show", id, "-O", "json"])).expect("JSON");
    assert_eq!((&shown["name"], &shown["state"]), (&"squares".into(), &"succeeded".into()));
    // A command of its own reads what was kept; none is there of another number.
    for command in ["wait", "result", "show", "cancel"] {
        assert_eq!(cluster.run(&["job", command, "99"]).status.code(), Some(66), "{command}");
    }
}

#[test]
fn many_jobs_are_submitted_at_once_and_once() {
    let cluster = Cluster::start(1);
    let path = cluster.folder.path().join("formulas.txt");
    fs::write(&path, "1 + 1\n\n2 * 3\n7 / 2\n").expect("formulas");
    let path = path.to_str().expect("a path");
    let each = ["submit", "eval", "-f", path, "--each", "--idempotency-key", "k", "--deadline", "60s"];
    let ids = cluster.output(&each);
    assert_eq!(ids, "1\n2\n3\n");
    assert_eq!(cluster.output(&each), ids, "the same keys are the same jobs");
    assert!(cluster.run(&["job", "wait", "1-3"]).status.success());
    let value: Value = serde_json::from_str(&cluster.output(&["job", "result", "2"])).expect("JSON");
    assert_eq!(value["value"], 6);
    // The key of the first line, with another job.
    assert_eq!(cluster.run(&["submit", "eval", "5", "--idempotency-key", "k"]).status.code(), Some(65));

    let path = cluster.folder.path().join("jobs.ndjson");
    let good = r#"{"spec":{"kind":{"eval":{"formulas":["8 * 8"]}}}}"#;
    fs::write(&path, format!("{good}\nnonsense\n{good}\n")).expect("jobs");
    let batch = cluster.run(&["submit", "batch", path.to_str().expect("a path")]);
    assert_eq!(String::from_utf8_lossy(&batch.stdout), "4\n\n5\n");
    assert_eq!(batch.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&batch.stderr).contains("line 2, column 2"), "{batch:?}");
}

#[test]
fn submit_needs_a_cluster_and_sound_options() {
    for (args, code) in [
        (&["submit", "eval", "1"][..], 2),
        (&["submit", "eval", "1", "--cluster", "http://127.0.0.1:1", "--cron", "0 0 30 2 *"], 2),
        (&["submit", "eval", "1", "--cluster", "http://127.0.0.1:1", "--at", "soon"], 2),
        (&["submit", "eval", "1", "--cluster", "http://127.0.0.1:1", "--priority", "101"], 2),
        (&["submit", "eval", "1", "--cluster", "http://127.0.0.1:1", "--after-job", "last-5"], 2),
        (&["submit", "batch", "missing.ndjson", "--cluster", "http://127.0.0.1:1"], 66),
    ] {
        let output = quipu().args(args).output().expect("runs");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
}
