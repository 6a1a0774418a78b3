//! A master as a node of a cluster: gossip makes it known, the link carries leases, HTTP serves clients.

use crate::access;
use crate::access::audit::AuditLog;
use crate::disk::DiskWatch;
use crate::dispatcher::peers::WorkerLink;
use crate::dispatcher::{DispatcherArgs, DispatcherMessage, Tunables};
use crate::http::{self, HttpConfig, HttpError, HttpLimits};
use crate::input::uploads::Uploads;
use crate::jobs::admission::Admission;
use crate::jobs::entry::JobTable;
use crate::jobs::index::Index;
use crate::jobs::opening::{JobOpener, ResultPlace};
use crate::metrics::cluster::{GossipCollector, LinkCollector, NodesCollector};
use crate::metrics::jobs::JobsCollector;
use crate::metrics::{Metrics, StoreCollector};
use crate::nodes::{GossipNode, NodeTable};
use crate::service::{Master, MasterService};
use crate::store::command::Command;
use crate::store::reads::Reads;
use crate::store::sequencer::unix_ms;
use crate::store::{Layout, Opened, Store, StoreError};
use crate::tree::MasterTree;
use quipu_shared::ids::{JobId, WorkerId};
use quipu_shared::link::{LinkConfig, LinkError, LinkEvent, MasterLink, PeerId};
use quipu_shared::live::Live;
use quipu_shared::membership::{Gossip, GossipConfig, GossipError, GossipHandle, Member, MemberEvent, Membership};
use quipu_shared::service::JobState;
use quipu_shared::wire::WorkerCommand;
use ractor::ActorRef;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a master node starts with.
pub struct MasterNodeConfig {
    /// How it takes part in gossip. The addresses of link and HTTP in its identity are filled in once they are bound.
    pub gossip: GossipConfig,
    /// Its part of the links.
    pub link: LinkConfig,
    /// Where it listens for workers; port 0 picks a free one.
    pub rpc: SocketAddr,
    /// How it serves clients. The tokens of its store and the audit log are filled in.
    pub http: HttpConfig,
    /// Tokens of the HTTP API.
    pub tokens_max: usize,
    /// Requests a second of a token that has no rate of its own.
    pub token_requests_per_s_max: u32,
    /// Bytes of the audit log's file before the next one is begun.
    pub audit_bytes_max: u64,
    /// Tunables of the scheduler, and rates of namespaces.
    pub tunables: Tunables,
    /// What is admitted.
    pub admission: Admission,
    /// Where jobs, uploads and results are kept.
    pub data_dir: PathBuf,
    /// Bytes that must stay free on its disk.
    pub disk_free_min_bytes: u64,
    /// Bytes of one upload.
    pub upload_bytes_max: u64,
    /// Bytes of one job's results.
    pub job_spool_bytes_max: u64,
    /// Jobs that are served at once.
    pub jobs_active_max: usize,
    /// Ended jobs that clients can still ask for.
    pub jobs_kept_max: usize,
    /// How long these are kept.
    pub retention_ms: u64,
    /// Runs of a schedule that are made up for at most.
    pub catch_up_max: u32,
}

/// Why a master can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum MasterNodeError {
    /// Membership.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// Links.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The job log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An actor could not be started.
    #[error("start the master's actors: {0}")]
    Spawn(#[from] ractor::SpawnErr),
    /// Restarts did not help.
    #[error("the master's supervisor gave up; the log says why")]
    GaveUp,
}

/// A running master node.
pub struct MasterNode {
    tuner: MasterTuner,
    gossip: GossipHandle,
    link: Arc<MasterLink>,
    tree: MasterTree,
    http_addr: SocketAddr,
    http_stop: CancellationToken,
    http_task: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

/// What of a master may be changed while it runs: what `LIVE_KEYS` of the configuration names.
#[derive(Clone)]
pub struct MasterTuner {
    http_limits: Live<HttpLimits>,
    admission: Live<Admission>,
    tunables: Live<Tunables>,
    dispatcher: watch::Receiver<Option<ActorRef<DispatcherMessage>>>,
}

impl MasterTuner {
    /// From now on these are in force.
    pub fn apply(&self, http_limits: HttpLimits, admission: Admission, tunables: Tunables) {
        self.http_limits.set(http_limits);
        // Jobs that were admitted are parsed again when they are served: the limits on their formulas stay.
        let formula = self.admission.get().formula.clone();
        self.admission.set(Admission { formula, ..admission });
        self.tunables.set(tunables);
        if let Some(dispatcher) = &*self.dispatcher.borrow() {
            // One that is gone is started again, and begins with the new ones.
            let _ = dispatcher.cast(DispatcherMessage::TunablesChanged);
        }
    }
}

impl MasterNode {
    /// Binds the sockets and starts the actors. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where an address can't be bound or the data folder can't be used.
    pub async fn start(mut config: MasterNodeConfig) -> Result<Self, MasterNodeError> {
        let jobs = Arc::new(JobTable::new(config.retention_ms, false));
        let metrics = Arc::clone(&config.http.metrics);
        let store = open_store(&config.data_dir, &jobs, &metrics)?;
        let layout = Layout::new(&config.data_dir);
        let uploads = Uploads::open(layout.uploads(), config.upload_bytes_max)
            .map_err(|error| StoreError::io("open the folder of uploads", layout.uploads(), error))?;
        let tokens = Arc::new(access::tokens::of_store(&*store, config.tokens_max, config.token_requests_per_s_max)?);
        let audit = AuditLog::open(&layout.audit(), config.audit_bytes_max)
            .map_err(|error| StoreError::io("open the audit log", layout.audit(), error))?;
        (config.http.token_table, config.http.audit) = (Arc::clone(&tokens), Some(audit));
        let opener = JobOpener {
            store,
            admission: Live::new(config.admission),
            uploads: Some(Arc::new(uploads)),
            results: ResultPlace::Disk { folder: layout.results(), job_bytes_max: config.job_spool_bytes_max },
        };
        let args = DispatcherArgs {
            tunables: Live::new(config.tunables),
            formula_limits: opener.admission.get().formula.clone(),
            jobs: Arc::clone(&jobs),
            nodes: Arc::default(),
            opener: opener.clone(),
            jobs_active_max: config.jobs_active_max,
            jobs_kept_max: config.jobs_kept_max,
            catch_up_max: config.catch_up_max,
            shared_files: false,
            metrics: metrics.dispatch.clone(),
        };
        let nodes = Arc::clone(&args.nodes);
        let http_limits = Live::new(config.http.limits.clone());
        config.http.live = Some(http_limits.clone());
        let (tunables, admission) = (args.tunables.clone(), opener.admission.clone());
        let tree = MasterTree::start(args).await?;
        let disk = DiskWatch::new(config.data_dir.clone(), config.disk_free_min_bytes);
        metrics.add(JobsCollector { jobs: Arc::clone(&jobs), admission: opener.admission.clone() });
        metrics.add(NodesCollector { nodes: Arc::clone(&nodes) });
        metrics.add(StoreCollector { store: Arc::downgrade(&opener.store), disk: disk.clone() });
        let tuner = MasterTuner { http_limits, admission, tunables, dispatcher: tree.dispatcher() };
        let service = Arc::new(MasterService {
            dispatcher: tree.dispatcher(),
            jobs,
            nodes: Arc::clone(&nodes),
            opener,
            tokens,
            disk,
        });
        let service = Arc::new(Master(service));
        let link = Arc::new(MasterLink::start(config.rpc, config.link).await?);
        metrics.add(LinkCollector { link: Arc::downgrade(&link) });
        let http_stop = CancellationToken::new();
        let (http_addr, http_task) = http::serve(config.http, service, http_stop.clone().cancelled_owned()).await?;
        config.gossip.identity.rpc = Some(link.local_addr());
        config.gossip.identity.http = Some(http_addr);
        let gossip = Gossip::start(config.gossip).await?;
        metrics.add(GossipCollector { gossip: gossip.clone() });
        let tasks = vec![
            tokio::spawn(pump(Arc::clone(&link), tree.dispatcher())),
            tokio::spawn(follow_gossip(gossip.clone(), nodes)),
        ];
        Ok(Self { tuner, gossip, link, tree, http_addr, http_stop, http_task, tasks })
    }

    /// Changes what may be changed while it runs.
    pub fn tuner(&self) -> MasterTuner {
        self.tuner.clone()
    }

    /// Address of its HTTP API.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Address that workers dial.
    pub fn rpc_addr(&self) -> SocketAddr {
        self.link.local_addr()
    }

    /// Address of its gossip.
    pub fn gossip_addr(&self) -> SocketAddr {
        self.gossip.local_addr()
    }

    /// Serves until `shutdown` resolves. Jobs that have not ended stay in the data folder.
    ///
    /// # Errors
    /// Where the supervisor gives up.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), MasterNodeError> {
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            () = self.tree.failed() => Err(MasterNodeError::GaveUp),
        };
        tracing::info!("stopping");
        self.gossip.leave().await;
        self.tree.stop().await;
        self.http_stop.cancel();
        // The server's task ends with what was under way; a panic of it is logged where it happens.
        let _ = self.http_task.await;
        self.link.stop().await;
        for task in self.tasks {
            task.abort();
        }
        tracing::info!("stopped");
        outcome
    }
}

/// Opens the job log of a data folder, takes every job into the table, and removes results that belong to none.
fn open_store(data_dir: &std::path::Path, jobs: &Arc<JobTable>, metrics: &Metrics) -> Result<Arc<Store>, StoreError> {
    let opened = Opened::on_disk(data_dir)?.measured_by(&metrics.store);
    let mut count = 0_u64;
    opened.jobs(&mut |job, record| {
        jobs.index(|index| index.note(job, Some(&record)));
        count += 1;
        true
    })?;
    jobs.index(Index::begin_counting);
    let waited_for = opened.waited_for()?;
    let table = Arc::clone(jobs);
    let store = Arc::new(opened.start(Arc::new(move |changes, schedules| table.note(changes, schedules)))?);
    // A chain of jobs whose first one failed may have been left half settled.
    let ended = |job: &JobId| jobs.index(|index| index.state(*job)).is_none_or(JobState::is_final);
    let now_ms = unix_ms();
    let settle: Vec<Command> =
        waited_for.into_iter().filter(ended).map(|job| Command::Settle { job, now_ms }).collect();
    if !settle.is_empty() {
        store.propose(settle, Box::new(|_| {}));
    }
    remove_orphans(&Layout::new(data_dir).results(), jobs);
    tracing::info!(jobs = count, store = %store.id(), path = %data_dir.display(), "job log opened");
    Ok(store)
}

/// Removes files of results whose job is gone, or has none.
fn remove_orphans(results: &std::path::Path, jobs: &JobTable) {
    let Ok(files) = std::fs::read_dir(results) else { return };
    for file in files.flatten() {
        let job = file.file_name().to_str().and_then(|name| name.parse().ok()).map(JobId);
        let state = job.and_then(|job| jobs.index(|index| index.state(job)));
        if matches!(state, None | Some(JobState::Failed | JobState::Cancelled))
            && let Err(error) = std::fs::remove_file(file.path())
        {
            tracing::warn!(error = %error, path = %file.path().display(), "remove results without a job");
        }
    }
}

/// A worker on the other end of a link.
struct RemoteLink {
    link: Arc<MasterLink>,
    peer: PeerId,
}

impl WorkerLink for RemoteLink {
    fn send(&self, command: WorkerCommand) {
        if let Err(error) = self.link.send(self.peer, command) {
            tracing::warn!(peer = %self.peer, %error, "message to a worker not sent, its link is closed");
            self.link.close(self.peer);
        }
    }

    fn close(&self) {
        self.link.close(self.peer);
    }
}

/// Carries messages between link and dispatcher. When the dispatcher is started again, every link is closed: workers
/// dial again and say hello to the new one.
async fn pump(link: Arc<MasterLink>, mut dispatchers: watch::Receiver<Option<ActorRef<DispatcherMessage>>>) {
    let mut peers: BTreeSet<PeerId> = BTreeSet::new();
    dispatchers.borrow_and_update();
    loop {
        let event = tokio::select! {
            event = link.recv() => event,
            changed = dispatchers.changed() => {
                if changed.is_err() {
                    return;
                }
                dispatchers.borrow_and_update();
                for peer in &peers {
                    link.close(*peer);
                }
                continue;
            }
        };
        let message = match event {
            None => return,
            Some(LinkEvent::Connected { peer, node_name }) => {
                tracing::debug!(peer = %peer, node = node_name.as_str(), "link opened");
                peers.insert(peer);
                let link = Arc::new(RemoteLink { link: Arc::clone(&link), peer });
                DispatcherMessage::WorkerConnected(WorkerId(peer.0), link)
            }
            Some(LinkEvent::Disconnected { peer }) => {
                peers.remove(&peer);
                DispatcherMessage::WorkerDisconnected(WorkerId(peer.0))
            }
            Some(LinkEvent::Frame { peer, message }) => DispatcherMessage::WorkerSaid(WorkerId(peer.0), message),
        };
        if let Some(dispatcher) = &*dispatchers.borrow() {
            // One that is gone is started again, and hears of every worker anew.
            let _ = dispatcher.cast(message);
        }
    }
}

/// Keeps the table of nodes up to date with gossip.
async fn follow_gossip(gossip: GossipHandle, nodes: Arc<NodeTable>) {
    nodes.gossiped(&gossip_node(&gossip.me()));
    loop {
        let mut events = gossip.events();
        while let Some(event) = events.recv().await {
            match event {
                MemberEvent::Up(member) | MemberEvent::NewGeneration { member, .. } => {
                    tracing::info!(node_id = %member.id(), address = %member.gossip, "node seen in gossip");
                    nodes.gossiped(&gossip_node(&member));
                }
                MemberEvent::Down(member, reason) => {
                    tracing::info!(node_id = %member.id(), reason = ?reason, "node gone from gossip");
                    nodes.gossiped_down(member.id());
                }
                MemberEvent::ClockSkew { node, from, skew_ms } => {
                    let node_id = node.map(String::from).unwrap_or_default();
                    tracing::error!(node_id, %from, skew_ms, "a node's clock is off by more than 60 s; set the clocks");
                }
            }
        }
        // The stream ends with gossip, or because this task was too slow; then it begins anew.
        tokio::select! {
            () = gossip.ended() => return,
            () = tokio::task::yield_now() => {}
        }
    }
}

fn gossip_node(member: &Member) -> GossipNode {
    let facts = &member.identity;
    GossipNode {
        id: facts.node_id.clone(),
        role: facts.role,
        slots: facts.slots,
        zone: facts.zone.clone(),
        version: facts.version.clone(),
        gossip: member.gossip.to_string(),
    }
}
