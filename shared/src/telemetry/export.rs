//! Sends spans to a collector over OTLP (gRPC); off unless an endpoint is set.
//!
//! The SDK's batch processor does it on a thread of its own, from a bounded queue: who ends a span never waits, and what
//! does not fit the queue is dropped. A collector that is dead, slow or silent costs that thread its time and nobody
//! else's. Who begins a trace decides whether it is sampled; everybody after that keeps to it.

use super::TelemetryError;
use crate::config::TelemetryConfig;
use crate::ids::NodeId;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanLimits,
};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a batch may take: a collector that has not answered by then has lost it.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long spans wait for others to be sent with.
const EXPORT_PERIOD: Duration = Duration::from_secs(1);
/// Spans of one request at most.
const BATCH_SPANS_MAX: usize = 512;
/// How long the end of a process waits for its last spans to be taken.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// Attributes and events of one span at most; ours have a dozen.
const PER_SPAN_MAX: u32 = 32;

/// Where Linux names this machine.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

static EXPORT: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// What a process is, as its spans say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A command; with an embedded cluster, that too.
    Client,
    /// A master node.
    Master,
    /// A worker node.
    Worker,
}

impl Service {
    /// `service.name`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "quipu-client",
            Self::Master => "quipu-master",
            Self::Worker => "quipu-worker",
        }
    }
}

/// Whether spans are exported. Everything about them costs this look and nothing more where they are not.
pub fn is_on() -> bool {
    EXPORT.get().is_some()
}

pub(super) fn tracer() -> Option<&'static SdkTracer> {
    EXPORT.get().map(|(_, tracer)| tracer)
}

/// Begins to export, where an endpoint is set; once a process, within its runtime. Nothing is sent before there is a
/// span, so that a collector need not be there.
///
/// # Errors
/// Where the endpoint is none.
pub fn start(
    config: &TelemetryConfig,
    service: Service,
    cluster: &str,
    node_id: Option<&NodeId>,
) -> Result<(), TelemetryError> {
    let Some(endpoint) = config.otlp_endpoint.as_deref() else { return Ok(()) };
    // A command ends; it does not stay for a collector that is not there.
    let retries = if service == Service::Client { RetryPolicy::disabled() } else { RetryPolicy::recommended() };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .with_retry_policy(retries)
        .build()
        .map_err(|error| TelemetryError::Collector { endpoint: endpoint.to_owned(), problem: error.to_string() })?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(config.queue_spans_max)
        .with_max_export_batch_size(BATCH_SPANS_MAX.min(config.queue_spans_max))
        .with_scheduled_delay(EXPORT_PERIOD)
        .build();
    let processor = BatchSpanProcessor::builder(Watched::new(exporter)).with_batch_config(batches).build();
    let mut limits = SpanLimits::default();
    (limits.max_attributes_per_span, limits.max_events_per_span) = (PER_SPAN_MAX, PER_SPAN_MAX);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::parent_based(Sampler::TraceIdRatioBased(config.sample_ratio)))
        .with_span_limits(limits)
        .with_resource(resource(service, cluster, node_id))
        .build();
    let tracer = provider.tracer("quipu");
    if EXPORT.set((provider, tracer)).is_ok() {
        tracing::info!(endpoint, sample_ratio = config.sample_ratio, "traces are exported");
    }
    Ok(())
}

/// Hands over the last spans, and waits a moment for it. Blocks; the runtime must still be there.
pub fn stop() {
    if let Some((provider, _)) = EXPORT.get()
        && let Err(error) = provider.shutdown_with_timeout(STOP_PATIENCE)
    {
        tracing::debug!(%error, "the last spans were not exported");
    }
}

fn resource(service: Service, cluster: &str, node_id: Option<&NodeId>) -> Resource {
    let mut facts = vec![
        KeyValue::new("service.namespace", cluster.to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    if let Some(node_id) = node_id {
        facts.push(KeyValue::new("service.instance.id", node_id.to_string()));
    }
    if let Ok(host) = std::fs::read_to_string(HOST_NAME_FILE) {
        facts.push(KeyValue::new("host.name", host.trim().to_owned()));
    }
    // With what OTEL_RESOURCE_ATTRIBUTES adds.
    Resource::builder().with_service_name(service.name()).with_attributes(facts).build()
}

/// An exporter that says once that it does not get through, and once that it does again.
#[derive(Debug)]
struct Watched {
    exporter: SpanExporter,
    failing: AtomicBool,
}

impl Watched {
    fn new(exporter: SpanExporter) -> Self {
        Self { exporter, failing: AtomicBool::new(false) }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        match &exported {
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => tracing::info!("the collector takes spans again"),
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, spans, "spans not exported; told once until they are again");
            }
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
