//! Logarithms.
//!
//! x = 2^e m with m between the square roots of 1/2 and 2. With f = m - 1 and s = f / (2 + f), ln m = 2 atanh s =
//! f - f^2/2 + s (f^2/2 + R(s^2)), where only the last, small part is rounded before the end (Sun's fdlibm).

use super::exp::{LN_2_LOWER, LN_2_UPPER};
use super::parts::{Pair, halves, polynomial, select};

/// The bits of the square root of 1/2.
const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
const FRACTION: u64 = 0x000f_ffff_ffff_ffff;
/// The bits of 2^52: an integer below 2^52 in the lowest bits makes 2^52 plus that integer.
const TWO_52: u64 = 0x4330_0000_0000_0000;
/// 2^52 plus the exponents' bias.
const TWO_52_BIASED: f64 = 4_503_599_627_371_519.0;
/// Lifts a subnormal number among the normal ones.
const LIFT: f64 = 18_014_398_509_481_984.0;
const LIFT_EXPONENT: f64 = 54.0;

/// 2 (atanh(s) / s - 1) / s^2 by s^2, for s up to that of the square root of 2: minimax, to 2^-57 of atanh(s) / s.
const ATANH_TWICE: [f64; 7] = [
    0.666_666_666_666_671,
    0.399_999_999_995_171_8,
    0.285_714_287_300_113_33,
    0.222_221_990_053_930_76,
    0.181_835_764_308_910_6,
    0.153_130_301_785_603_1,
    0.148_119_362_411_350_8,
];

/// (atanh(s) / s - 1 - s^2 / 3) / s^4 by s^2, for the same s: minimax, to 2^-69 of atanh(s) / s.
const ATANH_TAIL: [f64; 8] = [
    0.199_999_999_999_999_98,
    0.142_857_142_857_164_67,
    0.111_111_111_101_738_12,
    0.090_909_092_736_040_7,
    0.076_922_886_805_486_08,
    0.066_677_939_476_906_91,
    0.058_442_452_504_473_33,
    0.059_420_005_403_768_57,
];

/// 1/3 and its rounding error.
const THIRD: f64 = 0.333_333_333_333_333_3;
const THIRD_REST: f64 = 1.850_371_707_708_594e-17;

/// 1 / ln 2 and 1 / ln 10: 26 bits, and the rest.
const LOG2_E_UPPER: f64 = 1.442_695_021_629_333_5;
const LOG2_E_LOWER: f64 = 1.925_962_991_126_617_5e-8;
const LOG10_E_UPPER: f64 = 0.434_294_477_105_140_7;
const LOG10_E_LOWER: f64 = 4.798_111_141_615_973e-9;
/// The decimal logarithm of 2: 40 bits, whose product with an exponent is exact, and the rest.
const LOG10_2_UPPER: f64 = 0.301_029_995_663_611_77;
const LOG10_2_LOWER: f64 = 3.694_239_077_158_931e-13;

/// x = 2^e m with m in [sqrt(1/2), sqrt(2)): (e, m), for finite x > 0.
#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    let subnormal = x < f64::MIN_POSITIVE;
    let bits = select(subnormal, x * LIFT, x).to_bits().wrapping_add(1.0_f64.to_bits().wrapping_sub(SQRT_HALF));
    let e = f64::from_bits((bits >> 52) | TWO_52) - TWO_52_BIASED;
    let m = f64::from_bits((bits & FRACTION).wrapping_add(SQRT_HALF));
    (e - select(subnormal, LIFT_EXPONENT, 0.0), m)
}

/// The result where x is 0, infinite, negative or NaN.
#[inline(always)]
fn at_the_edges(x: f64, log: f64) -> f64 {
    let log = select(x == 0.0, f64::NEG_INFINITY, log);
    let log = select(x == f64::INFINITY, f64::INFINITY, log);
    select(x >= 0.0, log, f64::NAN)
}

/// The parts of ln m: f, f^2/2 and s (f^2/2 + R).
#[inline(always)]
fn log_parts(m: f64) -> (f64, f64, f64) {
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let half_square = 0.5 * f * f;
    (f, half_square, s * (half_square + z * polynomial(z, &ATANH_TWICE)))
}

#[inline(always)]
pub(super) fn ln(x: f64) -> f64 {
    // To add -0 changes nothing, and compilers know it.
    ln_plus(x, -0.0, -0.0)
}

/// ln(2^k x) + small.
#[inline(always)]
pub(super) fn ln_plus(x: f64, k: f64, small: f64) -> f64 {
    let (e, m) = split(x);
    let e = e + k;
    let (f, half_square, rest) = log_parts(m);
    let sum = Pair::sum_ordered(e * LN_2_UPPER, f);
    at_the_edges(x, sum.hi + (sum.lo - (half_square - (rest + (e * LN_2_LOWER + small)))))
}

/// ln m as an upper half and the rest.
#[inline(always)]
fn log_halves(m: f64) -> (f64, f64) {
    let (f, half_square, rest) = log_parts(m);
    let (upper, _) = halves(f - half_square);
    (upper, ((f - upper) - half_square) + rest)
}

#[inline(always)]
pub(super) fn log2(x: f64) -> f64 {
    let (e, m) = split(x);
    let (upper, lower) = log_halves(m);
    let sum = Pair::sum_ordered(e, upper * LOG2_E_UPPER);
    let small = (upper + lower) * LOG2_E_LOWER + lower * LOG2_E_UPPER;
    at_the_edges(x, sum.hi + (sum.lo + small))
}

#[inline(always)]
pub(super) fn log10(x: f64) -> f64 {
    let (e, m) = split(x);
    let (upper, lower) = log_halves(m);
    let sum = Pair::sum_ordered(e * LOG10_2_UPPER, upper * LOG10_E_UPPER);
    let small = e * LOG10_2_LOWER + ((upper + lower) * LOG10_E_LOWER + lower * LOG10_E_UPPER);
    at_the_edges(x, sum.hi + (sum.lo + small))
}

/// ln x to about 2^-65 of it, for finite x > 0; the second part is up to 2^-43 of the first.
#[inline(always)]
pub(super) fn ln_pair(x: f64) -> Pair {
    let (e, m) = split(x);
    let s = Pair { hi: m - 1.0, lo: 0.0 }.quotient(Pair::sum_ordered(1.0, m));
    let z = Pair::product(s.hi, s.hi).plus(2.0 * s.hi * s.lo);
    let third = Pair::product(z.hi, THIRD).plus(z.hi * THIRD_REST + z.lo * THIRD);
    let tail = z.hi * polynomial(z.hi, &ATANH_TAIL);
    let series = Pair::sum_ordered(third.hi, z.hi * tail).plus(third.lo + 2.0 * z.lo * tail);
    let product = Pair::product(s.hi, series.hi).plus(s.hi * series.lo + s.lo * series.hi);
    let atanh = Pair::sum_ordered(s.hi, product.hi).plus(product.lo + s.lo);
    Pair::sum_ordered(e * LN_2_UPPER, 2.0 * atanh.hi).plus(e * LN_2_LOWER + 2.0 * atanh.lo)
}
