//! How much a formula may ask for.

use super::error::{ErrorCode, FormulaError};
use serde::{Deserialize, Serialize};

/// Caps on what a formula may cost, in its text, its tree and its values.
///
/// A cap is enforced before the work or the allocation that it guards. A value above [`FormulaLimits::CEILING`] counts
/// as the ceiling, so that no configuration switches a cap off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FormulaLimits {
    /// Bytes of a formula's text. Everything before the parser is linear in it.
    pub formula_bytes_max: usize,
    /// Tokens of a formula. Bounds the depth of the trees that the parser builds and drops on its way.
    pub tokens_max: usize,
    /// Parentheses that are open at once. The parser's own stack grows with them.
    pub nesting_max: usize,
    /// Unary operators and juxtaposed functions in a row, and assignments in one expression. The parser's time is
    /// quadratic in such a run.
    pub run_max: usize,
    /// Nodes of the parsed tree. Evaluation visits each once a row.
    pub nodes_max: usize,
    /// Levels of the parsed tree. Evaluation needs stack for each.
    pub tree_depth_max: usize,
    /// Bytes of any value: those of a string, or of a tuple's elements at 32 bytes each plus their strings.
    pub value_bytes_max: usize,
    /// Levels of tuples in tuples. Renderers and decoders of results recurse over them.
    pub value_depth_max: usize,
    /// Work units a row: about a byte copied or two scalars compared. Bounds what strings and tuples cost.
    pub fuel_max: u64,
}

impl Default for FormulaLimits {
    fn default() -> Self {
        Self {
            formula_bytes_max: 8 * 1024,
            tokens_max: 2_000,
            nesting_max: 100,
            run_max: 64,
            nodes_max: 4_000,
            tree_depth_max: 1_000,
            value_bytes_max: 32 * 1024,
            value_depth_max: 32,
            fuel_max: 1_000_000,
        }
    }
}

impl FormulaLimits {
    /// What no configuration raises a cap above: the product was measured up to here.
    pub const CEILING: Self = Self {
        formula_bytes_max: 128 * 1024,
        tokens_max: 16_000,
        nesting_max: 500,
        run_max: 500,
        nodes_max: 32_000,
        tree_depth_max: 8_000,
        value_bytes_max: 1024 * 1024,
        value_depth_max: 64,
        fuel_max: 1_000_000_000,
    };

    /// These limits with everything above the ceiling lowered to it.
    pub fn effective(&self) -> Self {
        let ceiling = &Self::CEILING;
        Self {
            formula_bytes_max: self.formula_bytes_max.min(ceiling.formula_bytes_max),
            tokens_max: self.tokens_max.min(ceiling.tokens_max),
            nesting_max: self.nesting_max.min(ceiling.nesting_max),
            run_max: self.run_max.min(ceiling.run_max),
            nodes_max: self.nodes_max.min(ceiling.nodes_max),
            tree_depth_max: self.tree_depth_max.min(ceiling.tree_depth_max),
            value_bytes_max: self.value_bytes_max.min(ceiling.value_bytes_max),
            value_depth_max: self.value_depth_max.min(ceiling.value_depth_max),
            fuel_max: self.fuel_max.min(ceiling.fuel_max),
        }
    }

    /// Refuses a text for its length alone.
    pub(super) fn check_bytes(&self, text: &str) -> Result<(), FormulaError> {
        if text.len() <= self.formula_bytes_max {
            return Ok(());
        }
        Err(FormulaError::new(
            ErrorCode::FormulaTooLong,
            format!(
                "the formula has {} bytes where {} are allowed (formula_bytes_max): split it, or move data into \
                 variables",
                text.len(),
                self.formula_bytes_max
            ),
        ))
    }
}
