//! The process's node server, shut in: nothing reaches it but the streams that the link hands to it.

use super::LinkError;
use super::config::LinkConfig;
use super::hub::Hub;
use super::port::{Inbox, Port, PortMessage};
use crate::trust::{NodeName, crypto_provider};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorRef};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{ClusterBidiStream, IncomingEncryptionMode, NodeEventSubscription, NodeServer, NodeServerMessage};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Serialize, de::DeserializeOwned};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;

/// ractor_cluster's own handshake is no protection (it can be reflected, and one cookie would forbid a rotation of the
/// secret), so its cookie is a constant: TLS and the preface have done the work before.
const COOKIE: &str = "quipu/v1/link";

/// How ractor_cluster calls a node. The name stands in the place of the host name too: that makes the connection
/// strings of two nodes differ, by which it detects connections to itself, even where their ports happen to be equal.
pub(super) fn cluster_name(name: &NodeName) -> String {
    format!("{name}@{name}")
}

/// Whether this process has a link.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The right to be the process's link.
struct Claim;

impl Claim {
    fn take() -> Result<Self, LinkError> {
        if RUNNING.swap(true, Ordering::AcqRel) { Err(LinkError::AlreadyRunning) } else { Ok(Self) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::Release);
    }
}

/// The running actors of a link.
pub(super) struct Node {
    server: ActorRef<NodeServerMessage>,
    port: ActorRef<PortMessage>,
    handles: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
    claim: Mutex<Option<Claim>>,
}

impl Node {
    pub(super) async fn start<In, Out>(config: &LinkConfig, hub: &Arc<Hub<In, Out>>) -> Result<Self, LinkError>
    where
        In: Serialize + DeserializeOwned + Send + 'static,
        Out: Serialize + DeserializeOwned + Send + 'static,
    {
        let claim = Claim::take()?;
        let fail = |what| move |error: ractor::SpawnErr| LinkError::Start { what, problem: error.to_string() };
        let inbox: Arc<dyn Inbox> = hub.clone();
        let (port, port_handle) = Actor::spawn(None, Port, inbox).await.map_err(fail("port"))?;
        let name = config.trust.name().to_string();
        let closed = IncomingEncryptionMode::Tls(refusing_acceptor()?);
        let node =
            NodeServer::new(0, COOKIE.to_owned(), name.clone(), name, Some(closed), Some(NodeConnectionMode::Isolated))
                .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
                .with_max_inbound_frame_size(config.limits.frame_bytes_max as u64);
        let (server, server_handle) = match Actor::spawn(None, node, ()).await {
            Ok(started) => started,
            Err(error) => {
                port.stop(None);
                return Err(fail("node server")(error));
            }
        };
        let node = Self {
            server,
            port,
            handles: Mutex::new(Some((server_handle, port_handle))),
            claim: Mutex::new(Some(claim)),
        };
        let subscription = Box::new(Subscription { hub: hub.clone() });
        node.server
            .cast(NodeServerMessage::SubscribeToEvents { id: "link".to_owned(), subscription })
            .map_err(|error| LinkError::Start { what: "node server", problem: error.to_string() })?;
        Ok(node)
    }

    /// Hands an accepted or dialed stream over; if the node server is gone, the stream is dropped, and so closed.
    pub(super) fn open(&self, stream: Box<dyn ClusterBidiStream>, is_server: bool) {
        let _ = self.server.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server });
    }

    /// Waits for the end of a node server that nobody stopped: a defect, after which the link is no more.
    pub(super) async fn failed(&self) {
        let _ = self.server.wait(None).await;
    }

    /// Stops both actors and waits for them.
    pub(super) async fn stop(&self) {
        self.server.stop(None);
        self.port.stop(None);
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((server, port)) = handles {
            let _ = server.await;
            let _ = port.await;
        }
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.stop(None);
        self.port.stop(None);
    }
}

struct Subscription<In, Out> {
    hub: Arc<Hub<In, Out>>,
}

impl<In, Out> NodeEventSubscription for Subscription<In, Out>
where
    In: Serialize + DeserializeOwned + Send + 'static,
    Out: Serialize + DeserializeOwned + Send + 'static,
{
    fn node_session_opened(&self, _session: NodeServerSessionInformation) {}

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.hub.disconnected(&session);
    }

    fn node_session_authenticated(&self, session: NodeServerSessionInformation) {
        self.hub.authenticated(&session);
    }

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.hub.ready(&session);
    }
}

/// An acceptor without a certificate: every handshake with the node server's own listener fails.
fn refusing_acceptor() -> Result<TlsAcceptor, LinkError> {
    #[derive(Debug)]
    struct NoCertificate;
    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }
    let config = ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| LinkError::Start { what: "node server", problem: error.to_string() })?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    Ok(TlsAcceptor::from(Arc::new(config)))
}
