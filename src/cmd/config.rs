//! `quipu config`: what is configured, and where.

use crate::cmd::Context;
use crate::cmd::job::print_list;
use crate::failure::Failure;
use crate::output::Format;
use clap::{Args, Subcommand};
use std::io;

/// Show the configuration, and where each value comes from
///
/// A flag stands above the environment (QUIPU_SECTION__KEY, and short names such as QUIPU_CLUSTER), that above
/// ./quipu.toml, that above the user's ~/.config/quipu/quipu.toml, that above /etc/quipu/quipu.toml, that above the
/// default.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  quipu config show
  QUIPU_LIMITS__ROWS_MAX=1000000 quipu config show -O json")]
pub(crate) enum ConfigCommand {
    /// List every key with its value and where that comes from
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Form of the output
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

impl ConfigCommand {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::Show(args) = self;
        let lines = context.loaded.show();
        let header = ["key", "value", "source"];
        let cells =
            |line: &quipu_shared::config::Shown| vec![line.key.clone(), line.value.clone(), line.source.clone()];
        print_list(args.format, &lines, &header, cells, &mut io::stdout().lock())
            .map_err(|error| Failure::write(&error, &"standard output"))
    }
}
