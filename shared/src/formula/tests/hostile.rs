//! Every formula that is known to hurt evalexpr gives a clear error or a bounded value, soon.

use super::eval;
use crate::formula::{Evaluator, Formula, FormulaLimits, hostile};
use std::time::{Duration, Instant};

/// Ten times what the slowest case took in an unoptimised build.
const CASE_MAX: Duration = Duration::from_secs(5);

#[test]
fn every_case_ends_soon_with_a_value_or_a_clear_error() {
    for (name, formula) in hostile::cases() {
        let begun = Instant::now();
        let result = eval(&formula);
        let elapsed = begun.elapsed();
        assert!(elapsed < CASE_MAX, "{name} took {elapsed:?}");
        if let Err(error) = result {
            assert!(!error.message.is_empty() && error.message.len() < 500, "{name}: {} bytes", error.message.len());
            assert!(!error.message.chars().any(char::is_control), "{name}: {:?}", error.message);
        }
    }
}

#[test]
fn every_case_ends_soon_with_every_limit_at_its_ceiling() {
    let limits = FormulaLimits {
        formula_bytes_max: usize::MAX,
        tokens_max: usize::MAX,
        nesting_max: usize::MAX,
        run_max: usize::MAX,
        nodes_max: usize::MAX,
        tree_depth_max: usize::MAX,
        value_bytes_max: usize::MAX,
        value_depth_max: usize::MAX,
        fuel_max: u64::MAX / 2,
    };
    for (name, formula) in hostile::cases() {
        let begun = Instant::now();
        let parsed = Formula::parse(&formula, &limits);
        if let Ok(parsed) = parsed {
            drop(Evaluator::new(&parsed, &[], &[], &limits).evaluate_once());
        }
        let elapsed = begun.elapsed();
        assert!(elapsed < Duration::from_secs(60), "{name} took {elapsed:?}");
    }
}
