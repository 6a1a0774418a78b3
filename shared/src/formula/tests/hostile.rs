//! Every formula that is known to hurt evalexpr gives a clear error or a bounded value, soon.

use super::{code, eval, eval_with};
use crate::formula::{ErrorCode, Evaluator, Formula, FormulaError, FormulaLimits, hostile};
use crate::spec::Scalar;
use std::time::{Duration, Instant};

/// The slowest case took 20 ms in an unoptimised build, most of them microseconds.
const CASE_MAX: Duration = Duration::from_secs(2);

/// What each case gives within the default limits; `None` is a value.
const OUTCOMES: &[(&str, Option<ErrorCode>)] = &[
    ("parentheses_10k", Some(ErrorCode::FormulaTooLong)),
    ("parentheses_200k", Some(ErrorCode::FormulaTooLong)),
    ("parentheses_then_garbage_200k", Some(ErrorCode::FormulaTooLong)),
    ("parentheses_open_200k", Some(ErrorCode::FormulaTooLong)),
    ("parentheses_closed_200k", Some(ErrorCode::FormulaTooLong)),
    ("parentheses_half_closed", Some(ErrorCode::TooManyTokens)),
    ("sum_100k", Some(ErrorCode::FormulaTooLong)),
    ("power_100k", Some(ErrorCode::FormulaTooLong)),
    ("negative_power_50k", Some(ErrorCode::FormulaTooLong)),
    ("product_of_negatives_50k", Some(ErrorCode::FormulaTooLong)),
    ("minus_16k", Some(ErrorCode::FormulaTooLong)),
    ("not_16k", Some(ErrorCode::FormulaTooLong)),
    ("floor_juxtaposed_16k", Some(ErrorCode::FormulaTooLong)),
    ("floor_called_50k", Some(ErrorCode::FormulaTooLong)),
    ("assignments_8k", Some(ErrorCode::FormulaTooLong)),
    ("tuple_1m", Some(ErrorCode::FormulaTooLong)),
    ("chain_500k", Some(ErrorCode::FormulaTooLong)),
    ("min_of_500k", Some(ErrorCode::FormulaTooLong)),
    ("if_nested_20k", Some(ErrorCode::FormulaTooLong)),
    ("string_doubled_by_assign_add", Some(ErrorCode::ValueTooLarge)),
    ("string_doubled_by_add", Some(ErrorCode::ValueTooLarge)),
    ("string_doubled_by_if", Some(ErrorCode::ValueTooLarge)),
    ("string_doubled_by_from", Some(ErrorCode::ValueTooLarge)),
    ("string_added_in_a_row", Some(ErrorCode::ValueTooLarge)),
    ("tuple_doubled", Some(ErrorCode::ValueTooLarge)),
    ("tuple_widened", Some(ErrorCode::ValueTooLarge)),
    ("tuple_deepened", Some(ErrorCode::ValueTooDeep)),
    ("tuple_of_large_strings", Some(ErrorCode::TooMuchWork)),
    ("tuples_copied_through_parentheses", Some(ErrorCode::ValueTooDeep)),
    ("contains_any_10k", Some(ErrorCode::FormulaTooLong)),
    ("contains_any_at_token_limit", None),
    ("contains_any_of_strings", Some(ErrorCode::TooMuchWork)),
    ("substring_inside_a_character", Some(ErrorCode::SubstringOutOfRange)),
    ("substring_ends_inside_a_character", Some(ErrorCode::SubstringOutOfRange)),
    ("substring_reversed", Some(ErrorCode::SubstringOutOfRange)),
    ("substring_beyond_the_end", Some(ErrorCode::SubstringOutOfRange)),
    ("substring_negative", Some(ErrorCode::SubstringOutOfRange)),
    ("shl_64", Some(ErrorCode::ShiftOutOfRange)),
    ("shl_negative", Some(ErrorCode::ShiftOutOfRange)),
    ("shr_64", Some(ErrorCode::ShiftOutOfRange)),
    ("shr_least_int", Some(ErrorCode::ShiftOutOfRange)),
    ("abs_of_least_int", Some(ErrorCode::IntOverflow)),
    ("negated_least_int", Some(ErrorCode::IntOverflow)),
    ("least_int_by_minus_one", Some(ErrorCode::IntOverflow)),
    ("least_int_remainder_minus_one", Some(ErrorCode::IntOverflow)),
    ("division_by_zero", Some(ErrorCode::DivisionByZero)),
    ("remainder_by_zero", Some(ErrorCode::DivisionByZero)),
    ("overflow", Some(ErrorCode::IntOverflow)),
    ("uppercase_triples", None),
    ("uppercase_triples_over_and_over", Some(ErrorCode::ValueTooLarge)),
    ("long_digits_of_a_float", Some(ErrorCode::ValueTooLarge)),
    ("string_1m", Some(ErrorCode::FormulaTooLong)),
    ("name_1m", Some(ErrorCode::FormulaTooLong)),
    ("digits_1m", Some(ErrorCode::FormulaTooLong)),
    ("fraction_1m", Some(ErrorCode::FormulaTooLong)),
    ("comments_100k", Some(ErrorCode::FormulaTooLong)),
    ("comment_open", Some(ErrorCode::UnmatchedComment)),
    ("quote_open", Some(ErrorCode::UnmatchedQuote)),
    ("escape_at_end", Some(ErrorCode::UnmatchedQuote)),
    ("plus_2k", Some(ErrorCode::MissingOperand)),
    ("assigned_computed_name", Some(ErrorCode::InvalidAssignment)),
    ("assigned_value_as_name", Some(ErrorCode::InvalidAssignment)),
    ("control_characters", Some(ErrorCode::UnexpectedCharacter)),
    ("names_1k", Some(ErrorCode::TreeTooDeep)),
    ("tuple_then_semicolon", Some(ErrorCode::MixedSequence)),
    ("unicode_spaces", None),
    ("separators_only", None),
    ("commas_only", Some(ErrorCode::ValueTooLarge)),
];

/// Limits that are as high as any configuration can make them.
fn ceiling() -> FormulaLimits {
    FormulaLimits {
        formula_bytes_max: usize::MAX,
        tokens_max: usize::MAX,
        nesting_max: usize::MAX,
        run_max: usize::MAX,
        nodes_max: usize::MAX,
        tree_depth_max: usize::MAX,
        value_bytes_max: usize::MAX,
        value_depth_max: usize::MAX,
        fuel_max: u64::MAX,
    }
}

fn eval_within(text: &str, limits: &FormulaLimits) -> Result<Scalar, FormulaError> {
    Evaluator::new(&Formula::parse(text, limits)?, &[], &[], limits).evaluate_once()
}

#[test]
fn every_case_ends_soon_with_its_value_or_error() {
    let cases = hostile::cases();
    assert_eq!(cases.len(), OUTCOMES.len());
    for (name, formula) in cases {
        let begun = Instant::now();
        let result = eval(&formula);
        let elapsed = begun.elapsed();
        assert!(elapsed < CASE_MAX, "{name} took {elapsed:?}");
        let outcome = OUTCOMES.iter().find(|(case, _)| *case == name).map(|(_, outcome)| *outcome);
        assert_eq!(Some(result.as_ref().err().map(|error| error.code)), outcome, "{name}: {result:?}");
        if let Err(error) = result {
            assert!(!error.message.is_empty() && error.message.len() < 300, "{name}: {} bytes", error.message.len());
            assert!(!error.message.chars().any(char::is_control), "{name}: {:?}", error.message);
        }
    }
}

#[test]
fn harmless_cases_have_the_right_value() {
    let value = |wanted: &str| {
        let (_, formula) = hostile::cases().into_iter().find(|(name, _)| *name == wanted).expect("the case is listed");
        eval(&formula)
    };
    assert_eq!(value("contains_any_at_token_limit"), Ok(Scalar::Boolean(false)));
    assert_eq!(value("uppercase_triples"), Ok(Scalar::String("\u{399}\u{308}\u{301}".repeat(3_500))));
    assert_eq!(value("unicode_spaces"), Ok(Scalar::Int(2)));
    assert_eq!(value("separators_only"), Ok(Scalar::Empty));
}

/// The caps behind the byte cap hold by themselves: here it lets sixteen times as much through, as every other one does.
#[test]
fn every_case_ends_soon_with_every_limit_at_its_ceiling() {
    let limits = ceiling();
    for (name, formula) in hostile::cases() {
        let begun = Instant::now();
        drop(eval_within(&formula, &limits));
        let elapsed = begun.elapsed();
        assert!(elapsed < Duration::from_secs(30), "{name} took {elapsed:?}");
    }
}

/// The shapes of the full-size cases at sizes that pass the byte cap: another cap stops each.
#[test]
fn shapes_are_capped_where_bytes_are_not() {
    let repeat = |open: &str, middle: &str, close: &str, count: usize| {
        format!("{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    for (text, outcome) in [
        (repeat("(", "1", ")", 900), ErrorCode::NestedTooDeep),
        (repeat("(", "1", ") 1", 400), ErrorCode::NestedTooDeep),
        (repeat("floor(", "1", ")", 400), ErrorCode::NestedTooDeep),
        (repeat("if(true,", "1", ",0)", 250), ErrorCode::NestedTooDeep),
        (repeat("-", "1", "", 1_900), ErrorCode::RunTooLong),
        (repeat("!", "true", "", 1_900), ErrorCode::RunTooLong),
        (repeat("floor ", "1", "", 1_300), ErrorCode::RunTooLong),
        (repeat("a=", "1", "", 900), ErrorCode::RunTooLong),
        (repeat("1+", "1", "", 4_000), ErrorCode::TooManyTokens),
        (repeat("1^", "1", "", 999), ErrorCode::TreeTooDeep),
        (repeat("1,", "1", "", 4_000), ErrorCode::TooManyTokens),
        (repeat("+", "1", "", 4_000), ErrorCode::TooManyTokens),
    ] {
        assert_eq!(code(&text), outcome, "{text:.30}");
    }
}

#[test]
fn bound_values_are_bounded_too() {
    let large = Scalar::String("x".repeat(40_000));
    let error = eval_with("len(s)", &[("s", large.clone())]).map_err(|error| error.code);
    assert_eq!(error, Err(ErrorCode::ValueTooLarge));
    assert_eq!(eval_with("1", &[("s", large)]), Ok(Scalar::Int(1)));
    let deep = (0..40).fold(Scalar::Int(1), |inner, _| Scalar::Tuple(vec![inner]));
    assert_eq!(eval_with("len(t)", &[("t", deep)]).map_err(|error| error.code), Err(ErrorCode::ValueTooDeep));
}
