//! Cluster membership by gossip.
