//! What the typed form takes, shares and keeps.

use super::{TypedFormula, Untyped};
use crate::formula::{Formula, FormulaLimits};
use crate::spec::{ColumnType, Scalar};

fn typed(text: &str) -> Result<TypedFormula, Untyped> {
    let formula = Formula::parse(text, &FormulaLimits::default()).unwrap();
    let variables = [
        ("x", ColumnType::Float),
        ("y", ColumnType::Float),
        ("i", ColumnType::Int),
        ("j", ColumnType::Int),
        ("b", ColumnType::Boolean),
        ("s", ColumnType::String),
    ]
    .map(|(name, ty)| (name.to_string(), ty));
    TypedFormula::new(&formula, &variables, &[("k".into(), Scalar::Int(2)), ("t".into(), Scalar::String("a".into()))])
}

fn shown(text: &str) -> String {
    typed(text).unwrap().to_string()
}

#[test]
fn equal_operations_share_a_register() {
    assert_eq!(
        shown("x * x + x * x"),
        "%0 = column 0: float\n%1 = MulFloat %0 %0: float\n%2 = AddFloat %1 %1: float\nresult %2"
    );
}

#[test]
fn constants_are_bound_and_folded() {
    assert_eq!(shown("k * 3 + 1"), "%0 = 7: int\nresult %0");
    assert_eq!(shown("x + k"), "%0 = column 0: float\n%1 = 2.0: float\n%2 = AddFloat %0 %1: float\nresult %2");
}

#[test]
fn operations_that_can_fail_stay() {
    assert_eq!(
        shown("i / j; 1.5"),
        "%0 = column 2: int\n%1 = column 3: int\n%2 = DivInt %0 %1: int\n%3 = 1.5: float\nresult %3"
    );
    assert_eq!(shown("x / y; 1.5"), "%0 = 1.5: float\nresult %0");
    let overflow = shown("if(true, 1, 9223372036854775807 + 1)");
    assert!(overflow.contains("AddInt"), "{overflow}");
}

#[test]
fn assignments_become_registers() {
    assert_eq!(shown("a = x * y; a += a; a"), shown("x * y + x * y"));
    assert_eq!(shown("x = y; x"), shown("y"));
    assert_eq!(typed("x = 1.0; x + y").unwrap().inputs().len(), 1);
}

#[test]
fn what_it_does_not_take_has_a_reason_and_a_place() {
    for (text, reason) in [
        ("s == \"a\"", "the column s is text at character 1"),
        ("x + len(s)", "the column s is text at character 9"),
        ("t", "it reads text at character 1"),
        ("if(b, 1, 2.0)", "the type of if depends on the row: int or float at character 1"),
        ("1.0 + min(i, x)", "the type of min depends on the row: it has ints and floats at character 7"),
        ("(x, y)", "its value is a tuple"),
        ("x + b", "+ of a boolean fails in every row at character 3"),
        ("b && i", "&& takes booleans: with ints it fails in every row at character 3"),
        ("a = 1; a = 1.5; a", "a variable that holds int is assigned float, which fails in every row at character 10"),
        ("typeof(x)", "typeof is not computed by the engine at character 1"),
        ("unknown", "it reads an unknown variable at character 1"),
        ("a = 1", "an assignment has no value"),
        ("a = 1;", "its value is empty"),
    ] {
        assert_eq!(typed(text).map_err(|untyped| untyped.to_string()), Err(reason.to_string()), "{text}");
    }
}

#[test]
fn comparisons_of_other_types_are_never_equal() {
    assert_eq!(shown("i == x"), "%0 = false: boolean\nresult %0");
    assert_eq!(shown("b != 1"), "%0 = true: boolean\nresult %0");
    assert!(shown("i < x").contains("IntToFloat"));
}

#[test]
fn dear_formulas_cost_more() {
    let cost = |text: &str| typed(text).unwrap().cost_ns();
    assert!(cost("x ^ y") > cost("math::sin(x)"));
    assert!(cost("math::sin(x)") > cost("x * y"));
    assert_eq!(cost("1 + 2"), 0.0);
}
