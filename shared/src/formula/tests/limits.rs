//! Each limit, at its bound and one past it; and what no limit may prevent: dropping.

use crate::formula::{ErrorCode, Evaluator, Formula, FormulaError, FormulaLimits};
use crate::spec::Scalar;
use std::thread;

fn eval(text: &str, limits: &FormulaLimits) -> Result<Scalar, FormulaError> {
    Evaluator::new(&Formula::parse(text, limits)?, &[], &[], limits).evaluate_once()
}

/// Asserts that a text fits within limits and another one, one past them, does not.
fn assert_bound(limits: &FormulaLimits, fits: &str, exceeds: &str, code: ErrorCode) {
    if let Err(error) = eval(fits, limits) {
        panic!("{fits:.40} fits, but: {error}");
    }
    assert_eq!(eval(exceeds, limits).map_err(|error| error.code), Err(code), "{exceeds:.40}");
}

#[test]
fn bytes_of_a_formula() {
    let limits = FormulaLimits { formula_bytes_max: 5, ..FormulaLimits::default() };
    assert_bound(&limits, "1 + 2", "1  + 2", ErrorCode::FormulaTooLong);
    let limits = FormulaLimits::default();
    let exact = format!("1{}", " ".repeat(8191));
    assert_bound(&limits, &exact, &format!("{exact} "), ErrorCode::FormulaTooLong);
}

#[test]
fn tokens() {
    let limits = FormulaLimits { tokens_max: 3, ..FormulaLimits::default() };
    assert_bound(&limits, "1 + 2", "-1 + 2", ErrorCode::TooManyTokens);
    let chain = format!("-1{}", ";1".repeat(999));
    assert_bound(&FormulaLimits::default(), &chain, &format!("-{chain}"), ErrorCode::TooManyTokens);
}

#[test]
fn nesting() {
    let limits = FormulaLimits { nesting_max: 2, ..FormulaLimits::default() };
    assert_bound(&limits, "((1))", "(((1)))", ErrorCode::NestedTooDeep);
    let nested = |levels| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert_bound(&FormulaLimits::default(), &nested(100), &nested(101), ErrorCode::NestedTooDeep);
}

#[test]
fn runs_of_unary_operators_functions_and_assignments() {
    let limits = FormulaLimits::default();
    for prefix in ["-", "floor ", "- - "] {
        let each = prefix.split_whitespace().count();
        let fits = format!("{}1", prefix.repeat(64 / each));
        assert_bound(&limits, &fits, &format!("-{fits}"), ErrorCode::RunTooLong);
    }
    let not = format!("{}true", "!".repeat(64));
    assert_bound(&limits, &not, &format!("!{not}"), ErrorCode::RunTooLong);
    let names = |count: usize| (0..count).map(|at| format!("a{at}=")).collect::<String>() + "()";
    assert_bound(&limits, &names(64), &names(65), ErrorCode::RunTooLong);
    // A separator or a parenthesis begins a new run.
    let apart = format!("{}1", "a=1;".repeat(200));
    assert_eq!(eval(&apart, &limits), Ok(Scalar::Int(1)));
}

#[test]
fn nodes() {
    // The root, the sum and its operands.
    let limits = FormulaLimits { nodes_max: 4, ..FormulaLimits::default() };
    assert_bound(&limits, "1 + 2", "1 + -2", ErrorCode::TooManyNodes);
}

#[test]
fn depth_of_the_tree() {
    let limits = FormulaLimits { tree_depth_max: 3, ..FormulaLimits::default() };
    assert_bound(&limits, "1 + 2", "1 + 2 + 3", ErrorCode::TreeTooDeep);
    let limits = FormulaLimits { tokens_max: 4_000, ..FormulaLimits::default() };
    let sum = |terms: usize| format!("1{}", "+1".repeat(terms - 1));
    assert_bound(&limits, &sum(999), &sum(1_000), ErrorCode::TreeTooDeep);
}

#[test]
fn bytes_of_a_value() {
    let limits = FormulaLimits { value_bytes_max: 64, ..FormulaLimits::default() };
    let string = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    assert_bound(&limits, &string(64), &string(65), ErrorCode::ValueTooLarge);
    let added = |bytes: usize| format!("{} + {}", string(32), string(bytes));
    assert_bound(&limits, &added(32), &added(33), ErrorCode::ValueTooLarge);
    let assigned = |bytes: usize| format!("a = {}; a += {}; a", string(32), string(bytes));
    assert_bound(&limits, &assigned(32), &assigned(33), ErrorCode::ValueTooLarge);
    assert_bound(&limits, "(1, 2)", "(1, 2, 3)", ErrorCode::ValueTooLarge);
    assert_bound(&limits, "1, 2", "1, \"a\"", ErrorCode::ValueTooLarge);
    let upper = |count: usize| format!("str::to_uppercase(\"{}\")", "\u{390}".repeat(count));
    assert_bound(&limits, &upper(10), &upper(11), ErrorCode::ValueTooLarge);
    assert_bound(&limits, "str::from(1e60)", "str::from(1e64)", ErrorCode::ValueTooLarge);
}

#[test]
fn depth_of_a_value() {
    let limits = FormulaLimits { value_depth_max: 2, ..FormulaLimits::default() };
    assert_bound(&limits, "(1, (2, 3))", "(1, (2, (3, 4)))", ErrorCode::ValueTooDeep);
    assert_bound(
        &limits,
        "a = (1, 2); a = (a, 2); 1",
        "a = (1, 2); a = (a, 2); a = (a, 2); 1",
        ErrorCode::ValueTooDeep,
    );
}

#[test]
fn work() {
    let limits = FormulaLimits { fuel_max: 1_000, ..FormulaLimits::default() };
    let reads = |count: usize| format!("a = \"{}\"; {}1", "x".repeat(97), "a == a;".repeat(count));
    assert_bound(&limits, &reads(2), &reads(5), ErrorCode::TooMuchWork);
    let numbers = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>().join(",");
    let search = |count: usize| format!("contains_any(({}), (-1, -2))", numbers(count));
    let limits = FormulaLimits { fuel_max: 5_000, ..FormulaLimits::default() };
    assert_bound(&limits, &search(20), &search(100), ErrorCode::TooMuchWork);
}

#[test]
fn a_row_of_numbers_needs_no_fuel() {
    let limits = FormulaLimits { fuel_max: 0, ..FormulaLimits::default() };
    assert_eq!(eval("a = 1; min(a, 2) + if(a > 0, 3, 4) ^ 2", &limits), Ok(Scalar::Float(10.0)));
}

#[test]
fn nothing_raises_a_limit_above_its_ceiling() {
    let all = FormulaLimits {
        formula_bytes_max: usize::MAX,
        tokens_max: usize::MAX,
        nesting_max: usize::MAX,
        run_max: usize::MAX,
        nodes_max: usize::MAX,
        tree_depth_max: usize::MAX,
        value_bytes_max: usize::MAX,
        value_depth_max: usize::MAX,
        fuel_max: u64::MAX,
    };
    assert_eq!(all.effective(), FormulaLimits::CEILING);
    assert_eq!(FormulaLimits::default().effective(), FormulaLimits::default());
    let nested = format!("{}1{}", "(".repeat(501), ")".repeat(501));
    assert_eq!(eval(&nested, &all).map_err(|error| error.code), Err(ErrorCode::NestedTooDeep));
}

#[test]
fn unknown_keys_are_refused() {
    assert!(serde_json::from_str::<FormulaLimits>("{\"tokens_max\": 5}").is_ok_and(|limits| limits.tokens_max == 5));
    assert!(serde_json::from_str::<FormulaLimits>("{\"token_max\": 5}").is_err());
}

#[test]
fn the_deepest_formula_parses_evaluates_and_drops_on_a_small_stack() {
    let limits = FormulaLimits { tokens_max: 16_000, tree_depth_max: 8_000, ..FormulaLimits::CEILING };
    let work = move || {
        let text = format!("\"\"{}", "+\"\"".repeat(7_900));
        let formula = Formula::parse(&text, &limits)?;
        let copy = formula.clone();
        let value = Evaluator::new(&formula, &[], &[], &limits).evaluate_once();
        drop(formula);
        thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || drop(copy))
            .expect("a thread starts")
            .join()
            .expect("drops");
        value
    };
    let value = thread::Builder::new().stack_size(256 * 1024).spawn(work).expect("a thread starts").join();
    assert_eq!(value.expect("no overflow"), Ok(Scalar::String(String::new())));
}

#[test]
fn what_the_parser_refuses_halfway_drops_on_a_small_stack() {
    let limits = FormulaLimits::CEILING;
    // The parser itself refuses the name of a target among operands only after it has built the rest.
    let text = format!("1{} + (x)(", "+1".repeat(7_000));
    let work = move || Formula::parse(&text, &limits).map(|_| ());
    let result = thread::Builder::new().stack_size(256 * 1024).spawn(work).expect("a thread starts").join();
    assert!(result.expect("no overflow").is_err());
}

#[test]
fn formulas_travel_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Formula>();
    sent::<Evaluator>();
}
