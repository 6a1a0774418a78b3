//! The master's end: accepts workers.

use super::LinkError;
use super::config::{LinkConfig, LinkLimits};
use super::handshake::{Channel, HandshakeError, read_preface, write_preface};
use super::hub::{self, Events, Hub, LinkEvent, LinkStats, PeerId, SendError};
use super::node::Node;
use crate::ids::Role;
use crate::trust::NodeTrust;
use crate::trust::proof::Side;
use crate::wire::{WorkerCommand, WorkerEvent};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Pause after an accept that failed: the process is out of descriptors, and trying at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type MasterHub = Hub<WorkerEvent, WorkerCommand>;

/// A master's link: all its workers.
pub struct MasterLink {
    hub: Arc<MasterHub>,
    events: Events<WorkerEvent>,
    node: Arc<Node>,
    local_addr: SocketAddr,
    /// End with the link.
    tasks: Mutex<JoinSet<()>>,
}

impl MasterLink {
    /// Binds the address and accepts workers from then on. Port 0 takes a free one.
    pub async fn start(bind: SocketAddr, config: LinkConfig) -> Result<Self, LinkError> {
        config.limits.check()?;
        let acceptor = TlsAcceptor::from(config.trust.link_server_config()?);
        let fail = |source| LinkError::Bind { address: bind, source };
        let listener = TcpListener::bind(bind).await.map_err(fail)?;
        let local_addr = listener.local_addr().map_err(fail)?;
        let (hub, events) = Hub::new(config.limits.clone());
        let node = Arc::new(Node::start(&config, &hub).await?);
        let server = Arc::new(Acceptance {
            acceptor,
            trust: config.trust,
            limits: config.limits,
            hub: hub.clone(),
            node: node.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(listener));
        tasks.spawn(watch_node(node.clone(), hub.clone()));
        Ok(Self { hub, events, node, local_addr, tasks: Mutex::new(tasks) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next event; none after the link has stopped. To be called by one task.
    pub async fn recv(&self) -> Option<LinkEvent<WorkerEvent>> {
        hub::recv(&self.events).await
    }

    /// Queues a command for a worker.
    pub fn send(&self, peer: PeerId, command: WorkerCommand) -> Result<(), SendError> {
        self.hub.send(peer, command)
    }

    /// Waits until everything queued for a worker is written; false if it is gone before.
    pub async fn flush(&self, peer: PeerId) -> bool {
        self.hub.flush(peer).await
    }

    /// Closes a worker's link at once; what is queued for it is lost. The worker may dial again.
    pub fn close(&self, peer: PeerId) {
        self.hub.close(peer);
    }

    /// Counters.
    pub fn stats(&self) -> LinkStats {
        self.hub.stats()
    }

    /// Closes everything and waits until it is gone; `recv` then gives what is left.
    pub async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
        self.hub.stop();
        self.node.stop().await;
    }
}

impl Drop for MasterLink {
    fn drop(&mut self) {
        self.hub.stop();
    }
}

/// Stops the hub when the node server fails, so that the owner learns of it.
pub(super) async fn watch_node<In, Out>(node: Arc<Node>, hub: Arc<Hub<In, Out>>)
where
    In: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    Out: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    node.failed().await;
    tracing::error!("the link's node server has failed");
    hub.stop();
}

struct Acceptance {
    acceptor: TlsAcceptor,
    trust: Arc<NodeTrust>,
    limits: LinkLimits,
    hub: Arc<MasterHub>,
    node: Arc<Node>,
}

/// Ends the handshakes that are under way with the accept loop.
#[derive(Default)]
struct Handshakes(VecDeque<AbortHandle>);

impl Drop for Handshakes {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Acceptance {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut handshakes = Handshakes::default();
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept a worker's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            handshakes.0.retain(|handshake| !handshake.is_finished());
            if handshakes.0.len() >= self.limits.handshakes_max
                && let Some(oldest) = handshakes.0.pop_front()
            {
                oldest.abort();
                self.hub.count_evicted_handshake();
            }
            let this = self.clone();
            let handshake = tokio::spawn(async move {
                if let Err(error) = this.take_in(stream).await {
                    this.hub.count_failed_handshake();
                    tracing::info!(%address, %error, "refused a connection");
                }
            });
            handshakes.0.push_back(handshake.abort_handle());
        }
    }

    async fn take_in(&self, stream: TcpStream) -> Result<(), HandshakeError> {
        let limit = self.limits.handshake_timeout;
        tokio::time::timeout(limit, self.handshake(stream)).await.map_err(|_| HandshakeError::Timeout(limit))?
    }

    async fn handshake(&self, stream: TcpStream) -> Result<(), HandshakeError> {
        stream.set_nodelay(true)?;
        let mut stream = self.acceptor.accept(stream).await?;
        let channel = Channel::of_server(stream.get_ref().1)?;
        write_preface(&mut stream, Side::Server, &channel, &self.trust).await?;
        let name = read_preface(&mut stream, Side::Client, &channel, &self.trust).await?;
        if name.role() != Role::Worker {
            return Err(HandshakeError::WrongRole(name.to_string(), Role::Worker));
        }
        // A process dials a master again only after it has given up its old link, which may be half open here.
        self.hub.close_name(&name, "the worker has a newer link");
        self.hub.gone(&name).await;
        let admission = self.hub.admit(&name, channel.token)?;
        self.node.open(Box::new(admission.guard(stream)), true);
        Ok(())
    }
}
