//! Machine code for typed formulas: not made yet, so that every formula is interpreted.

use quipu_shared::formula::typed::TypedFormula;

/// Whether failures are looked for.
#[derive(Clone, Copy, Debug)]
pub enum Checks {
    /// They are.
    Checked,
    /// There are none, as the caller has proven.
    Proven,
}

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
#[error("there is no compiler yet")]
pub struct JitError;

/// Buffers of a thread.
#[derive(Debug, Default)]
pub struct Scratch;

/// A formula as machine code.
#[derive(Debug)]
pub enum Compiled {}

impl Compiled {
    /// Compiles a formula.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &TypedFormula, _: Checks) -> Result<Self, JitError> {
        Err(JitError)
    }

    /// Computes a block; gives whether a row failed.
    pub fn run(&self, _: &mut Scratch, _: &[&[u64]], _: &mut [u64]) -> bool {
        match *self {}
    }
}
