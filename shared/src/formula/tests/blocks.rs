//! Evaluation over blocks of rows.

use crate::block::{Block, Column, RowError, RowState, Values};
use crate::formula::{Evaluator, Formula, FormulaLimits};
use crate::spec::{OnError, Scalar};

const FIRST_ROW: u64 = 4096;

fn block(columns: Vec<Column>) -> Block {
    let len = columns.first().map_or(0, Column::len);
    let nulls = columns.iter().map(|_| None).collect();
    Block { first_row: FIRST_ROW, len, columns, nulls, bad_rows: Vec::new() }
}

fn evaluator(text: &str, variables: &[&str], bindings: &[(&str, Scalar)]) -> Evaluator {
    let limits = FormulaLimits::default();
    let formula = Formula::parse(text, &limits).expect("the formula parses");
    let variables: Vec<String> = variables.iter().map(|name| (*name).to_string()).collect();
    let bindings: Vec<_> = bindings.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
    Evaluator::new(&formula, &variables, &bindings, &limits)
}

fn evaluate(text: &str, variables: &[&str], block: &Block) -> Values {
    evaluator(text, variables, &[]).evaluate(block, OnError::Fail)
}

fn ints(values: &[i64]) -> Column {
    Column::Int(values.to_vec())
}

#[test]
fn numeric_columns_give_a_typed_column() {
    let block = block(vec![Column::Float(vec![1.0, 2.0, 3.0]), ints(&[1, 2, 3])]);
    let values = evaluate("a*x*x + 1.0", &["x", "a"], &block);
    assert_eq!(values.column, Column::Float(vec![2.0, 9.0, 28.0]));
    assert_eq!(values.states, vec![RowState::Valid; 3]);
    assert_eq!(values.first_row, FIRST_ROW);
    assert_eq!(evaluate("a * 2", &["x", "a"], &block).column, ints(&[2, 4, 6]));
    assert_eq!(evaluate("a > 1", &["x", "a"], &block).column, Column::Boolean(vec![false, true, true]));
    let text = ["1", "2", "3"].map(String::from).to_vec();
    assert_eq!(evaluate("str::from(a)", &["x", "a"], &block).column, Column::String(text));
}

#[test]
fn values_of_several_types_give_a_mixed_column() {
    let block = block(vec![ints(&[1, 2, 3])]);
    let mixed = vec![Scalar::Int(1), Scalar::Float(0.5), Scalar::Float(0.5)];
    assert_eq!(evaluate("if(a < 2, a, 0.5)", &["a"], &block).column, Column::Mixed(mixed));
    let tuples = [1, 2, 3].map(|a| Scalar::Tuple(vec![Scalar::Int(a), Scalar::Int(0)])).to_vec();
    assert_eq!(evaluate("a, 0", &["a"], &block).column, Column::Mixed(tuples));
}

#[test]
fn failed_rows_become_what_on_error_says_and_are_listed() {
    let block = block(vec![ints(&[0, 1, 0, 2])]);
    for (on_error, state) in
        [(OnError::Fail, RowState::Hole), (OnError::Skip, RowState::Hole), (OnError::Null, RowState::Null)]
    {
        let values = evaluator("4 / a", &["a"], &[]).evaluate(&block, on_error);
        assert_eq!(values.states, [state, RowState::Valid, state, RowState::Valid]);
        assert_eq!((values.column.get(1), values.column.get(3)), (Scalar::Int(4), Scalar::Int(2)));
        let errors: Vec<_> = values.errors.iter().map(|error| (error.row, error.code.as_str())).collect();
        assert_eq!(errors, [(FIRST_ROW, "division_by_zero"), (FIRST_ROW + 2, "division_by_zero")]);
    }
}

#[test]
fn nulls_that_are_read_give_null() {
    let mut block = block(vec![ints(&[1, 2]), ints(&[10, 20])]);
    block.nulls = vec![None, Some(vec![true, false])];
    assert_eq!(evaluate("a + b", &["a", "b"], &block).states, [RowState::Null, RowState::Valid]);
    assert_eq!(evaluate("a + 1", &["a", "b"], &block).states, [RowState::Valid, RowState::Valid]);
    assert_eq!(evaluate("b = 3; a + b", &["a", "b"], &block).states, [RowState::Valid, RowState::Valid]);
    assert_eq!(evaluate("b += 3; a", &["a", "b"], &block).states, [RowState::Null, RowState::Valid]);
}

#[test]
fn unreadable_rows_fail_with_their_own_error() {
    let mut block = block(vec![ints(&[1, 2, 3])]);
    let bad = RowError { row: FIRST_ROW + 1, code: "bad_cell".into(), message: "not an int".into() };
    block.bad_rows = vec![bad.clone()];
    let values = evaluate("a", &["a"], &block);
    assert_eq!(values.states, [RowState::Valid, RowState::Hole, RowState::Valid]);
    assert_eq!(values.errors, [bad]);
    assert_eq!(values.column.get(2), Scalar::Int(3));
}

#[test]
fn rows_never_see_each_others_assignments() {
    let block = block(vec![ints(&[1, 2, 3])]);
    let mut rows = evaluator("n = k; n += a; k = n; n", &["a"], &[("k", Scalar::Int(100))]);
    assert_eq!(rows.evaluate(&block, OnError::Fail).column, ints(&[101, 102, 103]));
    assert_eq!(evaluate("a = a + 1; a", &["a"], &block).column, ints(&[2, 3, 4]));
    let mut once = evaluator("n = k; k += 1; k", &[], &[("k", Scalar::Int(1))]);
    assert_eq!((once.evaluate_once(), once.evaluate_once()), (Ok(Scalar::Int(2)), Ok(Scalar::Int(2))));
    // What only some rows assign is unknown in the others' eyes too.
    assert_eq!(evaluate("b; b = a", &["a"], &block).errors.len(), 3);
}

#[test]
fn columns_hide_bindings_of_the_same_name() {
    let block = block(vec![ints(&[1, 2])]);
    let values = evaluator("a", &["a"], &[("a", Scalar::Int(9))]).evaluate(&block, OnError::Fail);
    assert_eq!(values.column, ints(&[1, 2]));
}

#[test]
fn text_columns_are_metered() {
    let long = "x".repeat(20_000);
    let block = block(vec![Column::String(vec!["a".into(), long.clone(), "y".repeat(40_000)])]);
    let values = evaluate("s + s", &["s"], &block);
    assert_eq!(values.states, [RowState::Valid, RowState::Hole, RowState::Hole]);
    assert_eq!(values.column.get(0), Scalar::String("aa".into()));
    let codes: Vec<_> = values.errors.iter().map(|error| error.code.as_str()).collect();
    assert_eq!(codes, ["value_too_large", "value_too_large"]);
    let unread = evaluate("s = \"z\"; s", &["s"], &block);
    assert_eq!(unread.states, vec![RowState::Valid; 3]);
}

#[test]
fn an_empty_block_gives_no_values() {
    let values = evaluate("a", &["a"], &block(vec![ints(&[])]));
    assert!(values.column.is_empty() && values.states.is_empty() && values.errors.is_empty());
}

#[test]
fn a_block_without_the_column_fails_its_rows() {
    let mut short = block(vec![ints(&[1])]);
    short.len = 2;
    let values = evaluate("a + b", &["a", "b"], &short);
    assert_eq!(values.states, vec![RowState::Hole; 2]);
    assert!(values.errors.iter().all(|error| error.code == "unknown_variable"));
}
