//! A cluster of real processes for tests: nodes are started, watched through their first line and their logs, and
//! ended by id. Nothing here sleeps and hopes: every wait has a condition and a deadline.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::print_stderr, reason = "tests say what they measured or skipped")]

pub mod hosts;
pub mod job;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Ten times what a start takes on a busy machine.
pub const START_PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}");
        std::thread::park_timeout(POLL);
    }
}

/// The binary under test.
pub fn quipu() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    for (name, _) in std::env::vars_os() {
        if ["QUIPU_", "OTEL_", "TRACEPARENT"].iter().any(|known| name.to_string_lossy().starts_with(known)) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A process of a cluster.
pub struct Node {
    child: Child,
    /// Its `ready` line.
    pub ready: Value,
    /// Its log.
    pub log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Node {
    /// Starts a node and waits for its `ready` line.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let stderr = File::create(&log).expect("log file");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("node starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let mut stdout = BufReader::new(stdout);
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
            // Keep the pipe open, so that the node does not meet a broken one.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = receiver.recv_timeout(START_PATIENCE).unwrap_or_default();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            panic!("no ready line ({error}) but {line:?}; the log says:\n{log}")
        });
        Self { child, ready, log, ended: None }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// A field of its `ready` line.
    pub fn address(&self, field: &str) -> String {
        self.ready[field].as_str().unwrap_or_else(|| panic!("{field} in {}", self.ready)).to_owned()
    }

    /// Its node id.
    pub fn id(&self) -> String {
        self.address("node_id")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the process is there");
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let status = wait_for("the end of a node", patience, || self.child.try_wait().expect("waitable"));
        self.ended = Some(status);
        status
    }

    /// What it logged last, if it has ended by itself.
    pub fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("waitable")?;
        let log = self.logged();
        let last = log.lines().rev().take(5).collect::<Vec<_>>();
        Some(format!("{} has ended with {status}: {}", self.log.display(), last.join("\n")))
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Largest memory that it had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM of a live process");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a client's command of its arguments.
type MakeClient = Box<dyn Fn(&[&str]) -> Command + Send>;

/// A master and its workers.
pub struct Cluster {
    /// Workers, in the order of their start. Dropped before the master.
    pub workers: Vec<Node>,
    /// The master.
    pub master: Node,
    /// Where secrets, logs and data are.
    pub folder: tempfile::TempDir,
    /// How clients reach the master, where it is not by its ready line.
    client: Option<MakeClient>,
}

impl Cluster {
    /// A master without workers.
    pub fn master() -> Self {
        Self::master_on("127.0.0.1:0", |command| command)
    }

    /// A master that binds everything to `bind`, its command changed by `adapt`.
    pub fn master_on(bind: &str, adapt: impl FnOnce(Command) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let secret = quipu().args(["secret", "new"]).output().expect("secret");
        assert!(secret.status.success(), "{secret:?}");
        let path = folder.path().join("secret");
        fs::write(&path, &secret.stdout).expect("secret file");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
        let command = Self::master_command(folder.path(), [bind; 3]);
        let master = Node::start(adapt(command), folder.path().join("master.log"));
        Self { workers: Vec::new(), master, folder, client: None }
    }

    /// The command of a master on the data in a folder, with its addresses for HTTP, links and gossip.
    fn master_command(folder: &Path, [http, rpc, gossip]: [&str; 3]) -> Command {
        let mut command = quipu();
        command.args(["master", "--http", http, "--rpc", rpc, "--gossip", gossip]);
        command.args(["--cluster-id", "test", "--log-format", "json", "--secret-file"]).arg(folder.join("secret"));
        command.arg("--data-dir").arg(folder.join("data"));
        command
    }

    /// Starts the master again on its addresses and data, once it has ended.
    pub fn restart_master(&mut self) {
        self.restart_master_with(|command| command);
    }

    /// The same with its command changed by `adapt`.
    pub fn restart_master_with(&mut self, adapt: impl FnOnce(Command) -> Command) {
        let addresses = ["http", "rpc", "gossip"].map(|field| self.master.address(field));
        let [http, rpc, gossip] = addresses.each_ref().map(|address| address.trim_start_matches("http://"));
        let log = self.master.log.with_extension("again.log");
        self.master.kill();
        self.master = Node::start(adapt(Self::master_command(self.folder.path(), [http, rpc, gossip])), log);
    }

    /// A cluster that `up` keeps: `up` stands for the master.
    pub fn around(up: Node, folder: tempfile::TempDir, client: impl Fn(&[&str]) -> Command + Send + 'static) -> Self {
        Self { workers: Vec::new(), master: up, folder, client: Some(Box::new(client)) }
    }

    /// Lets clients reach the master by another command.
    pub fn through(&mut self, client: impl Fn(&[&str]) -> Command + Send + 'static) {
        self.client = Some(Box::new(client));
    }

    /// A master and so many workers of one slot each, all of them up.
    pub fn start(workers: usize) -> Self {
        let mut cluster = Self::master();
        for _ in 0..workers {
            cluster.add_worker();
        }
        cluster.wait_for_workers(workers);
        cluster
    }

    /// The secret's file.
    pub fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// The command of a worker whose seed is the master.
    pub fn worker_command(&self, seed: &str) -> Command {
        let mut command = quipu();
        command.args(["worker", "--seed", seed, "--rpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--slots", "1"]);
        command.args(["--cluster-id", "test", "--log-format", "json", "--secret-file"]).arg(self.secret());
        command
    }

    /// Starts one more worker.
    pub fn add_worker(&mut self) -> usize {
        let log = self.folder.path().join(format!("worker-{}.log", self.workers.len()));
        let command = self.worker_command(&self.master.address("gossip"));
        self.workers.push(Node::start(command, log));
        self.workers.len() - 1
    }

    /// A client's command on this cluster.
    pub fn client(&self, args: &[&str]) -> Command {
        if let Some(client) = &self.client {
            return client(args);
        }
        let mut command = quipu();
        command.args(args).args(["--cluster", &self.master.address("http"), "--secret-file"]).arg(self.secret());
        command.args(["--cluster-id", "test"]);
        command
    }

    /// Runs a client's command.
    pub fn run(&self, args: &[&str]) -> Output {
        self.client(args).output().expect("client runs")
    }

    /// Runs a client's command that must succeed, and gives its output.
    pub fn output(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The nodes as clients see them.
    pub fn nodes(&self) -> Vec<Value> {
        let nodes: Value = serde_json::from_str(&self.output(&["node", "list", "-O", "json"])).expect("JSON");
        nodes.as_array().or_else(|| nodes["nodes"].as_array()).expect("an array of nodes").clone()
    }

    /// State of a node.
    pub fn node_state(&self, id: &str) -> Option<String> {
        let node = self.nodes().into_iter().find(|node| node["id"] == id)?;
        node["state"].as_str().map(ToOwned::to_owned)
    }

    /// Waits until so many workers are up.
    pub fn wait_for_workers(&self, count: usize) {
        wait_for(&format!("{count} workers"), START_PATIENCE, || {
            let up = self.nodes().iter().filter(|node| node["role"] == "worker" && node["state"] == "up").count();
            (up == count).then_some(())
        });
    }

    /// Jobs as clients see them.
    pub fn jobs(&self) -> Vec<Value> {
        let jobs: Value = serde_json::from_str(&self.output(&["job", "list", "-O", "json"])).expect("JSON");
        jobs.as_array().or_else(|| jobs["jobs"].as_array()).expect("an array of jobs").clone()
    }

    /// Rows done of the newest job, once there is one.
    pub fn rows_done(&self) -> u64 {
        self.jobs().last().and_then(|job| job["rows_done"].as_u64()).unwrap_or_default()
    }
}

/// Bytes that two runs must agree on, in a form that a failed assertion can show.
pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}
