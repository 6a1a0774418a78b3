//! Wide integers: an accumulator for squares of floats, and the few operations that bring exact moments to one float.
//!
//! Magnitudes are limbs of 64 bits, lowest first, of any length.

/// Limbs of a [`Wide`]. The square of the least float is 2^-2148, and 2^64 squares of the greatest stay below 2^2112:
/// 4,260 bits and a sign.
pub(super) const WIDE_LIMBS: usize = 67;
/// What one unit of a [`Wide`] is worth, as a power of two.
pub(super) const WIDE_UNIT: i32 = -2148;
/// What the lowest bit of the least float is worth.
const FLOAT_UNIT: i32 = -1074;
const MANTISSA_BITS: i32 = 53;

/// A float's magnitude as `mantissa * 2^(place - 1074)`.
pub(super) fn parts(x: f64) -> (u64, usize) {
    let bits = x.abs().to_bits();
    let (field, fraction) = ((bits >> 52) as usize, bits & ((1 << 52) - 1));
    if field == 0 { (fraction, 0) } else { (fraction | 1 << 52, field - 1) }
}

/// A two's complement integer in units of 2^-2148.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wide([u64; WIDE_LIMBS]);

impl Default for Wide {
    fn default() -> Self {
        Self([0; WIDE_LIMBS])
    }
}

impl Wide {
    /// Adds a finite float.
    pub(super) fn add(&mut self, x: f64) {
        let (mantissa, place) = parts(x);
        self.add_at(place + FLOAT_UNIT.unsigned_abs() as usize, mantissa.into(), x < 0.0);
    }

    /// Adds the square of a finite float.
    pub(super) fn add_square(&mut self, x: f64) {
        let (mantissa, place) = parts(x);
        self.add_at(2 * place, u128::from(mantissa) * u128::from(mantissa), false);
    }

    /// Adds `x * 2^place`.
    pub(super) fn add_integer(&mut self, x: u128, place: usize) {
        self.add_at(WIDE_UNIT.unsigned_abs() as usize + place, x, false);
    }

    /// Adds or subtracts `part * 2^place` units. What runs over the top is lost, as it can be of damaged partials only.
    fn add_at(&mut self, place: usize, part: u128, negative: bool) {
        let (limb, shift) = (place / 64, place % 64);
        let low = part << shift;
        let high = if shift == 0 { 0 } else { (part >> (128 - shift)) as u64 };
        let parts = [low as u64, (low >> 64) as u64, high];
        let mut carry = false;
        for (i, limb) in self.0.iter_mut().skip(limb).enumerate() {
            let part = parts.get(i).copied().unwrap_or(0);
            if i >= parts.len() && !carry {
                break;
            }
            let ((sum, a), b);
            if negative {
                (sum, a) = limb.overflowing_sub(part);
                (*limb, b) = sum.overflowing_sub(u64::from(carry));
            } else {
                (sum, a) = limb.overflowing_add(part);
                (*limb, b) = sum.overflowing_add(u64::from(carry));
            }
            carry = a | b;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let mut carry = false;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            let (sum, a) = mine.overflowing_add(*theirs);
            let b;
            (*mine, b) = sum.overflowing_add(u64::from(carry));
            carry = a | b;
        }
    }

    /// The limbs, or nothing of a negative number.
    pub(super) fn magnitude(&self) -> Vec<u64> {
        if self.0[WIDE_LIMBS - 1] >> 63 == 0 { self.0.to_vec() } else { Vec::new() }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|limb| limb.to_le_bytes()).collect()
    }

    /// `None` where there are not as many bytes as the accumulator has.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let limbs: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        if rest.is_empty() { Some(Self(limbs.try_into().ok()?)) } else { None }
    }
}

/// `limbs * factor`
pub(super) fn times(limbs: &[u64], factor: u64) -> Vec<u64> {
    let mut carry = 0;
    let mut product: Vec<u64> = Vec::with_capacity(limbs.len() + 1);
    for limb in limbs {
        let part = u128::from(*limb) * u128::from(factor) + u128::from(carry);
        product.push(part as u64);
        carry = (part >> 64) as u64;
    }
    product.push(carry);
    product
}

/// `limbs * limbs`
pub(super) fn square(limbs: &[u64]) -> Vec<u64> {
    let mut product = vec![0_u64; 2 * limbs.len()];
    for (i, a) in limbs.iter().enumerate().filter(|(_, a)| **a != 0) {
        let mut carry = 0;
        for (slot, b) in product[i..].iter_mut().zip(limbs.iter().chain([&0])) {
            let part = u128::from(*a) * u128::from(*b) + u128::from(*slot) + u128::from(carry);
            *slot = part as u64;
            carry = (part >> 64) as u64;
        }
    }
    product
}

/// `a - b`, or nothing where `b` is the greater one.
pub(super) fn minus(mut a: Vec<u64>, b: &[u64]) -> Vec<u64> {
    let longer = a.len().max(b.len());
    a.resize(longer, 0);
    let mut borrow = false;
    for (i, limb) in a.iter_mut().enumerate() {
        let (difference, first) = limb.overflowing_sub(b.get(i).copied().unwrap_or(0));
        let second;
        (*limb, second) = difference.overflowing_sub(u64::from(borrow));
        borrow = first | second;
    }
    if borrow { Vec::new() } else { a }
}

/// Divides; whether something was left over. The divisor is not 0.
pub(super) fn divide(limbs: &mut [u64], divisor: u64) -> bool {
    let mut rest = 0;
    for limb in limbs.iter_mut().rev() {
        let part = (u128::from(rest) << 64) | u128::from(*limb);
        *limb = (part / u128::from(divisor)) as u64;
        rest = (part % u128::from(divisor)) as u64;
    }
    rest > 0
}

/// How many bits a magnitude has.
fn bit_length(limbs: &[u64]) -> usize {
    limbs.iter().rposition(|limb| *limb != 0).map_or(0, |top| top * 64 + 64 - limbs[top].leading_zeros() as usize)
}

fn bit(limbs: &[u64], i: usize) -> u64 {
    limbs.get(i / 64).map_or(0, |limb| limb >> (i % 64) & 1)
}

/// Up to 128 bits from bit `from` on.
fn window(limbs: &[u64], from: usize) -> u128 {
    let limb = |i: usize| u128::from(limbs.get(from / 64 + i).copied().unwrap_or(0));
    let shift = from % 64;
    let low = limb(0) | limb(1) << 64;
    if shift == 0 { low } else { low >> shift | limb(2) << (128 - shift) }
}

/// Whether any of the lowest `n` bits is set.
fn any_below(limbs: &[u64], n: usize) -> bool {
    let whole = (n / 64).min(limbs.len());
    limbs[..whole].iter().any(|limb| *limb != 0)
        || limbs.get(n / 64).is_some_and(|limb| limb & ((1 << (n % 64)) - 1) != 0)
}

/// `(limbs + rest) * 2^unit` as the nearest float, ties to even, where `rest` is above 0 if `more` and below 1.
///
/// The unit is small enough for the last bit of the result to lie above it, so that `rest` alone decides nothing: below
/// 2^-1074, or 54 bits below the highest one.
pub(super) fn nearest(limbs: &[u64], unit: i32, more: bool) -> f64 {
    let bits = bit_length(limbs) as i32;
    let last = (bits + unit - MANTISSA_BITS).max(FLOAT_UNIT);
    let Ok(drop @ 1..) = usize::try_from(last - unit) else {
        // By the condition on the unit there is nothing to round.
        return f64::NAN;
    };
    let kept = window(limbs, drop) as u64;
    let half = bit(limbs, drop - 1) == 1;
    let up = half && (more || kept & 1 == 1 || any_below(limbs, drop - 1));
    // A carry out of the mantissa goes into the exponent by itself, and out of the exponent it makes infinity.
    let field = (last - FLOAT_UNIT) as u64;
    if field > 2045 {
        return f64::INFINITY;
    }
    f64::from_bits((field << 52) + kept + u64::from(up))
}

/// The square root of `(limbs + rest) * 2^unit` as the nearest float, where `rest` is above 0 if `more` and below 1.
///
/// The unit is even and at most 2^-2276, so that the root of one unit lies 64 bits below the least float.
pub(super) fn root(limbs: &[u64], unit: i32, more: bool) -> f64 {
    let drop = bit_length(limbs).saturating_sub(128).next_multiple_of(2);
    let top = window(limbs, drop);
    let root = top.isqrt();
    let more = more || root * root != top || any_below(limbs, drop);
    nearest(&[root as u64], (unit + drop as i32) / 2, more)
}

#[cfg(test)]
mod tests {
    use super::{Wide, divide, minus, nearest, root, square, times};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn wide(x: u128) -> Vec<u64> {
        vec![x as u64, (x >> 64) as u64]
    }

    fn narrow(limbs: &[u64]) -> u128 {
        assert!(limbs.iter().skip(2).all(|limb| *limb == 0));
        u128::from(limbs[0]) | u128::from(*limbs.get(1).unwrap_or(&0)) << 64
    }

    proptest! {
        #[test]
        fn limbs_compute_as_128_bits_do(a in any::<u128>(), b in any::<u64>(), c in any::<u128>(), shift in 0..64_u32) {
            let a = a >> 64 >> shift;
            prop_assert_eq!(narrow(&times(&wide(a), b)), a * u128::from(b));
            prop_assert_eq!(narrow(&square(&wide(a))), a * a);
            let (low, high) = (a.min(c), a.max(c));
            prop_assert_eq!(narrow(&minus(wide(high), &wide(low))), high - low);
            prop_assert!(low == high || minus(wide(low), &wide(high)).is_empty());
            let (divisor, mut quotient) = (u128::from(b.max(1)), wide(c));
            let rest = divide(&mut quotient, b.max(1));
            prop_assert_eq!((narrow(&quotient), rest), (c / divisor, c % divisor != 0));
        }

        #[test]
        fn float_that_is_added_reads_back(bits in any::<u64>(), other in any::<u64>()) {
            let (x, y) = (f64::from_bits(bits >> 1), f64::from_bits(other));
            if x.is_finite() && y.is_finite() {
                let mut sum = Wide::default();
                sum.add(y);
                sum.add(x);
                sum.add(-y);
                prop_assert_eq!(nearest(&sum.magnitude(), super::WIDE_UNIT, false).to_bits(), x.to_bits());
                let mut negative = Wide::default();
                negative.add(-x);
                sum.merge(&negative);
                prop_assert_eq!(&sum, &Wide::default());
                prop_assert!(negative.magnitude().is_empty() || x == 0.0);
            }
        }

        #[test]
        fn root_of_a_square_is_its_float(bits in any::<u64>()) {
            let x = f64::from_bits(bits >> 1);
            if x.is_finite() {
                let mut sum = Wide::default();
                sum.add_square(x);
                let limbs = [vec![0, 0], sum.magnitude()].concat();
                prop_assert_eq!(root(&limbs, super::WIDE_UNIT - 128, false).to_bits(), x.to_bits());
            }
        }

        #[test]
        fn integers_round_as_the_machine_rounds_them(x in any::<u128>(), shift in 0..128_u32) {
            let x = x >> shift;
            let limbs = [vec![0; 34], wide(x)].concat();
            prop_assert_eq!(nearest(&limbs, -34 * 64, false), x as f64);
        }
    }

    #[test]
    fn rest_decides_between_two_floats_only_at_their_middle() {
        let middle = [0, 0, 1 << 63, (1 << 54) + 1];
        let even = nearest(&[0, 0, 1 << 63, 1 << 52], -3 * 64, false);
        assert_eq!(even, 4_503_599_627_370_496.0);
        assert_eq!(nearest(&[0, 0, 1 << 63, 1 << 52], -3 * 64, true), even.next_up());
        assert_eq!(nearest(&[0, 0, (1 << 63) - 1, 1 << 52], -3 * 64, true), even);
        assert_eq!(nearest(&middle, -3 * 64, false), (1_u64 << 54) as f64);
        assert_eq!(nearest(&[u64::MAX], -64 - 1074, true), f64::from_bits(1));
        assert_eq!(nearest(&[1 << 63], -64 - 1074, false), 0.0);
        assert_eq!(nearest(&[1 << 63], -64 - 1074, true), f64::from_bits(1));
        assert_eq!(nearest(&[u64::MAX, u64::MAX], 1023 - 127, true), f64::INFINITY);
        assert_eq!(nearest(&[u64::MAX << 11, u64::MAX], 1023 - 127, true), f64::INFINITY);
        assert_eq!(nearest(&[u64::MAX, u64::MAX << 11], 1023 - 127, true), f64::MAX);
    }
}
