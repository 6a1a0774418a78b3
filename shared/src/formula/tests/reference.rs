//! Comparison with evalexpr itself.

use super::eval_with;
use crate::formula::evaluate::{from_scalar, into_scalar};
use crate::formula::{Evaluator, Formula, FormulaError, FormulaLimits};
use crate::spec::Scalar;
use evalexpr::{ContextWithMutableVariables, EvalexprResult, HashMapContext, Value};

/// What evalexpr makes of a formula, with its own context and functions.
pub(super) fn evalexpr_says(text: &str, bindings: &[(&str, Scalar)]) -> EvalexprResult<Value> {
    let mut context = HashMapContext::new();
    for (name, value) in bindings {
        context.set_value((*name).to_string(), from_scalar(value)).expect("a fresh name takes any value");
    }
    evalexpr::eval_with_context_mut(text, &mut context)
}

/// Steps between two floats; 0 where they are the same, zeros of both signs and every NaN told apart by kind only.
pub(super) fn ulps(a: f64, b: f64) -> u64 {
    if a.is_nan() && b.is_nan() {
        return 0;
    }
    if a.is_nan() || b.is_nan() {
        return u64::MAX;
    }
    let ordered = |x: f64| {
        let bits = x.to_bits() as i64;
        i128::from(if bits < 0 { i64::MIN - bits } else { bits })
    };
    let zeros_differ = u64::from(a.to_bits() != b.to_bits());
    u64::try_from((ordered(a) - ordered(b)).unsigned_abs()).unwrap_or(u64::MAX).max(zeros_differ)
}

/// Whether two values have one type and one value, floats within a number of ulps.
pub(super) fn same(ours: &Scalar, theirs: &Scalar, ulps_max: u64) -> bool {
    match (ours, theirs) {
        (Scalar::Float(a), Scalar::Float(b)) => ulps(*a, *b) <= ulps_max,
        (Scalar::Tuple(a), Scalar::Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, ulps_max))
        }
        (a, b) => a == b,
    }
}

/// Asserts that we and evalexpr agree on a formula: value and type, or that it fails.
pub(super) fn assert_same(text: &str, bindings: &[(&str, Scalar)], ulps_max: u64) -> Result<Scalar, FormulaError> {
    let ours = eval_with(text, bindings);
    let theirs = evalexpr_says(text, bindings).map(into_scalar);
    match (&ours, &theirs) {
        (Ok(a), Ok(b)) => assert!(same(a, b, ulps_max), "{text}: {a:?} here, {b:?} in evalexpr"),
        (Err(_), Err(_)) => {}
        _ => panic!("{text}: {ours:?} here, {theirs:?} in evalexpr"),
    }
    ours
}

/// Asserts that a formula means the same whether its operations are metered or not, where it may be unmetered.
pub(super) fn assert_programs_agree(text: &str, bindings: &[(&str, Scalar)]) {
    let limits = FormulaLimits::default();
    let Ok(formula) = Formula::parse(text, &limits) else { return };
    let bindings: Vec<_> = bindings.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
    let mut evaluator = Evaluator::new(&formula, &[], &bindings, &limits);
    let plain = evaluator.evaluate_once();
    evaluator.always_meter();
    let metered = evaluator.evaluate_once();
    match (&plain, &metered) {
        (Ok(plain), Ok(metered)) => assert!(same(plain, metered, 0), "{text}: {plain:?} plain, {metered:?} metered"),
        (Err(plain), Err(metered)) => assert_eq!(plain.code, metered.code, "{text}"),
        _ => panic!("{text}: {plain:?} plain, {metered:?} metered"),
    }
}
