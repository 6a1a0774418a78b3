//! `quipu top`: the cluster in a terminal, as it changes.

use crate::cmd::{Context, Ui, cluster};
use crate::failure::{Exit, Failure};
use crate::top;
use clap::Args;
use std::io::{self, IsTerminal};
use std::sync::Arc;

/// Watch nodes and jobs in the terminal
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu top --cluster https://10.0.0.1:7402 --secret-file /etc/quipu/secret
  NO_COLOR=1 quipu top

Keys: q quits, tab switches between nodes and jobs, j and k or the arrows move, enter shows everything about what is
chosen, c cancels the job and d drains the worker that is chosen (both ask first), / filters, ? shows all keys.
A master that is away is waited for. Without a terminal use quipu status.")]
pub(crate) struct TopArgs {}

impl TopArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(Failure::new(Exit::Usage, "quipu top needs a terminal to draw on and to read keys from")
                .hint("quipu status prints the cluster once, quipu node list and quipu job list have more"));
        }
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let colour = !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        // Nothing is said beside the picture: it says itself when the master is away.
        let cluster = cluster::open(context.config(), Ui { quiet: true, ..context.ui }, context.trace).await?;
        let url = context.config().client.cluster.clone().unwrap_or_default();
        top::run(Arc::clone(cluster.service()), url, colour).await
    }
}
