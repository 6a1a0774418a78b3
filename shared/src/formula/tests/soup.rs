//! Random formulas and random bytes: they end, do not panic, and mean what evalexpr takes them to mean.

use super::eval_with;
use super::reference::{assert_programs_agree, evalexpr_says, same};
use crate::formula::evaluate::into_scalar;
use crate::formula::{ErrorCode, Formula, FormulaLimits, parse_literal};
use crate::spec::Scalar;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

const PIECES: &[&str] = &[
    "1",
    "2",
    "0",
    "3.5",
    "1e3",
    "1e-3",
    ".5",
    "5.",
    "0x1f",
    "true",
    "false",
    "nan",
    "inf",
    "9223372036854775807",
    "\"a\"",
    "\"\"",
    "\"\u{e9}\"",
    "x",
    "y",
    "s",
    "t",
    "b",
    "unknown",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    "<",
    ">",
    "<=",
    ">=",
    "&&",
    "||",
    "!",
    "=",
    "+=",
    "-=",
    "*=",
    "/=",
    "%=",
    "^=",
    "&&=",
    "||=",
    "(",
    ")",
    "(",
    ")",
    ",",
    ";",
    "()",
    "min",
    "max",
    "floor",
    "if",
    "if(",
    "len",
    "typeof",
    "contains",
    "contains_any(",
    "math::abs",
    "math::sqrt",
    "math::pow(",
    "str::from",
    "str::trim",
    "str::to_uppercase",
    "bitand(",
    "bitnot",
    "round ",
    " ",
    "/**/",
    "/* c */",
    "//c\n",
    "&",
    "|",
    "a=",
    "a",
    "a+=",
    "1e",
    "e",
    "_",
    "#",
    "\u{3b1}",
];

fn bindings() -> Vec<(&'static str, Scalar)> {
    vec![
        ("x", Scalar::Int(3)),
        ("y", Scalar::Float(-2.5)),
        ("s", Scalar::String("abc".into())),
        ("t", Scalar::Tuple(vec![Scalar::Int(1), Scalar::Int(2)])),
        ("b", Scalar::Boolean(true)),
    ]
}

/// What evalexpr evaluates and we refuse on purpose in well-formed text: names computed at run time, assignments that
/// are operands, and `1;2,3;4`, which evalexpr takes for `1;(2,3,4)`.
const REFUSED: &[ErrorCode] = &[ErrorCode::InvalidAssignment, ErrorCode::MixedSequence];
/// In any text also operators before their operands (`+ 1 2`), and parentheses that evalexpr drops (`2 + 3 ()`).
const REFUSED_IN_SOUP: &[ErrorCode] = &[
    ErrorCode::InvalidAssignment,
    ErrorCode::MixedSequence,
    ErrorCode::MissingOperand,
    ErrorCode::MissingOperator,
    ErrorCode::UnexpectedEnd,
];

fn soup(count: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![8 => select(PIECES), 1 => Just(" ")];
    proptest::collection::vec(piece, 0..count).prop_map(|pieces| pieces.concat())
}

/// Well-formed expressions, so that evaluation is reached more often than by soup.
fn expression() -> impl Strategy<Value = String> {
    let leaf = select(&["1", "0", "2.5", "-3", "true", "\"a\"", "x", "y", "s", "t", "b", "nan", "()", "1e300"][..])
        .prop_map(str::to_string);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = select(
            &["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">=", "&&", "||", ",", ";", " + ", "; a = ", "; a += "][..],
        );
        let function = select(
            &["min", "max", "floor", "if", "len", "typeof", "contains", "contains_any", "math::abs", "str::from", "round "]
                [..],
        );
        prop_oneof![
            4 => (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("{a}{op}{b}")),
            2 => inner.clone().prop_map(|a| format!("({a})")),
            1 => inner.clone().prop_map(|a| format!("-{a}")),
            1 => inner.clone().prop_map(|a| format!("!{a}")),
            2 => (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("if({a}, {b}, {c})")),
        ]
    })
}

/// Whether our min and max differ from evalexpr's on purpose, or its text is outside what can be compared.
fn outside_comparison(text: &str) -> bool {
    text.contains("min") || text.contains("max")
}

fn agree(text: &str, refused: &[ErrorCode]) {
    let ours = eval_with(text, &bindings());
    assert_programs_agree(text, &bindings());
    assert_programs_agree(text, &[("x", Scalar::Int(3)), ("y", Scalar::Float(-2.5)), ("b", Scalar::Boolean(true))]);
    if outside_comparison(text) {
        return;
    }
    let theirs = evalexpr_says(text, &bindings()).map(into_scalar);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert!(same(ours, theirs, 4), "{text:?}: {ours:?} here, {theirs:?} in evalexpr"),
        (Err(error), Ok(theirs)) => {
            assert!(refused.contains(&error.code), "{text:?}: {error:?} here, {theirs:?} in evalexpr");
        }
        (Ok(ours), Err(theirs)) => panic!("{text:?}: {ours:?} here, {theirs:?} in evalexpr"),
        (Err(_), Err(_)) => {}
    }
}

proptest! {
    #[test]
    fn token_soup_means_what_evalexpr_takes_it_to_mean(text in soup(12)) {
        agree(&text, REFUSED_IN_SOUP);
    }

    #[test]
    fn expressions_mean_what_evalexpr_takes_them_to_mean(text in expression()) {
        agree(&text, REFUSED);
    }

    #[test]
    fn long_token_soup_ends(text in soup(400)) {
        let _ = eval_with(&text, &bindings());
    }

    #[test]
    fn any_text_ends(text in any::<String>()) {
        let _ = eval_with(&text, &bindings());
        let _ = parse_literal(&text);
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Formula::parse(&text, &FormulaLimits::default());
    }
}
