//! Sine, cosine and tangent.
//!
//! x = n pi/2 + r with |r| <= pi/4 and r as two floats (Cody and Waite's reduction); polynomials for sine and cosine
//! of r. Arguments beyond [`REDUCED_MAX`] are left to libm, one at a time.

use super::parts::{Pair, flip_sign, nearest, polynomial, select, settle, sign_bit};
use std::f64::consts::FRAC_2_PI;

/// The largest magnitude that is reduced here: n stays below 2^24. Every product of n with the first three parts of
/// pi/2, of 29 bits each, is then exact, and the sum has 116 bits after the point: even the float nearest a multiple of
/// pi/2 in this range (about 2^-57 away, as 2^57 floats are) keeps all its digits.
pub(super) const REDUCED_MAX: f64 = 26_000_000.0;

const FRAC_PI_2: [f64; 4] =
    [1.570_796_325_802_803, 9.920_935_774_287_987e-10, 2.251_741_770_634_657_8e-18, 3.521_559_865_183_2e-27];

/// (sin(r) / r - 1) / r^2 by r^2, for |r| <= pi/4: minimax, to 2^-56 of sin(r) / r.
const SIN: [f64; 6] = [
    -0.166_666_666_666_666_4,
    0.008_333_333_333_323_662,
    -0.000_198_412_698_301_443_96,
    2.755_731_365_185_335e-6,
    -2.505_073_457_109_687_2e-8,
    1.589_471_058_326_95e-10,
];

/// (cos(r) - 1 + r^2 / 2) / r^4 by r^2, for |r| <= pi/4: minimax, to 2^-61.
const COS: [f64; 6] = [
    0.041_666_666_666_666_65,
    -0.001_388_888_888_888_284,
    2.480_158_729_462_800_4e-5,
    -2.755_731_573_861_338e-7,
    2.087_589_773_869_997e-9,
    -1.136_798_188_149_192_6e-11,
];

/// |x| modulo pi/2, and the number of quarter turns in the lowest bits.
#[inline(always)]
fn reduce(x: f64) -> (Pair, u64) {
    let (n, turns) = nearest(x * FRAC_2_PI);
    // Each difference is on the grid of the next product, so that Dekker's sum gives its error exactly.
    let first = x - n * FRAC_PI_2[0];
    let second = Pair::sum_ordered(first, -(n * FRAC_PI_2[1]));
    let third = Pair::sum_ordered(second.hi, -(n * FRAC_PI_2[2]));
    (Pair { hi: third.hi, lo: (second.lo + third.lo) - n * FRAC_PI_2[3] }, turns)
}

/// Sine of r and `turns` quarter turns.
#[inline(always)]
fn sin_reduced(r: Pair, turns: u64) -> f64 {
    let odd = turns & 1 != 0;
    let z = r.hi * r.hi;
    let half = 0.5 * z;
    let one_less = Pair::sum_ordered(1.0, -half);
    let mut coefficients = SIN;
    for (coefficient, cos) in coefficients.iter_mut().zip(COS) {
        *coefficient = select(odd, cos, *coefficient);
    }
    let series = z * select(odd, z, r.hi) * polynomial(z, &coefficients);
    // The derivative, for what r.lo adds.
    let slope = select(odd, -r.hi, one_less.hi);
    let sum = select(odd, one_less.hi, r.hi) + (select(odd, one_less.lo, 0.0) + (series + r.lo * slope));
    flip_sign(sum, turns >> 1)
}

#[inline(always)]
pub(super) fn sin(x: f64) -> f64 {
    let (r, turns) = reduce(x.abs());
    settle(flip_sign(sin_reduced(r, turns), sign_bit(x)))
}

#[inline(always)]
pub(super) fn cos(x: f64) -> f64 {
    let (r, turns) = reduce(x.abs());
    settle(sin_reduced(r, turns.wrapping_add(1)))
}

#[inline(always)]
pub(super) fn tan(x: f64) -> f64 {
    let (r, turns) = reduce(x.abs());
    let odd = turns & 1 != 0;
    let z = r.hi * r.hi;
    let one_less = Pair::sum_ordered(1.0, -(0.5 * z));
    let sin = Pair::sum_ordered(r.hi, r.hi * z * polynomial(z, &SIN) + r.lo * one_less.hi);
    let cos = Pair::sum_ordered(one_less.hi, one_less.lo + (z * z * polynomial(z, &COS) - r.hi * r.lo));
    let above = Pair { hi: select(odd, cos.hi, sin.hi), lo: select(odd, cos.lo, sin.lo) };
    let below = Pair { hi: select(odd, sin.hi, cos.hi), lo: select(odd, sin.lo, cos.lo) };
    let quotient = above.quotient(below).rounded();
    settle(flip_sign(flip_sign(quotient, turns), sign_bit(x)))
}

/// Whether an argument is left to libm.
#[inline(always)]
pub(super) fn is_far(x: f64) -> bool {
    x.abs() > REDUCED_MAX
}
