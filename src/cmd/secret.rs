//! `quipu secret`: the cluster's secret, and what clients need of it.

use crate::failure::{Exit, Failure};
use clap::Subcommand;
use quipu_shared::config::Config;
use quipu_shared::trust::{Authority, ClusterSecret, SecretError};
use std::io::{self, ErrorKind, Write};

/// Make the cluster's secret, and what clients need of it
///
/// Whoever holds the secret is the whole cluster: nodes need it, clients need only the token and the CA.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  (umask 077; quipu secret new > cluster.secret)
  quipu secret token --secret-file cluster.secret > client.token
  quipu secret ca --secret-file cluster.secret > client.pem
  quipu status --cluster https://10.0.0.1:7402 --token-file client.token --ca-file client.pem")]
pub(crate) enum SecretCommand {
    /// Print a new secret
    ///
    /// Put it into a file that only its owner can read. Such a file holds one secret a line: the first signs, all are
    /// accepted, so that secrets can be replaced node by node.
    New,
    /// Print the token that --token-file takes
    Token,
    /// Print the CA certificate that --ca-file takes
    Ca,
}

impl SecretCommand {
    pub(crate) fn run(self, config: &Config) -> Result<(), Failure> {
        let text = match self {
            Self::New => format!("{}\n", *ClusterSecret::generate().map_err(|error| failure(&error))?.to_line()),
            Self::Token => format!("{}\n", read(config)?.http_tokens(&config.cluster.id).first()),
            Self::Ca => Authority::derive_all(&read(config)?, &config.cluster.id)
                .map_err(|error| Failure::new(Exit::Internal, format!("derive the CA: {error}")))?
                .iter()
                .map(Authority::pem)
                .collect(),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Failure::write(&error, &"standard output"))
    }
}

fn read(config: &Config) -> Result<ClusterSecret, Failure> {
    let path = config.cluster.secret_file.as_ref().ok_or_else(|| {
        Failure::usage("no secret is given").hint("give --secret-file FILE; `quipu secret new` makes a secret")
    })?;
    ClusterSecret::read(path).map_err(|error| failure(&error))
}

/// Trouble with a secret as a failure of the command.
pub(crate) fn failure(error: &SecretError) -> Failure {
    let exit = match error {
        SecretError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => Exit::NotAllowed,
        SecretError::Io { .. } => Exit::NoInput,
        SecretError::ModeTooWide { .. }
        | SecretError::Line { .. }
        | SecretError::Empty { .. }
        | SecretError::TooMany { .. }
        | SecretError::TooLarge { .. } => Exit::Config,
        SecretError::Random(_) => Exit::Internal,
    };
    Failure::new(exit, error.to_string())
}
