//! How a formula of a job is evaluated in this process: made once, shared by executors.

use super::FEW_ROWS;
use super::interpreter::{Program, REGISTERS_MAX};
#[cfg(feature = "jit")]
use super::jit::{Checks, Compiled};
use quipu_shared::config::TierChoice;
use quipu_shared::formula::typed::{TypedFormula, Untyped};
use quipu_shared::formula::{Evaluator, Formula, FormulaLimits};
use quipu_shared::spec::{ColumnType, Scalar};
#[cfg(feature = "jit")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of a formula that a process interprets before it compiles it: compiling a short formula costs 0.15 to
/// 0.3 ms, which that many rows take too, so a run is never much dearer than with the better choice.
pub const JIT_ROWS_MIN: u64 = 100_000;

/// Who evaluates a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// evalexpr, row by row.
    Evalexpr,
    /// The vectorised interpreter.
    Interpreter,
    /// Machine code.
    Jit,
}

impl Tier {
    /// As users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evalexpr => "evalexpr",
            Self::Interpreter => "interpreter",
            Self::Jit => "jit",
        }
    }
}

/// A formula with its columns, made ready.
pub struct Plan {
    formula: Formula,
    variables: Vec<String>,
    bindings: Vec<(String, Scalar)>,
    limits: FormulaLimits,
    choice: TierChoice,
    typed: Result<TypedFormula, Untyped>,
    interpreter: Option<Program>,
    /// Rows so far, of all executors.
    rows: AtomicU64,
    /// With checks, and without.
    #[cfg(feature = "jit")]
    compiled: [OnceLock<Option<Compiled>>; 2],
}

impl Plan {
    /// For blocks with these columns, in their order, and `bindings`.
    pub fn new(
        formula: &Formula,
        variables: &[(String, ColumnType)],
        bindings: &[(String, Scalar)],
        limits: &FormulaLimits,
        choice: TierChoice,
    ) -> Self {
        let typed = TypedFormula::new(formula, variables, bindings);
        let interpreter = typed.as_ref().ok().and_then(Program::new);
        Self {
            formula: formula.clone(),
            variables: variables.iter().map(|(name, _)| name.clone()).collect(),
            bindings: bindings.to_vec(),
            limits: limits.clone(),
            choice,
            typed,
            interpreter,
            rows: AtomicU64::new(0),
            #[cfg(feature = "jit")]
            compiled: Default::default(),
        }
    }

    /// The typed form, or why there is none.
    pub fn typed(&self) -> Result<&TypedFormula, &Untyped> {
        self.typed.as_ref()
    }

    /// Why evalexpr evaluates the formula, where nobody else can.
    pub fn untyped_reason(&self) -> Option<String> {
        match (&self.typed, &self.interpreter) {
            (Err(untyped), _) => Some(untyped.to_string()),
            (Ok(_), None) => Some(format!("more than {REGISTERS_MAX} of its values are needed at once")),
            (Ok(_), Some(_)) => None,
        }
    }

    /// Who evaluates a block of so many rows, after those so far.
    pub fn tier(&self, rows: usize) -> Tier {
        if self.interpreter.is_none() {
            return Tier::Evalexpr;
        }
        match self.choice {
            TierChoice::Evalexpr => Tier::Evalexpr,
            TierChoice::Interpreter => Tier::Interpreter,
            TierChoice::Jit => self.jit_or_interpreter(),
            TierChoice::Auto if rows < FEW_ROWS => Tier::Evalexpr,
            TierChoice::Auto => {
                let before = self.rows.fetch_add(rows as u64, Ordering::Relaxed);
                if before < JIT_ROWS_MIN { Tier::Interpreter } else { self.jit_or_interpreter() }
            }
        }
    }

    /// Who evaluates a long run of rows.
    pub fn long_run_tier(&self) -> Tier {
        match (self.choice, &self.interpreter) {
            (TierChoice::Evalexpr, _) | (_, None) => Tier::Evalexpr,
            (TierChoice::Interpreter, _) => Tier::Interpreter,
            (TierChoice::Auto | TierChoice::Jit, Some(_)) => self.jit_or_interpreter(),
        }
    }

    #[cfg(not(feature = "jit"))]
    fn jit_or_interpreter(&self) -> Tier {
        Tier::Interpreter
    }

    /// Machine code, where there is any for this formula on this machine.
    #[cfg(feature = "jit")]
    fn jit_or_interpreter(&self) -> Tier {
        if self.compiled(false).is_some() { Tier::Jit } else { Tier::Interpreter }
    }

    /// Machine code; without checks where no row can fail.
    #[cfg(feature = "jit")]
    pub(super) fn compiled(&self, proven: bool) -> Option<&Compiled> {
        let typed = self.typed.as_ref().ok()?;
        let unchecked = proven && typed.can_fail();
        let cell = &self.compiled[usize::from(unchecked)];
        let checks = if unchecked { Checks::Proven } else { Checks::Checked };
        let compile = || match Compiled::new(typed, checks) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                tracing::debug!(%error, "formula is interpreted: it could not be compiled");
                None
            }
        };
        cell.get_or_init(compile).as_ref()
    }

    pub(super) fn interpreter(&self) -> Option<&Program> {
        self.interpreter.as_ref()
    }

    /// evalexpr's evaluator, for one executor.
    pub fn evaluator(&self) -> Evaluator {
        Evaluator::new(&self.formula, &self.variables, &self.bindings, &self.limits)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("formula", &self.formula.text()).finish_non_exhaustive()
    }
}
