//! `quipu worker`: runs a worker node.

use super::Context;
use super::reload::Follower;
use super::serve::{Lifeline, NodeParts, print_ready, shutdown};
use crate::failure::{Exit, Failure};
use quipu_shared::config::Overrides;
use quipu_shared::ids::{NodeId, Role};
use quipu_shared::link::LinkConfig;
use quipu_worker::node::{WorkerNode, WorkerNodeConfig};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  quipu worker --seed 10.0.0.1:7400 --gossip 10.0.0.2:7400 --secret-file /etc/quipu/secret
  quipu worker --seed master.example:7400 --slots 4 --zone rack-2 --secret-file secret

Any node will do as a seed: gossip makes the others known. Ctrl-C or SIGTERM drains: the worker finishes what runs,
hands back the rest and exits with 0. A second one ends it at once.";

/// Run a worker node
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct WorkerArgs {
    /// A node to join through; repeatable
    #[arg(long = "seed", value_name = "HOST:PORT")]
    seeds: Vec<String>,

    /// Address that links to masters go out from; its port is of no meaning
    #[arg(long, value_name = "ADDR")]
    rpc: Option<SocketAddr>,

    /// Address to gossip on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    gossip: Option<SocketAddr>,

    /// IP or IP:PORT that others reach this node at, where that is not the bound address
    #[arg(long, value_name = "IP")]
    advertise: Option<String>,

    /// Where it stands, for people and placement
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,

    /// Name of the node [default: a fresh one at every start]
    #[arg(long, value_name = "ID", value_parser = |text: &str| NodeId::try_from(text.to_owned()))]
    node_id: Option<NodeId>,

    /// Folder for state
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Own certificate of this node (PEM), instead of one signed by the secret's authority
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// The authority that signed the nodes' certificates (PEM)
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    #[command(flatten)]
    lifeline: Lifeline,
}

impl WorkerArgs {
    /// What the command line says of the configuration.
    pub(crate) fn override_config(&self, overrides: &mut Overrides) {
        overrides
            .set("--seed", "gossip.seeds", (!self.seeds.is_empty()).then_some(&self.seeds))
            .set("--rpc", "worker.rpc", self.rpc)
            .set("--gossip", "worker.gossip", self.gossip)
            .set("--advertise", "gossip.advertise", self.advertise.as_ref())
            .set("--zone", "worker.zone", self.zone.as_ref())
            .set("--node-id", "worker.node_id", self.node_id.as_ref())
            .set("--data-dir", "cluster.data_dir", self.data_dir.as_ref())
            .set("--tls-cert", "cluster.tls_cert", self.tls_cert.as_ref())
            .set("--tls-key", "cluster.tls_key", self.tls_key.as_ref())
            .set("--tls-ca", "cluster.tls_ca", self.tls_ca.as_ref());
    }

    /// Runs the node until it is told to stop.
    pub(crate) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let config = context.config();
        let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Internal, error.to_string());
        let slots = match config.worker.slots {
            0 => std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
            slots => slots,
        };
        let node_id = config.worker.node_id.clone();
        let parts = NodeParts::new(config, Role::Worker, node_id, config.worker.gossip, slots)?;
        let shutdown = shutdown(&self.lifeline)?;
        parts.export_traces(config)?;
        let identity = parts.gossip.identity.clone();
        let mut link = LinkConfig::new(parts.trust);
        link.local = config.worker.rpc.map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
        let node = WorkerNode::start(WorkerNodeConfig {
            gossip: parts.gossip,
            link,
            drain_patience: Duration::from_millis(config.worker.drain_ms),
            tier: config.worker.tier,
            weight: config.worker.weight,
        })
        .await
        .map_err(|error| failed(&error))?;
        let follower = Follower::new(Role::Worker, context.sources.clone(), context.loaded.clone());
        // All that a worker takes on while it runs is the level of its log.
        follower.spawn(|_| {}).map_err(|error| failed(&error))?;
        print_ready(&identity, None, None, node.gossip_addr())?;
        node.run(shutdown).await.map_err(|error| failed(&error))
    }
}
