//! `--exact`: sums, means, variances and their roots against decimal big-integer arithmetic.

use super::exact::{exact_mean, number};
use super::natural::{Natural, sums, units};
use super::{
    EXACT, TestBlock, any_blocks, any_non_finite, any_number, exact_set, floats, ints, one_a_block, push,
    reduced_exactly, result,
};
use crate::reduce::{ReduceError, ReducerSet, parse_reductions};
use crate::spec::Scalar;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};

/// `n * sum of squares - square of the sum`, in units of 2^-2148, and `n`.
fn numerator(values: &[Scalar]) -> (Natural, u64) {
    let mut squares = Natural::default();
    for value in values {
        let (x, _) = units(value);
        squares.plus(&x.product(&x));
    }
    let (up, down) = sums(values);
    let (sum, _) = up.minus(&down);
    let n = values.len() as u64;
    squares.times(n);
    let (difference, positive) = squares.minus(&sum.product(&sum));
    assert!(positive, "Cauchy and Schwarz disagree");
    (difference, n)
}

/// The sample variance by the standard library's correctly rounded parser.
fn exact_variance(values: &[Scalar]) -> f64 {
    let (mut numerator, n) = numerator(values);
    for _ in 0..2148 {
        numerator.times(5);
    }
    for _ in 0..30 {
        numerator.times(10);
    }
    let first = numerator.divide(n);
    let sticky = u8::from(numerator.divide(n - 1) || first);
    format!("{}{sticky}e-2179", numerator.digits()).parse().unwrap()
}

/// Whether no other float is nearer to the root of the variance: the variance lies between the squares of the middles
/// to the neighbours.
fn is_exact_stddev(found: f64, values: &[Scalar]) -> bool {
    let (mut numerator, n) = numerator(values);
    // Middles are in units of 2^-1075.
    numerator.times(4);
    let (magnitude, even) = if found.is_infinite() { (f64::MAX, true) } else { (found, found.to_bits() & 1 == 0) };
    let middle = |other: f64| {
        let (mut sum, _) = units(&Scalar::Float(magnitude));
        sum.plus(&units(&Scalar::Float(other)).0);
        let mut square = sum.product(&sum);
        square.times(n);
        square.times(n - 1);
        square
    };
    let above = if magnitude == f64::MAX {
        // The middle to what would come next, if floats went on.
        let (mut sum, _) = units(&Scalar::Float(f64::MAX));
        let (half, _) = units(&Scalar::Float(f64::MAX - f64::MAX.next_down()));
        sum.times(2);
        sum.plus(&half);
        let mut square = sum.product(&sum);
        square.times(n);
        square.times(n - 1);
        square
    } else {
        middle(magnitude.next_up())
    };
    let at_most = |a: &Natural, b: &Natural, or_equal: bool| {
        let (difference, b_is_greater) = b.minus(a);
        b_is_greater && (or_equal || difference.0.iter().any(|digit| *digit != 0))
    };
    if found.is_infinite() {
        return at_most(&above, &numerator, true);
    }
    let low_enough = at_most(&numerator, &above, even);
    low_enough && (found == 0.0 || at_most(&middle(found.next_down()), &numerator, even))
}

fn check_result(found: &Value, values: &[Scalar]) {
    let count = values.len() as u64;
    if values.iter().any(|value| matches!(value, Scalar::Float(_))) {
        assert_eq!(number(&found["sum"]).to_bits(), exact_mean(values, 1).to_bits(), "sum of {values:?}");
    }
    assert_eq!(number(&found["mean"]).to_bits(), exact_mean(values, count).to_bits(), "mean of {values:?}");
    if count < 2 {
        assert_eq!((&found["variance"], &found["stddev"]), (&Value::Null, &Value::Null));
        return;
    }
    let (variance, stddev) = (number(&found["variance"]), number(&found["stddev"]));
    assert_eq!(variance.to_bits(), exact_variance(values).to_bits(), "variance of {values:?}");
    assert!(is_exact_stddev(stddev, values), "{stddev} is not the stddev of {values:?}");
}

/// In one block, and in a block each.
fn check(values: &[Scalar]) {
    let all = TestBlock { number: 3, rows: values.iter().cloned().map(Some).collect() };
    let sum = if values.iter().any(|value| matches!(value, Scalar::Float(_))) { "sum," } else { "" };
    let reductions = format!("{sum}mean,variance,stddev");
    let whole = result(reduced_exactly(&reductions, &[all]));
    assert_eq!(whole, result(reduced_exactly(&reductions, &one_a_block(values))));
    check_result(&whole, values);
}

fn check_floats(values: &[f64]) {
    check(&values.iter().map(|x| Scalar::Float(*x)).collect::<Vec<_>>());
}

#[test]
fn exact_moments_of_hard_data_are_rounded_once() {
    // Cancelling.
    check_floats(&[1e16, 1.0, -1e16]);
    check_floats(&[1e300, 1.0, -1e300, 1e-300]);
    check_floats(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]);
    check_floats(&[1.0, 1.0_f64.next_up()]);
    check_floats(&[0.1; 10]);
    // Huge: the variance is no float, its root is.
    check_floats(&[1e308, -1e308, 0.0]);
    check_floats(&[f64::MAX, -f64::MAX]);
    check_floats(&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX]);
    check_floats(&[f64::MAX, 0.0]);
    check_floats(&[1.3e154, -1.3e154]);
    // Tiny: the variance is no float, its root is, or is subnormal.
    check_floats(&[5e-324, 0.0]);
    check_floats(&[5e-324, -5e-324, 0.0]);
    check_floats(&[5e-324, 0.0, 0.0, 0.0, 0.0, 0.0]);
    check_floats(&[1e-162, 0.0, 3e-162]);
    check_floats(&[f64::MIN_POSITIVE, -5e-324, 1e-310]);
    check_floats(&[2.0_f64.powi(-480), 2.0_f64.powi(-480).next_up(), 2.0_f64.powi(-481)]);
    check_floats(&[2.0_f64.powi(500), 2.0_f64.powi(500).next_up(), -2.0_f64.powi(500).next_down()]);
    // Both at once.
    check_floats(&[f64::MAX, 5e-324, -f64::MAX, -5e-324, 1.0]);
    check_floats(&[0.0, -0.0]);
    check_floats(&[3.0]);
    check(&[Scalar::Int(i64::MIN), Scalar::Int(i64::MAX), Scalar::Int(-1)]);
    check(&[Scalar::Int(i64::MIN), Scalar::Float(-9_223_372_036_854_775_808.0), Scalar::Float(0.5)]);
    check(&[Scalar::Int((1 << 53) + 1), Scalar::Int(1 << 53), Scalar::Float(9_007_199_254_740_992.0)]);
}

/// Long enough for several pieces with rows left over, with exponents as far apart as `spread` says.
fn wild_floats(n: usize, spread: u64, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33 ^ state << 31
    };
    let float = |bits: u64, field: u64| f64::from_bits((bits >> 12) | (bits & 1) << 63 | field << 52);
    (0..n).map(|_| float(next(), 1023 - spread / 2 + next() % spread)).collect()
}

#[test]
fn exact_moments_of_whole_blocks_are_rounded_once() {
    for (n, spread) in [(4096, 1), (2500, 40), (1500, 900), (1100, 2040)] {
        let values = wild_floats(n, spread, n as u64);
        let scalars: Vec<Scalar> = values.iter().map(|x| Scalar::Float(*x)).collect();
        check_result(&result(reduced_exactly("sum,mean,variance,stddev", &[floats(&values)])), &scalars);
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn exact_moments_of_anything_finite_are_rounded_once(
        values in proptest::collection::vec(any_number(), 1..10),
        cancelled in 0_usize..10,
        offset in prop_oneof![3 => Just(None), 1 => (any_number(), 1..20_u32).prop_map(Some)],
    ) {
        let mut values = values;
        for i in 0..cancelled.min(values.len()) {
            match values[i] {
                Scalar::Float(x) => values.push(Scalar::Float(-x)),
                Scalar::Int(x) => values.push(Scalar::Int(-x)),
                _ => {}
            }
        }
        if let Some((Scalar::Float(x), n)) = offset {
            // Neighbours of one value: nearly everything cancels.
            values = (0..n).scan(x, |x, _| { *x = x.next_up(); Some(Scalar::Float(*x)) }).filter(|v| *v != Scalar::Float(f64::INFINITY)).collect();
            values.push(Scalar::Float(x));
        }
        check(&values);
    }

    #[test]
    fn shards_order_and_travel_change_no_bit_of_an_exact_set(
        blocks in any_blocks(),
        order in proptest::collection::vec(any::<u64>(), 12),
        travel in any::<bool>(),
    ) {
        let whole = reduced_exactly(EXACT, &blocks);
        let mut shards: Vec<(u64, &TestBlock)> = order.iter().copied().zip(&blocks).collect();
        shards.sort_by_key(|(key, _)| *key);
        let mut merged = exact_set(EXACT);
        for (_, block) in shards {
            let mut shard = exact_set(EXACT);
            push(&mut shard, block).unwrap();
            let shard = if travel { ReducerSet::from_bytes(&shard.to_bytes()).unwrap() } else { shard };
            merged.merge(shard).unwrap();
        }
        prop_assert_eq!(whole.to_bytes(), merged.to_bytes());
        prop_assert_eq!(format!("{:?}", whole.finish(7, 1)), format!("{:?}", merged.finish(7, 1)));
    }

    #[test]
    fn rows_that_do_not_count_change_nothing(
        values in proptest::collection::vec(proptest::option::of(any_number()), 0..60),
    ) {
        let some: Vec<Option<Scalar>> = values.iter().filter(|value| value.is_some()).cloned().collect();
        let found = |rows: Vec<Option<Scalar>>| {
            result(reduced_exactly("count,mean,variance,stddev", &[TestBlock { number: 0, rows }]))
        };
        prop_assert_eq!(found(values), found(some));
    }

    #[test]
    fn what_is_not_finite_goes_through(
        values in proptest::collection::vec(any_number(), 1..40),
        wild in proptest::collection::vec((any::<proptest::sample::Index>(), any_non_finite()), 1..4),
    ) {
        let mut values = values;
        for (at, x) in wild {
            values.insert(at.index(values.len() + 1), Scalar::Float(x));
        }
        let found = result(reduced_exactly("sum,mean,variance,stddev", &one_a_block(&values)));
        let sum: f64 = values.iter().map(|value| if let Scalar::Float(x) = value { if x.is_finite() { 0.0 } else { *x } } else { 0.0 }).sum();
        let name = if sum.is_nan() { "NaN" } else if sum > 0.0 { "inf" } else { "-inf" };
        prop_assert_eq!(found, json!({ "sum": name, "mean": name, "variance": "NaN", "stddev": "NaN" }));
    }
}

#[test]
fn exact_sum_has_what_lanes_lose() {
    let mut values = vec![0.1; 100];
    values[3] = 1e16;
    values[50] = -1e16;
    assert_eq!(result(reduced_exactly("sum", &[floats(&values)])), json!({ "sum": 9.8 }));
    assert_ne!(result(super::reduced("sum", &[floats(&values)])), json!({ "sum": 9.8 }));
}

#[test]
fn exact_set_of_no_values_and_of_ints_is_as_the_ordinary_one() {
    assert_eq!(result(exact_set(EXACT)), result(super::set(EXACT)));
    let found = result(reduced_exactly("sum,mean,variance,stddev", &[ints(&[3, 1, 2])]));
    assert_eq!(found, json!({ "sum": 6, "mean": 2.0, "variance": 1.0, "stddev": 1.0 }));
    let overflow = reduced_exactly("sum", &[ints(&[i64::MAX, 1])]).finish(0, 0).unwrap_err();
    assert_eq!(overflow.code(), "int_overflow");
}

#[test]
fn quantile_is_never_exact() {
    let reductions = parse_reductions("sum,quantile(0.5)").unwrap();
    let error = ReducerSet::new(&reductions, &[], true).unwrap_err();
    assert_eq!((error.code(), &error), ("never_exact", &ReduceError::NeverExact("quantile(0.5)".into())));
    assert_eq!(
        error.to_string(),
        "quantile(0.5) can't be exact: it comes from a sketch of bounded size that is off by up to 0.1 %; leave out \
         --exact, or leave out --reduce, write the rows and sort them"
    );
}

#[test]
fn exact_and_ordinary_partials_do_not_merge() {
    let mut exact = exact_set("sum");
    assert_eq!(exact.merge(super::set("sum")), Err(ReduceError::Mismatch));
}

#[test]
fn damaged_squares_are_refused_or_harmless() {
    let bytes = reduced_exactly("variance,stddev", &[floats(&[1.5, 2.5, 1e300])]).to_bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        if let Ok(set) = ReducerSet::from_bytes(&damaged) {
            let _ = set.finish(0, 0);
        }
        let _ = ReducerSet::from_bytes(&bytes[..at]).unwrap_err();
    }
}
