//! Formulas: evalexpr behind guards.
//!
//! The language is evalexpr 11.3.1 and [`evalexpr::build_operator_tree`] is the only parser. Around it stand, in reading
//! order: [`limits`], an iterative scan of the text ([`scan`], [`grammar`]), the parsed and validated tree
//! ([`Formula`]), static checks against a symbol table ([`check`], [`notes`]), the functions ([`functions`]),
//! the rewritten tree that evalexpr evaluates ([`program`]) in a bounded context ([`context`]), the [`Evaluator`], and the
//! [`typed`] form that engines compile.

mod calls;
mod check;
mod context;
mod error;
mod evaluate;
mod functions;
mod grammar;
pub mod hostile;
mod limits;
mod literal;
mod meter;
mod notes;
mod parse;
mod program;
mod scan;
mod stack;
#[cfg(test)]
mod tests;
mod tree;
pub mod typed;

pub use check::Symbols;
pub use error::{ErrorCode, FormulaError};
pub use evaluate::Evaluator;
pub use functions::{Arguments, FUNCTIONS, FunctionInfo, find as find_function};
pub use limits::FormulaLimits;
pub use literal::parse_literal;
pub use parse::Formula;
