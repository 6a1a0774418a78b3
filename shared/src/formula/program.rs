//! The tree that evalexpr evaluates: the parsed one, rewritten so that no operation of it is unbounded or depends on
//! the platform.
//!
//! - A variable's name becomes the code of its slot, a function's the code of its definition and of its place.
//! - `^` and `^=` become calls of our power function: evalexpr's own calls the platform's.
//! - Parentheses with one value inside vanish: evalexpr copies the value for each.
//! - In metered programs `+` and `+=` become calls that check the size of strings before they are built, and tuples and
//!   chains that are not arguments themselves are passed through a function that meters them.

use super::functions::{self, Builtin, Code};
use super::parse::Formula;
use super::stack::with_levels;
use super::tree::{Places, Tree};
use evalexpr::{Node, Operator, Value};
use std::mem;

/// A rewritten tree.
pub(super) struct Program {
    tree: Tree,
    scalar_only: bool,
}

impl Program {
    /// For rows whose inputs are numbers and booleans.
    pub(super) fn plain(formula: &Formula) -> Self {
        Self::build(formula, false)
    }

    /// For all rows.
    pub(super) fn metered(formula: &Formula) -> Self {
        Self::build(formula, true)
    }

    /// The tree to evaluate.
    pub(super) fn root(&self) -> &Node {
        self.tree.root()
    }

    /// Levels of the tree.
    pub(super) fn depth(&self) -> usize {
        self.tree.depth()
    }

    /// Whether, from scalar inputs, the formula makes nothing but scalars and tuples of scalars that are arguments.
    pub(super) fn scalar_only(&self) -> bool {
        self.scalar_only
    }

    fn build(formula: &Formula, metered: bool) -> Self {
        let tree = formula.tree();
        // A rewritten level has at most three: the call, its argument tuple, the meter.
        with_levels(tree.depth() * 3, || {
            let mut root = tree.root().clone();
            let children = mem::take(root.children_mut());
            let blank = root.clone();
            *root.children_mut() = children;
            let mut rewriter =
                Rewriter { formula, places: Places::new(formula.tokens()), blank, metered, scalar_only: true };
            let root = rewriter.node(root, false);
            Self { scalar_only: rewriter.scalar_only, tree: Tree::new(root) }
        })
    }
}

struct Rewriter<'a> {
    formula: &'a Formula,
    places: Places<'a>,
    /// A node without children, to build others from: evalexpr's constructor is private.
    blank: Node,
    metered: bool,
    scalar_only: bool,
}

impl Rewriter<'_> {
    /// Rewrites a node; `argument` where it is the argument of a function.
    fn node(&mut self, mut node: Node, argument: bool) -> Node {
        let mut children = mem::take(node.children_mut());
        match node.operator() {
            Operator::RootNode if children.len() == 1 => match children.pop() {
                Some(only) => self.node(only, argument),
                None => node,
            },
            Operator::RootNode | Operator::Tuple | Operator::Chain => {
                let operator = node.operator().clone();
                self.scalar_only &= operator != Operator::Tuple || argument;
                let children = children.into_iter().map(|child| self.node(child, false)).collect();
                let rewritten = self.make(operator.clone(), children);
                if self.metered && !argument && operator != Operator::RootNode {
                    self.call(Code::builtin(Builtin::Meter), None, rewritten)
                } else {
                    rewritten
                }
            }
            Operator::Const { value } => {
                self.scalar_only &= !matches!(value, Value::String(_));
                node
            }
            Operator::VariableIdentifierRead { identifier } => {
                let identifier = self.slot(identifier);
                self.make(Operator::VariableIdentifierRead { identifier }, children)
            }
            Operator::VariableIdentifierWrite { identifier } => {
                let identifier = self.slot(identifier);
                self.make(Operator::VariableIdentifierWrite { identifier }, children)
            }
            Operator::FunctionIdentifier { identifier } => {
                let place = self.places.take(node.operator());
                let found = functions::find(identifier);
                self.scalar_only &= found.is_some_and(|info| info.from_scalars);
                let code = functions::code(identifier);
                let child = children.pop().unwrap_or_else(|| self.blank.clone());
                let child = self.node(child, true);
                self.call(code, place, child)
            }
            Operator::Neg | Operator::Not => {
                let children = children.into_iter().map(|child| self.node(child, false)).collect();
                self.make(node.operator().clone(), children)
            }
            _ => self.binary(node.operator().clone(), children),
        }
    }

    fn binary(&mut self, operator: Operator, children: Vec<Node>) -> Node {
        let mut children = children.into_iter();
        let left = children.next().map(|child| self.node(child, false));
        let place = self.places.take(&operator);
        let right = children.next().map(|child| self.node(child, false));
        let (Some(left), Some(right)) = (left, right) else { return self.blank.clone() };
        let builtin = match operator {
            Operator::Exp => Builtin::Power,
            Operator::Add if self.metered => Builtin::Add,
            // The variable is read after the right side has been evaluated, as evalexpr does.
            Operator::ExpAssign => return self.assign(Builtin::PowerOnto, place, left, right),
            Operator::AddAssign if self.metered => return self.assign(Builtin::AddOnto, place, left, right),
            _ => return self.make(operator, vec![left, right]),
        };
        let arguments = self.make(Operator::Tuple, vec![left, right]);
        self.call(Code::builtin(builtin), place, arguments)
    }

    /// `target op= right` as `target = builtin(right, target)`.
    fn assign(&mut self, builtin: Builtin, place: Option<usize>, left: Node, right: Node) -> Node {
        let identifier = match left.operator() {
            Operator::VariableIdentifierWrite { identifier } => identifier.clone(),
            _ => String::new(),
        };
        let current = self.make(Operator::VariableIdentifierRead { identifier }, Vec::new());
        let arguments = self.make(Operator::Tuple, vec![right, current]);
        let value = self.call(Code::builtin(builtin), place, arguments);
        self.make(Operator::Assign, vec![left, value])
    }

    fn call(&self, code: Code, place: Option<usize>, argument: Node) -> Node {
        self.make(Operator::FunctionIdentifier { identifier: code.encode(place) }, vec![argument])
    }

    fn make(&self, operator: Operator, children: Vec<Node>) -> Node {
        let mut node = self.blank.clone();
        *node.operator_mut() = operator;
        *node.children_mut() = children;
        node
    }

    fn slot(&self, name: &str) -> String {
        functions::encode(self.formula.names().slot(name).unwrap_or(usize::MAX)).into()
    }
}
