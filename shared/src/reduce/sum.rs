//! Exact sums: block sums of floats in a wide fixed-point accumulator, integers in i128.
//!
//! Both kinds of addition are associative and commutative, so neither the order nor the grouping of shards matters.

use super::exact;
use super::kernels;
use super::lanes::{Mask, Sparse};
use super::wide::{self, WIDE_UNIT, Wide};
use bitrep::SumF64;
use serde::{Deserialize, Serialize};

/// Limbs of the accumulator: a two's complement integer in units of 2^-1074, low limb first.
const LIMBS: usize = 34;

/// What `sum` and `mean` keep.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Sum of the integers; 2^63 rows of the least integer would fit.
    ints: i128,
    int_count: u64,
    /// Sum of the floats' block sums.
    floats: SumF64,
    float_count: u64,
}

/// A sum, before it is brought into a result's type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Total {
    /// There were integers only, or nothing.
    Int(i128),
    /// There was a float.
    Float(f64),
}

/// [`Sums`] as it travels.
#[derive(Serialize, Deserialize)]
pub(super) struct SumsForm {
    ints: i128,
    int_count: u64,
    floats: Option<Vec<u8>>,
    float_count: u64,
}

impl Sums {
    /// Adds a block's integers.
    pub(super) fn push_ints<M: Mask>(&mut self, values: &[i64], mask: M, count: u64) {
        let (low, high) = kernels::sum_of_halves(values, mask);
        self.ints = self.ints.saturating_add(i128::from(low) + (i128::from(high) << 32));
        self.int_count = self.int_count.saturating_add(count);
    }

    /// Adds a block's floats.
    pub(super) fn push_floats<M: Mask>(&mut self, values: &[f64], mask: M, count: u64) {
        if count == 0 {
            return;
        }
        let sum = kernels::sum(values, mask);
        if sum.is_finite() {
            self.floats.add(sum);
        } else {
            // A lane may overflow where the sum does not, and infinities may cancel to NaN: here each value counts.
            for (i, x) in values.iter().enumerate() {
                if mask.valid(i) {
                    self.floats.add(*x);
                }
            }
        }
        self.float_count = self.float_count.saturating_add(count);
    }

    /// Adds a block's floats, each of them exactly.
    pub(super) fn push_floats_exactly<M: Mask>(&mut self, values: &[f64], mask: M, count: u64) {
        exact::sum(values, mask, |part| self.floats.add(part));
        self.float_count = self.float_count.saturating_add(count);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.ints = self.ints.saturating_add(other.ints);
        self.int_count = self.int_count.saturating_add(other.int_count);
        self.floats.merge(&other.floats);
        self.float_count = self.float_count.saturating_add(other.float_count);
    }

    /// The sum; of no rows it is the integer 0.
    pub(super) fn total(&self) -> Total {
        if self.float_count == 0 { Total::Int(self.ints) } else { Total::Float(self.exact().value()) }
    }

    /// The exact sum divided by the count, rounded once; `None` of no rows.
    pub(super) fn mean(&self) -> Option<f64> {
        let count = self.int_count.saturating_add(self.float_count);
        (count > 0).then(|| divide(&self.exact(), count))
    }

    /// Both parts in one accumulator.
    fn exact(&self) -> SumF64 {
        let mut exact = self.floats.clone();
        // Pieces of 48 bits are floats without rounding; the top piece carries the sign.
        let mut rest = self.ints;
        let mut weight = 1.0;
        while rest != 0 && rest != -1 {
            exact.add((rest & 0xffff_ffff_ffff) as f64 * weight);
            rest >>= 48;
            weight *= 281_474_976_710_656.0; // 2^48
        }
        if rest == -1 {
            exact.add(-weight);
        }
        exact
    }

    pub(super) fn to_form(&self) -> SumsForm {
        SumsForm {
            ints: self.ints,
            int_count: self.int_count,
            floats: (self.float_count > 0).then(|| self.floats.to_bytes().to_vec()),
            float_count: self.float_count,
        }
    }

    pub(super) fn from_form(form: &SumsForm) -> Option<Self> {
        let floats = match &form.floats {
            None => SumF64::new(),
            Some(bytes) => SumF64::from_bytes(bytes.as_slice().try_into().ok()?)?,
        };
        let fits = form.floats.is_some() == (form.float_count > 0)
            && form.ints.unsigned_abs() <= u128::from(form.int_count) << 63;
        fits.then_some(Self { ints: form.ints, int_count: form.int_count, floats, float_count: form.float_count })
    }
}

/// `exact / count`, rounded to nearest, ties to even.
fn divide(exact: &SumF64, count: u64) -> f64 {
    let Some((mut limbs, negative)) = magnitude(exact) else { return exact.value() };
    let mut remainder = 0;
    for limb in limbs.iter_mut().rev() {
        let part = (u128::from(remainder) << 64) | u128::from(*limb);
        *limb = (part / u128::from(count)) as u64;
        remainder = (part % u128::from(count)) as u64;
    }
    let magnitude = round(&limbs, u128::from(remainder) * 2, u128::from(count));
    if negative { -magnitude } else { magnitude }
}

/// A sum in units of 2^-1074, and whether it is negative; `None` where NaN or an infinity has been added.
fn magnitude(exact: &SumF64) -> Option<([u64; LIMBS], bool)> {
    let bytes = exact.to_bytes();
    if bytes[LIMBS * 8] != 0 {
        return None;
    }
    let mut limbs = [0; LIMBS];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*chunk);
    }
    let negative = limbs[LIMBS - 1] >> 63 != 0;
    if negative {
        negate(&mut limbs);
    }
    Some((limbs, negative))
}

/// The exact sum of squares, beside [`Sums`] of the same rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Squares(Wide);

/// An exact sample variance, not yet rounded: `limbs * 2^unit`, and whether a little more.
struct Variance {
    limbs: Vec<u64>,
    more: bool,
}

/// Bits of the variance below the unit of squares: its root then has 64 bits below the least float.
const VARIANCE_LIMBS_BELOW: usize = 2;
const VARIANCE_UNIT: i32 = WIDE_UNIT - 64 * VARIANCE_LIMBS_BELOW as i32;

impl Squares {
    pub(super) fn push_floats<M: Mask>(&mut self, values: &[f64], mask: M) {
        exact::squares(values, mask, &mut self.0);
    }

    pub(super) fn push_ints<M: Mask>(&mut self, values: &[i64], mask: M) {
        exact::int_squares(values, mask, &mut self.0);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    /// The sample variance, rounded once; `None` of fewer than two rows, NaN if any was NaN or infinite.
    pub(super) fn variance(&self, sums: &Sums) -> Option<f64> {
        let exact = |v: Variance| wide::nearest(&v.limbs, VARIANCE_UNIT, v.more);
        self.exact_variance(sums).map(|found| found.map_or(f64::NAN, exact))
    }

    /// Its square root, rounded once: also where the variance is no float any more.
    pub(super) fn stddev(&self, sums: &Sums) -> Option<f64> {
        let exact = |v: Variance| wide::root(&v.limbs, VARIANCE_UNIT, v.more);
        self.exact_variance(sums).map(|found| found.map_or(f64::NAN, exact))
    }

    /// `(n * sum of squares - square of the sum) / (n * (n - 1))`; the inner `None` stands for NaN.
    fn exact_variance(&self, sums: &Sums) -> Option<Option<Variance>> {
        let n = sums.int_count.saturating_add(sums.float_count);
        if n < 2 {
            return None;
        }
        let Some((sum, _)) = magnitude(&sums.exact()) else { return Some(None) };
        let numerator = wide::minus(wide::times(&self.0.magnitude(), n), &wide::square(&sum));
        let mut limbs = [vec![0; VARIANCE_LIMBS_BELOW], numerator].concat();
        // Dividing twice is dividing once, as long as no remainder is forgotten.
        let first = wide::divide(&mut limbs, n);
        let second = wide::divide(&mut limbs, n - 1);
        Some(Some(Variance { limbs, more: first | second }))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Wide::from_bytes(bytes).map(Self)
    }
}

fn negate(limbs: &mut [u64; LIMBS]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
    }
}

/// `(limbs + fraction) * 2^-1074` as the nearest float, where the fraction is `half / (2 * unit)` and below 1.
fn round(limbs: &[u64; LIMBS], half: u128, unit: u128) -> f64 {
    const MANTISSA: usize = 53;
    let Some(top) = (0..LIMBS).rev().find(|&i| limbs[i] != 0) else {
        return if half > unit { f64::from_bits(1) } else { 0.0 };
    };
    let bits = top * 64 + 64 - limbs[top].leading_zeros() as usize;
    let bit = |i: usize| limbs[i / 64] >> (i % 64) & 1;
    let drop = bits.saturating_sub(MANTISSA);
    let kept = (drop..bits).rev().fold(0, |kept, i| kept << 1 | bit(i));
    let up = if drop == 0 {
        half > unit || (half == unit && kept & 1 == 1)
    } else {
        let sticky = half > 0 || (0..drop - 1).any(|i| bit(i) == 1);
        bit(drop - 1) == 1 && (sticky || kept & 1 == 1)
    };
    let kept = kept + u64::from(up);
    // Below 2^52 the kept bits are those of a subnormal; a carry out of the mantissa goes into the exponent by itself,
    // and out of the exponent it makes infinity.
    if kept < 1 << 52 {
        return f64::from_bits(kept);
    }
    let exponent = drop as u64;
    if exponent > 2045 {
        return f64::INFINITY;
    }
    f64::from_bits((exponent << 52) + kept)
}

/// Splits a column of mixed numbers by type; the masks tell whose row is whose.
#[derive(Clone, Debug, Default)]
pub(super) struct Split {
    pub(super) ints: Vec<i64>,
    pub(super) int_mask: Vec<bool>,
    pub(super) floats: Vec<f64>,
    pub(super) float_mask: Vec<bool>,
}

impl Split {
    pub(super) fn clear(&mut self) {
        self.ints.clear();
        self.int_mask.clear();
        self.floats.clear();
        self.float_mask.clear();
    }

    /// One more row: an integer, a float, or neither.
    pub(super) fn push(&mut self, int: Option<i64>, float: Option<f64>) {
        self.ints.push(int.unwrap_or(0));
        self.int_mask.push(int.is_some());
        self.floats.push(float.unwrap_or(0.0));
        self.float_mask.push(float.is_some());
    }

    pub(super) fn ints(&self) -> (&[i64], Sparse<'_>) {
        (&self.ints, Sparse(&self.int_mask))
    }

    pub(super) fn floats(&self) -> (&[f64], Sparse<'_>) {
        (&self.floats, Sparse(&self.float_mask))
    }
}
