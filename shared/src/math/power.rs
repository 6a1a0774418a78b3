//! Powers, logarithms to any base, roots of sums.

use super::exp::exp_of_pair;
use super::log::{ln, ln_pair};
use super::parts::{Pair, flip_sign, select, settle, sign_bit};

/// 2^52 and 2^53: floats from there on are integers, and even integers.
const INTEGERS: f64 = 4_503_599_627_370_496.0;
const EVEN: f64 = 9_007_199_254_740_992.0;
/// 2^65: an exponent beyond gives 0 or infinity for every base but 1, so that it may stand for all of them.
const EXPONENT_MAX: f64 = 36_893_488_147_419_103_232.0;

/// Exponents whose power is one exact operation of IEEE 754, and is defined as that.
#[inline(always)]
pub(super) fn is_plain(y: f64) -> bool {
    y == 2.0 || y == 0.5 || y == -1.0
}

/// x^y where [`is_plain`]`(y)`.
#[inline(always)]
pub(super) fn pow_plain(x: f64, y: f64) -> f64 {
    if y == 2.0 {
        square(x)
    } else if y == 0.5 {
        root(x)
    } else {
        inverse(x)
    }
}

#[inline(always)]
pub(super) fn square(x: f64) -> f64 {
    settle(x * x)
}

/// As a power: that of -0 is +0, and that of minus infinity is infinite.
#[inline(always)]
pub(super) fn root(x: f64) -> f64 {
    settle(select(x == f64::NEG_INFINITY, f64::INFINITY, (x + 0.0).sqrt()))
}

#[inline(always)]
pub(super) fn inverse(x: f64) -> f64 {
    settle(1.0 / x)
}

/// x^y for every other y: e^(y ln |x|), with the logarithm to 65 bits and the product to as many.
#[inline(always)]
pub(super) fn pow(x: f64, y: f64) -> f64 {
    let base = x.abs();
    let bounded = select(y > EXPONENT_MAX, EXPONENT_MAX, select(y < -EXPONENT_MAX, -EXPONENT_MAX, y));
    let log = ln_pair(base);
    let product = Pair::product(bounded, log.hi).plus(bounded * log.lo);
    let power = exp_of_pair(product);

    let size = y.abs();
    let shifted = size + INTEGERS;
    let is_integer = size >= INTEGERS || shifted - INTEGERS == size;
    let unit = if size < INTEGERS { shifted.to_bits() } else { size.to_bits() } & 1;
    let odd = if is_integer && size < EVEN { unit } else { 0 };

    let at_zero = select(y < 0.0, f64::INFINITY, 0.0);
    let at_infinity = select(y < 0.0, 0.0, f64::INFINITY);
    let power = select(base == 0.0, at_zero, power);
    let power = select(base == f64::INFINITY, at_infinity, power);
    let undefined = (x < 0.0 && x > f64::NEG_INFINITY && !is_integer) || x.is_nan() || y.is_nan();
    let power = select(undefined, f64::NAN, flip_sign(power, odd & sign_bit(x)));
    settle(select(x == 1.0 || y == 0.0, 1.0, power))
}

/// ln x / ln base, rounded once.
#[inline(always)]
pub(super) fn log(x: f64, base: f64) -> f64 {
    let (above, below) = (ln_pair(x), ln_pair(base));
    let quotient = above.quotient(below).rounded();
    // Zeros, infinities, negative numbers and bases of 1 follow the plain quotient.
    let plain = ln(x) / ln(base);
    let near = x > 0.0 && x < f64::INFINITY && base > 0.0 && base < f64::INFINITY && base != 1.0;
    settle(select(near, quotient, plain))
}
