//! What one value of each math function costs, in a block and alone, beside libm's function of one value.
//!
//! `cargo bench --bench math` prints nanoseconds a value, one thread, blocks in the second-level cache. Timing never
//! fails it.
#![allow(clippy::print_stdout, reason = "figures go to stdout")]

use quipu_shared::math::{Argument, Function1, Function2};
use std::hint::black_box;
use std::time::{Duration, Instant};

const VALUES: usize = 4096;
/// Rounds are short, so that some of them run without being put aside by the system; the fastest one counts.
const ROUNDS: usize = 300;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return; // Built and listed along with tests.
    }
    println!("{:<8} {:>9} {:>9} {:>9} {:>9} {:>7}", "", "block ns", "all y ns", "alone ns", "libm ns", "ratio");
    for function in Function1::ALL {
        one(function);
    }
    for function in Function2::ALL {
        two(function);
    }
}

fn one(function: Function1) {
    let (from, to) = usual(function);
    let x = spread(from, to, 0.618_033_988_749_894_9);
    let mut out = vec![0.0; VALUES];
    let block = nanoseconds(|| function.over(black_box(&x), black_box(&mut out)));
    let mut each = |body: &dyn Fn(f64) -> f64| {
        nanoseconds(|| x.iter().zip(black_box(&mut out)).for_each(|(x, out)| *out = body(black_box(*x))))
    };
    let alone = each(&|x| function.of(x));
    let libm = each(&libm_one(function));
    row(&format!("{function:?}"), block, None, alone, libm);
}

fn two(function: Function2) {
    let (x, y) = (spread(0.0, 20.0, 0.618_033_988_749_894_9), spread(-10.0, 10.0, 0.414_213_562_373_095));
    let mut out = vec![0.0; VALUES];
    let block = nanoseconds(|| function.over(Argument::Each(black_box(&x)), Argument::Each(&y), black_box(&mut out)));
    let all = nanoseconds(|| function.over(Argument::Each(black_box(&x)), Argument::All(3.7), black_box(&mut out)));
    let mut each = |body: &dyn Fn(f64, f64) -> f64| {
        nanoseconds(|| {
            let pairs = x.iter().zip(&y).zip(black_box(&mut out));
            pairs.for_each(|((x, y), out)| *out = body(black_box(*x), *y));
        })
    };
    let alone = each(&|x, y| function.of(x, y));
    let libm = each(&libm_two(function));
    row(&format!("{function:?}"), block, Some(all), alone, libm);
}

/// Arguments of the size that the function usually gets.
fn usual(function: Function1) -> (f64, f64) {
    match function {
        Function1::Sin | Function1::Cos | Function1::Tan => (-100.0, 100.0),
        Function1::Asin | Function1::Acos | Function1::Atanh => (-1.0, 1.0),
        Function1::Acosh => (1.0, 100.0),
        Function1::Ln | Function1::Log2 | Function1::Log10 => (0.0, 1000.0),
        _ => (-20.0, 20.0),
    }
}

/// Values spread evenly, in an order that no branch predictor knows.
fn spread(from: f64, to: f64, step: f64) -> Vec<f64> {
    (1..=VALUES).map(|i| from + (to - from) * (i as f64 * step).fract()).collect()
}

fn nanoseconds(mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed());
    }
    best.as_secs_f64() * 1e9 / VALUES as f64
}

fn row(name: &str, block: f64, all: Option<f64>, alone: f64, libm: f64) {
    let all = all.map_or(String::new(), |all| format!("{all:.2}"));
    println!("{name:<8} {block:>9.2} {all:>9} {alone:>9.2} {libm:>9.2} {:>7.1}", libm / block);
}

fn libm_one(function: Function1) -> fn(f64) -> f64 {
    match function {
        Function1::Cbrt => libm::cbrt,
        Function1::Exp => libm::exp,
        Function1::Exp2 => libm::exp2,
        Function1::Ln => libm::log,
        Function1::Log2 => libm::log2,
        Function1::Log10 => libm::log10,
        Function1::Sin => libm::sin,
        Function1::Cos => libm::cos,
        Function1::Tan => libm::tan,
        Function1::Asin => libm::asin,
        Function1::Acos => libm::acos,
        Function1::Atan => libm::atan,
        Function1::Sinh => libm::sinh,
        Function1::Cosh => libm::cosh,
        Function1::Tanh => libm::tanh,
        Function1::Asinh => libm::asinh,
        Function1::Acosh => libm::acosh,
        Function1::Atanh => libm::atanh,
    }
}

fn libm_two(function: Function2) -> fn(f64, f64) -> f64 {
    match function {
        Function2::Pow => libm::pow,
        Function2::Log => |x, base| libm::log(x) / libm::log(base),
        Function2::Atan2 => libm::atan2,
        Function2::Hypot => libm::hypot,
        Function2::Rem => |x, y| x % y,
    }
}
