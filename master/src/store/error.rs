//! Why the store can't do something, in words for an operator.

use super::record::Table;
use std::path::PathBuf;

/// What is wrong with the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the data folder {} is in use by another master; stop that one, or give this one a folder of its own (--data-dir)",
        path.display()
    )]
    Locked {
        /// The data folder.
        path: PathBuf,
    },
    /// It was written by another version.
    #[error(
        "the store in {} has format {found}, and this quipu reads format {}; run the version that wrote it, and take its \
         jobs over with `quipu store export` and `quipu store import`",
        path.display(), super::record::FORMAT_VERSION
    )]
    Format {
        /// The data folder.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// Commands that were acknowledged are not there any more.
    #[error(
        "the store in {} has lost acknowledged commands: the last one is {found}, and {acknowledged} were acknowledged. \
         Its journal was cut, or files are missing. Restore a backup (`quipu store import`), or accept the loss with \
         `quipu store verify --accept-loss`",
        path.display()
    )]
    Truncated {
        /// The data folder.
        path: PathBuf,
        /// Number of the last command that is there.
        found: u64,
        /// Number of the last command that was acknowledged.
        acknowledged: u64,
    },
    /// What is there can't be what was written.
    #[error(
        "the store is damaged, table {table}: {problem}; `quipu store verify` says more, `quipu store import` restores a backup"
    )]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The system refuses.
    #[error("{doing} ({}): {problem}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// An earlier write failed: whether it is on the disk is not known, so nothing more is written.
    #[error("the store has stopped after {0}; make room or mend the disk, then start the master again")]
    Stopped(String),
    /// More is waiting to be written than may be.
    #[error("the store has {bytes} bytes waiting to be written, the limit; try again")]
    Busy {
        /// How much waits.
        bytes: usize,
    },
}

impl StoreError {
    /// A record that can't be.
    pub fn corrupt(table: Table, problem: String) -> Self {
        Self::Corrupt { table: table.name(), problem }
    }

    /// A refusal of the system.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>, error: impl std::fmt::Display) -> Self {
        Self::Io { doing, path: path.into(), problem: error.to_string() }
    }
}
