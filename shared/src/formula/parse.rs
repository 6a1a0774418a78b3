//! A parsed formula: the text, its tokens, evalexpr's tree, and what it names.

use super::error::{ErrorCode, FormulaError, echo};
use super::grammar;
use super::limits::FormulaLimits;
use super::program::Program;
use super::scan::{self, Kind, Token};
use super::stack::with_levels;
use super::tree::{Tree, arity, assigns, walk};
use evalexpr::{EvalexprError, Node, Operator, Value};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A formula that parses and keeps to its limits. Cheap to clone; may be dropped on any stack.
#[derive(Clone)]
pub struct Formula {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    text: String,
    tokens: Vec<Token>,
    tree: Tree,
    names: Names,
    plain: OnceLock<Program>,
    metered: OnceLock<Program>,
}

/// What a formula names. Each variable has a slot: its index in `slots`.
#[derive(Default)]
pub(super) struct Names {
    /// Every variable, in the order of first mention.
    pub(super) slots: Vec<String>,
    /// Variables that are read before the formula assigns them.
    pub(super) inputs: Vec<String>,
    /// Variables that the formula assigns.
    pub(super) assigned: Vec<String>,
    /// Functions, in the order of first mention.
    pub(super) functions: Vec<String>,
}

impl Formula {
    /// Parses a formula within limits. What it names is not looked at: see [`Formula::check`].
    pub fn parse(text: &str, limits: &FormulaLimits) -> Result<Self, FormulaError> {
        let limits = limits.effective();
        let tokens = scan::scan(text, &limits)?;
        grammar::check(text, &tokens, &limits)?;
        // A token deepens the parser's trees, finished or half built, by two levels at most, and dropping a level takes a
        // small part of what evaluating it does.
        let levels = tokens.len() + 2;
        let tree = with_levels(levels, || evalexpr::build_operator_tree(text).map(Tree::new));
        let tree = tree.map_err(|error| refused(text, &error))?;
        check_size(&tree, &limits)?;
        check_nodes(text, &tokens, &tree, &limits)?;
        let names = Names::of(&tree);
        Ok(Self {
            inner: Arc::new(Inner {
                text: text.into(),
                tokens,
                tree,
                names,
                plain: OnceLock::new(),
                metered: OnceLock::new(),
            }),
        })
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// The variables that the formula needs: read before it assigns them, in the order of their first use.
    pub fn variables(&self) -> &[String] {
        &self.inner.names.inputs
    }

    /// The functions that it calls, known or not, in the order of their first use.
    pub fn functions(&self) -> &[String] {
        &self.inner.names.functions
    }

    /// Whether it assigns variables.
    pub fn assigns(&self) -> bool {
        !self.inner.names.assigned.is_empty()
    }

    /// The variables that it assigns.
    pub fn assigned(&self) -> &[String] {
        &self.inner.names.assigned
    }

    /// Whether, from inputs that are numbers and booleans, it makes nothing else: its cost then is that of its nodes.
    pub fn is_scalar(&self) -> bool {
        self.plain().is_some()
    }

    /// Bytes of memory that it may come to take, about.
    pub fn memory_bytes(&self) -> usize {
        let inner = &self.inner;
        // The parsed tree and the two that are made of it, whose nodes may be called through two more each.
        inner.text.len() + size_of_val(inner.tokens.as_slice()) + inner.tree.nodes() * size_of::<Node>() * 5
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.inner.tokens
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.inner.tree
    }

    pub(super) fn names(&self) -> &Names {
        &self.inner.names
    }

    /// The tree as evalexpr evaluates it where every value is a number or boolean, or a tuple of those as arguments;
    /// `None` where the formula itself makes strings or other tuples.
    pub(super) fn plain(&self) -> Option<&Program> {
        let program = self.inner.plain.get_or_init(|| Program::plain(self));
        program.scalar_only().then_some(program)
    }

    /// The tree with every operation metered that may copy strings or tuples.
    pub(super) fn metered(&self) -> &Program {
        self.inner.metered.get_or_init(|| Program::metered(self))
    }

    /// An error at one of the formula's tokens.
    pub(super) fn error_at(&self, token: Option<usize>, code: ErrorCode, message: String) -> FormulaError {
        self.placed(FormulaError::new(code, message), token)
    }

    /// The error, placed at a token where that is known.
    pub(super) fn placed(&self, error: FormulaError, token: Option<usize>) -> FormulaError {
        match token.and_then(|token| self.inner.tokens.get(token)) {
            Some(token) => error.with_place(&self.inner.text, token.start),
            None => error,
        }
    }

    /// The first token that reads a variable or calls a function of this name.
    pub(super) fn token_named(&self, kinds: &[Kind], name: &str) -> Option<usize> {
        self.inner.tokens.iter().position(|token| kinds.contains(&token.kind) && token.name == name)
    }

    /// The only token of these kinds; `None` where there are several.
    pub(super) fn only_token(&self, kinds: &[Kind]) -> Option<usize> {
        let mut found = self.inner.tokens.iter().enumerate().filter(|(_, token)| kinds.contains(&token.kind));
        let (first, _) = found.next()?;
        found.next().is_none().then_some(first)
    }
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Formula").field(&self.inner.text).finish()
    }
}

impl Names {
    /// Collects names in the order of evaluation, which is strict and left to right.
    fn of(tree: &Tree) -> Self {
        enum Step<'t> {
            Enter(&'t Node),
            Leave(&'t Node),
        }
        let mut names = Self::default();
        let mut steps = vec![Step::Enter(tree.root())];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter(node) => {
                    match node.operator() {
                        Operator::FunctionIdentifier { identifier } => note(&mut names.functions, identifier),
                        Operator::VariableIdentifierRead { identifier } => names.read(identifier),
                        Operator::VariableIdentifierWrite { identifier } => note(&mut names.slots, identifier),
                        _ => {}
                    }
                    steps.push(Step::Leave(node));
                    steps.extend(node.children().iter().rev().map(Step::Enter));
                }
                Step::Leave(node) => {
                    if let Some(target) = target(node) {
                        if node.operator() != &Operator::Assign {
                            names.read(target);
                        }
                        note(&mut names.assigned, target);
                    }
                }
            }
        }
        names
    }

    fn read(&mut self, name: &str) {
        note(&mut self.slots, name);
        if !self.assigned.iter().any(|assigned| assigned == name) {
            note(&mut self.inputs, name);
        }
    }

    /// The slot of a variable.
    pub(super) fn slot(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot == name)
    }
}

/// Adds a name that is not there yet.
fn note(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.into());
    }
}

/// The variable that a node assigns.
pub(super) fn target(node: &Node) -> Option<&str> {
    match (assigns(node.operator()), node.children().first().map(Node::operator)) {
        (true, Some(Operator::VariableIdentifierWrite { identifier })) => Some(identifier),
        _ => None,
    }
}

fn check_size(tree: &Tree, limits: &FormulaLimits) -> Result<(), FormulaError> {
    if tree.nodes() > limits.nodes_max {
        let message = format!(
            "the formula has {} nodes where {} are allowed (nodes_max): split it",
            tree.nodes(),
            limits.nodes_max
        );
        return Err(FormulaError::new(ErrorCode::TooManyNodes, message));
    }
    if tree.depth() > limits.tree_depth_max {
        let message = format!(
            "the formula is {} operators deep where {} are allowed (tree_depth_max): put parts of a long chain in \
             parentheses, as in (a + b) + (c + d)",
            tree.depth(),
            limits.tree_depth_max
        );
        return Err(FormulaError::new(ErrorCode::TreeTooDeep, message));
    }
    Ok(())
}

/// Refuses trees that evalexpr builds but cannot evaluate, assignments to computed names, and literals that are too
/// large.
fn check_nodes(text: &str, tokens: &[Token], tree: &Tree, limits: &FormulaLimits) -> Result<(), FormulaError> {
    let mut found: Option<FormulaError> = None;
    let (mut targets, mut assignments) = (0_usize, 0_usize);
    walk(tree, tokens, |node, token| {
        let error = |code, message: String| {
            let error = FormulaError::new(code, message);
            match token.and_then(|token| tokens.get(token)) {
                Some(token) => error.with_place(text, token.start),
                None => error,
            }
        };
        let operator = node.operator();
        let wrong_count = arity(operator).is_some_and(|count| count != node.children().len());
        let wrong_root = operator == &Operator::RootNode && node.children().len() > 1;
        if wrong_count || wrong_root {
            found.get_or_insert_with(|| {
                error(ErrorCode::Malformed, "this operator does not get its operands: add parentheses".into())
            });
        }
        targets += usize::from(matches!(operator, Operator::VariableIdentifierWrite { .. }));
        if assigns(operator) {
            assignments += usize::from(target(node).is_some());
            if target(node).is_none() {
                found.get_or_insert_with(|| {
                    error(ErrorCode::InvalidAssignment, "left of this assignment stands no single name".into())
                });
            }
        }
        if let Operator::Const { value: Value::String(string) } = operator
            && string.len() > limits.value_bytes_max
        {
            found.get_or_insert_with(|| {
                let message = format!(
                    "a string literal has {} bytes where {} are allowed (value_bytes_max)",
                    string.len(),
                    limits.value_bytes_max
                );
                error(ErrorCode::ValueTooLarge, message)
            });
        }
    });
    if found.is_none() && targets != assignments {
        let message = "an assignment does not stand by itself: put it in parentheses".into();
        found = Some(FormulaError::new(ErrorCode::InvalidAssignment, message));
    }
    found.map_or(Ok(()), Err)
}

/// What evalexpr's parser refused although the order of the tokens was right.
fn refused(text: &str, error: &EvalexprError) -> FormulaError {
    let message = format!("{} does not parse: {}", echo(text), echo(&error.to_string()));
    FormulaError::new(ErrorCode::Malformed, message)
}
