//! Decimal big integers: slow, and nothing like the code under test.

use crate::spec::Scalar;

/// A natural number, in digits of base 10^9, lowest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Natural(pub(super) Vec<u64>);

const BASE: u64 = 1_000_000_000;

impl Natural {
    pub(super) fn times(&mut self, factor: u64) {
        let mut carry = 0;
        for digit in &mut self.0 {
            let product = *digit * factor + carry;
            (*digit, carry) = (product % BASE, product / BASE);
        }
        while carry > 0 {
            self.0.push(carry % BASE);
            carry /= BASE;
        }
    }

    pub(super) fn plus(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()) + 1, 0);
        let mut carry = 0;
        for (i, digit) in self.0.iter_mut().enumerate() {
            let sum = *digit + other.0.get(i).unwrap_or(&0) + carry;
            (*digit, carry) = (sum % BASE, sum / BASE);
        }
    }

    /// What is left of the greater one, and whether that was `self`.
    pub(super) fn minus(&self, other: &Self) -> (Self, bool) {
        let len = self.0.len().max(other.0.len());
        let digits = |n: &Self| (0..len).rev().map(|i| *n.0.get(i).unwrap_or(&0)).collect::<Vec<_>>();
        let (mut a, mut b) = (digits(self), digits(other));
        let first = a >= b;
        if !first {
            std::mem::swap(&mut a, &mut b);
        }
        a.reverse();
        b.reverse();
        let mut borrow = 0;
        for (x, y) in a.iter_mut().zip(&b) {
            let need = y + borrow;
            borrow = u64::from(*x < need);
            *x = *x + borrow * BASE - need;
        }
        (Self(a), first)
    }

    pub(super) fn product(&self, other: &Self) -> Self {
        let mut product = vec![0; self.0.len() + other.0.len() + 1];
        for (i, a) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (j, slot) in product[i..].iter_mut().enumerate() {
                let part = a * other.0.get(j).unwrap_or(&0) + *slot + carry;
                (*slot, carry) = (part % BASE, part / BASE);
            }
        }
        Self(product)
    }

    /// Divides; whether something was left over.
    pub(super) fn divide(&mut self, divisor: u64) -> bool {
        let mut rest = 0_u128;
        for digit in self.0.iter_mut().rev() {
            let part = rest * u128::from(BASE) + u128::from(*digit);
            *digit = (part / u128::from(divisor)) as u64;
            rest = part % u128::from(divisor);
        }
        rest > 0
    }

    pub(super) fn digits(&self) -> String {
        self.0.iter().rev().map(|digit| format!("{digit:09}")).collect()
    }
}

/// `mantissa * 2^power`
pub(super) fn scaled(mantissa: u64, power: u32) -> Natural {
    let mut n = Natural(vec![mantissa % BASE, mantissa / BASE % BASE, mantissa / BASE / BASE]);
    for _ in 0..power {
        n.times(2);
    }
    n
}

/// A finite number in units of 2^-1074, and whether it is negative.
pub(super) fn units(value: &Scalar) -> (Natural, bool) {
    match value {
        Scalar::Int(x) => (scaled(x.unsigned_abs(), 1074), *x < 0),
        Scalar::Float(x) => {
            let bits = x.abs().to_bits();
            let (exponent, mantissa) = ((bits >> 52) as u32, bits & ((1 << 52) - 1));
            let whole = if exponent > 0 { mantissa | 1 << 52 } else { mantissa };
            (scaled(whole, exponent.saturating_sub(1)), *x < 0.0)
        }
        other => panic!("{other:?} is no number"),
    }
}

/// The sum of the positive numbers and that of the magnitudes of the negative ones, in units of 2^-1074.
pub(super) fn sums(values: &[Scalar]) -> (Natural, Natural) {
    let (mut up, mut down) = (Natural::default(), Natural::default());
    for value in values {
        let (part, negative) = units(value);
        if negative { down.plus(&part) } else { up.plus(&part) }
    }
    (up, down)
}
