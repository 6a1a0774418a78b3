//! One metric for each of a few values of a label that are known beforehand: no look-up where it is counted, and a line
//! from the start for what has not happened yet.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::fmt;

/// Metrics by the values of one label.
#[derive(Clone, Debug)]
pub struct ByLabel<M, const N: usize> {
    label: &'static str,
    metrics: [(&'static str, M); N],
}

impl<M, const N: usize> ByLabel<M, N> {
    /// One metric for each value.
    pub fn new(label: &'static str, values: [&'static str; N], make: impl Fn() -> M) -> Self {
        Self { label, metrics: values.map(|value| (value, make())) }
    }

    /// That of the value with this index.
    pub fn at(&self, index: usize) -> &M {
        &self.metrics[index].1
    }
}

impl<M: EncodeMetric + TypedMetric, const N: usize> EncodeMetric for ByLabel<M, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (value, metric) in &self.metrics {
            metric.encode(encoder.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
