use super::{type_name, write_csv_field, write_json, write_plain};
use crate::spec::Scalar;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

fn with(write: impl Fn(&mut Vec<u8>, &Scalar), value: &Scalar) -> String {
    let mut out = Vec::new();
    write(&mut out, value);
    String::from_utf8(out).unwrap()
}

fn csv(value: &Scalar) -> String {
    with(|out, value| write_csv_field(out, value, b','), value)
}

fn text(text: &str) -> Scalar {
    Scalar::String(text.to_string())
}

#[test]
fn values_have_three_forms() {
    let table: &[(Scalar, &str, &str, &str)] = &[
        (Scalar::Int(i64::MIN), "-9223372036854775808", "-9223372036854775808", "-9223372036854775808"),
        (Scalar::Float(8.0), "8.0", "8", "8.0"),
        (Scalar::Float(0.0), "0.0", "0", "0.0"),
        (Scalar::Float(-0.0), "-0.0", "-0", "-0.0"),
        (Scalar::Float(0.1), "0.1", "0.1", "0.1"),
        (Scalar::Float(1e15), "1000000000000000.0", "1000000000000000", "1000000000000000.0"),
        (Scalar::Float(1e16), "1e16", "1e16", "1e16"),
        (Scalar::Float(1e300), "1e300", "1e300", "1e300"),
        (Scalar::Float(-1.5e-7), "-1.5e-7", "-1.5e-7", "-1.5e-7"),
        (Scalar::Float(1e-5), "0.00001", "0.00001", "0.00001"),
        (Scalar::Float(5e-324), "5e-324", "5e-324", "5e-324"),
        (Scalar::Float(f64::NAN), "\"NaN\"", "NaN", "NaN"),
        (Scalar::Float(-f64::NAN), "\"NaN\"", "NaN", "NaN"),
        (Scalar::Float(f64::INFINITY), "\"inf\"", "inf", "inf"),
        (Scalar::Float(f64::NEG_INFINITY), "\"-inf\"", "-inf", "-inf"),
        (Scalar::Boolean(true), "true", "true", "true"),
        (text("a b"), "\"a b\"", "a b", "a b"),
        (text(""), "\"\"", "", "\"\""),
        (text("a,\"b\"\n"), "\"a,\\\"b\\\"\\n\"", "a,\"b\"\n", "\"a,\"\"b\"\"\n\""),
        (text("\u{1}\\é\u{7f}"), "\"\\u0001\\\\é\u{7f}\"", "\u{1}\\é\u{7f}", "\u{1}\\é\u{7f}"),
        (Scalar::Empty, "null", "", ""),
        (Scalar::Tuple(vec![]), "[]", "()", "\"()\""),
        (
            Scalar::Tuple(vec![Scalar::Int(1), Scalar::Float(2.5), text("a\""), Scalar::Tuple(vec![Scalar::Empty])]),
            "[1,2.5,\"a\\\"\",[null]]",
            "(1, 2.5, \"a\\\"\", (()))",
            "\"(1, 2.5, \"\"a\\\"\"\"\", (()))\"",
        ),
    ];
    for (value, json, plain, field) in table {
        assert_eq!(with(write_json, value), *json, "{value:?}");
        assert_eq!(with(write_plain, value), *plain, "{value:?}");
        assert_eq!(csv(value), *field, "{value:?}");
    }
}

#[test]
fn types_are_named_as_evalexpr_names_them() {
    for formula in ["1", "1.5", "true", "\"a\"", "(1, 2)"] {
        let value = evalexpr::eval(formula).unwrap();
        let name = evalexpr::eval(&format!("typeof({formula})")).unwrap();
        let scalar = match value {
            evalexpr::Value::Int(value) => Scalar::Int(value),
            evalexpr::Value::Float(value) => Scalar::Float(value),
            evalexpr::Value::Boolean(value) => Scalar::Boolean(value),
            evalexpr::Value::String(value) => Scalar::String(value),
            evalexpr::Value::Tuple(_) => Scalar::Tuple(Vec::new()),
            evalexpr::Value::Empty => Scalar::Empty,
        };
        assert_eq!(name, evalexpr::Value::String(type_name(&scalar).to_string()));
    }
    assert_eq!(type_name(&Scalar::Empty), "empty");
}

#[test]
fn fields_are_quoted_for_the_delimiter_at_hand() {
    assert_eq!(with(|out, value| write_csv_field(out, value, b';'), &text("a,b;c")), "\"a,b;c\"");
    assert_eq!(with(|out, value| write_csv_field(out, value, b';'), &text("a,b")), "a,b");
}

/// Results must not change with the writer.
#[test]
fn floats_are_written_as_ryu_writes_them() {
    let check = |value: f64| {
        let mut out = Vec::new();
        super::write_float(&mut out, value);
        assert_eq!(out, ryu::Buffer::new().format(value).as_bytes());
    };
    for value in [0.0, 1.0, 1e15, 1e16, 9_999_999_999_999_998.0, 1e17, 1e22, 1e23, 1e300, f64::MAX, f64::MIN_POSITIVE] {
        for value in [value, 1.0 / value, value.next_up(), value.next_down()] {
            check(value);
            check(-value);
        }
    }
    for exponent in 0..=u64::from(u16::MAX >> 4) {
        for fraction in [0, 1, (1 << 52) - 1] {
            check(f64::from_bits(exponent << 52 | fraction));
        }
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..1_000_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        check(f64::from_bits(state));
        check((state >> 40) as f64 / 100.0 * (state & 0xff) as f64);
        check((state >> (state & 63)) as f64);
    }
}

proptest! {
    #[test]
    fn floats_read_back_to_the_same_bits(float in any::<f64>()) {
        let value = Scalar::Float(float);
        for text in [csv(&value), with(write_plain, &value), with(write_json, &value)] {
            let back: f64 = text.trim_matches('"').parse().unwrap();
            prop_assert!(back.to_bits() == float.to_bits() || (back.is_nan() && float.is_nan()), "{}", text);
        }
    }

    #[test]
    fn texts_read_back_from_json_and_csv(value in any::<String>()) {
        prop_assert_eq!(serde_json::from_str::<String>(&with(write_json, &text(&value))).unwrap(), value.clone());
        let line = format!("{},x\n", csv(&text(&value)));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
        // A mark at the start of a file is none of the text's business.
        if !value.starts_with('\u{feff}') {
            prop_assert_eq!(&reader.records().next().unwrap().unwrap()[0], value.as_str());
        }
    }
}
