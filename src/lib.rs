//! Quipu as a library: a calculator for one formula or a billion rows, in this process or on a cluster.
//!
//! Reading order: [`Cluster`] (where jobs run), [`Sweep`] and [`Sample`] (jobs over many rows), [`Output`] (what comes
//! of them), [`Error`]. What they build are the plain types of [`spec`]; what they call is [`service::JobService`], the
//! same trait within a process and over HTTP, for whoever needs more than is here.

pub mod client;
pub mod embedded;
mod library;

pub use library::cluster::{Cluster, Running};
pub use library::error::Error;
pub use library::jobs::{Job, Sample, Sweep};
pub use library::output::Output;
pub use quipu_shared::render::{EvalFailure, EvalOutcome, EvalResult};
pub use quipu_shared::{service, spec};
