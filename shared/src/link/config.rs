//! What a link is started with.

use super::LinkError;
use crate::trust::NodeTrust;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A node's part of every link.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Certificates, authorities and the proof of the secret.
    pub trust: Arc<NodeTrust>,
    /// Bounds; the defaults fit.
    pub limits: LinkLimits,
    /// IP that dialled connections go out from; the system chooses where it is not given.
    pub local: Option<IpAddr>,
}

impl LinkConfig {
    /// With the default limits.
    pub fn new(trust: Arc<NodeTrust>) -> Self {
        Self { trust, limits: LinkLimits::default(), local: None }
    }
}

/// Bounds of a link. All sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// For TLS and the preface together. Three round trips: more than this is not a peer.
    pub handshake_timeout: Duration,
    /// Connections in their handshake at once; one more pushes out the oldest, so that silent clients do not keep
    /// others out.
    pub handshakes_max: usize,
    /// Peers at once; one more is closed.
    pub peers_max: usize,
    /// Read from a peer before ractor_cluster has authenticated it: its handshake takes about 400 bytes, the rest is
    /// what a peer sends right behind it.
    pub preauth_bytes_max: usize,
    /// From the hand-over to ractor_cluster until it has authenticated the peer.
    pub preauth_timeout: Duration,
    /// Without a byte from the peer for this long, the link is closed. Peers ping every 1 to 5 s.
    pub idle_timeout: Duration,
    /// With bytes to write and none taken for this long, the link is closed.
    pub write_stall_timeout: Duration,
    /// Largest inbound frame; a larger one closes the link.
    pub frame_bytes_max: usize,
    /// Largest encoded message; a larger one is refused by `send` and harms nothing else. Well under a frame.
    pub message_bytes_max: usize,
    /// Messages to one peer that are not yet written to its socket; beyond it `send` is refused. ractor_cluster's own
    /// queue is unbounded.
    pub outbound_bytes_max: usize,
    /// Messages of one peer that `recv` has not yet taken; beyond it the socket is not read.
    pub inbound_bytes_max: usize,
    /// Shortest pause between two dials of one address.
    pub redial_pause_min: Duration,
    /// Longest pause between two dials of one address.
    pub redial_pause_max: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(3),
            handshakes_max: 128,
            peers_max: 2048,
            preauth_bytes_max: 16 * 1024,
            preauth_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(12),
            write_stall_timeout: Duration::from_secs(12),
            frame_bytes_max: 16 * 1024 * 1024,
            message_bytes_max: 8 * 1024 * 1024,
            outbound_bytes_max: 64 * 1024 * 1024,
            inbound_bytes_max: 64 * 1024 * 1024,
            redial_pause_min: Duration::from_millis(100),
            redial_pause_max: Duration::from_secs(5),
        }
    }
}

/// What ractor_cluster adds to a message in a frame: far less than this.
const FRAME_OVERHEAD_MAX: usize = 1024;

impl LinkLimits {
    pub(super) fn check(&self) -> Result<(), LinkError> {
        let refuse = |key, problem: &str| Err(LinkError::Limit { key, problem: problem.to_owned() });
        if self.message_bytes_max + FRAME_OVERHEAD_MAX > self.frame_bytes_max {
            return refuse("message_bytes_max", "a message must fit into a frame of frame_bytes_max");
        }
        if self.outbound_bytes_max < self.message_bytes_max || self.inbound_bytes_max < self.message_bytes_max {
            return refuse("message_bytes_max", "it is larger than outbound_bytes_max or inbound_bytes_max");
        }
        if self.handshakes_max == 0 || self.peers_max == 0 {
            return refuse("peers_max", "it and handshakes_max must be at least 1");
        }
        if self.redial_pause_min.is_zero() || self.redial_pause_min > self.redial_pause_max {
            return refuse("redial_pause_min", "it must be above 0 and not above redial_pause_max");
        }
        Ok(())
    }
}
