//! What a row may spend, and how large its values may be.

use super::error::ErrorCode;
use super::limits::FormulaLimits;
use evalexpr::Value;
use std::cell::Cell;

/// What an element of a tuple counts beside the bytes of its strings: the size of evalexpr's value in memory.
const ELEMENT_BYTES: usize = 32;

/// Why a value or a function's call is refused.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The budget of a row.
pub(super) struct Meter {
    fuel: Cell<u64>,
    fuel_max: u64,
    value_bytes_max: usize,
    value_depth_max: usize,
}

impl Meter {
    pub(super) fn new(limits: &FormulaLimits) -> Self {
        Self {
            fuel: Cell::new(limits.fuel_max),
            fuel_max: limits.fuel_max,
            value_bytes_max: limits.value_bytes_max,
            value_depth_max: limits.value_depth_max,
        }
    }

    /// A new row begins.
    pub(super) fn refill(&self) {
        self.fuel.set(self.fuel_max);
    }

    /// Pays for work before it is done.
    pub(super) fn charge(&self, units: usize) -> Result<(), Failure> {
        match self.fuel.get().checked_sub(units as u64) {
            Some(left) => {
                self.fuel.set(left);
                Ok(())
            }
            None => {
                self.fuel.set(0);
                let message = format!(
                    "the formula needs more than {} work units in one row (fuel_max): shorten its strings and tuples",
                    self.fuel_max
                );
                Err(Failure::new(ErrorCode::TooMuchWork, message))
            }
        }
    }

    /// Refuses a value of this many bytes before it is made.
    pub(super) fn admit_bytes(&self, bytes: usize) -> Result<(), Failure> {
        if bytes <= self.value_bytes_max {
            return Ok(());
        }
        let message = format!(
            "a value of {bytes} bytes or more where {} are allowed (value_bytes_max): shorten the string or tuple",
            self.value_bytes_max
        );
        Err(Failure::new(ErrorCode::ValueTooLarge, message))
    }

    /// Pays for the arguments of a call. They are bounded one by one: together they are no value.
    pub(super) fn pay_for_call(&self, argument: &Value) -> Result<(), Failure> {
        self.charge(measure(argument).0 + 1)
    }

    /// Refuses a value that is too large or too deep, and pays for one copy of it.
    pub(super) fn admit(&self, value: &Value) -> Result<(), Failure> {
        let (bytes, depth) = measure(value);
        self.charge(bytes + 1)?;
        self.admit_bytes(bytes)?;
        if depth <= self.value_depth_max {
            return Ok(());
        }
        let message = format!("tuples are nested deeper than {} levels (value_depth_max)", self.value_depth_max);
        Err(Failure::new(ErrorCode::ValueTooDeep, message))
    }
}

/// Bytes of a value beyond its own place, and its levels of tuples.
pub(super) fn measure(value: &Value) -> (usize, usize) {
    match value {
        Value::String(string) => (string.len(), 0),
        Value::Tuple(elements) => {
            let (mut bytes, mut depth) = (0, 0);
            for element in elements {
                let (element_bytes, element_depth) = measure(element);
                bytes += ELEMENT_BYTES + element_bytes;
                depth = depth.max(element_depth);
            }
            (bytes, depth + 1)
        }
        _ => (0, 0),
    }
}
