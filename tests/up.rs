//! `quipu up` on the real binary: what it brings up, what it does about deaths, and that nothing stays behind.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{Node, START_PATIENCE, quipu, wait_for};

/// Ten times what a restart or an end takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SWEEP: [&str; 6] = ["sweep", "math::sin(x) * x", "--over", "x=-3.0:3.0/200001", "--reduce", "count,sum,argmax"];

/// A running `quipu up`, in a folder of its own.
struct Up {
    node: Node,
    folder: tempfile::TempDir,
}

fn up_command(folder: &Path, args: &[&str]) -> Command {
    let mut command = quipu();
    command.args(["up", "--http", "127.0.0.1:0", "--slots-per-worker", "1", "--log-format", "json"]);
    command.arg("--secret-file").arg(folder.join("secret")).args(args).current_dir(folder);
    command
}

impl Up {
    fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let node = Node::start(up_command(folder.path(), args), folder.path().join("up.log"));
        assert_eq!(node.address("role"), "up");
        Self { node, folder }
    }

    /// What `up` itself has logged.
    fn events(&self) -> Vec<Value> {
        let log = self.node.logged();
        // The last line may be half written.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Process ids of all starts of a node, in their order.
    fn starts(&self, name: &str) -> Vec<i32> {
        let ready = |event: &Value| event["message"] == "node ready" && event["node"] == name;
        self.events().iter().filter(|event| ready(event)).map(pid_of).collect()
    }

    /// Process ids of every process that was started.
    fn all_pids(&self) -> Vec<i32> {
        self.events().iter().filter(|event| event["message"] == "node started").map(pid_of).collect()
    }

    fn wait_for_start(&self, name: &str, number: usize) -> i32 {
        wait_for(&format!("start {number} of {name}"), PATIENCE, || self.starts(name).get(number - 1).copied())
    }

    fn wait_for_message(&self, message: &str) {
        wait_for(message, PATIENCE, || self.events().iter().any(|event| event["message"] == message).then_some(()));
    }

    fn client(&self, args: &[&str]) -> Command {
        let mut command = quipu();
        command.args(args).args(["--cluster", &self.node.address("http")]);
        command.args(["--secret-file", &self.node.address("secret_file")]);
        command
    }

    fn wait_for_workers(&self, count: usize) {
        wait_for(&format!("{count} workers"), START_PATIENCE, || {
            let output = self.client(&["node", "list", "-O", "json"]).output().expect("client runs");
            let nodes: Value = serde_json::from_slice(&output.stdout).ok()?;
            let nodes = nodes.as_array().or_else(|| nodes["nodes"].as_array())?;
            let up = nodes.iter().filter(|node| node["role"] == "worker" && node["state"] == "up").count();
            (up == count).then_some(())
        });
    }

    fn assert_computes(&self) {
        let near = quipu().args(SWEEP).args(["-O", "json"]).output().expect("runs");
        let far = self.client(&SWEEP).args(["-O", "json"]).output().expect("runs");
        assert!(near.status.success() && far.status.success(), "{near:?}\n{far:?}\n{}", self.node.logged());
        assert_eq!(String::from_utf8_lossy(&far.stdout), String::from_utf8_lossy(&near.stdout));
    }

    fn assert_all_gone(&self) {
        let pids = self.all_pids();
        assert!(!pids.is_empty(), "{}", self.node.logged());
        wait_for("the end of all nodes", PATIENCE, || pids.iter().all(|pid| !lives(*pid)).then_some(()));
    }
}

fn pid_of(event: &Value) -> i32 {
    event["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_else(|| panic!("pid in {event}"))
}

/// Whether the process runs; a zombie, which nobody has waited for yet, does not.
fn lives(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process is there");
}

#[test]
fn cluster_of_two_workers_computes_what_one_process_does() {
    let up = Up::start(&["--workers", "2"]);
    assert_eq!(up.node.ready["workers"], 2);
    let nodes: Vec<&str> =
        up.node.ready["nodes"].as_array().expect("nodes").iter().filter_map(|node| node["node_id"].as_str()).collect();
    assert_eq!(nodes, ["master", "worker-1", "worker-2"]);
    up.wait_for_workers(2);
    up.assert_computes();
    let mode = fs::metadata(up.folder.path().join("secret")).map(|file| std::os::unix::fs::MetadataExt::mode(&file));
    assert_eq!(mode.expect("secret was made") & 0o7777, 0o600);
}

#[test]
fn secret_stands_in_no_argument_and_no_environment() {
    let up = Up::start(&["--workers", "1"]);
    let secret = fs::read_to_string(up.folder.path().join("secret")).expect("secret");
    for pid in up.all_pids() {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).expect("a live process");
            assert!(!text.is_empty());
            assert!(!String::from_utf8_lossy(&text).contains(secret.trim()), "{file} of {pid} holds the secret");
        }
    }
}

#[test]
fn killed_worker_comes_back_and_works() {
    let up = Up::start(&["--workers", "1"]);
    let first = up.wait_for_start("worker-1", 1);
    send(first, Signal::SIGKILL);
    let second = up.wait_for_start("worker-1", 2);
    assert_ne!(first, second);
    assert!(!lives(first));
    up.wait_for_workers(1);
    up.assert_computes();
    let died =
        up.events().into_iter().find(|event| event["message"] == "node died, starting it again").expect("logged");
    assert_eq!((pid_of(&died), died["node"].as_str()), (first, Some("worker-1")));
    assert_eq!(died["status"], "signal 9 (SIGKILL)");
    assert!(died["delay_ms"].as_u64().is_some_and(|delay| (100..=200).contains(&delay)), "{died}");
}

#[test]
fn killed_master_comes_back_where_it_was_and_is_found_again() {
    let up = Up::start(&["--workers", "1"]);
    up.wait_for_workers(1);
    send(up.wait_for_start("master", 1), Signal::SIGKILL);
    up.wait_for_start("master", 2);
    let gossip: Vec<Value> = up
        .events()
        .into_iter()
        .filter(|event| event["message"] == "node ready" && event["node"] == "master")
        .map(|event| event["gossip"].clone())
        .collect();
    assert_eq!(gossip[0], gossip[1]);
    up.wait_for_workers(1);
    up.assert_computes();
    assert_eq!(up.starts("worker-1").len(), 1, "the worker has lived on");
}

#[test]
fn node_that_dies_too_often_takes_everything_down() {
    let mut up = Up::start(&["--workers", "2", "--restarts-max", "1"]);
    send(up.wait_for_start("worker-2", 1), Signal::SIGKILL);
    send(up.wait_for_start("worker-2", 2), Signal::SIGKILL);
    assert_eq!(up.node.wait(PATIENCE).code(), Some(70));
    let log = up.node.logged();
    let error = log.split("error: ").last().expect("an error");
    assert!(error.starts_with("worker-2 died again after 1 restarts within 60s"), "{log}");
    assert!(error.contains("its last lines:\n"), "{log}");
    up.assert_all_gone();
}

#[test]
fn sigterm_takes_everything_down_with_success() {
    let mut up = Up::start(&["--workers", "2"]);
    up.node.signal(Signal::SIGTERM);
    assert_eq!(up.node.wait(PATIENCE).code(), Some(0), "{}", up.node.logged());
    assert_eq!(up.all_pids().len(), 3, "nothing was started again");
    assert!(up.all_pids().iter().all(|pid| !lives(*pid)), "{}", up.node.logged());
    assert!(!up.events().iter().any(|event| event["message"] == "node does not leave, killing it"));
}

#[test]
fn second_ctrl_c_does_not_wait_for_a_worker_that_hangs() {
    let mut up = Up::start(&["--workers", "1", "--stop-timeout", "3600"]);
    send(up.wait_for_start("worker-1", 1), Signal::SIGSTOP);
    up.node.signal(Signal::SIGINT);
    up.wait_for_message("draining the workers, then stopping the master");
    up.node.signal(Signal::SIGINT);
    assert_eq!(up.node.wait(PATIENCE).code(), Some(130), "{}", up.node.logged());
    assert!(up.all_pids().iter().all(|pid| !lives(*pid)), "{}", up.node.logged());
}

#[test]
fn nodes_leave_when_up_itself_is_killed() {
    let mut up = Up::start(&["--workers", "2"]);
    up.node.kill();
    up.assert_all_gone();
}

#[test]
fn drained_worker_stays_away_and_the_rest_stays_up() {
    let up = Up::start(&["--workers", "2"]);
    up.wait_for_workers(2);
    let output = up.client(&["node", "drain", "worker-1"]).output().expect("client runs");
    assert!(output.status.success(), "{output:?}");
    up.wait_for_message("node has left, it is not started again");
    up.wait_for_workers(1);
    up.assert_computes();
    assert_eq!(up.starts("worker-1").len(), 1);
}

#[test]
fn logs_go_to_a_file_a_node_if_asked_to() {
    let mut up = Up::start(&["--workers", "1", "--log-dir", "logs"]);
    up.node.signal(Signal::SIGTERM);
    assert_eq!(up.node.wait(PATIENCE).code(), Some(0));
    for node in ["master", "worker-1"] {
        let log = fs::read_to_string(up.folder.path().join(format!("logs/{node}.log"))).expect("a log");
        assert!(log.lines().count() > 0 && log.lines().all(|line| line.starts_with('{')), "{log}");
    }
    assert!(
        !up.events().iter().any(|event| event["target"].as_str().is_some_and(|target| target.starts_with("quipu_")))
    );
}

#[test]
fn port_that_is_taken_is_said_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("folder");
    let mut command = up_command(folder.path(), &["--rpc", &address, "--workers", "0"]);
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains("error: master ended with exit code") && said.contains("in use"), "{said}");
    assert_eq!(said.matches("node started").count(), 1, "{said}");
}

/// Arguments for one host, with a program instead of ssh that fails as ssh does.
fn unreachable_host(folder: &Path) -> [&'static str; 10] {
    fs::write(folder.join("hosts"), "10.255.255.1\n").expect("hosts file");
    let ssh = "sh -c 'echo no route to host >&2; exit 255'";
    let loopback = "127.0.0.1:0";
    ["--hosts", "hosts", "--advertise", "127.0.0.1", "--rpc", loopback, "--gossip", loopback, "--ssh", ssh]
}

#[test]
fn cluster_that_does_not_come_up_in_time_is_taken_down() {
    let folder = tempfile::tempdir().expect("folder");
    let mut command = up_command(folder.path(), &unreachable_host(folder.path()));
    let output = command.args(["--restarts-max", "1000", "--start-timeout", "2"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let expected = "error: worker-10-255-255-1-1 is not ready after 2s, it died last with exit code 255 (ssh could not";
    assert!(said.contains(expected) && said.contains("its last lines:\n  no route to host"), "{said}");
}

#[test]
fn interrupt_before_the_cluster_is_up_is_no_success() {
    let folder = tempfile::tempdir().expect("folder");
    let log = folder.path().join("up.log");
    let mut command = up_command(folder.path(), &unreachable_host(folder.path()));
    command.args(["--restarts-max", "1000", "--start-timeout", "3600"]);
    let mut up = command.stderr(fs::File::create(&log).expect("log")).spawn().expect("up starts");
    wait_for("the first death", PATIENCE, || support::text(&log).contains("starting it again").then_some(()));
    send(i32::try_from(up.id()).expect("a process id"), Signal::SIGTERM);
    let status = wait_for("the end", PATIENCE, || up.try_wait().expect("waitable"));
    assert_eq!(status.code(), Some(130), "{}", support::text(&log));
}

#[test]
fn wrong_hosts_files_are_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("hosts"), "# ours\n127.0.0.1 slots=none\n").expect("hosts file");
    let run = |args: &[&str]| {
        let output = up_command(folder.path(), args).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("node started"), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = run(&["--hosts", "hosts", "--advertise", "127.0.0.1"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("error: hosts:2: slots=\"none\" is not a number from 1 to 1024"), "{said}");
    let (code, said) = run(&["--hosts", "missing", "--advertise", "127.0.0.1"]);
    assert_eq!(code, Some(66), "{said}");
    let (code, said) = run(&["--hosts", "hosts"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = run(&["--hosts", "hosts", "--advertise", "127.0.0.1", "--ssh", "'open"]);
    assert_eq!(code, Some(2), "{said}");
}
