//! The typed form of a formula: static single assignment over ints, floats and booleans.
//!
//! Made from evalexpr's tree once the types of the columns are known ([`TypedFormula::new`]). Every register has one
//! type; equal operations share one; constants are bound. Nothing is rewritten that could change a bit, and no operation
//! that can fail is removed: a row fails in this form exactly where it fails in evalexpr, which then gives its error.
//! What the form does not take (strings, tuples as values, a type that depends on data) is [`Untyped`], with the reason.

mod cost;
mod fold;
mod lower;
#[cfg(test)]
mod tests;

pub use fold::{apply_binary, apply_unary};
pub use lower::Untyped;

use crate::math::{Function1, Function2};
use crate::spec::ColumnType;
use std::fmt;

/// Most instructions of a typed form; a longer formula stays with evalexpr.
pub const INSTRUCTIONS_MAX: usize = 4096;

/// Type of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// i64.
    Int,
    /// f64.
    Float,
    /// Boolean.
    Boolean,
}

/// Where an instruction's value is: its index among the instructions.
pub type Register = u32;

/// One instruction. Operands are registers before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What it computes.
    pub operation: Operation,
    /// The type of its value.
    pub ty: ValueType,
}

/// What an instruction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A column: its index among [`TypedFormula::inputs`].
    Input(u32),
    /// A constant: an i64's or f64's bits, or 0 and 1 for false and true.
    Constant(u64),
    /// Of one register.
    Unary(UnaryOperation, Register),
    /// Of two registers.
    Binary(BinaryOperation, Register, Register),
    /// The second register where the first is true, else the third; all are computed.
    Select(Register, Register, Register),
}

/// Operations of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOperation {
    /// Of an int; fails for the least one.
    NegateInt,
    /// Of a float.
    NegateFloat,
    /// Of a boolean.
    Not,
    /// An int as a float, rounded to nearest.
    IntToFloat,
    /// Of an int; fails for the least one.
    AbsInt,
    /// Of a float.
    AbsFloat,
    /// Greatest whole number not above.
    Floor,
    /// Least whole number not below.
    Ceil,
    /// Nearest whole number, halves away from 0.
    Round,
    /// Square root.
    Sqrt,
    /// A float to a boolean.
    IsNan,
    /// A float to a boolean.
    IsFinite,
    /// A float to a boolean.
    IsInfinite,
    /// A float to a boolean.
    IsNormal,
    /// Bitwise complement of an int.
    BitNot,
    /// A function of the room of mathematics.
    Math(Function1),
}

/// Operations of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOperation {
    /// Fails on overflow.
    AddInt,
    /// Fails on overflow.
    SubInt,
    /// Fails on overflow.
    MulInt,
    /// Towards 0; fails for a divisor of 0 and on overflow.
    DivInt,
    /// With the sign of the first; fails for a divisor of 0 and on overflow.
    RemInt,
    /// IEEE 754 addition.
    AddFloat,
    /// IEEE 754 subtraction.
    SubFloat,
    /// IEEE 754 multiplication.
    MulFloat,
    /// IEEE 754 division.
    DivFloat,
    /// A function of the room of mathematics.
    Math(Function2),
    /// A comparison of ints.
    CompareInt(Comparison),
    /// A comparison of floats; all but `NotEqual` are false for NaN.
    CompareFloat(Comparison),
    /// Whether two booleans are equal.
    EqualBoolean,
    /// Whether two booleans differ.
    NotEqualBoolean,
    /// Of booleans.
    And,
    /// Of booleans.
    Or,
    /// The lower int.
    MinInt,
    /// The higher int.
    MaxInt,
    /// [`crate::math::lower`].
    MinFloat,
    /// [`crate::math::higher`].
    MaxFloat,
    /// Bitwise.
    BitAnd,
    /// Bitwise.
    BitOr,
    /// Bitwise.
    BitXor,
    /// Fails for a shift outside 0 to 63.
    ShiftLeft,
    /// Keeps the sign; fails for a shift outside 0 to 63.
    ShiftRight,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

/// A column that the formula reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its index among the variables that the form was made for.
    pub column: usize,
    /// Its type.
    pub ty: ValueType,
}

/// A formula in typed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedFormula {
    inputs: Vec<Input>,
    instructions: Vec<Instruction>,
    result: Register,
    reads: Vec<usize>,
}

impl TypedFormula {
    /// The columns whose nulls make a row null: those that the formula reads, even where their value is of no use.
    pub fn reads(&self) -> &[usize] {
        &self.reads
    }

    /// The columns that it reads, each once. A column that is only overwritten is not among them.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The instructions, operands before those that use them; each is used, gives the result, or can fail.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The register of the formula's value.
    pub fn result(&self) -> Register {
        self.result
    }

    /// The type of the formula's value.
    pub fn result_type(&self) -> ValueType {
        self.instructions[self.result as usize].ty
    }

    /// Whether a row can fail.
    pub fn can_fail(&self) -> bool {
        self.instructions.iter().any(|instruction| instruction.operation.can_fail())
    }
}

impl Operation {
    /// Whether a row can fail here.
    pub fn can_fail(self) -> bool {
        match self {
            Self::Unary(operation, _) => matches!(operation, UnaryOperation::NegateInt | UnaryOperation::AbsInt),
            Self::Binary(operation, ..) => matches!(
                operation,
                BinaryOperation::AddInt
                    | BinaryOperation::SubInt
                    | BinaryOperation::MulInt
                    | BinaryOperation::DivInt
                    | BinaryOperation::RemInt
                    | BinaryOperation::ShiftLeft
                    | BinaryOperation::ShiftRight
            ),
            Self::Input(_) | Self::Constant(_) | Self::Select(..) => false,
        }
    }

    /// The registers that it reads; the number says how many count.
    pub fn operands(self) -> ([Register; 3], usize) {
        match self {
            Self::Input(_) | Self::Constant(_) => ([0; 3], 0),
            Self::Unary(_, a) => ([a, 0, 0], 1),
            Self::Binary(_, a, b) => ([a, b, 0], 2),
            Self::Select(a, b, c) => ([a, b, c], 3),
        }
    }
}

impl ValueType {
    /// Of a column; `None` for text.
    pub fn of_column(ty: ColumnType) -> Option<Self> {
        match ty {
            ColumnType::Int => Some(Self::Int),
            ColumnType::Float => Some(Self::Float),
            ColumnType::Boolean => Some(Self::Boolean),
            ColumnType::String => None,
        }
    }

    /// The type of a column of such values.
    pub fn column_type(self) -> ColumnType {
        match self {
            Self::Int => ColumnType::Int,
            Self::Float => ColumnType::Float,
            Self::Boolean => ColumnType::Boolean,
        }
    }

    /// As users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
        }
    }
}

/// One instruction a line, as `%3 = AddInt %0 %1: int`, and the result.
impl fmt::Display for TypedFormula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (register, instruction) in self.instructions.iter().enumerate() {
            write!(f, "%{register} = ")?;
            match instruction.operation {
                Operation::Input(index) => write!(f, "column {}", self.inputs[index as usize].column)?,
                Operation::Constant(bits) => match instruction.ty {
                    ValueType::Int => write!(f, "{}", bits as i64)?,
                    ValueType::Float => write!(f, "{:?}", f64::from_bits(bits))?,
                    ValueType::Boolean => write!(f, "{}", bits != 0)?,
                },
                Operation::Unary(UnaryOperation::Math(function), a) => write!(f, "{function:?} %{a}")?,
                Operation::Unary(operation, a) => write!(f, "{operation:?} %{a}")?,
                Operation::Binary(BinaryOperation::Math(function), a, b) => write!(f, "{function:?} %{a} %{b}")?,
                Operation::Binary(
                    BinaryOperation::CompareInt(comparison) | BinaryOperation::CompareFloat(comparison),
                    a,
                    b,
                ) => write!(f, "{comparison:?} %{a} %{b}")?,
                Operation::Binary(operation, a, b) => write!(f, "{operation:?} %{a} %{b}")?,
                Operation::Select(a, b, c) => write!(f, "Select %{a} %{b} %{c}")?,
            }
            writeln!(f, ": {}", instruction.ty.name())?;
        }
        write!(f, "result %{}", self.result)
    }
}
