//! The master of a Quipu cluster: accepts jobs, shards them, leases the shards to workers.

pub mod http;
pub mod scheduler;
