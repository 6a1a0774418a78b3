//! What a master tells Prometheus.
//!
//! Two ways lead here. What happens often is counted where it happens, with atomics: [`DispatchMetrics`],
//! [`StoreMetrics`], [`HttpMetrics`]. What somebody knows anyway is asked for at each scrape by a collector: jobs, nodes,
//! links, gossip, the process. A part with figures of its own adds a collector with [`Metrics::add`].
//!
//! Every label is bounded: by the code, or by a constant that stands where the label is made. docs/METRICS.md lists all
//! metrics, and a test holds the two together.

mod by_label;
pub mod cluster;
pub mod collect;
mod dispatch;
mod eval;
pub mod histogram;
mod http;
pub mod jobs;
mod process;
mod store;

pub use by_label::ByLabel;
pub use dispatch::DispatchMetrics;
pub use eval::EvalCollector;
pub use http::{HttpMetrics, Open, StreamsCollector, UNMATCHED_ROUTE};
pub use store::{StoreCollector, StoreMetrics};

use process::ProcessCollector;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::{PoisonError, RwLock};

/// Form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4.
    Prometheus,
}

impl Exposition {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The figures of one master, made at its start.
#[derive(Debug)]
pub struct Metrics {
    /// Of its dispatcher.
    pub dispatch: DispatchMetrics,
    /// Of its job log.
    pub store: StoreMetrics,
    /// Of its HTTP API.
    pub http: HttpMetrics,
    registry: RwLock<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (dispatch, store, http) = Default::default();
        let metrics = Self { dispatch, store, http, registry: RwLock::default() };
        {
            let mut registry = metrics.registry.write().unwrap_or_else(PoisonError::into_inner);
            let build = [
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("protocol", quipu_shared::PROTOCOL_VERSION.to_string()),
                ("numerics", quipu_shared::NUMERICS_VERSION.to_string()),
            ];
            registry.register("quipu_build", "What this master is", Info::new(build.to_vec()));
            metrics.dispatch.register(&mut registry);
            metrics.store.register(&mut registry);
            metrics.http.register(&mut registry);
            registry.register_collector(Box::new(ProcessCollector));
        }
        metrics
    }
}

impl Metrics {
    /// Adds what is asked for at each scrape. It must not block for long, and must not scrape.
    pub fn add(&self, collector: impl Collector) {
        self.registry.write().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    /// All figures as text; none where a collector failed to write its own.
    pub fn encode(&self, exposition: Exposition) -> Option<String> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        let written = match exposition {
            Exposition::OpenMetrics => text::encode(&mut out, &registry),
            Exposition::Prometheus => prometheus_text::encode(&mut out, &registry),
        };
        written.is_ok().then_some(out)
    }
}
