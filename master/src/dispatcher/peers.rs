//! The workers that are connected, and what each of them knows.

use quipu_shared::ids::{JobId, NodeId, WorkerId};
use quipu_shared::wire::{Hello, WorkerCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A connection to a worker, as the dispatcher uses it.
pub trait WorkerLink: Send + Sync + 'static {
    /// Sends a command. Never blocks; what can't be sent is lost with the connection, and the leases see to it.
    fn send(&self, command: WorkerCommand);
    /// Closes the connection; its end is reported like any other.
    fn close(&self);
}

/// A connected worker.
pub struct Peer {
    /// The connection.
    pub link: Arc<dyn WorkerLink>,
    /// Who it is, once it has said so and was welcomed.
    pub hello: Option<Hello>,
    /// Jobs that were announced on this connection.
    pub opened: BTreeSet<JobId>,
    /// Whether it leaves.
    pub draining: bool,
}

/// Every connection.
#[derive(Default)]
pub struct Peers {
    by_id: BTreeMap<WorkerId, Peer>,
}

impl Peers {
    /// Adds a connection under an id that was never used before.
    pub fn connect(&mut self, worker: WorkerId, link: Arc<dyn WorkerLink>) {
        self.by_id.insert(worker, Peer { link, hello: None, opened: BTreeSet::new(), draining: false });
    }

    /// Removes a connection.
    pub fn disconnect(&mut self, worker: WorkerId) -> Option<Peer> {
        self.by_id.remove(&worker)
    }

    /// A connection.
    pub fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Peer> {
        self.by_id.get_mut(&worker)
    }

    /// The welcomed connection of a node.
    pub fn of_node(&self, node: &NodeId) -> Option<WorkerId> {
        self.welcomed().find(|(_, hello)| hello.node_id == *node).map(|(worker, _)| worker)
    }

    /// Every welcomed worker.
    pub fn welcomed(&self) -> impl Iterator<Item = (WorkerId, &Hello)> {
        self.by_id.iter().filter_map(|(worker, peer)| Some((*worker, peer.hello.as_ref()?)))
    }

    /// Every connection's id.
    pub fn ids(&self) -> Vec<WorkerId> {
        self.by_id.keys().copied().collect()
    }

    /// Sends to a worker, if it is connected.
    pub fn send(&self, worker: WorkerId, command: WorkerCommand) {
        if let Some(peer) = self.by_id.get(&worker) {
            peer.link.send(command);
        }
    }

    /// Executors of all welcomed workers.
    pub fn slots(&self) -> u64 {
        self.welcomed().map(|(_, hello)| u64::from(hello.slots)).sum()
    }
}
