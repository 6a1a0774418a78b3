//! Any text: parsing, checking, typing and evaluating it neither panics, nor hangs, nor grows.

#![no_main]

use quipu_shared::formula::typed::TypedFormula;
use quipu_shared::formula::{Evaluator, Formula, FormulaLimits, Symbols};
use quipu_shared::spec::ColumnType;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let limits = FormulaLimits::default();
    if let Ok(formula) = Formula::parse(text, &limits) {
        let symbols = Symbols::default();
        let _ = (formula.check(&symbols), formula.notes(&symbols));
        let _ = TypedFormula::new(&formula, &[("x".into(), ColumnType::Float)], &[]);
        let _ = Evaluator::new(&formula, &[], &[], &limits).evaluate_once();
    }
});
