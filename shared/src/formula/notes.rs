//! What surprises people in a formula, where its types are known.

use super::check::Symbols;
use super::error::echo;
use super::functions;
use super::parse::Formula;
use super::scan;
use super::stack::with_levels;
use super::tree::Places;
use crate::spec::ColumnType;
use evalexpr::{Node, Operator, Value};

/// Notes a formula: more would not be read.
const NOTES_MAX: usize = 3;

impl Formula {
    /// A few lines for people about what the formula does and may not be meant to: integer division, chained `^`,
    /// comparison of an int with a float, columns that a literal hides.
    pub fn notes(&self, symbols: &Symbols) -> Vec<String> {
        let mut notes = Notes { formula: self, symbols, places: Places::new(self.tokens()), found: Vec::new() };
        for (name, _) in &symbols.variables {
            if scan::is_literal(name) && self.mentions_literal(name) {
                let name = echo(name);
                notes.add(format!(
                    "{name} in the formula is a literal, not the variable of that name: rename the variable"
                ));
            }
        }
        with_levels(self.tree().depth(), || notes.visit(self.tree().root()));
        notes.found
    }

    fn mentions_literal(&self, name: &str) -> bool {
        let literals = self.tokens().iter().filter(|token| token.kind == scan::Kind::Literal);
        literals.into_iter().any(|token| self.text().get(token.start..token.end) == Some(name))
    }
}

struct Notes<'a> {
    formula: &'a Formula,
    symbols: &'a Symbols,
    places: Places<'a>,
    found: Vec<String>,
}

impl Notes<'_> {
    fn add(&mut self, note: String) {
        if self.found.len() < NOTES_MAX && !self.found.contains(&note) {
            self.found.push(note);
        }
    }

    /// The column of a token, for a note.
    fn place(&self, token: Option<usize>) -> String {
        let Some(token) = token.and_then(|token| self.formula.tokens().get(token)) else { return String::new() };
        let column = self.formula.text().get(..token.start).map_or(0, |before| before.chars().count()) + 1;
        format!(" at character {column}")
    }

    /// Adds notes about a node and gives its type, where that is known.
    fn visit(&mut self, node: &Node) -> Option<ColumnType> {
        let operator = node.operator();
        let children = node.children();
        match (operator, children) {
            (Operator::Const { value }, _) => type_of(value),
            (Operator::VariableIdentifierRead { identifier }, _) => {
                let own = self.formula.assigned().contains(identifier);
                if own { None } else { self.symbols.type_of(identifier) }
            }
            (Operator::FunctionIdentifier { identifier }, [argument]) => {
                self.places.take(operator);
                self.visit(argument);
                functions::find(identifier).and_then(|info| info.result)
            }
            (Operator::Neg | Operator::Not, [operand]) => {
                self.places.take(operator);
                let ty = self.visit(operand);
                if operator == &Operator::Not { Some(ColumnType::Boolean) } else { ty }
            }
            (Operator::RootNode, [only]) => self.visit(only),
            (Operator::RootNode | Operator::Tuple | Operator::Chain, _) => {
                let last = children.iter().map(|child| self.visit(child)).last().flatten();
                if operator == &Operator::Chain { last } else { None }
            }
            (_, [left, right]) => {
                let left_type = self.visit(left);
                let token = self.places.take(operator);
                let right_type = self.visit(right);
                self.binary(node, left_type, right_type, token)
            }
            _ => None,
        }
    }

    fn binary(
        &mut self,
        node: &Node,
        left: Option<ColumnType>,
        right: Option<ColumnType>,
        token: Option<usize>,
    ) -> Option<ColumnType> {
        use ColumnType::{Boolean, Float, Int};
        let both_int = (left, right) == (Some(Int), Some(Int));
        match node.operator() {
            Operator::Div if both_int => {
                let place = self.place(token);
                self.add(format!("/{place} divides two ints and drops the fraction: write 2.0 for 2 to keep it"));
                Some(Int)
            }
            Operator::Exp => {
                if node.children().first().is_some_and(|left| left.operator() == &Operator::Exp) {
                    let place = self.place(token);
                    self.add(format!("^{place} works from the left: 2^3^2 is (2^3)^2, which is 64"));
                }
                Some(Float)
            }
            Operator::Eq | Operator::Neq => {
                if matches!((left, right), (Some(Int), Some(Float)) | (Some(Float), Some(Int))) {
                    let place = self.place(token);
                    self.add(format!("an int and a float are never equal{place}: 1 == 1.0 is false"));
                }
                Some(Boolean)
            }
            Operator::Gt | Operator::Lt | Operator::Geq | Operator::Leq | Operator::And | Operator::Or => Some(Boolean),
            Operator::Add if (left, right) == (Some(ColumnType::String), Some(ColumnType::String)) => left,
            Operator::Add | Operator::Sub | Operator::Mul | Operator::Div | Operator::Mod => match (left?, right?) {
                (Int, Int) => Some(Int),
                (Int | Float, Int | Float) => Some(Float),
                _ => None,
            },
            _ => None,
        }
    }
}

fn type_of(value: &Value) -> Option<ColumnType> {
    match value {
        Value::Int(_) => Some(ColumnType::Int),
        Value::Float(_) => Some(ColumnType::Float),
        Value::Boolean(_) => Some(ColumnType::Boolean),
        Value::String(_) => Some(ColumnType::String),
        Value::Tuple(_) | Value::Empty => None,
    }
}
