//! What can be wrong with axes and draws.

/// Why axes or draws are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// An axis that can't be read, or has no sensible values.
    #[error("axis {input:?}: {problem}")]
    Axis {
        /// The text, or the variable's name.
        input: String,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// A draw that can't be read, or has parameters that make no distribution.
    #[error("draw {input:?}: {problem}")]
    Draw {
        /// The text, or the variable's name.
        input: String,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// A name that a formula can't use.
    #[error("{name:?} can't be a variable: {problem}")]
    Name {
        /// As given.
        name: String,
        /// Why not.
        problem: String,
    },
    /// Two axes or draws of one name.
    #[error("variable {0} is given twice; rename one of the two")]
    Repeated(String),
    /// No axis or draw.
    #[error("no {0} is given; at least one is needed")]
    Missing(&'static str),
    /// Too many of something.
    #[error("{found} {what}; at most {max} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many were asked for, as text because it may not fit a number.
        found: String,
        /// The limit.
        max: u64,
    },
}

impl SourceError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Axis { .. } => "bad_axis",
            Self::Draw { .. } => "bad_draw",
            Self::Name { .. } => "bad_variable_name",
            Self::Repeated(_) => "repeated_variable",
            Self::Missing(_) => "missing_variable",
            Self::TooMany { .. } => "too_many_rows",
        }
    }
}
