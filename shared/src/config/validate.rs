//! Checks that go beyond types. Each names the key and says what would be right.

use super::{Config, GossipSettings, LimitsConfig, SchedulerSettings, TelemetryConfig};
use crate::formula::FormulaLimits;
use crate::membership::identity::LABEL_BYTES_MAX;
use crate::membership::is_seed;

/// Longest name of a cluster: it is an input of every key.
const CLUSTER_ID_BYTES_MAX: usize = 64;
/// A lease that lives less than three reports (one a second) ends when one is late.
const LEASE_TTL_MIN_MS: u64 = 3_000;
/// More executors than this in one process is a slip of the finger.
const SLOTS_MAX: u32 = 1024;
/// Row numbers up to here are exact in a double.
const ROWS_CEILING: u64 = 1 << 53;
/// A day: a worker that is to stay away for longer is better stopped.
const BREAKER_CEILING_MS: u64 = 86_400_000;
/// With a larger weight, one worker would have to get a thousand shards before another gets its first.
const WEIGHT_MAX: u32 = 1_000;

/// About 1 GB of spans that nobody takes.
const QUEUE_SPANS_CEILING: usize = 1 << 20;

type Checked = Result<(), (&'static str, String)>;

impl Config {
    /// The first key that makes no sense, and why.
    pub(super) fn validate(&self) -> Checked {
        self.check_client()?;
        self.check_cluster()?;
        check_gossip(&self.gossip)?;
        require(self.worker.slots <= SLOTS_MAX, "worker.slots", || {
            format!("must be at most {SLOTS_MAX}, or 0 for one a core")
        })?;
        require(self.worker.zone.len() <= LABEL_BYTES_MAX, "worker.zone", || {
            format!("must be at most {LABEL_BYTES_MAX} bytes")
        })?;
        require((1..=WEIGHT_MAX).contains(&self.worker.weight), "worker.weight", || {
            format!("must be 1 to {WEIGHT_MAX}; a worker that is to get nothing is better drained")
        })?;
        check_limits(&self.limits)?;
        require(self.master.eval_threads <= SLOTS_MAX as usize, "master.eval_threads", || {
            format!("must be at most {SLOTS_MAX}, or 0 for half the cores")
        })?;
        check_scheduler(&self.scheduler)?;
        check_telemetry(&self.telemetry)?;
        let level = tracing_subscriber::EnvFilter::try_new(&self.log.level).map_err(|error| {
            ("log.level", format!("{error}; use error, warn, info, debug, trace or off, or info,quipu_master=debug"))
        });
        level.map(|_| ())
    }

    fn check_client(&self) -> Checked {
        let Some(url) = &self.client.cluster else { return Ok(()) };
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        require(host.is_some_and(|host| !host.trim_matches('/').is_empty()), "client.cluster", || {
            format!("{url:?} is not a URL such as https://master.example:{}", super::HTTP_PORT)
        })
    }

    fn check_cluster(&self) -> Checked {
        let id = &self.cluster.id;
        require((1..=CLUSTER_ID_BYTES_MAX).contains(&id.len()), "cluster.id", || {
            format!("must be a name of 1 to {CLUSTER_ID_BYTES_MAX} bytes")
        })?;
        let both = self.cluster.tls_cert.is_some() == self.cluster.tls_key.is_some();
        let lonely = if self.cluster.tls_cert.is_some() { "cluster.tls_cert" } else { "cluster.tls_key" };
        require(both, lonely, || "tls_cert and tls_key belong together; set both or neither".into())?;
        let is_origin = |origin: &str| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'*')
            })
        };
        if let Some(bad) = self.master.cors_origins.iter().find(|origin| !is_origin(origin)) {
            let problem = format!("{bad:?} is no origin such as https://app.example: scheme and host, no path, no *");
            return Err(("master.cors_origins", problem));
        }
        let both = self.master.http_cert.is_some() == self.master.http_key.is_some();
        let lonely = if self.master.http_cert.is_some() { "master.http_cert" } else { "master.http_key" };
        require(both, lonely, || "http_cert and http_key belong together; set both or neither".into())
    }
}

fn check_gossip(gossip: &GossipSettings) -> Checked {
    if let Some(bad) = gossip.seeds.iter().find(|seed| !is_seed(seed)) {
        return Err((
            "gossip.seeds",
            format!("{bad:?} is not HOST:PORT, such as worker-1.example:{}", super::GOSSIP_PORT),
        ));
    }
    if let Some(text) = &gossip.advertise {
        let usable = gossip.advertise_address().is_some_and(|address| !address.ip().is_unspecified());
        require(usable, "gossip.advertise", || {
            format!("{text:?} is not an IP or IP:PORT that other nodes can send to, such as 10.0.0.7")
        })?;
    }
    require((10..=60_000).contains(&gossip.period_ms), "gossip.period_ms", || "must be 10 to 60000".into())?;
    let suspicion = gossip.period_ms..=600_000;
    require(suspicion.contains(&gossip.suspicion_ms), "gossip.suspicion_ms", || {
        format!("must be from gossip.period_ms, which is {}, to 600000", gossip.period_ms)
    })
}

fn check_limits(limits: &LimitsConfig) -> Checked {
    let numbers = [
        ("limits.jobs_active_max", limits.jobs_active_max as u64),
        ("limits.jobs_pending_max", limits.jobs_pending_max as u64),
        ("limits.pending_bytes_max", limits.pending_bytes_max),
        ("limits.dependents_max", u64::from(limits.dependents_max)),
        ("limits.formulas_per_job_max", limits.formulas_per_job_max as u64),
        ("limits.rows_max", limits.rows_max),
        ("limits.request_bytes_max", limits.request_bytes_max as u64),
        ("limits.upload_bytes_max", limits.upload_bytes_max),
        ("limits.job_spool_bytes_max", limits.job_spool_bytes_max),
        ("limits.requests_in_flight_max", limits.requests_in_flight_max as u64),
        ("limits.requests_per_client_max", limits.requests_per_client_max as u64),
        ("limits.batch_jobs_max", limits.batch_jobs_max as u64),
        ("limits.connections_max", limits.connections_max as u64),
        ("limits.eval_batch_max", limits.eval_batch_max as u64),
        ("limits.eval_bytes_max", limits.eval_bytes_max as u64),
        ("limits.eval_cache_bytes_max", limits.eval_cache_bytes_max),
        ("limits.eval_queue_max", limits.eval_queue_max as u64),
        ("limits.eval_deadline_ms", limits.eval_deadline_ms),
        ("limits.namespaces_max", limits.namespaces_max as u64),
        ("limits.tokens_max", limits.tokens_max as u64),
        ("limits.token_requests_per_s_max", u64::from(limits.token_requests_per_s_max)),
        ("limits.refusals_per_s_max", u64::from(limits.refusals_per_s_max)),
        ("limits.sessions_max", limits.sessions_max as u64),
        ("limits.session_idle_ms", limits.session_idle_ms),
        ("limits.audit_bytes_max", limits.audit_bytes_max),
    ];
    for (key, number) in numbers {
        require(number >= 1, key, || "must be at least 1: with 0 nothing would be taken".into())?;
    }
    require(limits.rows_max <= ROWS_CEILING, "limits.rows_max", || format!("must be at most {ROWS_CEILING}"))?;
    let (formula, ceiling) = (&limits.formula, FormulaLimits::CEILING);
    let caps = [
        ("limits.formula.formula_bytes_max", formula.formula_bytes_max as u64, ceiling.formula_bytes_max as u64),
        ("limits.formula.tokens_max", formula.tokens_max as u64, ceiling.tokens_max as u64),
        ("limits.formula.nesting_max", formula.nesting_max as u64, ceiling.nesting_max as u64),
        ("limits.formula.run_max", formula.run_max as u64, ceiling.run_max as u64),
        ("limits.formula.nodes_max", formula.nodes_max as u64, ceiling.nodes_max as u64),
        ("limits.formula.tree_depth_max", formula.tree_depth_max as u64, ceiling.tree_depth_max as u64),
        ("limits.formula.value_bytes_max", formula.value_bytes_max as u64, ceiling.value_bytes_max as u64),
        ("limits.formula.value_depth_max", formula.value_depth_max as u64, ceiling.value_depth_max as u64),
        ("limits.formula.fuel_max", formula.fuel_max, ceiling.fuel_max),
    ];
    for (key, number, most) in caps {
        require((1..=most).contains(&number), key, || {
            format!("must be 1 to {most}: the product was measured up to there")
        })?;
    }
    Ok(())
}

fn check_scheduler(scheduler: &SchedulerSettings) -> Checked {
    require(scheduler.lease_ttl_ms >= LEASE_TTL_MIN_MS, "scheduler.lease_ttl_ms", || {
        format!("must be at least {LEASE_TTL_MIN_MS}: workers report each second")
    })?;
    require((1..=60_000).contains(&scheduler.shard_target_ms), "scheduler.shard_target_ms", || {
        "must be 1 to 60000".into()
    })?;
    require(scheduler.attempts_max >= 1, "scheduler.attempts_max", || "must be at least 1".into())?;
    let shares = [
        ("scheduler.cpu_pressure_max", scheduler.cpu_pressure_max),
        ("scheduler.memory_pressure_max", scheduler.memory_pressure_max),
    ];
    for (key, share) in shares {
        require((1..=100).contains(&share), key, || "must be 1 to 100 percent; 100 is never passed".into())?;
    }
    require((1..=1_000).contains(&scheduler.breaker_failures), "scheduler.breaker_failures", || {
        "must be 1 to 1000 failures in a row".into()
    })?;
    require((1..=BREAKER_CEILING_MS).contains(&scheduler.breaker_open_ms), "scheduler.breaker_open_ms", || {
        format!("must be 1 to {BREAKER_CEILING_MS}")
    })?;
    let longest = scheduler.breaker_open_ms..=BREAKER_CEILING_MS;
    require(longest.contains(&scheduler.breaker_open_max_ms), "scheduler.breaker_open_max_ms", || {
        format!(
            "must be from scheduler.breaker_open_ms, which is {}, to {BREAKER_CEILING_MS}",
            scheduler.breaker_open_ms
        )
    })
}

fn check_telemetry(telemetry: &TelemetryConfig) -> Checked {
    if let Some(url) = &telemetry.otlp_endpoint {
        let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        // TLS is for the collector that stands beside the node, and carries spans on.
        require(host.is_some_and(|host| !host.is_empty() && !host.contains('/')), "telemetry.otlp_endpoint", || {
            format!("{url:?} is not the URL of a collector's gRPC port, such as http://127.0.0.1:4317")
        })?;
    }
    require((0.0..=1.0).contains(&telemetry.sample_ratio), "telemetry.sample_ratio", || "must be 0.0 to 1.0".into())?;
    require((1..=QUEUE_SPANS_CEILING).contains(&telemetry.queue_spans_max), "telemetry.queue_spans_max", || {
        format!("must be 1 to {QUEUE_SPANS_CEILING}")
    })
}

fn require(holds: bool, key: &'static str, problem: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err((key, problem())) }
}
