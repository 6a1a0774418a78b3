//! The Cranelift tier: a typed formula as machine code, for long runs.
//!
//! Code works on two rows at a time in 128-bit vectors, several times a turn of its loop; what has no vector form (the
//! product of two ints) runs on the two rows one after the other. Rows beyond the last whole turn run once more in
//! padded buffers, so that there is no second version of the code whose bits could differ. Functions without an exact
//! definition in IEEE 754 are block kernels of [`quipu_shared::math`]: the code is split at their calls ([`plan`]), they
//! are called from here, and machine code calls nothing at all.
//!
//! Values are bit-equal to [`quipu_shared::formula::typed::apply_unary`] and `apply_binary`. Nothing is contracted or
//! reordered: each instruction becomes the same IEEE 754 operations on every machine.

mod code;
mod emit;
mod lanes;
mod operations;
mod plan;
#[cfg(test)]
mod tests;

use code::Code;
use plan::{Call, Plan, Source, Step};
use quipu_shared::formula::typed::TypedFormula;
use quipu_shared::math::Argument;

/// Most work of a formula that is compiled: an operation counts 1, and one whose rows are checked five times as much.
/// Compiling takes 4 us an operation of short formulas and grows faster than they do, for checked ints above all: this
/// much takes some 30 to 60 ms. Longer formulas stay with the interpreter.
pub const COMPILED_WORK_MAX: usize = 2048;

/// What the check of an operation counts beside the operation itself.
const CHECK_WORK: usize = 4;

/// Rows between two kernels: with a handful of buffers of 8 KiB everything stays in the nearest caches, and the calls
/// cost nothing beside the work.
const CHUNK_ROWS: usize = 1024;

/// Least rows of a chunk, however many buffers a formula needs.
const CHUNK_ROWS_MIN: usize = 64;

/// Values of all buffers of a chunk together, 1 MiB: what a core's second cache holds.
const CHUNK_VALUES: usize = 128 * 1024;

/// A formula as machine code. Its memory is freed on drop.
#[derive(Debug)]
pub struct Compiled {
    code: Code,
    plan: Plan,
    inputs: usize,
    /// Rows of one turn of the loops.
    turn_rows: usize,
    /// Rows from kernel to kernel; everything at once where there are none.
    chunk_rows: usize,
}

/// Whether rows may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Failing rows are noticed.
    Checked,
    /// The caller has proven that no row fails: nothing is checked, ints wrap.
    Proven,
}

/// Why there is no machine code for a formula.
#[derive(Debug, thiserror::Error)]
pub enum JitError {
    /// Compiling would take too long.
    #[error(
        "the formula is too long for machine code: its operations count {work} where {COMPILED_WORK_MAX} are allowed \
         (one on ints that may overflow counts {})", 1 + CHECK_WORK
    )]
    TooLong {
        /// Of the formula.
        work: usize,
    },
    /// No code is made for this machine.
    #[error("no machine code for this processor: {0}")]
    Processor(String),
    /// The system refuses memory for code, as a hardened one may.
    #[error("get executable memory: {0}; allow it to this process or switch the compiler off")]
    Memory(String),
    /// A defect of the compiler.
    #[error("compile the formula: {0}")]
    Compile(String),
}

/// Buffers of one thread, for any number of formulas. They grow to the largest formula's need and stay.
#[derive(Debug, Default)]
pub struct Scratch {
    /// A chunk of a value each.
    slots: Vec<Vec<f64>>,
    /// Addresses of columns, result and slots, as the code takes them.
    table: Vec<usize>,
    /// The last rows of each column, made up to a whole turn.
    padded: Vec<u64>,
    padded_out: Vec<u64>,
}

impl Compiled {
    /// Makes machine code for `formula`.
    ///
    /// # Errors
    /// If the formula is too long, the processor too old, or the system refuses executable memory.
    pub fn new(formula: &TypedFormula, checks: Checks) -> Result<Self, JitError> {
        let work = work(formula, checks);
        if work > COMPILED_WORK_MAX {
            return Err(JitError::TooLong { work });
        }
        let plan = Plan::new(formula).ok_or_else(|| JitError::Compile("a value has no place".into()))?;
        let turn_rows = emit::turn_rows(formula);
        let chunk_rows = match plan.slots {
            0 => usize::MAX - usize::MAX % turn_rows,
            // All bounds are multiples of every turn.
            slots => (CHUNK_VALUES / slots).clamp(CHUNK_ROWS_MIN, CHUNK_ROWS) / CHUNK_ROWS_MIN * CHUNK_ROWS_MIN,
        };
        let code = Code::compile(formula, &plan, checks)?;
        Ok(Self { code, plan, inputs: formula.inputs().len(), turn_rows, chunk_rows })
    }

    /// Evaluates rows: `inputs[i]` holds the bits of the formula's input i (booleans 0 or 1), at least as many as `out`,
    /// which gets the results' bits (booleans 0 or 1, every NaN as [`quipu_shared::math::canonical`]). Returns whether
    /// any row failed; `out` is meaningless for such rows.
    ///
    /// # Panics
    /// If there are fewer inputs or rows than that.
    pub fn run(&self, scratch: &mut Scratch, inputs: &[&[u64]], out: &mut [u64]) -> bool {
        let rows = out.len();
        assert!(inputs.len() == self.inputs, "as many columns as inputs");
        assert!(inputs.iter().all(|input| input.len() >= rows), "as many values as rows");
        scratch.reserve(self);
        let whole = rows - rows % self.turn_rows;
        let (body, tail) = out.split_at_mut(whole);
        let mut failed = false;
        let mut first = 0;
        for out in body.chunks_mut(self.chunk_rows) {
            let last = first + out.len();
            failed |= self.chunk(scratch, |index| &inputs[index][first..last], out);
            first = last;
        }
        if !tail.is_empty() {
            failed |= self.tail(scratch, inputs, whole, tail);
        }
        failed
    }

    /// The rows beyond the last whole turn, with the last row repeated: that fails if it fails.
    fn tail(&self, scratch: &mut Scratch, inputs: &[&[u64]], first: usize, out: &mut [u64]) -> bool {
        let mut padded = std::mem::take(&mut scratch.padded);
        let mut padded_out = std::mem::take(&mut scratch.padded_out);
        let end = first + out.len();
        for (input, padded) in inputs.iter().zip(padded.chunks_exact_mut(self.turn_rows)) {
            let (rows, rest) = padded.split_at_mut(out.len());
            rows.copy_from_slice(&input[first..end]);
            rest.fill(input[end - 1]);
        }
        let column = |index: usize| &padded[index * self.turn_rows..(index + 1) * self.turn_rows];
        let failed = self.chunk(scratch, column, &mut padded_out[..self.turn_rows]);
        out.copy_from_slice(&padded_out[..out.len()]);
        scratch.padded = padded;
        scratch.padded_out = padded_out;
        failed
    }

    /// Whole turns of one chunk; `column` gives exactly the chunk's rows of an input.
    fn chunk<'a>(&self, scratch: &mut Scratch, column: impl Fn(usize) -> &'a [u64], out: &mut [u64]) -> bool {
        let rows = out.len();
        let Scratch { slots, table, .. } = scratch;
        table.clear();
        table.extend((0..self.inputs).map(|index| column(index).as_ptr().expose_provenance()));
        table.push(out.as_mut_ptr().expose_provenance());
        table.extend(slots.iter_mut().take(self.plan.slots).map(|slot| slot.as_mut_ptr().expose_provenance()));
        let mut failed = false;
        let mut segment = 0;
        for step in &self.plan.steps {
            match step {
                Step::Segment(_) => {
                    // SAFETY: the table holds, in the order of `emit::Table`, the addresses of every input, of `out` and
                    // of every slot of the plan; each has at least `rows` values, which is a positive multiple of the
                    // rows of a turn (`out` is a non-empty chunk of whole turns, and `reserve` made slots of
                    // `chunk_rows`); out and slots are writable and none overlaps another. The slots are not moved or
                    // resized while the table is used: kernels below only borrow their contents.
                    #[allow(unsafe_code, reason = "machine code is called by address")]
                    let failed_here = unsafe { self.code.call(segment, table, rows) };
                    failed |= failed_here;
                    segment += 1;
                }
                Step::Kernel(kernel) => {
                    // Taken out, so that the arguments' slots can be borrowed beside it; never one of them.
                    let mut values = std::mem::take(&mut slots[kernel.out]);
                    let each = |source: Source| match source {
                        Source::Input(index) => Argument::Each(bytemuck::cast_slice(column(index))),
                        Source::Slot(slot) => Argument::Each(&slots[slot][..rows]),
                        Source::Constant(value) => Argument::All(value),
                    };
                    let out = &mut values[..rows];
                    match kernel.call {
                        Call::One(function, a) => match each(a) {
                            Argument::Each(a) => function.over(a, out),
                            Argument::All(a) => out.fill(function.of(a)),
                        },
                        Call::Two(function, a, b) => function.over(each(a), each(b), out),
                    }
                    slots[kernel.out] = values;
                }
            }
        }
        failed
    }
}

/// What compiling a formula takes, as [`COMPILED_WORK_MAX`] counts.
fn work(formula: &TypedFormula, checks: Checks) -> usize {
    let instructions = formula.instructions();
    let checked = match checks {
        Checks::Checked => instructions.iter().filter(|instruction| instruction.operation.can_fail()).count(),
        Checks::Proven => 0,
    };
    instructions.len() + CHECK_WORK * checked
}

impl Scratch {
    fn reserve(&mut self, compiled: &Compiled) {
        if self.slots.len() < compiled.plan.slots {
            self.slots.resize_with(compiled.plan.slots, Vec::new);
        }
        for slot in self.slots.iter_mut().take(compiled.plan.slots) {
            if slot.len() < compiled.chunk_rows {
                slot.resize(compiled.chunk_rows, 0.0);
            }
        }
        let padded = compiled.inputs * compiled.turn_rows;
        if self.padded.len() < padded {
            self.padded.resize(padded, 0);
        }
        if self.padded_out.len() < compiled.turn_rows {
            self.padded_out.resize(compiled.turn_rows, 0);
        }
    }
}
