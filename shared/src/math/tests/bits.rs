//! A block has the bits of single values, wherever its vectors begin and end.

use super::arguments::{SPECIAL, Words};
use crate::math::{Argument, Function1, Function2};

/// Around the widths of vectors and of unrolled loops, and beyond one piece of a block.
const LENGTHS: &[usize] = &[0, 1, 2, 3, 5, 7, 8, 9, 15, 17, 31, 33, 63, 65, 127, 511, 512, 513, 1031];
const SEED: u64 = 0x51ed_270b;

/// Any bits, numbers of usual sizes, and what is special, in turns.
fn numbers(words: &mut Words, count: usize) -> Vec<f64> {
    (0..count)
        .map(|at| match at % 3 {
            0 => f64::from_bits(words.word()),
            1 => words.float(),
            _ => {
                let special = SPECIAL[at / 3 % SPECIAL.len()];
                if words.word() & 1 == 0 { special } else { -special }
            }
        })
        .collect()
}

fn assert_same(what: &str, arguments: (f64, f64), block: f64, single: f64) {
    assert_eq!(
        block.to_bits(),
        single.to_bits(),
        "{what} of {arguments:?} is {block:?} in a block and {single:?} alone"
    );
}

#[test]
fn blocks_have_the_bits_of_single_values() {
    let mut words = Words::new(SEED);
    for function in Function1::ALL {
        for length in LENGTHS.iter().copied().chain([20_000]) {
            let x = numbers(&mut words, length);
            let mut out = vec![0.0; length];
            function.over(&x, &mut out);
            for (x, out) in x.iter().zip(&out) {
                assert_same(&format!("{function:?}"), (*x, 0.0), *out, function.of(*x));
            }
        }
    }
}

#[test]
fn blocks_of_pairs_have_the_bits_of_single_pairs() {
    let mut words = Words::new(SEED);
    for function in Function2::ALL {
        let name = format!("{function:?}");
        for length in LENGTHS.iter().copied().chain([20_000]) {
            let (mut x, mut y) = (numbers(&mut words, length), numbers(&mut words, length));
            // Special values beside each other, too.
            x.extend(SPECIAL.iter().flat_map(|x| [*x; SPECIAL.len()]));
            y.extend(SPECIAL.iter().cycle().take(SPECIAL.len() * SPECIAL.len()));
            let mut out = vec![0.0; x.len()];
            function.over(Argument::Each(&x), Argument::Each(&y), &mut out);
            for ((x, y), out) in x.iter().zip(&y).zip(&out) {
                assert_same(&name, (*x, *y), *out, function.of(*x, *y));
            }
        }
    }
}

#[test]
fn one_argument_for_all_rows_has_the_bits_of_one_a_row() {
    let mut words = Words::new(SEED);
    let many = numbers(&mut words, 1031);
    let mut out = vec![0.0; many.len()];
    for function in Function2::ALL {
        let name = format!("{function:?}");
        let random: Vec<f64> = (0..20).map(|_| words.float()).collect();
        for one in SPECIAL.iter().flat_map(|special| [*special, -special]).chain(random) {
            function.over(Argument::Each(&many), Argument::All(one), &mut out);
            for (x, out) in many.iter().zip(&out) {
                assert_same(&name, (*x, one), *out, function.of(*x, one));
            }
            function.over(Argument::All(one), Argument::Each(&many), &mut out);
            for (y, out) in many.iter().zip(&out) {
                assert_same(&name, (one, *y), *out, function.of(one, *y));
            }
        }
        function.over(Argument::All(2.5), Argument::All(-1.5), &mut out);
        assert!(out.iter().all(|out| out.to_bits() == function.of(2.5, -1.5).to_bits()));
    }
}

#[test]
fn every_nan_is_the_canonical_one() {
    let nans = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001), f64::from_bits(0xfff8_0000_dead_beef)];
    let canonical = f64::NAN.to_bits();
    for nan in nans {
        for function in Function1::ALL {
            assert_eq!(function.of(nan).to_bits(), canonical, "{function:?}");
        }
        for function in Function2::ALL {
            assert_eq!(function.of(nan, 3.0).to_bits(), canonical, "{function:?}");
            assert_eq!(function.of(3.0, nan).to_bits(), canonical, "{function:?}");
        }
    }
    for (function, x) in [(Function1::Ln, -1.0), (Function1::Sin, f64::INFINITY), (Function1::Asin, 2.0)] {
        assert_eq!(function.of(x).to_bits(), canonical, "{function:?}");
    }
}
