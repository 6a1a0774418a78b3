//! Literals: what `-v name=value` and lists of values take.

use super::error::{ErrorCode, FormulaError, echo};
use super::evaluate::{Evaluator, into_scalar};
use super::limits::FormulaLimits;
use super::parse::Formula;
use super::scan::Kind;
use crate::spec::Scalar;
use evalexpr::Value;

/// Reads a formula literal: an int, a float, a boolean, a string in double quotes, a negative number, or a tuple of
/// those in parentheses.
pub fn parse_literal(text: &str) -> Result<Scalar, FormulaError> {
    let limits = FormulaLimits::default();
    let trimmed = text.trim();
    // The least int has no positive counterpart to negate.
    if trimmed.starts_with('-')
        && let Ok(int) = trimmed.parse::<i64>()
    {
        limits.check_bytes(text)?;
        return Ok(into_scalar(Value::Int(int)));
    }
    let formula = Formula::parse(text, &limits)?;
    let tokens = formula.tokens();
    let mut negated = false;
    let mut values = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let fits = match token.kind {
            Kind::Literal => true,
            Kind::Text => !negated,
            Kind::Negate => !negated,
            // An empty element is no literal, and neither is a tuple negated.
            Kind::Open | Kind::Close | Kind::Comma => {
                let before = at.checked_sub(1).map(|before| tokens[before].kind);
                !negated && (token.kind == Kind::Open || !matches!(before, None | Some(Kind::Open | Kind::Comma)))
            }
            _ => false,
        };
        if !fits {
            return Err(not_a_literal(text, &formula, Some(at)));
        }
        negated = token.kind == Kind::Negate;
        values += usize::from(matches!(token.kind, Kind::Literal | Kind::Text));
    }
    if values == 0 || tokens.last().is_some_and(|token| token.kind == Kind::Comma) {
        return Err(not_a_literal(text, &formula, tokens.len().checked_sub(1)));
    }
    let value = Evaluator::new(&formula, &[], &[], &limits).evaluate_once()?;
    match value {
        Scalar::Empty => Err(not_a_literal(text, &formula, None)),
        value => Ok(value),
    }
}

fn not_a_literal(text: &str, formula: &Formula, token: Option<usize>) -> FormulaError {
    let message = format!(
        "{:?} is no literal: write a number, true, false, \"text\" in double quotes, or a tuple of those in parentheses",
        echo(text)
    );
    formula.error_at(token, ErrorCode::NotALiteral, message)
}
