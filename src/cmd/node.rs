//! `quipu node`: the cluster's nodes.

use crate::cmd::job::print_list;
use crate::cmd::{Context, Session};
use crate::failure::{Exit, Failure, sanitise};
use crate::output::Format;
use crate::output::progress::rate;
use clap::{Args, Subcommand};
use quipu_shared::ids::NodeId;
use quipu_shared::service::{BreakerState, NodeState, NodeView};
use std::io::{self, Write};

/// List and drain nodes
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  quipu node list
  quipu node list -O json
  quipu node drain worker-1a2b3c4d")]
pub(crate) enum NodeCommand {
    /// List nodes
    List(ListArgs),
    /// Show everything about a node
    Show(ShowArgs),
    /// Ask a worker to finish what it has and leave
    Drain {
        /// The worker's node
        #[arg(value_name = "NODE", value_parser = node_id)]
        node: NodeId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Form of the output
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_id)]
    node: NodeId,
    /// Form of the output
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

fn node_id(text: &str) -> Result<NodeId, String> {
    NodeId::try_from(text.to_owned()).map_err(|error| error.to_string())
}

const HEADER: [&str; 8] = ["node", "role", "state", "slots", "leased", "rows/s", "zone", "version"];

impl NodeCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        let session = Session::open(context).await?;
        let mut out = io::stdout().lock();
        let written = match self {
            Self::List(args) => print_list(args.format, &session.service.nodes().await?, &HEADER, cells, &mut out),
            Self::Show(args) => {
                let nodes = session.service.nodes().await?;
                let node = nodes.into_iter().find(|n| n.id == args.node).ok_or_else(|| {
                    Failure::new(Exit::NoInput, format!("the cluster has no node {}", args.node))
                        .hint("quipu node list names them")
                })?;
                show(args.format, &node, &mut out)
            }
            Self::Drain { node } => {
                session.service.drain(node).await?;
                Ok(())
            }
        };
        written.map_err(|error| Failure::write(&error, &"standard output"))
    }
}

fn cells(node: &NodeView) -> Vec<String> {
    vec![
        node.id.to_string(),
        node.role.to_string(),
        standing(node).to_owned(),
        node.slots.to_string(),
        node.leased.to_string(),
        rate(node.rows_per_s),
        node.zone.clone(),
        node.version.clone(),
    ]
}

fn show(format: Format, node: &NodeView, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, node)?;
            writeln!(out)
        }
        Format::Table => {
            for (name, value) in HEADER.into_iter().zip(cells(node)).chain([
                ("shards done", node.shards_done.to_string()),
                ("gossip", node.gossip.clone().unwrap_or_default()),
                ("cpu", percent(node.cpu_pressure)),
                ("memory", percent(node.memory_pressure)),
                ("available", node.memory_available_bytes.map(bytes).unwrap_or_default()),
                ("note", node.note.clone().unwrap_or_default()),
            ]) {
                writeln!(out, "{name:<12} {}", sanitise(&value))?;
            }
            Ok(())
        }
        Format::Plain | Format::Ndjson | Format::Csv | Format::Parquet | Format::Arrow => {
            print_list(format, std::slice::from_ref(node), &HEADER, cells, out)
        }
    }
}

/// Pressure as users read it.
fn percent(pressure: Option<u8>) -> String {
    pressure.map(|percent| format!("{percent} % waiting")).unwrap_or_default()
}

fn bytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A node's state, where a worker in quarantine is told from others that are up.
fn standing(node: &NodeView) -> &'static str {
    match (node.state, node.breaker) {
        (NodeState::Up, BreakerState::Open) => "quarantined",
        (NodeState::Up, BreakerState::HalfOpen) => "on trial",
        (state, _) => state_name(state),
    }
}

/// A node's state as users read it.
pub(crate) fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Known => "known",
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Down => "down",
    }
}
