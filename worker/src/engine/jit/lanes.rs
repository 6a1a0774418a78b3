//! Values of a vector's rows while code is built: as one vector, or one by one.
//!
//! | type | vector | one by one |
//! |---|---|---|
//! | float | `F64X2` | never |
//! | int | `I64X2` | `I64` twice |
//! | boolean | `I64X2`, all bits of true ones set | `I8` twice, 0 or 1 |
//!
//! A value is turned from one form into the other where an operation wants it so, once. Columns and constants are had
//! either way at no cost. In memory a boolean is 0 or 1 as an input or result, and all bits in a slot.

use super::emit::{Shape, VALUE_BYTES, VECTOR_ROWS};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlot, Type, Value, condcodes::FloatCC, types};
use cranelift_frontend::{FuncInstBuilder, FunctionBuilder};
use quipu_shared::formula::typed::{Operation, Register, ValueType};

/// Address, value: any alignment of 8 bytes, never a trap.
const ACCESS: MemFlagsData = MemFlagsData::new().with_notrap();

/// Failures that may be apart from each other, each in a register.
const FAILURES_APART_MAX: usize = 8;

/// Bits of the one NaN of results, as [`quipu_shared::math::canonical`] has it.
const CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;

/// A value of so many rows.
#[derive(Clone, Copy)]
pub(super) enum Rows {
    /// As a vector.
    Vector(Value),
    /// One by one.
    Pair([Value; VECTOR_ROWS]),
}

/// The forms in which a value is there already.
#[derive(Clone, Copy, Default)]
struct Lanes {
    vector: Option<Value>,
    pair: Option<[Value; VECTOR_ROWS]>,
    /// Whether this code computed it one by one; `None` for what comes from memory.
    computed_by_one: Option<bool>,
}

/// One vector's rows within a turn.
pub(super) struct Body<'a, 'f> {
    pub shape: &'a Shape<'a>,
    pub builder: &'a mut FunctionBuilder<'f>,
    bases: &'a [Option<Value>],
    /// Bytes from a column's start to the turn.
    offset: Value,
    /// Bytes from the turn's start to these rows.
    displacement: i32,
    known: Vec<Lanes>,
    failed_vector: Option<Value>,
    failed_pair: Option<Value>,
    /// Where failures are written now and then, see [`Self::anchor`].
    anchor: StackSlot,
    noted: usize,
    /// Whether a value was wanted that is nowhere: a defect, and the code must not run.
    misplaced: bool,
}

/// What a body leaves to its loop.
pub(super) struct Outcome {
    /// A vector whose lanes' signs say whether a row failed.
    pub signs: Option<Value>,
    /// An `I8` that is 1 if a row failed.
    pub failed: Option<Value>,
    /// Whether all values were where they should be.
    pub is_sound: bool,
}

/// The type of a vector of these.
fn vector_type(ty: ValueType) -> Type {
    match ty {
        ValueType::Float => types::F64X2,
        ValueType::Int | ValueType::Boolean => types::I64X2,
    }
}

impl<'a, 'f> Body<'a, 'f> {
    pub fn new(
        shape: &'a Shape<'a>,
        builder: &'a mut FunctionBuilder<'f>,
        bases: &'a [Option<Value>],
        offset: Value,
        copy: usize,
        anchor: StackSlot,
    ) -> Self {
        let displacement = (copy * VECTOR_ROWS * VALUE_BYTES) as i32;
        let known = vec![Lanes::default(); shape.formula.instructions().len()];
        Self {
            shape,
            builder,
            bases,
            offset,
            displacement,
            known,
            failed_vector: None,
            failed_pair: None,
            anchor,
            noted: 0,
            misplaced: false,
        }
    }

    pub fn ins(&mut self) -> FuncInstBuilder<'_, 'f> {
        self.builder.ins()
    }

    pub fn ty(&self, register: Register) -> ValueType {
        self.shape.formula.instructions()[register as usize].ty
    }

    /// Whether an operation on these goes one by one, where it can go either way: where one of them was computed so,
    /// and where none was computed but the formula has others that must.
    pub fn by_one(&self, operands: &[Register]) -> bool {
        let computed = operands.iter().filter_map(|register| self.known[*register as usize].computed_by_one);
        computed.fold(None, |any, by_one| Some(any.unwrap_or(false) | by_one)).unwrap_or(self.shape.pairs_first)
    }

    /// Whether a register was computed as a vector.
    pub fn is_vector(&self, register: Register) -> bool {
        self.known[register as usize].computed_by_one == Some(false)
    }

    /// Notes the value that was computed for a register.
    pub fn set(&mut self, register: Register, rows: Rows) {
        self.known[register as usize] = match rows {
            Rows::Vector(vector) => Lanes { vector: Some(vector), pair: None, computed_by_one: Some(false) },
            Rows::Pair(pair) => Lanes { vector: None, pair: Some(pair), computed_by_one: Some(true) },
        };
    }

    /// Notes a vector whose lanes' signs say whether a row failed.
    pub fn fail_signs(&mut self, signs: Value) {
        let all = self.failed_vector.map_or(signs, |before| self.builder.ins().bor(before, signs));
        self.failed_vector = Some(all);
        self.anchor(all);
    }

    /// Notes an `I8` that is 1 where a row failed.
    pub fn fail_one(&mut self, failed: Value) {
        let all = self.failed_pair.map_or(failed, |before| self.builder.ins().bor(before, failed));
        self.failed_pair = Some(all);
        self.anchor(all);
    }

    /// The compiler computes a value where it is first needed. With failures that would be the end of the loop, and all
    /// of them would be kept until there; a store that nobody reads has them put together on the way.
    fn anchor(&mut self, failures: Value) {
        self.noted += 1;
        if self.noted.is_multiple_of(FAILURES_APART_MAX) {
            let anchor = self.anchor;
            self.ins().stack_store(types::I64, failures, anchor, 0);
        }
    }

    /// Ends the body.
    pub fn finish(self) -> Outcome {
        Outcome { signs: self.failed_vector, failed: self.failed_pair, is_sound: !self.misplaced }
    }

    /// A register as a vector.
    pub fn vector(&mut self, register: Register) -> Value {
        if let Some(vector) = self.known[register as usize].vector {
            return vector;
        }
        let ty = self.ty(register);
        let vector = if let Some(pair) = self.known[register as usize].pair {
            let pair = match ty {
                ValueType::Boolean => pair.map(|row| self.mask_of(row)),
                ValueType::Int | ValueType::Float => pair,
            };
            self.join(vector_type(ty), pair)
        } else if let Some(bits) = self.shape.constant(register) {
            self.splat(ty, bits)
        } else {
            let loaded = self.load(register, vector_type(ty), 0);
            if ty == ValueType::Boolean && self.is_input(register) { self.ins().ineg(loaded) } else { loaded }
        };
        self.known[register as usize].vector = Some(vector);
        vector
    }

    /// An int or boolean, one by one.
    pub fn pair(&mut self, register: Register) -> [Value; VECTOR_ROWS] {
        if let Some(pair) = self.known[register as usize].pair {
            return pair;
        }
        let is_boolean = self.ty(register) == ValueType::Boolean;
        let pair = if let Some(bits) = self.shape.constant(register) {
            let ty = if is_boolean { types::I8 } else { types::I64 };
            [self.ins().iconst(ty, bits as i64); VECTOR_ROWS]
        } else {
            let words = match self.known[register as usize].vector {
                Some(vector) => [self.ins().extractlane(vector, 0), self.ins().extractlane(vector, 1)],
                None => [self.load(register, types::I64, 0), self.load(register, types::I64, 1)],
            };
            if is_boolean { words.map(|word| self.low_bit(word)) } else { words }
        };
        self.known[register as usize].pair = Some(pair);
        pair
    }

    /// A constant's vector.
    pub fn splat(&mut self, ty: ValueType, bits: u64) -> Value {
        let one = match ty {
            ValueType::Float => self.ins().f64const(f64::from_bits(bits)),
            ValueType::Int => self.ins().iconst(types::I64, bits as i64),
            ValueType::Boolean => self.ins().iconst(types::I64, -(bits as i64 & 1)),
        };
        self.ins().splat(vector_type(ty), one)
    }

    /// Two rows as a vector.
    pub fn join(&mut self, ty: Type, [low, high]: [Value; VECTOR_ROWS]) -> Value {
        let both = self.ins().splat(ty, low);
        self.ins().insertlane(both, high, 1)
    }

    /// The same bits as another type of vector.
    pub fn cast(&mut self, ty: Type, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == ty {
            return value;
        }
        self.ins().bitcast(ty, MemFlagsData::new(), value)
    }

    /// `yes` where the mask's bits are set, else `no`.
    pub fn blend(&mut self, mask: Value, yes: Value, no: Value) -> Value {
        let ty = self.builder.func.dfg.value_type(yes);
        let mask = self.cast(ty, mask);
        self.ins().bitselect(mask, yes, no)
    }

    /// Stores a register to its slot.
    pub fn store(&mut self, register: Register, position: usize) {
        let lanes = self.known[register as usize];
        match (lanes.vector, lanes.pair) {
            (None, Some(pair)) => {
                let is_boolean = self.ty(register) == ValueType::Boolean;
                let words = if is_boolean { pair.map(|row| self.mask_of(row)) } else { pair };
                self.store_pair(words, position);
            }
            _ => {
                let vector = self.vector(register);
                self.store_vector(vector, position);
            }
        }
    }

    /// Stores the formula's value: floats with the one NaN, booleans as 0 and 1.
    pub fn store_result(&mut self) {
        let register = self.shape.formula.result();
        let position = self.shape.table.result();
        let lanes = self.known[register as usize];
        match (self.ty(register), lanes.vector, lanes.pair) {
            (ValueType::Float, ..) => {
                let value = self.vector(register);
                let is_nan = self.ins().fcmp(FloatCC::Unordered, value, value);
                let nan = self.splat(ValueType::Float, CANONICAL_NAN);
                let canonical = self.blend(is_nan, nan, value);
                self.store_vector(canonical, position);
            }
            (ty, None, Some(pair)) => {
                let is_boolean = ty == ValueType::Boolean;
                let words = if is_boolean { pair.map(|row| self.ins().uextend(types::I64, row)) } else { pair };
                self.store_pair(words, position);
            }
            (ValueType::Boolean, ..) => {
                let mask = self.vector(register);
                let bits = self.ins().ineg(mask);
                self.store_vector(bits, position);
            }
            (ValueType::Int, ..) => {
                let vector = self.vector(register);
                self.store_vector(vector, position);
            }
        }
    }

    fn is_input(&self, register: Register) -> bool {
        matches!(self.shape.formula.instructions()[register as usize].operation, Operation::Input(_))
    }

    /// All bits of a word from an `I8` that is 0 or 1.
    fn mask_of(&mut self, row: Value) -> Value {
        let word = self.ins().uextend(types::I64, row);
        self.ins().ineg(word)
    }

    /// An `I8` that is 0 or 1 from a word that is 0, 1 or all bits.
    fn low_bit(&mut self, word: Value) -> Value {
        let byte = self.ins().ireduce(types::I8, word);
        self.ins().band_imm_u(byte, 1)
    }

    fn address(&mut self, position: Option<usize>) -> Value {
        let offset = self.offset;
        match position.and_then(|position| self.bases[position]) {
            Some(base) => self.ins().iadd(base, offset),
            None => {
                self.misplaced = true;
                offset
            }
        }
    }

    fn load(&mut self, register: Register, ty: Type, row: usize) -> Value {
        let address = self.address(self.shape.position(register));
        let displacement = self.displacement + (row * VALUE_BYTES) as i32;
        self.ins().load(ty, ACCESS, address, displacement)
    }

    fn store_vector(&mut self, value: Value, position: usize) {
        let address = self.address(Some(position));
        let displacement = self.displacement;
        self.ins().store(ACCESS, value, address, displacement);
    }

    fn store_pair(&mut self, words: [Value; VECTOR_ROWS], position: usize) {
        let address = self.address(Some(position));
        for (row, word) in words.into_iter().enumerate() {
            let displacement = self.displacement + (row * VALUE_BYTES) as i32;
            self.ins().store(ACCESS, word, address, displacement);
        }
    }
}
