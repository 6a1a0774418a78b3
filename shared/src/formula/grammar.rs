//! Checks the order of a formula's tokens, so that errors have a place and the parser is given nothing that hurts it.
//!
//! Iterative, linear in the tokens. What it lets through is then parsed by evalexpr, whose word is final.

use super::error::{ErrorCode, FormulaError, echo};
use super::limits::FormulaLimits;
use super::scan::{Kind, Token};

/// One open parenthesis (or the formula as a whole).
struct Level {
    /// Its token; `None` for the formula as a whole.
    open: Option<usize>,
    /// Whether a comma stands in the current element of a chain.
    comma: bool,
    /// Assignments since the last separator.
    assignments: usize,
}

impl Level {
    fn new(open: Option<usize>) -> Self {
        Self { open, comma: false, assignments: 0 }
    }
}

/// Refuses tokens that nest too deep, run too long, or stand where they cannot.
pub(super) fn check(text: &str, tokens: &[Token], limits: &FormulaLimits) -> Result<(), FormulaError> {
    let mut walk = Walk { text, tokens, limits, levels: vec![Level::new(None)], wants: Wants::Optional, prefix_run: 0 };
    for at in 0..tokens.len() {
        walk.token(at)?;
    }
    walk.end()
}

/// What may come next.
#[derive(Clone, Copy, PartialEq)]
enum Wants {
    /// A value must follow.
    Value,
    /// A value may follow, or a separator, or the end.
    Optional,
    /// An operator, a separator or the end.
    Operator,
}

struct Walk<'a> {
    text: &'a str,
    tokens: &'a [Token],
    limits: &'a FormulaLimits,
    levels: Vec<Level>,
    wants: Wants,
    /// Unary operators and functions since the last other token.
    prefix_run: usize,
}

impl Walk<'_> {
    fn token(&mut self, at: usize) -> Result<(), FormulaError> {
        let kind = self.tokens[at].kind;
        match kind {
            Kind::Negate | Kind::Not | Kind::Function => {
                self.value_may_begin(at)?;
                self.prefix_run += 1;
                if self.prefix_run > self.limits.run_max {
                    return Err(
                        self.run_too_long(at, "unary operators or functions without parentheses stand in a row")
                    );
                }
                self.wants = Wants::Value;
                return Ok(());
            }
            Kind::Name | Kind::Target | Kind::Literal | Kind::Text => {
                self.value_may_begin(at)?;
                self.wants = Wants::Operator;
            }
            Kind::Open => {
                self.value_may_begin(at)?;
                if self.levels.len() > self.limits.nesting_max {
                    return Err(self.error(
                        at,
                        ErrorCode::NestedTooDeep,
                        format!(
                            "more than {} parentheses are open here (nesting_max): name parts of the formula with =",
                            self.limits.nesting_max
                        ),
                    ));
                }
                self.levels.push(Level::new(Some(at)));
                self.wants = Wants::Optional;
            }
            Kind::Close => {
                self.value_may_end(at)?;
                if self.levels.len() == 1 {
                    let message = "this ) closes nothing: remove it, or open a ( before it".into();
                    return Err(self.error(at, ErrorCode::UnmatchedParenthesis, message));
                }
                self.levels.pop();
                self.wants = Wants::Operator;
            }
            Kind::Comma | Kind::Semicolon => {
                self.value_may_end(at)?;
                self.separator(at, kind)?;
                self.wants = Wants::Optional;
            }
            _ if kind.is_assignment() => {
                self.assignment(at)?;
                self.wants = Wants::Value;
            }
            _ => {
                if self.wants != Wants::Operator {
                    return Err(self.missing_operand(at));
                }
                self.wants = Wants::Value;
            }
        }
        self.prefix_run = 0;
        Ok(())
    }

    fn end(&self) -> Result<(), FormulaError> {
        if self.wants == Wants::Value {
            let last = self.tokens.last().map_or("", |token| &self.text[token.start..token.end]);
            let message = format!("the formula ends after {}, where a value is needed", echo(last));
            return Err(FormulaError::at(ErrorCode::UnexpectedEnd, message, self.text, self.text.len()));
        }
        match self.levels.last() {
            Some(Level { open: Some(open), .. }) => {
                let message = "this ( is never closed: add a )".into();
                Err(self.error(*open, ErrorCode::UnmatchedParenthesis, message))
            }
            _ => Ok(()),
        }
    }

    fn separator(&mut self, at: usize, kind: Kind) -> Result<(), FormulaError> {
        let mixed = match self.levels.last_mut() {
            Some(level) => {
                level.assignments = 0;
                let mixed = kind == Kind::Semicolon && level.comma;
                level.comma |= kind == Kind::Comma;
                mixed
            }
            None => false,
        };
        if mixed {
            let message = "a ; cannot follow a , directly: put the tuple in parentheses, as in (1, 2); 3".into();
            return Err(self.error(at, ErrorCode::MixedSequence, message));
        }
        Ok(())
    }

    /// An assignment needs a bare name on its left, at the beginning of an expression; only `=` chains.
    fn assignment(&mut self, at: usize) -> Result<(), FormulaError> {
        let target = at.checked_sub(1).map(|name| self.tokens[name].kind);
        let before = at.checked_sub(2).map(|name| self.tokens[name].kind);
        let begins = match before {
            None | Some(Kind::Open | Kind::Comma | Kind::Semicolon) => true,
            Some(Kind::Assign) => self.tokens[at].kind == Kind::Assign,
            Some(_) => false,
        };
        if target != Some(Kind::Target) || !begins {
            let sign = &self.text[self.tokens[at].start..self.tokens[at].end];
            let message = format!(
                "left of {sign} stands something other than a single name: write name {sign} value, in parentheses \
                 within an expression, and == to compare"
            );
            return Err(self.error(at, ErrorCode::InvalidAssignment, message));
        }
        let run = match self.levels.last_mut() {
            Some(level) => {
                level.assignments += 1;
                level.assignments
            }
            None => 0,
        };
        if run > self.limits.run_max {
            return Err(self.run_too_long(at, "assignments stand in one expression"));
        }
        Ok(())
    }

    fn value_may_begin(&self, at: usize) -> Result<(), FormulaError> {
        if self.wants != Wants::Operator {
            return Ok(());
        }
        let message = format!("an operator is missing before {}", self.token_text(at));
        Err(self.error(at, ErrorCode::MissingOperator, message))
    }

    fn value_may_end(&self, at: usize) -> Result<(), FormulaError> {
        if self.wants == Wants::Value { Err(self.missing_operand(at)) } else { Ok(()) }
    }

    fn missing_operand(&self, at: usize) -> FormulaError {
        let message = format!("a value is missing before {}", self.token_text(at));
        self.error(at, ErrorCode::MissingOperand, message)
    }

    fn run_too_long(&self, at: usize, what: &str) -> FormulaError {
        let message = format!("more than {} {what} (run_max): use parentheses or fewer of them", self.limits.run_max);
        self.error(at, ErrorCode::RunTooLong, message)
    }

    fn token_text(&self, at: usize) -> String {
        echo(&self.text[self.tokens[at].start..self.tokens[at].end])
    }

    fn error(&self, at: usize, code: ErrorCode, message: String) -> FormulaError {
        FormulaError::at(code, message, self.text, self.tokens[at].start)
    }
}
