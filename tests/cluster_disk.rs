//! A master whose disk fills up, is read-only, or is nearly full: as root, on a small file system of its own in
//! memory; without that these tests say so and end. And one whose results have no place for a while.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Cluster, START_PATIENCE, quipu, wait_for};

/// A file system in memory, unmounted in the end.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// None where this user may not mount.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let path = folder.join("disk");
        fs::create_dir(&path).expect("folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).status();
        if nix::unistd::geteuid().is_root() && mounted.is_ok_and(|status| status.success()) {
            return Some(Self { path });
        }
        eprintln!("skipped: mounting a file system needs root");
        None
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.path).status().expect("mount");
        assert!(status.success(), "{option}: {status}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Puts a cluster's data folder onto this disk, of which so much must stay free.
fn on(disk: &SmallDisk, free_min: &'static str) -> impl FnOnce(Command) -> Command + use<> {
    let there = disk.path.join("data");
    move |mut command| {
        fs::create_dir_all(&there).expect("folder");
        let data = command.get_args().skip_while(|argument| *argument != "--data-dir").nth(1).expect("a data folder");
        // There already where the master is started again.
        let _ = std::os::unix::fs::symlink(&there, data);
        command.env("QUIPU_LIMITS__DISK_FREE_MIN_BYTES", free_min);
        command
    }
}

fn master_on(disk: &SmallDisk, free_min: &'static str) -> Cluster {
    Cluster::master_on("127.0.0.1:0", on(disk, free_min))
}

fn readiness(cluster: &Cluster) -> (u16, String) {
    use std::io::{Read, Write};
    let address = cluster.master.address("http");
    let host = address.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).expect("connects");
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), answer)
}

fn submit(cluster: &Cluster) -> std::process::Output {
    cluster.run(&["submit", "eval", "1 + 1", "--no-wait"])
}

#[test]
fn a_nearly_full_disk_takes_nothing_new_until_there_is_room() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(disk) = SmallDisk::mount(folder.path(), "400m") else { return };
    let cluster = master_on(&disk, "268435456");
    assert!(submit(&cluster).status.success());
    assert_eq!(readiness(&cluster).0, 200);
    disk.remount("size=200m");
    let refused = submit(&cluster);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(75), "{text}");
    assert!(text.contains("limits.disk_free_min_bytes") && text.contains("nothing new is taken on"), "{text}");
    let (status, answer) = readiness(&cluster);
    assert!(status == 503 && answer.contains("limits.disk_free_min_bytes"), "{answer}");
    assert_eq!(cluster.jobs().len(), 1, "what is there can be read");
    disk.remount("size=400m");
    assert!(submit(&cluster).status.success(), "it passes by itself");
    assert_eq!(readiness(&cluster).0, 200);
}

#[test]
fn a_full_disk_stops_the_master_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(disk) = SmallDisk::mount(folder.path(), "40m") else { return };
    let mut cluster = master_on(&disk, "0");
    let formulas = folder.path().join("formulas.txt");
    // Long ones, to fill the disk soon.
    let text: String = (0..60_000).map(|n| format!("{n} + {}\n", "1 + ".repeat(200) + "1")).collect();
    fs::write(&formulas, text).expect("file");
    let formulas = formulas.to_str().expect("UTF-8");
    let filled = cluster.run(&["submit", "eval", "-f", formulas, "--each", "--no-wait"]);
    let acknowledged: Vec<u64> =
        String::from_utf8_lossy(&filled.stdout).lines().filter_map(|line| line.parse().ok()).collect();
    let said = String::from_utf8_lossy(&filled.stderr).into_owned();
    assert!(!filled.status.success() && !acknowledged.is_empty(), "{said}");
    assert!(said.contains("the store has stopped") && said.contains("make room"), "{said}");
    let (status, answer) = readiness(&cluster);
    assert!(status == 503 && answer.contains("make room"), "{answer}");
    assert!(!cluster.jobs().is_empty(), "what is there can be read");
    disk.remount("size=400m");
    cluster.restart_master_with(on(&disk, "0"));
    for job in [acknowledged.first(), acknowledged.last()].into_iter().flatten() {
        cluster.output(&["job", "show", &job.to_string()]);
    }
    assert!(submit(&cluster).status.success());
}

#[test]
fn a_read_only_data_folder_is_refused_in_words() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(disk) = SmallDisk::mount(folder.path(), "40m") else { return };
    drop(master_on(&disk, "0"));
    disk.remount("ro");
    let secret = folder.path().join("secret");
    fs::write(&secret, quipu().args(["secret", "new"]).output().expect("secret").stdout).expect("file");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
    let mut command = quipu();
    command.args(["master", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0"]);
    command.arg("--secret-file").arg(&secret).arg("--data-dir").arg(disk.path.join("data"));
    let refused = command.output().expect("runs");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("Read-only file system"), "{text}");
    assert!(text.contains("disk/data"), "it names the folder: {text}");
}

#[test]
fn a_job_with_retries_outlasts_trouble_with_its_results() {
    const SWEEP: [&str; 4] = ["sweep", "x * 2.0", "--over", "x=0.0:1.0/200000"];
    let cluster = Cluster::start(1);
    let results = cluster.folder.path().join("data/results");
    let away = cluster.folder.path().join("away");
    fs::rename(&results, &away).expect("moved");
    fs::write(&results, "in the way").expect("file");
    let submit = |retries: &str| cluster.output(&[&["submit"], &SWEEP[..], &["--retries", retries]].concat());
    assert_eq!((submit("20"), submit("0"), submit("20")), ("1\n".into(), "2\n".into(), "3\n".into()));
    let show = |job: &str| -> serde_json::Value {
        serde_json::from_str(&cluster.output(&["job", "show", job, "-O", "json"])).expect("JSON")
    };
    for job in ["1", "3"] {
        wait_for("a try that failed", START_PATIENCE, || {
            let view = show(job);
            (view["state"] == "scheduled" && view["retries"].as_u64()? >= 1).then_some(())
        });
    }
    let explained = cluster.output(&["job", "explain", "1"]);
    assert!(explained.contains("tried again after") && explained.contains("file of results"), "{explained}");
    wait_for("the end of the job without retries", START_PATIENCE, || (show("2")["state"] == "failed").then_some(()));
    cluster.output(&["job", "cancel", "3"]);
    wait_for("the end of the cancelled job", START_PATIENCE, || (show("3")["state"] == "cancelled").then_some(()));
    fs::remove_file(&results).expect("removed");
    fs::rename(&away, &results).expect("moved back");
    cluster.output(&["job", "wait", "1"]);
    let expected = quipu().args(SWEEP).output().expect("runs").stdout;
    assert!(cluster.run(&["job", "result", "1"]).stdout == expected, "the bits of a run without trouble");
}
