//! Cluster membership by gossip: who is there, and a hint of who is not.
//!
//! Bottom up: [`seal`] turns messages into datagrams that only holders of the cluster's key can make or read;
//! [`identity`] is what a node says of itself; [`driver`] is SWIM (the crate foca) without socket and clock;
//! [`gossip`] is the task that owns the socket. Leases decide what happens to work; gossip only finds nodes and hints.

pub mod driver;
pub mod gossip;
pub mod identity;
pub mod seal;

#[cfg(test)]
mod simulation;

pub use driver::{DownReason, DriverStats, MemberCounts, MemberEvent};
pub use gossip::{Gossip, GossipConfig, GossipError, GossipHandle, GossipStats, MemberEvents, Membership, is_seed};
pub use identity::{Identity, Member};

use std::time::Duration;

/// The time, as the caller of pure code passes it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time since any fixed origin.
    pub mono: Duration,
    /// Wall clock, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}
