//! The link between workers and masters: ractor_cluster over mutual TLS, with what it lacks built around it.
//!
//! ```text
//!  worker                                            master
//!  WorkerLink: dials, redials                        MasterLink: accepts
//!     | TCP, TLS 1.3, both with certificates            |      server
//!     | preface: name, clock, proof of the secret       |      handshake
//!     v                                                 v
//!  Guard(stream) ---> NodeServer <===== frames =====> NodeServer <--- Guard(stream)
//!                        |  Port (the only remotable actor of the process)
//!                        v
//!                      Hub: which peer, in which order ---> recv()
//! ```
//!
//! ractor_cluster carries frames between authenticated streams and finds the peer's [`port`] through a process group.
//! Everything that decides who may speak stands before it: its own listener is bound to loopback and refuses every
//! handshake, and its cookie is a constant. A frame names its session by a token that both ends export from their TLS
//! session, so that a frame of an old or foreign session is dropped, whatever path it took.
//!
//! Both ends are processes: the actor and process group registries of ractor are global, so a process has one link.

mod client;
mod config;
mod guard;
mod handshake;
mod hub;
mod node;
mod port;
mod server;

pub use client::WorkerLink;
pub use config::{LinkConfig, LinkLimits};
pub use hub::{LinkEvent, LinkStats, PeerId, SendError};
pub use server::MasterLink;

use std::io;
use std::net::SocketAddr;

/// Version of the link's preface; nodes of other versions are refused by name.
pub const LINK_VERSION: u8 = 1;

/// Why a link can't be started.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address can't be bound.
    #[error("listen for workers on {address}: {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The node's certificates do not make a TLS configuration.
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    /// An actor of the link did not start.
    #[error("start the link's {what}: {problem}")]
    Start {
        /// Which one.
        what: &'static str,
        /// Why not.
        problem: String,
    },
    /// The registries behind the link are global to the process.
    #[error("this process has a link already: stop it before starting another")]
    AlreadyRunning,
    /// A limit makes no sense.
    #[error("link limit {key}: {problem}")]
    Limit {
        /// Which one.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

#[cfg(test)]
mod tests;
