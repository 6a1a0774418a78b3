//! From evalexpr's tree to the typed form.

use super::fold::{apply_binary, apply_unary};
use super::{
    BinaryOperation, Comparison, INSTRUCTIONS_MAX, Input, Instruction, Operation, Register, TypedFormula,
    UnaryOperation, ValueType,
};
use crate::formula::functions;
use crate::formula::parse::Formula;
use crate::formula::stack::with_levels;
use crate::formula::tree::Places;
use crate::math::Function2;
use crate::spec::{ColumnType, Scalar};
use evalexpr::{Node, Operator, Value};
use std::collections::HashMap;

/// Why a formula has no typed form, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", .character.map(|at| format!(" at character {at}")).unwrap_or_default())]
pub struct Untyped {
    /// For people.
    pub reason: String,
    /// The character of the formula, from 1, where that is known.
    pub character: Option<usize>,
}

type Lowered<T> = Result<T, Untyped>;

fn untyped<T>(reason: impl Into<String>) -> Lowered<T> {
    Err(Untyped { reason: reason.into(), character: None })
}

impl TypedFormula {
    /// Makes the typed form for columns of these names and types and for `bindings`, which columns of the same name hide.
    ///
    /// # Errors
    /// Where the formula is not one of numbers and booleans whose types are known before a row is seen.
    pub fn new(
        formula: &Formula,
        variables: &[(String, ColumnType)],
        bindings: &[(String, Scalar)],
    ) -> Result<Self, Untyped> {
        let mut lowerer = Lowerer {
            formula,
            variables,
            bindings,
            places: Places::new(formula.tokens()),
            inputs: Vec::new(),
            instructions: Vec::new(),
            known: HashMap::new(),
            assigned: HashMap::new(),
        };
        let tree = formula.tree();
        let result = with_levels(tree.depth(), || lowerer.value(tree.root()))?;
        Ok(lowerer.finish(result))
    }
}

struct Lowerer<'a> {
    formula: &'a Formula,
    variables: &'a [(String, ColumnType)],
    bindings: &'a [(String, Scalar)],
    places: Places<'a>,
    inputs: Vec<Input>,
    instructions: Vec<Instruction>,
    /// The register of each instruction so far: equal ones share it.
    known: HashMap<Instruction, Register>,
    assigned: HashMap<String, Register>,
}

impl Lowerer<'_> {
    /// Only what is used, gives the result or can fail.
    fn finish(self, result: Register) -> TypedFormula {
        let count = self.instructions.len();
        let mut used = vec![false; count];
        used[result as usize] = true;
        for index in (0..count).rev() {
            let operation = self.instructions[index].operation;
            used[index] |= operation.can_fail();
            if used[index] {
                let (operands, n) = operation.operands();
                for operand in &operands[..n] {
                    used[*operand as usize] = true;
                }
            }
        }
        let mut renamed = vec![0; count];
        let mut inputs = Vec::new();
        let mut instructions = Vec::new();
        for (index, mut instruction) in self.instructions.into_iter().enumerate().filter(|(index, _)| used[*index]) {
            let to = |register: Register| renamed[register as usize];
            instruction.operation = match instruction.operation {
                Operation::Input(input) => {
                    inputs.push(self.inputs[input as usize]);
                    Operation::Input(inputs.len() as u32 - 1)
                }
                Operation::Constant(bits) => Operation::Constant(bits),
                Operation::Unary(operation, a) => Operation::Unary(operation, to(a)),
                Operation::Binary(operation, a, b) => Operation::Binary(operation, to(a), to(b)),
                Operation::Select(a, b, c) => Operation::Select(to(a), to(b), to(c)),
            };
            renamed[index] = instructions.len() as Register;
            instructions.push(instruction);
        }
        let column = |name: &String| self.variables.iter().position(|(known, _)| known == name);
        let reads = self.formula.names().inputs.iter().filter_map(column).collect();
        TypedFormula { inputs, instructions, result: renamed[result as usize], reads }
    }

    fn emit(&mut self, operation: Operation, ty: ValueType) -> Lowered<Register> {
        let instruction = Instruction { operation, ty };
        if let Some(register) = self.known.get(&instruction) {
            return Ok(*register);
        }
        if self.instructions.len() >= INSTRUCTIONS_MAX {
            return untyped(format!("it has more than {INSTRUCTIONS_MAX} operations"));
        }
        let register = self.instructions.len() as Register;
        self.instructions.push(instruction);
        self.known.insert(instruction, register);
        Ok(register)
    }

    fn constant(&mut self, bits: u64, ty: ValueType) -> Lowered<Register> {
        self.emit(Operation::Constant(bits), ty)
    }

    fn unary(&mut self, operation: UnaryOperation, a: Register, ty: ValueType) -> Lowered<Register> {
        if let Some(bits) = self.bits(a).and_then(|a| apply_unary(operation, a)) {
            return self.constant(bits, ty);
        }
        self.emit(Operation::Unary(operation, a), ty)
    }

    fn binary(&mut self, operation: BinaryOperation, a: Register, b: Register, ty: ValueType) -> Lowered<Register> {
        if let (Some(x), Some(y)) = (self.bits(a), self.bits(b))
            && let Some(bits) = apply_binary(operation, x, y)
        {
            return self.constant(bits, ty);
        }
        self.emit(Operation::Binary(operation, a, b), ty)
    }

    /// The bits of a constant.
    fn bits(&self, register: Register) -> Option<u64> {
        match self.instructions[register as usize].operation {
            Operation::Constant(bits) => Some(bits),
            _ => None,
        }
    }

    fn ty(&self, register: Register) -> ValueType {
        self.instructions[register as usize].ty
    }

    fn float(&mut self, register: Register, what: &str) -> Lowered<Register> {
        match self.ty(register) {
            ValueType::Float => Ok(register),
            ValueType::Int => self.unary(UnaryOperation::IntToFloat, register, ValueType::Float),
            ValueType::Boolean => untyped(format!("{what} of a boolean fails in every row")),
        }
    }

    fn all(&self, registers: &[Register], ty: ValueType, what: &str) -> Lowered<()> {
        match registers.iter().find(|register| self.ty(**register) != ty) {
            None => Ok(()),
            Some(other) => {
                untyped(format!("{what} takes {}s: with {}s it fails in every row", ty.name(), self.ty(*other).name()))
            }
        }
    }

    /// The place of the last token taken, for reasons.
    fn placed<T>(&self, token: Option<usize>, result: Lowered<T>) -> Lowered<T> {
        result.map_err(|mut untyped| {
            if untyped.character.is_none()
                && let Some(token) = token.and_then(|token| self.formula.tokens().get(token))
            {
                let before = self.formula.text().get(..token.start).unwrap_or_default();
                untyped.character = Some(before.chars().count() + 1);
            }
            untyped
        })
    }

    fn value(&mut self, node: &Node) -> Lowered<Register> {
        let children = node.children();
        match (node.operator(), children) {
            (Operator::RootNode, [only]) => self.value(only),
            (Operator::RootNode, _) => untyped("its value is empty"),
            (Operator::Const { value }, _) => match value {
                Value::Int(int) => self.constant(*int as u64, ValueType::Int),
                Value::Float(float) => self.constant(float.to_bits(), ValueType::Float),
                Value::Boolean(boolean) => self.constant((*boolean).into(), ValueType::Boolean),
                Value::String(_) => untyped("it has a string"),
                Value::Tuple(_) | Value::Empty => untyped("it has a tuple"),
            },
            (Operator::VariableIdentifierRead { identifier }, _) => {
                let token = self.places.take(node.operator());
                let read = self.read(identifier);
                self.placed(token, read)
            }
            (Operator::Chain, [first @ .., last]) => {
                for statement in first {
                    self.statement(statement)?;
                }
                self.value(last)
            }
            (Operator::Tuple, _) => untyped("its value is a tuple"),
            (Operator::FunctionIdentifier { identifier }, [argument]) => {
                let token = self.places.take(node.operator());
                let called = self.call(identifier, argument);
                self.placed(token, called)
            }
            (Operator::Neg, [operand]) => {
                let token = self.places.take(node.operator());
                let a = self.value(operand)?;
                let negated = match self.ty(a) {
                    ValueType::Int => self.unary(UnaryOperation::NegateInt, a, ValueType::Int),
                    ValueType::Float => self.unary(UnaryOperation::NegateFloat, a, ValueType::Float),
                    ValueType::Boolean => untyped("the negative of a boolean fails in every row"),
                };
                self.placed(token, negated)
            }
            (Operator::Not, [operand]) => {
                let token = self.places.take(node.operator());
                let a = self.value(operand)?;
                let inverted = self
                    .all(&[a], ValueType::Boolean, "!")
                    .and_then(|()| self.unary(UnaryOperation::Not, a, ValueType::Boolean));
                self.placed(token, inverted)
            }
            (operator, [left, right]) if assigned_operator(operator).is_none() => {
                let a = self.value(left)?;
                let token = self.places.take(operator);
                let b = self.value(right)?;
                let result = self.operator(operator, a, b);
                self.placed(token, result)
            }
            _ => untyped("an assignment has no value"),
        }
    }

    /// Part of a chain whose value is dropped; what can fail in it stays.
    fn statement(&mut self, node: &Node) -> Lowered<()> {
        match (node.operator(), node.children()) {
            (Operator::RootNode, [only]) => self.statement(only),
            (Operator::RootNode, []) => Ok(()),
            (operator, [target, right]) if assigned_operator(operator).is_some() => {
                let Operator::VariableIdentifierWrite { identifier } = target.operator() else {
                    return untyped("it assigns to something other than a name");
                };
                self.places.take(target.operator());
                let token = self.places.take(operator);
                let assigned = self.assignment(operator, identifier, right);
                self.placed(token, assigned)
            }
            _ => self.value(node).map(|_| ()),
        }
    }

    fn assignment(&mut self, operator: &Operator, name: &str, right: &Node) -> Lowered<()> {
        let right = self.value(right)?;
        let value = match assigned_operator(operator).flatten() {
            None => right,
            Some(applied) => {
                let current = self.read(name)?;
                self.operator(&applied, current, right)?
            }
        };
        if let Some(current) = self.type_of(name)?
            && current != self.ty(value)
        {
            return untyped(format!(
                "a variable that holds {} is assigned {}, which fails in every row",
                current.name(),
                self.ty(value).name()
            ));
        }
        self.assigned.insert(name.to_owned(), value);
        Ok(())
    }

    /// The type that a variable holds, if it holds anything.
    fn type_of(&self, name: &str) -> Lowered<Option<ValueType>> {
        if let Some(register) = self.assigned.get(name) {
            return Ok(Some(self.ty(*register)));
        }
        if let Some((_, ty)) = self.variables.iter().find(|(known, _)| known == name) {
            return match ValueType::of_column(*ty) {
                Some(ty) => Ok(Some(ty)),
                None => untyped("it reads text"),
            };
        }
        match self.bindings.iter().rfind(|(known, _)| known == name) {
            Some((_, value)) => self.bound(value).map(|(_, ty)| Some(ty)),
            None => Ok(None),
        }
    }

    fn bound(&self, value: &Scalar) -> Lowered<(u64, ValueType)> {
        match value {
            Scalar::Int(int) => Ok((*int as u64, ValueType::Int)),
            Scalar::Float(float) => Ok((float.to_bits(), ValueType::Float)),
            Scalar::Boolean(boolean) => Ok(((*boolean).into(), ValueType::Boolean)),
            Scalar::String(_) => untyped("it reads text"),
            Scalar::Tuple(_) | Scalar::Empty => untyped("it reads a tuple"),
        }
    }

    fn read(&mut self, name: &str) -> Lowered<Register> {
        if let Some(register) = self.assigned.get(name) {
            return Ok(*register);
        }
        if let Some(column) = self.variables.iter().position(|(known, _)| known == name) {
            let Some(ty) = ValueType::of_column(self.variables[column].1) else {
                return untyped(format!("the column {name} is text"));
            };
            let input = Input { column, ty };
            let index = self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                self.inputs.push(input);
                self.inputs.len() - 1
            });
            return self.emit(Operation::Input(index as u32), ty);
        }
        match self.bindings.iter().rfind(|(known, _)| known == name) {
            Some((_, value)) => {
                let (bits, ty) = self.bound(value)?;
                self.constant(bits, ty)
            }
            None => untyped("it reads an unknown variable"),
        }
    }

    fn operator(&mut self, operator: &Operator, a: Register, b: Register) -> Lowered<Register> {
        use BinaryOperation as B;
        match operator {
            Operator::Add => self.arithmetic("+", B::AddInt, B::AddFloat, a, b),
            Operator::Sub => self.arithmetic("-", B::SubInt, B::SubFloat, a, b),
            Operator::Mul => self.arithmetic("*", B::MulInt, B::MulFloat, a, b),
            Operator::Div => self.arithmetic("/", B::DivInt, B::DivFloat, a, b),
            Operator::Mod => self.arithmetic("%", B::RemInt, B::Math(Function2::Rem), a, b),
            Operator::Exp => self.pair(Function2::Pow, "^", a, b),
            Operator::Eq => self.equality(Comparison::Equal, a, b),
            Operator::Neq => self.equality(Comparison::NotEqual, a, b),
            Operator::Lt => self.comparison(Comparison::Less, a, b),
            Operator::Leq => self.comparison(Comparison::LessEqual, a, b),
            Operator::Gt => self.comparison(Comparison::Greater, a, b),
            Operator::Geq => self.comparison(Comparison::GreaterEqual, a, b),
            Operator::And | Operator::Or => {
                let (operation, sign) = if *operator == Operator::And { (B::And, "&&") } else { (B::Or, "||") };
                self.all(&[a, b], ValueType::Boolean, sign)?;
                self.binary(operation, a, b, ValueType::Boolean)
            }
            _ => untyped("it has an operator that is not for numbers"),
        }
    }

    fn arithmetic(
        &mut self,
        sign: &str,
        ints: BinaryOperation,
        floats: BinaryOperation,
        a: Register,
        b: Register,
    ) -> Lowered<Register> {
        if self.ty(a) == ValueType::Int && self.ty(b) == ValueType::Int {
            return self.binary(ints, a, b, ValueType::Int);
        }
        let (a, b) = (self.float(a, sign)?, self.float(b, sign)?);
        self.binary(floats, a, b, ValueType::Float)
    }

    fn pair(&mut self, function: Function2, name: &str, a: Register, b: Register) -> Lowered<Register> {
        let (a, b) = (self.float(a, name)?, self.float(b, name)?);
        self.binary(BinaryOperation::Math(function), a, b, ValueType::Float)
    }

    fn comparison(&mut self, comparison: Comparison, a: Register, b: Register) -> Lowered<Register> {
        if self.ty(a) == ValueType::Int && self.ty(b) == ValueType::Int {
            return self.binary(BinaryOperation::CompareInt(comparison), a, b, ValueType::Boolean);
        }
        let (a, b) = (self.float(a, "a comparison")?, self.float(b, "a comparison")?);
        self.binary(BinaryOperation::CompareFloat(comparison), a, b, ValueType::Boolean)
    }

    fn equality(&mut self, comparison: Comparison, a: Register, b: Register) -> Lowered<Register> {
        let equal = comparison == Comparison::Equal;
        let operation = match (self.ty(a), self.ty(b)) {
            (ValueType::Int, ValueType::Int) => BinaryOperation::CompareInt(comparison),
            (ValueType::Float, ValueType::Float) => BinaryOperation::CompareFloat(comparison),
            (ValueType::Boolean, ValueType::Boolean) if equal => BinaryOperation::EqualBoolean,
            (ValueType::Boolean, ValueType::Boolean) => BinaryOperation::NotEqualBoolean,
            // Values of different types are never equal.
            _ => return self.constant((!equal).into(), ValueType::Boolean),
        };
        self.binary(operation, a, b, ValueType::Boolean)
    }

    fn call(&mut self, name: &str, argument: &Node) -> Lowered<Register> {
        let mut inner = argument;
        while let (Operator::RootNode, [only]) = (inner.operator(), inner.children()) {
            inner = only;
        }
        let nodes = if *inner.operator() == Operator::Tuple { inner.children() } else { std::slice::from_ref(inner) };
        let mut arguments = Vec::with_capacity(nodes.len());
        for node in nodes {
            arguments.push(self.value(node)?);
        }
        self.function(name, &arguments)
    }

    fn function(&mut self, name: &str, arguments: &[Register]) -> Lowered<Register> {
        use BinaryOperation as B;
        use UnaryOperation as U;
        use ValueType::{Boolean, Float, Int};
        if let Some(function) = functions::find(name).and_then(functions::FunctionInfo::math_function) {
            return match (function, arguments) {
                (functions::MathFunction::One(function), [a]) => {
                    let a = self.float(*a, name)?;
                    self.unary(U::Math(function), a, Float)
                }
                (functions::MathFunction::Two(function), [a, b]) => self.pair(function, name, *a, *b),
                _ => untyped(format!("{name} has the wrong number of arguments")),
            };
        }
        let exact = |operation, ty| Some((operation, ty));
        let of_float = match name {
            "floor" => exact(U::Floor, Float),
            "ceil" => exact(U::Ceil, Float),
            "round" => exact(U::Round, Float),
            "math::sqrt" => exact(U::Sqrt, Float),
            "math::is_nan" => exact(U::IsNan, Boolean),
            "math::is_finite" => exact(U::IsFinite, Boolean),
            "math::is_infinite" => exact(U::IsInfinite, Boolean),
            "math::is_normal" => exact(U::IsNormal, Boolean),
            _ => None,
        };
        let of_ints = match name {
            "bitand" => Some(B::BitAnd),
            "bitor" => Some(B::BitOr),
            "bitxor" => Some(B::BitXor),
            "shl" => Some(B::ShiftLeft),
            "shr" => Some(B::ShiftRight),
            _ => None,
        };
        match (name, arguments) {
            (_, [a]) if of_float.is_some() => {
                let (operation, ty) = of_float.unwrap_or((U::Sqrt, Float));
                let a = self.float(*a, name)?;
                self.unary(operation, a, ty)
            }
            (_, [a, b]) if of_ints.is_some() => {
                self.all(&[*a, *b], Int, name)?;
                self.binary(of_ints.unwrap_or(B::BitAnd), *a, *b, Int)
            }
            ("bitnot", [a]) => {
                self.all(&[*a], Int, name)?;
                self.unary(U::BitNot, *a, Int)
            }
            ("math::abs", [a]) => match self.ty(*a) {
                Int => self.unary(U::AbsInt, *a, Int),
                Float => self.unary(U::AbsFloat, *a, Float),
                Boolean => untyped("math::abs of a boolean fails in every row"),
            },
            ("if", [condition, yes, no]) => {
                self.all(&[*condition], Boolean, "if")?;
                if self.ty(*yes) != self.ty(*no) {
                    return untyped(format!(
                        "the type of if depends on the row: {} or {}",
                        self.ty(*yes).name(),
                        self.ty(*no).name()
                    ));
                }
                match self.bits(*condition) {
                    Some(condition) => Ok(if condition == 0 { *no } else { *yes }),
                    None if yes == no => Ok(*yes),
                    None => self.emit(Operation::Select(*condition, *yes, *no), self.ty(*yes)),
                }
            }
            ("min" | "max", [first, _, ..]) => {
                let ty = self.ty(*first);
                if ty == Boolean || arguments.iter().any(|argument| self.ty(*argument) == Boolean) {
                    return untyped(format!("{name} of a boolean fails in every row"));
                }
                if arguments.iter().any(|argument| self.ty(*argument) != ty) {
                    return untyped(format!("the type of {name} depends on the row: it has ints and floats"));
                }
                let operation = match (name, ty) {
                    ("min", Int) => B::MinInt,
                    ("min", _) => B::MinFloat,
                    (_, Int) => B::MaxInt,
                    _ => B::MaxFloat,
                };
                arguments[1..].iter().try_fold(*first, |best, next| self.binary(operation, best, *next, ty))
            }
            _ => untyped(format!("{name} is not computed by the engine")),
        }
    }
}

/// For an operator that assigns: the operator that it applies first, if any.
fn assigned_operator(operator: &Operator) -> Option<Option<Operator>> {
    Some(match operator {
        Operator::Assign => None,
        Operator::AddAssign => Some(Operator::Add),
        Operator::SubAssign => Some(Operator::Sub),
        Operator::MulAssign => Some(Operator::Mul),
        Operator::DivAssign => Some(Operator::Div),
        Operator::ModAssign => Some(Operator::Mod),
        Operator::ExpAssign => Some(Operator::Exp),
        Operator::AndAssign => Some(Operator::And),
        Operator::OrAssign => Some(Operator::Or),
        _ => return None,
    })
}
