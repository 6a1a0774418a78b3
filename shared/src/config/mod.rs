//! Layered configuration: flag > `QUIPU_*` > `./quipu.toml` > the user's file > the system's file > default.
//!
//! One struct for everything, so that one file can serve all machines of a cluster. Unknown keys are refused, values are
//! checked once, and each error names the key, where it stands, and the fix. [`Loaded`] knows where each value came from.

mod layers;
mod profile;
mod reload;
mod validate;

pub use profile::BUILT_IN as PROFILES_BUILT_IN;
pub use reload::{Change, LIVE_KEYS, changes, is_live};

pub use layers::{ConfigError, Loaded, Overrides, Shown, Surroundings};

use crate::access::Namespace;
use crate::formula::FormulaLimits;
use crate::ids::NodeId;
use crate::spec::FunctionSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where gossip listens unless told otherwise; one port for all nodes makes seeds easy to write.
pub const GOSSIP_PORT: u16 = 7400;
/// Where masters listen for workers.
pub const RPC_PORT: u16 = 7401;
/// Where masters serve clients.
pub const HTTP_PORT: u16 = 7402;

/// Everything that can be configured. Options without a value are `None`; their defaults depend on the command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How commands reach a cluster and print results.
    pub client: ClientConfig,
    /// What all nodes of one cluster share.
    pub cluster: ClusterConfig,
    /// How nodes find each other.
    pub gossip: GossipSettings,
    /// Of `quipu master`.
    pub master: MasterConfig,
    /// Of `quipu worker`, and of embedded clusters.
    pub worker: WorkerConfig,
    /// What is taken on.
    pub limits: LimitsConfig,
    /// How work is cut and watched.
    pub scheduler: SchedulerSettings,
    /// What parts of the cluster may take, by name. One that is not named may take what the limits leave.
    pub namespaces: BTreeMap<Namespace, NamespaceQuota>,
    /// What is logged and how.
    pub log: LogConfig,
    /// Where traces go.
    pub telemetry: TelemetryConfig,
}

/// What the jobs of a namespace may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceQuota {
    /// Its jobs that have not ended.
    pub jobs_pending_max: Option<usize>,
    /// Bytes of their specs.
    pub pending_bytes_max: Option<u64>,
    /// Rows a second that its jobs are leased, all together.
    pub rows_per_s_max: Option<u64>,
    /// The functions that its formulas may call.
    pub functions: Option<FunctionSet>,
}

/// How commands reach a cluster and print results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// URL of a master; without it commands run on an embedded cluster.
    pub cluster: Option<String>,
    /// File with a client's token, as `quipu secret token` prints it.
    pub token_file: Option<PathBuf>,
    /// File with the authority that signed the master's certificate, as `quipu secret ca` prints it.
    pub ca_file: Option<PathBuf>,
    /// The namespace of what is submitted and listed; a token that is kept to one needs none.
    pub namespace: Option<Namespace>,
    /// Form of results.
    pub output: Option<OutputFormat>,
}

/// Form of results, as `-O` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// One value a line.
    Plain,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
    /// For people.
    Table,
}

/// What all nodes of one cluster share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Name of the cluster; two clusters with one secret stay apart by it.
    pub id: String,
    /// File with the cluster's secrets, one a line: the first signs, all are accepted.
    pub secret_file: Option<PathBuf>,
    /// Own certificate of this node (PEM), instead of one that the secret's authority signs.
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// The authority that signed the nodes' certificates (PEM).
    pub tls_ca: Option<PathBuf>,
    /// Folder for state: secrets that were made here, uploads, results.
    pub data_dir: Option<PathBuf>,
    /// Make nothing up: without `cluster.secret_file`, and a master without `cluster.data_dir`, a node does not start.
    pub strict: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            id: "quipu".into(),
            secret_file: None,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
            data_dir: None,
            strict: false,
        }
    }
}

/// How nodes find each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipSettings {
    /// `HOST:PORT` of nodes to join through; any node will do.
    pub seeds: Vec<String>,
    /// `IP` or `IP:PORT` that others reach this node at, where that is not the bound address.
    pub advertise: Option<String>,
    /// Time between two probes.
    pub period_ms: u64,
    /// How long a suspect may answer before it is down.
    pub suspicion_ms: u64,
}

impl Default for GossipSettings {
    fn default() -> Self {
        // Found dead in 2.3 to 3.3 s, at about 1 kB/s a node.
        Self { seeds: Vec::new(), advertise: None, period_ms: 500, suspicion_ms: 1500 }
    }
}

impl GossipSettings {
    /// [`Self::advertise`] as an address; port 0 stands for the bound one. `None` where it is not set (or not valid,
    /// which [`Config::load`] does not let through).
    pub fn advertise_address(&self) -> Option<SocketAddr> {
        let text = self.advertise.as_deref()?;
        text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 0)))
    }
}

/// Of `quipu master`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MasterConfig {
    /// Name of the node; without it a fresh one at every start.
    pub node_id: Option<NodeId>,
    /// Where it serves clients; beyond loopback with TLS.
    pub http: SocketAddr,
    /// Where it listens for workers.
    pub rpc: SocketAddr,
    /// Where it gossips.
    pub gossip: SocketAddr,
    /// Further host names that clients may call it by; they stand in its HTTP certificate too.
    pub host_names: Vec<String>,
    /// Origins of other sites whose pages may ask, such as `https://app.example`; with a bearer token, as everybody.
    pub cors_origins: Vec<String>,
    /// Own certificate for HTTP and gRPC alone (PEM), such as browsers take; read again every hour.
    pub http_cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub http_key: Option<PathBuf>,
    /// Threads for formulas that are evaluated at once; 0 means half the cores.
    pub eval_threads: usize,
}

impl Default for MasterConfig {
    fn default() -> Self {
        // Nothing but loopback is bound unless somebody says so.
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            node_id: None,
            http: loopback(HTTP_PORT),
            rpc: loopback(RPC_PORT),
            gossip: loopback(GOSSIP_PORT),
            host_names: Vec::new(),
            cors_origins: Vec::new(),
            http_cert: None,
            http_key: None,
            eval_threads: 0,
        }
    }
}

/// Of `quipu worker`, and of embedded clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Name of the node; without it a fresh one at every start.
    pub node_id: Option<NodeId>,
    /// Address that its links go out from; the system chooses unless it is set. Its port is of no meaning.
    pub rpc: Option<SocketAddr>,
    /// Where it gossips; port 0 takes a free one.
    pub gossip: SocketAddr,
    /// Executors; 0 means one a core.
    pub slots: u32,
    /// Where it stands, for people and placement.
    pub zone: String,
    /// Its share of the shards under `scheduler.placement = "weighted"`; twice the weight, twice the shards.
    pub weight: u32,
    /// How long a worker that leaves may finish what it has.
    pub drain_ms: u64,
    /// Who evaluates formulas.
    pub tier: TierChoice,
}

/// Who evaluates formulas: the values are the same, the speed is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TierChoice {
    /// By expected cost.
    #[default]
    Auto,
    /// evalexpr alone, row by row.
    Evalexpr,
    /// The vectorised interpreter; no machine code is made.
    Interpreter,
    /// Machine code from the first block on.
    Jit,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        let gossip = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            node_id: None,
            rpc: None,
            gossip,
            slots: 0,
            zone: String::new(),
            weight: 1,
            drain_ms: 60_000,
            tier: TierChoice::Auto,
        }
    }
}

/// What is taken on; more is refused with the limit's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Jobs of one priority that are served at once; each costs memory and a place in the schedule.
    pub jobs_active_max: usize,
    /// Jobs that have not ended; those that are not served cost a line in memory and their record on the disk.
    pub jobs_pending_max: usize,
    /// Bytes of the specs of jobs that have not ended, on the disk.
    pub pending_bytes_max: u64,
    /// Ended jobs that can still be asked for; the one that would go first goes first.
    pub jobs_kept_max: usize,
    /// How long an ended job can be asked for, unless it says so itself.
    pub retention_ms: u64,
    /// Jobs that may wait for one.
    pub dependents_max: u32,
    /// Runs of a schedule that are made up for at most, after a time without a master.
    pub catch_up_max: u32,
    /// Bytes that stay free on the disk of `cluster.data_dir`: with less, nothing new is taken on.
    pub disk_free_min_bytes: u64,
    /// Formulas of one `eval`; they are held in memory.
    pub formulas_per_job_max: usize,
    /// Rows of one sweep, sample or table. Row numbers stay exact in a double, and so in every client's JSON.
    pub rows_max: u64,
    /// Bytes of a request's body, uploads apart; it is read into memory.
    pub request_bytes_max: usize,
    /// Bytes of one upload; it is spooled to `cluster.data_dir`.
    pub upload_bytes_max: u64,
    /// Bytes of one job's results; they are spooled too.
    pub job_spool_bytes_max: u64,
    /// Requests that are answered at once; more are told to try again.
    pub requests_in_flight_max: usize,
    /// The same of one client, by its address, so that one alone does not take the place of all others.
    pub requests_per_client_max: usize,
    /// Namespaces that have jobs; each has a line in memory for as long as the master runs.
    pub namespaces_max: usize,
    /// Tokens of the HTTP API.
    pub tokens_max: usize,
    /// Requests a second of a token that has no rate of its own; as many may come at once. The cluster's own is not held
    /// to it.
    pub token_requests_per_s_max: u32,
    /// Answers a second and token that refuse (no token, no right, a request that makes no sense) and come at once; further
    /// ones wait a second. Requests without a good token are counted together.
    pub refusals_per_s_max: u32,
    /// Browsers that are logged in; the one that was used least recently goes first.
    pub sessions_max: usize,
    /// How long a browser stays logged in without a request.
    pub session_idle_ms: u64,
    /// Bytes of the audit log's file before the next one is begun; eight are kept.
    pub audit_bytes_max: u64,
    /// Jobs of one batch; the whole of it must fit [`Self::request_bytes_max`].
    pub batch_jobs_max: usize,
    /// Connections of clients; a further one is told to try again and closed.
    pub connections_max: usize,
    /// Evaluations of one request to `/v1/eval`.
    pub eval_batch_max: usize,
    /// Bytes of the body of such a request.
    pub eval_bytes_max: usize,
    /// Bytes of parsed formulas that are kept between such requests, and as many of values.
    pub eval_cache_bytes_max: u64,
    /// Such requests that wait for a thread; more are told to try again.
    pub eval_queue_max: usize,
    /// How long such a request may take.
    pub eval_deadline_ms: u64,
    /// Estimated cost up to which such a request is evaluated on the thread that reads it; 0 sends all to threads of
    /// their own.
    pub eval_inline_cost_ns_max: u32,
    /// On each formula. Nothing raises them above [`FormulaLimits::CEILING`].
    pub formula: FormulaLimits,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            jobs_active_max: 1_000,
            jobs_pending_max: 1_000_000,
            pending_bytes_max: 4 << 30,
            jobs_kept_max: 1_000_000,
            retention_ms: 7 * 24 * 3_600_000,
            dependents_max: 1_000,
            catch_up_max: 100,
            disk_free_min_bytes: 256 << 20,
            formulas_per_job_max: 1_000_000,
            rows_max: 1 << 53,
            request_bytes_max: 16 << 20,
            upload_bytes_max: 64 << 30,
            job_spool_bytes_max: 64 << 30,
            requests_in_flight_max: 128,
            // 64 connections of one client, each with a request, and some for people beside them.
            requests_per_client_max: 96,
            namespaces_max: 10_000,
            tokens_max: 10_000,
            token_requests_per_s_max: 10_000,
            refusals_per_s_max: 500,
            sessions_max: 1_000,
            session_idle_ms: 12 * 3_600_000,
            audit_bytes_max: 64 << 20,
            batch_jobs_max: 10_000,
            // An idle one takes 20 to 30 kB.
            connections_max: 8_192,
            eval_batch_max: 1_000,
            eval_bytes_max: 1 << 20,
            eval_cache_bytes_max: 32 << 20,
            eval_queue_max: 256,
            eval_deadline_ms: 2_000,
            // About what the way to another thread and back costs.
            eval_inline_cost_ns_max: 20_000,
            formula: FormulaLimits::default(),
        }
    }
}

/// How work is cut and watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerSettings {
    /// How long a lease lives without news of it; workers report each second.
    pub lease_ttl_ms: u64,
    /// Execution time that a shard is cut for.
    pub shard_target_ms: u64,
    /// Deaths after which a shard is poison and its job fails.
    pub attempts_max: u32,
    /// Which of the workers with room gets a shard.
    pub placement: PlacementPolicy,
    /// Percent of the time in which something waits for a processor on a worker's host, past which it gets nothing
    /// while others can work; 100 is never passed.
    pub cpu_pressure_max: u8,
    /// The same for memory.
    pub memory_pressure_max: u8,
    /// Bytes of memory that must be available on a worker's host, or it gets nothing while others can work.
    pub memory_available_min_bytes: u64,
    /// Failures in a row after which a worker is quarantined.
    pub breaker_failures: u32,
    /// First time of quarantine; doubles each time that the worker then fails its trial.
    pub breaker_open_ms: u64,
    /// Longest time of quarantine.
    pub breaker_open_max_ms: u64,
}

/// Which of the workers with room gets a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementPolicy {
    /// The one with the fewest leases for its slots, and of these the fastest; pressure of its host counts as load.
    #[default]
    LeastLoaded,
    /// The one that has waited longest.
    RoundRobin,
    /// In proportion to `worker.weight`.
    Weighted,
    /// The same formula to the same workers, as far as they have room.
    ConsistentHash,
    /// Each job evenly over the zones.
    ZoneSpread,
}

impl PlacementPolicy {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::LeastLoaded, Self::RoundRobin, Self::Weighted, Self::ConsistentHash, Self::ZoneSpread];
}

impl fmt::Display for PlacementPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeastLoaded => "least-loaded",
            Self::RoundRobin => "round-robin",
            Self::Weighted => "weighted",
            Self::ConsistentHash => "consistent-hash",
            Self::ZoneSpread => "zone-spread",
        })
    }
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 10_000,
            shard_target_ms: 100,
            attempts_max: 4,
            placement: PlacementPolicy::LeastLoaded,
            cpu_pressure_max: 95,
            memory_pressure_max: 40,
            memory_available_min_bytes: 128 << 20,
            breaker_failures: 5,
            breaker_open_ms: 5_000,
            breaker_open_max_ms: 120_000,
        }
    }
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,quipu_master=debug`.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// URL of a collector that takes OTLP over gRPC; without it no trace is exported.
    pub otlp_endpoint: Option<String>,
    /// Part of the traces that begin here which are sampled; of others, whoever began them has decided.
    pub sample_ratio: f64,
    /// Spans that wait to be sent; more are dropped. One takes about 1 kB.
    pub queue_spans_max: usize,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0, queue_spans_max: 8192 }
    }
}

#[cfg(test)]
mod tests;
