//! The function of one segment: a loop over turns of a few rows.

use super::Checks;
use super::lanes::Body;
use super::operations;
use super::plan::{Plan, Segment};
use cranelift_codegen::ir::{
    AbiParam, Function, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, Value, condcodes::IntCC,
    types,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::JITModule;
use cranelift_module::Module;
use quipu_shared::formula::typed::{BinaryOperation, Operation, Register, TypedFormula};
use std::collections::BTreeSet;

/// Rows that one vector holds.
pub(super) const VECTOR_ROWS: usize = 2;

/// Bytes of a value in memory.
pub(super) const VALUE_BYTES: usize = 8;

/// Vectors on the stack start at multiples of 16 bytes.
const VECTOR_ALIGNMENT_SHIFT: u8 = 4;

/// Formulas up to so many instructions do four vectors a turn, so that the loop's own instructions don't count.
const QUAD_INSTRUCTIONS_MAX: usize = 16;

/// Formulas up to so many instructions do two vectors a turn; for longer ones a second copy only costs compile time.
const DOUBLE_INSTRUCTIONS_MAX: usize = 64;

/// Rows that a turn of the loops takes.
pub(super) fn turn_rows(formula: &TypedFormula) -> usize {
    VECTOR_ROWS * copies(formula)
}

fn copies(formula: &TypedFormula) -> usize {
    let work = if has_only_by_one(formula) {
        formula.instructions().len() * VECTOR_ROWS
    } else {
        formula.instructions().len()
    };
    match work {
        work if work <= QUAD_INSTRUCTIONS_MAX => 4,
        work if work <= DOUBLE_INSTRUCTIONS_MAX => 2,
        _ => 1,
    }
}

/// Where addresses stand in the table that a segment gets: inputs, result, slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    inputs: usize,
}

impl Table {
    pub fn input(self, index: u32) -> usize {
        index as usize
    }

    pub fn result(self) -> usize {
        self.inputs
    }

    pub fn slot(self, slot: usize) -> usize {
        self.inputs + 1 + slot
    }
}

/// What all segments of a formula share.
pub(super) struct Shape<'a> {
    pub formula: &'a TypedFormula,
    pub plan: &'a Plan,
    pub table: Table,
    /// Whether failing rows are noticed.
    pub checked: bool,
    /// Whether ints that could be had either way are taken one by one: so where others have no vector form.
    pub pairs_first: bool,
}

impl<'a> Shape<'a> {
    pub fn new(formula: &'a TypedFormula, plan: &'a Plan, checks: Checks) -> Self {
        let table = Table { inputs: formula.inputs().len() };
        Self { formula, plan, table, checked: checks == Checks::Checked, pairs_first: has_only_by_one(formula) }
    }

    /// The bits of a constant.
    pub fn constant(&self, register: Register) -> Option<u64> {
        match self.formula.instructions()[register as usize].operation {
            Operation::Constant(bits) => Some(bits),
            _ => None,
        }
    }

    /// Where a register that a segment does not compute is read from.
    pub fn position(&self, register: Register) -> Option<usize> {
        match self.formula.instructions()[register as usize].operation {
            Operation::Input(index) => Some(self.table.input(index)),
            _ => self.plan.slot_of[register as usize].map(|slot| self.table.slot(slot)),
        }
    }
}

/// Whether there are operations on ints that have no vector form.
fn has_only_by_one(formula: &TypedFormula) -> bool {
    formula.instructions().iter().any(|instruction| only_by_one(formula, instruction.operation))
}

fn only_by_one(formula: &TypedFormula, operation: Operation) -> bool {
    use BinaryOperation as B;
    match operation {
        Operation::Binary(B::MulInt | B::DivInt | B::RemInt, ..) => true,
        Operation::Binary(B::ShiftLeft | B::ShiftRight, _, by) => {
            !matches!(formula.instructions()[by as usize].operation, Operation::Constant(0..64))
        }
        _ => false,
    }
}

/// The table of addresses and the number of rows in, whether a row failed out.
pub(super) fn signature(module: &JITModule) -> Signature {
    let mut signature = module.make_signature();
    signature.params.extend([AbiParam::new(types::I64), AbiParam::new(types::I64)]);
    signature.returns.push(AbiParam::new(types::I64));
    signature
}

/// Builds the function of one segment, which expects at least one turn of rows. Returns whether it may be run: anything
/// else is a defect.
pub(super) fn segment(
    shape: &Shape<'_>,
    segment: &Segment,
    function: &mut Function,
    context: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
) -> bool {
    let mut builder = FunctionBuilder::new(function, context);
    let entry = builder.create_block();
    let turn = builder.create_block();
    let exit = builder.create_block();
    let offset = builder.declare_var(types::I64);
    let failed_vector = builder.declare_var(types::I64X2);
    let failed_pair = builder.declare_var(types::I8);
    let anchor = StackSlotData::new(StackSlotKind::ExplicitSlot, types::I64X2.bytes(), VECTOR_ALIGNMENT_SHIFT);
    let anchor = builder.create_sized_stack_slot(anchor);

    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let (table, rows) = (builder.block_params(entry)[0], builder.block_params(entry)[1]);
    let bases = bases(shape, segment, &mut builder, table);
    let end = builder.ins().ishl_imm_u(rows, i64::from(VALUE_BYTES.ilog2()));
    let zero = builder.ins().iconst(types::I64, 0);
    let no_vector = builder.ins().splat(types::I64X2, zero);
    let no_pair = builder.ins().iconst(types::I8, 0);
    builder.def_var(offset, zero);
    builder.def_var(failed_vector, no_vector);
    builder.def_var(failed_pair, no_pair);
    builder.ins().jump(turn, &[]);

    builder.switch_to_block(turn);
    let at = builder.use_var(offset);
    let mut is_sound = true;
    for copy in 0..copies(shape.formula) {
        let mut body = Body::new(shape, &mut builder, &bases, at, copy, anchor);
        for register in &segment.computed {
            operations::compute(&mut body, *register);
            if let Some(slot) = shape.plan.slot_of[*register as usize] {
                body.store(*register, shape.table.slot(slot));
            }
        }
        if segment.writes_result {
            body.store_result();
        }
        let outcome = body.finish();
        is_sound &= outcome.is_sound;
        for (all, here) in [(failed_vector, outcome.signs), (failed_pair, outcome.failed)] {
            if let Some(here) = here {
                let before = builder.use_var(all);
                let after = builder.ins().bor(before, here);
                builder.def_var(all, after);
            }
        }
    }
    let next = builder.ins().iadd_imm_u(at, (turn_rows(shape.formula) * VALUE_BYTES) as i64);
    builder.def_var(offset, next);
    let more = builder.ins().icmp(IntCC::UnsignedLessThan, next, end);
    builder.ins().brif(more, turn, &[], exit, &[]);

    builder.switch_to_block(exit);
    let vector = builder.use_var(failed_vector);
    let pair = builder.use_var(failed_pair);
    let low = builder.ins().extractlane(vector, 0);
    let high = builder.ins().extractlane(vector, 1);
    let signs = builder.ins().bor(low, high);
    let sign = builder.ins().ushr_imm_u(signs, 63);
    let pair = builder.ins().uextend(types::I64, pair);
    let failed = builder.ins().bor(sign, pair);
    builder.ins().return_(&[failed]);
    builder.seal_all_blocks();
    builder.finalize(config);
    is_sound
}

/// Loads the addresses that a segment uses; others stay `None`.
fn bases(shape: &Shape<'_>, segment: &Segment, builder: &mut FunctionBuilder<'_>, table: Value) -> Vec<Option<Value>> {
    let mut used = BTreeSet::new();
    for register in &segment.computed {
        let (operands, count) = shape.formula.instructions()[*register as usize].operation.operands();
        used.extend(operands[..count].iter().filter_map(|operand| shape.position(*operand)));
        used.extend(shape.position(*register));
    }
    if segment.writes_result {
        used.extend(shape.position(shape.formula.result()));
        used.insert(shape.table.result());
    }
    let mut bases = vec![None; shape.table.slot(shape.plan.slots)];
    for position in used {
        let displacement = (position * VALUE_BYTES) as i32;
        bases[position] = Some(builder.ins().load(types::I64, MemFlagsData::trusted(), table, displacement));
    }
    bases
}
