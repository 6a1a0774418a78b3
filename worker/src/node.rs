//! A worker as a node of a cluster: gossip finds masters, the link carries leases, the tree does the work.

use crate::agent::{AgentMessage, SendToMaster};
use crate::core::WorkerIdentity;
use crate::tree::{WorkerTree, WorkerTreeArgs};
use quipu_shared::config::TierChoice;
use quipu_shared::ids::{NodeId, Role};
use quipu_shared::link::{LinkConfig, LinkError, LinkEvent, PeerId, WorkerLink};
use quipu_shared::membership::{Gossip, GossipConfig, GossipError, GossipHandle, MemberEvent, Membership};
use ractor::ActorRef;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Shards that an executor holds: one runs and one waits. One round trip wasted a shard costs 13 % at 1 ms shards.
const CREDITS_PER_SLOT: u32 = 2;
/// How long a worker that leaves waits for its last words to be written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// What a worker node starts with.
pub struct WorkerNodeConfig {
    /// How it takes part in gossip; its identity names the node.
    pub gossip: GossipConfig,
    /// Its part of the links.
    pub link: LinkConfig,
    /// How long a draining worker may take before it leaves all the same.
    pub drain_patience: Duration,
    /// Who evaluates formulas.
    pub tier: TierChoice,
    /// Its share, where the master places by weight.
    pub weight: u32,
}

/// Why a worker can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerNodeError {
    /// Membership.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// Links.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// An actor or a thread could not be started.
    #[error("start the worker's actors: {0}")]
    Spawn(#[from] ractor::SpawnErr),
    /// Restarts did not help.
    #[error("the worker's supervisor gave up; the log says why")]
    GaveUp,
}

/// A running worker node.
pub struct WorkerNode {
    gossip: GossipHandle,
    link: Arc<WorkerLink>,
    tree: WorkerTree,
    node_id: NodeId,
    drain_patience: Duration,
}

impl WorkerNode {
    /// Binds the sockets and starts the actors. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where an address can't be bound or a thread can't be started.
    pub async fn start(config: WorkerNodeConfig) -> Result<Self, WorkerNodeError> {
        let facts = &config.gossip.identity;
        let identity = WorkerIdentity {
            node_id: facts.node_id.clone(),
            generation: facts.generation,
            boot_id: facts.boot_id,
            slots: facts.slots,
            credits: facts.slots * CREDITS_PER_SLOT,
            zone: facts.zone.clone(),
            weight: config.weight,
            tier: config.tier,
        };
        let node_id = identity.node_id.clone();
        let gossip = Gossip::start(config.gossip).await?;
        let masters = masters_of(&gossip);
        let link = Arc::new(WorkerLink::start(config.link, masters).await?);
        let tree = WorkerTree::start(WorkerTreeArgs { identity, embedded: false, before_task: None }).await?;
        Ok(Self { gossip, link, tree, node_id, drain_patience: config.drain_patience })
    }

    /// Address of its gossip.
    pub fn gossip_addr(&self) -> SocketAddr {
        self.gossip.local_addr()
    }

    /// Works until `shutdown` resolves, then drains: finishes what runs, hands back the rest, says goodbye. Ends
    /// likewise when the master has asked it to drain.
    ///
    /// # Errors
    /// Where the supervisor gives up.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), WorkerNodeError> {
        let mut left = self.tree.left();
        let (master_sender, master) = watch::channel(None);
        let pump = tokio::spawn(pump(Arc::clone(&self.link), self.tree.agent(), master_sender));
        let outcome = tokio::select! {
            () = shutdown => {
                tracing::info!(node_id = %self.node_id, "draining");
                self.drain(self.tree.left()).await;
                Ok(())
            }
            _ = left.wait_for(|left| *left) => Ok(()),
            () = self.tree.failed() => Err(WorkerNodeError::GaveUp),
        };
        let peer = *master.borrow();
        if let Some(peer) = peer {
            // What is not written by then is lost, and the master's leases see to it.
            let _ = tokio::time::timeout(FLUSH_PATIENCE, self.link.flush(peer)).await;
        }
        self.gossip.leave().await;
        self.link.stop().await;
        pump.abort();
        self.tree.stop().await;
        tracing::info!(node_id = %self.node_id, "left");
        outcome
    }

    async fn drain(&self, mut left: watch::Receiver<bool>) {
        if let Some(agent) = &*self.tree.agent().borrow() {
            // An agent that is gone holds nothing.
            let _ = agent.cast(AgentMessage::Drain);
        }
        if tokio::time::timeout(self.drain_patience, left.wait_for(|left| *left)).await.is_err() {
            tracing::warn!(node_id = %self.node_id, "not drained in time, leaving all the same");
        }
    }
}

/// Addresses of the masters that gossip knows, kept up to date.
fn masters_of(gossip: &GossipHandle) -> watch::Receiver<BTreeSet<SocketAddr>> {
    let (sender, receiver) = watch::channel(BTreeSet::new());
    let gossip = gossip.clone();
    tokio::spawn(async move {
        loop {
            let mut events = gossip.events();
            let mut masters: BTreeMap<NodeId, SocketAddr> = BTreeMap::new();
            while let Some(event) = events.recv().await {
                match event {
                    MemberEvent::Up(member) | MemberEvent::NewGeneration { member, .. } => {
                        if let (Role::Master, Some(rpc)) = (member.identity.role, member.identity.rpc) {
                            tracing::info!(node_id = %member.id(), address = %rpc, "found a master");
                            masters.insert(member.id().clone(), rpc);
                        }
                    }
                    MemberEvent::Down(member, reason) => {
                        if masters.remove(member.id()).is_some() {
                            tracing::warn!(node_id = %member.id(), reason = ?reason, "a master is down, says gossip");
                        }
                    }
                    MemberEvent::ClockSkew { node, from, skew_ms } => {
                        let node_id = node.map(String::from).unwrap_or_default();
                        tracing::error!(node_id, %from, skew_ms, "a node's clock is off by more than 60 s; set the clocks");
                    }
                }
                let addresses: BTreeSet<SocketAddr> = masters.values().copied().collect();
                sender.send_if_modified(|known| {
                    *known != addresses && {
                        *known = addresses;
                        true
                    }
                });
            }
            // The stream ends with gossip, or because this task was too slow; then it begins anew.
            tokio::select! {
                () = gossip.ended() => return,
                () = tokio::task::yield_now() => {}
            }
        }
    });
    receiver
}

/// Carries messages between link and agent, and tells the agent which master it has. One master at a time: the first
/// that is connected.
async fn pump(
    link: Arc<WorkerLink>,
    mut agents: watch::Receiver<Option<ActorRef<AgentMessage>>>,
    current: watch::Sender<Option<PeerId>>,
) {
    let mut waiting: BTreeSet<PeerId> = BTreeSet::new();
    loop {
        let event = tokio::select! {
            event = link.recv() => event,
            changed = agents.changed() => {
                if changed.is_err() {
                    return;
                }
                agents.borrow_and_update();
                if let Some(peer) = *current.borrow() {
                    tell(&agents, AgentMessage::Connected(sender(&link, peer)));
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(LinkEvent::Connected { peer, node_name }) => {
                tracing::info!(master = node_name.as_str(), "linked to a master");
                waiting.insert(peer);
            }
            Some(LinkEvent::Disconnected { peer }) => {
                waiting.remove(&peer);
                if *current.borrow() == Some(peer) {
                    tracing::warn!("the link to the master is closed");
                    current.send_replace(None);
                    tell(&agents, AgentMessage::Disconnected);
                }
            }
            Some(LinkEvent::Frame { peer, message }) => {
                if *current.borrow() == Some(peer) {
                    tell(&agents, AgentMessage::Command(message));
                }
            }
        }
        if current.borrow().is_none()
            && let Some(peer) = waiting.pop_first()
        {
            current.send_replace(Some(peer));
            tell(&agents, AgentMessage::Connected(sender(&link, peer)));
        }
    }
}

fn tell(agents: &watch::Receiver<Option<ActorRef<AgentMessage>>>, message: AgentMessage) {
    if let Some(agent) = &*agents.borrow() {
        // An agent that is gone is started again, and told then which master there is.
        let _ = agent.cast(message);
    }
}

fn sender(link: &Arc<WorkerLink>, peer: PeerId) -> SendToMaster {
    let link = Arc::clone(link);
    Arc::new(move |event| {
        if let Err(error) = link.send(peer, event) {
            tracing::debug!(%error, "message to the master not sent");
        }
    })
}
