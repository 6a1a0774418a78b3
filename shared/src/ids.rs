//! Identifiers, each a type of its own so that they cannot be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

macro_rules! number_id {
    ($(#[$doc:meta] $name:ident($inner:ty)),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

number_id! {
    /// A job, numbered from 1 by the master that accepted it.
    JobId(u64),
    /// A schedule, numbered from 1 by the master that accepted it.
    ScheduleId(u64),
    /// A token of the HTTP API, numbered from 1 by the master that made it.
    TokenId(u64),
    /// A shard of a job, numbered from 0 in row order.
    ShardId(u64),
    /// An attempt at a shard; never repeats within an epoch.
    AttemptId(u64),
    /// The term of a leading master; fences older leases.
    Epoch(u64),
    /// One connection of one worker, numbered from 1 by the master: a worker that reconnects gets a new one.
    WorkerId(u64),
    /// One incarnation of a node, as gossip counts it: milliseconds since the Unix epoch at its start.
    Generation(u64),
}

/// A node's name, unique in its cluster: `[a-z0-9-]`, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(pattern = "^[a-z0-9-]{1,64}$")]
pub struct NodeId(String);

/// A node id that is empty, too long or has a character outside `[a-z0-9-]`.
#[derive(Debug, thiserror::Error)]
#[error("node id {0:?} is not 1 to 64 characters of a-z, 0-9 and -")]
pub struct NodeIdError(String);

impl NodeId {
    /// A fresh id: the role and eight random hexadecimal digits.
    pub fn random(role: Role) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("{role}-{}", &id[..8]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;
    fn try_from(text: String) -> Result<Self, NodeIdError> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text)) } else { Err(NodeIdError(text)) }
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Accepts jobs and leases shards.
    Master,
    /// Executes shards.
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Worker => "worker",
        })
    }
}
