//! The worker's end: dials masters, and dials them again.

use super::LinkError;
use super::config::{LinkConfig, LinkLimits};
use super::handshake::{Channel, HandshakeError, read_preface, write_preface};
use super::hub::{self, Events, Hub, LinkEvent, LinkStats, PeerId, SendError};
use super::node::Node;
use super::server::watch_node;
use crate::ids::Role;
use crate::trust::NodeTrust;
use crate::trust::proof::Side;
use crate::wire::{WorkerCommand, WorkerEvent};
use rand::RngExt;
use rustls_pki_types::ServerName;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

type WorkerHub = Hub<WorkerCommand, WorkerEvent>;

/// A worker's link: all masters that it knows of.
pub struct WorkerLink {
    hub: Arc<WorkerHub>,
    events: Events<WorkerCommand>,
    node: Arc<Node>,
    /// End with the link.
    tasks: Mutex<JoinSet<()>>,
}

impl WorkerLink {
    /// Keeps one link to each master among these addresses, which may change.
    ///
    /// An address that is taken away is not dialed any more; a link that stands is kept, since gossip is only a hint.
    pub async fn start(config: LinkConfig, masters: watch::Receiver<BTreeSet<SocketAddr>>) -> Result<Self, LinkError> {
        config.limits.check()?;
        let connector = TlsConnector::from(config.trust.link_client_config()?);
        let (hub, events) = Hub::new(config.limits.clone());
        let node = Arc::new(Node::start(&config, &hub).await?);
        let dialer = Arc::new(Dialer {
            connector,
            trust: config.trust,
            limits: config.limits,
            local: config.local,
            hub: hub.clone(),
            node: node.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(dialer.run(masters));
        tasks.spawn(watch_node(node.clone(), hub.clone()));
        Ok(Self { hub, events, node, tasks: Mutex::new(tasks) })
    }

    /// The next event; none after the link has stopped. To be called by one task.
    pub async fn recv(&self) -> Option<LinkEvent<WorkerCommand>> {
        hub::recv(&self.events).await
    }

    /// Queues an event for a master.
    pub fn send(&self, peer: PeerId, event: WorkerEvent) -> Result<(), SendError> {
        self.hub.send(peer, event)
    }

    /// Waits until everything queued for a master is written; false if it is gone before.
    pub async fn flush(&self, peer: PeerId) -> bool {
        self.hub.flush(peer).await
    }

    /// Closes the link to a master at once; what is queued for it is lost. It is dialed again while its address stands.
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

impl Drop for WorkerLink {
    fn drop(&mut self) {
        self.hub.stop();
    }
}

struct Dialer {
    connector: TlsConnector,
    trust: Arc<NodeTrust>,
    limits: LinkLimits,
    local: Option<IpAddr>,
    hub: Arc<WorkerHub>,
    node: Arc<Node>,
}

impl Dialer {
    /// One task an address, as long as it is wanted.
    async fn run(self: Arc<Self>, mut masters: watch::Receiver<BTreeSet<SocketAddr>>) {
        let mut tasks = JoinSet::new();
        let mut running: HashMap<SocketAddr, tokio::task::AbortHandle> = HashMap::new();
        loop {
            let wanted = masters.borrow_and_update().clone();
            running.retain(|_, task| !task.is_finished());
            for &address in &wanted {
                let this = self.clone();
                let masters = masters.clone();
                running.entry(address).or_insert_with(|| tasks.spawn(this.keep(address, masters)));
            }
            // A task that ends as its address comes back is seen here and started again.
            tokio::select! {
                changed = masters.changed() => if changed.is_err() {
                    // Nobody will name another address: what stands goes on.
                    while tasks.join_next().await.is_some() {}
                    return;
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Dials an address, waits for the end of its link, and again, until the address is taken away.
    async fn keep(self: Arc<Self>, address: SocketAddr, mut masters: watch::Receiver<BTreeSet<SocketAddr>>) {
        let mut pause = Pause::new(&self.limits);
        let mut last_error = String::new();
        while masters.borrow().contains(&address) {
            match self.dial(address).await {
                Ok(peer) => {
                    if self.hub.ended(peer).await {
                        pause.reset();
                        last_error.clear();
                    }
                }
                // Another address of a master that is linked already.
                Err(HandshakeError::Duplicate(name)) => self.hub.gone(&name).await,
                Err(error) => {
                    let error = error.to_string();
                    if error == last_error {
                        tracing::debug!(%address, error, "dial a master again");
                    } else {
                        tracing::warn!(%address, error, "dial a master");
                        last_error = error;
                    }
                }
            }
            let sleep = tokio::time::sleep(pause.next());
            let removed = masters.wait_for(|wanted| !wanted.contains(&address));
            tokio::select! {
                () = sleep => {}
                Ok(_) = removed => return,
            }
        }
    }

    async fn dial(&self, address: SocketAddr) -> Result<PeerId, HandshakeError> {
        let limit = self.limits.handshake_timeout;
        tokio::time::timeout(limit, self.handshake(address)).await.map_err(|_| HandshakeError::Timeout(limit))?
    }

    async fn handshake(&self, address: SocketAddr) -> Result<PeerId, HandshakeError> {
        let stream = match self.local {
            None => TcpStream::connect(address).await?,
            Some(local) => {
                let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                socket.bind(SocketAddr::new(local, 0))?;
                socket.connect(address).await?
            }
        };
        stream.set_nodelay(true)?;
        // No name is asked for: the certificate is checked against the cluster's authorities, its name with the preface.
        let mut stream = self.connector.connect(ServerName::IpAddress(address.ip().into()), stream).await?;
        let channel = Channel::of_client(stream.get_ref().1)?;
        let name = read_preface(&mut stream, Side::Server, &channel, &self.trust).await?;
        if name.role() != Role::Master {
            return Err(HandshakeError::WrongRole(name.to_string(), Role::Master));
        }
        let admission = self.hub.admit(&name, channel.token)?;
        write_preface(&mut stream, Side::Client, &channel, &self.trust).await?;
        let peer = admission.peer;
        self.node.open(Box::new(admission.guard(stream)), false);
        Ok(peer)
    }
}

/// Pauses between dials: they double up to a maximum, and each is drawn from its upper half, so that the workers of a
/// master that comes back do not all dial in the same moment.
struct Pause {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Pause {
    fn new(limits: &LinkLimits) -> Self {
        Self { min: limits.redial_pause_min, max: limits.redial_pause_max, next: limits.redial_pause_min }
    }

    fn reset(&mut self) {
        self.next = self.min;
    }

    fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkLimits, Pause};
    use std::time::Duration;

    #[test]
    fn pauses_double_with_jitter_up_to_the_maximum_and_start_over() {
        let limits = LinkLimits {
            redial_pause_min: Duration::from_millis(100),
            redial_pause_max: Duration::from_secs(1),
            ..LinkLimits::default()
        };
        let mut pause = Pause::new(&limits);
        for full_ms in [100, 200, 400, 800, 1000, 1000] {
            let drawn = pause.next();
            let full = Duration::from_millis(full_ms);
            assert!(drawn <= full && drawn >= full / 2, "{drawn:?} is not within {full:?}");
        }
        pause.reset();
        assert!(pause.next() <= Duration::from_millis(100));
    }
}
