//! What a typed formula costs a row, by estimate: enough to choose a tier, to size shards and to tell users.

use super::{BinaryOperation, Operation, TypedFormula, UnaryOperation};
use crate::formula::parse::Formula;
use crate::math::Function2;

/// Nanoseconds a row of an operation over blocks that are in cache, on a machine of 2020s make with 256-bit vectors.
const SIMPLE_NS: f64 = 0.15;
const DIVIDE_NS: f64 = 0.6;
const CHECKED_NS: f64 = 0.4;
const INT_DIVIDE_NS: f64 = 3.0;
const FUNCTION_NS: f64 = 2.5;
const POWER_NS: f64 = 8.0;
const REMAINDER_NS: f64 = 10.0;
/// Nanoseconds of one node of evalexpr's tree.
const TREE_NODE_NS: f64 = 25.0;

impl TypedFormula {
    /// Nanoseconds a row, over blocks.
    pub fn cost_ns(&self) -> f64 {
        self.instructions().iter().map(|instruction| cost_of(instruction.operation)).sum()
    }
}

impl Formula {
    /// Nanoseconds a row where evalexpr evaluates it.
    pub fn tree_cost_ns(&self) -> f64 {
        self.tree().nodes() as f64 * TREE_NODE_NS
    }
}

fn cost_of(operation: Operation) -> f64 {
    use BinaryOperation as B;
    use UnaryOperation as U;
    match operation {
        Operation::Constant(_) => 0.0,
        Operation::Unary(U::Math(_), _) => FUNCTION_NS,
        Operation::Unary(U::Sqrt, _) | Operation::Binary(B::DivFloat, ..) => DIVIDE_NS,
        Operation::Binary(B::DivInt | B::RemInt, ..) => INT_DIVIDE_NS,
        Operation::Binary(B::Math(Function2::Pow | Function2::Log), ..) => POWER_NS,
        Operation::Binary(B::Math(Function2::Rem), ..) => REMAINDER_NS,
        Operation::Binary(B::Math(_), ..) => 2.0 * FUNCTION_NS,
        other if other.can_fail() => CHECKED_NS,
        _ => SIMPLE_NS,
    }
}
