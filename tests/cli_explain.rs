//! `quipu explain` end to end.

mod cli_support;

use cli_support::{finish, quipu, run};
use serde_json::Value;

fn explained(args: &[&str]) -> Value {
    let out = run(&[&["explain", "-O", "json"], args].concat()).ok();
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{out}: {error}"))
}

#[test]
fn typed_formula_shows_its_form_tier_and_cost() {
    let shown = explained(&["a * x + b", "--types", "a=int,x=float", "-v", "b=2.5"]);
    assert_eq!(shown["type"], "float");
    assert_ne!(shown["tier"], "evalexpr");
    assert_eq!(shown["because"], Value::Null);
    assert!(shown["cost_ns_per_row"].as_f64().is_some_and(|cost| cost > 0.0 && cost < 10.0), "{shown}");
    let form = shown["typed_form"].to_string();
    assert!(form.contains("IntToFloat") && form.contains("MulFloat") && form.contains("2.5: float"), "{form}");
}

#[test]
fn formula_of_text_says_why_it_stays_with_evalexpr() {
    let shown = explained(&["x * len(name)", "--types", "name=string"]);
    assert_eq!(shown["tier"], "evalexpr");
    assert_eq!(shown["because"], "the column name is text at character 9");
    assert_eq!(shown["type"], Value::Null);
    let plain = run(&["explain", "x * len(name)", "--types", "name=string"]).ok();
    assert!(plain.contains("because  the column name is text at character 9"), "{plain}");
}

#[test]
fn tier_can_be_forced_by_configuration() {
    let mut command = quipu(&["explain", "x + 1", "-O", "json"]);
    command.env("QUIPU_WORKER__TIER", "interpreter");
    let out = finish(command.spawn().expect("start quipu"), Vec::new()).ok();
    assert!(out.contains("\"tier\":\"interpreter\""), "{out}");
}

#[test]
fn formula_that_is_refused_ends_with_65_and_a_wrong_type_with_2() {
    run(&["explain", "x +"]).fails(65);
    run(&["explain", "nothing(x)"]).fails(65);
    run(&["explain", "x", "--types", "x=date"]).fails(2);
    run(&["explain", "x", "--types", "x=int,x=int"]).fails(2);
}
