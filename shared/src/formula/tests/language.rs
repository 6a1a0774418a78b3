//! The language is evalexpr's: its documentation's examples, its own tests' examples, and what surprises in it.

use super::reference::{assert_programs_agree, assert_same};
use super::{code, eval};
use crate::formula::ErrorCode;
use crate::spec::Scalar;

/// Expressions of evalexpr's documentation, in its order, with variables in place of contexts.
const DOCUMENTED: &[&str] = &[
    "1 + 2 + 3",
    "1 /* inline comments are supported */ - 2 * 3 // as are end-of-line comments",
    "1.0 + 2 * 3",
    "true && 4 > 2",
    "a = 5",
    "a = 5; a = 5.0",
    "a = 5; a = a + 2; a",
    "a = 5; a = a + 2; a += 2; a",
    "five + 8 > twelve / 2",
    "(2 + 4) / 2 == 3",
    "six * two - three > 5",
    "six * two - (three + 5) > 5",
    "1 / 2",
    "1.0 / 2",
    "2^2",
    "1, \"b\", 3",
    "1, 2, (true, \"b\")",
    "a = 2; a *= 2; a += 2; a",
    "a = 2.2; a /= 2.0 / 4 + 1; a",
    "a = \"abc\"; a += \"def\"; a",
    "a = true; a &&= false; a",
    "1;2;3;4;",
    "1;2;3;4",
    "hp = 1; max_hp = 5; heal_amount = 3;",
    "hp = 1; max_hp = 5; heal_amount = 3; hp = min(hp + heal_amount, max_hp); hp",
    "a = 5;",
    "a",
    "a = 10; b = 1.0;",
    "max(1,3)",
    "\"abc\"",
    "\"\"",
    "\"a\\\"b\\\\c\"",
    "true",
    "false",
    "3",
    "-9",
    "0",
    "135412",
    "0xfe02",
    "-0x1e",
    "3.",
    ".35",
    "1.00",
    "0.5",
    "123.554",
    "23e4",
    "-2e-3",
    "3.54e+2",
    "(3, 55.0, false, ())",
    "(1, 2)",
    "()",
    "abc",
    "a<b",
    "a b",
    "123",
    ".34",
    "a v",
    "x 5.5",
    "a (3, true)",
    "a b 4",
    "5 b",
    "12 3",
    "a 5 6",
    "f 5",
    "\n// input\na = 1;  // assignment\n// output\n2 * a /* first double a */ + 2 // then add 2",
    "five * five",
];

/// One call or more of every builtin function, and one use or more of every operator.
const EVERY_FUNCTION_AND_OPERATOR: &[&str] = &[
    "min(4.0, 3)",
    "min(3, 4.0)",
    "min(1, 2, 3)",
    "min(1.5, 2.5)",
    "min(2, 2.0)",
    "min()",
    "min(1)",
    "min(1, true)",
    "max(4.0, 3)",
    "max(3, 4.0)",
    "max(1, 2, 3)",
    "max(1.5, 2.5)",
    "max(2, 2.0)",
    "max()",
    "max(1)",
    "max(1, \"a\")",
    "len(\"foobar\")",
    "len(\"\u{e9}\")",
    "len(\"a\", \"b\")",
    "len(1)",
    "len()",
    "floor(1.1)",
    "floor(1.9)",
    "floor(-1.5)",
    "floor(3)",
    "floor(true)",
    "floor(1, 2)",
    "round(1.1)",
    "round(1.5)",
    "round(2.5)",
    "round(-2.5)",
    "round(1.9)",
    "ceil(1.1)",
    "ceil(1.9)",
    "ceil(-0.5)",
    "if(true, -6, 5)",
    "if(false, -6, 5)",
    "if(2-1==1, \"good\", 0)",
    "if(true, 1, 1/0)",
    "if(1, 2, 3)",
    "if",
    "if()",
    "if(true, 1)",
    "if(true,1,1,1)",
    "if(true, (1, 2), 0)",
    "contains(1, 2, 3)",
    "contains((\"foo\", \"bar\"), \"bar\")",
    "contains((\"foo\", \"bar\"), \"buzz\")",
    "contains(\"foo\", \"bar\")",
    "contains((\"foo\", \"bar\", 123), 123)",
    "contains((1, 2), 1.0)",
    "contains((\"foo\", \"bar\"), (\"buzz\", \"bazz\"))",
    "contains((1, (2, 3)), 1)",
    "contains_any(1, 2, 3)",
    "contains_any((\"foo\", \"bar\"), (\"bar\", \"buzz\"))",
    "contains_any((\"foo\", \"bar\"), (\"buzz\", \"bazz\"))",
    "contains_any((1,2,3), (3,4,5))",
    "contains_any((1,2,3), (4,5,6))",
    "contains_any((true, false, true, true), (false, false, false))",
    "contains_any(\"foo\", \"bar\")",
    "contains_any((\"foo\", \"bar\"), \"buzz\")",
    "contains_any((\"foo\", \"bar\"), (\"buzz\", (1, 2, 3)))",
    "contains_any((\"foo\", \"bar\"), (\"foo\", (1, 2, 3)))",
    "typeof(4.0, 3)",
    "typeof(4.0)",
    "typeof(4)",
    "typeof(\"\")",
    "typeof(true)",
    "typeof()",
    "typeof(a = 1)",
    "math::is_nan(1.0/0.0)",
    "math::is_nan(0.0/0.0)",
    "math::is_nan(\"xxx\")",
    "math::is_nan(1)",
    "math::is_finite(1.0/0.0)",
    "math::is_finite(0.0/0.0)",
    "math::is_finite(0.0)",
    "math::is_infinite(0.0/0.0)",
    "math::is_infinite(1.0/0.0)",
    "math::is_normal(1.0/0.0)",
    "math::is_normal(0)",
    "math::is_normal(1e-310)",
    "math::ln(2.718281828459045)",
    "math::ln(0)",
    "math::ln(-1)",
    "math::log(9, 9)",
    "math::log(8, 2)",
    "math::log2(2)",
    "math::log10(10)",
    "math::exp(2)",
    "math::exp(1000)",
    "math::exp2(2)",
    "math::pow(1.5, 1.3)",
    "math::pow(2, 3)",
    "math::pow(2)",
    "math::cos(0)",
    "math::acos(1)",
    "math::acos(2)",
    "math::cosh(0)",
    "math::acosh(1)",
    "math::sin(0)",
    "math::asin(0)",
    "math::sinh(0)",
    "math::asinh(0)",
    "math::tan(0)",
    "math::atan(0)",
    "math::tanh(0)",
    "math::atanh(0)",
    "math::atan2(1.2, -5.5)",
    "math::sqrt(25)",
    "math::sqrt(-1)",
    "math::cbrt(8)",
    "math::hypot(8.2, 1.1)",
    "math::hypot(3, 4)",
    "math::abs(15.4)",
    "math::abs(-15.4)",
    "math::abs(15)",
    "math::abs(-15)",
    "math::abs(true)",
    "math::abs()",
    "math::abs(1, 2)",
    "str::to_lowercase(\"FOOBAR\")",
    "str::to_lowercase(\"\u{3a3}\u{391}\u{3a3}\")",
    "str::to_uppercase(\"foobar\")",
    "str::to_uppercase(\"stra\u{df}e\")",
    "str::trim(\"  foo  bar \")",
    "str::trim(1)",
    "str::from(\"a\")",
    "str::from(1.0)",
    "str::from(4.2)",
    "str::from(1)",
    "str::from(true)",
    "str::from((1, \"foo\", , false))",
    "str::from(1, 2, 3)",
    "str::from()",
    "str::from(1e21)",
    "str::from(1e-7)",
    "str::from(0.1)",
    "str::from(nan)",
    "str::from(-inf)",
    "str::substring(\"foobar\", 3)",
    "str::substring(\"foobar\", 3, 3)",
    "str::substring(\"foobar\", 3, 4)",
    "str::substring(\"foobar\", 6)",
    "str::substring()",
    "str::substring(\"foobar\")",
    "str::substring(\"foobar\", 2, 1)",
    "str::substring(\"foobar\", 99999)",
    "str::substring(\"foobar\", -1)",
    "str::substring(\"foobar\", 0, -1)",
    "str::substring(\"foobar\", 0, 1, 1)",
    "str::regex_matches(\"foobar\", \"[ob]{3}\")",
    "str::regex_replace(\"foobar\", \".*?(o+)\", \"b$1\")",
    "random()",
    "bitand(5, -1)",
    "bitand(6, 5)",
    "bitor(5, -1)",
    "bitor(6, 5)",
    "bitxor(5, -1)",
    "bitxor(6, 5)",
    "bitnot(5)",
    "bitnot(-1)",
    "bitand(1, 2.0)",
    "shl(5, 1)",
    "shl(-6, 5)",
    "shl(1, 63)",
    "shl(1, 0)",
    "shr(5, 1)",
    "shr(-6, 5)",
    "shr(-1, 63)",
    "2 ^ 3",
    "2 * 3",
    "2 * 3.0",
    "7 / 2",
    "7 / 2.0",
    "7 % 4",
    "7.5 % 2",
    "1 + 2",
    "\"a\" + \"b\"",
    "\"a\" + 1",
    "1 - 2",
    "1 < 2",
    "2 > 1",
    "1 <= 1",
    "1 >= 2",
    "1 == 1",
    "1 != 1",
    "\"a\" < \"b\"",
    "\"a\" == \"a\"",
    "true && false",
    "true || false",
    "!true",
    "-3",
    "----3",
    "a = 1; a",
    "a = 1; a += 2; a",
    "a = 1; a -= 2; a",
    "a = 2; a *= 2; a",
    "a = 7; a /= 2; a",
    "a = 7; a %= 4; a",
    "a = 2.0; a ^= 3; a",
    "a = 2; a ^= 3; a",
    "a = true; a &&= false; a",
    "a = false; a ||= true; a",
    "1, 2",
    "1; 2",
];

/// Expressions of evalexpr's own tests that need no functions of the host.
const TESTED: &[&str] = &[
    "3.3",
    "blub",
    "-3.6",
    "1e0",
    "1e-0",
    "10e3",
    "10e+3",
    "10e-3",
    "5 / 4",
    "5 *3",
    "1.0+3",
    "3-5.0",
    "5.0 *- 3",
    "5.0 * - 3",
    "-5.0 *-3",
    "3+-1",
    "-5--3",
    "5e2--3",
    "-5e-2--3",
    "3+1*5",
    "5-3/3",
    "5 / 4*2",
    "1-5 *3/15",
    "15/7/2.0",
    "15.0/-7/2",
    "-15.0/7/-2",
    "( -1 )",
    "-(1 + 3) * 7",
    "7/(7/(7/(7/(7/(7)))))",
    "1 % 4 + 2",
    "1 ^ 4 + 2",
    "2 ^ (4 + 2)",
    "true && false || true && true",
    "5 > 4 && 1 <= 1",
    "5.0 <= 4.9 || !(4 > 3.5)",
    "-true",
    "1-true",
    "true-",
    "!(()true)",
    "9223372036854775807 + 9223372036854775807",
    "-9223372036854775807 - 9223372036854775807",
    "-(-9223372036854775807 - 1)",
    "9223372036854775807 * 9223372036854775807",
    "9223372036854775807 / 0",
    "9223372036854775807 % 0",
    "9223372036854775807 ^ 9223372036854775807",
    "3..3",
    "asd()",
    "asd)",
    "asd(",
    "(,);.",
    "trueee",
    "3,3",
    "3a3",
    "(,)",
    "2 < = 3",
    "b = a = 5",
    "b = a = 5; b",
    "2, (5, 6)",
    "(1, 2, 3), 5, 6, (true, false, 0)",
    "1, (2)",
    "1, ()",
    "1, ((2))",
    "a = 2 + 4 * 2; b = -5 + 3 * 5; a == b",
    "a = 2 + 4 * 2; b = -5 + 3 * 5; a, b + 0.5",
    "a = 2 + 4 * 2; b = -5 + 3 * 5;",
    "a = \"xyz\"; b = \"abc\"; c = a + b; c",
    "a = true + \"4\"",
    "a = true && \"4\"",
    "&",
    "|",
    "3.0 / 3.0 / 3.0 / 3.0",
    "3.0 - 3.0 - 3.0 - 3.0",
    "123(1*2)",
    "1()",
    "1()()()()",
    "1()()()(9)()()",
    "five+100(five*2)",
    "(((1+2)*(3+4)+(5-(6)))/((7-8)))",
    "(((((5)))))",
    "3^-2",
    "3^(-2)",
    "-3^2",
    "-(3)^2",
    "(-3)^-2",
    "-(3^-2)",
    "0x3",
    "0xFF",
    "-0xFF",
    "0x",
    "0 /*",
    "1 % 4 + /*inline comment*/ 6 /*END*/",
    "/* begin */ 1 /* middle */ + 5 // end",
    "4 + \"abc\"",
    "\"abc",
    "\"\\n\"",
    "(1",
    "1)",
    "",
    ";",
    "1,",
    ",",
    "a = 1; a += (a = 10; 2); a",
    "a = 2.0; a ^= (a = 3.0; 2.0); a",
];

/// What DESIGN names as worth knowing.
const SURPRISING: &[&str] = &[
    "7/2",
    "-7/2",
    "-7%3",
    "2^3^2",
    "-2^2",
    "1 == 1.0",
    "1 < 1.5",
    "2 >= 2.0",
    "if(true, 1, 1/0)",
    "false && (1/0==1)",
    "true || (1/0==1)",
    "9223372036854775808",
    "-9223372036854775808",
    "nan == nan",
    "inf",
    "infinity",
    "NaN",
    "1e400",
    "1_000",
    "0X1F",
    "0xFFFFFFFFFFFFFFFF",
    "1 + -1",
    "1--1",
    "1<2<3",
    "1//c\n2",
    "1/**/2",
    "9007199254740993 < 9007199254740992.0",
    "-0.0",
    "0.0 == -0.0",
    "5 % -3",
];

#[test]
fn documented_expressions_have_evalexprs_values() {
    let bindings = [
        ("five", Scalar::Int(5)),
        ("twelve", Scalar::Int(12)),
        ("six", Scalar::Int(6)),
        ("two", Scalar::Int(2)),
        ("three", Scalar::Int(3)),
        ("b", Scalar::Int(7)),
    ];
    for text in DOCUMENTED {
        let _ = assert_same(text, &bindings, 2);
    }
}

#[test]
fn every_function_and_operator_has_evalexprs_values() {
    for text in EVERY_FUNCTION_AND_OPERATOR {
        let _ = assert_same(text, &[], 2);
    }
}

#[test]
fn expressions_of_evalexprs_tests_have_its_values() {
    for text in TESTED.iter().chain(SURPRISING) {
        let _ = assert_same(text, &[("five", Scalar::Int(5))], 2);
    }
}

#[test]
fn metered_and_plain_programs_agree() {
    let all = DOCUMENTED.iter().chain(EVERY_FUNCTION_AND_OPERATOR).chain(TESTED).chain(SURPRISING);
    for text in all {
        assert_programs_agree(text, &[("five", Scalar::Int(5))]);
    }
}

#[test]
fn integers_are_exact_or_an_error() {
    assert_eq!(eval("10 + 2 * 3"), Ok(Scalar::Int(16)));
    assert_eq!(eval("9223372036854775807"), Ok(Scalar::Int(i64::MAX)));
    assert_eq!(eval("9223372036854775808"), Ok(Scalar::Float(9_223_372_036_854_775_808.0)));
    assert_eq!(eval("-7/2"), Ok(Scalar::Int(-3)));
    assert_eq!(code("9223372036854775807 + 1"), ErrorCode::IntOverflow);
    assert_eq!(code("(-9223372036854775807 - 1) / -1"), ErrorCode::IntOverflow);
    assert_eq!(code("(-9223372036854775807 - 1) % -1"), ErrorCode::IntOverflow);
    assert_eq!(code("-(-9223372036854775807 - 1)"), ErrorCode::IntOverflow);
    assert_eq!(code("math::abs(-9223372036854775807 - 1)"), ErrorCode::IntOverflow);
    assert_eq!(code("7 / 0"), ErrorCode::DivisionByZero);
    assert_eq!(code("7 % 0"), ErrorCode::DivisionByZero);
}

#[test]
fn power_is_a_float_and_works_from_the_left() {
    assert_eq!(eval("2^3^2"), Ok(Scalar::Float(64.0)));
    assert_eq!(eval("-2^2"), Ok(Scalar::Float(-4.0)));
    assert_eq!(eval("a = 2.0; a ^= 3; a"), Ok(Scalar::Float(8.0)));
}

#[test]
fn shifts_take_0_to_63_bits() {
    assert_eq!(eval("shl(1, 63)"), Ok(Scalar::Int(i64::MIN)));
    for text in ["shl(1, 64)", "shl(1, -1)", "shr(1, 64)", "shr(1, -1)"] {
        assert_eq!(code(text), ErrorCode::ShiftOutOfRange, "{text}");
    }
}

#[test]
fn substrings_are_cut_at_characters() {
    assert_eq!(eval("str::substring(\"\u{e9}a\", 2)"), Ok(Scalar::String("a".into())));
    for text in ["str::substring(\"\u{e9}\", 1)", "str::substring(\"\u{e9}\", 0, 1)", "str::substring(\"abc\", 2, 1)"] {
        assert_eq!(code(text), ErrorCode::SubstringOutOfRange, "{text}");
    }
}

#[test]
fn minimum_and_maximum_have_one_definition() {
    let zero = |text: &str| match eval(text) {
        Ok(Scalar::Float(zero)) => zero.is_sign_negative(),
        other => panic!("{text} is {other:?}"),
    };
    assert!(zero("min(0.0, -0.0)") && zero("min(-0.0, 0.0)"));
    assert!(!zero("max(0.0, -0.0)") && !zero("max(-0.0, 0.0)"));
    assert_eq!(eval("min(nan, 1.0)"), Ok(Scalar::Float(1.0)));
    assert_eq!(eval("max(1.0, nan)"), Ok(Scalar::Float(1.0)));
    assert_eq!(eval("max(nan, 3)"), Ok(Scalar::Int(3)));
    // evalexpr gives its greatest int for these two.
    assert_eq!(eval("min(1e19, 2e19)"), Ok(Scalar::Float(1e19)));
    assert!(matches!(eval("min(nan, nan)"), Ok(Scalar::Float(nan)) if nan.is_nan()));
    assert!(matches!(eval("max(nan, nan)"), Ok(Scalar::Float(nan)) if nan.is_nan()));
    assert_eq!(eval("max(-1e19, -2e19)"), Ok(Scalar::Float(-1e19)));
}

#[test]
fn nan_has_one_pattern_of_bits() {
    for text in ["0.0/0.0", "-(0.0/0.0)", "nan", "-nan", "inf - inf", "math::sqrt(-1)", "math::acosh(-5e6)"] {
        match eval(text) {
            Ok(Scalar::Float(nan)) => assert_eq!(nan.to_bits(), 0x7ff8_0000_0000_0000, "{text}"),
            other => panic!("{text} is {other:?}"),
        }
    }
    match eval("(-nan, 1)") {
        Ok(Scalar::Tuple(elements)) => match elements.as_slice() {
            [Scalar::Float(nan), _] => assert_eq!(nan.to_bits(), 0x7ff8_0000_0000_0000),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn computed_names_are_not_assigned() {
    for text in ["\"x\" + a = 3", "(a) = 3", "3 = 4", "1 + a = 3", "-a = 3", "a += b = 3", "f a = 3"] {
        assert_eq!(code(text), ErrorCode::InvalidAssignment, "{text}");
    }
}

#[test]
fn tuples_in_chains_need_parentheses() {
    assert_eq!(code("1,2;3"), ErrorCode::MixedSequence);
    assert_eq!(code("1;2,3;4"), ErrorCode::MixedSequence);
    assert_eq!(eval("(1,2);3"), Ok(Scalar::Int(3)));
    assert_eq!(eval("1;2,3"), Ok(Scalar::Tuple(vec![Scalar::Int(2), Scalar::Int(3)])));
}
