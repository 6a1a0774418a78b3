//! What master, worker and client of Quipu all speak.
//!
//! Reading order: [`ids`], [`spec`] (what a job is), [`block`] (how rows travel through the engine), [`formula`],
//! [`math`], [`source`] and [`table`] (where rows come from), [`reduce`] and [`render`] (where values go), [`wire`] (what master
//! and worker say to each other), [`access`] (who may ask), [`service`] (what clients may ask), [`api`] (the same over HTTP), [`eval`] (what is evaluated without a job), [`trust`], [`membership`], [`link`], [`config`],
//! [`telemetry`], [`host`].

pub mod access;
pub mod api;
pub mod block;
pub mod calendar;
pub mod config;
pub mod detail;
pub mod eval;
pub mod formula;
pub mod host;
pub mod ids;
pub mod link;
pub mod live;
pub mod math;
pub mod membership;
pub mod reduce;
pub mod render;
pub mod service;
pub mod source;
pub mod spec;
pub mod supervise;
pub mod table;
pub mod telemetry;
pub mod trust;
pub mod wire;

/// Names the set of math definitions; attempts of one job run on one numerics version only.
pub const NUMERICS_VERSION: u32 = 2;
/// Version of the messages in [`wire`]; nodes of other versions are refused by name.
pub const PROTOCOL_VERSION: u32 = 5;
/// Rows of a block: the unit of evaluation, of reduction and of cancellation. Shard boundaries are multiples of it.
pub const BLOCK_ROWS: u64 = 4096;
