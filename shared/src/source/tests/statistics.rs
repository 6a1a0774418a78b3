//! Draws against their distributions, for fixed seeds, and against the bits that were published with this version.

use super::{rows, sample};
use crate::block::Column;
use crate::spec::Scalar;

const N: usize = 100_000;

fn floats(draw: &str, seed: u64) -> Vec<f64> {
    match rows(&sample(&[draw], N as u64, seed), 0, N).remove(0) {
        Column::Float(values) => values,
        Column::Int(values) => values.iter().map(|x| *x as f64).collect(),
        Column::Boolean(values) => values.iter().map(|x| f64::from(u8::from(*x))).collect(),
        other => panic!("{other:?} has no numbers"),
    }
}

/// Fails where mean or variance is more than five of its standard errors off; `kurtosis` is the fourth standardised
/// moment, on which the error of the variance depends.
fn check_moments(draw: &str, mean: f64, variance: f64, kurtosis: f64) {
    for seed in [1, 7, u64::MAX] {
        let values = floats(draw, seed);
        let n = N as f64;
        let found = values.iter().sum::<f64>() / n;
        let error = (variance / n).sqrt();
        assert!((found - mean).abs() <= 5.0 * error, "{draw}: mean {found} is not {mean}");
        let found = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let error = variance * ((kurtosis - 1.0) / n).sqrt();
        assert!((found - variance).abs() <= 5.0 * error, "{draw}: variance {found} is not {variance}");
    }
}

/// Fails where the Kolmogorov-Smirnov distance is one that a right generator exceeds once in 100,000 times.
fn check_shape(draw: &str, below: impl Fn(f64) -> f64) {
    for seed in [1, 7, u64::MAX] {
        let mut values = floats(draw, seed);
        values.sort_by(f64::total_cmp);
        let n = N as f64;
        let distance = values.iter().enumerate().fold(0.0_f64, |worst, (i, x)| {
            let p = below(*x);
            worst.max((p - i as f64 / n).abs()).max(((i + 1) as f64 / n - p).abs())
        });
        assert!(distance * n.sqrt() < 2.47, "{draw}: distance {distance}");
    }
}

#[test]
fn uniform_is_uniform() {
    check_moments("u=uniform(-1,3)", 1.0, 16.0 / 12.0, 1.8);
    check_shape("u=uniform(-1,3)", |x| (x + 1.0) / 4.0);
}

#[test]
fn normal_is_normal() {
    check_moments("n=normal(5,2)", 5.0, 4.0, 3.0);
    check_shape("n=normal(5,2)", |x| libm::erfc((5.0 - x) / 8.0_f64.sqrt()) / 2.0);
}

#[test]
fn exponential_is_exponential() {
    check_moments("t=exponential(0.5)", 2.0, 4.0, 9.0);
    check_shape("t=exponential(0.5)", |x| -libm::expm1(-0.5 * x));
    assert!(floats("t=exponential(0.5)", 3).iter().all(|x| *x >= 0.0 && x.is_sign_positive()));
}

#[test]
fn bernoulli_has_its_probability() {
    let (p, q) = (0.3, 0.7);
    check_moments("b=bernoulli(0.3)", p, p * q, 3.0 + (1.0 - 6.0 * p * q) / (p * q));
    assert!(floats("b=bernoulli(0)", 1).iter().all(|x| *x == 0.0));
    assert!(floats("b=bernoulli(1)", 1).iter().all(|x| *x == 1.0));
}

#[test]
fn integers_and_choices_are_equally_likely() {
    // Chi squared with 5 degrees of freedom is above 32 once in 200,000 times.
    let check = |draw: &str, index: &dyn Fn(Scalar) -> usize| {
        let column = rows(&sample(&[draw], N as u64, 7), 0, N).remove(0);
        let mut counts = [0.0; 6];
        for i in 0..N {
            counts[index(column.get(i))] += 1.0;
        }
        let expected = N as f64 / 6.0;
        let chi: f64 = counts.iter().map(|count| (count - expected) * (count - expected) / expected).sum();
        assert!(chi < 32.0, "{draw}: {counts:?}");
    };
    check("k=integer(-2,3)", &|value| if let Scalar::Int(x) = value { (x + 2) as usize } else { 9 });
    check("c=choice(0.0,1.0,2.0,3.0,4.0,5.0)", &|value| if let Scalar::Float(x) = value { x as usize } else { 9 });
    check("c=choice(5,4,3,2,1,0)", &|value| if let Scalar::Int(x) = value { x as usize } else { 9 });
    check(r#"c=choice("a","b","c","d","e","f")"#, &|value| match value {
        Scalar::String(text) => usize::from(text.as_bytes()[0] - b'a'),
        _ => 9,
    });
}

#[test]
fn integer_of_a_span_that_refuses_half_of_all_words_is_uniform() {
    // 2^63 + 1 values: nearly every other word must be drawn again.
    let width = 2.0_f64.powi(63);
    check_moments("k=integer(-9223372036854775808,0)", -width / 2.0, width * width / 12.0, 1.8);
    check_shape("k=integer(-9223372036854775808,0)", |x| x / width + 1.0);
    check_shape("k=integer(-9223372036854775808,9223372036854775807)", |x| x / width / 2.0 + 0.5);
}

#[test]
fn bounds_are_kept_where_rounding_would_pass_them() {
    // Between 1 and the next float nothing but 1 is left, though most products round up.
    assert!(floats("u=uniform(1,1.0000000000000002)", 1).iter().all(|x| *x == 1.0));
    assert!(floats("u=uniform(-1,1)", 1).iter().all(|x| (-1.0..1.0).contains(x)));
    assert!(floats("k=integer(5,5)", 1).iter().all(|x| *x == 5.0));
    assert!(floats("n=normal(3,0)", 1).iter().all(|x| *x == 3.0));
    assert!(floats("k=integer(9223372036854775806,9223372036854775807)", 1).iter().all(|x| *x >= 9.2e18));
}

#[test]
fn neighbours_and_variables_do_not_correlate() {
    let (one, other) = (floats("x=uniform(-1,1)", 7), floats("y=uniform(-1,1)", 7));
    let other_seed = floats("x=uniform(-1,1)", 8);
    // A product of two has mean 0 and variance 1/9.
    let bound = 5.0 * (N as f64).sqrt() / 3.0;
    let correlation = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (name, sum) in [
        ("rows", correlation(&one, &one[1..])),
        ("second rows", correlation(&one, &one[2..])),
        ("variables", correlation(&one, &other)),
        ("seeds", correlation(&one, &other_seed)),
    ] {
        assert!(sum.abs() < bound, "{name}: {sum}");
    }
}

/// Results of jobs depend on these bits: they change with the numerics version only.
#[test]
fn bits_of_draws_are_pinned() {
    let draws = [
        "u=uniform(0,1)",
        "n=normal(0,1)",
        "t=exponential(1)",
        "b=bernoulli(0.5)",
        "k=integer(1,6)",
        "c=choice(\"a\",\"b\",\"c\")",
    ];
    let columns = rows(&sample(&draws, 10, 7), 0, 3);
    let text: Vec<String> = columns
        .iter()
        .map(|column| {
            let cell = |i: usize| match column.get(i) {
                Scalar::Float(x) => format!("{:016x}", x.to_bits()),
                Scalar::Int(x) => x.to_string(),
                Scalar::Boolean(x) => x.to_string(),
                Scalar::String(x) => x,
                other => panic!("{other:?} is no draw"),
            };
            (0..3).map(cell).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let pinned = [
        "3fc65febc73e4fdc 3fd0761a6c60f136 3fbe84e9829fad50",
        "bfeb8632c5e4be26 bff531ef8f57f53d bff08e15c35f1f8f",
        "3fef97492729abfc 3fd25a9818095bfa 3fb5abf1b63157da",
        "false true false",
        "6 3 3",
        "b b a",
    ];
    assert_eq!(text, pinned);
}
