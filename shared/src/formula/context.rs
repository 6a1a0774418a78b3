//! The context in which evalexpr evaluates a rewritten tree: variables in slots, our functions, and the meter.

use super::calls;
use super::error::ErrorCode;
use super::functions::{Callee, Code, decode};
use super::limits::FormulaLimits;
use super::meter::{Failure, Meter};
use evalexpr::{Context, ContextWithMutableVariables, EvalexprError, EvalexprResult, Value};
use std::cell::RefCell;
use std::mem::discriminant;

/// Variables, functions and budget of one row.
pub(super) struct RowContext {
    /// One value a slot; `None` where nothing is bound.
    pub(super) slots: Vec<Option<Value>>,
    /// Whether reads and calls are paid for.
    pub(super) metered: bool,
    meter: Meter,
    failure: RefCell<Option<(Failure, Option<usize>)>>,
}

impl RowContext {
    pub(super) fn new(slots: usize, limits: &FormulaLimits) -> Self {
        Self { slots: vec![None; slots], metered: true, meter: Meter::new(limits), failure: RefCell::new(None) }
    }

    /// A new row begins.
    pub(super) fn begin_row(&self) {
        self.meter.refill();
    }

    /// Sets a slot to text of an input, if that is not too large to be a value.
    pub(super) fn admit_input(&self, value: &Value) -> Result<(), Failure> {
        self.meter.admit(value)
    }

    /// Refuses text of an input before it is copied.
    pub(super) fn admit_input_bytes(&self, bytes: usize) -> Result<(), Failure> {
        self.meter.admit_bytes(bytes)
    }

    /// The first failure of the row and the token where it happened.
    pub(super) fn take_failure(&self) -> Option<(Failure, Option<usize>)> {
        self.failure.borrow_mut().take()
    }

    #[cold]
    fn fail(&self, failure: Failure, place: Option<usize>) -> EvalexprError {
        self.failure.borrow_mut().get_or_insert((failure, place));
        EvalexprError::CustomMessage(String::new())
    }
}

impl Context for RowContext {
    #[inline]
    fn get_value(&self, identifier: &str) -> Option<&Value> {
        let value = self.slots.get(identifier.chars().next().map(decode)?)?.as_ref()?;
        if self.metered
            && let Err(failure) = self.meter.admit(value)
        {
            self.fail(failure, None);
            return None;
        }
        Some(value)
    }

    fn call_function(&self, identifier: &str, argument: &Value) -> EvalexprResult<Value> {
        let paid = if self.metered { self.meter.pay_for_call(argument) } else { Ok(()) };
        paid.and_then(|()| match Code::callee(identifier) {
            Callee::Named(info) => info.call(argument, &self.meter),
            Callee::Builtin(builtin) => calls::builtin(builtin, argument, &self.meter),
        })
        .map_err(|failure| self.fail(failure, Code::place(identifier)))
    }

    /// Every function is ours.
    fn are_builtin_functions_disabled(&self) -> bool {
        true
    }

    fn set_builtin_functions_disabled(&mut self, disabled: bool) -> EvalexprResult<()> {
        if disabled { Ok(()) } else { Err(EvalexprError::BuiltinFunctionsCannotBeEnabled) }
    }
}

impl ContextWithMutableVariables for RowContext {
    /// Assigns a slot; a variable keeps its type, as in evalexpr.
    fn set_value(&mut self, identifier: String, value: Value) -> EvalexprResult<()> {
        if self.metered {
            self.meter.admit(&value).map_err(|failure| self.fail(failure, None))?;
        }
        let slot = identifier.chars().next().map(decode).and_then(|slot| self.slots.get(slot).map(|_| slot));
        let Some(slot) = slot else {
            return Err(EvalexprError::VariableIdentifierNotFound(identifier));
        };
        if let Some(current) = &self.slots[slot]
            && discriminant(current) != discriminant(&value)
        {
            let message = format!(
                "a variable that holds {} cannot be assigned {}: use another name",
                calls::describe(current),
                calls::describe(&value)
            );
            return Err(self.fail(Failure::new(ErrorCode::WrongType, message), None));
        }
        self.slots[slot] = Some(value);
        Ok(())
    }
}
