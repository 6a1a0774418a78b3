//! Hyperbolic functions and their inverses: polynomials near 0, exponentials and logarithms beyond.

use super::exp::exp_unscaled;
use super::inverse::root;
use super::log::ln_plus;
use super::parts::{Pair, flip_sign, polynomial, power_of_two, scale, select, settle, sign_bit};

/// Beyond this the hyperbolic sine and cosine are infinite.
const SINH_MAX: f64 = 711.0;
/// Beyond this the hyperbolic tangent rounds to 1.
const TANH_MAX: f64 = 22.0;
/// Where polynomials end.
const SINH_NEAR: f64 = 1.0;
const TANH_NEAR: f64 = 0.55;
const ASINH_NEAR: f64 = 0.5;
const ACOSH_NEAR: f64 = 1.5;
const ATANH_NEAR: f64 = 0.5;
/// From this on x + sqrt(x^2 +- 1) is 2 x.
const ROOT_IS_X: f64 = 268_435_456.0;
/// Exponents whose inverse power is below the last bit anyway.
const NEGLIGIBLE: u64 = 100;

/// (sinh(x) / x - 1) / x^2 by x^2, for x up to 1: minimax, to 2^-62 of sinh(x) / x.
const SINH: [f64; 7] = [
    0.166_666_666_666_666_69,
    0.008_333_333_333_333_174,
    0.000_198_412_698_414_253_54,
    2.755_731_915_669_596_5e-6,
    2.505_212_347_735_966_6e-8,
    1.605_721_707_647_952e-10,
    7.760_411_617_749_025e-13,
];

/// (tanh(x) / x - 1) / x^2 by x^2, for x up to 0.55: minimax, to 2^-57 of tanh(x) / x.
const TANH: [f64; 11] = [
    -0.333_333_333_333_333_15,
    0.133_333_333_333_290_3,
    -0.053_968_253_964_813_785,
    0.021_869_488_408_164_377,
    -0.008_863_232_863_394_245,
    0.003_592_093_819_564_811,
    -0.001_455_549_787_069_505_7,
    0.000_588_457_234_034_541_4,
    -0.000_233_379_908_324_865_4,
    8.327_230_849_381_476e-5,
    -1.944_523_797_315_286e-5,
];

/// (asinh(x) / x - 1) / x^2 by x^2, for x up to 1/2: minimax, to 2^-59 of asinh(x) / x.
const ASINH: [f64; 12] = [
    -0.166_666_666_666_666_4,
    0.074_999_999_999_901_03,
    -0.044_642_857_131_434_27,
    0.030_381_943_827_676_866,
    -0.022_372_140_281_629_115,
    0.017_352_406_548_414_544,
    -0.013_960_347_491_777_946,
    0.011_513_305_494_298_935,
    -0.009_533_931_294_316_785,
    0.007_461_275_616_778_851,
    -0.004_735_680_169_216_466,
    0.001_706_991_857_250_824,
];

/// (atanh(x) / x - 1) / x^2 by x^2, for x up to 1/2: minimax, to 2^-59 of atanh(x) / x.
const ATANH: [f64; 14] = [
    0.333_333_333_333_333_15,
    0.200_000_000_000_092_52,
    0.142_857_142_842_736_2,
    0.111_111_112_160_317_94,
    0.090_909_047_623_109_56,
    0.076_924_198_195_121_71,
    0.066_647_292_446_727_53,
    0.059_054_940_094_266_26,
    0.050_685_556_576_884_956,
    0.059_181_200_572_711_846,
    -0.004_450_611_656_368_656,
    0.173_809_389_102_287_35,
    -0.195_616_586_953_006_27,
    0.241_345_192_437_365_32,
];

/// e^x and e^-x, both still to be multiplied by 2^k, for 0 <= x <= 800.
#[inline(always)]
fn exp_both(x: f64) -> (Pair, f64, u64) {
    let (up, k) = exp_unscaled(x);
    let k_down = if k < NEGLIGIBLE { k } else { NEGLIGIBLE };
    let down = 1.0 / up.hi * power_of_two(k_down.wrapping_add(k_down).wrapping_neg());
    (up, down, k)
}

#[inline(always)]
pub(super) fn sinh(x: f64) -> f64 {
    let size = x.abs();
    let size = select(size > SINH_MAX, SINH_MAX, size);
    let (up, down, k) = exp_both(size);
    let sum = Pair::sum_ordered(up.hi, -down);
    let far = scale(sum.hi + (sum.lo + up.lo), k.wrapping_sub(1));
    let z = size * size;
    let near = size + size * z * polynomial(z, &SINH);
    settle(flip_sign(select(size < SINH_NEAR, near, far), sign_bit(x)))
}

#[inline(always)]
pub(super) fn cosh(x: f64) -> f64 {
    let size = x.abs();
    let size = select(size > SINH_MAX, SINH_MAX, size);
    let (up, down, k) = exp_both(size);
    let sum = Pair::sum_ordered(up.hi, down);
    settle(scale(sum.hi + (sum.lo + up.lo), k.wrapping_sub(1)))
}

#[inline(always)]
pub(super) fn tanh(x: f64) -> f64 {
    let size = x.abs();
    let size = select(size > TANH_MAX, TANH_MAX, size);
    let (up, k) = exp_unscaled(size + size);
    let unit = power_of_two(k);
    // 1 - 2 / (e^2x + 1)
    let below = Pair::sum_ordered(up.hi * unit, 1.0).plus(up.lo * unit);
    let inverse = 1.0 / below.hi;
    let part = 2.0 * inverse;
    let sum = Pair::sum_ordered(1.0, -part);
    let far = sum.hi + (sum.lo + part * inverse * below.lo);
    let z = size * size;
    let near = size + size * z * polynomial(z, &TANH);
    settle(flip_sign(select(size < TANH_NEAR, near, far), sign_bit(x)))
}

/// ln(x + sqrt(x^2 + one)), for x > 0 and one = 1 or -1.
#[inline(always)]
fn log_of_root(x: f64, one: f64) -> f64 {
    let far = x > ROOT_IS_X;
    let moderate = select(far, 2.0, x);
    let square = Pair::product(moderate, moderate);
    let sum = Pair::sum(square.hi, one).plus(square.lo);
    let root = root(sum);
    let total = Pair::sum(root.hi, moderate).plus(root.lo);
    let hi = select(far, x, total.hi);
    ln_plus(hi, select(far, 1.0, 0.0), select(far, 0.0, total.lo / total.hi))
}

#[inline(always)]
pub(super) fn asinh(x: f64) -> f64 {
    let size = x.abs();
    let z = size * size;
    let near = size + size * z * polynomial(z, &ASINH);
    settle(flip_sign(select(size < ASINH_NEAR, near, log_of_root(size, 1.0)), sign_bit(x)))
}

#[inline(always)]
pub(super) fn acosh(x: f64) -> f64 {
    // 2 asinh of the root of (x - 1) / 2
    let z = 0.5 * (x - 1.0);
    let s = root(Pair { hi: z, lo: 0.0 });
    let near = 2.0 * (s.hi + (s.lo + s.hi * z * polynomial(z, &ASINH)));
    settle(select(x < ACOSH_NEAR, near, log_of_root(x, -1.0)))
}

#[inline(always)]
pub(super) fn atanh(x: f64) -> f64 {
    let size = x.abs();
    let z = size * size;
    let near = size + size * z * polynomial(z, &ATANH);
    let ratio = Pair::sum_ordered(1.0, size).quotient(Pair { hi: 1.0 - size, lo: 0.0 });
    let far = 0.5 * ln_plus(ratio.hi, 0.0, ratio.lo / ratio.hi);
    let far = select(size < 1.0, far, select(size == 1.0, f64::INFINITY, f64::NAN));
    settle(flip_sign(select(size < ATANH_NEAR, near, far), sign_bit(x)))
}
