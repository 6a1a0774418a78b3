//! The master of a Quipu cluster: accepts jobs, shards them, leases the shards to workers.
//!
//! Reading order: [`scheduler`] (the pure core), [`jobs`] (what is known of each job), [`input`] (tables),
//! [`store`] (the job log), [`dispatcher`] (the actor around the core), [`tree`] (supervision), [`nodes`] and [`service`] (what clients see),
//! [`http`].

pub mod access;
pub mod disk;
pub mod dispatcher;
pub mod http;
pub mod input;
pub mod jobs;
pub mod node;
pub mod nodes;
pub mod scheduler;
pub mod schedules;
pub mod service;
pub mod store;
pub mod tree;
