//! The processes of a run, and the harm that is done to them.

use super::events::{Event, Recorder};
use super::plan::{Action, WORKERS};
use crate::support::hosts::Hosts;
use crate::support::{Node, START_PATIENCE, quipu, wait_for};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Ports below those that systems give to outgoing connections: such a one could take the port of a dead master.
const PORTS: std::ops::Range<u16> = 18_000..30_000;

/// A master, its workers, and their folder.
pub struct Arena {
    workers: Vec<Option<Node>>,
    master: Option<Node>,
    hosts: Option<Hosts>,
    /// http, rpc, gossip.
    ports: [u16; 3],
    starts: usize,
    /// Secret, data, logs.
    pub folder: tempfile::TempDir,
    /// What clients show.
    pub token: String,
    begun: Instant,
    /// How often each kind of harm was done.
    pub done: BTreeMap<&'static str, u64>,
}

impl Arena {
    /// Starts everything; workers on hosts of their own if there are any.
    pub fn start(hosts: Option<Hosts>, recorder: &Recorder) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let secret = folder.path().join("secret");
        let made = quipu().args(["secret", "new"]).output().expect("secret");
        assert!(made.status.success(), "{made:?}");
        fs::write(&secret, &made.stdout).expect("secret file");
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
        let mut token = quipu();
        token.args(["secret", "token", "--cluster-id", "test", "--secret-file"]).arg(&secret);
        let token = token.output().expect("token");
        assert!(token.status.success(), "{token:?}");
        let token = String::from_utf8(token.stdout).expect("text").trim().to_owned();
        let mut arena = Self {
            workers: (0..WORKERS).map(|_| None).collect(),
            master: None,
            hosts,
            ports: free_ports(),
            starts: 0,
            folder,
            token,
            begun: Instant::now(),
            done: BTreeMap::new(),
        };
        arena.heal(recorder);
        arena
    }

    /// Where clients find the master.
    pub fn http(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[0]).into()
    }

    fn log(&mut self, name: &str) -> PathBuf {
        self.starts += 1;
        self.folder.path().join(format!("{:04}-{name}.log", self.starts))
    }

    fn start_master(&mut self) {
        if self.master.is_some() {
            return;
        }
        let here = if self.hosts.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        let [http, rpc, gossip] = self.ports;
        let mut command = quipu();
        command.args(["master", "--http", &format!("127.0.0.1:{http}"), "--rpc", &format!("{here}:{rpc}")]);
        command.args(["--gossip", &format!("{here}:{gossip}"), "--cluster-id", "test", "--log-format", "json"]);
        command.arg("--secret-file").arg(self.folder.path().join("secret"));
        command.arg("--data-dir").arg(self.folder.path().join("data"));
        // Quick to notice, and no shard is given up because of what is done to its workers.
        command.env("QUIPU_SCHEDULER__LEASE_TTL_MS", "3000").env("QUIPU_SCHEDULER__ATTEMPTS_MAX", "1000");
        if self.hosts.is_some() {
            command.args(["--advertise", Hosts::HOME]);
        }
        let log = self.log("master");
        self.master = Some(Node::start(command, log));
    }

    fn start_worker(&mut self, worker: usize) {
        if self.workers[worker].is_some() {
            return;
        }
        let mut command = quipu();
        let gossip = self.ports[2];
        let (seed, here) = match &self.hosts {
            Some(hosts) => (Hosts::HOME, hosts.address(worker, 2)),
            None => ("127.0.0.1", "127.0.0.1".to_owned()),
        };
        command.args(["worker", "--seed", &format!("{seed}:{gossip}"), "--gossip", &format!("{here}:0")]);
        command.args(["--slots", "1", "--cluster-id", "test", "--log-format", "json"]);
        command.arg("--secret-file").arg(self.folder.path().join("secret"));
        let command = match &self.hosts {
            Some(hosts) => hosts.on(&hosts.worker(worker), &command),
            None => command,
        };
        let log = self.log(&format!("worker-{worker}"));
        self.workers[worker] = Some(Node::start(command, log));
    }

    /// Does harm, or undoes it. What is dead can't be hurt again, and is started only once.
    pub fn act(&mut self, action: Action, recorder: &Recorder) {
        let node = match action {
            Action::KillMaster | Action::StopMaster | Action::ContinueMaster => self.master.as_ref(),
            Action::KillWorker(worker) | Action::StopWorker(worker) | Action::ContinueWorker(worker) => {
                self.workers[worker].as_ref()
            }
            _ => None,
        };
        let name = match (action, node) {
            (Action::StartMaster, _) => return self.start_master(),
            (Action::StartWorker(worker), _) => return self.start_worker(worker),
            (Action::Mend(worker), _) => return self.cable(worker, "up"),
            (Action::Cut(worker), _) => {
                self.cable(worker, "down");
                if self.hosts.is_some() { "cut" } else { "not cut: no network namespaces" }
            }
            (_, None) => return,
            (Action::KillMaster, _) => {
                recorder.record(Event::MasterKilled);
                self.master = None;
                "master killed"
            }
            (Action::KillWorker(worker), _) => {
                self.workers[worker] = None;
                "worker killed"
            }
            (Action::StopMaster, Some(node)) => {
                node.signal(Signal::SIGSTOP);
                "master stopped"
            }
            (Action::StopWorker(_), Some(node)) => {
                node.signal(Signal::SIGSTOP);
                "worker stopped"
            }
            (_, Some(node)) => return node.signal(Signal::SIGCONT),
        };
        eprintln!("{:8.3} {name} ({action:?})", self.begun.elapsed().as_secs_f64());
        *self.done.entry(name).or_default() += 1;
    }

    fn cable(&self, worker: usize, state: &str) {
        if let Some(hosts) = &self.hosts {
            hosts.cable(worker, state);
        }
    }

    /// Undoes all harm.
    pub fn heal(&mut self, recorder: &Recorder) {
        self.act(Action::ContinueMaster, recorder);
        self.start_master();
        for worker in 0..WORKERS {
            self.cable(worker, "up");
            self.act(Action::ContinueWorker(worker), recorder);
            self.start_worker(worker);
        }
    }

    /// Whoever has ended by himself, with his last words.
    pub fn dead(&mut self) -> Vec<String> {
        let nodes = self.workers.iter_mut().chain([&mut self.master]);
        nodes.flatten().filter_map(Node::last_words).collect()
    }

    /// Lines of all logs that tell of a defect.
    pub fn defects(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder.path()).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "log") {
                let log = fs::read_to_string(&path).unwrap_or_default();
                let bad = |line: &&str| line.contains("panicked") || line.contains("\"level\":\"ERROR\"");
                found.extend(log.lines().filter(bad).map(|line| format!("{}: {line}", path.display())));
            }
        }
        found.sort();
        found
    }

    /// The store's own opinion, where this build has a command for it; the master is stopped for it.
    pub fn verify_store(&mut self) {
        self.master = None;
        let has = quipu().args(["help", "store"]).output().expect("runs").status.success();
        if has {
            let mut verify: Command = quipu();
            verify.args(["store", "verify", "--data-dir"]).arg(self.folder.path().join("data"));
            let verified = verify.output().expect("runs");
            assert!(verified.status.success(), "{verified:?}");
        }
    }

    /// Waits until every worker has joined the master.
    pub fn wait_for_workers(&self, up: impl Fn() -> Option<usize>) {
        wait_for("all workers", START_PATIENCE, || (up()? == WORKERS).then_some(()));
    }
}

/// Three ports that nobody has.
fn free_ports() -> [u16; 3] {
    let first = PORTS.start + (std::process::id() % 3_000) as u16 * 3;
    let mut found = (first..PORTS.end).chain(PORTS.start..first).filter(|port| {
        TcpListener::bind(("127.0.0.1", *port)).is_ok() && std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    });
    [(); 3].map(|()| found.next().expect("a free port"))
}
