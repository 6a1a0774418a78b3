//! What a node says of itself, and how gossip tells its incarnations apart.

use crate::ids::{Generation, NodeId, Role};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use uuid::Uuid;

/// Longest zone and version, in bytes: identities travel by the dozen in one message.
pub const LABEL_BYTES_MAX: usize = 64;

/// The static facts of a node. What changes every second (load, rates, draining) travels on the link instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name, unique in the cluster.
    pub node_id: NodeId,
    /// Must rise on every start under the same name.
    pub generation: Generation,
    /// What it does.
    pub role: Role,
    /// Where masters listen for workers' links.
    pub rpc: Option<SocketAddr>,
    /// Where masters serve clients.
    pub http: Option<SocketAddr>,
    /// Executors; 0 for a master.
    pub slots: u32,
    /// Where it stands, for people and placement; at most [`LABEL_BYTES_MAX`] bytes.
    pub zone: String,
    /// Version of the product; at most [`LABEL_BYTES_MAX`] bytes.
    pub version: String,
    /// Names this start of the process.
    pub boot_id: Uuid,
}

/// A node as gossip sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it says of itself.
    pub identity: Identity,
    /// Where its gossip is reached.
    pub gossip: SocketAddr,
}

impl Member {
    /// Its name.
    pub fn id(&self) -> &NodeId {
        &self.identity.node_id
    }

    /// Whether both are the same start of the same process.
    pub fn is_same_incarnation(&self, other: &Self) -> bool {
        self.identity.boot_id == other.identity.boot_id && self.identity.generation == other.identity.generation
    }
}

/// A member as it stands in foca's list. Its gossip address is the key; of two with one address the later one wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    pub(super) member: Member,
    /// Counts how often this start was wrongly declared down and came back: "down" can't be taken back for an identity.
    pub(super) renewal: u32,
    /// Says goodbye, so that others can tell a leave from a failure.
    pub(super) leaving: bool,
}

impl Peer {
    pub(super) fn new(member: Member) -> Self {
        Self { member, renewal: 0, leaving: false }
    }

    /// Orders the identities that one name or address has had; the highest is the current one.
    pub(super) fn age(&self) -> (Generation, u32, Uuid) {
        (self.member.identity.generation, self.renewal, self.member.identity.boot_id)
    }
}

impl foca::Identity for Peer {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        let renewal = self.renewal.checked_add(1)?;
        // One that leaves has no reason to come back.
        (!self.leaving).then(|| Self { renewal, ..self.clone() })
    }

    fn addr(&self) -> SocketAddr {
        self.member.gossip
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.age() > adversary.age()
    }
}
