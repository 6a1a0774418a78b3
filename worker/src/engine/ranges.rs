//! Proves from the bounds of a block's integers that no row of it can fail.
//!
//! Most data is far from the ends of i64: then the checks of a whole block cost one pass over its integer columns.

use quipu_shared::formula::typed::{BinaryOperation as B, Operation, TypedFormula, UnaryOperation as U, ValueType};

/// Least and greatest value of a register; booleans and floats have no place here.
type Range = (i64, i64);

const ANY: Range = (i64::MIN, i64::MAX);

/// Whether no row can fail whose int inputs are within `bounds`, one for each input (of other inputs they don't count).
pub(super) fn cannot_fail(formula: &TypedFormula, bounds: &[Range], ranges: &mut Vec<Range>) -> bool {
    ranges.clear();
    for instruction in formula.instructions() {
        let at = |register: u32| ranges[register as usize];
        let range = match instruction.operation {
            _ if instruction.ty != ValueType::Int => Some(ANY),
            Operation::Input(input) => Some(bounds[input as usize]),
            Operation::Constant(bits) => Some((bits as i64, bits as i64)),
            Operation::Unary(operation, a) => unary(operation, at(a)),
            Operation::Binary(operation, a, b) => binary(operation, at(a), at(b)),
            Operation::Select(_, a, b) => Some((at(a).0.min(at(b).0), at(a).1.max(at(b).1))),
        };
        match range {
            Some(range) => ranges.push(range),
            None => return false,
        }
    }
    true
}

/// The range of a result; `None` where the operation may fail.
fn unary(operation: U, (low, high): Range) -> Option<Range> {
    match operation {
        U::NegateInt => Some((high.checked_neg()?, low.checked_neg()?)),
        U::AbsInt => {
            let (a, b) = (low.checked_abs()?, high.checked_abs()?);
            let least = if low <= 0 && high >= 0 { 0 } else { a.min(b) };
            Some((least, a.max(b)))
        }
        U::BitNot => Some((!high, !low)),
        _ => Some(ANY),
    }
}

fn binary(operation: B, a: Range, b: Range) -> Option<Range> {
    match operation {
        B::AddInt => Some((a.0.checked_add(b.0)?, a.1.checked_add(b.1)?)),
        B::SubInt => Some((a.0.checked_sub(b.1)?, a.1.checked_sub(b.0)?)),
        B::MulInt => {
            let corners = [a.0.checked_mul(b.0)?, a.0.checked_mul(b.1)?, a.1.checked_mul(b.0)?, a.1.checked_mul(b.1)?];
            Some((corners.into_iter().min()?, corners.into_iter().max()?))
        }
        B::DivInt | B::RemInt => {
            let by_zero = b.0 <= 0 && b.1 >= 0;
            let overflows = a.0 == i64::MIN && b.0 <= -1 && b.1 >= -1;
            // Neither grows beyond the dividend's magnitude.
            let most = a.0.checked_neg().map_or(i64::MAX, |low| low.max(a.1).max(0));
            let least = a.1.wrapping_neg().min(a.0).min(0);
            (!by_zero && !overflows).then_some((least, most))
        }
        B::ShiftLeft | B::ShiftRight => (b.0 >= 0 && b.1 <= 63).then_some(ANY),
        B::MinInt => Some((a.0.min(b.0), a.1.min(b.1))),
        B::MaxInt => Some((a.0.max(b.0), a.1.max(b.1))),
        _ => Some(ANY),
    }
}

#[cfg(test)]
mod tests {
    use super::{ANY, binary, unary};
    use proptest::prelude::{prop_assert, proptest};
    use quipu_shared::formula::typed::{BinaryOperation as B, UnaryOperation as U, apply_binary, apply_unary};

    const EDGES: [i64; 13] =
        [i64::MIN, i64::MIN + 1, -4_000_000_000, -64, -2, -1, 0, 1, 2, 63, 64, 3_037_000_499, i64::MAX];

    fn range(a: usize, b: usize) -> (i64, i64) {
        (EDGES[a.min(b)], EDGES[a.max(b)])
    }

    proptest! {
        #[test]
        fn every_value_of_a_proven_range_is_within_it(corners in [0_usize..13, 0..13, 0..13, 0..13], picks in [0_usize..13, 0..13]) {
            let (a, b) = (range(corners[0], corners[1]), range(corners[2], corners[3]));
            let (x, y) = (EDGES[picks[0]], EDGES[picks[1]]);
            if x < a.0 || x > a.1 || y < b.0 || y > b.1 {
                return Ok(());
            }
            for operation in [
                B::AddInt, B::SubInt, B::MulInt, B::DivInt, B::RemInt, B::MinInt, B::MaxInt, B::ShiftLeft, B::ShiftRight, B::BitAnd,
            ] {
                if let Some(range) = binary(operation, a, b) {
                    let value = apply_binary(operation, x as u64, y as u64).map(|bits| bits as i64);
                    prop_assert!(value.is_some_and(|value| range.0 <= value && value <= range.1), "{operation:?} {x} {y} {range:?}");
                }
            }
            for operation in [U::NegateInt, U::AbsInt, U::BitNot] {
                if let Some(range) = unary(operation, a) {
                    let value = apply_unary(operation, x as u64).map(|bits| bits as i64);
                    prop_assert!(value.is_some_and(|value| range.0 <= value && value <= range.1), "{operation:?} {x} {range:?}");
                }
            }
        }
    }

    #[test]
    fn small_integers_are_proven_and_large_ones_are_not() {
        assert_eq!(binary(B::MulInt, (-1000, 1000), (-1000, 1000)), Some((-1_000_000, 1_000_000)));
        assert_eq!(binary(B::AddInt, ANY, (0, 1)), None);
        assert_eq!(binary(B::DivInt, ANY, (0, 9)), None);
        assert_eq!(binary(B::DivInt, ANY, (1, 9)), Some(ANY));
        assert_eq!(binary(B::ShiftLeft, ANY, (0, 64)), None);
    }
}
