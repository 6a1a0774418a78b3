//! Proof that a peer holds the cluster's secret, bound to one TLS session.
//!
//! ractor_cluster's own cookie handshake can be reflected by a party without the cookie, and knows one cookie a
//! process, so that a secret could not be replaced node by node. So each end of a link sends one MAC for each of its
//! secrets over the session's exported key, its side and its name; one match is enough. A reflected proof has the
//! wrong side, a relayed one the wrong session.

use super::secret::{ClusterSecret, INFO_LINK_PROOF};
use std::fmt;
use zeroize::Zeroize;

/// Bytes of one proof.
pub const PROOF_BYTES: usize = 32;

/// Which end of the connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that accepted it.
    Server,
    /// The end that dialed.
    Client,
}

/// Makes and checks proofs.
#[derive(Clone)]
pub struct SecretProof {
    keys: Vec<[u8; 32]>,
}

impl fmt::Debug for SecretProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretProof({} keys)", self.keys.len())
    }
}

impl Drop for SecretProof {
    fn drop(&mut self) {
        self.keys.zeroize();
    }
}

impl SecretProof {
    /// For all secrets of a cluster.
    pub fn new(secret: &ClusterSecret, cluster_id: &str) -> Self {
        Self { keys: secret.derive_all(cluster_id, INFO_LINK_PROOF) }
    }

    /// One proof for each secret.
    pub fn make(&self, side: Side, channel: &[u8; 32], node_name: &str) -> Vec<[u8; PROOF_BYTES]> {
        self.keys.iter().map(|key| *mac(key, side, channel, node_name).as_bytes()).collect()
    }

    /// Whether one of the peer's proofs is good.
    pub fn check(&self, side: Side, channel: &[u8; 32], node_name: &str, proofs: &[[u8; PROOF_BYTES]]) -> bool {
        let mut good = false;
        for key in &self.keys {
            let expected = mac(key, side, channel, node_name);
            // Comparing BLAKE3 hashes takes constant time; no short cut around it.
            good |= proofs.iter().fold(false, |found, proof| found | (expected == blake3::Hash::from_bytes(*proof)));
        }
        good
    }
}

fn mac(key: &[u8; 32], side: Side, channel: &[u8; 32], node_name: &str) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(match side {
        Side::Server => b"S",
        Side::Client => b"C",
    });
    hasher.update(channel);
    hasher.update(node_name.as_bytes());
    hasher.finalize()
}
