//! `quipu up --hosts` over a real ssh, to an sshd of this test on loopback. Where there is none it says so and passes.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Node, quipu, wait_for};

/// Ten times what a login, a restart or an end takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An sshd that lets in whoever has the folder's key.
struct Sshd {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    /// `None`, with the reason on standard error, where no sshd can be run.
    fn start() -> Option<Self> {
        let skipped = |why: &str| eprintln!("skipped: {why}");
        let Some(program) = program("sshd").filter(|_| program("ssh").is_some() && program("ssh-keygen").is_some())
        else {
            skipped("sshd, ssh or ssh-keygen is missing");
            return None;
        };
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        for key in ["host_key", "key"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)).status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        fs::copy(path("key.pub"), path("authorized_keys")).expect("authorized keys");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let host_key = fs::read_to_string(path("host_key.pub")).expect("host key");
        fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).expect("known hosts");
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n\
             MaxStartups 100\nLogLevel ERROR\n",
            folder.path().display()
        );
        fs::write(path("sshd_config"), config).expect("configuration");
        if nix::unistd::geteuid().is_root() {
            // Where sshd has never been started as a service, the empty folder that it insists on is missing.
            let _ = fs::create_dir("/run/sshd");
        }
        let check = Command::new(&program).arg("-t").arg("-f").arg(path("sshd_config")).output().expect("sshd runs");
        if !check.status.success() {
            skipped(&format!("sshd refuses to run here: {}", String::from_utf8_lossy(&check.stderr).trim()));
            return None;
        }
        let log = fs::File::create(path("sshd.log")).expect("log");
        let child = Command::new(&program)
            .args(["-D", "-e", "-f"])
            .arg(path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let sshd = Self { child, port, folder };
        wait_for("sshd's greeting", PATIENCE, || {
            let mut greeting = String::new();
            BufReader::new(TcpStream::connect(("127.0.0.1", port)).ok()?).read_line(&mut greeting).ok()?;
            greeting.starts_with("SSH-2.0-").then_some(())
        });
        let login = sshd.ssh_command().args(["127.0.0.1", "true"]).output().expect("ssh runs");
        if !login.status.success() {
            let log = fs::read_to_string(sshd.path("sshd.log")).unwrap_or_default();
            skipped(&format!("no login as this user: {}{log}", String::from_utf8_lossy(&login.stderr)));
            return None;
        }
        Some(sshd)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `--ssh` is given. The port stands in the hosts file.
    fn ssh(&self) -> String {
        format!(
            "ssh -F none -i {0}/key -o IdentitiesOnly=yes -o UserKnownHostsFile={0}/known_hosts -o StrictHostKeyChecking=yes",
            self.folder.path().display()
        )
    }

    fn ssh_command(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.ssh().split(' ').skip(1)).args(["-o", "BatchMode=yes", "-p", &self.port.to_string()]);
        command.stdin(Stdio::null());
        command
    }

    fn up_command(&self, hosts: &str, remote_quipu: &str) -> Command {
        fs::write(self.path("hosts"), hosts).expect("hosts file");
        let mut command = quipu();
        command.args(["up", "--advertise", "127.0.0.1", "--log-format", "json", "--hosts"]).arg(self.path("hosts"));
        command.args(["--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0"]);
        command.args(["--remote-quipu", remote_quipu, "--ssh", &self.ssh()]);
        command.arg("--secret-file").arg(self.path("secret"));
        command
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    // sshd insists on being called by an absolute path.
    folders.map(|folder| folder.join(name)).find(|path| path.is_absolute() && path.is_file())
}

fn events(up: &Node) -> Vec<Value> {
    up.logged().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Process ids of a worker's starts, on its own machine.
fn starts(up: &Node, name: &str) -> Vec<i32> {
    let ready = |event: &Value| event["message"] == "node ready" && event["node"] == name;
    let pid = |event: &Value| i32::try_from(event["pid"].as_i64().expect("pid")).expect("a process id");
    events(up).iter().filter(|event| ready(event)).map(pid).collect()
}

fn lives(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn wait_for_end(pids: &[i32]) {
    wait_for("the end of the nodes", PATIENCE, || pids.iter().all(|pid| !lives(*pid)).then_some(()));
}

/// The binary over there, which is the one here.
const QUIPU: &str = env!("CARGO_BIN_EXE_quipu");
/// Name of the worker on the only host.
const WORKER: &str = "worker-127-0-0-1-1";

#[test]
fn worker_over_ssh_computes_comes_back_and_leaves() {
    let Some(sshd) = Sshd::start() else { return };
    let hosts = format!("# one host\n127.0.0.1 port={} slots=1 zone=far   # this one\n", sshd.port);
    let mut up = Node::start(sshd.up_command(&hosts, QUIPU), sshd.path("up.log"));
    let client = |args: &[&str]| {
        let mut command = quipu();
        command.args(args).args(["--cluster", &up.address("http"), "--secret-file", &up.address("secret_file")]);
        command.output().expect("client runs")
    };
    let sweep = ["sweep", "x * x", "--over", "x=0:100000:1", "--reduce", "sum", "-O", "json"];
    let near = quipu().args(sweep).output().expect("runs");
    let far = client(&sweep);
    assert!(near.status.success() && far.status.success(), "{near:?}\n{far:?}\n{}", up.logged());
    assert_eq!(String::from_utf8_lossy(&far.stdout), String::from_utf8_lossy(&near.stdout));

    let nodes: Value = serde_json::from_slice(&client(&["node", "list", "-O", "json"]).stdout).expect("JSON");
    let nodes = nodes.as_array().or_else(|| nodes["nodes"].as_array()).expect("nodes").clone();
    let worker = nodes.iter().find(|node| node["id"] == WORKER).expect("the worker");
    assert_eq!((&worker["zone"], &worker["slots"]), (&Value::from("far"), &Value::from(1)));

    let secret = fs::read_to_string(sshd.path("secret")).expect("secret");
    let first = starts(&up, WORKER)[0];
    let command_line = fs::read(format!("/proc/{first}/cmdline")).expect("a live process");
    assert!(String::from_utf8_lossy(&command_line).contains("--secret-file=-"));
    assert!(!String::from_utf8_lossy(&command_line).contains(secret.trim()));

    kill(Pid::from_raw(first), Signal::SIGKILL).expect("the worker is there");
    let second = wait_for("a second start", PATIENCE, || starts(&up, WORKER).get(1).copied());
    let far = client(&sweep);
    assert_eq!(String::from_utf8_lossy(&far.stdout), String::from_utf8_lossy(&near.stdout), "{}", up.logged());

    up.signal(Signal::SIGTERM);
    assert_eq!(up.wait(PATIENCE).code(), Some(0), "{}", up.logged());
    wait_for_end(&[second]);
    assert!(!events(&up).iter().any(|event| event["message"] == "node does not leave, killing it"), "{}", up.logged());
}

#[test]
fn worker_over_ssh_leaves_when_up_is_killed() {
    let Some(sshd) = Sshd::start() else { return };
    let mut up = Node::start(sshd.up_command(&format!("127.0.0.1 port={}", sshd.port), QUIPU), sshd.path("up.log"));
    let pids = [starts(&up, "master"), starts(&up, WORKER)].concat();
    assert_eq!(pids.len(), 2);
    up.kill();
    wait_for_end(&pids);
}

#[test]
fn missing_program_over_there_is_said_at_once() {
    let Some(sshd) = Sshd::start() else { return };
    let mut command = sshd.up_command(&format!("127.0.0.1 port={}", sshd.port), "/no where/quipu");
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains("give --remote-quipu PATH") && said.contains("/no where/quipu"), "{said}");
}

#[test]
fn host_that_does_not_answer_is_tried_again_and_then_named() {
    if program("ssh").is_none() {
        eprintln!("skipped: ssh is missing");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    fs::write(folder.path().join("hosts"), format!("127.0.0.1 port={closed}\n")).expect("hosts file");
    let mut command = quipu();
    command.args(["up", "--advertise", "127.0.0.1", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"]);
    command.args(["--gossip", "127.0.0.1:0", "--hosts", "hosts", "--ssh", "ssh -F none", "--restarts-max", "1"]);
    let output = command.args(["--secret-file", "secret"]).current_dir(folder.path()).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains("error: worker-127-0-0-1-1 died again after 1 restarts"), "{said}");
    assert!(said.contains("ssh could not connect or log in") && said.contains("Connection refused"), "{said}");
}
