//! The cube root, and the square root of a sum of squares.

use super::inverse::{GROW, LARGE, SHRINK, SMALL, root};
use super::parts::{Pair, flip_sign, nearest, polynomial, power_of_two, select, settle, sign_bit};

const FRACTION: u64 = 0x000f_ffff_ffff_ffff;
/// The bits of 2^52: an integer below 2^52 in the lowest bits makes 2^52 plus that integer.
const TWO_52: u64 = 0x4330_0000_0000_0000;
/// 2^52 plus the exponents' bias.
const TWO_52_BIASED: f64 = 4_503_599_627_371_519.0;
/// 2^54 lifts a subnormal number among the normal ones; its cube root is 2^18.
const LIFT: f64 = 18_014_398_509_481_984.0;
const LIFT_ROOT: f64 = 262_144.0;
const THIRD: f64 = 1.0 / 3.0;

/// The inverse cube root on [1/2, 4]: minimax, to 2^-8.
const INVERSE_CUBE_ROOT: [f64; 6] = [
    1.795_253_670_618_892_4,
    -1.503_505_575_815_745_2,
    1.027_206_766_464_815,
    -0.389_168_962_816_598_5,
    0.074_505_930_125_277_4,
    -0.005_620_288_237_696_684,
];

#[inline(always)]
pub(super) fn cbrt(x: f64) -> f64 {
    let size = x.abs();
    let subnormal = size < f64::MIN_POSITIVE;
    let bits = select(subnormal, size * LIFT, size).to_bits();
    let e = f64::from_bits((bits >> 52) | TWO_52) - TWO_52_BIASED;
    // size = 2^(3 thirds) m with m in [1/2, 4).
    let (thirds, shift) = nearest(e * THIRD);
    let (_, rest) = nearest(e - 3.0 * thirds);
    let m = f64::from_bits((bits & FRACTION) | 1.0_f64.to_bits()) * power_of_two(rest);
    // Two steps of third order towards the inverse root, then one for the root itself with its cube kept exactly.
    let mut y = polynomial(m, &INVERSE_CUBE_ROOT);
    for _ in 0..2 {
        let miss = 1.0 - m * y * y * y;
        y += y * miss * (THIRD + 2.0 / 9.0 * miss);
    }
    let t = m * y * y;
    let square = Pair::product(t, t);
    let cube = Pair::product(square.hi, t).plus(square.lo * t);
    let found = t + ((m - cube.hi) - cube.lo) * (y * y) * THIRD;
    let found = found * power_of_two(shift) * select(subnormal, 1.0 / LIFT_ROOT, 1.0);
    let found = select(size == 0.0 || size == f64::INFINITY, size, found);
    settle(flip_sign(select(x.is_nan(), f64::NAN, found), sign_bit(x)))
}

#[inline(always)]
pub(super) fn hypot(x: f64, y: f64) -> f64 {
    let (a, b) = (x.abs(), y.abs());
    let (larger, smaller) = (select(a > b, a, b), select(a > b, b, a));
    let factor = select(larger > LARGE, SHRINK, select(larger < SMALL, GROW, 1.0));
    let back = select(larger > LARGE, GROW, select(larger < SMALL, SHRINK, 1.0));
    let (larger, smaller) = (larger * factor, smaller * factor);
    let (first, second) = (Pair::product(larger, larger), Pair::product(smaller, smaller));
    let sum = Pair::sum_ordered(first.hi, second.hi).plus(first.lo + second.lo);
    let found = root(sum).rounded() * back;
    let found = select(x.is_nan() || y.is_nan(), f64::NAN, found);
    settle(select(a == f64::INFINITY || b == f64::INFINITY, f64::INFINITY, found))
}
