//! The functions to hundreds of bits, by `astro-float`, and the distance of a float from them.

use crate::math::{Function1, Function2};
use astro_float::{BigFloat, Consts, RoundingMode, Sign};

/// Bits of the reference: twice a float's, and room for what sums lose.
const PRECISION: usize = 192;
/// For sums of terms that may cancel, and for arguments a float's least bit from where a function is 0.
const PRECISION_WIDE: usize = 320;
/// The last bits of a reference do not matter, and to round them takes long where they are all 0.
const ROUNDING: RoundingMode = RoundingMode::None;
/// What an ulp is at least: the spacing of subnormal floats, 2^-1074.
const LAST_EXPONENT: i64 = -1074;
/// A power whose logarithm is beyond is infinite or 0 as a float; and such a power's exponent.
const POWER_MAX: f64 = 1000.0;
const FAR_EXPONENT: i32 = 100_000;
/// Lifts subnormal floats among the normal ones.
const LIFT: i32 = 64;
/// Bits of a float's fraction.
const DIGITS: i64 = 53;

/// Computes references.
pub(super) struct Reference {
    consts: Consts,
    pi: BigFloat,
}

fn big(x: f64) -> BigFloat {
    if !x.is_subnormal() {
        return BigFloat::from_f64(x, PRECISION_WIDE);
    }
    // The crate takes the exponent of subnormal floats for one more than it is.
    let mut lifted = BigFloat::from_f64(x * 2.0_f64.powi(LIFT), PRECISION_WIDE);
    let exponent = lifted.exponent().unwrap_or(0);
    lifted.set_exponent(exponent - LIFT);
    lifted
}

impl Reference {
    pub(super) fn new() -> Self {
        let mut consts = Consts::new().expect("memory for constants");
        let pi = consts.pi(PRECISION_WIDE, ROUNDING);
        Self { consts, pi }
    }

    /// A function at a finite argument of its domain.
    pub(super) fn one(&mut self, function: Function1, x: f64) -> BigFloat {
        let (x, p, rm, cc) = (big(x), PRECISION, ROUNDING, &mut self.consts);
        match function {
            Function1::Cbrt => x.cbrt(p, rm),
            Function1::Exp => x.exp(p, rm, cc),
            Function1::Exp2 => big(2.0).pow(&x, p, rm, cc),
            Function1::Ln => x.ln(p, rm, cc),
            Function1::Log2 => x.log2(p, rm, cc),
            Function1::Log10 => x.log10(p, rm, cc),
            Function1::Sin => x.sin(p, rm, cc),
            Function1::Cos => x.cos(p, rm, cc),
            Function1::Tan => x.tan(p, rm, cc),
            Function1::Asin => x.asin(p, rm, cc),
            Function1::Acos => x.acos(p, rm, cc),
            Function1::Atan => x.atan(p, rm, cc),
            Function1::Sinh => x.sinh(p, rm, cc),
            Function1::Cosh => x.cosh(p, rm, cc),
            Function1::Tanh => x.tanh(p, rm, cc),
            Function1::Asinh => x.asinh(p, rm, cc),
            Function1::Acosh => x.acosh(p, rm, cc),
            Function1::Atanh => x.atanh(p, rm, cc),
        }
    }

    /// A function at finite arguments of its domain that are not 0; none for `Rem`, which is exact.
    pub(super) fn two(&mut self, function: Function2, x: f64, y: f64) -> Option<BigFloat> {
        let (p, wide, rm) = (PRECISION, PRECISION_WIDE, ROUNDING);
        Some(match function {
            // Infinite or 0: known without the reference, which would take long.
            Function2::Pow if (y * x.abs().ln()).abs() > POWER_MAX => {
                let beyond = if y * x.abs().ln() > 0.0 { FAR_EXPONENT } else { -FAR_EXPONENT };
                let mut power = big(1.0);
                power.set_exponent(beyond);
                if x < 0.0 && y % 2.0 != 0.0 { power.neg() } else { power }
            }
            Function2::Pow => {
                let power = big(x.abs()).pow(&big(y), p, rm, &mut self.consts);
                if x < 0.0 && y % 2.0 != 0.0 { power.neg() } else { power }
            }
            Function2::Log => {
                let (above, below) = (big(x).ln(wide, rm, &mut self.consts), big(y).ln(wide, rm, &mut self.consts));
                above.div(&below, p, rm)
            }
            Function2::Atan2 => {
                let angle = big(x.abs()).div(&big(y.abs()), wide, rm).atan(wide, rm, &mut self.consts);
                let angle = if y < 0.0 { self.pi.sub(&angle, p, rm) } else { angle };
                if x < 0.0 { angle.neg() } else { angle }
            }
            Function2::Hypot => {
                let (x, y) = (big(x), big(y));
                x.mul_full_prec(&x).add(&y.mul_full_prec(&y), wide, rm).sqrt(p, rm)
            }
            Function2::Rem => return None,
        })
    }
}

/// |found - exact| in units of the last place of `exact` as a float. Infinity is right where the exact value rounds to
/// it, and far off elsewhere.
pub(super) fn error_in_ulps(found: f64, exact: &BigFloat) -> f64 {
    if exact.is_nan() || found.is_nan() {
        return f64::INFINITY;
    }
    if found.is_infinite() {
        let end = big(f64::MAX).add_full_prec(&big(2.0_f64.powi(970)));
        let size = if found > 0.0 { exact.clone() } else { exact.neg() };
        let past = size.cmp(&end).is_some_and(|order| order >= 0);
        return if past { 0.0 } else { f64::INFINITY };
    }
    if exact.is_inf() {
        return f64::INFINITY;
    }
    let exponent = if exact.is_zero() { i64::MIN / 2 } else { exact.exponent().map_or(0, i64::from) };
    let ulp = (exponent - DIGITS).max(LAST_EXPONENT);
    in_units(&big(found).sub(exact, PRECISION_WIDE, ROUNDING), ulp).abs()
}

/// x / 2^exponent, roughly.
fn in_units(x: &BigFloat, exponent: i64) -> f64 {
    let Some((words, _, sign, e, _)) = x.as_raw_parts() else { return f64::INFINITY };
    if x.is_zero() {
        return 0.0;
    }
    // A fraction in [1/2, 1) by 2^e, the most significant word last.
    let fraction = words.last().map_or(0.0, |word| *word as f64 / 2.0_f64.powi(64));
    let power = i32::try_from((i64::from(e) - exponent).clamp(-1000, 1000)).unwrap_or(0);
    let size = fraction * 2.0_f64.powi(power);
    if sign == Sign::Neg { -size } else { size }
}

#[test]
fn errors_are_counted_in_units_of_the_last_place() {
    let exact = big(1.0).add_full_prec(&big(2.0_f64.powi(-54)));
    assert_eq!(error_in_ulps(1.0, &exact), 0.25);
    assert_eq!(error_in_ulps(1.0 + f64::EPSILON, &exact), 0.75);
    assert_eq!(error_in_ulps(1.0 - f64::EPSILON, &exact), 1.25);
    assert_eq!(error_in_ulps(5e-324, &big(0.0)), 1.0);
    assert_eq!(error_in_ulps(0.0, &big(-1.5e-323)), 3.0);
    assert_eq!(error_in_ulps(f64::INFINITY, &big(f64::MAX).add_full_prec(&big(f64::MAX))), 0.0);
    assert!(error_in_ulps(f64::INFINITY, &big(f64::MAX)).is_infinite());
    assert!(error_in_ulps(f64::NEG_INFINITY, &big(f64::MAX)).is_infinite());
    let third = big(1.0).div(&big(3.0), PRECISION, ROUNDING);
    assert!((error_in_ulps(1.0 / 3.0, &third) - 1.0 / 3.0).abs() < 1e-9);
}
