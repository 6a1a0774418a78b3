//! Tests of the module as a whole, one file a promise.

mod blocks;
mod hostile;
mod language;

use super::{Evaluator, Formula, FormulaError, FormulaLimits};
use crate::spec::Scalar;

/// Parses and evaluates within the default limits.
fn eval(text: &str) -> Result<Scalar, FormulaError> {
    eval_with(text, &[])
}

/// Parses and evaluates with bindings.
fn eval_with(text: &str, bindings: &[(&str, Scalar)]) -> Result<Scalar, FormulaError> {
    let limits = FormulaLimits::default();
    let bindings: Vec<_> = bindings.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
    Evaluator::new(&Formula::parse(text, &limits)?, &[], &bindings, &limits).evaluate_once()
}
