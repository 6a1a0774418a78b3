//! What `master` and `worker` share: the secret, the certificates, the ready line, and when to stop.

use crate::failure::{Exit, Failure};
use quipu_shared::config::{ClusterConfig, Config};
use quipu_shared::ids::{Generation, NodeId, Role};
use quipu_shared::membership::{GossipConfig, Identity};
use quipu_shared::telemetry::export::{self, Service};
use quipu_shared::trust::{
    CertificateFiles, ClusterSecret, NodeTrust, OwnCertificate, Pki, install_crypto_provider, node_name,
};
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Secret file that means standard input.
const STDIN: &str = "-";

/// What a node's standard input is for.
#[derive(Debug, clap::Args)]
pub(crate) struct Lifeline {
    /// Drain and exit when standard input ends: for programs that start nodes and may die
    ///
    /// With --secret-file - the secret is read first, up to a blank line.
    #[arg(long)]
    until_stdin_closes: bool,
}

/// A node's part of its cluster, as its configuration says.
pub(crate) struct NodeParts {
    /// The cluster's secret.
    pub(crate) secret: ClusterSecret,
    /// Certificates.
    pub(crate) trust: Arc<NodeTrust>,
    /// How it gossips.
    pub(crate) gossip: GossipConfig,
}

impl NodeParts {
    /// Reads the secret and makes the certificates.
    pub(crate) fn new(
        config: &Config,
        role: Role,
        node_id: Option<NodeId>,
        bind: SocketAddr,
        slots: u32,
    ) -> Result<Self, Failure> {
        install_crypto_provider();
        let secret = secret(&config.cluster)?;
        let node_id = node_id.unwrap_or_else(|| NodeId::random(role));
        let boot_id = Uuid::new_v4();
        let now = SystemTime::now();
        let name = node_name(role, &node_id, boot_id);
        let trust = NodeTrust::new(&secret, &config.cluster.id, name, &pki(&config.cluster), now)
            .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
        let trust = Arc::new(trust);
        tokio::spawn(Arc::clone(&trust).keep_renewed());
        let started_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let gossip = GossipConfig {
            bind,
            advertise: config.gossip.advertise_address(),
            seeds: config.gossip.seeds.clone(),
            keys: secret.gossip_keys(&config.cluster.id),
            identity: Identity {
                node_id,
                generation: Generation(u64::try_from(started_ms).unwrap_or(u64::MAX)),
                role,
                rpc: None,
                http: None,
                slots,
                zone: config.worker.zone.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                boot_id,
            },
            period_ms: config.gossip.period_ms,
            suspicion_ms: config.gossip.suspicion_ms,
        };
        Ok(Self { secret, trust, gossip })
    }
}

impl NodeParts {
    /// Begins to export traces, where a collector is given.
    pub(crate) fn export_traces(&self, config: &Config) -> Result<(), Failure> {
        let identity = &self.gossip.identity;
        let service = match identity.role {
            Role::Master => Service::Master,
            Role::Worker => Service::Worker,
        };
        export::start(&config.telemetry, service, &config.cluster.id, Some(&identity.node_id))
            .map_err(|error| Failure::new(Exit::Config, error.to_string()))
    }
}

/// The secret from its file, from standard input, or from the state folder, where one is made if there is none.
fn secret(config: &ClusterConfig) -> Result<ClusterSecret, Failure> {
    let read = match &config.secret_file {
        Some(path) if path == Path::new(STDIN) => ClusterSecret::parse(&stdin_until_blank_line()?, path),
        Some(path) => ClusterSecret::read(path),
        None if config.strict => {
            return Err(Failure::new(Exit::Config, "cluster.strict is set, and no secret is given".to_owned())
                .hint("set cluster.secret_file (--secret-file), or choose another profile"));
        }
        None => {
            let folder = state_folder(config)?;
            std::fs::create_dir_all(&folder)
                .map_err(|error| Failure::new(Exit::Config, format!("create {}: {error}", folder.display())))?;
            let path = folder.join("secret");
            tracing::info!(path = %path.display(), "no cluster.secret_file is given, this one is used");
            ClusterSecret::load_or_create(&path)
        }
    };
    read.map_err(|error| Failure::new(Exit::Config, error.to_string()))
}

fn stdin_until_blank_line() -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let mut stdin = io::stdin().lock();
    loop {
        let before = text.len();
        let read = stdin
            .read_until(b'\n', &mut text)
            .map_err(|error| Failure::new(Exit::Config, format!("read the secret from standard input: {error}")))?;
        if read == 0 || text[before..].trim_ascii().is_empty() {
            return Ok(text);
        }
    }
}

/// Where a node keeps what it makes itself.
fn state_folder(config: &ClusterConfig) -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    config
        .data_dir
        .clone()
        .or_else(|| Some(variable("XDG_STATE_HOME")?.join("quipu")))
        .or_else(|| Some(variable("HOME")?.join(".local/state/quipu")))
        .ok_or_else(|| {
            Failure::new(Exit::Config, "there is no home folder for a secret; give --secret-file".to_owned())
        })
}

fn pki(config: &ClusterConfig) -> Pki {
    match (&config.tls_cert, &config.tls_key, &config.tls_ca) {
        (Some(certificate), Some(key), Some(authorities)) => Pki::Own(OwnCertificate {
            files: CertificateFiles { certificate: certificate.clone(), key: key.clone() },
            authorities: authorities.clone(),
        }),
        _ => Pki::Derived,
    }
}

/// Prints the one line of JSON by which scripts know that a node is ready.
pub(crate) fn print_ready(
    identity: &Identity,
    http: Option<String>,
    rpc: Option<SocketAddr>,
    gossip: SocketAddr,
) -> Result<(), Failure> {
    let line = serde_json::json!({
        "event": "ready",
        "role": identity.role,
        "node_id": identity.node_id,
        "http": http,
        "rpc": rpc,
        "gossip": gossip,
        "pid": std::process::id(),
    });
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::new(Exit::Internal, format!("print the ready line: {error}")))
}

/// Resolves on SIGINT, SIGTERM or the end of standard input, where that is a lifeline. A second signal ends the process.
pub(crate) fn shutdown(lifeline: &Lifeline) -> Result<impl Future<Output = ()> + use<>, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(Exit::Internal, format!("listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (closed, stdin) = oneshot::channel();
    if lifeline.until_stdin_closes {
        std::thread::spawn(move || {
            // Whatever comes is of no interest, and an error is an end too.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = closed.send(());
        });
    } else {
        // Never resolves: the sender is kept for as long as the process lives.
        std::mem::forget(closed);
    }
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = stdin => {}
        }
        // Without a receiver the node has stopped by itself.
        let _ = stop.send(());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::warn!("second signal, stopping at once");
        std::process::exit(i32::from(Exit::Interrupted as u8));
    });
    Ok(async move {
        // An error would mean that the task above has ended; then there is nothing to wait for.
        let _ = stopped.await;
    })
}
