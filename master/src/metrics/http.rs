//! The HTTP API: requests by route, method and status, their latency, and what is open.

use super::collect::gauge;
use super::histogram::{Buckets, Histogram};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabel;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::LabelSetEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What requests to no route are counted under.
pub const UNMATCHED_ROUTE: &str = "unmatched";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RouteLabels {
    route: Arc<str>,
    method: &'static str,
}

impl EncodeLabelSet for RouteLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("route", &*self.route).encode(encoder.encode_label())?;
        ("method", self.method).encode(encoder.encode_label())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RequestLabels {
    route: RouteLabels,
    status: u16,
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.route.encode(encoder)?;
        ("status", u32::from(self.status)).encode(encoder.encode_label())
    }
}

type Latencies = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// What the server counts. Clones count together. The labels are bounded: routes are patterns of the router, methods
/// those that it takes, statuses those that it gives.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    latency: Latencies,
    in_flight: Gauge,
    connections: Gauge,
    event_streams: Gauge,
    result_streams: Gauge,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(Buckets::LATENCY)),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            event_streams: Gauge::default(),
            result_streams: Gauge::default(),
        }
    }
}

/// Something that is open; it is counted until it is dropped.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpMetrics {
    /// A request is answered, as far as the head of its answer.
    pub fn answered(&self, route: &str, method: &'static str, status: u16, time: Duration) {
        let route = RouteLabels { route: route.into(), method };
        self.latency.get_or_create(&route).observe_time(time);
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// A request that is being answered.
    pub fn request(&self) -> Open {
        Open::new(&self.in_flight)
    }

    /// A connection.
    pub fn connection(&self) -> Open {
        Open::new(&self.connections)
    }

    /// A stream of server-sent events.
    pub fn event_stream(&self) -> Open {
        Open::new(&self.event_streams)
    }

    /// A stream of results.
    pub fn result_stream(&self) -> Open {
        Open::new(&self.result_streams)
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("quipu_http_requests", "HTTP requests by route, method and status", self.requests.clone());
        registry.register(
            "quipu_http_request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            self.latency.clone(),
        );
        registry.register(
            "quipu_http_requests_in_flight",
            "HTTP requests whose answer has not begun",
            self.in_flight.clone(),
        );
        registry.register("quipu_http_connections", "Connections of clients", self.connections.clone());
        registry.register("quipu_http_event_streams", "Open streams of server-sent events", self.event_streams.clone());
        registry.register("quipu_http_result_streams", "Open streams of results", self.result_streams.clone());
    }
}

/// How many of the server's places for streams are taken.
#[derive(Debug)]
pub struct StreamsCollector {
    /// Places of all streams but those of watchers, and how many there are.
    pub streams: (Arc<Semaphore>, usize),
    /// Those of who watches the cluster, as the dashboard does.
    pub watchers: (Arc<Semaphore>, usize),
}

impl Collector for StreamsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let taken = |(places, all): &(Arc<Semaphore>, usize)| all.saturating_sub(places.available_permits()) as i64;
        let encoder = &mut encoder;
        let (streams, watchers) = (taken(&self.streams), taken(&self.watchers));
        gauge(encoder, "quipu_http_streams", "Open streams of a job or of gRPC", streams)?;
        gauge(encoder, "quipu_http_watchers", "Open streams of who watches the cluster", watchers)
    }
}
