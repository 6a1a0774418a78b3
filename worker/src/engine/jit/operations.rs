//! Each operation of the typed form as instructions, bit for bit as `apply_unary` and `apply_binary` define it.

use super::lanes::{Body, Rows};
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::FloatCC, condcodes::IntCC, types};
use quipu_shared::formula::typed::{BinaryOperation, Comparison, Operation, Register, UnaryOperation, ValueType};

/// The greatest float below one half: added before cutting off, it rounds halves away from 0 and nothing else up.
const BELOW_HALF: f64 = 0.499_999_999_999_999_94;

/// Computes one register of a segment.
pub(super) fn compute(body: &mut Body<'_, '_>, register: Register) {
    let rows = match body.shape.formula.instructions()[register as usize].operation {
        // Read where they are used; kernels are steps of their own.
        Operation::Input(_)
        | Operation::Constant(_)
        | Operation::Unary(UnaryOperation::Math(_), _)
        | Operation::Binary(BinaryOperation::Math(_), ..) => return,
        Operation::Unary(operation, a) => unary(body, operation, a),
        Operation::Binary(operation, a, b) => binary(body, operation, a, b),
        Operation::Select(condition, yes, no) => select(body, condition, yes, no),
    };
    body.set(register, rows);
}

fn unary(body: &mut Body<'_, '_>, operation: UnaryOperation, a: Register) -> Rows {
    use UnaryOperation as U;
    match operation {
        U::IntToFloat => int_to_float(body, a),
        U::NegateInt | U::AbsInt | U::BitNot | U::Not if body.by_one(&[a]) => {
            let pair = body.pair(a);
            Rows::Pair(pair.map(|a| unary_one(body, operation, a)))
        }
        _ => {
            let a = body.vector(a);
            Rows::Vector(unary_vector(body, operation, a))
        }
    }
}

/// Of one row's int or boolean.
fn unary_one(body: &mut Body<'_, '_>, operation: UnaryOperation, a: Value) -> Value {
    match operation {
        UnaryOperation::NegateInt | UnaryOperation::AbsInt => {
            if body.shape.checked {
                let failed = body.ins().icmp_imm_s(IntCC::Equal, a, i64::MIN);
                body.fail_one(failed);
            }
            if operation == UnaryOperation::AbsInt { body.ins().iabs(a) } else { body.ins().ineg(a) }
        }
        UnaryOperation::Not => body.ins().bxor_imm_u(a, 1),
        _ => body.ins().bnot(a),
    }
}

fn unary_vector(body: &mut Body<'_, '_>, operation: UnaryOperation, a: Value) -> Value {
    use UnaryOperation as U;
    match operation {
        U::NegateInt => {
            let negated = body.ins().ineg(a);
            if body.shape.checked {
                // Only the least int is negative on both sides.
                let failed = body.ins().band(a, negated);
                body.fail_signs(failed);
            }
            negated
        }
        U::AbsInt => {
            let value = body.ins().iabs(a);
            if body.shape.checked {
                body.fail_signs(value);
            }
            value
        }
        U::NegateFloat => body.ins().fneg(a),
        U::AbsFloat => body.ins().fabs(a),
        U::Floor => body.ins().floor(a),
        U::Ceil => body.ins().ceil(a),
        U::Round => {
            let half = body.splat(ValueType::Float, BELOW_HALF.to_bits());
            let sign = body.splat(ValueType::Float, (-0.0f64).to_bits());
            let sign = body.ins().band(a, sign);
            let half = body.ins().bor(half, sign);
            let sum = body.ins().fadd(a, half);
            body.ins().trunc(sum)
        }
        U::Sqrt => body.ins().sqrt(a),
        U::IsNan => body.ins().fcmp(FloatCC::Unordered, a, a),
        U::IsFinite => compare_magnitude(body, FloatCC::LessThan, a, f64::INFINITY),
        U::IsInfinite => compare_magnitude(body, FloatCC::Equal, a, f64::INFINITY),
        U::IsNormal => {
            let finite = compare_magnitude(body, FloatCC::LessThan, a, f64::INFINITY);
            let large = compare_magnitude(body, FloatCC::GreaterThanOrEqual, a, f64::MIN_POSITIVE);
            body.ins().band(finite, large)
        }
        // Conversions and kernels do not come here.
        U::Not | U::BitNot | U::IntToFloat | U::Math(_) => body.ins().bnot(a),
    }
}

fn compare_magnitude(body: &mut Body<'_, '_>, condition: FloatCC, a: Value, bound: f64) -> Value {
    let magnitude = body.ins().fabs(a);
    let bound = body.splat(ValueType::Float, bound.to_bits());
    body.ins().fcmp(condition, magnitude, bound)
}

/// What comes from memory is converted one by one: x86 has no conversion of a vector before AVX-512.
fn int_to_float(body: &mut Body<'_, '_>, a: Register) -> Rows {
    if body.is_vector(a) {
        let a = body.vector(a);
        return Rows::Vector(body.ins().fcvt_from_sint(types::F64X2, a));
    }
    let floats = body.pair(a).map(|a| body.ins().fcvt_from_sint(types::F64, a));
    Rows::Vector(body.join(types::F64X2, floats))
}

fn select(body: &mut Body<'_, '_>, condition: Register, yes: Register, no: Register) -> Rows {
    if body.ty(yes) != ValueType::Float && body.by_one(&[condition, yes, no]) {
        let (condition, yes, no) = (body.pair(condition), body.pair(yes), body.pair(no));
        let row = |body: &mut Body<'_, '_>, row: usize| body.ins().select(condition[row], yes[row], no[row]);
        return Rows::Pair([row(body, 0), row(body, 1)]);
    }
    let (mask, yes, no) = (body.vector(condition), body.vector(yes), body.vector(no));
    Rows::Vector(body.blend(mask, yes, no))
}

fn binary(body: &mut Body<'_, '_>, operation: BinaryOperation, a: Register, b: Register) -> Rows {
    use BinaryOperation as B;
    let by_one = match operation {
        B::MulInt | B::DivInt | B::RemInt => true,
        B::ShiftLeft | B::ShiftRight => {
            let constant = body.shape.constant(b).filter(|by| *by < 64);
            match constant {
                Some(by) if !body.by_one(&[a]) => return Rows::Vector(shift_vector(body, operation, a, by)),
                _ => true,
            }
        }
        B::AddInt
        | B::SubInt
        | B::CompareInt(_)
        | B::EqualBoolean
        | B::NotEqualBoolean
        | B::And
        | B::Or
        | B::MinInt
        | B::MaxInt
        | B::BitAnd
        | B::BitOr
        | B::BitXor => body.by_one(&[a, b]),
        B::AddFloat
        | B::SubFloat
        | B::MulFloat
        | B::DivFloat
        | B::Math(_)
        | B::CompareFloat(_)
        | B::MinFloat
        | B::MaxFloat => false,
    };
    if by_one {
        let divisor = body.shape.constant(b).map(|bits| bits as i64);
        let (a, b) = (body.pair(a), body.pair(b));
        let row = |body: &mut Body<'_, '_>, row: usize| match operation {
            B::DivInt | B::RemInt => divide(body, operation, a[row], b[row], divisor),
            _ => binary_one(body, operation, a[row], b[row]),
        };
        return Rows::Pair([row(body, 0), row(body, 1)]);
    }
    let (a, b) = (body.vector(a), body.vector(b));
    Rows::Vector(binary_vector(body, operation, a, b))
}

/// Of one row's ints or booleans.
fn binary_one(body: &mut Body<'_, '_>, operation: BinaryOperation, a: Value, b: Value) -> Value {
    use BinaryOperation as B;
    match operation {
        B::AddInt | B::SubInt | B::MulInt if body.shape.checked => {
            let (value, failed) = match operation {
                B::AddInt => body.ins().sadd_overflow(a, b),
                B::SubInt => body.ins().ssub_overflow(a, b),
                _ => body.ins().smul_overflow(a, b),
            };
            body.fail_one(failed);
            value
        }
        B::AddInt => body.ins().iadd(a, b),
        B::SubInt => body.ins().isub(a, b),
        B::MulInt => body.ins().imul(a, b),
        B::CompareInt(comparison) => body.ins().icmp(of_ints(comparison), a, b),
        B::EqualBoolean => body.ins().icmp(IntCC::Equal, a, b),
        B::NotEqualBoolean | B::BitXor => body.ins().bxor(a, b),
        B::MinInt => body.ins().smin(a, b),
        B::MaxInt => body.ins().smax(a, b),
        B::Or | B::BitOr => body.ins().bor(a, b),
        B::ShiftLeft | B::ShiftRight => {
            if body.shape.checked {
                let failed = body.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, b, 63);
                body.fail_one(failed);
            }
            if operation == B::ShiftLeft { body.ins().ishl(a, b) } else { body.ins().sshr(a, b) }
        }
        // Divisions and floats do not come here.
        _ => body.ins().band(a, b),
    }
}

/// The processor traps where a division fails, so it divides by 1 there, proven or not.
fn divide(body: &mut Body<'_, '_>, operation: BinaryOperation, a: Value, b: Value, constant: Option<i64>) -> Value {
    let divisor = if constant.is_some_and(|divisor| !matches!(divisor, 0 | -1)) {
        b
    } else {
        let by_zero = body.ins().icmp_imm_s(IntCC::Equal, b, 0);
        let by_minus_one = body.ins().icmp_imm_s(IntCC::Equal, b, -1);
        let of_least = body.ins().icmp_imm_s(IntCC::Equal, a, i64::MIN);
        let overflow = body.ins().band(by_minus_one, of_least);
        let failed = body.ins().bor(by_zero, overflow);
        if body.shape.checked {
            body.fail_one(failed);
        }
        let one = body.ins().iconst(types::I64, 1);
        body.ins().select(failed, one, b)
    };
    if operation == BinaryOperation::DivInt { body.ins().sdiv(a, divisor) } else { body.ins().srem(a, divisor) }
}

fn shift_vector(body: &mut Body<'_, '_>, operation: BinaryOperation, a: Register, by: u64) -> Value {
    let a = body.vector(a);
    let by = body.ins().iconst(types::I64, by as i64);
    if operation == BinaryOperation::ShiftLeft { body.ins().ishl(a, by) } else { body.ins().sshr(a, by) }
}

fn binary_vector(body: &mut Body<'_, '_>, operation: BinaryOperation, a: Value, b: Value) -> Value {
    use BinaryOperation as B;
    match operation {
        B::AddInt | B::SubInt => {
            let is_sum = operation == B::AddInt;
            let value = if is_sum { body.ins().iadd(a, b) } else { body.ins().isub(a, b) };
            if body.shape.checked {
                // A sum overflows where its sign is neither operand's, a difference where the operands' signs differ
                // and the first one's is lost.
                let changed = body.ins().bxor(a, value);
                let other = if is_sum { body.ins().bxor(b, value) } else { body.ins().bxor(a, b) };
                let failed = body.ins().band(changed, other);
                body.fail_signs(failed);
            }
            value
        }
        B::AddFloat => body.ins().fadd(a, b),
        B::SubFloat => body.ins().fsub(a, b),
        B::MulFloat => body.ins().fmul(a, b),
        B::DivFloat => body.ins().fdiv(a, b),
        B::CompareInt(comparison) => body.ins().icmp(of_ints(comparison), a, b),
        B::CompareFloat(comparison) => body.ins().fcmp(of_floats(comparison), a, b),
        B::EqualBoolean => body.ins().icmp(IntCC::Equal, a, b),
        B::NotEqualBoolean | B::BitXor => body.ins().bxor(a, b),
        B::Or | B::BitOr => body.ins().bor(a, b),
        B::MinInt | B::MaxInt => {
            let condition = if operation == B::MinInt { IntCC::SignedLessThan } else { IntCC::SignedGreaterThan };
            let first = body.ins().icmp(condition, a, b);
            body.blend(first, a, b)
        }
        B::MinFloat | B::MaxFloat => extreme_float(body, operation, a, b),
        // What goes one by one does not come here.
        _ => body.ins().band(a, b),
    }
}

/// As [`quipu_shared::math::lower`] and `higher`: NaN gives way, and -0 is below +0.
fn extreme_float(body: &mut Body<'_, '_>, operation: BinaryOperation, a: Value, b: Value) -> Value {
    let is_min = operation == BinaryOperation::MinFloat;
    let condition = if is_min { FloatCC::LessThan } else { FloatCC::GreaterThan };
    // The second wherever the first is NaN or they are equal.
    let wins = body.ins().fcmp(condition, a, b);
    let value = body.blend(wins, a, b);
    let second_is_nan = body.ins().fcmp(FloatCC::Unordered, b, b);
    let value = body.blend(second_is_nan, a, value);
    // Equal floats have the same bits but for the sign of 0: any sign makes the lower, only two make the higher.
    let equal = body.ins().fcmp(FloatCC::Equal, a, b);
    let zero = if is_min { body.ins().bor(a, b) } else { body.ins().band(a, b) };
    body.blend(equal, zero, value)
}

fn of_ints(comparison: Comparison) -> IntCC {
    match comparison {
        Comparison::Equal => IntCC::Equal,
        Comparison::NotEqual => IntCC::NotEqual,
        Comparison::Less => IntCC::SignedLessThan,
        Comparison::LessEqual => IntCC::SignedLessThanOrEqual,
        Comparison::Greater => IntCC::SignedGreaterThan,
        Comparison::GreaterEqual => IntCC::SignedGreaterThanOrEqual,
    }
}

fn of_floats(comparison: Comparison) -> FloatCC {
    match comparison {
        Comparison::Equal => FloatCC::Equal,
        Comparison::NotEqual => FloatCC::NotEqual,
        Comparison::Less => FloatCC::LessThan,
        Comparison::LessEqual => FloatCC::LessThanOrEqual,
        Comparison::Greater => FloatCC::GreaterThan,
        Comparison::GreaterEqual => FloatCC::GreaterThanOrEqual,
    }
}
