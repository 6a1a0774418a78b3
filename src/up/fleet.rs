//! The nodes of one `quipu up`: the master first, then the workers; at the end the workers first, then the master.

use crate::up::hosts::Host;
use crate::up::launch::{Common, Invocation, MasterPlan, QuoteError, WorkerPlan, over_ssh};
use crate::up::logs::{Form, NodeLog, SharedStderr};
use crate::up::node::{Event, Launch, Node, Order};
use crate::up::policy::RestartPolicy;
use crate::up::ready::Ready;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

/// Events that wait to be handled: a few of each node at most.
const EVENTS_MAX: usize = 256;

/// Where a worker runs.
pub(crate) enum Place {
    /// On this machine.
    Here,
    /// On another one.
    Host {
        /// Which.
        host: Host,
        /// ssh and its options.
        ssh: Vec<String>,
        /// quipu over there.
        remote_quipu: String,
    },
}

/// A worker of the fleet.
pub(crate) struct WorkerSpec {
    /// Its name.
    pub(crate) node_id: String,
    /// Where it runs.
    pub(crate) place: Place,
    /// Where others reach it.
    pub(crate) advertise: IpAddr,
    /// Executors, where it should not be one a core.
    pub(crate) slots: Option<u32>,
    /// Where it stands.
    pub(crate) zone: Option<String>,
}

/// What the nodes log to.
pub(crate) enum LogTarget {
    /// Standard error, in this form.
    Stderr {
        /// Whether lines are JSON.
        json: bool,
    },
    /// A file each.
    Folder(PathBuf),
}

/// A fleet to be.
pub(crate) struct FleetPlan {
    /// This binary.
    pub(crate) program: PathBuf,
    /// What all nodes are given.
    pub(crate) common: Common,
    /// The master.
    pub(crate) master: MasterPlan,
    /// The workers.
    pub(crate) workers: Vec<WorkerSpec>,
    /// The cluster's secrets, one a line.
    pub(crate) secret: Arc<Zeroizing<String>>,
    /// When to start nodes again.
    pub(crate) policy: RestartPolicy,
    /// How long all nodes together may take to become ready.
    pub(crate) start_patience: Duration,
    /// How long a node may take to leave.
    pub(crate) stop_patience: Duration,
    /// What the nodes log to.
    pub(crate) log: LogTarget,
}

/// Why a fleet could not come up or stay up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    /// A log can't be written.
    #[error("write the log of {node}: {source}")]
    Log {
        /// Whose.
        node: String,
        /// What the system says.
        source: io::Error,
    },
    /// A remote command can't be written down.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// Workers would not know where the master is.
    #[error("the master gossips on {0}, which says not where others reach it; give --advertise IP")]
    NoSeed(SocketAddr),
    /// A node is beyond help.
    #[error("{node} {why}{}", said(.tail))]
    GaveUp {
        /// Which.
        node: String,
        /// Why.
        why: String,
        /// Its last log lines.
        tail: Vec<String>,
    },
    /// Not all nodes became ready.
    #[error("{node} is not ready after {patience:?}{}{}", last_death(.death.as_deref()), said(.tail))]
    NotUp {
        /// One of them.
        node: String,
        /// How long it was waited for.
        patience: Duration,
        /// How it died last, if it did.
        death: Option<String>,
        /// Its last log lines.
        tail: Vec<String>,
    },
}

fn said(tail: &[String]) -> String {
    if tail.is_empty() { "; it said nothing".into() } else { format!("; its last lines:\n  {}", tail.join("\n  ")) }
}

fn last_death(death: Option<&str>) -> String {
    death.map_or_else(String::new, |death| format!(", it died last with {death}"))
}

/// A fleet that is up.
pub(crate) struct Up {
    /// URL of the master.
    pub(crate) http: Option<String>,
    /// The master's gossip, as others reach it.
    pub(crate) gossip: SocketAddr,
    /// What the nodes said of themselves, the master first.
    pub(crate) nodes: Vec<Ready>,
}

/// How a fleet ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FleetEnd {
    /// It was asked to, and every node has left.
    Clean,
    /// It was asked to before it was up.
    BeforeUp,
    /// It was asked to twice: the nodes were killed.
    Killed,
}

/// Runs a fleet until `interrupts` (how often somebody asked for the end) rises. `on_up` is called once, when all nodes
/// are ready. No process is left at the end, however it comes.
pub(crate) async fn run(
    plan: FleetPlan,
    mut interrupts: watch::Receiver<u32>,
    on_up: impl FnOnce(&Up),
) -> Result<FleetEnd, FleetError> {
    let mut fleet = Fleet::new(&plan).await?;
    let outcome = fleet.operate(&plan, &mut interrupts, on_up).await;
    if let Err(error) = &outcome {
        tracing::error!(%error, "taking everything down");
    }
    let killed = fleet.take_down(&mut interrupts).await;
    outcome.map(|end| if killed { FleetEnd::Killed } else { end })
}

/// A node as the fleet sees it.
struct Seat {
    name: String,
    log: Arc<NodeLog>,
    ready: Option<Ready>,
    left: bool,
    death: Option<String>,
}

struct Fleet {
    /// The master first.
    seats: Vec<Seat>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    master: JoinSet<()>,
    master_orders: watch::Sender<Order>,
    workers: JoinSet<()>,
    worker_orders: watch::Sender<Order>,
}

impl Fleet {
    async fn new(plan: &FleetPlan) -> Result<Self, FleetError> {
        let names: Vec<&String> =
            std::iter::once(&plan.master.node_id).chain(plan.workers.iter().map(|worker| &worker.node_id)).collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
        let stderr = SharedStderr::new();
        let mut seats = Vec::new();
        for name in names {
            let log = match &plan.log {
                LogTarget::Stderr { json } => {
                    let form = if *json { Form::Json } else { Form::Text { width } };
                    NodeLog::to_stderr(name, stderr.clone(), form)
                }
                LogTarget::Folder(folder) => NodeLog::to_folder(name, folder)
                    .await
                    .map_err(|source| FleetError::Log { node: name.clone(), source })?,
            };
            seats.push(Seat { name: name.clone(), log: Arc::new(log), ready: None, left: false, death: None });
        }
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        Ok(Self {
            seats,
            events,
            sender,
            master: JoinSet::new(),
            master_orders: watch::Sender::new(Order::Run),
            workers: JoinSet::new(),
            worker_orders: watch::Sender::new(Order::Run),
        })
    }

    /// Brings the fleet up and keeps it up, until somebody asks for its end.
    async fn operate(
        &mut self,
        plan: &FleetPlan,
        interrupts: &mut watch::Receiver<u32>,
        on_up: impl FnOnce(&Up),
    ) -> Result<FleetEnd, FleetError> {
        let deadline = Instant::now() + plan.start_patience;
        let (program, common) = (plan.program.clone(), plan.common.clone());
        let master = self.node(plan, 0, Launch::Master { program, plan: Box::new(plan.master.clone()), common });
        self.master.spawn(master.tend(self.master_orders.subscribe(), self.sender.clone()));
        let Some(()) = self.until_ready(1, deadline, plan, interrupts).await? else { return Ok(FleetEnd::BeforeUp) };
        // Ready, since the wait has ended.
        let Some(ready) = self.seats[0].ready.clone() else { return Ok(FleetEnd::BeforeUp) };
        let seed = plan.master.seed(&ready).ok_or(FleetError::NoSeed(ready.gossip))?;
        for (number, worker) in (1..).zip(&plan.workers) {
            let launch = launch(plan, worker, seed)?;
            let node = self.node(plan, number, launch);
            self.workers.spawn(node.tend(self.worker_orders.subscribe(), self.sender.clone()));
        }
        let Some(()) = self.until_ready(self.seats.len(), deadline, plan, interrupts).await? else {
            return Ok(FleetEnd::BeforeUp);
        };
        let nodes = self.seats.iter().filter_map(|seat| seat.ready.clone()).collect();
        on_up(&Up { http: ready.http, gossip: seed, nodes });
        loop {
            tokio::select! {
                () = interrupted(interrupts) => return Ok(FleetEnd::Clean),
                event = self.events.recv() => self.take(event)?,
            }
        }
    }

    fn node(&self, plan: &FleetPlan, number: usize, launch: Launch) -> Node {
        let seat = &self.seats[number];
        Node {
            number,
            name: seat.name.clone(),
            launch,
            log: Arc::clone(&seat.log),
            secret: Arc::clone(&plan.secret),
            policy: plan.policy,
            stop_patience: plan.stop_patience,
            ever_ready: false,
        }
    }

    /// Waits until the first `count` nodes have been ready. `None` where somebody asked for the end before.
    async fn until_ready(
        &mut self,
        count: usize,
        deadline: Instant,
        plan: &FleetPlan,
        interrupts: &mut watch::Receiver<u32>,
    ) -> Result<Option<()>, FleetError> {
        loop {
            let Some(waiting) = self.seats[..count].iter().find(|seat| seat.ready.is_none() && !seat.left) else {
                return Ok(Some(()));
            };
            tokio::select! {
                () = interrupted(interrupts) => return Ok(None),
                () = sleep_until(deadline) => {
                    return Err(FleetError::NotUp {
                        node: waiting.name.clone(),
                        patience: plan.start_patience,
                        death: waiting.death.clone(),
                        tail: waiting.log.tail(),
                    });
                }
                event = self.events.recv() => self.take(event)?,
            }
        }
    }

    fn take(&mut self, event: Option<Event>) -> Result<(), FleetError> {
        match event {
            Some(Event::Ready { node, ready }) => self.seats[node].ready = Some(ready),
            Some(Event::Died { node, how }) => self.seats[node].death = Some(how),
            Some(Event::Left { node }) => self.seats[node].left = true,
            Some(Event::GaveUp { node, why }) => {
                let Seat { name, log, .. } = &self.seats[node];
                return Err(FleetError::GaveUp { node: name.clone(), why, tail: log.tail() });
            }
            // Never: this side holds a sender.
            None => {}
        }
        Ok(())
    }

    /// Drains the workers, then the master; kills what is left where somebody asks once more, and says whether.
    async fn take_down(mut self, interrupts: &mut watch::Receiver<u32>) -> bool {
        // Nodes must not wait for a place for their last events.
        self.events.close();
        tracing::info!("draining the workers, then stopping the master");
        let mut killed = false;
        for (nodes, orders) in [(&mut self.workers, &self.worker_orders), (&mut self.master, &self.master_orders)] {
            orders.send_replace(if killed { Order::Kill } else { Order::Drain });
            loop {
                tokio::select! {
                    ended = nodes.join_next() => match ended {
                        None => break,
                        Some(Ok(())) => {}
                        Some(Err(error)) => tracing::error!(%error, "the task of a node failed"),
                    },
                    () = interrupted(interrupts), if !killed => {
                        tracing::warn!("asked once more, killing the nodes");
                        killed = true;
                        orders.send_replace(Order::Kill);
                    }
                }
            }
        }
        killed
    }
}

/// Resolves when somebody asks for the end since the last time.
async fn interrupted(interrupts: &mut watch::Receiver<u32>) {
    if interrupts.changed().await.is_err() {
        // Nobody is left who could ask.
        std::future::pending::<()>().await;
    }
}

fn launch(plan: &FleetPlan, worker: &WorkerSpec, seed: SocketAddr) -> Result<Launch, QuoteError> {
    let args = WorkerPlan {
        node_id: worker.node_id.clone(),
        seed,
        advertise: worker.advertise,
        slots: worker.slots,
        zone: worker.zone.clone(),
    }
    .args(&plan.common);
    Ok(match &worker.place {
        Place::Here => {
            let args = args.into_iter().map(OsString::from).chain(plan.common.args_here()).collect();
            let invocation = Invocation { program: plan.program.clone().into_os_string(), args };
            Launch::Worker { invocation, over_ssh: false }
        }
        Place::Host { host, ssh, remote_quipu } => {
            Launch::Worker { invocation: over_ssh(ssh, host, remote_quipu, &args)?, over_ssh: true }
        }
    })
}
