//! Definitions of the functions that are more than a formula on floats or ints.
//!
//! Each takes evalexpr's argument and copies nothing that it has not paid for. Types are checked in evalexpr's order.

use super::error::{ErrorCode, echo};
use super::functions::{Builtin, FunctionInfo};
use super::meter::{Failure, Meter, measure};
use crate::math::{self, Function2};
use evalexpr::Value;
use std::fmt::{self, Write};

type Outcome = Result<Value, Failure>;

/// Name and value of something for a message, bounded.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(string) => format!("the string \"{}\"", echo(string)),
        Value::Float(float) => format!("the float {float:?}"),
        Value::Int(int) => format!("the int {int}"),
        Value::Boolean(boolean) => format!("the boolean {boolean}"),
        Value::Tuple(elements) => format!("a tuple of {}", elements.len()),
        Value::Empty => "an empty value".into(),
    }
}

fn wrong_type(info: &FunctionInfo, wanted: &str, actual: &Value) -> Failure {
    let message = format!("{} takes {wanted}, not {}", info.name, describe(actual));
    Failure::new(ErrorCode::WrongType, message)
}

fn wrong_count(info: &FunctionInfo, argument: &Value) -> Failure {
    let given = match argument {
        Value::Tuple(elements) => elements.len(),
        Value::Empty => 0,
        _ => 1,
    };
    Failure::new(ErrorCode::WrongArgumentCount, info.count_message(given))
}

impl FunctionInfo {
    /// What is wrong with this many arguments.
    pub(super) fn count_message(&self, given: usize) -> String {
        use super::functions::Arguments;
        let wanted = match self.arguments {
            Arguments::One | Arguments::Any => "1 argument".into(),
            Arguments::Exactly(count) => format!("{count} arguments"),
            Arguments::Between(low, high) => format!("{low} to {high} arguments"),
            Arguments::AtLeast(low) => format!("{low} or more arguments"),
        };
        format!("{} takes {wanted}, not {given}", self.name)
    }
}

/// A number as a float.
pub(super) fn number(info: &FunctionInfo, value: &Value) -> Result<f64, Failure> {
    match value {
        Value::Float(float) => Ok(*float),
        Value::Int(int) => Ok(*int as f64),
        Value::Tuple(_) | Value::Empty => Err(wrong_count(info, value)),
        _ => Err(wrong_type(info, "a number", value)),
    }
}

/// An int.
pub(super) fn int(info: &FunctionInfo, value: &Value) -> Result<i64, Failure> {
    match value {
        Value::Int(int) => Ok(*int),
        Value::Tuple(_) | Value::Empty => Err(wrong_count(info, value)),
        _ => Err(wrong_type(info, "an int", value)),
    }
}

fn string<'v>(info: &FunctionInfo, value: &'v Value) -> Result<&'v str, Failure> {
    match value {
        Value::String(string) => Ok(string),
        Value::Tuple(_) | Value::Empty => Err(wrong_count(info, value)),
        _ => Err(wrong_type(info, "a string", value)),
    }
}

/// A fixed number of arguments.
pub(super) fn exactly<'v, const N: usize>(info: &FunctionInfo, value: &'v Value) -> Result<&'v [Value; N], Failure> {
    match value {
        Value::Tuple(elements) => elements.as_slice().try_into().map_err(|_| wrong_count(info, value)),
        _ => Err(wrong_count(info, value)),
    }
}

/// Calls what a rewritten tree put in place of an operator.
pub(super) fn builtin(builtin: Builtin, argument: &Value, meter: &Meter) -> Outcome {
    let operands = match argument {
        Value::Tuple(elements) => match elements.as_slice() {
            [first, second] => Some((first, second)),
            _ => None,
        },
        _ => None,
    };
    match (builtin, operands) {
        (Builtin::Power, Some((base, exponent))) | (Builtin::PowerOnto, Some((exponent, base))) => {
            Ok(Value::Float(Function2::Pow.of(operand("^", base)?, operand("^", exponent)?)))
        }
        (Builtin::Add, Some((left, right))) | (Builtin::AddOnto, Some((right, left))) => add(left, right, meter),
        (Builtin::Meter, _) => {
            meter.admit(argument)?;
            Ok(argument.clone())
        }
        _ => Err(Failure::new(ErrorCode::UnknownFunction, "no such function")),
    }
}

fn operand(sign: &str, value: &Value) -> Result<f64, Failure> {
    match value {
        Value::Float(float) => Ok(*float),
        Value::Int(int) => Ok(*int as f64),
        _ => Err(Failure::new(ErrorCode::WrongType, format!("{sign} takes numbers, not {}", describe(value)))),
    }
}

fn add(left: &Value, right: &Value, meter: &Meter) -> Outcome {
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            let bytes = left.len() + right.len();
            meter.admit_bytes(bytes)?;
            meter.charge(bytes)?;
            let mut joined = String::with_capacity(bytes);
            joined.push_str(left);
            joined.push_str(right);
            Ok(Value::String(joined))
        }
        (Value::Int(left), Value::Int(right)) => left
            .checked_add(*right)
            .map(Value::Int)
            .ok_or_else(|| Failure::new(ErrorCode::IntOverflow, overflow_message(&format!("{left} + {right}")))),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(Value::Float(operand("+", left)? + operand("+", right)?))
        }
        _ => {
            let message = format!("+ takes two numbers or two strings, not {} and {}", describe(left), describe(right));
            Err(Failure::new(ErrorCode::WrongType, message))
        }
    }
}

/// What to say of an int result that does not fit.
pub(super) fn overflow_message(what: &str) -> String {
    format!("{what} does not fit in a 64-bit int: make one operand a float, as in 1.0")
}

pub(super) fn min(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    extreme(info, argument, i64::min, math::lower, |int, float| int < float)
}

pub(super) fn max(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    extreme(info, argument, i64::max, math::higher, |int, float| int > float)
}

/// The best int against the best float, compared as floats; the float wins a tie and a NaN loses.
fn extreme(
    info: &FunctionInfo,
    argument: &Value,
    better_int: fn(i64, i64) -> i64,
    better_float: fn(f64, f64) -> f64,
    int_wins: fn(f64, f64) -> bool,
) -> Outcome {
    let Value::Tuple(elements) = argument else { return Err(wrong_count(info, argument)) };
    let (mut best_int, mut best_float): (Option<i64>, Option<f64>) = (None, None);
    for element in elements {
        match element {
            Value::Int(int) => best_int = Some(best_int.map_or(*int, |best| better_int(best, *int))),
            Value::Float(float) => best_float = Some(best_float.map_or(*float, |best| better_float(best, *float))),
            _ => return Err(wrong_type(info, "numbers", element)),
        }
    }
    match (best_int, best_float) {
        (Some(int), Some(float)) if float.is_nan() || int_wins(int as f64, float) => Ok(Value::Int(int)),
        (_, Some(float)) => Ok(Value::Float(float)),
        (Some(int), None) => Ok(Value::Int(int)),
        (None, None) => Err(wrong_count(info, argument)),
    }
}

pub(super) fn choose(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    let [condition, yes, no] = exactly(info, argument)?;
    match condition {
        Value::Boolean(condition) => Ok(if *condition { yes.clone() } else { no.clone() }),
        _ => Err(wrong_type(info, "a boolean as its first argument", condition)),
    }
}

pub(super) fn abs(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    match argument {
        Value::Float(float) => Ok(Value::Float(float.abs())),
        Value::Int(int) => int
            .checked_abs()
            .map(Value::Int)
            .ok_or_else(|| Failure::new(ErrorCode::IntOverflow, overflow_message(&format!("{}({int})", info.name)))),
        _ => number(info, argument).map(Value::Float),
    }
}

pub(super) fn shl(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    shift(info, argument, |value, bits| value << bits)
}

pub(super) fn shr(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    shift(info, argument, |value, bits| value >> bits)
}

fn shift(info: &FunctionInfo, argument: &Value, body: fn(i64, u32) -> i64) -> Outcome {
    let [value, bits] = exactly(info, argument)?;
    let (value, bits) = (int(info, value)?, int(info, bits)?);
    match u32::try_from(bits) {
        Ok(count @ 0..=63) => Ok(Value::Int(body(value, count))),
        _ => {
            let message = format!("{} shifts by 0 to 63 bits, not by {bits}", info.name);
            Err(Failure::new(ErrorCode::ShiftOutOfRange, message))
        }
    }
}

pub(super) fn len(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    let length = match argument {
        Value::String(string) => string.len(),
        Value::Tuple(elements) => elements.len(),
        Value::Empty => return Err(wrong_count(info, argument)),
        _ => return Err(wrong_type(info, "a string or tuple", argument)),
    };
    i64::try_from(length)
        .map(Value::Int)
        .map_err(|_| Failure::new(ErrorCode::IntOverflow, overflow_message("a length")))
}

/// evalexpr's name of a value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Float(_) => "float",
        Value::Int(_) => "int",
        Value::Boolean(_) => "boolean",
        Value::Tuple(_) => "tuple",
        Value::Empty => "empty",
    }
}

pub(super) fn type_of(_: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    Ok(Value::String(type_name(argument).into()))
}

fn tuple<'v>(info: &FunctionInfo, value: &'v Value) -> Result<&'v [Value], Failure> {
    match value {
        Value::Tuple(elements) => Ok(elements),
        _ => Err(wrong_type(info, "a tuple as its first argument", value)),
    }
}

fn needle<'v>(info: &FunctionInfo, value: &'v Value) -> Result<&'v Value, Failure> {
    match value {
        Value::Tuple(_) | Value::Empty => Err(wrong_type(info, "numbers, booleans and strings to look for", value)),
        _ => Ok(value),
    }
}

/// Comparing every element costs one unit each, and strings of equal length their bytes.
fn search_cost(haystack: &[Value], needle: &Value) -> usize {
    let bytes = measure(needle).0;
    haystack.len().saturating_mul(1 + bytes / 8)
}

pub(super) fn contains(info: &FunctionInfo, argument: &Value, meter: &Meter) -> Outcome {
    let [haystack, wanted] = exactly(info, argument)?;
    let haystack = tuple(info, haystack)?;
    let wanted = needle(info, wanted)?;
    meter.charge(search_cost(haystack, wanted))?;
    Ok(Value::Boolean(haystack.contains(wanted)))
}

pub(super) fn contains_any(info: &FunctionInfo, argument: &Value, meter: &Meter) -> Outcome {
    let [haystack, wanted] = exactly(info, argument)?;
    let haystack = tuple(info, haystack)?;
    let Value::Tuple(wanted) = wanted else { return Err(wrong_type(info, "a tuple as its second argument", wanted)) };
    let mut found = false;
    for wanted in wanted {
        let wanted = needle(info, wanted)?;
        meter.charge(search_cost(haystack, wanted))?;
        found |= haystack.contains(wanted);
    }
    Ok(Value::Boolean(found))
}

/// Text that refuses to grow beyond what a value may have.
struct Bounded<'m> {
    text: String,
    meter: &'m Meter,
    failure: Option<Failure>,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let admitted =
            self.meter.admit_bytes(self.text.len() + more.len()).and_then(|()| self.meter.charge(more.len()));
        match admitted {
            Ok(()) => {
                self.text.push_str(more);
                Ok(())
            }
            Err(failure) => {
                self.failure = Some(failure);
                Err(fmt::Error)
            }
        }
    }
}

pub(super) fn string_from(_: &FunctionInfo, argument: &Value, meter: &Meter) -> Outcome {
    let mut bounded = Bounded { text: String::new(), meter, failure: None };
    let written = match argument {
        Value::String(string) => bounded.write_str(string),
        value => write!(bounded, "{value}"),
    };
    match (written, bounded.failure) {
        (Ok(()), None) => Ok(Value::String(bounded.text)),
        (_, Some(failure)) => Err(failure),
        (Err(fmt::Error), None) => Err(Failure::new(ErrorCode::WrongType, "the value has no text")),
    }
}

/// Changes the case of a string after checking the size of the result.
fn change_case(
    info: &FunctionInfo,
    argument: &Value,
    meter: &Meter,
    bytes: fn(char) -> usize,
    change: fn(&str) -> String,
) -> Outcome {
    let subject = string(info, argument)?;
    let bytes = subject.chars().map(bytes).sum();
    meter.admit_bytes(bytes)?;
    meter.charge(bytes)?;
    Ok(Value::String(change(subject)))
}

pub(super) fn to_lowercase(info: &FunctionInfo, argument: &Value, meter: &Meter) -> Outcome {
    let bytes = |character: char| character.to_lowercase().map(char::len_utf8).sum();
    change_case(info, argument, meter, bytes, str::to_lowercase)
}

pub(super) fn to_uppercase(info: &FunctionInfo, argument: &Value, meter: &Meter) -> Outcome {
    let bytes = |character: char| character.to_uppercase().map(char::len_utf8).sum();
    change_case(info, argument, meter, bytes, str::to_uppercase)
}

pub(super) fn trim(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    Ok(Value::String(string(info, argument)?.trim().into()))
}

pub(super) fn substring(info: &FunctionInfo, argument: &Value, _: &Meter) -> Outcome {
    let (subject, start, end) = match argument {
        Value::Tuple(elements) => match elements.as_slice() {
            [subject, start] => (subject, start, None),
            [subject, start, end] => (subject, start, Some(end)),
            _ => return Err(wrong_count(info, argument)),
        },
        _ => return Err(wrong_count(info, argument)),
    };
    let subject = string(info, subject)?;
    let start = int(info, start)?;
    let end = end.map(|end| int(info, end)).transpose()?;
    let from = usize::try_from(start).ok();
    let to = end.map_or(Some(subject.len()), |end| usize::try_from(end).ok());
    let part = from.zip(to).and_then(|(from, to)| subject.get(from..to));
    part.map(|part| Value::String(part.into())).ok_or_else(|| {
        let to = end.map_or_else(|| subject.len().to_string(), |end| end.to_string());
        let message = format!(
            "{}: bytes {start} to {to} are no part of a string of {} bytes, or cut a character in two",
            info.name,
            subject.len()
        );
        Failure::new(ErrorCode::SubstringOutOfRange, message)
    })
}
