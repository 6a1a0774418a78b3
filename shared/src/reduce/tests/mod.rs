//! The laws, against references that are written another way.

mod exact;
mod laws;
mod moments;
mod natural;
mod partials;
mod values;

use super::{ReducerSet, parse_reductions};
use crate::BLOCK_ROWS;
use crate::block::{Block, Column, RowState, Values};
use crate::spec::Scalar;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use serde_json::Value;

/// One block of a test: its number, and its rows' values (`None` is a null or a hole).
#[derive(Clone, Debug)]
struct TestBlock {
    number: u64,
    rows: Vec<Option<Scalar>>,
}

impl TestBlock {
    fn rows(&self) -> impl Iterator<Item = (u64, &Scalar)> {
        let first = self.number * BLOCK_ROWS;
        self.rows.iter().enumerate().filter_map(move |(i, value)| Some((first + i as u64, value.as_ref()?)))
    }
}

/// All types of reductions of numbers.
const NUMERIC: &str =
    "count,sum,mean,min,max,argmin,argmax,variance,stddev,histogram(-10,10,7),quantile(0),quantile(0.5),quantile(1)";

/// Those of them that can be exact.
const EXACT: &str = "count,sum,mean,min,max,argmin,argmax,variance,stddev,histogram(-10,10,7)";

fn set(reductions: &str) -> ReducerSet {
    ReducerSet::new(&parse_reductions(reductions).unwrap(), &["n".into(), "s".into()], false).unwrap()
}

fn exact_set(reductions: &str) -> ReducerSet {
    ReducerSet::new(&parse_reductions(reductions).unwrap(), &["n".into(), "s".into()], true).unwrap()
}

fn push(set: &mut ReducerSet, block: &TestBlock) -> Result<(), crate::block::RowError> {
    let first_row = block.number * BLOCK_ROWS;
    let len = block.rows.len();
    let inputs = Block {
        first_row,
        len,
        columns: vec![
            Column::Int((first_row..).take(len).map(|row| row as i64).collect()),
            Column::String(vec!["text".into(); len]),
        ],
        nulls: vec![None, Some((0..len).map(|i| i % 2 == 1).collect())],
        bad_rows: Vec::new(),
    };
    let states = block.rows.iter().enumerate().map(|(i, value)| match value {
        Some(_) => RowState::Valid,
        None if i % 2 == 0 => RowState::Null,
        None => RowState::Hole,
    });
    let values = Values { first_row, column: column(&block.rows), states: states.collect(), errors: Vec::new() };
    set.push(&inputs, &values)
}

/// The narrowest column that has the values, with rubbish in the other rows.
fn column(rows: &[Option<Scalar>]) -> Column {
    let valid = || rows.iter().flatten();
    if valid().all(|v| matches!(v, Scalar::Float(_))) {
        Column::Float(rows.iter().map(|v| if let Some(Scalar::Float(x)) = v { *x } else { f64::NAN }).collect())
    } else if valid().all(|v| matches!(v, Scalar::Int(_))) {
        Column::Int(rows.iter().map(|v| if let Some(Scalar::Int(x)) = v { *x } else { i64::MIN }).collect())
    } else if valid().all(|v| matches!(v, Scalar::Boolean(_))) {
        Column::Boolean(rows.iter().map(|v| matches!(v, None | Some(Scalar::Boolean(true)))).collect())
    } else {
        Column::Mixed(rows.iter().map(|v| v.clone().unwrap_or(Scalar::String("rubbish".into()))).collect())
    }
}

fn reduced(reductions: &str, blocks: &[TestBlock]) -> ReducerSet {
    with_blocks(set(reductions), blocks)
}

fn reduced_exactly(reductions: &str, blocks: &[TestBlock]) -> ReducerSet {
    with_blocks(exact_set(reductions), blocks)
}

fn with_blocks(mut set: ReducerSet, blocks: &[TestBlock]) -> ReducerSet {
    for block in blocks {
        push(&mut set, block).unwrap();
    }
    set
}

/// The result alone.
fn result(set: ReducerSet) -> Value {
    set.finish(0, 0).unwrap()["result"].take()
}

fn floats(values: &[f64]) -> TestBlock {
    TestBlock { number: 0, rows: values.iter().map(|x| Some(Scalar::Float(*x))).collect() }
}

fn ints(values: &[i64]) -> TestBlock {
    TestBlock { number: 0, rows: values.iter().map(|x| Some(Scalar::Int(*x))).collect() }
}

fn booleans(values: &[bool]) -> TestBlock {
    TestBlock { number: 0, rows: values.iter().map(|x| Some(Scalar::Boolean(*x))).collect() }
}

/// Each value in a block of its own, so that block sums are the values.
fn one_a_block(values: &[Scalar]) -> Vec<TestBlock> {
    (0..).zip(values).map(|(number, value)| TestBlock { number, rows: vec![Some(value.clone())] }).collect()
}

/// Floats of every kind, with many that tie, cancel or overflow.
fn any_float() -> impl Strategy<Value = f64> {
    let special = [0.0, -0.0, 1.0, -1.0, f64::MAX, -f64::MAX, f64::MIN_POSITIVE, 5e-324, -5e-324, 1e16, -1e16, 10.0];
    prop_oneof![
        8 => -20.0..20.0,
        4 => proptest::sample::select(special.to_vec()),
        2 => any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
    ]
}

fn any_number() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any_float().prop_map(Scalar::Float),
        (-30..30_i64).prop_map(Scalar::Int),
        (i64::MIN / 64..i64::MAX / 64).prop_map(Scalar::Int),
    ]
}

fn any_non_finite() -> impl Strategy<Value = f64> {
    let nans = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001)];
    proptest::sample::select([nans.as_slice(), &[f64::INFINITY, f64::NEG_INFINITY]].concat())
}

/// Up to a dozen blocks with rising numbers and gaps between them; of floats, of ints, or of both.
fn any_blocks() -> impl Strategy<Value = Vec<TestBlock>> {
    let float = any_float().prop_map(Scalar::Float).boxed();
    let wild = prop_oneof![30 => any_float(), 1 => any_non_finite()].prop_map(Scalar::Float).boxed();
    let int = prop_oneof![-30..30_i64, i64::MIN / 64..i64::MAX / 64].prop_map(Scalar::Int).boxed();
    let value = prop_oneof![Just(float), Just(wild), Just(int), Just(any_number().boxed())];
    value.prop_flat_map(|value| {
        let row = prop_oneof![4 => value.prop_map(Some), 1 => Just(None)];
        let block = (1..4_u64, proptest::collection::vec(row, 0..40));
        proptest::collection::vec(block, 0..12).prop_map(|blocks| {
            let mut number = 0;
            let numbered = blocks.into_iter().map(|(step, rows)| {
                number += step;
                TestBlock { number: number - 1, rows }
            });
            numbered.collect()
        })
    })
}
