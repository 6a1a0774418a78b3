//! What the functions give at the edges of their domains, by IEEE 754 and C's annex F.

use crate::math::{Function1, Function2};
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// Function, argument, result.
const ONE: &[(Function1, f64, f64)] = &[
    (Function1::Cbrt, INF, INF),
    (Function1::Cbrt, -27.0, -3.0),
    (Function1::Exp, INF, INF),
    (Function1::Exp, -INF, 0.0),
    (Function1::Exp, 710.0, INF),
    (Function1::Exp, -746.0, 0.0),
    (Function1::Exp, 0.0, 1.0),
    (Function1::Exp2, 1024.0, INF),
    (Function1::Exp2, 1023.0, 8.98846567431158e307),
    (Function1::Exp2, -1074.0, 5e-324),
    (Function1::Exp2, -1076.0, 0.0),
    (Function1::Ln, 0.0, -INF),
    (Function1::Ln, -0.0, -INF),
    (Function1::Ln, 1.0, 0.0),
    (Function1::Ln, INF, INF),
    (Function1::Ln, -5e-324, NAN),
    (Function1::Ln, -INF, NAN),
    (Function1::Log2, 5e-324, -1074.0),
    (Function1::Log2, 8.0, 3.0),
    (Function1::Log10, 1000.0, 3.0),
    (Function1::Log10, 1e22, 22.0),
    (Function1::Sin, INF, NAN),
    (Function1::Cos, -INF, NAN),
    (Function1::Cos, 0.0, 1.0),
    (Function1::Tan, INF, NAN),
    (Function1::Asin, 1.0, FRAC_PI_2),
    (Function1::Asin, 1.0000000000000002, NAN),
    (Function1::Acos, 1.0, 0.0),
    (Function1::Acos, -1.0, PI),
    (Function1::Acos, 0.0, FRAC_PI_2),
    (Function1::Acos, -1.5, NAN),
    (Function1::Atan, INF, FRAC_PI_2),
    (Function1::Atan, -INF, -FRAC_PI_2),
    (Function1::Atan, 1.0, FRAC_PI_4),
    (Function1::Sinh, -INF, -INF),
    (Function1::Sinh, 710.5, INF),
    (Function1::Cosh, -INF, INF),
    (Function1::Cosh, 0.0, 1.0),
    (Function1::Tanh, INF, 1.0),
    (Function1::Tanh, -30.0, -1.0),
    (Function1::Asinh, -INF, -INF),
    (Function1::Acosh, 1.0, 0.0),
    (Function1::Acosh, 0.5, NAN),
    (Function1::Acosh, -1e300, NAN),
    (Function1::Acosh, INF, INF),
    (Function1::Atanh, 1.0, INF),
    (Function1::Atanh, -1.0, -INF),
    (Function1::Atanh, 1.0000000000000002, NAN),
    (Function1::Atanh, INF, NAN),
];

/// Function, arguments, result.
const TWO: &[(Function2, f64, f64, f64)] = &[
    (Function2::Pow, 1.0, NAN, 1.0),
    (Function2::Pow, NAN, 0.0, 1.0),
    (Function2::Pow, NAN, 1.0, NAN),
    (Function2::Pow, 0.0, -1.0, INF),
    (Function2::Pow, -0.0, -1.0, -INF),
    (Function2::Pow, -0.0, -3.0, -INF),
    (Function2::Pow, -0.0, -2.0, INF),
    (Function2::Pow, -0.0, 3.0, -0.0),
    (Function2::Pow, -0.0, 2.5, 0.0),
    (Function2::Pow, -0.0, 0.5, 0.0),
    (Function2::Pow, -0.0, -0.5, INF),
    (Function2::Pow, -INF, 0.5, INF),
    (Function2::Pow, -INF, 3.0, -INF),
    (Function2::Pow, -INF, 4.0, INF),
    (Function2::Pow, -INF, -3.0, -0.0),
    (Function2::Pow, -INF, -2.5, 0.0),
    (Function2::Pow, -INF, -1.0, -0.0),
    (Function2::Pow, INF, -1e-300, 0.0),
    (Function2::Pow, 0.0, 1e-300, 0.0),
    (Function2::Pow, -1.0, INF, 1.0),
    (Function2::Pow, -1.0, -INF, 1.0),
    (Function2::Pow, 0.5, INF, 0.0),
    (Function2::Pow, 0.5, -INF, INF),
    (Function2::Pow, -2.0, INF, INF),
    (Function2::Pow, 1.0000000000000002, INF, INF),
    (Function2::Pow, 0.9999999999999999, 1e300, 0.0),
    (Function2::Pow, -8.0, 1.0 / 3.0, NAN),
    (Function2::Pow, -2.0, 0.5, NAN),
    (Function2::Pow, -2.0, 3.0, -8.0),
    (Function2::Pow, -2.0, -2.0, 0.25),
    (Function2::Pow, -2.0, 9007199254740993.0, INF),
    (Function2::Pow, -1.0, 9007199254740991.0, -1.0),
    (Function2::Pow, -1.0, 4503599627370497.0, -1.0),
    (Function2::Pow, -1.0, 4503599627370495.5, NAN),
    (Function2::Pow, 2.0, -1074.0, 5e-324),
    (Function2::Pow, 10.0, 22.0, 1e22),
    (Function2::Pow, 5e-324, 1.0, 5e-324),
    (Function2::Pow, 3.0, 1.0, 3.0),
    (Function2::Log, 8.0, 2.0, 3.0),
    (Function2::Log, 1000.0, 10.0, 3.0),
    (Function2::Log, 0.0, 2.0, -INF),
    (Function2::Log, 0.0, 0.5, INF),
    (Function2::Log, INF, 2.0, INF),
    (Function2::Log, 2.0, INF, 0.0),
    (Function2::Log, 2.0, 0.0, -0.0),
    (Function2::Log, 2.0, 1.0, INF),
    (Function2::Log, 0.5, 1.0, -INF),
    (Function2::Log, 1.0, 1.0, NAN),
    (Function2::Log, -1.0, 2.0, NAN),
    (Function2::Log, 2.0, -1.0, NAN),
    (Function2::Atan2, 0.0, 1.0, 0.0),
    (Function2::Atan2, -0.0, 1.0, -0.0),
    (Function2::Atan2, 0.0, 0.0, 0.0),
    (Function2::Atan2, 0.0, -0.0, PI),
    (Function2::Atan2, -0.0, -0.0, -PI),
    (Function2::Atan2, -0.0, -2.0, -PI),
    (Function2::Atan2, 2.0, 0.0, FRAC_PI_2),
    (Function2::Atan2, -2.0, -0.0, -FRAC_PI_2),
    (Function2::Atan2, INF, INF, FRAC_PI_4),
    (Function2::Atan2, -INF, -INF, -3.0 * FRAC_PI_4),
    (Function2::Atan2, 1.0, INF, 0.0),
    (Function2::Atan2, -1.0, -INF, -PI),
    (Function2::Atan2, INF, -f64::MAX, FRAC_PI_2),
    (Function2::Atan2, 5e-324, 1.0, 5e-324),
    (Function2::Atan2, INF, NAN, NAN),
    (Function2::Hypot, INF, NAN, INF),
    (Function2::Hypot, NAN, -INF, INF),
    (Function2::Hypot, 3.0, -4.0, 5.0),
    (Function2::Hypot, 3e300, 4e300, 5e300),
    (Function2::Hypot, 5e-324, 0.0, 5e-324),
    (Function2::Hypot, f64::MAX, f64::MAX, INF),
    (Function2::Rem, 5.5, -2.0, 1.5),
    (Function2::Rem, -5.5, 2.0, -1.5),
    (Function2::Rem, 1.0, 0.0, NAN),
];

/// Functions that are 0 at 0, with its sign.
const ODD: &[Function1] = &[
    Function1::Cbrt,
    Function1::Sin,
    Function1::Tan,
    Function1::Asin,
    Function1::Atan,
    Function1::Sinh,
    Function1::Tanh,
    Function1::Asinh,
    Function1::Atanh,
];

#[test]
fn edges_are_those_of_annex_f() {
    for (function, x, result) in ONE {
        assert_eq!(function.of(*x).to_bits(), result.to_bits(), "{function:?} of {x:?} is {:?}", function.of(*x));
    }
    for (function, x, y, result) in TWO {
        let found = function.of(*x, *y);
        assert_eq!(found.to_bits(), result.to_bits(), "{function:?} of {x:?}, {y:?} is {found:?}, not {result:?}");
    }
}

#[test]
fn odd_functions_keep_the_sign_of_zero_and_the_smallest_floats() {
    for function in ODD {
        for x in [0.0, -0.0] {
            assert_eq!(function.of(x).to_bits(), x.to_bits(), "{function:?} of {x:?}");
        }
        for x in [5e-324, 1e-310, f64::MIN_POSITIVE, 1e-200, 0.3, 0.9] {
            assert_eq!(function.of(-x).to_bits(), (-function.of(x)).to_bits(), "{function:?} of {x:?}");
            if *function != Function1::Cbrt && x < 1e-9 {
                assert_eq!(function.of(x), x, "{function:?} of {x:?}");
            }
        }
    }
}

#[test]
fn powers_that_are_one_operation_are_that_operation() {
    for x in [3.3, -0.1, 1e200, 1e-200, 5e-324, -7.7e-310] {
        assert_eq!(Function2::Pow.of(x, 2.0), x * x);
        assert_eq!(Function2::Pow.of(x, -1.0), 1.0 / x);
        assert_eq!(Function2::Pow.of(x, 1.0), x);
        assert_eq!(Function2::Pow.of(f64::abs(x), 0.5), f64::abs(x).sqrt());
    }
}
