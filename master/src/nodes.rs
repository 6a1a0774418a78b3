//! What clients see of the cluster's nodes: gossip says who there is, the links say who works.

use quipu_shared::host::HostLoad;
use quipu_shared::ids::{NodeId, Role};
use quipu_shared::service::{BreakerState, NodeState, NodeView};
use quipu_shared::wire::Hello;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Weight of the newest shard in a worker's measured rate.
const RATE_WEIGHT: f64 = 0.2;
/// Nodes that are kept for people to look at; the oldest that are down go first.
const NODES_MAX: usize = 10_000;

/// What is told of a worker that has left as it was asked to.
pub const LEFT_NOTE: &str = "drained and left";

/// A node as gossip knows it.
#[derive(Clone, Debug)]
pub struct GossipNode {
    /// Its id.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Executors.
    pub slots: u32,
    /// Zone.
    pub zone: String,
    /// Version of the product.
    pub version: String,
    /// Address of its gossip.
    pub gossip: String,
}

/// The nodes by id.
#[derive(Debug, Default)]
pub struct NodeTable {
    nodes: Mutex<BTreeMap<NodeId, NodeView>>,
}

impl NodeTable {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, NodeView>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every node, by id.
    pub fn all(&self) -> Vec<NodeView> {
        self.lock().values().cloned().collect()
    }

    fn change(&self, id: &NodeId, change: impl FnOnce(&mut NodeView)) {
        let mut nodes = self.lock();
        if !nodes.contains_key(id) && nodes.len() >= NODES_MAX {
            let down = nodes.values().find(|node| node.state == NodeState::Down).map(|node| node.id.clone());
            match down {
                Some(down) => drop(nodes.remove(&down)),
                None => return,
            }
        }
        let node = nodes.entry(id.clone()).or_insert_with(|| NodeView {
            id: id.clone(),
            role: Role::Worker,
            state: NodeState::Known,
            slots: 0,
            leased: 0,
            zone: String::new(),
            version: String::new(),
            gossip: None,
            rows_per_s: 0.0,
            shards_done: 0,
            note: None,
            breaker: BreakerState::Closed,
            cpu_pressure: None,
            memory_pressure: None,
            memory_available_bytes: None,
        });
        change(node);
    }

    /// Gossip says that a node is there. Masters are up with that; workers once they are linked.
    pub fn gossiped(&self, seen: &GossipNode) {
        self.change(&seen.id, |node| {
            node.role = seen.role;
            node.slots = seen.slots;
            node.zone.clone_from(&seen.zone);
            node.version.clone_from(&seen.version);
            node.gossip = Some(seen.gossip.clone());
            if seen.role == Role::Master {
                node.state = NodeState::Up;
            } else if node.state == NodeState::Down {
                node.state = NodeState::Known;
            }
        });
    }

    /// Gossip says that a node is gone. A hint only: a worker whose link is open stays up.
    pub fn gossiped_down(&self, id: &NodeId) {
        self.change(id, |node| {
            if node.role == Role::Master || node.state == NodeState::Known {
                node.state = NodeState::Down;
            }
        });
    }

    /// A worker is in the schedule.
    pub fn joined(&self, hello: &Hello) {
        self.change(&hello.node_id, |node| {
            node.role = Role::Worker;
            node.state = NodeState::Up;
            node.slots = hello.slots;
            node.zone.clone_from(&hello.zone);
            node.version.clone_from(&hello.version);
            node.leased = 0;
            node.note = None;
            node.breaker = BreakerState::Closed;
        });
    }

    /// A worker's host does like this.
    pub fn host(&self, id: &NodeId, host: &HostLoad) {
        self.change(id, |node| {
            node.cpu_pressure = Some(host.cpu_pressure);
            node.memory_pressure = Some(host.memory_pressure);
            node.memory_available_bytes = host.memory_available_bytes;
        });
    }

    /// A worker is in quarantine, is tried, or works like any other.
    pub fn breaker(&self, id: &NodeId, state: BreakerState, open_ms: u64) {
        self.change(id, |node| {
            node.breaker = state;
            node.note = match state {
                BreakerState::Closed => None,
                BreakerState::Open => Some(format!("its attempts keep failing: it gets nothing for {open_ms} ms")),
                BreakerState::HalfOpen => Some("its attempts kept failing: it is tried with one shard".into()),
            };
        });
    }

    /// A worker speaks another version.
    pub fn refused(&self, hello: &Hello, reason: &str) {
        self.change(&hello.node_id, |node| {
            node.state = NodeState::Known;
            node.slots = hello.slots;
            node.zone.clone_from(&hello.zone);
            node.version.clone_from(&hello.version);
            node.note = Some(reason.to_owned());
        });
    }

    /// A worker takes nothing new.
    pub fn draining(&self, id: &NodeId) {
        self.change(id, |node| node.state = NodeState::Draining);
    }

    /// A worker's link is closed.
    pub fn lost(&self, id: &NodeId) {
        self.change(id, |node| {
            node.state = NodeState::Down;
            node.leased = 0;
            (node.cpu_pressure, node.memory_pressure, node.memory_available_bytes) = (None, None, None);
        });
    }

    /// A worker has drained, and its link is closed.
    pub fn left(&self, id: &NodeId) {
        self.lost(id);
        self.change(id, |node| node.note = Some(LEFT_NOTE.to_owned()));
    }

    /// A worker holds this many attempts now.
    pub fn leased(&self, id: &NodeId, leased: u32) {
        self.change(id, |node| node.leased = leased);
    }

    /// A worker has completed a shard.
    pub fn completed(&self, id: &NodeId, rows: u64, busy_us: u64) {
        self.change(id, |node| {
            node.shards_done += 1;
            let slots = f64::from(node.slots.max(1));
            let rate = rows as f64 / (busy_us.max(1) as f64 / 1e6) * slots;
            node.rows_per_s = match node.shards_done {
                1 => rate,
                _ => node.rows_per_s + RATE_WEIGHT * (rate - node.rows_per_s),
            };
        });
    }
}
