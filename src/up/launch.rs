//! Argument lists of nodes, here and over ssh. They are made of what is here, and the secret is not: it goes through
//! standard input (`--secret-file -`).

use crate::up::hosts::Host;
use crate::up::ready::Ready;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// What is run.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
}

/// What all nodes are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    /// Name of the cluster.
    pub(crate) cluster_id: String,
    /// What they log.
    pub(crate) log_level: String,
    /// `text` or `json`.
    pub(crate) log_format: String,
    /// What nodes of this machine read instead of the searched configuration files.
    pub(crate) config_file: Option<PathBuf>,
    /// Profile of the configuration of nodes of this machine.
    pub(crate) profile: Option<String>,
}

impl Common {
    /// Further arguments of nodes of this machine: what names files of it.
    pub(crate) fn args_here(&self) -> impl Iterator<Item = OsString> {
        let file = self.config_file.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]);
        let profile = self.profile.iter().flat_map(|profile| ["--profile".into(), profile.into()]);
        file.chain(profile)
    }
}

/// What a master is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MasterPlan {
    /// Its name.
    pub(crate) node_id: String,
    /// Where it serves clients.
    pub(crate) http: SocketAddr,
    /// Where it listens for workers.
    pub(crate) rpc: SocketAddr,
    /// Where it gossips.
    pub(crate) gossip: SocketAddr,
    /// Where others reach it.
    pub(crate) advertise: Option<IpAddr>,
    /// Where it keeps uploads and results.
    pub(crate) data_dir: Option<PathBuf>,
}

impl MasterPlan {
    /// The same on the ports that it got at its first start, so that clients and workers find it again.
    pub(crate) fn pin(&mut self, ready: &Ready) {
        for (address, port) in [
            (&mut self.http, ready.http_port()),
            (&mut self.rpc, ready.rpc.map(|address| address.port())),
            (&mut self.gossip, Some(ready.gossip.port())),
        ] {
            if address.port() == 0
                && let Some(port) = port
            {
                address.set_port(port);
            }
        }
    }

    /// Where workers find it, once it is ready. `None` where it listens everywhere and nobody said which of its
    /// addresses others reach.
    pub(crate) fn seed(&self, ready: &Ready) -> Option<SocketAddr> {
        let ip = self.advertise.unwrap_or(ready.gossip.ip());
        (!ip.is_unspecified()).then(|| SocketAddr::new(ip, ready.gossip.port()))
    }

    /// Arguments of `quipu`.
    pub(crate) fn args(&self, common: &Common) -> Vec<OsString> {
        let mut args = Args::new("master", &self.node_id, common);
        args.option("--http", self.http).option("--rpc", self.rpc).option("--gossip", self.gossip);
        if let Some(advertise) = self.advertise {
            args.option("--advertise", advertise);
        }
        let mut args: Vec<OsString> = args.0.into_iter().map(OsString::from).collect();
        if let Some(data_dir) = &self.data_dir {
            args.extend(["--data-dir".into(), data_dir.clone().into_os_string()]);
        }
        args.extend(common.args_here());
        args
    }
}

/// What a worker is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerPlan {
    /// Its name.
    pub(crate) node_id: String,
    /// The master's gossip.
    pub(crate) seed: SocketAddr,
    /// Where others reach it.
    pub(crate) advertise: IpAddr,
    /// Executors, where it should not be one a core.
    pub(crate) slots: Option<u32>,
    /// Where it stands.
    pub(crate) zone: Option<String>,
}

impl WorkerPlan {
    /// Arguments of `quipu`. They are text, since a remote shell takes nothing else.
    pub(crate) fn args(&self, common: &Common) -> Vec<String> {
        let mut args = Args::new("worker", &self.node_id, common);
        args.option("--seed", self.seed).option("--gossip", bind_for(self.advertise, 0));
        args.option("--advertise", self.advertise);
        if let Some(slots) = self.slots {
            args.option("--slots", slots);
        }
        if let Some(zone) = &self.zone {
            args.option("--zone", zone);
        }
        args.0
    }
}

struct Args(Vec<String>);

impl Args {
    fn new(command: &str, node_id: &str, common: &Common) -> Self {
        let mut args = Self(vec![command.to_owned()]);
        args.option("--node-id", node_id).option("--cluster-id", &common.cluster_id);
        args.option("--secret-file", "-").0.push("--until-stdin-closes".to_owned());
        args.option("--log-level", &common.log_level).option("--log-format", &common.log_format);
        args
    }

    /// One word, so that a value that begins with '-' is not taken for an option.
    fn option(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        self.0.push(format!("{name}={value}"));
        self
    }
}

/// Where a node that others reach at `advertise` listens: on loopback alone, or everywhere, since the address that others
/// use need not be one of the machine's own (NAT).
pub(crate) fn bind_for(advertise: IpAddr, port: u16) -> SocketAddr {
    let ip = match advertise {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, port)
}

/// Options that ssh is always given. What the user gives comes first, and ssh keeps the first value that it hears.
///
/// - `BatchMode`: nobody is there to type a password.
/// - `ConnectTimeout`, `ServerAlive*`: a host that is gone is noticed, so that its worker is started again.
/// - `ControlPath`: a shared connection would outlive its own worker, and take the others with it.
/// - `ClearAllForwardings`: forwardings of the user's configuration are for shells, and can be opened only once.
const SSH_OPTIONS: [&str; 6] = [
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlPath=none",
    "ClearAllForwardings=yes",
];

/// A remote command can't be written down for a shell.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't be passed to a remote shell: it holds a zero byte")]
pub(crate) struct QuoteError(String);

/// Splits what `--ssh` was given into words as a shell does. `None` where it has no words, or an open quote.
pub(crate) fn split_ssh(text: &str) -> Option<Vec<String>> {
    shlex::split(text).filter(|words| words.first().is_some_and(|program| !program.is_empty()))
}

/// `ssh` that runs the worker on a host.
///
/// The remote command is one argument, quoted for a POSIX shell, because ssh joins arguments with blanks and hands them
/// to the login shell over there. `exec` leaves no shell behind that would outlive the worker, or hide its end.
pub(crate) fn over_ssh(
    ssh: &[String],
    host: &Host,
    remote_quipu: &str,
    args: &[String],
) -> Result<Invocation, QuoteError> {
    let (program, own) =
        ssh.split_first().map_or((OsStr::new("ssh"), &[][..]), |(program, own)| (OsStr::new(program), own));
    let mut command = "exec".to_owned();
    for word in std::iter::once(remote_quipu).chain(args.iter().map(String::as_str)) {
        let quoted = shlex::try_quote(word).map_err(|_| QuoteError(word.to_owned()))?;
        command.push(' ');
        command.push_str(&quoted);
    }
    let mut words: Vec<String> = own.to_vec();
    words.push("-T".to_owned());
    words.extend(SSH_OPTIONS.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]));
    if let Some(port) = host.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    if let Some(user) = &host.user {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    words.extend(["--".to_owned(), host.name.clone(), command]);
    Ok(Invocation { program: program.to_owned(), args: words.into_iter().map(OsString::from).collect() })
}

/// Name of the worker on a host: what the host is called, in the letters that names of nodes have.
pub(crate) fn node_id_of(host: &Host, number: usize) -> String {
    // Names may differ only in letters that are not kept, so the number makes them unique.
    let tail = format!("-{number}");
    let kept: String = host
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(NODE_ID_BYTES_MAX - "worker-".len() - tail.len())
        .collect();
    format!("worker-{kept}{tail}")
}

/// As [`quipu_shared::ids::NodeId`] has it.
const NODE_ID_BYTES_MAX: usize = 64;

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
