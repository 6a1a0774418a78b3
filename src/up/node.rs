//! One node: one process at a time, from its first start to its last end. Owned by the fleet, which hears of it by
//! [`Event`]s and tells it by [`Order`]s. A process that dies is judged by [`policy`](crate::up::policy).

use crate::up::launch::{Common, Invocation, MasterPlan};
use crate::up::logs::NodeLog;
use crate::up::policy::{Circumstances, Death, Meaning, RestartPolicy, Restarts, Verdict, meaning};
use crate::up::ready::Ready;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quipu_shared::ids::Role;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

/// How long one start may take before it counts as a death: ten times what it takes on a busy machine, or over a slow
/// ssh.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last words of a dead process are waited for. Its pipes may live on in a process that it has left behind.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);
/// How long a process may take to die of SIGKILL; one that takes longer hangs in the kernel, and nothing more helps.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What a node is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Run, and come back after a death.
    Run,
    /// Finish and leave.
    Drain,
    /// Die.
    Kill,
}

/// What has become of a node.
#[derive(Debug)]
pub(crate) enum Event {
    /// A start of it has become ready.
    Ready {
        /// Which node.
        node: usize,
        /// What it said.
        ready: Ready,
    },
    /// It died, and will be started again.
    Died {
        /// Which node.
        node: usize,
        /// How.
        how: String,
    },
    /// It has left as it was told to by somebody else, and stays away.
    Left {
        /// Which node.
        node: usize,
    },
    /// It will not be started again.
    GaveUp {
        /// Which node.
        node: usize,
        /// Why.
        why: String,
    },
}

/// How a node is started.
pub(crate) enum Launch {
    /// A master, here.
    Master {
        /// This binary.
        program: PathBuf,
        /// What it is given; its ports are pinned once they are known.
        plan: Box<MasterPlan>,
        /// What all nodes are given.
        common: Common,
    },
    /// A worker.
    Worker {
        /// What is run, here.
        invocation: Invocation,
        /// Whether that is ssh.
        over_ssh: bool,
    },
}

/// A node and what it needs.
pub(crate) struct Node {
    /// Its place in the fleet.
    pub(crate) number: usize,
    /// Its name.
    pub(crate) name: String,
    /// How it is started.
    pub(crate) launch: Launch,
    /// Where its log goes.
    pub(crate) log: Arc<NodeLog>,
    /// The cluster's secrets, one a line.
    pub(crate) secret: Arc<Zeroizing<String>>,
    /// When to start it again.
    pub(crate) policy: RestartPolicy,
    /// How long it may take to leave.
    pub(crate) stop_patience: Duration,
    /// Whether it was ready once.
    pub(crate) ever_ready: bool,
}

/// A running process of a node.
struct Process {
    child: Child,
    pid: u32,
    /// Its lifeline. `None` once it was closed.
    stdin: Option<ChildStdin>,
    ready: oneshot::Receiver<Ready>,
    followers: [JoinHandle<()>; 2],
}

/// How a process came to its end.
enum End {
    /// As it was ordered.
    Ordered,
    /// By itself.
    Died { death: Death, was_ready: bool },
}

impl Node {
    /// Runs the node until it is told to stop, has left, or is given up.
    pub(crate) async fn tend(mut self, mut orders: watch::Receiver<Order>, events: mpsc::Sender<Event>) {
        let mut restarts = Restarts::new(self.policy);
        let began = Instant::now();
        loop {
            if *orders.borrow_and_update() != Order::Run {
                return;
            }
            let (death, was_ready, pid) = match self.start().await {
                Err(error) => (Death::NotStarted(error.to_string()), false, None),
                Ok(process) => {
                    let pid = process.pid;
                    match self.watch(process, &mut orders, &events).await {
                        End::Ordered => return,
                        End::Died { death, was_ready } => (death, was_ready, Some(pid)),
                    }
                }
            };
            let verdict = restarts.died(began.elapsed(), rand::random());
            let (event, delay) = self.judge(&death, was_ready, pid, verdict);
            // Without a fleet there is nobody to tell, and the order to die comes at once.
            let _ = events.send(event).await;
            let Some(delay) = delay else { return };
            tokio::select! {
                () = sleep(delay) => {}
                () = at_least(&mut orders, Order::Drain) => return,
            }
        }
    }

    /// What follows from a death: what the fleet hears, and after which time there is a restart.
    fn judge(&self, death: &Death, was_ready: bool, pid: Option<u32>, verdict: Verdict) -> (Event, Option<Duration>) {
        let (node, name) = (self.number, self.name.as_str());
        let meaning = meaning(
            death,
            Circumstances { role: self.role(), over_ssh: self.over_ssh(), was_ready, ever_ready: self.ever_ready },
        );
        let how = match meaning {
            Meaning::Accident(Some(hint)) | Meaning::Hopeless(hint) => format!("{death} ({hint})"),
            Meaning::Accident(None) | Meaning::Left => death.to_string(),
        };
        match (meaning, verdict) {
            (Meaning::Left, _) => {
                tracing::info!(node = name, pid, "node has left, it is not started again");
                (Event::Left { node }, None)
            }
            (Meaning::Hopeless(_), _) => {
                tracing::error!(node = name, pid, status = %how, "node can't run");
                (Event::GaveUp { node, why: format!("ended with {how}") }, None)
            }
            (Meaning::Accident(_), Verdict::GiveUp) => {
                tracing::error!(node = name, pid, status = %how, "node died too often");
                let RestartPolicy { restarts_max, window, .. } = self.policy;
                let why = format!("died again after {restarts_max} restarts within {window:?}, this time with {how}");
                (Event::GaveUp { node, why }, None)
            }
            (Meaning::Accident(_), Verdict::RestartAfter(delay)) => {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(node = name, pid, status = %how, delay_ms, "node died, starting it again");
                (Event::Died { node, how }, Some(delay))
            }
        }
    }

    fn role(&self) -> Role {
        match self.launch {
            Launch::Master { .. } => Role::Master,
            Launch::Worker { .. } => Role::Worker,
        }
    }

    fn over_ssh(&self) -> bool {
        matches!(self.launch, Launch::Worker { over_ssh: true, .. })
    }

    async fn start(&self) -> io::Result<Process> {
        let invocation = match &self.launch {
            Launch::Master { program, plan, common } => {
                Invocation { program: program.clone().into_os_string(), args: plan.args(common) }
            }
            Launch::Worker { invocation, .. } => invocation.clone(),
        };
        let mut child = Command::new(&invocation.program)
            .args(&invocation.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C of a terminal goes to its whole foreground group: the nodes are not to hear of it but from here.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", invocation.program.display())))?;
        let pid = child.id().unwrap_or_default();
        tracing::info!(node = self.name, pid, "node started");
        let missing = || io::Error::other("a pipe is missing");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        // Shorter than a pipe's buffer, so this does not wait; a process that is gone already is noticed as such.
        let _ = stdin.write_all(self.secret.as_bytes()).await;
        let _ = stdin.write_all(b"\n").await;
        let _ = stdin.flush().await;
        let (said, ready) = oneshot::channel();
        let mut said = Some(said);
        let log = Arc::clone(&self.log);
        let out = tokio::spawn(async move {
            let hear = |line: &[u8]| match Ready::parse(line) {
                // Nobody listens any more when the process is being stopped.
                Some(ready) => said.take().is_none_or(|said| said.send(ready).is_ok()),
                None => false,
            };
            log.follow(BufReader::new(stdout), hear).await;
        });
        let log = Arc::clone(&self.log);
        let err = tokio::spawn(async move { log.follow(BufReader::new(stderr), |_| false).await });
        Ok(Process { child, pid, stdin: Some(stdin), ready, followers: [out, err] })
    }

    /// Waits for the end of a process.
    async fn watch(
        &mut self,
        mut process: Process,
        orders: &mut watch::Receiver<Order>,
        events: &mpsc::Sender<Event>,
    ) -> End {
        let patience = sleep(READY_PATIENCE);
        tokio::pin!(patience);
        let (mut was_ready, mut listening) = (false, true);
        let death = loop {
            tokio::select! {
                status = process.child.wait() => break death_of(status),
                said = &mut process.ready, if listening => {
                    listening = false;
                    // An error means that its standard output is closed; then it can't become ready.
                    if let Ok(ready) = said {
                        was_ready = true;
                        self.became_ready(ready, events).await;
                    }
                }
                () = &mut patience, if !was_ready => {
                    process.kill().await;
                    break Death::NotReady(READY_PATIENCE);
                }
                () = at_least(orders, Order::Drain) => {
                    self.stop(&mut process, orders).await;
                    process.hear_last_words().await;
                    return End::Ordered;
                }
            }
        };
        process.hear_last_words().await;
        if listening && let Ok(ready) = process.ready.try_recv() {
            was_ready = true;
            self.became_ready(ready, events).await;
        }
        End::Died { death, was_ready }
    }

    async fn became_ready(&mut self, ready: Ready, events: &mpsc::Sender<Event>) {
        tracing::info!(node = self.name, pid = ready.pid, gossip = %ready.gossip, "node ready");
        self.ever_ready = true;
        if let Launch::Master { plan, .. } = &mut self.launch {
            plan.pin(&ready);
        }
        let _ = events.send(Event::Ready { node: self.number, ready }).await;
    }

    /// Asks a process to leave, and kills it where it takes too long or the order says so.
    async fn stop(&self, process: &mut Process, orders: &mut watch::Receiver<Order>) {
        if *orders.borrow() == Order::Drain {
            if self.over_ssh() {
                // A signal would end ssh, and with it all news of the worker: the end of its lifeline drains it as well.
                process.stdin = None;
            } else if let Some(pid) = process.child.id().and_then(|pid| i32::try_from(pid).ok()) {
                // It fails only where the process has ended by itself.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            tokio::select! {
                _ = process.child.wait() => return,
                () = sleep(self.stop_patience) => {
                    let patience_ms = u64::try_from(self.stop_patience.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(node = self.name, pid = process.pid, patience_ms, "node does not leave, killing it");
                }
                () = at_least(orders, Order::Kill) => {}
            }
        }
        process.kill().await;
    }
}

impl Process {
    async fn kill(&mut self) {
        // It fails only where the process has ended by itself.
        let _ = self.child.start_kill();
        let _ = timeout(KILL_PATIENCE, self.child.wait()).await;
    }

    async fn hear_last_words(&mut self) {
        self.stdin = None;
        for follower in &mut self.followers {
            if timeout(LAST_WORDS_PATIENCE, &mut *follower).await.is_err() {
                follower.abort();
            }
        }
    }
}

/// Waits for an order, or for the end of the fleet: a node without one must not live on.
async fn at_least(orders: &mut watch::Receiver<Order>, least: Order) {
    let _ = orders.wait_for(|order| *order >= least).await;
}

fn death_of(status: io::Result<ExitStatus>) -> Death {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Death::Exited(code),
            (None, signal) => Death::Signalled(signal.unwrap_or_default()),
        },
        Err(error) => Death::NotStarted(format!("wait for it: {error}")),
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
