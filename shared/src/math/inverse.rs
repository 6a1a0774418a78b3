//! Arc functions.

use super::parts::{Pair, flip_sign, polynomial, select, settle, sign_bit};
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

/// What the float [`FRAC_PI_2`] lacks; the other fractions of pi lack as much in proportion.
const FRAC_PI_2_REST: f64 = 6.123_233_995_736_766e-17;
/// The tangents of pi/8 and 3 pi/8.
const TAN_PI_8: f64 = 0.414_213_562_373_095_03;
const TAN_3_PI_8: f64 = 2.414_213_562_373_095;
/// A tangent from which on only the last bits of pi/2 change.
const TAN_MAX: f64 = 1e300;
/// Below this ratio an angle and its tangent are the same float.
const SAME_AS_TANGENT: f64 = 3.725_290_298_461_914e-9;
/// Keeps a quotient 0 / 0 out, and changes no divisor that is larger.
pub(super) const NOT_ZERO: f64 = f64::MIN_POSITIVE;
/// 2^-600 and 2^600, and the magnitudes that are brought nearer 1 by them: so that squares and inverses stay normal.
pub(super) const SHRINK: f64 = f64::from_bits((1023 - 600) << 52);
pub(super) const GROW: f64 = f64::from_bits((1023 + 600) << 52);
pub(super) const LARGE: f64 = 1e140;
pub(super) const SMALL: f64 = 1e-140;

/// (asin(s) / s - 1) / s^2 by s^2, for s up to 1/2: minimax, to 2^-58 of asin(s) / s.
const ASIN: [f64; 13] = [
    0.166_666_666_666_667_02,
    0.074_999_999_999_845_11,
    0.044_642_857_163_635_94,
    0.030_381_943_144_576_987,
    0.022_372_204_933_033_622,
    0.017_351_756_627_662_217,
    0.013_979_471_035_153_566,
    0.011_407_153_963_809_95,
    0.010_748_063_085_275_116,
    0.003_780_689_950_300_956_3,
    0.021_629_907_438_300_483,
    -0.021_020_611_104_587_73,
    0.032_716_104_830_977_31,
];

/// (atan(t) / t - 1) / t^2 by t^2, for t up to tan(pi/8): minimax, to 2^-59 of atan(t) / t.
const ATAN: [f64; 12] = [
    -0.333_333_333_333_333_3,
    0.199_999_999_999_985_33,
    -0.142_857_142_854_681_35,
    0.111_111_110_918_035_33,
    -0.090_909_082_365_436_95,
    0.076_922_841_417_787_9,
    -0.066_662_389_156_337_06,
    0.058_770_753_487_307_315,
    -0.052_184_053_799_338_444,
    0.045_024_070_154_198_084,
    -0.033_425_848_877_679_1,
    0.015_127_265_063_025_006,
];

/// The root of `square`, and what it lacks.
#[inline(always)]
pub(super) fn root(square: Pair) -> Pair {
    let hi = square.hi.sqrt();
    let back = Pair::product(hi, hi);
    Pair { hi, lo: (((square.hi - back.hi) - back.lo) + square.lo) / (hi + hi + NOT_ZERO) }
}

/// What asin and acos share: whether |x| >= 1/2; s, which is |x| or else, with asin x = pi/2 - 2 asin s, the root of
/// (1 - |x|) / 2; and asin s - s.
#[inline(always)]
fn arc(x: f64) -> (bool, f64, f64) {
    let size = x.abs();
    let outer = size >= 0.5;
    let z = select(outer, 0.5 - 0.5 * size, size * size);
    let root = root(Pair { hi: z, lo: 0.0 });
    let s = select(outer, root.hi, size);
    (outer, s, s * z * polynomial(z, &ASIN) + select(outer, root.lo, 0.0))
}

#[inline(always)]
pub(super) fn asin(x: f64) -> f64 {
    let (outer, s, rest) = arc(x);
    let sum = Pair::sum_ordered(FRAC_PI_2, -2.0 * s);
    let from_top = sum.hi + (sum.lo + (FRAC_PI_2_REST - 2.0 * rest));
    settle(flip_sign(select(outer, from_top, s + rest), sign_bit(x)))
}

#[inline(always)]
pub(super) fn acos(x: f64) -> f64 {
    let (outer, s, rest) = arc(x);
    let negative = sign_bit(x);
    // 2 asin s, pi - 2 asin s or pi/2 - asin x, all as a start minus or plus an arc.
    let (turns, double) = (select(negative == 1, 2.0, 0.0), select(outer, 2.0, 1.0));
    let turns = select(outer, turns, 1.0);
    let flip = if outer { negative } else { negative ^ 1 };
    let sum = Pair::sum_ordered(turns * FRAC_PI_2, flip_sign(double * s, flip));
    settle(sum.hi + (sum.lo + (turns * FRAC_PI_2_REST + flip_sign(double * rest, flip))))
}

/// The angle in [0, pi/2] whose tangent is a / b, for a and b >= 0 with normal inverses.
#[inline(always)]
fn angle(a: f64, b: f64) -> Pair {
    let (low, high) = (a <= TAN_PI_8 * b, a >= TAN_3_PI_8 * b);
    let (difference, total) = (Pair::sum(a, -b), Pair::sum(a, b));
    // The tangent of the angle minus 0, pi/4 or pi/2.
    let above =
        Pair { hi: select(low, a, select(high, -b, difference.hi)), lo: select(low || high, 0.0, difference.lo) };
    let below = Pair { hi: select(low, b, select(high, a, total.hi)), lo: select(low || high, 0.0, total.lo) };
    let t = above.quotient(below);
    let z = t.hi * t.hi;
    let start = select(low, 0.0, select(high, FRAC_PI_2, FRAC_PI_4));
    let start_rest = select(low, 0.0, select(high, FRAC_PI_2_REST, 0.5 * FRAC_PI_2_REST));
    let sum = Pair::sum_ordered(start, t.hi);
    sum.plus(start_rest + (t.lo - t.lo * z) + t.hi * z * polynomial(z, &ATAN))
}

#[inline(always)]
pub(super) fn atan(x: f64) -> f64 {
    let size = x.abs();
    let size = select(size > TAN_MAX, TAN_MAX, size);
    settle(flip_sign(angle(size, 1.0).rounded(), sign_bit(x)))
}

#[inline(always)]
pub(super) fn atan2(y: f64, x: f64) -> f64 {
    let (a, b) = (y.abs(), x.abs());
    let infinite = a == f64::INFINITY || b == f64::INFINITY;
    // Two infinities count as equal, and beside an infinity all else counts as 0.
    let a = select(infinite, select(a == f64::INFINITY, 1.0, 0.0), a);
    let b = select(infinite, select(b == f64::INFINITY, 1.0, 0.0), b);
    let b = select(a == 0.0 && b == 0.0, 1.0, b);
    let larger = select(a > b, a, b);
    let factor = select(larger > LARGE, SHRINK, select(larger < SMALL, GROW, 1.0));
    let found = angle(a * factor, b * factor);
    let same = a < b * SAME_AS_TANGENT;
    let (hi, lo) = (select(same, a / b, found.hi), select(same, 0.0, found.lo));
    let back = Pair::sum_ordered(PI, -hi);
    let beyond = back.hi + (back.lo + (2.0 * FRAC_PI_2_REST - lo));
    let angle = flip_sign(select(sign_bit(x) == 1, beyond, hi + lo), sign_bit(y));
    settle(select(x.is_nan() || y.is_nan(), f64::NAN, angle))
}
