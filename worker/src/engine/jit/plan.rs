//! Splits a typed formula at its calls of block kernels.
//!
//! A kernel takes a chunk of rows at once, so a formula with kernels becomes segments of machine code with kernels
//! between them: kernels of level 1 need nothing but segment 0, those of level 2 need kernels of level 1, and so on.
//! A value that a later step reads goes through a slot, a buffer of one chunk. Operations are placed as late as their
//! readers allow, so that less has to be kept.

use quipu_shared::formula::typed::{BinaryOperation, Operation, Register, TypedFormula, UnaryOperation};
use quipu_shared::math::{Function1, Function2};

/// The steps that compute a formula over a chunk.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The slot of each register that goes through one.
    pub slot_of: Vec<Option<usize>>,
    /// How many slots are needed at most at one time.
    pub slots: usize,
}

/// One step.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Machine code for these registers, in order.
    Segment(Segment),
    /// A block kernel.
    Kernel(Kernel),
}

/// What one piece of machine code computes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Segment {
    /// Registers that it computes.
    pub computed: Vec<Register>,
    /// Whether it writes the formula's value.
    pub writes_result: bool,
}

/// One call of a kernel.
#[derive(Debug, PartialEq)]
pub(super) struct Kernel {
    /// Which, and of what.
    pub call: Call,
    /// The slot of its value.
    pub out: usize,
}

/// A kernel with its arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Call {
    /// Of one argument.
    One(Function1, Source),
    /// Of two.
    Two(Function2, Source, Source),
}

/// Where a kernel's argument is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source {
    /// A column.
    Input(usize),
    /// A slot.
    Slot(usize),
    /// The same for all rows.
    Constant(f64),
}

impl Plan {
    /// `None` would be a defect of this file.
    pub fn new(formula: &TypedFormula) -> Option<Self> {
        let levels = levels(formula);
        let places = places(formula, &levels);
        let last = places.iter().copied().max().unwrap_or(0);
        let mut planner = Planner::new(formula, &places);
        for level in 0..=last {
            for register in registers(formula).filter(|register| places[*register as usize] == level) {
                if let Some(call) = kernel(operation(formula, register)) {
                    planner.kernel(register, call)?;
                }
            }
            planner.free(time(level, true));
            planner.segment(level);
        }
        Some(planner.plan)
    }
}

/// The kernel that an operation calls.
#[derive(Clone, Copy)]
enum Wanted {
    One(Function1, Register),
    Two(Function2, Register, Register),
}

fn kernel(operation: Operation) -> Option<Wanted> {
    match operation {
        Operation::Unary(UnaryOperation::Math(function), a) => Some(Wanted::One(function, a)),
        Operation::Binary(BinaryOperation::Math(function), a, b) => Some(Wanted::Two(function, a, b)),
        _ => None,
    }
}

fn registers(formula: &TypedFormula) -> impl DoubleEndedIterator<Item = Register> + use<> {
    0..formula.instructions().len() as Register
}

fn operation(formula: &TypedFormula, register: Register) -> Operation {
    formula.instructions()[register as usize].operation
}

fn operands(operation: Operation) -> impl Iterator<Item = Register> {
    let (operands, count) = operation.operands();
    operands.into_iter().take(count)
}

/// A column or constant: there wherever it is read.
fn is_free(operation: Operation) -> bool {
    matches!(operation, Operation::Input(_) | Operation::Constant(_))
}

/// The first level at which each register can be computed.
fn levels(formula: &TypedFormula) -> Vec<usize> {
    let mut levels: Vec<usize> = Vec::with_capacity(formula.instructions().len());
    for instruction in formula.instructions() {
        let needs = operands(instruction.operation).map(|operand| levels[operand as usize]).max().unwrap_or(0);
        levels.push(needs + usize::from(kernel(instruction.operation).is_some()));
    }
    levels
}

/// The level at which each register is computed: kernels at once, everything else just before its first reader.
fn places(formula: &TypedFormula, levels: &[usize]) -> Vec<usize> {
    let mut needed_by = vec![usize::MAX; levels.len()];
    let mut places = levels.to_vec();
    for register in registers(formula).rev() {
        let operation = operation(formula, register);
        let index = register as usize;
        let is_kernel = kernel(operation).is_some();
        if !is_kernel && needed_by[index] != usize::MAX {
            places[index] = needed_by[index];
        }
        // A kernel runs before the code of its level, so its arguments are there one level earlier.
        let before = places[index].saturating_sub(usize::from(is_kernel));
        for operand in operands(operation) {
            let needed = &mut needed_by[operand as usize];
            *needed = before.min(*needed);
        }
    }
    places
}

struct Planner<'a> {
    formula: &'a TypedFormula,
    places: &'a [usize],
    /// The last level that reads each register from its slot, kernels counting half a level earlier than code.
    read_until: Vec<Option<usize>>,
    /// Slots whose value is no longer read.
    unused: Vec<usize>,
    plan: Plan,
}

/// Time within the steps: kernels of a level, then its code.
fn time(level: usize, is_kernel: bool) -> usize {
    2 * level + usize::from(!is_kernel)
}

impl<'a> Planner<'a> {
    fn new(formula: &'a TypedFormula, places: &'a [usize]) -> Self {
        let mut read_until = vec![None; places.len()];
        for register in registers(formula) {
            let reader = operation(formula, register);
            let at = time(places[register as usize], kernel(reader).is_some());
            for operand in operands(reader) {
                let computed = operation(formula, operand);
                let place = places[operand as usize];
                let same_code = kernel(reader).is_none() && kernel(computed).is_none() && place == at / 2;
                if !is_free(computed) && !same_code {
                    let until: &mut Option<usize> = &mut read_until[operand as usize];
                    *until = Some(until.map_or(at, |until| until.max(at)));
                }
            }
        }
        let result = formula.result();
        if kernel(operation(formula, result)).is_some() {
            let at = time(places[result as usize], false);
            let until = &mut read_until[result as usize];
            *until = Some(until.map_or(at, |until| until.max(at)));
        }
        let plan = Plan { slot_of: vec![None; places.len()], ..Plan::default() };
        Self { formula, places, read_until, unused: Vec::new(), plan }
    }

    fn source(&self, register: Register) -> Option<Source> {
        Some(match operation(self.formula, register) {
            Operation::Input(index) => Source::Input(index as usize),
            Operation::Constant(bits) => Source::Constant(f64::from_bits(bits)),
            _ => Source::Slot(self.plan.slot_of[register as usize]?),
        })
    }

    fn take_slot(&mut self, register: Register) -> usize {
        let slot = self.unused.pop().unwrap_or_else(|| {
            self.plan.slots += 1;
            self.plan.slots - 1
        });
        self.plan.slot_of[register as usize] = Some(slot);
        slot
    }

    fn kernel(&mut self, register: Register, wanted: Wanted) -> Option<()> {
        let call = match wanted {
            Wanted::One(function, a) => Call::One(function, self.source(a)?),
            Wanted::Two(function, a, b) => Call::Two(function, self.source(a)?, self.source(b)?),
        };
        let out = self.take_slot(register);
        self.plan.steps.push(Step::Kernel(Kernel { call, out }));
        Some(())
    }

    fn segment(&mut self, level: usize) {
        let mut segment = Segment::default();
        let result = self.formula.result();
        for register in registers(self.formula).filter(|register| self.places[*register as usize] == level) {
            let operation = operation(self.formula, register);
            if kernel(operation).is_none() && !is_free(operation) {
                segment.computed.push(register);
                if self.read_until[register as usize].is_some() {
                    self.take_slot(register);
                }
            }
        }
        let result_is_free = is_free(operation(self.formula, result));
        segment.writes_result = if result_is_free { level == 0 } else { self.places[result as usize] == level };
        if segment.writes_result || !segment.computed.is_empty() {
            self.plan.steps.push(Step::Segment(segment));
        }
        self.free(time(level, false));
    }

    /// Frees the slots that were read for the last time. Called at the end of a step, which so never writes a slot that
    /// it reads.
    fn free(&mut self, now: usize) {
        for (register, until) in self.read_until.iter().enumerate() {
            if *until == Some(now)
                && let Some(slot) = self.plan.slot_of[register]
            {
                self.unused.push(slot);
            }
        }
    }
}
