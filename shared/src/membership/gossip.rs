//! The task that owns the gossip socket.
//!
//! It is supervised by whoever started it: [`GossipHandle::ended`] resolves when it is no more, be it through
//! [`Membership::leave`] or a panic, and a new start (with a later generation) replaces it. Whatever the network sends
//! is counted at most; it never ends the task.

use super::Now;
use super::driver::{DownReason, Driver, DriverStats, MemberCounts, MemberEvent, Timing};
use super::identity::{Identity, LABEL_BYTES_MAX, Member};
use super::seal::{DATAGRAM_BYTES_MAX, Sealer};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// How often names of seeds are resolved again, so that a seed may move.
const RESOLVE_PERIOD: Duration = Duration::from_secs(60);
/// How soon after a name could not be resolved.
const RESOLVE_RETRY: Duration = Duration::from_secs(2);
/// Datagrams taken at once before timers get their turn.
const BATCH_MAX: usize = 64;
/// Pause after the socket itself fails, so that a lasting failure does not spin.
const SOCKET_RETRY: Duration = Duration::from_millis(20);
/// How often the members are counted by state: each time would be a look at all of them for every datagram.
pub const MEMBERS_COUNTED_EVERY: Duration = Duration::from_secs(1);
/// Changes that a subscriber may be behind before it is cut off.
const EVENTS_MAX: usize = 4096;

/// What [`Gossip::start`] needs.
#[derive(Clone)]
pub struct GossipConfig {
    /// Address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Address that others reach this node at; needed where `bind` is `0.0.0.0` or `[::]`. Port 0 means the bound one.
    pub advertise: Option<SocketAddr>,
    /// `HOST:PORT` of nodes to join through; this node's own is skipped.
    pub seeds: Vec<String>,
    /// The first seals, all open.
    pub keys: Vec<[u8; 32]>,
    /// This node. An `rpc` or `http` on `0.0.0.0` is announced with the advertised IP.
    pub identity: Identity,
    /// Time between two probes.
    pub period_ms: u64,
    /// How long a suspect may answer before it is down.
    pub suspicion_ms: u64,
}

/// Why gossip could not start.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The bound address means "all", which nobody can send to.
    #[error("gossip is bound to {0}, which others can't send to; set gossip.advertise to an address that they reach")]
    AdvertiseMissing(SocketAddr),
    /// A seed is not `HOST:PORT`.
    #[error("seed {0:?} is not HOST:PORT, such as worker-1.example:7400 or 10.0.0.7:7400")]
    BadSeed(String),
    /// Without a key nothing can be sealed.
    #[error("gossip has no key; derive at least one from the cluster secret")]
    NoKey,
    /// A zone or version that is too long for an identity.
    #[error("{field} {value:?} of this node is longer than {LABEL_BYTES_MAX} bytes; shorten it")]
    LabelTooLong {
        /// `zone` or `version`.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// A period of zero, or one longer than the suspicion.
    #[error("gossip.period_ms {period_ms} must be between 10 and gossip.suspicion_ms {suspicion_ms}")]
    BadTiming {
        /// As given.
        period_ms: u64,
        /// As given.
        suspicion_ms: u64,
    },
    /// The socket could not be bound.
    #[error("bind gossip to udp {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system has no randomness.
    #[error("draw a random gossip session: {0}")]
    Random(getrandom::Error),
}

/// Changes, beginning with an [`MemberEvent::Up`] for everybody who is already there. Ends when gossip ends, and for a
/// receiver that lags by thousands of changes.
pub type MemberEvents = mpsc::Receiver<MemberEvent>;

/// Who is in the cluster, whatever finds it out.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// This node as others see it.
    fn me(&self) -> Member;
    /// Everybody else, by name.
    fn members(&self) -> Vec<Member>;
    /// Changes from now on.
    fn events(&self) -> MemberEvents;
    /// Says goodbye and stops.
    async fn leave(&self);
}

/// Counters of the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GossipStats {
    /// Of the protocol and the sealer.
    pub driver: DriverStats,
    /// The members by state, at most [`MEMBERS_COUNTED_EVERY`] old.
    pub members: MemberCounts,
    /// Datagrams sent.
    pub sent: u64,
    /// Bytes sent, without UDP's and IP's headers.
    pub sent_bytes: u64,
    /// Datagrams that the system did not take.
    pub send_errors: u64,
    /// Datagrams received, good and bad.
    pub received: u64,
    /// Times that receiving failed.
    pub receive_errors: u64,
}

/// Starts gossip.
pub struct Gossip;

impl Gossip {
    /// Binds the socket, spawns the task, and begins to join. Must be called within a tokio runtime.
    pub async fn start(config: GossipConfig) -> Result<GossipHandle, GossipError> {
        check(&config)?;
        let bind = |source| GossipError::Bind { address: config.bind, source };
        let socket = UdpSocket::bind(config.bind).await.map_err(bind)?;
        let local = socket.local_addr().map_err(bind)?;
        let mut gossip = config.advertise.unwrap_or(local);
        if gossip.port() == 0 {
            gossip.set_port(local.port());
        }
        if gossip.ip().is_unspecified() {
            return Err(GossipError::AdvertiseMissing(gossip));
        }
        let mut identity = config.identity.clone();
        for address in [&mut identity.rpc, &mut identity.http].into_iter().flatten() {
            if address.ip().is_unspecified() {
                address.set_ip(gossip.ip());
            }
        }

        let (mut session, mut seed) = ([0; 16], [0; 8]);
        getrandom::fill(&mut session).and_then(|()| getrandom::fill(&mut seed)).map_err(GossipError::Random)?;
        let clock = Clock(Instant::now());
        let me = Member { identity, gossip };
        let timing = Timing {
            period: Duration::from_millis(config.period_ms),
            suspicion: Duration::from_millis(config.suspicion_ms),
        };
        let sealer = Sealer::new(&config.keys, session);
        let driver = Driver::new(clock.now(), me.clone(), timing, sealer, u64::from_le_bytes(seed));

        let shared = Arc::new(Mutex::new(Shared {
            me,
            members: BTreeMap::new(),
            subscribers: Vec::new(),
            stats: GossipStats::default(),
        }));
        let (commands, orders) = mpsc::channel(1);
        let (alive, ended) = watch::channel(());
        let (found, seeds) = mpsc::channel(1);
        let mut resolver = JoinSet::new();
        if !config.seeds.is_empty() {
            resolver.spawn(resolve(config.seeds, local, found));
        }
        let handle = GossipHandle { local, shared: Arc::clone(&shared), commands, ended };
        let stats = GossipStats::default();
        let task = Task { socket, clock, driver, shared, stats, counted_at: None, seeds, orders };
        tokio::spawn(async move {
            task.run().await;
            resolver.abort_all();
            drop(alive);
        });
        Ok(handle)
    }
}

fn check(config: &GossipConfig) -> Result<(), GossipError> {
    if config.keys.is_empty() {
        return Err(GossipError::NoKey);
    }
    for (field, value) in [("zone", &config.identity.zone), ("version", &config.identity.version)] {
        if value.len() > LABEL_BYTES_MAX {
            return Err(GossipError::LabelTooLong { field, value: value.clone() });
        }
    }
    let (period_ms, suspicion_ms) = (config.period_ms, config.suspicion_ms);
    if !(10..=suspicion_ms).contains(&period_ms) {
        return Err(GossipError::BadTiming { period_ms, suspicion_ms });
    }
    match config.seeds.iter().find(|seed| !is_seed(seed)) {
        Some(bad) => Err(GossipError::BadSeed(bad.clone())),
        None => Ok(()),
    }
}

/// Whether a text is `HOST:PORT`.
pub fn is_seed(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    matches!(port, Some(Ok(1..)))
}

/// A running gossip task. Clones share it; when the last one is dropped the task ends without a goodbye.
#[derive(Clone)]
pub struct GossipHandle {
    local: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    commands: mpsc::Sender<Leave>,
    ended: watch::Receiver<()>,
}

/// The one command: say goodbye and stop.
struct Leave;

impl GossipHandle {
    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The counters so far.
    pub fn stats(&self) -> GossipStats {
        lock(&self.shared).stats
    }

    /// Resolves when the task has ended, for whatever reason.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

#[async_trait]
impl Membership for GossipHandle {
    fn me(&self) -> Member {
        lock(&self.shared).me.clone()
    }

    fn members(&self) -> Vec<Member> {
        lock(&self.shared).members.values().cloned().collect()
    }

    fn events(&self) -> MemberEvents {
        let mut shared = lock(&self.shared);
        let (sender, receiver) = mpsc::channel(EVENTS_MAX + shared.members.len());
        for member in shared.members.values() {
            // There is room: the channel was made for them.
            let _ = sender.try_send(MemberEvent::Up(member.clone()));
        }
        // After the end nobody would ever drop the sender, and the receiver would wait for good.
        if !self.commands.is_closed() {
            shared.subscribers.push(sender);
        }
        receiver
    }

    async fn leave(&self) {
        // An error means that the task has ended already.
        let _ = self.commands.send(Leave).await;
        self.ended().await;
    }
}

struct Shared {
    me: Member,
    members: BTreeMap<crate::ids::NodeId, Member>,
    subscribers: Vec<mpsc::Sender<MemberEvent>>,
    stats: GossipStats,
}

impl Shared {
    fn record(&mut self, event: MemberEvent) {
        match &event {
            MemberEvent::Up(member) | MemberEvent::NewGeneration { member, .. } => {
                self.members.insert(member.id().clone(), member.clone());
            }
            MemberEvent::Down(member, _) => {
                self.members.remove(member.id());
            }
            MemberEvent::ClockSkew { .. } => {}
        }
        self.subscribers.retain(|subscriber| match subscriber.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::error!(limit = EVENTS_MAX, "cut off a subscriber that does not read membership changes");
                false
            }
        });
    }
}

/// Nothing panics while it holds the lock, and what it guards is whole at any time.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.0.elapsed(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }
}

struct Task {
    socket: UdpSocket,
    clock: Clock,
    driver: Driver,
    shared: Arc<Mutex<Shared>>,
    stats: GossipStats,
    counted_at: Option<Instant>,
    seeds: mpsc::Receiver<Vec<SocketAddr>>,
    orders: mpsc::Receiver<Leave>,
}

impl Task {
    async fn run(mut self) {
        // One byte more than the largest, so that a larger one is seen as such.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            let wake = self.clock.0 + self.driver.next_timeout();
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    if let Some(Leave) = order {
                        self.driver.leave(self.clock.now());
                        self.flush().await;
                    }
                    break;
                }
                received = self.socket.recv_from(&mut buffer) => self.receive(received, &mut buffer).await,
                Some(seeds) = self.seeds.recv() => self.driver.set_seeds(self.clock.now(), seeds),
                () = sleep_until(wake) => {}
            }
            self.driver.handle_timeout(self.clock.now());
            self.flush().await;
        }
    }

    async fn receive(&mut self, first: std::io::Result<(usize, SocketAddr)>, buffer: &mut [u8]) {
        let mut next = Some(first);
        for _ in 0..BATCH_MAX {
            match next.take().unwrap_or_else(|| self.socket.try_recv_from(buffer)) {
                Ok((len, from)) => {
                    self.stats.received += 1;
                    self.driver.handle_datagram(self.clock.now(), from, &mut buffer[..len]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.stats.receive_errors += 1;
                    // An earlier datagram of ours was not taken: says nothing about this socket.
                    let refused = std::io::ErrorKind::ConnectionRefused;
                    if error.kind() != refused && error.kind() != std::io::ErrorKind::ConnectionReset {
                        tracing::debug!(%error, "receive gossip");
                        sleep(SOCKET_RETRY).await;
                        break;
                    }
                }
            }
        }
    }

    async fn flush(&mut self) {
        while let Some((to, datagram)) = self.driver.poll_datagram() {
            match self.socket.send_to(&datagram, to).await {
                Ok(bytes) => {
                    self.stats.sent += 1;
                    self.stats.sent_bytes += bytes as u64;
                }
                Err(_) => self.stats.send_errors += 1,
            }
        }
        if self.counted_at.is_none_or(|at| at.elapsed() >= MEMBERS_COUNTED_EVERY) {
            self.counted_at = Some(Instant::now());
            self.stats.members = self.driver.member_counts();
        }
        let mut shared = lock(&self.shared);
        while let Some(event) = self.driver.poll_event() {
            log(&event);
            shared.record(event);
        }
        if shared.me != *self.driver.me() {
            shared.me = self.driver.me().clone();
        }
        shared.stats = GossipStats { driver: self.driver.stats(), ..self.stats };
    }
}

impl Drop for Task {
    /// Ends the subscribers' streams, after a panic too; who does not listen knows nobody.
    fn drop(&mut self) {
        self.orders.close();
        let mut shared = lock(&self.shared);
        shared.subscribers.clear();
        shared.members.clear();
    }
}

fn log(event: &MemberEvent) {
    match event {
        MemberEvent::Up(member) => {
            tracing::info!(node_id = %member.id(), role = %member.identity.role, gossip = %member.gossip, "member up");
        }
        MemberEvent::Down(member, DownReason::Left) => tracing::info!(node_id = %member.id(), "member left"),
        MemberEvent::Down(member, DownReason::Failed) => tracing::warn!(node_id = %member.id(), "member down"),
        MemberEvent::NewGeneration { member, .. } => {
            tracing::info!(node_id = %member.id(), generation = %member.identity.generation, "member restarted");
        }
        MemberEvent::ClockSkew { node, from, skew_ms } => {
            let node_id = node.as_ref().map_or("unknown", crate::ids::NodeId::as_str);
            tracing::warn!(node_id, %from, skew_ms, "clock differs by more than a minute; set both by ntp");
        }
    }
}

/// Resolves the seeds again and again, apart from the socket's task, which a slow name server must not stop.
async fn resolve(seeds: Vec<String>, local: SocketAddr, found: mpsc::Sender<Vec<SocketAddr>>) {
    let mut failed_before = false;
    loop {
        let mut addresses = Vec::new();
        let mut failed = false;
        for seed in &seeds {
            match tokio::net::lookup_host(seed).await {
                // A socket of one family can't send to the other.
                Ok(resolved) => addresses.extend(resolved.filter(|address| address.is_ipv4() == local.is_ipv4())),
                Err(error) => {
                    if !failed_before {
                        tracing::warn!(%seed, %error, "resolve gossip seed");
                    }
                    failed = true;
                }
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        if found.send(addresses).await.is_err() {
            return;
        }
        failed_before = failed;
        sleep(if failed { RESOLVE_RETRY } else { RESOLVE_PERIOD }).await;
    }
}

#[cfg(test)]
#[path = "gossip_tests.rs"]
mod tests;
