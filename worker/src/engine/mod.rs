//! The engine: evaluates a formula over blocks, the fastest way that gives evalexpr's answers.
//!
//! Three tiers with one behaviour. **evalexpr** itself takes what the typed form does not ([`Plan::typed`]) and blocks
//! of a few rows. The **interpreter** ([`interpreter`]) runs the typed form over chunks of rows, with loops for the
//! machine's vector width. **Machine code** (the feature `jit`) takes over once a process has seen enough rows of a
//! formula. The tiers below evalexpr only learn which rows fail: those are run again on evalexpr for its exact error.
//!
//! A [`Plan`] is made once a process and formula and is shared; an [`Engine`] belongs to one executor.

pub mod interpreter;
#[cfg(feature = "jit")]
pub mod jit;
mod lanes;
mod plan;
mod ranges;
#[cfg(test)]
mod tests;

pub use plan::{JIT_ROWS_MIN, Plan, Tier};

use interpreter::Registers;
use lanes::Checks;
use quipu_shared::block::{Block, Column, RowError, RowState, Values};
use quipu_shared::formula::Evaluator;
use quipu_shared::formula::typed::{TypedFormula, ValueType};
use quipu_shared::spec::OnError;
use quipu_shared::wire::EvalTier;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows that fail beyond these are counted, not explained: a shard reports its first few only.
const EXPLAINED_ROWS_MAX: usize = 1_000;
/// Blocks by which an engine finds out whether proving that no row fails is cheaper than the checks: it is where the
/// columns are in cache, and not where they come from memory.
const TRIAL_BLOCKS: u32 = 16;
/// Blocks of fewer rows go to evalexpr, which needs no set-up.
const FEW_ROWS: usize = 8;

/// Evaluates one formula for one executor.
pub struct Engine {
    plan: Arc<Plan>,
    evaluator: Evaluator,
    registers: Registers,
    #[cfg(feature = "jit")]
    scratch: jit::Scratch,
    /// Boolean inputs as 64 bits a row, in the order of the inputs.
    widened: Vec<Vec<u64>>,
    /// A boolean result before it is narrowed, or the values of a block whose failures are looked for.
    wide: Vec<u64>,
    marks: Vec<u64>,
    bounds: Vec<(i64, i64)>,
    ranges: Vec<(i64, i64)>,
    explained: usize,
    trial: Trial,
    /// Rows so far, in the order of [`EvalTier::ALL`].
    tier_rows: [u64; EvalTier::ALL.len()],
}

/// The best times of a block with checks and with a proof, until one is chosen. It shows in nothing but the time.
#[derive(Debug, Default)]
struct Trial {
    blocks: u32,
    with_checks: Option<Duration>,
    with_proof: Option<Duration>,
}

impl Trial {
    /// Whether to try a proof for the next block.
    fn wants_proof(&self) -> bool {
        if self.blocks < TRIAL_BLOCKS { self.blocks.is_multiple_of(2) } else { self.with_proof <= self.with_checks }
    }

    fn note(&mut self, proof: bool, time: Duration) {
        if self.blocks < TRIAL_BLOCKS {
            self.blocks += 1;
            let best = if proof { &mut self.with_proof } else { &mut self.with_checks };
            *best = Some(best.map_or(time, |best| best.min(time)));
        }
    }
}

impl Engine {
    /// For one executor and shard.
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            evaluator: plan.evaluator(),
            registers: Registers::default(),
            #[cfg(feature = "jit")]
            scratch: jit::Scratch::default(),
            widened: Vec::new(),
            wide: Vec::new(),
            marks: Vec::new(),
            bounds: Vec::new(),
            ranges: Vec::new(),
            explained: 0,
            trial: Trial::default(),
            tier_rows: [0; EvalTier::ALL.len()],
        }
    }

    /// Who has evaluated most rows so far; of two with as many the faster one.
    pub fn main_tier(&self) -> EvalTier {
        let rows = |tier: &EvalTier| self.tier_rows[*tier as usize];
        EvalTier::ALL.into_iter().max_by_key(rows).filter(|tier| rows(tier) > 0).unwrap_or_default()
    }

    /// Evaluates the rows of a block that are `selected` (one flag a row; `None` is all) into `values`, whose buffers are
    /// used again. The other rows are holes and can't fail. See [`Evaluator::evaluate_where`]: the same, but that errors
    /// beyond the first have neither code nor message.
    pub fn evaluate(&mut self, block: &Block, selected: Option<&[bool]>, on_error: OnError, values: &mut Values) {
        let plan = Arc::clone(&self.plan);
        let tier = plan.tier(block.len);
        let by = match plan.typed() {
            Ok(typed) if tier != Tier::Evalexpr && fits(typed, block) => {
                self.evaluate_typed(&plan, typed, tier, block, selected, on_error, values);
                if tier == Tier::Jit { EvalTier::Jit } else { EvalTier::Interpreter }
            }
            _ => {
                *values = self.evaluator.evaluate_where(block, selected, on_error);
                EvalTier::Evalexpr
            }
        };
        self.tier_rows[by as usize] += block.len as u64;
    }

    #[allow(clippy::too_many_arguments, reason = "one caller, which has them all")]
    fn evaluate_typed(
        &mut self,
        plan: &Plan,
        typed: &TypedFormula,
        tier: Tier,
        block: &Block,
        selected: Option<&[bool]>,
        on_error: OnError,
        values: &mut Values,
    ) {
        let rows = block.len;
        values.first_row = block.first_row;
        values.errors.clear();
        values.states.clear();
        values.states.resize(rows, RowState::Valid);
        self.widen(typed, block);
        let wants_proof = self.trial.wants_proof();
        let start = Instant::now();
        let proven = !typed.can_fail() || (wants_proof && self.proven(typed, block));
        let failed = match typed.result_type() {
            ValueType::Int => {
                self.compute(plan, typed, tier, proven, block, bytemuck::cast_slice_mut(ints(values, rows)))
            }
            ValueType::Float => {
                self.compute(plan, typed, tier, proven, block, bytemuck::cast_slice_mut(floats(values, rows)))
            }
            ValueType::Boolean => {
                let mut wide = std::mem::take(&mut self.wide);
                wide.resize(rows, 0);
                let failed = self.compute(plan, typed, tier, proven, block, &mut wide);
                lanes::narrow(&wide, booleans(values, rows));
                self.wide = wide;
                failed
            }
        };
        self.trial.note(wants_proof, start.elapsed());
        let failed_state = match on_error {
            OnError::Null => RowState::Null,
            OnError::Skip | OnError::Fail => RowState::Hole,
        };
        if failed {
            self.mark_failed(plan, typed, block);
        }
        set_states(typed, block, selected, failed_state, values);
        if failed {
            self.explain_failed(block, failed_state, values);
        }
    }

    /// Widens boolean columns.
    fn widen(&mut self, typed: &TypedFormula, block: &Block) {
        self.widened.resize_with(typed.inputs().len(), Vec::new);
        for (input, widened) in typed.inputs().iter().zip(&mut self.widened) {
            if let Some(Column::Boolean(values)) = block.columns.get(input.column) {
                widened.resize(values.len(), 0);
                lanes::widen(values, widened);
            }
        }
    }

    /// Whether the bounds of the block's ints prove that no row of it can fail.
    fn proven(&mut self, typed: &TypedFormula, block: &Block) -> bool {
        self.bounds.clear();
        self.bounds.extend(typed.inputs().iter().map(|input| match &block.columns[input.column] {
            Column::Int(values) => lanes::bounds(values),
            _ => (0, 0),
        }));
        ranges::cannot_fail(typed, &self.bounds, &mut self.ranges)
    }

    /// Computes the block; gives whether a row failed.
    fn compute(
        &mut self,
        plan: &Plan,
        typed: &TypedFormula,
        tier: Tier,
        proven: bool,
        block: &Block,
        out: &mut [u64],
    ) -> bool {
        let inputs = inputs(typed, block, &self.widened);
        #[cfg(feature = "jit")]
        if tier == Tier::Jit
            && let Some(compiled) = plan.compiled(proven)
        {
            return compiled.run(&mut self.scratch, &inputs, out);
        }
        let _ = tier;
        let checks = if proven { Checks::Proven } else { Checks::Any };
        plan.interpreter().is_some_and(|program| program.run(&mut self.registers, &inputs, out, checks))
    }

    /// Marks the rows that fail.
    fn mark_failed(&mut self, plan: &Plan, typed: &TypedFormula, block: &Block) {
        self.marks.clear();
        self.marks.resize(block.len, 0);
        self.wide.resize(block.len, 0);
        let inputs = inputs(typed, block, &self.widened);
        if let Some(program) = plan.interpreter() {
            program.run(&mut self.registers, &inputs, &mut self.wide, Checks::Mark(&mut self.marks));
        }
    }

    /// Runs the marked rows that have a value again on evalexpr, which says why they fail.
    fn explain_failed(&mut self, block: &Block, failed_state: RowState, values: &mut Values) {
        let marked = self.marks.iter().enumerate().filter(|(_, mark)| **mark != 0).map(|(index, _)| index);
        let before = values.errors.len();
        for index in marked.filter(|index| values.states[*index] == RowState::Valid).collect::<Vec<_>>() {
            let row = block.first_row + index as u64;
            values.states[index] = failed_state;
            let explained = self.explained < EXPLAINED_ROWS_MAX;
            let (code, message) = if explained {
                self.explained += 1;
                match self.evaluator.evaluate_row(block, index) {
                    Err(error) => (error.code.as_str().to_owned(), error.to_string()),
                    // The tiers are tested to agree; if they ever don't, no value is better than a wrong one.
                    Ok(_) => {
                        ("internal".to_owned(), "the engine's tiers disagree on this row; please report it".to_owned())
                    }
                }
            } else {
                (String::new(), String::new())
            };
            values.errors.push(RowError { row, code, message });
        }
        if before > 0 {
            values.errors.sort_by_key(|error| error.row);
        }
    }
}

/// Whether the block's columns are what the typed form was made for.
fn fits(typed: &TypedFormula, block: &Block) -> bool {
    typed.inputs().iter().all(|input| {
        let column = block.columns.get(input.column);
        column.is_some_and(|column| column.len() >= block.len)
            && matches!(
                (input.ty, column),
                (ValueType::Int, Some(Column::Int(_)))
                    | (ValueType::Float, Some(Column::Float(_)))
                    | (ValueType::Boolean, Some(Column::Boolean(_)))
            )
    })
}

/// The bits of each input.
fn inputs<'a>(typed: &TypedFormula, block: &'a Block, widened: &'a [Vec<u64>]) -> Vec<&'a [u64]> {
    let bits = |(index, input): (usize, &quipu_shared::formula::typed::Input)| match &block.columns[input.column] {
        Column::Int(values) => bytemuck::cast_slice(&values[..block.len]),
        Column::Float(values) => bytemuck::cast_slice(&values[..block.len]),
        _ => &widened[index][..block.len],
    };
    typed.inputs().iter().enumerate().map(bits).collect()
}

/// Nulls, rows that could not be read, and rows that are not selected.
fn set_states(typed: &TypedFormula, block: &Block, selected: Option<&[bool]>, failed: RowState, values: &mut Values) {
    for input in typed.reads() {
        if let Some(Some(nulls)) = block.nulls.get(*input) {
            for (state, null) in values.states.iter_mut().zip(nulls) {
                if *null {
                    *state = RowState::Null;
                }
            }
        }
    }
    if let Some(selected) = selected {
        for (index, state) in values.states.iter_mut().enumerate() {
            if selected.get(index) != Some(&true) {
                *state = RowState::Hole;
            }
        }
    }
    for bad in &block.bad_rows {
        let index = (bad.row - block.first_row) as usize;
        if selected.is_some_and(|selected| selected.get(index) != Some(&true)) {
            continue;
        }
        if let Some(state) = values.states.get_mut(index) {
            *state = failed;
            values.errors.push(bad.clone());
        }
    }
}

/// The column of results as ints, of this many rows.
fn ints(values: &mut Values, rows: usize) -> &mut [i64] {
    if !matches!(values.column, Column::Int(_)) {
        values.column = Column::Int(Vec::new());
    }
    match &mut values.column {
        Column::Int(ints) => {
            ints.resize(rows, 0);
            ints
        }
        _ => unreachable!("it was just made one"),
    }
}

fn floats(values: &mut Values, rows: usize) -> &mut [f64] {
    if !matches!(values.column, Column::Float(_)) {
        values.column = Column::Float(Vec::new());
    }
    match &mut values.column {
        Column::Float(floats) => {
            floats.resize(rows, 0.0);
            floats
        }
        _ => unreachable!("it was just made one"),
    }
}

fn booleans(values: &mut Values, rows: usize) -> &mut [bool] {
    if !matches!(values.column, Column::Boolean(_)) {
        values.column = Column::Boolean(Vec::new());
    }
    match &mut values.column {
        Column::Boolean(booleans) => {
            booleans.resize(rows, false);
            booleans
        }
        _ => unreachable!("it was just made one"),
    }
}
