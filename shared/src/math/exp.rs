//! e and 2 to a power.
//!
//! e^x = 2^k e^r with k the integer nearest x / ln 2 and |r| <= ln 2 / 2, where a polynomial serves. r is kept as two
//! floats, so that little more than the last rounding is lost.

use super::parts::{Pair, halves, nearest, polynomial, scale, select, settle};
use std::f64::consts::{LN_2, LOG2_E};

/// ln 2 as the sum of two floats; the first has 42 bits, so that its product with an exponent is exact.
pub(super) const LN_2_UPPER: f64 = 0.693_147_180_559_890_3;
pub(super) const LN_2_LOWER: f64 = 5.497_923_018_708_371e-14;
/// ln 2 minus [`LN_2`].
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;

/// Beyond these the result is infinite or 0.
const EXP_MAX: f64 = 710.0;
const EXP_MIN: f64 = -746.0;
const EXP2_MAX: f64 = 1025.0;
const EXP2_MIN: f64 = -1076.0;

/// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2: minimax, to 2^-57 of e^r.
const EXP: [f64; 10] = [
    0.500_000_000_000_001,
    0.166_666_666_666_664_16,
    0.041_666_666_666_535_1,
    0.008_333_333_333_493_557,
    0.001_388_888_894_252_319_3,
    0.000_198_412_695_059_461_8,
    2.480_149_410_068_738_6e-5,
    2.755_758_850_696_521_5e-6,
    2.762_993_103_726_997e-7,
    2.499_903_940_701_841e-8,
];

/// e^r for |r| at most about ln 2 / 2.
#[inline(always)]
fn near_one(r: Pair) -> Pair {
    let one = Pair::sum_ordered(1.0, r.hi);
    one.plus(r.lo + r.hi * r.hi * polynomial(r.hi, &EXP))
}

/// x = k ln 2 + r: r, and k in the lowest bits; |x| is below 800.
#[inline(always)]
fn reduce(x: Pair) -> (Pair, u64) {
    let (k, bits) = nearest(x.hi * LOG2_E);
    (Pair::sum_ordered(x.hi - k * LN_2_UPPER, x.lo - k * LN_2_LOWER), bits)
}

#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    exp_of_pair(Pair { hi: x, lo: 0.0 })
}

/// e to the sum of two floats.
#[inline(always)]
pub(super) fn exp_of_pair(x: Pair) -> f64 {
    let inside = x.hi < EXP_MAX && x.hi > EXP_MIN;
    let hi = select(x.hi > EXP_MAX, EXP_MAX, select(x.hi < EXP_MIN, EXP_MIN, x.hi));
    let (r, k) = reduce(Pair { hi, lo: select(inside, x.lo, 0.0) });
    settle(scale(near_one(r).rounded(), k))
}

/// e^x as two floats that are still to be multiplied by 2^k, which stands in the lowest bits; 0 <= x <= 800.
#[inline(always)]
pub(super) fn exp_unscaled(x: f64) -> (Pair, u64) {
    let (r, k) = reduce(Pair { hi: x, lo: 0.0 });
    let power = near_one(r);
    (Pair::sum_ordered(power.hi, power.lo), k)
}

#[inline(always)]
pub(super) fn exp2(x: f64) -> f64 {
    /// The halves of ln 2.
    const UPPER: f64 = f64::from_bits(LN_2.to_bits() & !0x7ff_ffff);
    const LOWER: f64 = LN_2 - UPPER;
    let x = select(x > EXP2_MAX, EXP2_MAX, select(x < EXP2_MIN, EXP2_MIN, x));
    let (k, bits) = nearest(x);
    let rest = x - k;
    let (upper, lower) = halves(rest);
    let r = rest * LN_2;
    let error = ((upper * UPPER - r) + upper * LOWER + lower * UPPER) + lower * LOWER;
    settle(scale(near_one(Pair { hi: r, lo: error + rest * LN_2_REST }).rounded(), bits))
}
