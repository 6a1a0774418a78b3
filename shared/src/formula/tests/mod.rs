//! Tests of the module as a whole, one file a promise.

mod arithmetic;
mod blocks;
mod documentation;
mod errors;
mod hostile;
mod language;
mod limits;
mod literals;
mod reference;
mod soup;

use super::{ErrorCode, Evaluator, Formula, FormulaError, FormulaLimits};
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

/// The code of an evaluation that must fail.
fn code(text: &str) -> ErrorCode {
    match eval(text) {
        Err(error) => error.code,
        Ok(value) => panic!("{text} must fail, but is {value:?}"),
    }
}
