//! Least and greatest values, with the row that has them.
//!
//! NaN wins over everything, -0 is below +0, an integer and a float compare as the real numbers that they are (integer
//! 0 as +0), and among equals the lowest row wins. That is a total order of (value, row), so any grouping of the rows
//! gives the same answer.

use super::kernels;
use super::lanes::Mask;
use super::partial;
use crate::spec::Scalar;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A numeric value with its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    fn is_nan(self) -> bool {
        matches!(self, Self::Float(x) if x.is_nan())
    }
}

/// Compares numbers of which none is NaN.
fn compare(a: Number, b: Number) -> Ordering {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a.cmp(&b),
        (Number::Float(a), Number::Float(b)) => {
            a.partial_cmp(&b).unwrap_or(Ordering::Equal).then(b.is_sign_negative().cmp(&a.is_sign_negative()))
        }
        (Number::Int(a), Number::Float(b)) => compare_int(a, b),
        (Number::Float(a), Number::Int(b)) => compare_int(b, a).reverse(),
    }
}

/// Compares without rounding the integer.
fn compare_int(a: i64, b: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    if b >= LIMIT {
        return Ordering::Less;
    }
    if b < -LIMIT {
        return Ordering::Greater;
    }
    // In this range the whole part is an i64; what lies behind the point decides between equal whole parts.
    let whole = b.trunc();
    let fraction = b - whole;
    let zero = || if a == 0 && b == 0.0 && b.is_sign_negative() { Ordering::Greater } else { Ordering::Equal };
    a.cmp(&(whole as i64)).then_with(|| 0.0.partial_cmp(&fraction).unwrap_or(Ordering::Equal)).then_with(zero)
}

/// Which end of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Lowest,
    Highest,
}

/// The best row so far.
#[derive(Clone, Debug, PartialEq)]
struct Best {
    value: Number,
    row: u64,
    /// The row's inputs, where they are wanted.
    inputs: Vec<Cell>,
}

/// A row's input; inputs are never tuples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Cell {
    Int(i64),
    Float(u64),
    Boolean(bool),
    String(String),
    Empty,
}

impl From<Scalar> for Cell {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Int(x) => Self::Int(x),
            Scalar::Float(x) => Self::Float(if x.is_nan() { f64::NAN } else { x }.to_bits()),
            Scalar::Boolean(x) => Self::Boolean(x),
            Scalar::String(x) => Self::String(x),
            Scalar::Tuple(_) | Scalar::Empty => Self::Empty,
        }
    }
}

/// What `min` and `argmin`, or `max` and `argmax`, keep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Extreme {
    end: End,
    best: Option<Best>,
}

/// [`Extreme`] as it travels.
#[derive(Serialize, Deserialize)]
pub(super) struct ExtremeForm {
    int: Option<i64>,
    float: u64,
    row: u64,
    #[serde(deserialize_with = "partial::cells")]
    inputs: Vec<Cell>,
}

impl Extreme {
    pub(super) fn new(end: End) -> Self {
        Self { end, best: None }
    }

    /// Whether the value would replace the best one.
    fn improves(&self, value: Number, row: u64) -> bool {
        let Some(best) = &self.best else { return true };
        match (value.is_nan(), best.value.is_nan()) {
            (true, false) => true,
            (false, true) => false,
            (true, true) => row < best.row,
            (false, false) => {
                let order = compare(value, best.value);
                let order = if self.end == End::Lowest { order } else { order.reverse() };
                order.is_lt() || (order.is_eq() && row < best.row)
            }
        }
    }

    /// Takes a block's floats, of which `bounds` tells the least, the greatest, and whether one is NaN.
    pub(super) fn push_floats<M: Mask>(
        &mut self,
        values: &[f64],
        mask: M,
        bounds: (f64, f64, bool),
        first_row: u64,
        inputs: impl Fn(usize) -> Vec<Cell>,
    ) {
        let (least, greatest, nan) = bounds;
        let bound = if self.end == End::Lowest { least } else { greatest };
        // Either zero may be in the block: the better one is looked for first.
        let (first, second) = match (nan, bound == 0.0) {
            (true, _) => (f64::NAN, f64::NAN),
            (_, false) => (bound, bound),
            (_, true) if self.end == End::Lowest => (-0.0, 0.0),
            (_, true) => (0.0, -0.0),
        };
        if !self.improves(Number::Float(first), first_row) {
            return;
        }
        let found = if nan {
            (0..values.len()).find(|&i| mask.valid(i) && values[i].is_nan())
        } else {
            kernels::position(values, mask, first).or_else(|| kernels::position(values, mask, second))
        };
        if let Some(i) = found {
            let value = if nan { f64::NAN } else { values[i] };
            self.take(Number::Float(value), first_row + i as u64, || inputs(i));
        }
    }

    /// Takes a block's integers, of which `bounds` tells the least and the greatest.
    pub(super) fn push_ints<M: Mask>(
        &mut self,
        values: &[i64],
        mask: M,
        bounds: (i64, i64),
        first_row: u64,
        inputs: impl Fn(usize) -> Vec<Cell>,
    ) {
        let bound = if self.end == End::Lowest { bounds.0 } else { bounds.1 };
        if !self.improves(Number::Int(bound), first_row) {
            return;
        }
        if let Some(i) = (0..values.len()).find(|&i| values[i] == bound && mask.valid(i)) {
            self.take(Number::Int(bound), first_row + i as u64, || inputs(i));
        }
    }

    /// Takes a row, if it is better than the best one.
    fn take(&mut self, value: Number, row: u64, inputs: impl FnOnce() -> Vec<Cell>) {
        if self.improves(value, row) {
            self.best = Some(Best { value, row, inputs: inputs() });
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        if let Some(best) = other.best
            && self.improves(best.value, best.row)
        {
            self.best = Some(best);
        }
    }

    /// The value, its row and the row's inputs.
    pub(super) fn best(&self) -> Option<(Number, u64, &[Cell])> {
        self.best.as_ref().map(|best| (best.value, best.row, &best.inputs[..]))
    }

    pub(super) fn to_form(&self) -> Option<ExtremeForm> {
        self.best.as_ref().map(|best| {
            let (int, float) = match best.value {
                Number::Int(x) => (Some(x), 0),
                Number::Float(x) => (None, x.to_bits()),
            };
            ExtremeForm { int, float, row: best.row, inputs: best.inputs.clone() }
        })
    }

    /// `inputs` is how many a row has; `None` where the form has another number of them.
    pub(super) fn from_form(end: End, form: Option<ExtremeForm>, inputs: usize) -> Option<Self> {
        let best = match form {
            None => None,
            Some(form) if form.inputs.len() == inputs => {
                let float = f64::from_bits(form.float);
                let float = if float.is_nan() { f64::NAN } else { float };
                let value = form.int.map_or(Number::Float(float), Number::Int);
                Some(Best { value, row: form.row, inputs: form.inputs })
            }
            Some(_) => return None,
        };
        Some(Self { end, best })
    }
}

#[cfg(test)]
mod tests {
    use super::{Number, compare};
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use std::cmp::Ordering;

    /// Integer and float as multiples of 2^-1074 would not fit; near the integers they do as multiples of 2^-40.
    fn near_ints() -> impl Strategy<Value = (i64, f64)> {
        let int = prop_oneof![any::<i64>(), -3..3_i64, Just(i64::MAX), Just(i64::MIN), Just((1 << 53) + 1)];
        (int, -3..3_i32).prop_map(|(i, ulps)| {
            let mut x = i as f64;
            for _ in 0..ulps.abs() {
                x = if ulps > 0 { x.next_up() } else { x.next_down() };
            }
            (i, x)
        })
    }

    proptest! {
        #[test]
        fn int_and_float_compare_without_rounding((i, x) in near_ints()) {
            let whole = x.floor() as i128;
            let expected = i128::from(i).cmp(&whole).then(if x.floor() < x { Ordering::Less } else { Ordering::Equal });
            if !(i == 0 && x == 0.0) {
                prop_assert_eq!(compare(Number::Int(i), Number::Float(x)), expected);
                prop_assert_eq!(compare(Number::Float(x), Number::Int(i)), expected.reverse());
            }
        }
    }

    #[test]
    fn zeros_are_ordered() {
        let (negative, positive) = (Number::Float(-0.0), Number::Float(0.0));
        assert_eq!(compare(negative, positive), Ordering::Less);
        assert_eq!(compare(negative, Number::Int(0)), Ordering::Less);
        assert_eq!(compare(positive, Number::Int(0)), Ordering::Equal);
        assert_eq!(compare(Number::Int(0), Number::Int(0)), Ordering::Equal);
    }
}
