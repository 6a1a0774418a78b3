//! Checks what a formula names against what it may name.

use super::error::{ErrorCode, FormulaError, echo};
use super::functions::{self, Arguments, FUNCTIONS};
use super::parse::Formula;
use super::scan::Kind;
use super::tree::walk;
use crate::spec::{ColumnType, FunctionSet, SymbolPolicy};
use evalexpr::{Node, Operator};

/// Least likeness of a name that is worth suggesting: 1 is the same name.
const LIKENESS_MIN: f64 = 0.75;

/// The symbols that a formula can see.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    /// Columns, axes, draws and bindings, with their types where those are known.
    pub variables: Vec<(String, Option<ColumnType>)>,
    /// What a formula may name of them, and which functions.
    pub policy: SymbolPolicy,
}

impl Symbols {
    /// The type of a variable, where it is known.
    pub(super) fn type_of(&self, name: &str) -> Option<ColumnType> {
        self.variables.iter().find(|(known, _)| known == name).and_then(|(_, ty)| *ty)
    }
}

impl Formula {
    /// Checks that every variable is known (or assigned before it is read), that the policy allows it, and that every
    /// function is known, allowed, and called with as many arguments as it takes.
    ///
    /// Names that the formula assigns are its own: `vars_only` narrows its inputs.
    pub fn check(&self, symbols: &Symbols) -> Result<(), FormulaError> {
        let mut errors = Vec::new();
        let mut unknown: Option<(Option<usize>, &str)> = None;
        for name in self.variables() {
            match self.check_variable(name, symbols) {
                Ok(true) => {}
                // Only the first one gets its message: what is nearest to a name costs a look at every other.
                Ok(false) => {
                    let place = self.token_named(&[Kind::Name, Kind::Target], name);
                    if unknown.is_none_or(|(first, _)| place < first) {
                        unknown = Some((place, name));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        let known = symbols.variables.iter().map(|(name, _)| name.as_str());
        errors.extend(unknown.map(|(_, name)| self.unknown_variable(name, known)));
        let mut calls = Vec::new();
        walk(self.tree(), self.tokens(), |node, token| {
            if let Operator::FunctionIdentifier { identifier } = node.operator() {
                calls.push((identifier.as_str(), arguments(node), token));
            }
        });
        for (name, given, token) in calls {
            errors.extend(self.check_function(name, given, token, symbols.policy.functions).err());
        }
        let first = errors.into_iter().min_by_key(|error| (error.line, error.column));
        first.map_or(Ok(()), Err)
    }

    /// Whether a variable that the formula reads is known.
    fn check_variable(&self, name: &str, symbols: &Symbols) -> Result<bool, FormulaError> {
        let known = symbols.variables.iter().find(|(known, _)| known == name);
        let token = self.token_named(&[Kind::Name, Kind::Target], name);
        if let Some(allowed) = &symbols.policy.vars_only {
            let Some((_, wanted)) = allowed.iter().find(|(allowed, _)| allowed == name) else {
                let allowed = list(allowed.iter().map(|(name, _)| name.as_str()));
                let message = format!("the variable {} is not allowed here, only {allowed}", echo(name));
                return Err(self.error_at(token, ErrorCode::VariableNotAllowed, message));
            };
            if let (Some(wanted), Some((_, Some(actual)))) = (wanted, known)
                && wanted != actual
            {
                let message =
                    format!("the variable {} must be {}, but is {}", echo(name), wanted.name(), actual.name());
                return Err(self.error_at(token, ErrorCode::WrongVariableType, message));
            }
        }
        Ok(known.is_some())
    }

    fn check_function(
        &self,
        name: &str,
        given: Option<usize>,
        token: Option<usize>,
        allowed: FunctionSet,
    ) -> Result<(), FormulaError> {
        let Some(info) = functions::find(name) else { return Err(self.unknown_function(token)) };
        let (is_allowed, set) = match allowed {
            FunctionSet::All => (true, ""),
            FunctionSet::Math => (info.math, "functions of the set math may be called (--functions math)"),
            FunctionSet::None => (false, "operators may be used (--functions none)"),
        };
        if !is_allowed {
            let message = format!("{name} is not allowed here: only {set}");
            return Err(self.error_at(token, ErrorCode::FunctionNotAllowed, message));
        }
        let fits = match (info.arguments, given) {
            (_, None) | (Arguments::Any, Some(_)) => true,
            (Arguments::One, Some(given)) => given == 1,
            (Arguments::Exactly(count), Some(given)) => given == count,
            (Arguments::Between(low, high), Some(given)) => (low..=high).contains(&given),
            (Arguments::AtLeast(low), Some(given)) => given >= low,
        };
        if fits {
            Ok(())
        } else {
            let message = info.count_message(given.unwrap_or(0));
            Err(self.error_at(token, ErrorCode::WrongArgumentCount, message))
        }
    }

    /// The error for a variable that is not there, with the nearest one that is.
    pub(super) fn unknown_variable<'n>(&self, name: &str, known: impl Iterator<Item = &'n str>) -> FormulaError {
        let known: Vec<&str> = known.collect();
        let hint = if name.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
            "numbers are written as in 1000, 2.5, 1e-3 or 0x1f".into()
        } else if name.starts_with('\'') {
            "strings are written in double quotes".into()
        } else if let Some(near) = nearest(name, known.iter().copied()) {
            format!("did you mean {}?", echo(near))
        } else if functions::find(name).is_some() {
            format!("{name} is a function: write {name}(...)")
        } else if known.is_empty() {
            "there are no variables here: give it a value".into()
        } else {
            format!("known here: {}", list(known.iter().copied()))
        };
        let token = self.token_named(&[Kind::Name, Kind::Target], name);
        self.error_at(token, ErrorCode::UnknownVariable, format!("unknown variable {}: {hint}", echo(name)))
    }

    /// The error for a call of something that is no function, with the nearest one that is.
    pub(super) fn unknown_function(&self, token: Option<usize>) -> FormulaError {
        let name = token.and_then(|token| self.tokens().get(token)).map_or("", |token| token.name.as_str());
        let names = || FUNCTIONS.iter().map(|info| info.name);
        let in_module = names().find(|known| known.rsplit("::").next() == Some(name));
        let hint = if let Some(near) = in_module.or_else(|| nearest(name, names())) {
            format!("did you mean {near}?")
        } else if functions::is_number_like(name) {
            "an operator is missing after it".into()
        } else {
            "see the list of functions, and write * to multiply".into()
        };
        self.error_at(token, ErrorCode::UnknownFunction, format!("unknown function {}: {hint}", echo(name)))
    }
}

/// How many arguments a call gives, where that shows: a tuple's elements, or one literal or operator.
fn arguments(call: &Node) -> Option<usize> {
    let mut argument = call.children().first()?;
    while argument.operator() == &Operator::RootNode {
        match argument.children().first() {
            Some(only) => argument = only,
            None => return Some(0),
        }
    }
    match argument.operator() {
        Operator::Tuple => Some(argument.children().len()),
        Operator::VariableIdentifierRead { .. } | Operator::FunctionIdentifier { .. } | Operator::Chain => None,
        _ => Some(1),
    }
}

/// The name most like another one, if it is near.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Likeness costs the product of both lengths.
    if name.len() > 64 {
        return None;
    }
    let folded = name.to_lowercase();
    known
        .filter(|known| known.len() <= 64)
        .map(|known| (strsim::normalized_damerau_levenshtein(&folded, &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// Names in a message: the first few.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.collect();
    let mut text = names.iter().take(SHOWN).map(|name| echo(name)).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    if text.is_empty() { "none".into() } else { text }
}
