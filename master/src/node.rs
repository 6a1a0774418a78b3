//! A master as a node of a cluster: gossip makes it known, the link carries leases, HTTP serves clients.

use crate::dispatcher::peers::WorkerLink;
use crate::dispatcher::{DispatcherArgs, DispatcherMessage};
use crate::http::{self, HttpConfig, HttpError};
use crate::input::uploads::Uploads;
use crate::jobs::admission::Admission;
use crate::nodes::{GossipNode, NodeTable};
use crate::scheduler::SchedulerConfig;
use crate::service::{MasterService, ResultPlace};
use crate::tree::MasterTree;
use quipu_shared::ids::WorkerId;
use quipu_shared::link::{LinkConfig, LinkError, LinkEvent, MasterLink, PeerId};
use quipu_shared::membership::{Gossip, GossipConfig, GossipError, GossipHandle, Member, MemberEvent, Membership};
use quipu_shared::wire::WorkerCommand;
use ractor::ActorRef;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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
    /// How it serves clients.
    pub http: HttpConfig,
    /// Tunables of the scheduler.
    pub scheduler: SchedulerConfig,
    /// What is admitted.
    pub admission: Admission,
    /// Where uploads and results are spooled.
    pub data_dir: PathBuf,
    /// Bytes of one upload.
    pub upload_bytes_max: u64,
    /// Bytes of one job's results.
    pub job_spool_bytes_max: u64,
    /// Ended jobs that clients can still ask for.
    pub jobs_kept_max: usize,
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
    /// The data folder.
    #[error("use the data folder {path}: {source}")]
    DataDir {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An actor could not be started.
    #[error("start the master's actors: {0}")]
    Spawn(#[from] ractor::SpawnErr),
    /// Restarts did not help.
    #[error("the master's supervisor gave up; the log says why")]
    GaveUp,
}

/// A running master node.
pub struct MasterNode {
    gossip: GossipHandle,
    link: Arc<MasterLink>,
    tree: MasterTree,
    http_addr: SocketAddr,
    http_stop: CancellationToken,
    http_task: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl MasterNode {
    /// Binds the sockets and starts the actors. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where an address can't be bound or the data folder can't be used.
    pub async fn start(mut config: MasterNodeConfig) -> Result<Self, MasterNodeError> {
        let (uploads, spool) = open_data_dir(&config.data_dir, config.upload_bytes_max)?;
        let args = DispatcherArgs {
            scheduler: config.scheduler,
            formula_limits: config.admission.formula.clone(),
            jobs: Arc::default(),
            nodes: Arc::default(),
            epoch: Arc::new(AtomicU64::new(0)),
            store: uuid::Uuid::new_v4(),
            jobs_kept_max: config.jobs_kept_max,
            shared_files: false,
        };
        let (jobs, nodes) = (Arc::clone(&args.jobs), Arc::clone(&args.nodes));
        let tree = MasterTree::start(args).await?;
        let service = Arc::new(MasterService {
            dispatcher: tree.dispatcher(),
            jobs,
            nodes: Arc::clone(&nodes),
            admission: config.admission,
            uploads: Some(Arc::new(uploads)),
            results: ResultPlace::Spool { folder: spool, job_bytes_max: config.job_spool_bytes_max },
            submitting: std::sync::Mutex::default(),
        });
        let link = Arc::new(MasterLink::start(config.rpc, config.link).await?);
        let http_stop = CancellationToken::new();
        let (http_addr, http_task) = http::serve(config.http, service, http_stop.clone().cancelled_owned()).await?;
        config.gossip.identity.rpc = Some(link.local_addr());
        config.gossip.identity.http = Some(http_addr);
        let gossip = Gossip::start(config.gossip).await?;
        let tasks = vec![
            tokio::spawn(pump(Arc::clone(&link), tree.dispatcher())),
            tokio::spawn(follow_gossip(gossip.clone(), nodes)),
        ];
        Ok(Self { gossip, link, tree, http_addr, http_stop, http_task, tasks })
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

    /// Serves until `shutdown` resolves. Jobs that have not ended are cancelled then.
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

/// Makes the folders, and empties the spool: results of an earlier start have no job any more.
fn open_data_dir(data_dir: &Path, upload_bytes_max: u64) -> Result<(Uploads, PathBuf), MasterNodeError> {
    let trouble = |source| MasterNodeError::DataDir { path: data_dir.to_owned(), source };
    let uploads = Uploads::open(data_dir.join("uploads"), upload_bytes_max).map_err(trouble)?;
    let spool = data_dir.join("spool");
    match std::fs::remove_dir_all(&spool) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(trouble(error)),
        _ => {}
    }
    std::fs::create_dir_all(&spool).map_err(trouble)?;
    Ok((uploads, spool))
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
