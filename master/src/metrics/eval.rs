//! Formulas that are answered at once.

use super::collect::{counter, counters};
use crate::eval::{EvalEngine, EvalStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::sync::Weak;

/// Asks the engine at each scrape.
pub struct EvalCollector {
    /// The engine; it goes with its server.
    pub engine: Weak<EvalEngine>,
}

impl fmt::Debug for EvalCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvalCollector").finish_non_exhaustive()
    }
}

impl Collector for EvalCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let Some(engine) = self.engine.upgrade() else { return Ok(()) };
        let EvalStats {
            evaluations,
            failed,
            inline,
            pooled,
            refused,
            formula_hits,
            formula_misses,
            value_hits,
            value_misses,
        } = engine.stats();
        let outcomes = [("value", evaluations.saturating_sub(failed)), ("failed", failed)];
        let outcomes = outcomes.map(|(outcome, count)| ([("outcome", outcome)], count));
        counters(
            encoder,
            "quipu_eval_formulas",
            "Formulas that were evaluated at once, by what came of them",
            outcomes,
        )?;
        let places = [("inline", inline), ("pool", pooled)].map(|(place, count)| ([("place", place)], count));
        counters(encoder, "quipu_eval_requests", "Requests for evaluations at once, by where they were done", places)?;
        counter(
            encoder,
            "quipu_eval_refused",
            "Requests for evaluations at once that found the queue full, or whose deadline passed in it",
            refused,
        )?;
        let lookups = [
            ("formula", "hit", formula_hits),
            ("formula", "miss", formula_misses),
            ("value", "hit", value_hits),
            ("value", "miss", value_misses),
        ];
        let lookups = lookups.map(|(cache, result, count)| ([("cache", cache), ("result", result)], count));
        counters(encoder, "quipu_eval_cache_lookups", "Look-ups in the caches of formulas and of values", lookups)
    }
}
