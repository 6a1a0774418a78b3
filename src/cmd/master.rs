//! `quipu master`: runs a master node.

use super::Context;
use super::reload::Follower;
use super::serve::{Lifeline, NodeParts, print_ready, shutdown};
use crate::failure::{Exit, Failure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quipu::embedded::admission;
use quipu_master::dispatcher::Tunables;
use quipu_master::eval::{EvalConfig, EvalEngine};
use quipu_master::http::{HttpConfig, HttpLimits};
use quipu_master::node::{MasterNode, MasterNodeConfig, MasterNodeError};
use quipu_master::scheduler::{PressureLimits, SchedulerConfig};
use quipu_master::store::StoreError;
use quipu_shared::access::Namespace;
use quipu_shared::config::{Config, LimitsConfig, NamespaceQuota, Overrides, SchedulerSettings};
use quipu_shared::ids::{NodeId, Role};
use quipu_shared::link::LinkConfig;
use quipu_shared::trust::CertificateFiles;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const EXAMPLES: &str = "\
Examples:
  quipu master
  quipu master --http 0.0.0.0:7402 --rpc 0.0.0.0:7401 --gossip 0.0.0.0:7400 --advertise 10.0.0.1 \\
      --secret-file /etc/quipu/secret --data-dir /var/lib/quipu

Without --secret-file a secret is made in the state folder. Beyond loopback HTTP is served over TLS. The data folder
holds jobs, results and uploads: a master that is started on it again goes on with them. Without --data-dir they go with
the process. `quipu store` checks and backs up a data folder.

Exit codes: 78 where the data folder is in use or of another version, 65 where it is damaged or has lost jobs.";

/// Run a master node
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MasterArgs {
    /// Address to serve clients on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,

    /// Address to listen for workers on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    rpc: Option<SocketAddr>,

    /// Address to gossip on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    gossip: Option<SocketAddr>,

    /// IP or IP:PORT that others reach this node at, where that is not the bound address
    #[arg(long, value_name = "IP")]
    advertise: Option<String>,

    /// A node to join through; repeatable
    #[arg(long = "seed", value_name = "HOST:PORT")]
    seeds: Vec<String>,

    /// Further host names that clients may call this master by; repeatable
    #[arg(long = "host-name", value_name = "NAME")]
    host_names: Vec<String>,

    /// Own certificate for HTTP and gRPC (PEM), such as browsers take; HTTP is then TLS on loopback, too
    #[arg(long, value_name = "FILE")]
    http_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    http_key: Option<PathBuf>,

    /// Name of the node [default: a fresh one at every start]
    #[arg(long, value_name = "ID", value_parser = |text: &str| NodeId::try_from(text.to_owned()))]
    node_id: Option<NodeId>,

    /// Folder for jobs, results and uploads [default: a temporary one]
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

impl MasterArgs {
    /// What the command line says of the configuration.
    pub(crate) fn override_config(&self, overrides: &mut Overrides) {
        overrides
            .set("--http", "master.http", self.http)
            .set("--rpc", "master.rpc", self.rpc)
            .set("--gossip", "master.gossip", self.gossip)
            .set("--advertise", "gossip.advertise", self.advertise.as_ref())
            .set("--seed", "gossip.seeds", (!self.seeds.is_empty()).then_some(&self.seeds))
            .set("--host-name", "master.host_names", (!self.host_names.is_empty()).then_some(&self.host_names))
            .set("--http-cert", "master.http_cert", self.http_cert.as_ref())
            .set("--http-key", "master.http_key", self.http_key.as_ref())
            .set("--node-id", "master.node_id", self.node_id.as_ref())
            .set("--data-dir", "cluster.data_dir", self.data_dir.as_ref())
            .set("--tls-cert", "cluster.tls_cert", self.tls_cert.as_ref())
            .set("--tls-key", "cluster.tls_key", self.tls_key.as_ref())
            .set("--tls-ca", "cluster.tls_ca", self.tls_ca.as_ref());
    }

    /// Runs the node until it is told to stop.
    pub(crate) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let config = context.config();
        make_room_for_connections(config.limits.connections_max);
        let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Internal, error.to_string());
        let node_id = config.master.node_id.clone();
        let parts = NodeParts::new(config, Role::Master, node_id, config.master.gossip, 0)?;
        let shutdown = shutdown(&self.lifeline)?;
        parts.export_traces(config)?;
        let identity = parts.gossip.identity.clone();

        let tokens = parts.secret.http_tokens(&config.cluster.id);
        let mut http = HttpConfig::new(config.master.http, Arc::new(move |token| tokens.verify(token)));
        http.limits = http_limits(&config.limits);
        http.cors_origins.clone_from(&config.master.cors_origins);
        http.eval = EvalEngine::new(eval(config));
        http.allowed_hosts.clone_from(&config.master.host_names);
        http.allowed_hosts.extend(config.gossip.advertise_address().map(|address| address.ip().to_string()));
        let files = config.master.http_cert.clone().zip(config.master.http_key.clone());
        let files = files.map(|(certificate, key)| CertificateFiles { certificate, key });
        let secure = files.is_some() || !config.master.http.ip().to_canonical().is_loopback();
        if secure {
            let mut hosts = http.allowed_hosts.clone();
            if !config.master.http.ip().is_unspecified() {
                hosts.push(config.master.http.ip().to_string());
            }
            let tls = parts.trust.http_server_config(&hosts, files.as_ref(), SystemTime::now());
            http.tls = Some(tls.map_err(|error| Failure::new(Exit::Config, error.to_string()))?);
        }

        if config.cluster.strict && config.cluster.data_dir.is_none() {
            return Err(Failure::new(Exit::Config, "cluster.strict is set, and no data folder is given".to_owned())
                .hint("set cluster.data_dir (--data-dir), or choose another profile"));
        }
        // Kept until the end: its folder goes with it.
        let temporary = match config.cluster.data_dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("quipu-").tempdir().map_err(|error| failed(&error))?),
        };
        if temporary.is_some() {
            tracing::warn!("no data folder is given: jobs end with this master; --data-dir keeps them");
        }
        let data_dir = config.cluster.data_dir.clone().or_else(|| Some(temporary.as_ref()?.path().to_owned()));
        let node = MasterNode::start(MasterNodeConfig {
            gossip: parts.gossip,
            link: LinkConfig::new(parts.trust),
            rpc: config.master.rpc,
            http,
            tokens_max: config.limits.tokens_max,
            token_requests_per_s_max: config.limits.token_requests_per_s_max,
            audit_bytes_max: config.limits.audit_bytes_max,
            tunables: tunables(config),
            admission: admission(&config.limits, &config.namespaces, false),
            data_dir: data_dir.unwrap_or_default(),
            upload_bytes_max: config.limits.upload_bytes_max,
            job_spool_bytes_max: config.limits.job_spool_bytes_max,
            disk_free_min_bytes: config.limits.disk_free_min_bytes,
            jobs_active_max: config.limits.jobs_active_max,
            jobs_kept_max: config.limits.jobs_kept_max,
            retention_ms: config.limits.retention_ms,
            catch_up_max: config.limits.catch_up_max,
        })
        .await
        .map_err(failure)?;
        let tuner = node.tuner();
        let follower = Follower::new(Role::Master, context.sources.clone(), context.loaded.clone());
        let apply = move |config: &Config| {
            tuner.apply(
                http_limits(&config.limits),
                admission(&config.limits, &config.namespaces, false),
                tunables(config),
            );
        };
        follower.spawn(apply).map_err(|error| failed(&error))?;
        let url = format!("{}://{}", if secure { "https" } else { "http" }, node.http_addr());
        print_ready(&identity, Some(url), Some(node.rpc_addr()), node.gossip_addr())?;
        node.run(shutdown).await.map_err(failure)
    }
}

/// Files that a master has open beside its connections: links, tables, results, the store.
const FILES_BESIDE: u64 = 1_024;

/// Raises the number of files that this process may open as far as the system lets it: many start services with 1,024.
fn make_room_for_connections(connections: usize) {
    let wanted = connections as u64 + FILES_BESIDE;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).is_ok();
    if !raised || hard < wanted {
        tracing::warn!(
            files = hard.min(wanted),
            connections,
            "fewer files may be open than connections are allowed; raise LimitNOFILE, or lower limits.connections_max"
        );
    }
}

/// Trouble of a master as the end of its process: what a person must change first is told from what is damaged, and
/// both from trouble that another start may not meet.
fn failure(error: MasterNodeError) -> Failure {
    let exit = match &error {
        MasterNodeError::Store(StoreError::Locked { .. } | StoreError::Format { .. }) => Exit::Config,
        MasterNodeError::Store(StoreError::Truncated { .. } | StoreError::Corrupt { .. }) => Exit::Data,
        _ => Exit::Internal,
    };
    Failure::new(exit, error.to_string())
}

fn tunables(config: &Config) -> Tunables {
    let rate = |(name, quota): (&Namespace, &NamespaceQuota)| Some((name.to_string().into(), quota.rows_per_s_max?));
    Tunables {
        scheduler: scheduler(&config.scheduler),
        namespace_rates: config.namespaces.iter().filter_map(rate).collect(),
    }
}

fn scheduler(settings: &SchedulerSettings) -> SchedulerConfig {
    SchedulerConfig {
        placement: settings.placement,
        pressure: PressureLimits {
            cpu_max: settings.cpu_pressure_max,
            memory_max: settings.memory_pressure_max,
            memory_available_min_bytes: settings.memory_available_min_bytes,
        },
        breaker_failures: settings.breaker_failures,
        breaker_open_ms: settings.breaker_open_ms,
        breaker_open_max_ms: settings.breaker_open_max_ms,
        lease_ttl_ms: settings.lease_ttl_ms,
        shard_target_ms: settings.shard_target_ms,
        attempts_max: settings.attempts_max,
        ..SchedulerConfig::default()
    }
}

fn eval(config: &Config) -> EvalConfig {
    let limits = &config.limits;
    EvalConfig {
        formula: limits.formula.clone(),
        batch_max: limits.eval_batch_max,
        cache_bytes_max: limits.eval_cache_bytes_max,
        threads: config.master.eval_threads,
        queue_max: limits.eval_queue_max,
        deadline: Duration::from_millis(limits.eval_deadline_ms),
        inline_cost_ns_max: limits.eval_inline_cost_ns_max.into(),
    }
}

fn http_limits(limits: &LimitsConfig) -> HttpLimits {
    HttpLimits {
        request_bytes_max: limits.request_bytes_max,
        upload_bytes_max: limits.upload_bytes_max,
        requests_in_flight_max: limits.requests_in_flight_max,
        requests_per_client_max: limits.requests_per_client_max,
        batch_jobs_max: limits.batch_jobs_max,
        connections_max: limits.connections_max,
        eval_bytes_max: limits.eval_bytes_max,
        refusals_per_s_max: limits.refusals_per_s_max,
        sessions_max: limits.sessions_max,
        session_idle: Duration::from_millis(limits.session_idle_ms),
        ..HttpLimits::default()
    }
}
