//! The loops of the interpreter: one operation over a chunk of rows, for each vector width of the machine.
//!
//! Values travel as 64 bits a row; booleans are 0 and 1. Every loop keeps to the meaning that
//! `quipu_shared::formula::typed::apply_unary` and `apply_binary` define, whatever its width.

use multiversion::multiversion;
use quipu_shared::formula::typed::{BinaryOperation, Comparison, UnaryOperation};
use quipu_shared::math::{self, Argument};

/// An operand over a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lanes<'a> {
    /// One value a row.
    Each(&'a [u64]),
    /// The same value for all rows.
    All(u64),
}

/// What becomes of rows that fail.
#[derive(Debug)]
pub(super) enum Checks<'a> {
    /// None can, as the caller has proven: nothing is looked at.
    Proven,
    /// Whether there is any.
    Any,
    /// Each is marked by a value that is not 0.
    Mark(&'a mut [u64]),
}

impl Checks<'_> {
    /// The same for a further operation.
    pub(super) fn again(&mut self) -> Checks<'_> {
        match self {
            Self::Proven => Checks::Proven,
            Self::Any => Checks::Any,
            Self::Mark(marks) => Checks::Mark(marks),
        }
    }
}

/// Magnitudes below this many bits divide exactly enough as floats: the quotient is at least 2^-52 away from a whole
/// number that it does not reach, and rounding moves it by 2^-53 of itself at most.
const FLOAT_DIVISION_BITS: u32 = 52;

#[inline(always)]
fn float(bits: u64) -> f64 {
    f64::from_bits(bits)
}

#[inline(always)]
fn each(a: Lanes<'_>, out: &mut [u64], f: impl Fn(u64) -> u64) {
    match a {
        Lanes::Each(a) => {
            for (out, a) in out.iter_mut().zip(a) {
                *out = f(*a);
            }
        }
        Lanes::All(a) => out.fill(f(a)),
    }
}

#[inline(always)]
fn pairs(a: Lanes<'_>, b: Lanes<'_>, out: &mut [u64], f: impl Fn(u64, u64) -> u64) {
    match (a, b) {
        (Lanes::Each(a), Lanes::Each(b)) => {
            for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                *out = f(*a, *b);
            }
        }
        (Lanes::Each(a), Lanes::All(b)) => {
            for (out, a) in out.iter_mut().zip(a) {
                *out = f(*a, b);
            }
        }
        (Lanes::All(a), Lanes::Each(b)) => {
            for (out, b) in out.iter_mut().zip(b) {
                *out = f(a, *b);
            }
        }
        (Lanes::All(a), Lanes::All(b)) => out.fill(f(a, b)),
    }
}

/// As [`pairs`], where `f` gives a value and something other than 0 for a row that fails.
#[inline(always)]
fn checked(
    a: Lanes<'_>,
    b: Lanes<'_>,
    out: &mut [u64],
    checks: Checks<'_>,
    f: impl Fn(u64, u64) -> (u64, u64),
) -> bool {
    let mut any = 0;
    let mut one = |out: &mut u64, a: u64, b: u64| {
        let (value, failed) = f(a, b);
        *out = value;
        any |= failed;
        failed
    };
    match checks {
        Checks::Mark(marks) => {
            for (i, (out, mark)) in out.iter_mut().zip(marks).enumerate() {
                *mark |= one(out, a.at(i), b.at(i));
            }
        }
        Checks::Any | Checks::Proven => match (a, b) {
            (Lanes::Each(a), Lanes::Each(b)) => {
                for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                    one(out, *a, *b);
                }
            }
            (Lanes::Each(a), Lanes::All(b)) => {
                for (out, a) in out.iter_mut().zip(a) {
                    one(out, *a, b);
                }
            }
            (Lanes::All(a), Lanes::Each(b)) => {
                for (out, b) in out.iter_mut().zip(b) {
                    one(out, a, *b);
                }
            }
            (Lanes::All(a), Lanes::All(b)) => {
                for out in out.iter_mut() {
                    one(out, a, b);
                }
            }
        },
    }
    any != 0
}

impl Lanes<'_> {
    #[inline(always)]
    fn at(self, i: usize) -> u64 {
        match self {
            Self::Each(values) => values[i],
            Self::All(value) => value,
        }
    }

    /// Bits of the greatest magnitude: 0 to 63.
    #[inline(always)]
    fn magnitude_bits(self) -> u32 {
        let of = |value: u64| value ^ ((value as i64) >> 63) as u64;
        let all = match self {
            Self::Each(values) => values.iter().fold(0, |all, value| all | of(*value)),
            Self::All(value) => of(value),
        };
        u64::BITS - all.leading_zeros()
    }

    fn argument(&self) -> Argument<'_> {
        match self {
            Self::Each(values) => Argument::Each(bytemuck::cast_slice(values)),
            Self::All(value) => Argument::All(float(*value)),
        }
    }
}

/// An operation of one operand; gives whether a row failed.
pub(super) fn unary(operation: UnaryOperation, a: Lanes<'_>, out: &mut [u64], checks: Checks<'_>) -> bool {
    match (operation, a) {
        (UnaryOperation::Math(function), Lanes::Each(a)) => {
            function.over(bytemuck::cast_slice(a), bytemuck::cast_slice_mut(out));
            false
        }
        (UnaryOperation::Math(function), Lanes::All(a)) => {
            out.fill(function.of(float(a)).to_bits());
            false
        }
        _ => unary_loop(operation, a, out, checks),
    }
}

/// An operation of two operands; gives whether a row failed.
pub(super) fn binary(
    operation: BinaryOperation,
    a: Lanes<'_>,
    b: Lanes<'_>,
    out: &mut [u64],
    checks: Checks<'_>,
) -> bool {
    use BinaryOperation as B;
    match operation {
        B::Math(function) => {
            function.over(a.argument(), b.argument(), bytemuck::cast_slice_mut(out));
            false
        }
        B::MulInt | B::DivInt | B::RemInt => int_loop(operation, a, b, out, checks),
        _ => binary_loop(operation, a, b, out, checks),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
fn unary_loop(operation: UnaryOperation, a: Lanes<'_>, out: &mut [u64], checks: Checks<'_>) -> bool {
    use UnaryOperation as U;
    const EXPONENT: u64 = 0x7ff;
    let exponent = |x: u64| x >> 52 & EXPONENT;
    let magnitude = |x: u64| x & (u64::MAX >> 1);
    match operation {
        U::NegateInt => {
            return checked(a, Lanes::All(0), out, checks, |a, _| {
                (0_u64.wrapping_sub(a), u64::from(a as i64 == i64::MIN))
            });
        }
        U::AbsInt => {
            return checked(a, Lanes::All(0), out, checks, |a, _| {
                ((a as i64).wrapping_abs() as u64, u64::from(a as i64 == i64::MIN))
            });
        }
        U::NegateFloat => each(a, out, |a| a ^ (1 << 63)),
        U::Not => each(a, out, |a| a ^ 1),
        U::IntToFloat => each(a, out, |a| (a as i64 as f64).to_bits()),
        U::AbsFloat => each(a, out, magnitude),
        U::Floor => each(a, out, |a| float(a).floor().to_bits()),
        U::Ceil => each(a, out, |a| float(a).ceil().to_bits()),
        U::Round => each(a, out, |a| float(a).round().to_bits()),
        U::Sqrt => each(a, out, |a| float(a).sqrt().to_bits()),
        U::IsNan => each(a, out, |a| float(a).is_nan().into()),
        U::IsFinite => each(a, out, |a| (exponent(a) != EXPONENT).into()),
        U::IsInfinite => each(a, out, |a| (magnitude(a) == EXPONENT << 52).into()),
        U::IsNormal => each(a, out, |a| u64::from(exponent(a) != EXPONENT) & u64::from(exponent(a) != 0)),
        U::BitNot => each(a, out, |a| !a),
        U::Math(function) => each(a, out, |a| function.of(float(a)).to_bits()),
    }
    false
}

#[inline(always)]
fn compare<T: PartialOrd>(
    comparison: Comparison,
    a: Lanes<'_>,
    b: Lanes<'_>,
    out: &mut [u64],
    of: impl Fn(u64) -> T + Copy,
) {
    match comparison {
        Comparison::Equal => pairs(a, b, out, |a, b| (of(a) == of(b)).into()),
        Comparison::NotEqual => pairs(a, b, out, |a, b| (of(a) != of(b)).into()),
        Comparison::Less => pairs(a, b, out, |a, b| (of(a) < of(b)).into()),
        Comparison::LessEqual => pairs(a, b, out, |a, b| (of(a) <= of(b)).into()),
        Comparison::Greater => pairs(a, b, out, |a, b| (of(a) > of(b)).into()),
        Comparison::GreaterEqual => pairs(a, b, out, |a, b| (of(a) >= of(b)).into()),
    }
}

/// [`math::lower`] and [`math::higher`] without a branch: `first` says that a wins, `zeros` joins the bits of equals.
#[inline(always)]
fn extreme(a: u64, b: u64, first: impl Fn(f64, f64) -> bool, zeros: impl Fn(u64, u64) -> u64) -> u64 {
    let (x, y) = (float(a), float(b));
    let equal = zeros(a, b);
    let ordered = if first(x, y) { a } else { b };
    let number = if x == y { equal } else { ordered };
    let number = if x.is_nan() { b } else { number };
    if y.is_nan() { a } else { number }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
fn binary_loop(operation: BinaryOperation, a: Lanes<'_>, b: Lanes<'_>, out: &mut [u64], checks: Checks<'_>) -> bool {
    use BinaryOperation as B;
    match operation {
        B::AddFloat => pairs(a, b, out, |a, b| (float(a) + float(b)).to_bits()),
        B::SubFloat => pairs(a, b, out, |a, b| (float(a) - float(b)).to_bits()),
        B::MulFloat => pairs(a, b, out, |a, b| (float(a) * float(b)).to_bits()),
        B::DivFloat => pairs(a, b, out, |a, b| (float(a) / float(b)).to_bits()),
        B::CompareInt(comparison) => compare(comparison, a, b, out, |a| a as i64),
        B::CompareFloat(comparison) => compare(comparison, a, b, out, float),
        B::EqualBoolean => pairs(a, b, out, |a, b| a ^ b ^ 1),
        B::NotEqualBoolean | B::BitXor => pairs(a, b, out, |a, b| a ^ b),
        B::And | B::BitAnd => pairs(a, b, out, |a, b| a & b),
        B::Or | B::BitOr => pairs(a, b, out, |a, b| a | b),
        B::MinInt => pairs(a, b, out, |a, b| (a as i64).min(b as i64) as u64),
        B::MaxInt => pairs(a, b, out, |a, b| (a as i64).max(b as i64) as u64),
        // Of equal floats the zeros alone differ in their bits: -0 is below +0.
        B::MinFloat => pairs(a, b, out, |a, b| extreme(a, b, |x, y| x < y, |a, b| a | b)),
        B::MaxFloat => pairs(a, b, out, |a, b| extreme(a, b, |x, y| x > y, |a, b| a & b)),
        B::AddInt => match checks {
            Checks::Proven => pairs(a, b, out, u64::wrapping_add),
            checks => {
                return checked(a, b, out, checks, |a, b| {
                    let sum = a.wrapping_add(b);
                    (sum, ((a ^ sum) & (b ^ sum)) >> 63)
                });
            }
        },
        B::SubInt => match checks {
            Checks::Proven => pairs(a, b, out, u64::wrapping_sub),
            checks => {
                return checked(a, b, out, checks, |a, b| {
                    let difference = a.wrapping_sub(b);
                    (difference, ((a ^ b) & (a ^ difference)) >> 63)
                });
            }
        },
        B::ShiftLeft => return checked(a, b, out, checks, |a, b| (a << (b & 63), u64::from(b > 63))),
        B::ShiftRight => {
            return checked(a, b, out, checks, |a, b| (((a as i64) >> (b & 63)) as u64, u64::from(b > 63)));
        }
        B::MulInt | B::DivInt | B::RemInt | B::Math(_) => {}
    }
    false
}

/// Integer operations whose fast forms depend on the operands' magnitudes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
fn int_loop(operation: BinaryOperation, a: Lanes<'_>, b: Lanes<'_>, out: &mut [u64], checks: Checks<'_>) -> bool {
    use BinaryOperation as B;
    let (a_bits, b_bits) = (a.magnitude_bits(), b.magnitude_bits());
    if operation == B::MulInt {
        return if a_bits <= 31 && b_bits <= 31 {
            // Halves of 32 bits multiply in one instruction on every machine.
            pairs(a, b, out, |a, b| i64::from(a as i32).wrapping_mul(i64::from(b as i32)) as u64);
            false
        } else if a_bits + b_bits <= 62 || matches!(checks, Checks::Proven) {
            pairs(a, b, out, u64::wrapping_mul);
            false
        } else {
            checked(a, b, out, checks, |a, b| {
                let (product, overflow) = (a as i64).overflowing_mul(b as i64);
                (product as u64, overflow.into())
            })
        };
    }
    let remainder = operation == B::RemInt;
    if a_bits <= FLOAT_DIVISION_BITS && b_bits <= FLOAT_DIVISION_BITS {
        return checked(a, b, out, checks, |a, b| {
            let (a, b) = (a as i64, b as i64);
            let zero = b == 0;
            let divisor = if zero { 1 } else { b };
            let quotient = (a as f64 / divisor as f64) as i64;
            let value = if remainder { a.wrapping_sub(quotient.wrapping_mul(divisor)) } else { quotient };
            (value as u64, zero.into())
        });
    }
    checked(a, b, out, checks, |a, b| {
        let (a, b) = (a as i64, b as i64);
        let value = if remainder { a.checked_rem(b) } else { a.checked_div(b) };
        value.map_or((0, 1), |value| (value as u64, 0))
    })
}

/// The second operand where the first is true, else the third.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn select(condition: Lanes<'_>, yes: Lanes<'_>, no: Lanes<'_>, out: &mut [u64]) {
    #[inline(always)]
    fn choose(condition: &[u64], out: &mut [u64], yes: impl Fn(usize) -> u64, no: impl Fn(usize) -> u64) {
        for (i, (out, condition)) in out.iter_mut().zip(condition).enumerate() {
            let (yes, no) = (yes(i), no(i));
            *out = if *condition != 0 { yes } else { no };
        }
    }
    let n = out.len();
    match (condition, yes, no) {
        (Lanes::Each(c), Lanes::Each(yes), Lanes::Each(no)) => {
            let (yes, no) = (&yes[..n], &no[..n]);
            choose(&c[..n], out, |i| yes[i], |i| no[i]);
        }
        (Lanes::Each(c), Lanes::Each(yes), Lanes::All(no)) => {
            let yes = &yes[..n];
            choose(&c[..n], out, |i| yes[i], |_| no);
        }
        (Lanes::Each(c), Lanes::All(yes), Lanes::Each(no)) => {
            let no = &no[..n];
            choose(&c[..n], out, |_| yes, |i| no[i]);
        }
        (Lanes::Each(c), Lanes::All(yes), Lanes::All(no)) => choose(&c[..n], out, |_| yes, |_| no),
        (Lanes::All(c), yes, no) => each(if c != 0 { yes } else { no }, out, |value| value),
    }
}

/// Makes every NaN the one that results have.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn make_canonical(values: &mut [u64]) {
    // There is rarely any, and to look for one needs no store.
    let any = values.iter().fold(false, |any, value| any | float(*value).is_nan());
    if any {
        for value in values {
            *value = math::canonical(float(*value)).to_bits();
        }
    }
}

/// The least and the greatest of some ints; of none, the wrong way round.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn bounds(values: &[i64]) -> (i64, i64) {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for value in values {
        low = low.min(*value);
        high = high.max(*value);
    }
    (low, high)
}

/// Booleans as the loops take them.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn widen(values: &[bool], out: &mut [u64]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = (*value).into();
    }
}

/// Booleans as blocks have them.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn narrow(values: &[u64], out: &mut [bool]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = *value != 0;
    }
}
