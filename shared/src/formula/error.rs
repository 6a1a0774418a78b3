//! What is wrong with a formula, for people and for programs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of hostile text that a message may repeat.
const ECHO_BYTES_MAX: usize = 60;

macro_rules! error_codes {
    ($($(#[$doc:meta])+ $variant:ident = $text:literal,)+) => {
        /// Stable names of what can be wrong; programs may match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])+ #[serde(rename = $text)] $variant,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it stands in output and logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

error_codes! {
    /// More bytes than `formula_bytes_max`.
    FormulaTooLong = "formula_too_long",
    /// More tokens than `tokens_max`.
    TooManyTokens = "too_many_tokens",
    /// More open parentheses than `nesting_max`.
    NestedTooDeep = "nested_too_deep",
    /// A longer run of unary operators, juxtaposed functions or assignments than `run_max`.
    RunTooLong = "run_too_long",
    /// More nodes than `nodes_max`.
    TooManyNodes = "too_many_nodes",
    /// More levels than `tree_depth_max`.
    TreeTooDeep = "tree_too_deep",
    /// The text ends where a value is needed.
    UnexpectedEnd = "unexpected_end",
    /// An operator, separator or parenthesis stands where a value is needed.
    MissingOperand = "missing_operand",
    /// Two values with no operator between them.
    MissingOperator = "missing_operator",
    /// A parenthesis without its partner.
    UnmatchedParenthesis = "unmatched_parenthesis",
    /// A string that does not end.
    UnmatchedQuote = "unmatched_quote",
    /// A `/*` comment that does not end.
    UnmatchedComment = "unmatched_comment",
    /// A backslash in a string before something other than `"` and `\`.
    IllegalEscape = "illegal_escape",
    /// A character that no token begins with.
    UnexpectedCharacter = "unexpected_character",
    /// Something other than a name left of an assignment.
    InvalidAssignment = "invalid_assignment",
    /// A `;` after a `,` with no parentheses around the tuple.
    MixedSequence = "mixed_sequence",
    /// Refused by the parser for another reason.
    Malformed = "malformed",
    /// A name that is neither an input nor assigned before.
    UnknownVariable = "unknown_variable",
    /// A name that is no function.
    UnknownFunction = "unknown_function",
    /// A function outside the allowed set (`--functions`).
    FunctionNotAllowed = "function_not_allowed",
    /// A variable outside the allowed ones (`--vars-only`).
    VariableNotAllowed = "variable_not_allowed",
    /// A variable of another type than the allowed one (`--vars-only`).
    WrongVariableType = "wrong_variable_type",
    /// A function with too few or too many arguments.
    WrongArgumentCount = "wrong_argument_count",
    /// A value of a type that the operator or function does not take.
    WrongType = "wrong_type",
    /// An integer result outside 64 bits.
    IntOverflow = "int_overflow",
    /// An integer division or remainder by 0.
    DivisionByZero = "division_by_zero",
    /// A shift by less than 0 or more than 63 bits.
    ShiftOutOfRange = "shift_out_of_range",
    /// A substring outside the string, or not on a character boundary.
    SubstringOutOfRange = "substring_out_of_range",
    /// A value larger than `value_bytes_max`.
    ValueTooLarge = "value_too_large",
    /// Tuples nested deeper than `value_depth_max`.
    ValueTooDeep = "value_too_deep",
    /// A row that needs more than `fuel_max` work units.
    TooMuchWork = "too_much_work",
    /// Something other than a literal where only a literal is taken.
    NotALiteral = "not_a_literal",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a formula, or with its evaluation in one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}", place(self))]
pub struct FormulaError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: names the input and the fix.
    pub message: String,
    /// Line of the place, from 1; `None` where the place is not known.
    pub line: Option<u32>,
    /// Column of the place in characters, from 1.
    pub column: Option<u32>,
}

/// The place as the end of a message.
fn place(error: &FormulaError) -> String {
    match (error.line, error.column) {
        (Some(1), Some(column)) => format!(" (at column {column})"),
        (Some(line), Some(column)) => format!(" (at line {line}, column {column})"),
        _ => String::new(),
    }
}

impl FormulaError {
    /// An error whose place is not known.
    pub(super) fn new(code: ErrorCode, message: String) -> Self {
        Self { code, message, line: None, column: None }
    }

    /// An error at a byte of `text`.
    pub(super) fn at(code: ErrorCode, message: String, text: &str, byte: usize) -> Self {
        Self::new(code, message).with_place(text, byte)
    }

    /// This error, placed at a byte of `text`.
    pub(super) fn with_place(mut self, text: &str, byte: usize) -> Self {
        let mut end = byte.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        self.line = u32::try_from(line).ok();
        self.column = u32::try_from(column).ok();
        self
    }
}

/// Text of a user for use in a message: short, on one line, with nothing that a terminal would obey.
pub(super) fn echo(text: &str) -> String {
    let mut short = String::new();
    for character in text.chars() {
        let printable = if character.is_control() { '\u{fffd}' } else { character };
        if short.len() + printable.len_utf8() > ECHO_BYTES_MAX {
            short.push_str("...");
            break;
        }
        short.push(printable);
    }
    short
}
