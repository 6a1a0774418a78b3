//! Sums and means against decimal big-integer arithmetic and the standard library's correctly rounded parser.

use super::natural::sums;
use super::{any_number, floats, ints, one_a_block, reduced, result};
use crate::reduce::ReduceError;
use crate::spec::Scalar;
use proptest::prelude::{Strategy, prop_assert_eq, prop_oneof, proptest};

/// The sum of numbers divided by `count`, rounded once.
pub(super) fn exact_mean(values: &[Scalar], count: u64) -> f64 {
    let (up, down) = sums(values);
    let (mut sum, positive) = up.minus(&down);
    // A quotient that is too small for a float keeps its sign; nothing at all has none.
    let negative = !positive && sum.0.iter().any(|digit| *digit > 0);
    for _ in 0..1074 {
        sum.times(5);
    }
    // Enough decimals for any quotient, and a last digit for what is left over.
    for _ in 0..30 {
        sum.times(10);
    }
    let sticky = u8::from(sum.divide(count));
    let magnitude: f64 = format!("{}{sticky}e-1105", sum.digits()).parse().unwrap();
    if negative { -magnitude } else { magnitude }
}

fn check(values: &[Scalar]) {
    let result = result(reduced("sum,mean", &one_a_block(values)));
    let count = values.len() as u64;
    assert_eq!(number(&result["mean"]).to_bits(), exact_mean(values, count).to_bits(), "mean of {values:?}");
    if values.iter().any(|value| matches!(value, Scalar::Float(_))) {
        assert_eq!(number(&result["sum"]).to_bits(), exact_mean(values, 1).to_bits(), "sum of {values:?}");
    }
}

pub(super) fn number(value: &serde_json::Value) -> f64 {
    match value.as_str() {
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => value.as_f64().unwrap_or(f64::NAN),
    }
}

fn float(x: f64) -> Scalar {
    Scalar::Float(x)
}

#[test]
fn sum_and_mean_are_rounded_once() {
    check(&[float(1e16), float(1.0), float(-1e16)]);
    check(&[float(f64::MAX), float(f64::MAX), float(-f64::MAX)]);
    check(&[float(f64::MAX), float(f64::MAX)]);
    check(&[float(5e-324), float(5e-324), float(5e-324), float(0.0)]);
    check(&[float(5e-324), float(0.0)]);
    check(&[float(-5e-324), float(-5e-324), float(-5e-324), float(0.0)]);
    check(&[float(-5e-324), float(0.0)]);
    check(&[float(-5e-324), float(0.0), float(0.0)]);
    check(&[float(f64::MIN_POSITIVE), float(-5e-324)]);
    check(&[float(f64::MIN_POSITIVE), float(f64::MIN_POSITIVE.next_up())]);
    check(&vec![float(0.1); 10]);
    check(&[Scalar::Int(i64::MAX), float(0.5), Scalar::Int(i64::MAX)]);
    check(&[Scalar::Int(i64::MIN), float(-0.0), Scalar::Int(i64::MIN), Scalar::Int(-1)]);
    check(&[Scalar::Int(1), Scalar::Int(2), Scalar::Int(4)]);
    // Half way between two floats, and a hair to either side of it.
    check(&[float(9_007_199_254_740_992.0), float(1.0)]);
    check(&[float(9_007_199_254_740_992.0), float(1.0), float(5e-324)]);
    check(&[float(9_007_199_254_740_994.0), float(1.0), float(-5e-324)]);
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn sum_and_mean_of_anything_finite_are_exact(
        values in proptest::collection::vec(any_number(), 1..12),
        cancelled in 0_usize..12,
    ) {
        let mut values = values;
        for i in 0..cancelled.min(values.len()) {
            match values[i] {
                Scalar::Float(x) => values.push(float(-x)),
                Scalar::Int(x) => values.push(Scalar::Int(-x)),
                _ => {}
            }
        }
        check(&values);
    }

    #[test]
    fn block_sum_is_added_in_sixteen_lanes(values in proptest::collection::vec(-1e3..1e3_f64, 1..200)) {
        let mut lanes = [0.0; 16];
        for (i, x) in values.iter().enumerate() {
            lanes[i % 16] += x;
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = lanes;
        let eight = [a + i, b + j, c + k, d + l, e + m, f + n, g + o, h + p];
        let four = [eight[0] + eight[4], eight[1] + eight[5], eight[2] + eight[6], eight[3] + eight[7]];
        let expected = (four[0] + four[2]) + (four[1] + four[3]);
        prop_assert_eq!(number(&result(reduced("sum", &[floats(&values)]))["sum"]), expected);
    }

    #[test]
    fn int_sum_is_exact(values in proptest::collection::vec(prop_oneof![-9..9_i64, i64::MIN..=i64::MAX].boxed(), 0..60)) {
        let expected: i128 = values.iter().map(|x| i128::from(*x)).sum();
        let found = reduced("sum", &[ints(&values)]).finish(0, 0);
        match i64::try_from(expected) {
            Ok(sum) => prop_assert_eq!(&found.unwrap()["result"]["sum"], &serde_json::json!(sum)),
            Err(_) => {
                prop_assert_eq!(found, Err(ReduceError::IntOverflow { reduction: "sum", value: expected }));
            }
        }
    }
}

#[test]
fn int_overflow_is_judged_at_the_end_only() {
    let sum = |values: &[i64]| reduced("sum,mean", &[ints(values)]).finish(0, 0);
    assert_eq!(sum(&[i64::MAX, 1, -1]).unwrap()["result"]["sum"], serde_json::json!(i64::MAX));
    let error = sum(&[i64::MAX, 1]).unwrap_err();
    assert_eq!(error.code(), "int_overflow");
    assert!(error.to_string().starts_with("the sum is 9223372036854775808, which is outside the range of an int"));
    assert_eq!(
        reduced("mean", &[ints(&[i64::MIN, i64::MIN])]).finish(0, 0).unwrap()["result"]["mean"],
        i64::MIN as f64
    );
}

#[test]
fn lane_overflow_is_no_overflow_of_the_sum() {
    // Lane 0 has the first and the seventeenth value: their sum is infinite, and so was the block's.
    let mut values = [0.0; 33];
    (values[0], values[16], values[32], values[1]) = (f64::MAX, f64::MAX, -f64::MAX, -f64::MAX);
    assert_eq!(result(reduced("sum", &[floats(&values)]))["sum"], 0.0);
}

#[test]
fn infinities_and_nan_go_through() {
    let sum = |values: &[f64]| result(reduced("sum,mean", &[floats(values)]));
    for (values, expected) in [
        (vec![1.0, f64::INFINITY], "inf"),
        (vec![f64::NEG_INFINITY, f64::MAX], "-inf"),
        (vec![f64::INFINITY, f64::NEG_INFINITY], "NaN"),
        (vec![1.0, -f64::NAN], "NaN"),
        (vec![f64::INFINITY, f64::NAN], "NaN"),
    ] {
        assert_eq!(sum(&values), serde_json::json!({ "sum": expected, "mean": expected }));
    }
    let overflow = sum(&[f64::MAX, f64::MAX]);
    assert_eq!((&overflow["sum"], overflow["mean"].as_f64()), (&"inf".into(), Some(f64::MAX)));
}
