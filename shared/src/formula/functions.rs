//! The functions of the language: names, arguments and definitions.

use super::calls;
use super::meter::{Failure, Meter};
use crate::math::{Function1, Function2};
use crate::spec::ColumnType;
use evalexpr::Value;
use std::ops::{BitAnd, BitOr, BitXor, Not};

/// How many arguments a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// One value; a tuple counts as several.
    One,
    /// One value of any type: several arguments are one tuple.
    Any,
    /// This many.
    Exactly(usize),
    /// From this many to that many.
    Between(usize, usize),
    /// At least this many.
    AtLeast(usize),
}

/// A function of the language.
#[derive(Clone, Copy, Debug)]
pub struct FunctionInfo {
    /// Its name in formulas.
    pub name: &'static str,
    /// How many arguments it takes.
    pub arguments: Arguments,
    /// Whether it belongs to the set `math` of `--functions`.
    pub math: bool,
    /// The type of its result where that depends on nothing.
    pub result: Option<ColumnType>,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Whether its result is a number or boolean wherever its arguments are.
    pub(super) from_scalars: bool,
    body: Body,
}

/// How a function is computed.
#[derive(Clone, Copy, Debug)]
enum Body {
    Float(fn(f64) -> f64),
    Math(Function1),
    MathPair(Function2),
    Test(fn(f64) -> bool),
    Int(fn(i64) -> i64),
    IntPair(fn(i64, i64) -> i64),
    General(fn(&FunctionInfo, &Value, &Meter) -> Result<Value, Failure>),
}

const fn float(name: &'static str, body: fn(f64) -> f64, summary: &'static str) -> FunctionInfo {
    function(name, Arguments::One, Some(ColumnType::Float), summary, Body::Float(body))
}

const fn math(name: &'static str, body: Function1, summary: &'static str) -> FunctionInfo {
    function(name, Arguments::One, Some(ColumnType::Float), summary, Body::Math(body))
}

const fn pair(name: &'static str, body: Function2, summary: &'static str) -> FunctionInfo {
    function(name, Arguments::Exactly(2), Some(ColumnType::Float), summary, Body::MathPair(body))
}

const fn test(name: &'static str, body: fn(f64) -> bool, summary: &'static str) -> FunctionInfo {
    function(name, Arguments::One, Some(ColumnType::Boolean), summary, Body::Test(body))
}

const fn bits(name: &'static str, body: fn(i64, i64) -> i64, summary: &'static str) -> FunctionInfo {
    function(name, Arguments::Exactly(2), Some(ColumnType::Int), summary, Body::IntPair(body))
}

type General = fn(&FunctionInfo, &Value, &Meter) -> Result<Value, Failure>;

const fn general(
    name: &'static str,
    arguments: Arguments,
    result: Option<ColumnType>,
    body: General,
    summary: &'static str,
) -> FunctionInfo {
    function(name, arguments, result, summary, Body::General(body))
}

const fn function(
    name: &'static str,
    arguments: Arguments,
    result: Option<ColumnType>,
    summary: &'static str,
    body: Body,
) -> FunctionInfo {
    FunctionInfo { name, arguments, math: true, result, summary, from_scalars: true, body }
}

/// Outside the set `math`; `from_scalars` as given.
const fn other(mut info: FunctionInfo, from_scalars: bool) -> FunctionInfo {
    info.math = false;
    info.from_scalars = from_scalars;
    info
}

use Arguments::{Any, AtLeast, Between, Exactly, One};
use ColumnType::{Boolean, Int, String as Text};

/// Every function, in the order of the documentation.
pub static FUNCTIONS: &[FunctionInfo] = &[
    general("min", AtLeast(2), None, calls::min, "least argument"),
    general("max", AtLeast(2), None, calls::max, "greatest argument"),
    float("floor", f64::floor, "greatest whole number not above, as a float"),
    float("ceil", f64::ceil, "least whole number not below, as a float"),
    float("round", f64::round, "nearest whole number as a float; halves away from 0"),
    general("if", Exactly(3), None, calls::choose, "the second argument if the first is true, else the third"),
    general("math::abs", One, None, calls::abs, "absolute value, of the argument's type"),
    float("math::sqrt", f64::sqrt, "square root"),
    math("math::cbrt", Function1::Cbrt, "cube root"),
    pair("math::hypot", Function2::Hypot, "square root of the sum of both squares"),
    pair("math::pow", Function2::Pow, "first to the power of the second, as ^"),
    math("math::exp", Function1::Exp, "e to the power"),
    math("math::exp2", Function1::Exp2, "2 to the power"),
    math("math::ln", Function1::Ln, "natural logarithm"),
    pair("math::log", Function2::Log, "logarithm of the first to the base of the second"),
    math("math::log2", Function1::Log2, "logarithm to base 2"),
    math("math::log10", Function1::Log10, "logarithm to base 10"),
    math("math::sin", Function1::Sin, "sine of radians"),
    math("math::cos", Function1::Cos, "cosine of radians"),
    math("math::tan", Function1::Tan, "tangent of radians"),
    math("math::asin", Function1::Asin, "arc sine in radians"),
    math("math::acos", Function1::Acos, "arc cosine in radians"),
    math("math::atan", Function1::Atan, "arc tangent in radians"),
    pair("math::atan2", Function2::Atan2, "angle of the point (second, first) in radians"),
    math("math::sinh", Function1::Sinh, "hyperbolic sine"),
    math("math::cosh", Function1::Cosh, "hyperbolic cosine"),
    math("math::tanh", Function1::Tanh, "hyperbolic tangent"),
    math("math::asinh", Function1::Asinh, "inverse hyperbolic sine"),
    math("math::acosh", Function1::Acosh, "inverse hyperbolic cosine"),
    math("math::atanh", Function1::Atanh, "inverse hyperbolic tangent"),
    test("math::is_nan", f64::is_nan, "whether it is NaN"),
    test("math::is_finite", f64::is_finite, "whether it is neither infinite nor NaN"),
    test("math::is_infinite", f64::is_infinite, "whether it is infinite"),
    test("math::is_normal", f64::is_normal, "whether it is neither 0, subnormal, infinite nor NaN"),
    bits("bitand", BitAnd::bitand, "bitwise and of two ints"),
    bits("bitor", BitOr::bitor, "bitwise or of two ints"),
    bits("bitxor", BitXor::bitxor, "bitwise exclusive or of two ints"),
    function("bitnot", One, Some(Int), "bitwise complement of an int", Body::Int(Not::not)),
    general("shl", Exactly(2), Some(Int), calls::shl, "first int shifted left by 0 to 63 bits"),
    general("shr", Exactly(2), Some(Int), calls::shr, "first int shifted right by 0 to 63 bits, keeping the sign"),
    other(general("len", Any, Some(Int), calls::len, "bytes of a string, elements of a tuple"), true),
    other(
        general(
            "typeof",
            Any,
            Some(Text),
            calls::type_of,
            "name of the type: int, float, boolean, string, tuple, empty",
        ),
        false,
    ),
    other(
        general(
            "contains",
            Exactly(2),
            Some(Boolean),
            calls::contains,
            "whether the tuple has an element equal to the second argument",
        ),
        true,
    ),
    other(
        general(
            "contains_any",
            Exactly(2),
            Some(Boolean),
            calls::contains_any,
            "whether the tuple has an element of the second tuple",
        ),
        true,
    ),
    other(general("str::from", Any, Some(Text), calls::string_from, "the value as text"), false),
    other(general("str::to_lowercase", One, Some(Text), calls::to_lowercase, "the string in lower case"), false),
    other(general("str::to_uppercase", One, Some(Text), calls::to_uppercase, "the string in upper case"), false),
    other(general("str::trim", One, Some(Text), calls::trim, "the string without white space at its ends"), false),
    other(
        general(
            "str::substring",
            Between(2, 3),
            Some(Text),
            calls::substring,
            "bytes from the second argument up to the third (or the end)",
        ),
        false,
    ),
];

/// The function of this name.
pub fn find(name: &str) -> Option<&'static FunctionInfo> {
    FUNCTIONS.iter().find(|info| info.name == name)
}

/// A function of the room of mathematics.
#[derive(Clone, Copy, Debug)]
pub(super) enum MathFunction {
    One(Function1),
    Two(Function2),
}

impl FunctionInfo {
    /// The function of the room of mathematics that it is.
    pub(super) fn math_function(&self) -> Option<MathFunction> {
        match self.body {
            Body::Math(function) => Some(MathFunction::One(function)),
            Body::MathPair(function) => Some(MathFunction::Two(function)),
            _ => None,
        }
    }

    /// Calls the function with evalexpr's argument: one value, or a tuple of several.
    pub(super) fn call(&self, argument: &Value, meter: &Meter) -> Result<Value, Failure> {
        match self.body {
            Body::Float(body) => Ok(Value::Float(body(calls::number(self, argument)?))),
            Body::Test(body) => Ok(Value::Boolean(body(calls::number(self, argument)?))),
            Body::Int(body) => Ok(Value::Int(body(calls::int(self, argument)?))),
            Body::Math(body) => Ok(Value::Float(body.of(calls::number(self, argument)?))),
            Body::MathPair(body) => {
                let [a, b] = calls::exactly(self, argument)?;
                Ok(Value::Float(body.of(calls::number(self, a)?, calls::number(self, b)?)))
            }
            Body::IntPair(body) => {
                let [a, b] = calls::exactly(self, argument)?;
                Ok(Value::Int(body(calls::int(self, a)?, calls::int(self, b)?)))
            }
            Body::General(body) => body(self, argument, meter),
        }
    }
}

/// Functions that a rewritten tree calls and no formula can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    /// The formula calls something that is no function.
    Unknown,
    /// `a ^ b`.
    Power,
    /// `b ^ a`: for `^=`, whose variable is read last.
    PowerOnto,
    /// `a + b`.
    Add,
    /// `b + a`: for `+=`, whose variable is read last.
    AddOnto,
    /// The argument itself, metered.
    Meter,
}

const BUILTINS: [Builtin; 6] =
    [Builtin::Unknown, Builtin::Power, Builtin::PowerOnto, Builtin::Add, Builtin::AddOnto, Builtin::Meter];

/// What a function node of a rewritten tree calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(usize);

/// A decoded function node.
pub(super) enum Callee {
    Named(&'static FunctionInfo),
    Builtin(Builtin),
}

/// First character of codes: they stand in place of identifiers in trees that nobody but us evaluates.
const CODE_BASE: u32 = 0x21;

/// A number as a character; numbers are far below the tokens of the longest formula.
pub(super) fn encode(number: usize) -> char {
    u32::try_from(number).ok().and_then(|number| char::from_u32(CODE_BASE.checked_add(number)?)).unwrap_or(char::MAX)
}

/// The number of a character.
#[inline]
pub(super) fn decode(code: char) -> usize {
    (code as u32).wrapping_sub(CODE_BASE) as usize
}

/// The code of a function by name.
pub(super) fn code(name: &str) -> Code {
    match FUNCTIONS.iter().position(|info| info.name == name) {
        Some(index) => Code(BUILTINS.len() + index),
        None => Code::builtin(Builtin::Unknown),
    }
}

impl Code {
    /// The code of a builtin.
    pub(super) fn builtin(builtin: Builtin) -> Self {
        Self(builtin as usize)
    }

    /// The identifier of a function node: what it calls, and the token that it stands for.
    pub(super) fn encode(self, place: Option<usize>) -> String {
        [encode(self.0), encode(place.map_or(0, |place| place + 1))].iter().collect()
    }

    /// What an identifier calls.
    #[inline]
    pub(super) fn callee(identifier: &str) -> Callee {
        let code = identifier.chars().next().map_or(0, decode);
        match code.checked_sub(BUILTINS.len()).and_then(|index| FUNCTIONS.get(index)) {
            Some(info) => Callee::Named(info),
            None => Callee::Builtin(BUILTINS.get(code).copied().unwrap_or(Builtin::Unknown)),
        }
    }

    /// The token that an identifier stands for.
    pub(super) fn place(identifier: &str) -> Option<usize> {
        identifier.chars().nth(1).map(decode)?.checked_sub(1)
    }
}

/// Whether a name looks like the number that someone meant to multiply with what follows, as in `2x (y)`.
pub(super) fn is_number_like(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_digit())
}
