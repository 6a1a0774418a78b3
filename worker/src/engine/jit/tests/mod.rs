//! Machine code against the definitions of the operations, row by row.

mod generator;
mod memory;
mod operations;
mod plan;
mod programs;

use super::{Checks, Compiled, Scratch};
use generator::Generator;
use quipu_shared::formula::typed::{Operation, TypedFormula, ValueType, apply_binary, apply_unary};
use quipu_shared::formula::{Formula, FormulaLimits};
use quipu_shared::math::canonical;
use quipu_shared::spec::ColumnType;

/// Columns of formulas in these tests.
const COLUMNS: [(&str, ColumnType); 8] = [
    ("x", ColumnType::Float),
    ("y", ColumnType::Float),
    ("z", ColumnType::Float),
    ("i", ColumnType::Int),
    ("j", ColumnType::Int),
    ("k", ColumnType::Int),
    ("p", ColumnType::Boolean),
    ("q", ColumnType::Boolean),
];

/// Around the ends of vectors, turns and chunks.
const ROW_COUNTS: [usize; 9] = [0, 1, 2, 3, 7, 1023, 1024, 1025, 4096];

fn limits() -> FormulaLimits {
    FormulaLimits::CEILING
}

fn typed(text: &str) -> TypedFormula {
    let formula = Formula::parse(text, &limits()).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let variables = COLUMNS.map(|(name, ty)| (name.to_string(), ty));
    TypedFormula::new(&formula, &variables, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What the operations' definitions give for a row; `None` where it fails.
fn expected(formula: &TypedFormula, inputs: &[Vec<u64>], row: usize) -> Option<u64> {
    let mut values: Vec<u64> = Vec::new();
    for instruction in formula.instructions() {
        let value = |register: u32| values[register as usize];
        values.push(match instruction.operation {
            Operation::Input(index) => inputs[index as usize][row],
            Operation::Constant(bits) => bits,
            Operation::Unary(operation, a) => apply_unary(operation, value(a))?,
            Operation::Binary(operation, a, b) => apply_binary(operation, value(a), value(b))?,
            Operation::Select(condition, yes, no) => value(if value(condition) != 0 { yes } else { no }),
        });
    }
    let bits = values[formula.result() as usize];
    let is_float = formula.result_type() == ValueType::Float;
    Some(if is_float { canonical(f64::from_bits(bits)).to_bits() } else { bits })
}

/// Compares one run over `rows` rows of drawn inputs with the definitions, and once more with failing rows' inputs
/// replaced, where everything must succeed, checked or proven.
fn compare(text: &str, formula: &TypedFormula, code: &[Compiled; 2], generator: &mut Generator, rows: usize) {
    let mut scratch = Scratch::default();
    let mut inputs: Vec<Vec<u64>> =
        formula.inputs().iter().map(|input| (0..rows).map(|_| generator.value(input.ty)).collect()).collect();
    let wanted: Vec<Option<u64>> = (0..rows).map(|row| expected(formula, &inputs, row)).collect();
    check(text, &code[0], &mut scratch, &inputs, &wanted);
    let Some(good) = wanted.iter().position(Option::is_some) else { return };
    for row in (0..rows).filter(|row| wanted[*row].is_none()) {
        for input in &mut inputs {
            input[row] = input[good];
        }
    }
    let wanted: Vec<Option<u64>> = wanted.iter().map(|value| value.or(wanted[good])).collect();
    for code in code {
        check(text, code, &mut scratch, &inputs, &wanted);
    }
}

fn check(text: &str, code: &Compiled, scratch: &mut Scratch, inputs: &[Vec<u64>], wanted: &[Option<u64>]) {
    let mut out = vec![0xdead_beef; wanted.len()];
    let columns: Vec<&[u64]> = inputs.iter().map(Vec::as_slice).collect();
    let failed = code.run(scratch, &columns, &mut out);
    let rows = wanted.len();
    assert_eq!(failed, wanted.contains(&None), "{text} over {rows} rows");
    for (row, (got, wanted)) in out.iter().zip(wanted).enumerate() {
        let values: Vec<u64> = inputs.iter().map(|input| input[row]).collect();
        assert!(
            wanted.is_none_or(|wanted| wanted == *got),
            "{text} at row {row} of {rows}, of {values:x?}: {got:x}, not {wanted:x?}"
        );
    }
}

fn both(text: &str, formula: &TypedFormula) -> [Compiled; 2] {
    [Checks::Checked, Checks::Proven]
        .map(|checks| Compiled::new(formula, checks).unwrap_or_else(|error| panic!("{text}: {error}")))
}

/// Compares a formula at all row counts.
fn compare_all(text: &str, generator: &mut Generator) {
    let formula = typed(text);
    let code = both(text, &formula);
    for rows in ROW_COUNTS {
        compare(text, &formula, &code, generator, rows);
    }
}
