//! Errors: their codes, places and words.

use super::{eval, eval_with};
use crate::formula::{ErrorCode, Formula, FormulaError, FormulaLimits, Symbols};
use crate::spec::{ColumnType, FunctionSet, Scalar, SymbolPolicy};

fn error(text: &str) -> FormulaError {
    match eval(text) {
        Err(error) => error,
        Ok(value) => panic!("{text} must fail, but is {value:?}"),
    }
}

fn assert_error(text: &str, code: ErrorCode, place: Option<(u32, u32)>) {
    let error = error(text);
    assert_eq!(error.code, code, "{text}: {error:?}");
    assert_eq!(error.line.zip(error.column), place, "{text}: {error:?}");
}

fn symbols(variables: &[(&str, Option<ColumnType>)], policy: SymbolPolicy) -> Symbols {
    let variables = variables.iter().map(|(name, ty)| ((*name).to_string(), *ty)).collect();
    Symbols { variables, policy }
}

fn check(text: &str, symbols: &Symbols) -> Result<(), FormulaError> {
    Formula::parse(text, &FormulaLimits::default())?.check(symbols)
}

#[test]
fn syntax_errors_name_their_place() {
    assert_error("1 +", ErrorCode::UnexpectedEnd, Some((1, 4)));
    assert_error("1 +  ", ErrorCode::UnexpectedEnd, Some((1, 6)));
    assert_error("a =", ErrorCode::UnexpectedEnd, Some((1, 4)));
    assert_error("-", ErrorCode::UnexpectedEnd, Some((1, 2)));
    assert_error("(1", ErrorCode::UnmatchedParenthesis, Some((1, 1)));
    assert_error("1 + (2 * (3)", ErrorCode::UnmatchedParenthesis, Some((1, 5)));
    assert_error("1)", ErrorCode::UnmatchedParenthesis, Some((1, 2)));
    assert_error("1 * * 2", ErrorCode::MissingOperand, Some((1, 5)));
    assert_error("(1 + )", ErrorCode::MissingOperand, Some((1, 6)));
    assert_error("+ 1", ErrorCode::MissingOperand, Some((1, 1)));
    assert_error("2 3", ErrorCode::MissingOperator, Some((1, 3)));
    assert_error("2(3)", ErrorCode::MissingOperator, Some((1, 2)));
    assert_error("(1)(2)", ErrorCode::MissingOperator, Some((1, 4)));
    assert_error("1 !true", ErrorCode::MissingOperator, Some((1, 3)));
    assert_error("\"abc", ErrorCode::UnmatchedQuote, Some((1, 1)));
    assert_error("1 /* x", ErrorCode::UnmatchedComment, Some((1, 3)));
    assert_error("\"a\\n\"", ErrorCode::IllegalEscape, Some((1, 3)));
    assert_error("1 & 2", ErrorCode::UnexpectedCharacter, Some((1, 3)));
    assert_error("1 \u{7} 2", ErrorCode::UnexpectedCharacter, Some((1, 3)));
    assert_error("1,2;3", ErrorCode::MixedSequence, Some((1, 4)));
    assert_error("1 + 2 = 3", ErrorCode::InvalidAssignment, Some((1, 7)));
}

#[test]
fn places_count_lines_and_characters() {
    assert_error("\"\u{e9}\u{e9}\" +\n  \"\u{1f600}\" + 1 +", ErrorCode::UnexpectedEnd, Some((2, 12)));
    assert_error("1;\n\n  nope", ErrorCode::UnknownVariable, Some((3, 3)));
}

#[test]
fn evaluation_errors_name_their_place_where_there_is_one() {
    assert_error("1 + nope", ErrorCode::UnknownVariable, Some((1, 5)));
    assert_error("1 + nope(2)", ErrorCode::UnknownFunction, Some((1, 5)));
    assert_error("1 + 7 / 0", ErrorCode::DivisionByZero, Some((1, 7)));
    assert_error("1 / 1 + 7 / 0", ErrorCode::DivisionByZero, None);
    assert_error("9223372036854775807 + 1", ErrorCode::IntOverflow, Some((1, 21)));
    assert_error("1 + true", ErrorCode::WrongType, Some((1, 3)));
    assert_error("!1", ErrorCode::WrongType, Some((1, 1)));
    // Functions know which of several they are.
    assert_error("shl(1, 2) + shl(1, 64)", ErrorCode::ShiftOutOfRange, Some((1, 13)));
    assert_error("2.0 ^ 3 + 2.0 ^ true", ErrorCode::WrongType, Some((1, 15)));
    assert_error("a = 2; a ^= true; a", ErrorCode::WrongType, Some((1, 10)));
    assert_error("\"a\" + \"b\" + 1", ErrorCode::WrongType, Some((1, 11)));
    assert_error("math::sin(1) + math::sin(\"a\")", ErrorCode::WrongType, Some((1, 16)));
    assert_error("min(1)", ErrorCode::WrongArgumentCount, Some((1, 1)));
    assert_error("a = 1; a = 1.5", ErrorCode::WrongType, None);
}

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    let bindings = [("price", Scalar::Int(1)), ("quantity", Scalar::Int(2))];
    let message = |text: &str| match eval_with(text, &bindings) {
        Err(error) => error.message,
        Ok(value) => panic!("{text} is {value:?}"),
    };
    assert!(message("prise * quantity").contains("did you mean price?"), "{}", message("prise * quantity"));
    assert!(message("Price * 2").contains("did you mean price?"));
    assert!(message("sqrt(2)").contains("did you mean math::sqrt?"));
    assert!(message("math::sqr(2)").contains("did you mean math::sqrt?"));
    assert!(message("floor + 1").contains("floor is a function"));
    assert!(message("1_000 + 1").contains("numbers are written"));
    assert!(message("'a' + 1").contains("double quotes"));
}

#[test]
fn messages_never_repeat_much_of_a_formula() {
    let long = "v".repeat(5_000);
    let limits = FormulaLimits::default();
    for text in [
        long.clone(),
        format!("{long}(1)"),
        format!("1 {long}"),
        format!("\"{long}\" + 1"),
        format!("\"{long}\" - 1"),
        format!("math::sin(\"{long}\")"),
        format!("!\"{long}\""),
        format!("a = \"{long}\"; a = 1"),
        format!("{long} = 1; {long} = true"),
        format!("1 = {long}"),
        format!("({long}"),
        format!("\"\\{long}\""),
    ] {
        let error = error(&text);
        assert!(error.message.len() < 300, "{} bytes: {}", error.message.len(), error.message);
        if let Ok(formula) = Formula::parse(&text, &limits) {
            let known = symbols(&[(&long, Some(ColumnType::Int)), ("nan", None)], SymbolPolicy::default());
            assert!(formula.check(&Symbols::default()).err().is_none_or(|error| error.message.len() < 300));
            assert!(formula.notes(&known).iter().all(|note| note.len() < 300));
        }
    }
}

#[test]
fn check_finds_the_first_unknown_name() {
    let known = symbols(&[("x", None)], SymbolPolicy::default());
    assert_eq!(
        check("x + a; a = 1; b", &known).map_err(|e| (e.code, e.column)),
        Err((ErrorCode::UnknownVariable, Some(5)))
    );
    assert_eq!(check("a = x; a + 1", &known), Ok(()));
    assert_eq!(check("a += 1", &known).map_err(|e| e.code), Err(ErrorCode::UnknownVariable));
    assert_eq!(check("a = a + 1", &known).map_err(|e| e.code), Err(ErrorCode::UnknownVariable));
    assert_eq!(check("nope(y)", &known).map_err(|e| e.code), Err(ErrorCode::UnknownFunction));
}

#[test]
fn check_counts_arguments() {
    let known = symbols(&[("x", None)], SymbolPolicy::default());
    for text in
        ["floor(1, 2)", "math::pow(2)", "if(true, 1)", "min(1)", "math::sin()", "str::substring(\"a\")", "shl 3"]
    {
        assert_eq!(check(text, &known).map_err(|e| e.code), Err(ErrorCode::WrongArgumentCount), "{text}");
    }
    for text in
        ["min(x)", "len(1, 2)", "typeof()", "str::from(1, 2)", "floor x", "str::substring(\"a\", 0, 1)", "floor((1))"]
    {
        assert_eq!(check(text, &known), Ok(()), "{text}");
    }
}

#[test]
fn policies_narrow_names_and_functions() {
    let only = |functions, vars_only| SymbolPolicy { functions, vars_only };
    let variables = [("x", Some(ColumnType::Int)), ("y", Some(ColumnType::Float))];
    let none = symbols(&variables, only(FunctionSet::None, None));
    assert_eq!(check("x ^ 2 + y", &none), Ok(()));
    assert_eq!(check("math::sin(x)", &none).map_err(|e| e.code), Err(ErrorCode::FunctionNotAllowed));
    let math = symbols(&variables, only(FunctionSet::Math, None));
    for text in
        ["math::sin(x)", "min(x, y)", "floor(y) + round(y) + ceil(y)", "if(x > 1, 1, 2)", "bitand(x, shl(1, 2))"]
    {
        assert_eq!(check(text, &math), Ok(()), "{text}");
    }
    for text in ["str::from(x)", "len(\"a\")", "typeof(x)", "contains((1, 2), x)", "contains_any((1, 2), (x, 1))"] {
        assert_eq!(check(text, &math).map_err(|e| e.code), Err(ErrorCode::FunctionNotAllowed), "{text}");
    }
    let narrow = symbols(&variables, only(FunctionSet::All, Some(vec![("x".into(), Some(ColumnType::Float))])));
    assert_eq!(check("y + 1", &narrow).map_err(|e| e.code), Err(ErrorCode::VariableNotAllowed));
    assert_eq!(check("x + 1", &narrow).map_err(|e| e.code), Err(ErrorCode::WrongVariableType));
    let fits = symbols(&variables, only(FunctionSet::All, Some(vec![("x".into(), Some(ColumnType::Int))])));
    assert_eq!(check("own = x + 1; own * 2", &fits), Ok(()));
}

#[test]
fn notes_tell_what_surprises() {
    let known = symbols(
        &[("i", Some(ColumnType::Int)), ("f", Some(ColumnType::Float)), ("inf", Some(ColumnType::Int)), ("u", None)],
        SymbolPolicy::default(),
    );
    let notes = |text: &str| match Formula::parse(text, &FormulaLimits::default()) {
        Ok(formula) => formula.notes(&known),
        Err(error) => panic!("{text}: {error}"),
    };
    assert!(notes("7 / 2").iter().any(|note| note.contains("divides two ints")));
    assert!(notes("i / (i + 1)").iter().any(|note| note.contains("divides two ints")));
    assert!(notes("2 ^ 3 ^ 2").iter().any(|note| note.contains("from the left")));
    assert!(notes("i == 1.0").iter().any(|note| note.contains("never equal")));
    assert!(notes("inf + 1").iter().any(|note| note.contains("literal")));
    for text in
        ["f / 2", "u / 2", "i / 2.0", "2 ^ (3 ^ 2)", "(2 ^ 3) ^ 2", "i == 1", "i < 1.0", "i + 1", "i = 7; i / 2"]
    {
        assert_eq!(notes(text), Vec::<String>::new(), "{text}");
    }
    assert!(notes("1/2 + 1/2 + 1/2 + 1/2 + 1/2").len() <= 3);
}

#[test]
fn codes_are_distinct_and_in_snake_case() {
    let mut seen: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert!(seen.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), ErrorCode::ALL.len());
    for code in ErrorCode::ALL {
        assert_eq!(serde_json::to_string(code).expect("a code is text"), format!("\"{code}\""));
    }
}
