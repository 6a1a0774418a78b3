//! Every tier against evalexpr's evaluator, on columns seeded with edges.

use super::{Engine, Plan};
use quipu_shared::BLOCK_ROWS;
use quipu_shared::block::{Block, Column, RowError, RowState, Values};
use quipu_shared::config::TierChoice;
use quipu_shared::formula::{Evaluator, Formula, FormulaLimits};
use quipu_shared::spec::{ColumnType, OnError, Scalar};
use std::sync::Arc;

const FLOATS: [f64; 14] = [
    f64::NAN,
    0.0,
    -0.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    5e-324,
    -2.2e-308,
    1.0,
    -1.5,
    2.5,
    1e300,
    f64::MAX,
    0.3,
    -7.25,
];
const INTS: [i64; 12] = [i64::MIN, i64::MAX, -1, 0, 1, 2, 63, 64, -64, 3_037_000_500, 1 << 52, -4_503_599_627_370_497];

/// Rows in which every edge meets every other; the ints are small where `small` says so.
fn block(rows: usize, small: bool) -> Block {
    let ints = |step: usize| {
        let of = |i: usize| if small { (i * step % 2001) as i64 - 1000 } else { INTS[i / step % INTS.len()] };
        Column::Int((0..rows).map(of).collect())
    };
    let floats = |step: usize| Column::Float((0..rows).map(|i| FLOATS[i / step % FLOATS.len()]).collect());
    Block {
        first_row: BLOCK_ROWS,
        len: rows,
        columns: vec![
            floats(1),
            floats(14),
            ints(1),
            ints(12),
            Column::Boolean((0..rows).map(|i| i % 3 == 0).collect()),
        ],
        nulls: vec![None, Some((0..rows).map(|i| i % 17 == 5).collect()), None, None, None],
        bad_rows: (0..rows)
            .filter(|i| i % 101 == 7)
            .map(|i| RowError { row: BLOCK_ROWS + i as u64, code: "cell_type".into(), message: "bad".into() })
            .collect(),
    }
}

fn columns() -> Vec<(String, ColumnType)> {
    use ColumnType::{Boolean, Float, Int};
    [("x", Float), ("y", Float), ("i", Int), ("j", Int), ("b", Boolean)].map(|(name, ty)| (name.into(), ty)).into()
}

const FORMULAS: [&str; 42] = [
    "x + y * 2 - x / y",
    "x % y",
    "-x",
    "i + j",
    "i - j",
    "i * j",
    "i / j",
    "i % j",
    "-i",
    "math::abs(i) + math::abs(j)",
    "math::abs(x)",
    "floor(x) + ceil(y) + round(x * 3.7)",
    "math::sqrt(x)",
    "math::sin(x) * math::exp(y) + math::ln(x)",
    "x ^ y",
    "x ^ 2",
    "2 ^ x",
    "i ^ j",
    "math::atan2(x, y) + math::hypot(x, 3)",
    "math::log(x, 2) + math::cbrt(y)",
    "min(x, y, 0.0)",
    "max(x, y)",
    "min(i, j, 3)",
    "max(-1, i)",
    "bitand(i, j) + bitor(1, bitxor(i, 2)) ",
    "bitnot(i)",
    "shl(i, j)",
    "shr(i, j)",
    "shl(1, 3) + i",
    "i < j",
    "x <= y",
    "i >= y",
    "i == j && x != y || !b",
    "b == (x > 0.0)",
    "if(b, x, y)",
    "if(i > j, i / 3, j % 7)",
    "math::is_nan(x) || math::is_finite(y) && math::is_infinite(x) != math::is_normal(y)",
    "t = x * x; u = t + y; t += 1.0; t * u",
    "i / j; 1.5",
    "x / y; 2",
    "i * i * i - 2 * i * j + 7",
    "3.5",
];

fn check(text: &str, choice: TierChoice, block: &Block, selected: Option<&[bool]>, on_error: OnError) {
    let limits = FormulaLimits::default();
    let formula = Formula::parse(text, &limits).unwrap();
    let columns = columns();
    let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
    let expected = Evaluator::new(&formula, &names, &[], &limits).evaluate_where(block, selected, on_error);
    let plan = Arc::new(Plan::new(&formula, &columns, &[], &limits, choice));
    assert!(plan.typed().is_ok(), "{text}: {:?}", plan.typed());
    let mut engine = Engine::new(&plan);
    let mut values = Values::default();
    // Twice, so that buffers that are used again show.
    for _ in 0..2 {
        engine.evaluate(block, selected, on_error, &mut values);
    }
    assert_eq!(values.first_row, expected.first_row, "{text}");
    assert_eq!(values.states, expected.states, "{text}");
    assert_eq!(values.errors.len(), expected.errors.len(), "{text}");
    for (ours, theirs) in values.errors.iter().zip(&expected.errors) {
        assert_eq!(ours.row, theirs.row, "{text}");
        assert!(ours == theirs || ours.code.is_empty(), "{text}: {ours:?} but {theirs:?}");
    }
    for row in (0..block.len).filter(|row| values.states[*row] == RowState::Valid) {
        let (ours, theirs) = (values.column.get(row), expected.column.get(row));
        let same = match (&ours, &theirs) {
            (Scalar::Float(a), Scalar::Float(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        };
        assert!(same, "{text} ({choice:?}) at {row}: {ours:?} but evalexpr says {theirs:?}");
    }
}

#[test]
fn tiers_agree_with_evalexpr_on_edges() {
    for small in [false, true] {
        for rows in [1, 9, 1023, 1024, 1025, 4096] {
            let block = block(rows, small);
            let selected: Vec<bool> = (0..rows).map(|i| i % 5 != 1).collect();
            for text in FORMULAS {
                for choice in [TierChoice::Auto, TierChoice::Interpreter, TierChoice::Jit] {
                    check(text, choice, &block, None, OnError::Null);
                }
                check(text, TierChoice::Interpreter, &block, Some(&selected), OnError::Skip);
            }
        }
    }
}

#[test]
fn failures_beyond_the_first_are_counted_without_a_message() {
    let formula = Formula::parse("1 / i", &FormulaLimits::default()).unwrap();
    let columns = vec![("i".to_string(), ColumnType::Int)];
    let plan = Arc::new(Plan::new(&formula, &columns, &[], &FormulaLimits::default(), TierChoice::Interpreter));
    let block = Block { len: 4096, columns: vec![Column::Int(vec![0; 4096])], ..Block::default() };
    let mut values = Values::default();
    Engine::new(&plan).evaluate(&block, None, OnError::Skip, &mut values);
    assert_eq!(values.errors.len(), 4096);
    assert_eq!(values.errors[999].code, "division_by_zero");
    assert_eq!(values.errors[1000].code, "");
}

#[test]
fn column_of_another_type_goes_to_evalexpr() {
    let formula = Formula::parse("i + 1", &FormulaLimits::default()).unwrap();
    let columns = vec![("i".to_string(), ColumnType::Int)];
    let plan = Arc::new(Plan::new(&formula, &columns, &[], &FormulaLimits::default(), TierChoice::Interpreter));
    let block = Block { len: 2, columns: vec![Column::Float(vec![0.5, 1.5])], ..Block::default() };
    let mut values = Values::default();
    Engine::new(&plan).evaluate(&block, None, OnError::Skip, &mut values);
    assert_eq!(values.column, Column::Float(vec![1.5, 2.5]));
}
