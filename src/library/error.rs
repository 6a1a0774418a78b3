//! What can go wrong for a user of the library.

use quipu_shared::service::ServiceError;

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument of a builder can't be read; nothing was submitted.
    #[error("{what} {text:?}: {problem}")]
    Argument {
        /// Which argument.
        what: &'static str,
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The cluster refused the job, or the job failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The embedded cluster did not start.
    #[error(transparent)]
    Start(#[from] crate::embedded::StartError),
    /// The cluster's answer makes no sense: a defect.
    #[error("read results: {0}")]
    Results(String),
}
