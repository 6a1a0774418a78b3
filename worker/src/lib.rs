//! The worker of a Quipu cluster: executes shards.
//!
//! Reading order: [`core`] (the state machine), [`task`], [`executor`] (running a shard), [`agent`] (the actor around
//! the core), [`tree`] (supervision), [`node`] (a worker in a cluster).

pub mod agent;
pub mod core;
pub mod engine;
pub mod executor;
pub mod node;
pub mod task;
pub mod tree;
