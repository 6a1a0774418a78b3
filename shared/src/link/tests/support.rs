//! A master with its cluster, and worker processes.

use crate::ids::{AttemptId, Epoch, JobId, NodeId, Role, ShardId};
use crate::link::{LinkConfig, LinkError, LinkEvent, LinkLimits, MasterLink, PeerId, WorkerLink};
use crate::trust::{ClusterSecret, NodeName, NodeTrust, Pki, node_name};
use crate::wire::{Lease, WorkerCommand, WorkerEvent};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, MutexGuard, watch};
use uuid::Uuid;

/// The whole path of the test that is the worker process's main.
const CHILD_TEST: &str = "link::tests::sessions::limits_that_make_no_sense_are_refused";
const CLUSTER_ID: &str = "link-tests";
/// Ten times what anything here takes on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Tests that hold the process's link take turns (where they share a process at all).
static TURN: Mutex<()> = Mutex::const_new(());

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {DEADLINE:?}"),
    }
}

/// Waits until a condition holds that nothing notifies about.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    within(what, async {
        while !holds() {
            looks.tick().await;
        }
    })
    .await;
}

pub(super) fn lease(attempt: u64) -> Lease {
    Lease { epoch: Epoch(1), job: JobId(1), shard: ShardId(1), attempt: AttemptId(attempt) }
}

/// Asks a worker process to answer with `ShardAccepted`.
pub(super) fn ping(attempt: u64) -> WorkerCommand {
    WorkerCommand::AcknowledgeShard { lease: lease(attempt) }
}

/// A command of about this size, which a worker process ignores.
pub(super) fn bulk(bytes: usize) -> WorkerCommand {
    WorkerCommand::DeliverInput { lease: lease(0), offset: 0, bytes: Bytes::from(vec![7; bytes]) }
}

pub(super) fn trust_of(secret: &ClusterSecret, name: NodeName) -> Arc<NodeTrust> {
    Arc::new(NodeTrust::new(secret, CLUSTER_ID, name, &Pki::Derived, SystemTime::now()).unwrap())
}

pub(super) struct Cluster {
    pub(super) secret: ClusterSecret,
    pub(super) master: MasterLink,
    pub(super) name: NodeName,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    pub(super) async fn start(limits: LinkLimits) -> Self {
        Self::start_at("127.0.0.1:0", limits).await
    }

    pub(super) async fn start_at(bind: &str, limits: LinkLimits) -> Self {
        let turn = TURN.lock().await;
        // Where tests share a process, the last one's link may still be on its way out.
        until("the end of the last link", || {
            let pids = ractor::registry::pid_registry::get_all_pids();
            !pids.iter().any(|cell| cell.get_id().is_local() && cell.supports_remoting())
        })
        .await;
        let secret = ClusterSecret::generate().unwrap();
        let name = node_name(Role::Master, &NodeId::random(Role::Master), Uuid::new_v4());
        let config = LinkConfig { limits, ..LinkConfig::new(trust_of(&secret, name.clone())) };
        let master = within("the start", async {
            loop {
                match MasterLink::start(bind.parse().unwrap(), config.clone()).await {
                    Err(LinkError::AlreadyRunning) => tokio::task::yield_now().await,
                    started => break started.unwrap(),
                }
            }
        })
        .await;
        Self { secret, master, name, _turn: turn }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.master.local_addr()
    }

    /// An identity of a worker of this cluster, for attackers that have one.
    pub(super) fn worker_trust(&self) -> Arc<NodeTrust> {
        trust_of(&self.secret, node_name(Role::Worker, &NodeId::random(Role::Worker), Uuid::new_v4()))
    }

    pub(super) async fn event(&self) -> LinkEvent<WorkerEvent> {
        within("the next event", self.master.recv()).await.expect("the link runs")
    }

    pub(super) async fn connected(&self) -> (PeerId, NodeName) {
        match self.event().await {
            LinkEvent::Connected { peer, node_name } => (peer, node_name),
            other => panic!("expected a connect, got {other:?}"),
        }
    }

    pub(super) async fn disconnected(&self, expected: PeerId) {
        match self.event().await {
            LinkEvent::Disconnected { peer } if peer == expected => {}
            other => panic!("expected the disconnect of {expected}, got {other:?}"),
        }
    }

    pub(super) async fn accepted(&self, from: PeerId, attempt: u64) {
        match self.event().await {
            LinkEvent::Frame { peer, message: WorkerEvent::ShardAccepted(got) } => {
                assert_eq!((peer, got), (from, lease(attempt)));
            }
            other => panic!("expected answer {attempt} of {from}, got {other:?}"),
        }
    }

    /// One message there and one back.
    pub(super) async fn round_trip(&self, peer: PeerId, attempt: u64) {
        self.master.send(peer, ping(attempt)).unwrap();
        self.accepted(peer, attempt).await;
    }

    /// A well-behaved worker gets in and is heard: what every attack must leave as it was.
    pub(super) async fn still_serves(&self) {
        let _worker = WorkerProcess::start(self, "bystander", Uuid::new_v4());
        let (peer, _) = self.connected().await;
        self.round_trip(peer, 1).await;
    }
}

/// A worker in a process of its own, killed when dropped.
pub(super) struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    pub(super) fn start(cluster: &Cluster, id: &str, boot_id: Uuid) -> Self {
        Self::start_with(cluster, id, boot_id, &[cluster.address()])
    }

    pub(super) fn start_with(cluster: &Cluster, id: &str, boot_id: Uuid, masters: &[SocketAddr]) -> Self {
        let masters: Vec<String> = masters.iter().map(SocketAddr::to_string).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD_TEST, "--nocapture"])
            .env("LINK_TEST_SECRET", &*cluster.secret.to_line())
            .env("LINK_TEST_ID", id)
            .env("LINK_TEST_BOOT", boot_id.to_string())
            .env("LINK_TEST_MASTERS", masters.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child }
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a worker if this process was started as one; it ends with its parent, whose end of stdin then closes.
pub(super) fn ran_as_worker() -> bool {
    let Ok(secret) = std::env::var("LINK_TEST_SECRET") else { return false };
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let secret = ClusterSecret::parse(secret.as_bytes(), "environment".as_ref()).unwrap();
    let id = NodeId::try_from(std::env::var("LINK_TEST_ID").unwrap()).unwrap();
    let boot_id = std::env::var("LINK_TEST_BOOT").unwrap().parse().unwrap();
    let masters: BTreeSet<SocketAddr> =
        std::env::var("LINK_TEST_MASTERS").unwrap().split(',').map(|address| address.parse().unwrap()).collect();
    let trust = trust_of(&secret, node_name(Role::Worker, &id, boot_id));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(serve(trust, masters));
    true
}

/// Answers each acknowledgement with `ShardAccepted`, and `FetchOutput` with as many bytes as its offset says.
async fn serve(trust: Arc<NodeTrust>, masters: BTreeSet<SocketAddr>) {
    let limits = LinkLimits { idle_timeout: Duration::from_secs(6), ..LinkLimits::default() };
    let (_keep, masters) = watch::channel(masters);
    let link = WorkerLink::start(LinkConfig { limits, ..LinkConfig::new(trust) }, masters).await.unwrap();
    while let Some(event) = link.recv().await {
        let LinkEvent::Frame { peer, message } = event else { continue };
        // A send fails where the link has just closed: the master sees the same.
        let _ = match message {
            WorkerCommand::AcknowledgeShard { lease } => link.send(peer, WorkerEvent::ShardAccepted(lease)),
            WorkerCommand::FetchOutput { lease, offset } => {
                let bytes = Bytes::from(vec![8; offset as usize]);
                link.send(peer, WorkerEvent::OutputDelivered { lease, offset, bytes })
            }
            WorkerCommand::CancelAttempt { .. } => {
                link.close(peer);
                Ok(())
            }
            _ => Ok(()),
        };
    }
}
