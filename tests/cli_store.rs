//! `quipu store` against real data folders: checked, backed up, restored, and refused in words that say what to do.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{Cluster, Node, START_PATIENCE, quipu};

/// Rows that go into a file, rather than into the store.
const LARGE: [&str; 3] = ["math::sqrt(x) * 3.25", "--over", "x=0:20000:1"];
/// Words that a message is looked through for.
const WORDS_MAX: usize = 3;

fn store(args: &[&str], data_dir: &Path) -> Output {
    quipu().arg("store").args(args).arg("--data-dir").arg(data_dir).output().expect("runs")
}

/// Runs `quipu store`, which must succeed.
fn store_ok(args: &[&str], data_dir: &Path) -> String {
    let output = store(args, data_dir);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Asserts how a command ends, and what it says.
#[track_caller]
fn refused(output: &Output, code: i32, words: [&str; WORDS_MAX]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
}

fn data_dir(cluster: &Cluster) -> PathBuf {
    cluster.folder.path().join("data")
}

/// Stops the master as an operator does.
fn stop(master: &mut Node) {
    master.signal(Signal::SIGTERM);
    assert!(master.wait(START_PATIENCE).success(), "{}", master.logged());
}

/// The command of a master on a data folder.
fn master_on(cluster: &Cluster, data_dir: &Path) -> std::process::Command {
    let mut command = quipu();
    let bind = "127.0.0.1:0";
    command.args(["master", "--http", bind, "--rpc", bind, "--gossip", bind, "--cluster-id", "test"]);
    command.args(["--log-format", "json", "--secret-file"]).arg(cluster.secret()).arg("--data-dir").arg(data_dir);
    command
}

/// Jobs as clients see them, without what time changes.
fn jobs(cluster: &Cluster) -> Vec<Value> {
    let mut jobs = cluster.jobs();
    for job in &mut jobs {
        if job.get("ended_at_ms").is_none() {
            job["elapsed_ms"].take();
        }
    }
    jobs
}

fn results(cluster: &Cluster, ids: &[String]) -> Vec<Vec<u8>> {
    // One of them has a formula that fails, which its exit code tells.
    ids.iter().map(|id| cluster.run(&["job", "result", id]).stdout).collect()
}

fn submit(cluster: &Cluster, args: &[&str]) -> String {
    cluster.output(&[&["submit"], args].concat()).trim().to_owned()
}

#[test]
fn a_backup_restores_jobs_results_and_schedules() {
    let mut cluster = Cluster::start(1);
    let table = cluster.folder.path().join("table.csv");
    fs::write(&table, "a,b\n1,2\n3,4\n").expect("table");
    let ended = vec![
        submit(&cluster, &[&["sweep"][..], &LARGE, &["--label", "size=large"]].concat()),
        submit(&cluster, &["eval", "1 + 1", "2 / 0", "--idempotency-key", "once"]),
        submit(&cluster, &["map", "a * b", table.to_str().expect("a path"), "--as", "product"]),
        submit(
            &cluster,
            &["sample", "x", "-n", "50000", "--draw", "x=uniform(0,1)", "--seed", "3", "--reduce", "mean"],
        ),
    ];
    cluster.run(&["job", "wait", "all"]);
    let waiting = submit(&cluster, &["sweep", "x + 1", "--over", "x=0:100:1", "--after", "2s"]);
    let follower = submit(&cluster, &["eval", "40 + 2", "--after-job", &waiting]);
    let schedule = submit(&cluster, &["eval", "1", "--cron", "0 0 1 1 *", "--name", "yearly"]);
    let schedules = |cluster: &Cluster| cluster.output(&["schedule", "list", "-O", "json"]);
    // The worker goes first, so that what waits can't have begun.
    cluster.workers.clear();
    let before = (jobs(&cluster), results(&cluster, &ended), schedules(&cluster));
    assert!(before.1.iter().all(|bytes| !bytes.is_empty()));
    assert!(before.2.contains("yearly"), "{} of {schedule}", before.2);
    stop(&mut cluster.master);

    let data = data_dir(&cluster);
    let report: Value = serde_json::from_str(&store_ok(&["verify", "-O", "json"], &data)).expect("JSON");
    assert_eq!((&report["problem_count"], &report["lost"]), (&0.into(), &0.into()), "{report}");
    assert_eq!((&report["schedules"], &report["uploads"]), (&1.into(), &1.into()), "{report}");
    assert_eq!(report["jobs"]["succeeded"], 4, "{report}");
    assert!(report["result_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "{report}");
    assert!(store_ok(&["stats"], &data).contains("4 succeeded"));
    assert!(store_ok(&["compact"], &data).contains("after"));

    let backup = cluster.folder.path().join("backup.tar");
    let file = backup.to_str().expect("a path").to_owned();
    assert!(store_ok(&["export", &file], &data).contains("records"));
    refused(&store(&["export", &file], &data), 2, ["backup.tar", "is there already", "give a new file"]);
    refused(&store(&["import", &file], &data), 2, ["is there already", "import into a new data folder", ""]);

    let bytes = fs::read(&backup).expect("read");
    let bad = cluster.folder.path().join("bad.tar");
    let nowhere = cluster.folder.path().join("nowhere");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for damaged in [&flipped, &bytes[..bytes.len() / 3], &b"no backup at all"[..]] {
        fs::write(&bad, damaged).expect("written");
        let output = store(&["import", bad.to_str().expect("a path")], &nowhere);
        refused(&output, 65, ["bad.tar", "damaged", "nothing was imported"]);
        assert!(!nowhere.exists());
    }
    refused(&store(&["import", "missing.tar"], &nowhere), 66, ["missing.tar", "", ""]);

    let restored = cluster.folder.path().join("restored");
    store_ok(&["import", &file], &restored);
    store_ok(&["verify"], &restored);
    cluster.master = Node::start(master_on(&cluster, &restored), cluster.folder.path().join("restored.log"));
    let after = (results(&cluster, &ended), schedules(&cluster));
    assert_eq!(after, (before.1, before.2));
    let of = |jobs: Vec<Value>| -> Vec<Value> {
        jobs.into_iter().filter(|job| ended.iter().any(|id| id.parse().ok() == job["id"].as_u64())).collect()
    };
    let ended_before = of(before.0);
    assert_eq!(ended_before.len(), ended.len());
    assert_eq!(of(jobs(&cluster)), ended_before);
    // Its key is remembered too.
    assert_eq!(submit(&cluster, &["eval", "1 + 1", "2 / 0", "--idempotency-key", "once"]), ended[1]);
    cluster.add_worker();
    cluster.output(&["job", "wait", &waiting, &follower]);
    assert!(cluster.output(&["job", "result", &follower]).contains("42"));
    let embedded = quipu().args(["sweep", "x + 1", "--over", "x=0:100:1"]).output().expect("runs").stdout;
    assert_eq!(cluster.output(&["job", "result", &waiting]).into_bytes(), embedded);
}

#[test]
fn a_stopped_master_goes_on_with_its_jobs() {
    let mut cluster = Cluster::master();
    let id = submit(&cluster, &[&["sweep"][..], &LARGE].concat());
    stop(&mut cluster.master);
    cluster.master = Node::start(master_on(&cluster, &data_dir(&cluster)), cluster.folder.path().join("second.log"));
    assert_eq!(jobs(&cluster)[0]["state"], "queued");
    cluster.add_worker();
    assert!(cluster.run(&["job", "wait", &id]).status.success());
    let embedded = quipu().arg("sweep").args(LARGE).output().expect("runs").stdout;
    assert!(cluster.output(&["job", "result", &id]).as_bytes() == embedded, "other rows");
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let cluster = Cluster::master();
    let data = data_dir(&cluster);
    for command in [&["verify"][..], &["stats"], &["compact"], &["export", "backup.tar"]] {
        let output = store(command, &data);
        refused(&output, 75, [data.to_str().expect("a path"), "in use by another master", "--data-dir"]);
    }
    let second = master_on(&cluster, &data).output().expect("runs");
    refused(&second, 78, [data.to_str().expect("a path"), "in use by another master", "--data-dir"]);
    assert_eq!(cluster.jobs().len(), 0, "the first one serves on");
}

#[test]
fn damaged_results_are_named() {
    let mut cluster = Cluster::start(1);
    let id = submit(&cluster, &[&["sweep"][..], &LARGE].concat());
    assert!(cluster.run(&["job", "wait", &id]).status.success());
    stop(&mut cluster.master);
    let path = data_dir(&cluster).join("results").join(&id);
    let mut bytes = fs::read(&path).expect("results in a file");
    bytes[1000] ^= 1;
    fs::write(&path, bytes).expect("damaged");
    let output = store(&["verify"], &data_dir(&cluster));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains(&format!("job {id}: the results from row")) && told.contains("are damaged"), "{told}");
    refused(&output, 65, [data_dir(&cluster).to_str().expect("a path"), "has 1 problem", ""]);
}

#[test]
fn a_cut_journal_needs_a_decision() {
    let mut cluster = Cluster::master();
    for formula in ["1", "2", "3", "4"] {
        submit(&cluster, &["eval", formula]);
    }
    cluster.master.kill();
    let data = data_dir(&cluster);
    let tables = fs::read_dir(data.join("store").join("tables")).expect("tables");
    let journals = tables.map(|file| file.expect("entry").path());
    let journal = journals.filter(|path| path.extension().is_some_and(|ending| ending == "jnl")).max().expect("one");
    let bytes = fs::read(&journal).expect("read");
    let written = bytes.iter().rposition(|byte| *byte != 0).expect("a record");
    fs::write(&journal, &bytes[..written / 2]).expect("cut");

    let words = [data.to_str().expect("a path"), "has lost acknowledged commands", "quipu store verify --accept-loss"];
    refused(&master_on(&cluster, &data).output().expect("runs"), 65, words);
    refused(&store(&["export", "backup.tar"], &data), 65, words);
    let looked = store(&["verify"], &data);
    refused(&looked, 65, ["has 1 problem", "", ""]);
    assert!(String::from_utf8_lossy(&looked.stdout).contains("--accept-loss"), "{looked:?}");
    let accepted = store(&["verify", "--accept-loss"], &data);
    refused(&accepted, 0, ["acknowledged commands are given up", "", ""]);
    cluster.master = Node::start(master_on(&cluster, &data), cluster.folder.path().join("second.log"));
    assert!(cluster.jobs().len() < 4);
    let next = submit(&cluster, &["eval", "5"]);
    assert_eq!(cluster.jobs().last().map(|job| job["id"].to_string()), Some(next));
}

#[test]
fn a_store_command_needs_a_store() {
    let folder = tempfile::tempdir().expect("folder");
    for command in [&["verify"][..], &["stats"], &["compact"], &["export", "backup.tar"]] {
        refused(&store(command, folder.path()), 66, ["there is no store in", "--data-dir", ""]);
        let without = quipu().arg("store").args(command).env("HOME", folder.path()).output().expect("runs");
        refused(&without, 2, ["no data folder is given", "QUIPU_DATA_DIR", ""]);
    }
    refused(&store(&["verify", "-O", "csv"], folder.path()), 2, ["table or json", "", ""]);
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0, "nothing is made");
    let format = folder.path().join("store").join("format");
    fs::create_dir(folder.path().join("store")).expect("folder");
    fs::write(format, "quipu store 99\n").expect("written");
    refused(&store(&["verify"], folder.path()), 65, ["has format 99", "quipu store export", ""]);
    let cluster = Cluster::master();
    refused(
        &master_on(&cluster, folder.path()).output().expect("runs"),
        78,
        ["has format 99", "quipu store export", ""],
    );
    let from_environment =
        quipu().args(["store", "stats"]).env("QUIPU_DATA_DIR", folder.path()).output().expect("runs");
    refused(&from_environment, 65, ["has format 99", "", ""]);
}
