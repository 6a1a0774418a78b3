//! What the kernels are made of: choices without branches, sums and products with their rounding error.
//!
//! Products are never fused with sums (no `mul_add`): not every machine has that instruction, and the bits differ.

/// 1.5 * 2^52: a float below 2^51 that is added to it is rounded to an integer, which stands in the lowest bits.
const SHIFTER: f64 = 6_755_399_441_055_744.0;
/// The upper 26 bits of a fraction: the product of two such numbers is exact.
const UPPER_HALF: u64 = !0x7ff_ffff;
const FRACTION_BITS: u32 = 52;
const EXPONENT_BIAS: u64 = 1023;

/// `a` where `condition` holds, else `b`; both are computed.
#[inline(always)]
pub(super) fn select(condition: bool, a: f64, b: f64) -> f64 {
    if condition { a } else { b }
}

/// The one NaN for every NaN.
#[inline(always)]
pub(super) fn settle(x: f64) -> f64 {
    select(x.is_nan(), f64::NAN, x)
}

/// The value of a polynomial, given by its coefficients from the lowest power on. Even and odd powers are summed apart:
/// the chains of operations that wait for each other are half as long.
#[inline(always)]
pub(super) fn polynomial<const N: usize>(x: f64, coefficients: &[f64; N]) -> f64 {
    let square = x * x;
    let mut sums = [0.0; 2];
    for (at, coefficient) in coefficients.iter().enumerate().rev() {
        let sum = &mut sums[at & 1];
        *sum = if at + 2 >= N { *coefficient } else { *sum * square + coefficient };
    }
    sums[0] + sums[1] * x
}

/// The nearest integer of a float below 2^51, and that integer modulo 2^51 in the lowest bits of a word.
#[inline(always)]
pub(super) fn nearest(x: f64) -> (f64, u64) {
    let shifted = x + SHIFTER;
    (shifted - SHIFTER, shifted.to_bits().wrapping_sub(SHIFTER.to_bits()))
}

/// `x` with its sign flipped where the lowest bit of `odd` is set.
#[inline(always)]
pub(super) fn flip_sign(x: f64, odd: u64) -> f64 {
    f64::from_bits(x.to_bits() ^ (odd << 63))
}

/// 1 where the sign bit is set.
#[inline(always)]
pub(super) fn sign_bit(x: f64) -> u64 {
    x.to_bits() >> 63
}

/// x * 2^k, for |k| up to 2044, in two steps so that results near the ends of the range come out right.
#[inline(always)]
pub(super) fn scale(x: f64, k: u64) -> f64 {
    // Shifted as a positive number: not every machine shifts signed words.
    let half = (k.wrapping_add(4096) >> 1).wrapping_sub(2048);
    x * power_of_two(half) * power_of_two(k.wrapping_sub(half))
}

/// 2^k, for -1022 <= k <= 1023.
#[inline(always)]
pub(super) fn power_of_two(k: u64) -> f64 {
    f64::from_bits(k.wrapping_add(EXPONENT_BIAS) << FRACTION_BITS)
}

/// The upper half of a fraction's bits, and the rest; exact.
#[inline(always)]
pub(super) fn halves(x: f64) -> (f64, f64) {
    let upper = f64::from_bits(x.to_bits() & UPPER_HALF);
    (upper, x - upper)
}

/// A number as the sum of two floats, the second at most about the rounding error of the first.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) hi: f64,
    pub(super) lo: f64,
}

impl Pair {
    /// The exact sum, where |a| >= |b| or a is 0 (Dekker).
    #[inline(always)]
    pub(super) fn sum_ordered(a: f64, b: f64) -> Self {
        let hi = a + b;
        Self { hi, lo: (a - hi) + b }
    }

    /// The exact sum (Knuth).
    #[inline(always)]
    pub(super) fn sum(a: f64, b: f64) -> Self {
        let hi = a + b;
        let from_b = hi - a;
        Self { hi, lo: (a - (hi - from_b)) + (b - from_b) }
    }

    /// The product, to about 2^-105 of it (Dekker, with halves by mask).
    #[inline(always)]
    pub(super) fn product(a: f64, b: f64) -> Self {
        let hi = a * b;
        let ((a_hi, a_lo), (b_hi, b_lo)) = (halves(a), halves(b));
        Self { hi, lo: ((a_hi * b_hi - hi) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo }
    }

    /// Another small part.
    #[inline(always)]
    pub(super) fn plus(self, small: f64) -> Self {
        Self { hi: self.hi, lo: self.lo + small }
    }

    /// The quotient, to about 2^-75 of it.
    #[inline(always)]
    pub(super) fn quotient(self, by: Self) -> Self {
        let inverse = 1.0 / by.hi;
        let hi = self.hi * inverse;
        let ((q_hi, q_lo), (d_hi, d_lo)) = (halves(hi), halves(by.hi));
        let rest = (((self.hi - q_hi * d_hi) - q_hi * d_lo) - q_lo * d_hi) - q_lo * d_lo;
        Self { hi, lo: (rest + (self.lo - hi * by.lo)) * inverse }
    }

    /// Rounded to one float.
    #[inline(always)]
    pub(super) fn rounded(self) -> f64 {
        self.hi + self.lo
    }
}
