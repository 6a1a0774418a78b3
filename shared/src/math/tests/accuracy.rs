//! How far the functions are from the exact values, over random and hard arguments.
//!
//! `QUIPU_ACCURACY_POINTS` sets how many arguments each function gets, `QUIPU_ACCURACY_SEED` which ones; the table of
//! docs/FORMULAS.md is what these tests print with a million points.

use super::arguments::Words;
use super::reference::{Reference, error_in_ulps};
use crate::math::{Function1, Function2};

/// What docs/FORMULAS.md promises: within one unit of the last place of the exact value, and so at most one float beside
/// the correctly rounded one.
const ULPS_MAX: f64 = 1.0;
/// A few seconds in all.
const POINTS: usize = 1500;

fn points() -> usize {
    std::env::var("QUIPU_ACCURACY_POINTS").ok().and_then(|text| text.parse().ok()).unwrap_or(POINTS)
}

fn seed() -> u64 {
    let fresh = || getrandom::u64().expect("random bytes of the system");
    std::env::var("QUIPU_ACCURACY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(fresh)
}

/// The largest error that was found, and where.
struct Worst {
    ulps: f64,
    at: String,
}

impl Worst {
    fn new() -> Self {
        Self { ulps: 0.0, at: "no argument".into() }
    }

    fn add(&mut self, ulps: f64, at: impl FnOnce() -> String) {
        if ulps > self.ulps {
            *self = Self { ulps, at: at() };
        }
    }

    #[allow(clippy::print_stdout, reason = "the figures of the documentation")]
    fn report(&self, name: &str, seed: u64) {
        println!("| `{name}` | {:.3} | {} |", self.ulps, self.at);
        assert!(
            self.ulps <= ULPS_MAX,
            "{name} is {} ulps off at {}; QUIPU_ACCURACY_SEED={seed} repeats it",
            self.ulps,
            self.at
        );
    }
}

/// An argument of the function's domain made from any finite one.
fn within_domain(function: Function1, x: f64) -> f64 {
    match function {
        Function1::Ln | Function1::Log2 | Function1::Log10 => x.abs(),
        Function1::Asin | Function1::Acos if x.abs() > 1.0 => 1.0 / x,
        Function1::Atanh if x.abs() == 1.0 => 0.5,
        Function1::Atanh if x.abs() > 1.0 => 1.0 / x,
        Function1::Acosh if x.abs() < 1.0 => 1.0 + x.abs(),
        Function1::Acosh => x.abs(),
        _ => x,
    }
}

#[test]
fn functions_are_within_one_ulp_of_the_exact_value() {
    let (seed, mut reference) = (seed(), Reference::new());
    for function in Function1::ALL {
        let (mut words, mut worst) = (Words::new(seed), Worst::new());
        for _ in 0..points() {
            let x = within_domain(function, words.float());
            if x == 0.0 {
                continue;
            }
            let found = function.of(x);
            worst.add(error_in_ulps(found, &reference.one(function, x)), || format!("{x:?}"));
        }
        worst.report(&format!("{function:?}").to_lowercase(), seed);
    }
}

#[test]
fn functions_of_two_are_within_one_ulp_of_the_exact_value() {
    let (seed, mut reference) = (seed(), Reference::new());
    for function in Function2::ALL {
        let (mut words, mut worst) = (Words::new(seed), Worst::new());
        for _ in 0..points() {
            let x = words.float();
            let y = words.partner(x);
            let (x, y) = match function {
                Function2::Log => (x.abs(), y.abs()),
                Function2::Pow if x < 0.0 => (x, y.round()),
                _ => (x, y),
            };
            let outside = x == 0.0 || y == 0.0 || (function == Function2::Log && y == 1.0);
            if outside || !y.is_finite() {
                continue;
            }
            if let Some(exact) = reference.two(function, x, y) {
                worst.add(error_in_ulps(function.of(x, y), &exact), || format!("{x:?}, {y:?}"));
            }
        }
        if function != Function2::Rem {
            worst.report(&format!("{function:?}").to_lowercase(), seed);
        }
    }
}
