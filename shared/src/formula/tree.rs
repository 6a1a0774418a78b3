//! evalexpr's tree, owned so that dropping it never recurses, and facts about it.

use super::scan::{Kind, Token};
use evalexpr::{Node, Operator};
use std::mem;

/// A tree whose drop is iterative: a deep one may be dropped on any stack.
pub(super) struct Tree {
    root: Node,
    depth: usize,
    nodes: usize,
}

impl Tree {
    /// Takes a tree and measures it.
    pub(super) fn new(root: Node) -> Self {
        let (mut depth, mut nodes) = (0, 0);
        let mut pending = vec![(&root, 1)];
        while let Some((node, level)) = pending.pop() {
            nodes += 1;
            depth = depth.max(level);
            pending.extend(node.children().iter().map(|child| (child, level + 1)));
        }
        Self { root, depth, nodes }
    }

    /// The root node.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// Levels.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Nodes.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let mut pending = mem::take(self.root.children_mut());
        while let Some(mut node) = pending.pop() {
            pending.append(node.children_mut());
        }
    }
}

/// The token that a node was parsed from; `None` for parentheses, separators and leaves that need no place.
pub(super) fn kind_of(operator: &Operator) -> Option<Kind> {
    Some(match operator {
        Operator::Add => Kind::Plus,
        Operator::Sub => Kind::Minus,
        Operator::Neg => Kind::Negate,
        Operator::Mul => Kind::Star,
        Operator::Div => Kind::Slash,
        Operator::Mod => Kind::Percent,
        Operator::Exp => Kind::Hat,
        Operator::Eq => Kind::Equal,
        Operator::Neq => Kind::NotEqual,
        Operator::Gt => Kind::Greater,
        Operator::Lt => Kind::Less,
        Operator::Geq => Kind::GreaterEqual,
        Operator::Leq => Kind::LessEqual,
        Operator::And => Kind::And,
        Operator::Or => Kind::Or,
        Operator::Not => Kind::Not,
        Operator::Assign => Kind::Assign,
        Operator::AddAssign => Kind::PlusAssign,
        Operator::SubAssign => Kind::MinusAssign,
        Operator::MulAssign => Kind::StarAssign,
        Operator::DivAssign => Kind::SlashAssign,
        Operator::ModAssign => Kind::PercentAssign,
        Operator::ExpAssign => Kind::HatAssign,
        Operator::AndAssign => Kind::AndAssign,
        Operator::OrAssign => Kind::OrAssign,
        Operator::FunctionIdentifier { .. } => Kind::Function,
        Operator::VariableIdentifierRead { .. } => Kind::Name,
        Operator::VariableIdentifierWrite { .. } => Kind::Target,
        Operator::RootNode | Operator::Tuple | Operator::Chain | Operator::Const { .. } => return None,
    })
}

/// How many values an operator takes; `None` where any number will do.
pub(super) fn arity(operator: &Operator) -> Option<usize> {
    match operator {
        Operator::RootNode | Operator::Tuple | Operator::Chain => None,
        Operator::Const { .. } | Operator::VariableIdentifierRead { .. } | Operator::VariableIdentifierWrite { .. } => {
            Some(0)
        }
        Operator::Neg | Operator::Not | Operator::FunctionIdentifier { .. } => Some(1),
        _ => Some(2),
    }
}

/// Whether an operator assigns.
pub(super) fn assigns(operator: &Operator) -> bool {
    kind_of(operator).is_some_and(Kind::is_assignment)
}

/// Finds the token of each node while a tree is walked in the order of its text: left operand, operator, right operand.
///
/// The operands of a node stand in the tree in the order of the text, so the n-th node of a kind in such a walk is the
/// n-th token of that kind.
pub(super) struct Places<'a> {
    tokens: &'a [Token],
    next: Vec<(Kind, usize)>,
}

impl<'a> Places<'a> {
    /// Begins a walk.
    pub(super) fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, next: Vec::new() }
    }

    /// Index of the token of the next node with this operator.
    pub(super) fn take(&mut self, operator: &Operator) -> Option<usize> {
        let kind = kind_of(operator)?;
        let entry = match self.next.iter().position(|(seen, _)| *seen == kind) {
            Some(entry) => entry,
            None => {
                self.next.push((kind, 0));
                self.next.len() - 1
            }
        };
        let from = self.next[entry].1;
        let found = from + self.tokens.get(from..)?.iter().position(|token| token.kind == kind)?;
        self.next[entry].1 = found + 1;
        Some(found)
    }
}

/// Visits every node in the order of its text, with the index of its token.
pub(super) fn walk<'t>(tree: &'t Tree, tokens: &[Token], mut visit: impl FnMut(&'t Node, Option<usize>)) {
    enum Step<'t> {
        Enter(&'t Node),
        Visit(&'t Node),
    }
    let mut places = Places::new(tokens);
    let mut steps = vec![Step::Enter(tree.root())];
    while let Some(step) = steps.pop() {
        match step {
            Step::Visit(node) => visit(node, places.take(node.operator())),
            Step::Enter(node) => {
                let infix = arity(node.operator()) == Some(2);
                if !infix {
                    steps.extend(node.children().iter().rev().map(Step::Enter));
                    steps.push(Step::Visit(node));
                } else {
                    steps.extend(node.children().iter().skip(1).rev().map(Step::Enter));
                    steps.push(Step::Visit(node));
                    steps.extend(node.children().iter().take(1).map(Step::Enter));
                }
            }
        }
    }
}
