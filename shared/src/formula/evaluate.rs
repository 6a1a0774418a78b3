//! Evaluates a formula, once or over blocks of rows.
//!
//! The seam behind which a compiled engine may come: [`Evaluator::new`], [`Evaluator::evaluate_once`] and
//! [`Evaluator::evaluate`] are all that the rest of the product calls.

use super::calls::{describe, overflow_message};
use super::context::RowContext;
use super::error::{ErrorCode, FormulaError, echo};
use super::functions::decode;
use super::limits::FormulaLimits;
use super::meter::Failure;
use super::parse::Formula;
use super::program::Program;
use super::scan::Kind;
use super::stack::with_levels;
use crate::block::{Block, Column, RowError, RowState, Values};
use crate::math;
use crate::spec::{OnError, Scalar};
use evalexpr::{EvalexprError, Value};

/// A formula with its variables bound to columns and values. One a thread; a row never sees another row's assignments.
pub struct Evaluator {
    formula: Formula,
    context: RowContext,
    /// Slots filled from columns.
    inputs: Vec<Input>,
    /// What each slot holds before a row begins, columns aside.
    bound: Vec<Option<Value>>,
    /// Slots that the formula assigns: restored before each row.
    assigned: Vec<usize>,
    /// Whether a bound value is a string or tuple.
    bound_text: bool,
    /// Every variable there is, for messages.
    known: Vec<String>,
}

struct Input {
    slot: usize,
    column: usize,
    /// Whether the formula reads it before assigning it: a null then makes the row null.
    read: bool,
}

impl Evaluator {
    /// Binds a formula: `variables` names the columns of the blocks to come, in their order; `bindings` are variables
    /// with one value for all rows, hidden by columns of the same name.
    pub fn new(formula: &Formula, variables: &[String], bindings: &[(String, Scalar)], limits: &FormulaLimits) -> Self {
        let names = formula.names();
        let mut bound: Vec<Option<Value>> = vec![None; names.slots.len()];
        let mut bound_text = false;
        for (name, value) in bindings {
            if let Some(slot) = names.slot(name) {
                bound_text |= matches!(value, Scalar::String(_) | Scalar::Tuple(_));
                bound[slot] = Some(from_scalar(value));
            }
        }
        let inputs: Vec<Input> = names
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, name)| {
                let column = variables.iter().position(|variable| variable == name)?;
                Some(Input { slot, column, read: names.inputs.contains(name) })
            })
            .collect();
        for input in &inputs {
            bound[input.slot] = None;
        }
        let assigned = names.assigned.iter().filter_map(|name| names.slot(name)).collect();
        let mut context = RowContext::new(names.slots.len(), &limits.effective());
        context.slots.clone_from(&bound);
        let known = variables.iter().chain(bindings.iter().map(|(name, _)| name)).cloned().collect();
        Self { formula: formula.clone(), context, inputs, bound, assigned, bound_text, known }
    }

    /// The formula.
    pub fn formula(&self) -> &Formula {
        &self.formula
    }

    /// Evaluates as if a string were bound.
    #[cfg(test)]
    pub(super) fn always_meter(&mut self) {
        self.bound_text = true;
    }

    /// Evaluates without columns, from fresh variables.
    pub fn evaluate_once(&mut self) -> Result<Scalar, FormulaError> {
        self.context.slots.clone_from(&self.bound);
        let formula = self.formula.clone();
        let program = self.program(&formula, false);
        with_levels(program.depth(), || self.row(program)).map(into_scalar)
    }

    /// Evaluates every row of a block.
    ///
    /// A row with a null that the formula reads is null; a row that could not be read fails with its own error.
    /// `on_error` says what failed rows become; all of them are listed.
    pub fn evaluate(&mut self, block: &Block, on_error: OnError) -> Values {
        self.evaluate_where(block, None, on_error)
    }

    /// Evaluates the rows of a block that are `selected` (one flag a row; `None` is all). The others are holes: they
    /// are not evaluated, and can't fail.
    pub fn evaluate_where(&mut self, block: &Block, selected: Option<&[bool]>, on_error: OnError) -> Values {
        let formula = self.formula.clone();
        let program = self.program_for(&formula, block);
        with_levels(program.depth(), || self.rows(program, block, selected, on_error))
    }

    /// Evaluates one row of a block, by its index there, whatever its nulls.
    ///
    /// # Errors
    /// Why the row fails.
    pub fn evaluate_row(&mut self, block: &Block, index: usize) -> Result<Scalar, FormulaError> {
        let formula = self.formula.clone();
        let program = self.program_for(&formula, block);
        with_levels(program.depth(), || self.fill(block, index).and_then(|()| self.row(program)).map(into_scalar))
    }

    fn program_for<'f>(&mut self, formula: &'f Formula, block: &Block) -> &'f Program {
        let text = self
            .inputs
            .iter()
            .any(|input| matches!(block.columns.get(input.column), Some(Column::String(_) | Column::Mixed(_))));
        self.program(formula, text)
    }

    /// The cheapest program that is safe for the values at hand.
    fn program<'f>(&mut self, formula: &'f Formula, text: bool) -> &'f Program {
        let plain = if text || self.bound_text { None } else { formula.plain() };
        self.context.metered = plain.is_none();
        plain.unwrap_or_else(|| formula.metered())
    }

    fn rows(&mut self, program: &Program, block: &Block, selected: Option<&[bool]>, on_error: OnError) -> Values {
        let failed = match on_error {
            OnError::Null => RowState::Null,
            OnError::Skip | OnError::Fail => RowState::Hole,
        };
        let mut results = Results::new(block);
        let mut bad_rows = block.bad_rows.iter().peekable();
        let nulls: Vec<&[bool]> = self
            .inputs
            .iter()
            .filter(|input| input.read)
            .filter_map(|input| block.nulls.get(input.column)?.as_deref())
            .collect();
        for index in 0..block.len {
            let row = block.first_row + index as u64;
            if selected.is_some_and(|selected| selected.get(index) != Some(&true)) {
                results.without_value(RowState::Hole);
                continue;
            }
            while bad_rows.peek().is_some_and(|bad| bad.row < row) {
                bad_rows.next();
            }
            if let Some(bad) = bad_rows.next_if(|bad| bad.row == row) {
                results.failed(failed, bad.clone());
                continue;
            }
            if nulls.iter().any(|nulls| nulls.get(index) == Some(&true)) {
                results.without_value(RowState::Null);
                continue;
            }
            match self.fill(block, index).and_then(|()| self.row(program)) {
                Ok(value) => results.valid(value),
                Err(error) => {
                    let code = error.code.as_str().into();
                    results.failed(failed, RowError { row, code, message: error.to_string() });
                }
            }
        }
        results.finish()
    }

    /// Puts a row's inputs into their slots.
    #[inline]
    fn fill(&mut self, block: &Block, index: usize) -> Result<(), FormulaError> {
        for &slot in &self.assigned {
            self.context.slots[slot].clone_from(&self.bound[slot]);
        }
        for input in &self.inputs {
            let value = match block.columns.get(input.column) {
                Some(Column::Float(values)) => values.get(index).map(|&value| Value::Float(value)),
                Some(Column::Int(values)) => values.get(index).map(|&value| Value::Int(value)),
                Some(Column::Boolean(values)) => values.get(index).map(|&value| Value::Boolean(value)),
                Some(Column::String(values)) => match values.get(index) {
                    Some(_) if !input.read => Some(Value::String(String::new())),
                    Some(text) => {
                        self.context
                            .admit_input_bytes(text.len())
                            .map_err(|failure| self.input_error(input, failure))?;
                        Some(Value::String(text.clone()))
                    }
                    None => None,
                },
                Some(Column::Mixed(values)) => match values.get(index).map(from_scalar) {
                    Some(value) => {
                        self.context.begin_row();
                        self.context.admit_input(&value).map_err(|failure| self.input_error(input, failure))?;
                        Some(value)
                    }
                    None => None,
                },
                None => None,
            };
            self.context.slots[input.slot] = value;
        }
        Ok(())
    }

    /// Evaluates one row whose slots are filled.
    #[inline]
    fn row(&mut self, program: &Program) -> Result<Value, FormulaError> {
        self.context.begin_row();
        let result = if self.assigned.is_empty() {
            program.root().eval_with_context(&self.context)
        } else {
            program.root().eval_with_context_mut(&mut self.context)
        };
        result.map_err(|error| self.explain(&error))
    }

    fn input_error(&self, input: &Input, failure: Failure) -> FormulaError {
        let name = self.formula.names().slots.get(input.slot).map_or("", String::as_str);
        let message = format!("{}: {}", echo(name), failure.message);
        self.formula.error_at(self.formula.token_named(&[Kind::Name], name), failure.code, message)
    }

    /// An evaluation's error in our words, with its place where that is known.
    #[cold]
    fn explain(&self, error: &EvalexprError) -> FormulaError {
        let formula = &self.formula;
        if let Some((failure, place)) = self.context.take_failure() {
            if failure.code == ErrorCode::UnknownFunction {
                return formula.unknown_function(place);
            }
            return formula.error_at(place, failure.code, failure.message);
        }
        if let EvalexprError::VariableIdentifierNotFound(code) = error {
            let slot = code.chars().next().map(decode);
            let name = slot.and_then(|slot| formula.names().slots.get(slot)).map_or("", String::as_str);
            return formula.unknown_variable(name, self.known.iter().map(String::as_str));
        }
        let (code, message, kinds) = translate(error);
        formula.error_at(formula.only_token(kinds), code, message)
    }
}

/// Code, message and possible places of an error of evalexpr's operators.
fn translate(error: &EvalexprError) -> (ErrorCode, String, &'static [Kind]) {
    use EvalexprError as E;
    const ARITHMETIC: &[Kind] = &[
        Kind::Minus,
        Kind::Negate,
        Kind::Star,
        Kind::Slash,
        Kind::Percent,
        Kind::MinusAssign,
        Kind::StarAssign,
        Kind::SlashAssign,
        Kind::PercentAssign,
        Kind::Less,
        Kind::LessEqual,
        Kind::Greater,
        Kind::GreaterEqual,
    ];
    const ADDITIVE: &[Kind] =
        &[Kind::Plus, Kind::PlusAssign, Kind::Less, Kind::LessEqual, Kind::Greater, Kind::GreaterEqual];
    const LOGICAL: &[Kind] = &[Kind::And, Kind::Or, Kind::Not, Kind::AndAssign, Kind::OrAssign];
    const DIVISION: &[Kind] = &[Kind::Slash, Kind::SlashAssign];
    const REMAINDER: &[Kind] = &[Kind::Percent, Kind::PercentAssign];
    let overflow = |left: &Value, sign: &str, right: &Value, kinds: &'static [Kind]| {
        (ErrorCode::IntOverflow, overflow_message(&format!("{} {sign} {}", short(left), short(right))), kinds)
    };
    let division = |left: &Value, sign: &str, right: &Value, kinds: &'static [Kind]| {
        if right == &Value::Int(0) {
            let message = format!(
                "{} {sign} 0 has no int result: make one operand a float, as in 1.0, to get inf or NaN",
                short(left)
            );
            (ErrorCode::DivisionByZero, message, kinds)
        } else {
            overflow(left, sign, right, kinds)
        }
    };
    let wanted = |what: &str, actual: &Value, kinds: &'static [Kind]| {
        (ErrorCode::WrongType, format!("an operator takes {what}, not {}", describe(actual)), kinds)
    };
    match error {
        E::AdditionError { augend, addend } => overflow(augend, "+", addend, &[Kind::Plus, Kind::PlusAssign]),
        E::SubtractionError { minuend, subtrahend } => {
            overflow(minuend, "-", subtrahend, &[Kind::Minus, Kind::MinusAssign])
        }
        E::MultiplicationError { multiplicand, multiplier } => {
            overflow(multiplicand, "*", multiplier, &[Kind::Star, Kind::StarAssign])
        }
        E::NegationError { argument } => {
            (ErrorCode::IntOverflow, overflow_message(&format!("-({})", short(argument))), &[Kind::Negate])
        }
        E::DivisionError { dividend, divisor } => division(dividend, "/", divisor, DIVISION),
        E::ModulationError { dividend, divisor } => division(dividend, "%", divisor, REMAINDER),
        E::ExpectedNumber { actual } => wanted("numbers", actual, ARITHMETIC),
        E::ExpectedNumberOrString { actual } => wanted("numbers or strings", actual, ADDITIVE),
        E::ExpectedBoolean { actual } => wanted("booleans", actual, LOGICAL),
        E::WrongTypeCombination { .. } => (
            ErrorCode::WrongType,
            "+ takes two numbers or two strings, not one of each: convert with str::from".into(),
            &[Kind::Plus, Kind::PlusAssign],
        ),
        other => (ErrorCode::Malformed, format!("the formula cannot be evaluated: {}", echo(&other.to_string())), &[]),
    }
}

/// A number within a message.
fn short(value: &Value) -> String {
    match value {
        Value::Int(int) => int.to_string(),
        other => describe(other),
    }
}

/// evalexpr's value of a scalar.
pub(super) fn from_scalar(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Int(int) => Value::Int(*int),
        Scalar::Float(float) => Value::Float(*float),
        Scalar::Boolean(boolean) => Value::Boolean(*boolean),
        Scalar::String(string) => Value::String(string.clone()),
        Scalar::Tuple(elements) => Value::Tuple(elements.iter().map(from_scalar).collect()),
        Scalar::Empty => Value::Empty,
    }
}

/// The scalar of evalexpr's value; NaN is canonical.
pub(super) fn into_scalar(value: Value) -> Scalar {
    match value {
        Value::Int(int) => Scalar::Int(int),
        Value::Float(float) => Scalar::Float(math::canonical(float)),
        Value::Boolean(boolean) => Scalar::Boolean(boolean),
        Value::String(string) => Scalar::String(string),
        Value::Tuple(elements) => Scalar::Tuple(elements.into_iter().map(into_scalar).collect()),
        Value::Empty => Scalar::Empty,
    }
}

/// Results of a block while they come in; typed for as long as all valid values share a type.
struct Results {
    first_row: u64,
    column: Option<Column>,
    states: Vec<RowState>,
    errors: Vec<RowError>,
    capacity: usize,
}

impl Results {
    fn new(block: &Block) -> Self {
        Self {
            first_row: block.first_row,
            column: None,
            states: Vec::with_capacity(block.len),
            errors: Vec::new(),
            capacity: block.len,
        }
    }

    fn failed(&mut self, state: RowState, error: RowError) {
        self.errors.push(error);
        self.without_value(state);
    }

    fn without_value(&mut self, state: RowState) {
        self.states.push(state);
        match &mut self.column {
            Some(Column::Int(values)) => values.push(0),
            Some(Column::Float(values)) => values.push(0.0),
            Some(Column::Boolean(values)) => values.push(false),
            Some(Column::String(values)) => values.push(String::new()),
            Some(Column::Mixed(values)) => values.push(Scalar::Empty),
            None => {}
        }
    }

    #[inline]
    fn valid(&mut self, value: Value) {
        match (&mut self.column, value) {
            (Some(Column::Float(values)), Value::Float(value)) => values.push(math::canonical(value)),
            (Some(Column::Int(values)), Value::Int(value)) => values.push(value),
            (Some(Column::Boolean(values)), Value::Boolean(value)) => values.push(value),
            (Some(Column::String(values)), Value::String(value)) => values.push(value),
            (_, value) => self.first_of_type(value),
        }
        self.states.push(RowState::Valid);
    }

    /// The first valid value fixes the type of the column; the first of another type makes it mixed.
    fn first_of_type(&mut self, value: Value) {
        let missing = self.states.len();
        let column = self.column.take();
        self.column = Some(match (column, value) {
            (None, Value::Int(value)) => Column::Int(self.begin(missing, 0, value)),
            (None, Value::Float(value)) => Column::Float(self.begin(missing, 0.0, math::canonical(value))),
            (None, Value::Boolean(value)) => Column::Boolean(self.begin(missing, false, value)),
            (None, Value::String(value)) => Column::String(self.begin(missing, String::new(), value)),
            (None, value) => Column::Mixed(self.begin(missing, Scalar::Empty, into_scalar(value))),
            (Some(column), value) => {
                let mut values = match column {
                    Column::Mixed(values) => values,
                    other => (0..other.len()).map(|index| other.get(index)).collect(),
                };
                values.push(into_scalar(value));
                Column::Mixed(values)
            }
        });
    }

    fn begin<T: Clone>(&self, missing: usize, filler: T, first: T) -> Vec<T> {
        let mut values = Vec::with_capacity(self.capacity);
        values.resize(missing, filler);
        values.push(first);
        values
    }

    fn finish(self) -> Values {
        let rows = self.states.len();
        let column = self.column.unwrap_or_else(|| Column::Float(vec![0.0; rows]));
        Values { first_row: self.first_row, column, states: self.states, errors: self.errors }
    }
}
