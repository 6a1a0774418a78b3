//! The master of a Quipu cluster: accepts jobs, shards them, leases the shards to workers.
//!
//! Reading order: [`scheduler`] (the pure core), [`jobs`] (what is known of each job), [`input`] (tables),
//! [`store`] (the job log), [`dispatcher`] (the actor around the core), [`tree`] (supervision), [`nodes`] and [`service`] (what clients see),
//! [`eval`] (what is answered without a job), [`http`], [`pulse`] and [`ui`] (the API, what is told to all who watch, the
//! dashboard).

pub mod access;
mod detail;
pub mod disk;
pub mod dispatcher;
pub mod eval;
pub mod http;
pub mod input;
pub mod jobs;
pub mod metrics;
pub mod node;
pub mod nodes;
pub mod profile;
mod pulse;
pub mod scheduler;
pub mod schedules;
pub mod service;
pub mod store;
pub mod tree;
mod ui;
