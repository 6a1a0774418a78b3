//! `quipu token`: who may ask a cluster, and what.

use crate::cmd::job::print_list;
use crate::cmd::parse::duration;
use crate::cmd::{Context, Session};
use crate::failure::Failure;
use crate::output::Format;
use clap::{Args, Subcommand};
use quipu_shared::access::{AccessRole, Namespace, NewToken, TokenView};
use quipu_shared::calendar::rfc3339;
use quipu_shared::ids::TokenId;
use std::io::{self, Write};
use std::time::Duration;

/// Make, list and revoke tokens of a cluster
///
/// A token has a role: `read` looks at things, `submit` also submits and ends jobs and evaluates formulas, `operate` also
/// drains nodes and makes tokens. The cluster's own token (`quipu secret token`) may do everything.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  (umask 077; quipu token new ci --role submit > ci.token)
  quipu token new grafana --role read --expires 90d
  quipu token new team-a --role submit --in team-a --requests-per-second 50
  quipu token list
  quipu token revoke 3
  quipu status --cluster https://10.0.0.1:7402 --token-file ci.token --ca-file client.pem")]
pub(crate) enum TokenCommand {
    /// Make a token, and print it: this once
    New(NewArgs),
    /// List tokens; their text is not kept
    List(ListArgs),
    /// Make tokens worth nothing, at once
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// A name for people and for the audit log
    #[arg(value_name = "NAME")]
    name: String,
    /// What it allows: read, submit or operate
    #[arg(long, value_name = "ROLE")]
    role: AccessRole,
    /// Keep it to this namespace [default: all of them]
    #[arg(long = "in", value_name = "NAMESPACE")]
    namespace: Option<Namespace>,
    /// Let it be worth nothing after this time, such as 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<Duration>,
    /// Requests a second that it is good for [default: limits.token_requests_per_s_max of the master]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_second: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Form of the output: table, json, ndjson or csv
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Tokens, by number
    #[arg(required = true, value_name = "TOKEN")]
    tokens: Vec<u64>,
}

const HEADER: [&str; 7] = ["token", "name", "role", "namespace", "created", "expires", "requests/s"];

impl TokenCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        let session = Session::open(context).await?;
        match self {
            Self::New(args) => {
                let new = NewToken {
                    name: args.name,
                    role: args.role,
                    namespace: args.namespace,
                    expires_in_ms: args.expires.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                    requests_per_s: args.requests_per_second,
                };
                let issued = session.service.add_token(new).await?;
                session.note(format_args!(
                    "token {} is made; it is printed this once, and `quipu token revoke {}` ends it",
                    issued.token.id, issued.token.id
                ));
                let mut out = io::stdout().lock();
                writeln!(out, "{}", issued.secret)
                    .and_then(|()| out.flush())
                    .map_err(|error| Failure::write(&error, &"standard output"))
            }
            Self::List(args) => {
                let tokens = session.service.tokens().await?;
                print_list(args.format, &tokens, &HEADER, cells, &mut io::stdout().lock())
                    .map_err(|error| Failure::write(&error, &"standard output"))
            }
            Self::Revoke(args) => {
                for token in args.tokens {
                    session.service.revoke_token(TokenId(token)).await?;
                    session.note(format_args!("token {token} is revoked"));
                }
                Ok(())
            }
        }
    }
}

fn cells(token: &TokenView) -> Vec<String> {
    vec![
        token.id.to_string(),
        token.name.clone(),
        token.role.to_string(),
        token.namespace.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string),
        rfc3339(token.created_at_ms),
        token.expires_at_ms.map_or_else(|| "never".to_owned(), rfc3339),
        token.requests_per_s.map(|rate| rate.to_string()).unwrap_or_default(),
    ]
}
