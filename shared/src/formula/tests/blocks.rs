//! Evaluation over blocks of rows.

use crate::block::{Block, Column, RowState};
use crate::formula::{Evaluator, Formula, FormulaLimits};
use crate::spec::OnError;

#[test]
fn numeric_columns_give_a_typed_column() {
    let limits = FormulaLimits::default();
    let formula = Formula::parse("a*x*x + 1.0", &limits).unwrap();
    let variables = ["x".to_string(), "a".to_string()];
    let block = Block {
        first_row: 4096,
        len: 3,
        columns: vec![Column::Float(vec![1.0, 2.0, 3.0]), Column::Int(vec![1, 2, 3])],
        nulls: vec![None, None],
        bad_rows: Vec::new(),
    };
    let values = Evaluator::new(&formula, &variables, &[], &limits).evaluate(&block, OnError::Fail);
    assert_eq!(values.column, Column::Float(vec![2.0, 9.0, 28.0]));
    assert_eq!(values.states, vec![RowState::Valid; 3]);
    assert_eq!(values.first_row, 4096);
}
