//! Which peers there are, what comes from them, and in which order.
//!
//! Frames come from the port, connects and disconnects from the node server: two actors, whose messages may overtake
//! each other. The hub holds frames back until their peer is connected and drops them after it is not.

use super::config::LinkLimits;
use super::guard::{Gate, Guard};
use super::handshake::{HandshakeError, SessionToken};
use super::port::{self, Inbox};
use crate::trust::NodeName;
use crate::wire::Wire;
use ractor::{ActorCell, BytesConvertable};
use ractor_cluster::node::NodeServerSessionInformation;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};

/// One connection of one peer, numbered from 1 in this process: a peer that reconnects gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happens on a link. For each peer: `Connected`, then its frames in the order of sending, then `Disconnected`.
#[derive(Debug)]
pub enum LinkEvent<In> {
    /// A peer is there and can be sent to.
    Connected {
        /// Names this connection.
        peer: PeerId,
        /// Who it is; verified.
        node_name: NodeName,
    },
    /// A message of a connected peer.
    Frame {
        /// Which one.
        peer: PeerId,
        /// What it said.
        message: In,
    },
    /// The peer is gone; frames of it that were on their way may be lost, and none comes after this.
    Disconnected {
        /// Which one.
        peer: PeerId,
    },
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No such peer (any more).
    #[error("peer {0} is not connected")]
    NotConnected(PeerId),
    /// Larger than a message may be; the link is as it was.
    #[error("a message of {bytes} bytes is larger than the link's limit of {max} bytes")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// `message_bytes_max`.
        max: usize,
    },
    /// The peer takes messages more slowly than they come.
    #[error("{queued_bytes} bytes wait for peer {peer} already")]
    QueueFull {
        /// Which one.
        peer: PeerId,
        /// What waits.
        queued_bytes: usize,
    },
    /// The message has no encoded form; a defect.
    #[error("a message can't be encoded")]
    Unencodable,
}

/// Counters since the link's start, and what is there now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Connected peers.
    pub peers: usize,
    /// Bytes of messages that are queued for all peers and not yet written.
    pub outbound_bytes: usize,
    /// Messages sent.
    pub frames_sent: u64,
    /// Messages received.
    pub frames_received: u64,
    /// Bytes of messages sent, before TLS and framing.
    pub bytes_sent: u64,
    /// Bytes of messages received, likewise.
    pub bytes_received: u64,
    /// Messages that were refused because too much waits for their peer.
    pub frames_refused: u64,
    /// Messages that did not decode.
    pub frames_undecodable: u64,
    /// Messages without a live session.
    pub frames_stale: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Handshakes that were pushed out by newer ones.
    pub handshakes_evicted: u64,
    /// Sessions that were closed for announcing another name than their certificate's.
    pub impostors: u64,
}

#[derive(Default)]
struct Counters {
    frames_sent: AtomicU64,
    frames_received: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    frames_refused: AtomicU64,
    frames_undecodable: AtomicU64,
    frames_stale: AtomicU64,
    handshakes_failed: AtomicU64,
    handshakes_evicted: AtomicU64,
    impostors: AtomicU64,
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// An event on its way to the owner, with what it holds of the peer's inbound budget.
type Queued<In> = (LinkEvent<In>, Option<(Arc<Gate>, usize)>);

struct Session<In> {
    name: NodeName,
    token: SessionToken,
    gate: Arc<Gate>,
    /// The remote port; none until the peer is connected.
    port: Option<ActorCell>,
    authenticated: bool,
    held: Vec<(In, usize)>,
}

struct State<In> {
    sessions: HashMap<PeerId, Session<In>>,
    by_token: HashMap<SessionToken, PeerId>,
    last_id: u64,
    /// None once the link has stopped.
    events: Option<mpsc::UnboundedSender<Queued<In>>>,
}

/// A session in the hub, before and while its stream is with the node server.
pub(super) struct Admission<In, Out>
where
    In: Serialize + DeserializeOwned + Send + 'static,
    Out: Serialize + DeserializeOwned + Send + 'static,
{
    hub: Arc<Hub<In, Out>>,
    pub(super) peer: PeerId,
    gate: Arc<Gate>,
}

impl<In, Out> Admission<In, Out>
where
    In: Serialize + DeserializeOwned + Send + 'static,
    Out: Serialize + DeserializeOwned + Send + 'static,
{
    /// The guarded stream, whose label names the session in the node server's events.
    pub(super) fn guard<S>(self, stream: S) -> Guard<S> {
        let (gate, limits) = (self.gate.clone(), self.hub.limits.clone());
        Guard { stream, label: format!("link-{}", self.peer), gate, limits, admission: Box::new(self) }
    }
}

impl<In, Out> Drop for Admission<In, Out>
where
    In: Serialize + DeserializeOwned + Send + 'static,
    Out: Serialize + DeserializeOwned + Send + 'static,
{
    fn drop(&mut self) {
        self.hub.stream_ended(self.peer);
    }
}

/// The sessions of one end of the link, which receives `In` and sends `Out`.
pub(super) struct Hub<In, Out> {
    state: Mutex<State<In>>,
    limits: LinkLimits,
    counters: Counters,
    changed: Notify,
    sends: PhantomData<fn(Out)>,
}

/// The owner's end of a hub.
pub(super) type Events<In> = tokio::sync::Mutex<mpsc::UnboundedReceiver<Queued<In>>>;

impl<In, Out> Hub<In, Out>
where
    In: Serialize + DeserializeOwned + Send + 'static,
    Out: Serialize + DeserializeOwned + Send + 'static,
{
    pub(super) fn new(limits: LinkLimits) -> (Arc<Self>, Events<In>) {
        // Unbounded in number, bounded in bytes: a session whose messages are not taken is not read.
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = State { sessions: HashMap::new(), by_token: HashMap::new(), last_id: 0, events: Some(sender) };
        let hub = Self {
            state: Mutex::new(state),
            limits,
            counters: Counters::default(),
            changed: Notify::new(),
            sends: PhantomData,
        };
        (Arc::new(hub), tokio::sync::Mutex::new(receiver))
    }

    fn lock(&self) -> MutexGuard<'_, State<In>> {
        // A panic under this lock leaves the maps as they are between two statements: good enough to go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a session that has passed its handshake and is about to be handed to the node server.
    pub(super) fn admit(
        self: &Arc<Self>,
        name: &NodeName,
        token: SessionToken,
    ) -> Result<Admission<In, Out>, HandshakeError> {
        let mut state = self.lock();
        if state.sessions.values().any(|session| session.name == *name) {
            return Err(HandshakeError::Duplicate(name.clone()));
        }
        if state.events.is_none() || state.sessions.len() >= self.limits.peers_max {
            return Err(HandshakeError::Full(state.sessions.len()));
        }
        state.last_id += 1;
        let peer = PeerId(state.last_id);
        let gate = Arc::new(Gate::new(&self.limits));
        let session = Session {
            name: name.clone(),
            token,
            gate: gate.clone(),
            port: None,
            authenticated: false,
            held: Vec::new(),
        };
        state.sessions.insert(peer, session);
        state.by_token.insert(token, peer);
        Ok(Admission { hub: self.clone(), peer, gate })
    }

    fn peer_of(session: &NodeServerSessionInformation) -> Option<PeerId> {
        session.peer_addr.strip_prefix("link-")?.parse().ok().map(PeerId)
    }

    /// The node server has authenticated a session: it must be one of ours and have announced its certified name.
    pub(super) fn authenticated(&self, event: &NodeServerSessionInformation) {
        let mut state = self.lock();
        let Some(peer) = Self::peer_of(event) else {
            // Not handed over by the link. Its frames have no token, but it has no business here either.
            bump(&self.counters.impostors);
            tracing::warn!(peer_addr = %event.peer_addr, "closed a session that came by another way than the link");
            event.actor.stop(Some("not a link".to_owned()));
            return;
        };
        let Some(session) = state.sessions.get_mut(&peer) else {
            // Its stream has ended in the meantime.
            event.actor.stop(Some("the stream is gone".to_owned()));
            return;
        };
        let announced = event.peer_name.as_ref().map_or("", |name| name.name.as_str());
        if announced != super::node::cluster_name(&session.name) {
            bump(&self.counters.impostors);
            tracing::warn!(node_name = %session.name, announced, "closed a session that announced another name");
            session.gate.close("the peer announced another name than its certificate's");
            event.actor.stop(Some("wrong name".to_owned()));
            return;
        }
        session.authenticated = true;
        session.gate.authenticate();
    }

    /// Both ends of a session know each other's port.
    pub(super) fn ready(&self, event: &NodeServerSessionInformation) {
        let mut state = self.lock();
        let State { sessions, events, .. } = &mut *state;
        let Some(peer) = Self::peer_of(event) else { return };
        let Some(session) = sessions.get_mut(&peer).filter(|session| session.authenticated && session.port.is_none())
        else {
            return;
        };
        let Some(port) = port::remote_port(event.node_id) else {
            session.gate.close("the peer has no port");
            return;
        };
        session.port = Some(port);
        tracing::info!(peer = peer.0, node_name = %session.name, "link is up");
        if let Some(events) = events {
            let _ = events.send((LinkEvent::Connected { peer, node_name: session.name.clone() }, None));
            for (message, bytes) in session.held.drain(..) {
                let _ = events.send((LinkEvent::Frame { peer, message }, Some((session.gate.clone(), bytes))));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The node server has lost a session.
    pub(super) fn disconnected(&self, event: &NodeServerSessionInformation) {
        if let Some(peer) = Self::peer_of(event) {
            self.remove(peer, |_| true);
        }
    }

    /// A stream is gone. The node server says so too, except for a session that it never opened.
    fn stream_ended(&self, peer: PeerId) {
        self.remove(peer, |session| !session.authenticated);
    }

    fn remove(&self, peer: PeerId, if_so: impl FnOnce(&Session<In>) -> bool) {
        let mut state = self.lock();
        if !state.sessions.get(&peer).is_some_and(if_so) {
            return;
        }
        let Some(session) = state.sessions.remove(&peer) else { return };
        state.by_token.remove(&session.token);
        session.gate.close("the session has ended");
        if session.port.is_some() {
            let reason = session.gate.reason().unwrap_or("the peer closed it");
            tracing::info!(peer = peer.0, node_name = %session.name, reason, "link is down");
            if let Some(events) = &state.events {
                let _ = events.send((LinkEvent::Disconnected { peer }, None));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until there is no session of this name.
    pub(super) async fn gone(&self, name: &NodeName) {
        self.until(|state| state.sessions.values().all(|session| session.name != *name)).await;
    }

    /// Waits until this session has ended; says whether it was connected.
    pub(super) async fn ended(&self, peer: PeerId) -> bool {
        let mut connected = false;
        self.until(|state| match state.sessions.get(&peer) {
            Some(session) => {
                connected |= session.port.is_some();
                false
            }
            None => true,
        })
        .await;
        connected
    }

    async fn until(&self, mut done: impl FnMut(&State<In>) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if done(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Closes a session of this name, where there is one.
    pub(super) fn close_name(&self, name: &NodeName, reason: &'static str) {
        for session in self.lock().sessions.values().filter(|session| session.name == *name) {
            session.gate.close(reason);
        }
    }

    /// Closes a peer's link.
    pub(super) fn close(&self, peer: PeerId) {
        if let Some(session) = self.lock().sessions.get(&peer) {
            session.gate.close("closed by this node");
        }
    }

    /// Closes everything; `recv` gives what is left and then none.
    pub(super) fn stop(&self) {
        let peers: Vec<PeerId> = {
            let state = self.lock();
            state.sessions.values().for_each(|session| session.gate.close("this node stops its link"));
            state.sessions.keys().copied().collect()
        };
        peers.into_iter().for_each(|peer| self.remove(peer, |_| true));
        self.lock().events = None;
        self.changed.notify_waiters();
    }

    /// Encodes, checks and queues a message.
    pub(super) fn send(&self, peer: PeerId, message: Out) -> Result<(), SendError> {
        let payload = Wire::new(message).into_bytes();
        let bytes = payload.len();
        if bytes == 0 {
            return Err(SendError::Unencodable);
        }
        if bytes > self.limits.message_bytes_max {
            return Err(SendError::TooLarge { bytes, max: self.limits.message_bytes_max });
        }
        let state = self.lock();
        let found = state.sessions.get(&peer).and_then(|session| session.port.as_ref().map(|port| (session, port)));
        let Some((session, port)) = found else { return Err(SendError::NotConnected(peer)) };
        // Under the lock, so that the gate's sizes are in the order of the frames.
        if let Err(queued_bytes) = session.gate.add_outbound(bytes, self.limits.outbound_bytes_max) {
            bump(&self.counters.frames_refused);
            return Err(SendError::QueueFull { peer, queued_bytes });
        }
        if !port::send(port, session.token, payload) {
            return Err(SendError::NotConnected(peer));
        }
        bump(&self.counters.frames_sent);
        self.counters.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until everything sent to a peer is written to its socket; false if it is gone before.
    pub(super) async fn flush(&self, peer: PeerId) -> bool {
        let gate = self.lock().sessions.get(&peer).map(|session| session.gate.clone());
        match gate {
            Some(gate) => gate.flushed().await,
            None => false,
        }
    }

    pub(super) fn count_failed_handshake(&self) {
        bump(&self.counters.handshakes_failed);
    }

    pub(super) fn count_evicted_handshake(&self) {
        bump(&self.counters.handshakes_evicted);
    }

    pub(super) fn stats(&self) -> LinkStats {
        let state = self.lock();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkStats {
            peers: state.sessions.values().filter(|session| session.port.is_some()).count(),
            outbound_bytes: state.sessions.values().map(|session| session.gate.outbound_bytes()).sum(),
            frames_sent: read(&self.counters.frames_sent),
            frames_received: read(&self.counters.frames_received),
            bytes_sent: read(&self.counters.bytes_sent),
            bytes_received: read(&self.counters.bytes_received),
            frames_refused: read(&self.counters.frames_refused),
            frames_undecodable: read(&self.counters.frames_undecodable),
            frames_stale: read(&self.counters.frames_stale),
            handshakes_failed: read(&self.counters.handshakes_failed),
            handshakes_evicted: read(&self.counters.handshakes_evicted),
            impostors: read(&self.counters.impostors),
        }
    }
}

impl<In, Out> Inbox for Hub<In, Out>
where
    In: Serialize + DeserializeOwned + Send + 'static,
    Out: Serialize + DeserializeOwned + Send + 'static,
{
    fn frame(&self, token: SessionToken, payload: Vec<u8>) {
        let bytes = payload.len();
        let decoded = Wire::<In>::from_bytes(payload).0;
        let mut state = self.lock();
        let State { sessions, by_token, events, .. } = &mut *state;
        let found = by_token.get(&token).and_then(|&peer| sessions.get_mut(&peer).map(|session| (peer, session)));
        let Some((peer, session)) = found.filter(|(_, session)| session.authenticated) else {
            bump(&self.counters.frames_stale);
            return;
        };
        let message = match decoded {
            Ok(message) => message,
            Err(error) => {
                bump(&self.counters.frames_undecodable);
                tracing::warn!(node_name = %session.name, bytes, error, "dropped a message that does not decode");
                return;
            }
        };
        bump(&self.counters.frames_received);
        self.counters.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
        session.gate.add_inbound(bytes);
        match events {
            Some(events) if session.port.is_some() => {
                let _ = events.send((LinkEvent::Frame { peer, message }, Some((session.gate.clone(), bytes))));
            }
            _ => session.held.push((message, bytes)),
        }
    }

    fn malformed(&self) {
        bump(&self.counters.frames_undecodable);
        tracing::warn!("dropped something that is no message of the link");
    }
}

/// The next event, with its bytes given back to the peer's budget.
pub(super) async fn recv<In>(events: &Events<In>) -> Option<LinkEvent<In>> {
    let (event, held) = events.lock().await.recv().await?;
    if let Some((gate, bytes)) = held {
        gate.take_inbound(bytes);
    }
    Some(event)
}
