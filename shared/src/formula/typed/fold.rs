//! What each operation means for one value: the definition that every tier keeps to, and the folding of constants.

use super::{BinaryOperation, Comparison, UnaryOperation};
use crate::math;

/// Applies an operation to an operand's bits (booleans are 0 and 1); `None` where it fails.
pub fn apply_unary(operation: UnaryOperation, a: u64) -> Option<u64> {
    use UnaryOperation as U;
    let float = f64::from_bits(a);
    let int = a as i64;
    Some(match operation {
        U::NegateInt => int.checked_neg()? as u64,
        U::NegateFloat => (-float).to_bits(),
        U::Not => a ^ 1,
        U::IntToFloat => (int as f64).to_bits(),
        U::AbsInt => int.checked_abs()? as u64,
        U::AbsFloat => float.abs().to_bits(),
        U::Floor => float.floor().to_bits(),
        U::Ceil => float.ceil().to_bits(),
        U::Round => float.round().to_bits(),
        U::Sqrt => float.sqrt().to_bits(),
        U::IsNan => float.is_nan().into(),
        U::IsFinite => float.is_finite().into(),
        U::IsInfinite => float.is_infinite().into(),
        U::IsNormal => float.is_normal().into(),
        U::BitNot => !a,
        U::Math(function) => function.of(float).to_bits(),
    })
}

/// Applies an operation to two operands' bits (booleans are 0 and 1); `None` where it fails.
pub fn apply_binary(operation: BinaryOperation, a: u64, b: u64) -> Option<u64> {
    use BinaryOperation as B;
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    let (i, j) = (a as i64, b as i64);
    let bits = || u32::try_from(j).ok().filter(|bits| *bits < 64);
    Some(match operation {
        B::AddInt => i.checked_add(j)? as u64,
        B::SubInt => i.checked_sub(j)? as u64,
        B::MulInt => i.checked_mul(j)? as u64,
        B::DivInt => i.checked_div(j)? as u64,
        B::RemInt => i.checked_rem(j)? as u64,
        B::AddFloat => (x + y).to_bits(),
        B::SubFloat => (x - y).to_bits(),
        B::MulFloat => (x * y).to_bits(),
        B::DivFloat => (x / y).to_bits(),
        B::Math(function) => function.of(x, y).to_bits(),
        B::CompareInt(comparison) => compare(comparison, &i, &j).into(),
        B::CompareFloat(comparison) => compare(comparison, &x, &y).into(),
        B::EqualBoolean => (a == b).into(),
        B::NotEqualBoolean => (a != b).into(),
        B::And | B::BitAnd => a & b,
        B::Or | B::BitOr => a | b,
        B::MinInt => i.min(j) as u64,
        B::MaxInt => i.max(j) as u64,
        B::MinFloat => math::lower(x, y).to_bits(),
        B::MaxFloat => math::higher(x, y).to_bits(),
        B::BitXor => a ^ b,
        B::ShiftLeft => (i << bits()?) as u64,
        B::ShiftRight => (i >> bits()?) as u64,
    })
}

fn compare<T: PartialOrd>(comparison: Comparison, a: &T, b: &T) -> bool {
    match comparison {
        Comparison::Equal => a == b,
        Comparison::NotEqual => a != b,
        Comparison::Less => a < b,
        Comparison::LessEqual => a <= b,
        Comparison::Greater => a > b,
        Comparison::GreaterEqual => a >= b,
    }
}
