//! Tokens, namespaces and certificates, as operators and clients meet them: real processes, the command line.

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use support::{Cluster, quipu, wait_for};

/// Exit code: not allowed.
const NOT_ALLOWED: Option<i32> = Some(77);

/// Makes a token and writes it to a file.
fn token(cluster: &Cluster, args: &[&str]) -> PathBuf {
    let text = cluster.output(&[&["token", "new"], args].concat());
    assert!(text.starts_with("qp_") && text.trim_end().len() == 46, "{text:?}");
    let path = cluster.folder.path().join(format!("{}.token", args[0]));
    fs::write(&path, text).expect("token file");
    path
}

/// A client that has a token and nothing else.
fn client(cluster: &Cluster, token: &Path, args: &[&str]) -> Output {
    let mut command = quipu();
    command.args(args).args(["--cluster", &cluster.master.address("http"), "--token-file"]).arg(token);
    command.output().expect("client runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn tokens_have_roles_outlive_the_master_and_can_be_revoked() {
    let mut cluster = Cluster::start(1);
    let (read, submit) = (token(&cluster, &["reader", "--role", "read"]), token(&cluster, &["ci", "--role", "submit"]));
    assert_eq!(stdout(&client(&cluster, &submit, &["eval", "6 * 7"])), "42\n");
    let refused = client(&cluster, &read, &["eval", "6 * 7"]);
    assert_eq!(refused.status.code(), NOT_ALLOWED);
    assert!(stderr(&refused).contains("the token \"reader\" has the role read, and this takes submit"), "{refused:?}");
    let worker = cluster.workers[0].id();
    assert_eq!(client(&cluster, &submit, &["node", "drain", &worker]).status.code(), NOT_ALLOWED);
    assert_eq!(client(&cluster, &submit, &["token", "list"]).status.code(), NOT_ALLOWED);

    cluster.restart_master();
    cluster.wait_for_workers(1);
    let listed: Value = serde_json::from_str(&cluster.output(&["token", "list", "-O", "json"])).expect("JSON");
    let names: Vec<&str> = listed.as_array().expect("tokens").iter().filter_map(|t| t["name"].as_str()).collect();
    assert_eq!(names, ["reader", "ci"]);
    assert!(client(&cluster, &read, &["status"]).status.success());
    cluster.output(&["token", "revoke", "1"]);
    let revoked = client(&cluster, &read, &["status"]);
    assert_eq!(revoked.status.code(), NOT_ALLOWED, "{revoked:?}");
    assert!(client(&cluster, &submit, &["status"]).status.success());

    // The text of no token is on the disk, in a log, or in the audit log, which has the rest.
    let text = fs::read_to_string(&submit).expect("token");
    let data = cluster.folder.path().join("data");
    let mut files = vec![cluster.master.log.clone()];
    files.extend(walk(&data));
    for file in files {
        let bytes = fs::read(&file).expect("reads");
        let needle = text.trim_end().as_bytes();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", file.display());
    }
    let audit = data.join("audit.ndjson");
    assert_eq!(fs::metadata(&audit).expect("audit log").permissions().mode() & 0o777, 0o600);
    let told = wait_for("the audit log", Duration::from_secs(20), || {
        let text = fs::read_to_string(&audit).ok()?;
        let entries: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        entries.iter().any(|entry| entry["path"] == "/v1/tokens/1").then_some(entries)
    });
    let of = |method: &str, path: &str| told.iter().find(|e| e["method"] == method && e["path"] == path).expect(path);
    assert_eq!(of("POST", "/v1/tokens")["caller"], "cluster");
    assert!(told.iter().any(|entry| entry["caller"] == "ci" && entry["path"] == "/v1/jobs" && entry["status"] == 202));
    assert!(told.iter().any(|entry| entry["status"] == 403 && entry["path"] == "/v1/jobs"));
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("folder").flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
}

#[test]
fn namespaces_see_nothing_of_each_other_and_keep_to_their_quotas() {
    let mut cluster = Cluster::master_on("127.0.0.1:0", |mut command| {
        command.env("QUIPU_NAMESPACES__B__JOBS_PENDING_MAX", "2").env("QUIPU_NAMESPACES__B__FUNCTIONS", "none");
        command
    });
    let [a, b] = ["a", "b"].map(|name| token(&cluster, &[name, "--role", "submit", "--in", name]));
    let submit = |token: &Path, args: &[&str]| client(&cluster, token, &[&["submit", "eval"], args].concat());
    let first = submit(&a, &["1 + 1"]);
    assert_eq!(stdout(&first), "1\n", "{first:?}");
    let jobs = |token: &Path| stdout(&client(&cluster, token, &["job", "list", "-O", "ndjson"])).lines().count();
    assert_eq!((jobs(&a), jobs(&b)), (1, 0));
    for args in [&["job", "show", "1"][..], &["job", "cancel", "1"], &["job", "result", "1"]] {
        let other = client(&cluster, &b, args);
        assert_eq!(other.status.code(), Some(66), "{args:?}: {other:?}");
    }
    let waits = submit(&b, &["1", "--after-job", "1"]);
    assert_eq!(waits.status.code(), Some(66), "a job of another namespace is not there: {waits:?}");
    // There is no worker: what is submitted stays.
    assert!(submit(&b, &["1"]).status.success() && submit(&b, &["2"]).status.success());
    let over = submit(&b, &["3", "--no-wait"]);
    assert_eq!(over.status.code(), Some(75), "{over:?}");
    assert!(stderr(&over).contains("namespaces.b.jobs_pending_max"), "{over:?}");
    assert!(submit(&a, &["3"]).status.success(), "the other namespace has room");
    // What the operator does concerns all of them.
    let listed = cluster.output(&["job", "list", "-O", "ndjson"]);
    let spaces: Vec<Value> = listed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect();
    assert_eq!(spaces.iter().filter(|job| job["namespace"] == "b").count(), 2);
    assert_eq!(cluster.output(&["job", "list", "--namespace", "b", "-O", "ndjson"]).lines().count(), 2);
    cluster.add_worker();
    cluster.wait_for_workers(1);
    let narrowed = client(&cluster, &b, &["eval", "math::sqrt(4.0)"]);
    assert!(!narrowed.status.success() && stderr(&narrowed).contains("math::sqrt"), "{narrowed:?}");
    assert_eq!(stdout(&client(&cluster, &a, &["eval", "math::sqrt(4.0)"])), "2\n");
}

#[test]
fn clients_with_one_key_in_two_namespaces_have_two_jobs() {
    let cluster = Cluster::master();
    let [a, b] = ["a", "b"].map(|name| token(&cluster, &[name, "--role", "submit", "--in", name]));
    let submit = |token: &Path| client(&cluster, token, &["submit", "eval", "1 + 1", "--idempotency-key", "same"]);
    let ids = [submit(&a), submit(&b), submit(&a)].map(|output| stdout(&output).to_owned());
    assert_eq!(ids, ["1\n", "2\n", "1\n"]);
}

/// A certificate for localhost of an authority of its own, as PEM files: certificate, key, authority.
fn own_certificate(folder: &Path, names: &[&str]) -> [PathBuf; 3] {
    let run = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(folder).output().expect("openssl runs");
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    let alt = names.iter().map(|name| format!("DNS:{name}")).collect::<Vec<_>>().join(",");
    fs::write(
        folder.join("ext"),
        format!("subjectAltName={alt},IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"),
    )
    .expect("extensions");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = ["req", "-x509", "-subj", "/CN=test authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"];
    run(&[&ca[..], &curve].concat());
    run(&[&["req", "-subj", "/CN=quipu", "-keyout", "key.pem", "-out", "request.pem"][..], &curve].concat());
    let sign = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    run(&[&sign[..], &["-days", "2", "-extfile", "ext", "-out", "cert.pem"]].concat());
    ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.join(name))
}

#[test]
fn http_may_have_a_certificate_that_browsers_take() {
    let folder = tempfile::tempdir().expect("folder");
    let [certificate, key, authority] = own_certificate(folder.path(), &["localhost"]);
    let cluster = Cluster::master_on("127.0.0.1:0", |mut command| {
        command.arg("--http-cert").arg(&certificate).arg("--http-key").arg(&key);
        command
    });
    let url = cluster.master.address("http");
    assert!(url.starts_with("https://"), "{url}");
    let trusting = |ca: &Path| {
        let mut command = quipu();
        command.args(["status", "--cluster-id", "test", "--cluster", &url, "--ca-file"]).arg(ca);
        command.arg("--secret-file").arg(cluster.secret()).output().expect("client runs")
    };
    let good = trusting(&authority);
    assert!(good.status.success(), "{good:?}");
    let derived =
        quipu().args(["secret", "ca", "--cluster-id", "test", "--secret-file"]).arg(cluster.secret()).output();
    let other = folder.path().join("derived.pem");
    fs::write(&other, derived.expect("authority").stdout).expect("written");
    assert_eq!(trusting(&other).status.code(), Some(69), "the derived authority did not sign this one");
}

#[test]
fn nodes_may_have_certificates_of_their_own() {
    let folder = tempfile::tempdir().expect("folder");
    let [certificate, key, authority] = own_certificate(folder.path(), &["localhost", "m1.example", "w1.example"]);
    let with = |mut command: Command, id: &str| {
        command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key).arg("--tls-ca").arg(&authority);
        command.args(["--node-id", id]);
        command
    };
    let mut cluster = Cluster::master_on("127.0.0.1:0", |command| with(command, "m1"));
    let worker = with(cluster.worker_command(&cluster.master.address("gossip")), "w1");
    let log = cluster.folder.path().join("w1.log");
    cluster.workers.push(support::Node::start(worker, log));
    cluster.wait_for_workers(1);
    assert_eq!(cluster.output(&["eval", "6 * 7"]), "42\n");
}
