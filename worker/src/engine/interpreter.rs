//! The vectorised interpreter: a typed formula, one operation at a time over a chunk of rows that stays in cache.
//!
//! Made in a few microseconds, so it pays from a handful of rows on; the loops are in [`super::lanes`].

use super::lanes::{self, Checks, Lanes};
use quipu_shared::formula::typed::{Operation, TypedFormula, ValueType};

/// Rows of a chunk: a register of it is 8 KiB, a few of them fit into the first level of cache, many into the second.
const CHUNK_ROWS: usize = 1024;
/// Registers that live at once, 8 KiB each; a formula that needs more stays with evalexpr.
pub(super) const REGISTERS_MAX: usize = 256;

/// A formula, ready to be interpreted. Shared by threads.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
    result: Place,
    registers: usize,
    result_type: ValueType,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    operation: Operation,
    operands: [Place; 3],
    target: usize,
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Input(usize),
    Constant(u64),
    Register(usize),
}

/// What a thread needs to run programs: registers, grown once.
#[derive(Debug, Default)]
pub struct Registers {
    values: Vec<Box<Chunk>>,
    /// Stands in for the register that is written.
    spare: Box<Chunk>,
}

/// A register's values, aligned to the widest vector.
#[derive(Debug)]
#[repr(align(64))]
struct Chunk([u64; CHUNK_ROWS]);

impl Default for Chunk {
    fn default() -> Self {
        Self([0; CHUNK_ROWS])
    }
}

impl Program {
    /// Makes a program; `None` where it would need too many registers.
    pub fn new(formula: &TypedFormula) -> Option<Self> {
        let instructions = formula.instructions();
        // For each register of the formula, the last instruction that reads it; the result is read at the end.
        let mut last_use = vec![0; instructions.len()];
        for (index, instruction) in instructions.iter().enumerate() {
            let (operands, n) = instruction.operation.operands();
            for operand in &operands[..n] {
                last_use[*operand as usize] = index;
            }
        }
        last_use[formula.result() as usize] = instructions.len();
        let mut places = Vec::with_capacity(instructions.len());
        let mut steps = Vec::new();
        let (mut free, mut registers) = (Vec::new(), 0);
        for (index, instruction) in instructions.iter().enumerate() {
            let operation = instruction.operation;
            let place = match operation {
                Operation::Input(input) => Place::Input(input as usize),
                Operation::Constant(bits) => Place::Constant(bits),
                _ => {
                    // A target of its own: operands are read while it is written.
                    let target = free.pop().unwrap_or_else(|| {
                        registers += 1;
                        registers - 1
                    });
                    let (operands, n) = operation.operands();
                    let mut at = [Place::Constant(0); 3];
                    for (at, operand) in at.iter_mut().zip(&operands[..n]) {
                        *at = places[*operand as usize];
                    }
                    steps.push(Step { operation, operands: at, target });
                    for operand in &operands[..n] {
                        if last_use[*operand as usize] == index
                            && let Place::Register(register) = places[*operand as usize]
                            && !free.contains(&register)
                        {
                            free.push(register);
                        }
                    }
                    if last_use[index] == 0 {
                        // Kept only because it can fail: its value is of no use.
                        free.push(target);
                    }
                    Place::Register(target)
                }
            };
            places.push(place);
        }
        let result = places[formula.result() as usize];
        (registers <= REGISTERS_MAX).then_some(Self { steps, result, registers, result_type: formula.result_type() })
    }

    /// Computes `out.len()` rows. `inputs[i]` are the bits of the formula's input i, at least as many. Gives whether a
    /// row failed, if `checks` looks for that; the values of such rows are arbitrary.
    pub(super) fn run(
        &self,
        registers: &mut Registers,
        inputs: &[&[u64]],
        out: &mut [u64],
        mut checks: Checks<'_>,
    ) -> bool {
        if registers.values.len() < self.registers {
            registers.values.resize_with(self.registers, Box::default);
        }
        let mut any = false;
        for (chunk, out) in out.chunks_mut(CHUNK_ROWS).enumerate() {
            let start = chunk * CHUNK_ROWS;
            let rows = start..start + out.len();
            let mut checks = match &mut checks {
                Checks::Proven => Checks::Proven,
                Checks::Any => Checks::Any,
                Checks::Mark(marks) => Checks::Mark(&mut marks[rows.clone()]),
            };
            for (index, step) in self.steps.iter().enumerate() {
                std::mem::swap(&mut registers.values[step.target], &mut registers.spare);
                let Registers { values, spare } = registers;
                let into_result = index + 1 == self.steps.len() && self.result == Place::Register(step.target);
                let to = if into_result { &mut *out } else { &mut spare.0[..rows.len()] };
                let [a, b, c] = step.operands.map(|place| match place {
                    Place::Input(input) => Lanes::Each(&inputs[input][rows.clone()]),
                    Place::Constant(bits) => Lanes::All(bits),
                    Place::Register(register) => Lanes::Each(&values[register].0[..rows.len()]),
                });
                any |= match step.operation {
                    Operation::Unary(operation, _) => lanes::unary(operation, a, to, checks.again()),
                    Operation::Binary(operation, ..) => lanes::binary(operation, a, b, to, checks.again()),
                    Operation::Select(..) => {
                        lanes::select(a, b, c, to);
                        false
                    }
                    Operation::Input(_) | Operation::Constant(_) => false,
                };
                std::mem::swap(&mut values[step.target], spare);
            }
            match self.result {
                Place::Input(input) => out.copy_from_slice(&inputs[input][rows]),
                Place::Constant(bits) => out.fill(bits),
                // The last step has written it to its place, unless a step after it is kept only for its failures.
                Place::Register(register) if self.steps.last().is_none_or(|step| step.target != register) => {
                    out.copy_from_slice(&registers.values[register].0[..rows.len()]);
                }
                Place::Register(_) => {}
            }
            if self.result_type == ValueType::Float {
                lanes::make_canonical(out);
            }
        }
        any
    }
}
