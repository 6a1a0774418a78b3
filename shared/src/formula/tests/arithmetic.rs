//! Our math against evalexpr's: bit-equal where IEEE 754 defines the result, near elsewhere, the same at the edges.

use super::eval_with;
use super::reference::{evalexpr_says, ulps};
use crate::NUMERICS_VERSION;
use crate::formula::FormulaError;
use crate::formula::evaluate::into_scalar;
use crate::spec::Scalar;

/// Functions of one number that IEEE 754 defines exactly.
const EXACT: &[&str] = &["floor", "ceil", "round", "math::sqrt", "math::abs"];

/// Functions of one number that it does not, with the ulps allowed between us and the platform. The platform is not
/// right either: the standard library computes the inverse hyperbolic functions by formulas of its own.
const NEAR: &[(&str, u64)] = &[
    ("math::cbrt", 2),
    ("math::exp", 2),
    ("math::exp2", 2),
    ("math::ln", 2),
    ("math::log2", 2),
    ("math::log10", 2),
    ("math::sin", 2),
    ("math::cos", 2),
    ("math::tan", 2),
    ("math::asin", 2),
    ("math::acos", 2),
    ("math::atan", 2),
    ("math::sinh", 2),
    ("math::cosh", 2),
    ("math::tanh", 2),
    ("math::asinh", 4),
    ("math::acosh", 4),
    ("math::atanh", 4),
];

/// Functions of two numbers.
const PAIRS: &[(&str, u64)] = &[("math::pow", 2), ("math::atan2", 2), ("math::hypot", 2), ("math::log", 4)];

/// Correctly rounded results, computed with 400 bits.
const ROUNDED: &[(&str, f64, f64)] = &[
    ("math::cbrt", 2.0, 1.2599210498948732),
    ("math::cbrt", -1e-07, -0.004641588833612779),
    ("math::cbrt", 1e300, 1e100),
    ("math::exp", 1.25, 3.4903429574618414),
    ("math::exp", -0.3, 0.7408182206817179),
    ("math::exp", 700.25, 1.3022997366991783e304),
    ("math::exp2", 0.3, 1.2311444133449163),
    ("math::exp2", -1000.5, 6.599170332783212e-302),
    ("math::ln", 5.0, 1.6094379124341003),
    ("math::ln", 1.4070464117380372, 0.3414927638981213),
    ("math::ln", 1e-300, -690.7755278982137),
    ("math::log2", 3.0, 1.584962500721156),
    ("math::log2", 1.4004144110087484, 0.48585381305434877),
    ("math::log10", 5.0, 0.6989700043360189),
    ("math::log10", 1.3245555732595278, 0.12207018434230076),
    ("math::sin", 1.0, 0.8414709848078965),
    ("math::sin", -2.3404806749856677, -0.7181303701899385),
    ("math::sin", 1e22, -0.8522008497671888),
    ("math::cos", 1.0, 0.5403023058681398),
    ("math::cos", 8.654416874282322, -0.7176592577867381),
    ("math::cos", 1e22, 0.523214785395139),
    ("math::tan", 1.0, 1.5574077246549023),
    ("math::tan", -2.5009001009566045, 0.7456208438151603),
    ("math::tan", 1000000000.0, 0.6514522021451413),
    ("math::asin", 0.5091153083371178, 0.5341566008310651),
    ("math::asin", -0.99, -1.4292568534704693),
    ("math::acos", -0.5311515821822288, 2.1307554709831265),
    ("math::acos", 0.99, 0.1415394733244273),
    ("math::atan", 1.25, 0.8960553845713439),
    ("math::atan", -3.2931803318807233, -1.2759871107305047),
    ("math::sinh", 0.724187297848335, 0.789167714836748),
    ("math::sinh", -20.0, -242582597.70489514),
    ("math::cosh", 2.4616238989046817, 5.904565368940717),
    ("math::cosh", 700.0, 5.0711602736750225e303),
    ("math::tanh", -0.23490488141391985, -0.23067745763123185),
    ("math::tanh", 3.0, 0.9950547536867305),
    ("math::asinh", -0.061614176329584325, -0.0615752583926633),
    ("math::asinh", 1e308, 709.889355822726),
    ("math::acosh", 1.0000000000000002, 2.1073424255447014e-08),
    ("math::acosh", 1.0004758904744262, 0.030849723950949436),
    ("math::acosh", 1e308, 709.889355822726),
    ("math::atanh", 0.22371532685915052, 0.2275637800922142),
    ("math::atanh", -0.999999, -7.254328619247669),
    ("math::atanh", -0.9999999999999999, -18.714973875118524),
];

/// Where the standard library's formulas lose what they compute: overflow of large numbers, cancellation near 1.
fn platform_is_wrong(name: &str, x: f64) -> bool {
    let overflows = x.is_finite() && x.abs() > 8e307;
    match name {
        "math::asinh" => overflows,
        "math::acosh" => overflows || (x - 1.0).abs() < 1e-2,
        "math::atanh" => x < -0.5,
        _ => false,
    }
}

fn edges() -> Vec<f64> {
    let mut edges = vec![
        0.0,
        0.5,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        10.0,
        0.1,
        1e-8,
        1e-300,
        5e-324,
        f64::MIN_POSITIVE,
        709.0,
        710.5,
        1e15,
        4503599627370497.5,
        9007199254740993.0,
        9.3e18,
        1e22,
        1e300,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
        std::f64::consts::PI,
        std::f64::consts::FRAC_PI_2,
        std::f64::consts::E,
        0.9999999999999999,
        1.0000000000000002,
    ];
    edges.extend(edges.clone().into_iter().map(|x| -x));
    edges
}

/// A fixed sequence of floats of every size.
fn scattered(count: u32) -> Vec<f64> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    (0..count)
        .map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 11) as f64 / (1_u64 << 53) as f64;
            let scale = [1.0, 10.0, 1000.0, 1e-3, 1e9][at as usize % 5];
            (unit * 2.0 - 1.0) * scale
        })
        .collect()
}

fn float_of(result: Scalar, what: &str) -> f64 {
    match result {
        Scalar::Float(float) => float,
        other => panic!("{what} is {other:?}, not a float"),
    }
}

fn distance(text: &str, bindings: &[(&str, Scalar)]) -> u64 {
    let ours = eval_with(text, bindings).expect("a number has a result");
    let theirs = evalexpr_says(text, bindings).expect("evalexpr takes every number");
    ulps(float_of(ours, text), float_of(into_scalar(theirs), text))
}

#[test]
fn exact_functions_are_bit_equal_to_evalexpr() {
    for name in EXACT {
        for x in edges().into_iter().chain(scattered(2_000)) {
            assert_eq!(distance(&format!("{name}(x)"), &[("x", Scalar::Float(x))]), 0, "{name}({x:?})");
        }
    }
}

#[test]
fn arithmetic_operators_are_bit_equal_to_evalexpr() {
    for operator in ["+", "-", "*", "/", "%"] {
        for a in edges() {
            for b in edges() {
                let bindings = [("a", Scalar::Float(a)), ("b", Scalar::Float(b))];
                assert_eq!(distance(&format!("a{operator}b"), &bindings), 0, "{a:?} {operator} {b:?}");
            }
        }
    }
}

#[test]
fn transcendental_functions_are_near_evalexpr() {
    for (name, ulps_max) in NEAR {
        for x in edges().into_iter().chain(scattered(2_000)) {
            if platform_is_wrong(name, x) {
                continue;
            }
            let found = distance(&format!("{name}(x)"), &[("x", Scalar::Float(x))]);
            assert!(found <= *ulps_max, "{name}({x:?}) is {found} ulps off");
        }
    }
}

#[test]
fn functions_of_two_numbers_are_near_evalexpr() {
    for (name, ulps_max) in PAIRS {
        let scattered = scattered(400);
        let pairs = edges().into_iter().flat_map(|a| edges().into_iter().map(move |b| (a, b)));
        for (a, b) in pairs.chain(scattered.iter().zip(scattered.iter().rev()).map(|(a, b)| (*a, *b))) {
            let found = distance(&format!("{name}(a, b)"), &[("a", Scalar::Float(a)), ("b", Scalar::Float(b))]);
            assert!(found <= *ulps_max, "{name}({a:?}, {b:?}) is {found} ulps off");
        }
    }
}

#[test]
fn transcendental_functions_are_within_2_ulps_of_the_rounded_result() {
    for (name, x, rounded) in ROUNDED {
        let text = format!("{name}(x)");
        let found = float_of(eval_with(&text, &[("x", Scalar::Float(*x))]).expect("a number has a result"), &text);
        assert!(ulps(found, *rounded) <= 2, "{name}({x:?}) is {found:?}, not {rounded:?}");
    }
}

/// Two machines that compute other bits must not share a job: they would be of different numerics versions.
#[test]
fn every_function_computes_the_bits_of_this_numerics_version() {
    let mut hash = blake3::Hasher::new();
    let mut add = |result: Result<Scalar, FormulaError>| match result {
        Ok(Scalar::Float(float)) => {
            hash.update(&float.to_bits().to_le_bytes());
        }
        other => panic!("{other:?} is no float"),
    };
    let numbers: Vec<f64> = edges().into_iter().chain(scattered(200)).collect();
    for (name, _) in NEAR {
        for x in &numbers {
            add(eval_with(&format!("{name}(x)"), &[("x", Scalar::Float(*x))]));
        }
    }
    for text in ["math::pow(a, b)", "a ^ b", "math::atan2(a, b)", "math::hypot(a, b)", "math::log(a, b)"] {
        for (a, b) in numbers.iter().zip(numbers.iter().rev()) {
            add(eval_with(text, &[("a", Scalar::Float(*a)), ("b", Scalar::Float(*b))]));
        }
    }
    assert_eq!(NUMERICS_VERSION, 2, "a new version needs a new digest");
    assert_eq!(hash.finalize().to_hex()[..16], *"8652c5c55621cb16", "the bits have changed: raise NUMERICS_VERSION");
}
