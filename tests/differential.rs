//! Random formulas: every tier of the engine gives evalexpr's values, types and failures.
//!
//! `QUIPU_FUZZ_ROWS` says how many rows to compare (on all cores), `QUIPU_FUZZ_SEED` repeats a run.

#![allow(clippy::print_stderr, reason = "a run shows its seed and what it compared")]

#[path = "support/differential.rs"]
mod differential;

use differential::{Choices, block, compare};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Rows of a run that nobody has asked more of.
const ROWS: u64 = 2_000_000;
/// Formulas that are tried on one block: blocks cost more to make than to use.
const FORMULAS_PER_BLOCK: u64 = 16;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_tier_gives_evalexprs_answers() {
    let rows_wanted = number("QUIPU_FUZZ_ROWS").unwrap_or(ROWS);
    let from_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let seed = number("QUIPU_FUZZ_SEED").unwrap_or_else(from_clock);
    eprintln!("seed {seed}: QUIPU_FUZZ_SEED={seed} repeats this run");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (rows, formulas, typed, next) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while rows.load(Ordering::Relaxed) < rows_wanted {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    let mut choices = Choices::from_seed(seed.wrapping_add(case.wrapping_mul(0x2545_f491_4f6c_dd1d)));
                    let len = [4096, 4096, 4096, 1025, 100, 9][(case % 6) as usize];
                    let block = block(&mut choices, len);
                    for _ in 0..FORMULAS_PER_BLOCK {
                        let compared = compare(&mut choices, &block) as u64;
                        rows.fetch_add(compared, Ordering::Relaxed);
                        typed.fetch_add(u64::from(compared > 0), Ordering::Relaxed);
                        formulas.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (rows, formulas, typed) = (rows.into_inner(), formulas.into_inner(), typed.into_inner());
    eprintln!("{rows} rows of {typed} typed formulas (of {formulas}) compared on every tier: no difference");
    assert!(rows >= rows_wanted && typed * 2 > formulas, "too few formulas had a typed form: {typed} of {formulas}");
}
