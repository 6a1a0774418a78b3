//! A fuzzer's bytes decide formula and columns; the tiers must agree with evalexpr's evaluator.

#![no_main]

#[path = "../../tests/support/differential.rs"]
mod differential;

use differential::{Choices, block, compare};

/// Rows of a case: few, so that many formulas are tried; more than the engine leaves to evalexpr.
const ROWS: usize = 64;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The columns come from a fixed seed, so that every byte shapes the formula.
    let block = block(&mut Choices::from_seed(1), ROWS);
    compare(&mut Choices::from_bytes(bytes), &block);
});
