//! Literals of `-v` and of lists.

use crate::formula::{ErrorCode, parse_literal};
use crate::spec::Scalar;

#[test]
fn literals_have_their_formula_values() {
    let cases = [
        ("1", Scalar::Int(1)),
        (" 42 ", Scalar::Int(42)),
        ("-3", Scalar::Int(-3)),
        ("- 3", Scalar::Int(-3)),
        ("0x1f", Scalar::Int(31)),
        ("-0x1f", Scalar::Int(-31)),
        ("007", Scalar::Int(7)),
        ("9223372036854775807", Scalar::Int(i64::MAX)),
        ("-9223372036854775808", Scalar::Int(i64::MIN)),
        ("9223372036854775808", Scalar::Float(9_223_372_036_854_775_808.0)),
        ("1.5", Scalar::Float(1.5)),
        ("-1e-3", Scalar::Float(-1e-3)),
        ("-0.0", Scalar::Float(-0.0)),
        ("inf", Scalar::Float(f64::INFINITY)),
        ("-inf", Scalar::Float(f64::NEG_INFINITY)),
        ("true", Scalar::Boolean(true)),
        ("\"a b\"", Scalar::String("a b".into())),
        ("\"-5\"", Scalar::String("-5".into())),
        (
            "(1, -2.0, \"x\", (true, false))",
            Scalar::Tuple(vec![
                Scalar::Int(1),
                Scalar::Float(-2.0),
                Scalar::String("x".into()),
                Scalar::Tuple(vec![Scalar::Boolean(true), Scalar::Boolean(false)]),
            ]),
        ),
        ("1, 2", Scalar::Tuple(vec![Scalar::Int(1), Scalar::Int(2)])),
    ];
    for (text, value) in cases {
        match (parse_literal(text), value) {
            (Ok(Scalar::Float(found)), Scalar::Float(wanted)) => {
                assert_eq!(found.to_bits(), wanted.to_bits(), "{text}");
            }
            (found, wanted) => assert_eq!(found, Ok(wanted), "{text}"),
        }
    }
    assert!(matches!(parse_literal("nan"), Ok(Scalar::Float(nan)) if nan.is_nan()));
}

#[test]
fn anything_else_is_refused() {
    for text in [
        "",
        "()",
        "x",
        "abc",
        "1 + 1",
        "2 ^ 2",
        "--1",
        "!true",
        "math::sin(1)",
        "a = 1",
        "1;2",
        "(1,)",
        "(,1)",
        "-(1, 2)",
        "'a'",
        "1_000",
    ] {
        assert_eq!(parse_literal(text).map_err(|error| error.code), Err(ErrorCode::NotALiteral), "{text}");
    }
    for text in ["(1", "\"a", "1 2", "-", "-true", "-\"a\""] {
        assert!(parse_literal(text).is_err(), "{text}");
    }
}
