//! What can go wrong with reductions, apart from a row's value being of the wrong type.

use super::parse::{BINS_MAX, REDUCTIONS_MAX};
use super::partial::PARTIAL_BYTES_MAX;

/// Why reductions are refused, a partial can't be taken, or a result can't be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReduceError {
    /// No reduction at all.
    #[error("no reduction given; write for example sum,mean")]
    Empty,
    /// Too many reductions.
    #[error("{0} reductions in one job; at most {REDUCTIONS_MAX} are taken")]
    TooMany(usize),
    /// A name that is no reduction's.
    #[error("unknown reduction {name:?}{hint}; known are {known}")]
    Unknown {
        /// As given.
        name: String,
        /// Empty, or a suggestion.
        hint: String,
        /// All names.
        known: &'static str,
    },
    /// Parentheses that do not match, or an empty entry.
    #[error("can't read the reductions {text:?}: {problem}")]
    Syntax {
        /// As given.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// Arguments that the reduction does not take.
    #[error("{reduction}: {problem}")]
    Argument {
        /// Name of the reduction.
        reduction: &'static str,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// The same name of a result twice.
    #[error("{0} is asked for twice; each result of a job has one name, so leave one out")]
    Repeated(String),
    /// Too many bins.
    #[error("histogram: {0} bins; at most {BINS_MAX} are taken")]
    TooManyBins(u64),
    /// A reduction that is approximate by its nature, asked for exactly.
    #[error(
        "{0} can't be exact: it comes from a sketch of bounded size that is off by up to 0.1 %; leave out --exact, or \
         leave out --reduce, write the rows and sort them"
    )]
    NeverExact(String),
    /// Exactness without anything that it could change.
    #[error("--exact is about reductions, and none is given; add for example --reduce sum,mean")]
    ExactWithoutReductions,
    /// An integer sum outside i64.
    #[error(
        "the {reduction} is {value}, which is outside the range of an int (64 bits); reduce floats instead: multiply the \
         formula by 1.0"
    )]
    IntOverflow {
        /// Name of the reduction.
        reduction: &'static str,
        /// The exact value.
        value: i128,
    },
    /// Partials of different reductions or inputs.
    #[error("a partial of other reductions or inputs can't be merged")]
    Mismatch,
    /// The same rows in two partials.
    #[error("rows from {row} on are in two partials")]
    Overlap {
        /// First row of the second one.
        row: u64,
    },
    /// Bytes that are no partial.
    #[error("read partial: {0}")]
    Corrupt(&'static str),
    /// Bytes of another version of the product.
    #[error("read partial: its version is {found}, this node reads version {known}")]
    Version {
        /// In the bytes.
        found: u8,
        /// Of this build.
        known: u8,
    },
    /// Too many bytes.
    #[error("read partial: {0} bytes; at most {PARTIAL_BYTES_MAX} are taken")]
    TooLarge(usize),
}

impl ReduceError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty
            | Self::TooMany(_)
            | Self::Syntax { .. }
            | Self::Argument { .. }
            | Self::TooManyBins(_)
            | Self::ExactWithoutReductions => "bad_reduction",
            Self::NeverExact(_) => "never_exact",
            Self::Unknown { .. } => "unknown_reduction",
            Self::Repeated(_) => "repeated_reduction",
            Self::IntOverflow { .. } => "int_overflow",
            Self::Mismatch | Self::Overlap { .. } | Self::Corrupt(_) | Self::Version { .. } | Self::TooLarge(_) => {
                "bad_partial"
            }
        }
    }
}
