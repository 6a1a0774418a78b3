//! Each operation on its own and in both forms, at every row count.

use super::generator::Generator;
use super::{ROW_COUNTS, both, compare, compare_all, typed};

const OF_FLOATS: [&str; 36] = [
    "x",
    "-x",
    "math::abs(x)",
    "floor(x)",
    "ceil(x)",
    "round(x)",
    "math::sqrt(x)",
    "math::is_nan(x)",
    "math::is_finite(x)",
    "math::is_infinite(x)",
    "math::is_normal(x)",
    "x + y",
    "x - y",
    "x * y",
    "x / y",
    "x % y",
    "x ^ y",
    "x ^ 2.0",
    "2.0 ^ x",
    "x == y",
    "x != y",
    "x < y",
    "x <= y",
    "x > y",
    "x >= y",
    "min(x, y)",
    "max(x, y)",
    "min(x, 0.0)",
    "max(x, -0.0)",
    "min(x, y, z)",
    "if(p, x, y)",
    "if(x < y, x, y)",
    "if(y < x, x, y)",
    "if(x < y && p, x, 1.5)",
    "math::atan2(x, y)",
    "math::log(x, y)",
];

const OF_INTS: [&str; 52] = [
    "i",
    "-i",
    "math::abs(i)",
    "bitnot(i)",
    "i + j",
    "i - j",
    "i * j",
    "i / j",
    "i % j",
    "i / 0",
    "i % 0",
    "i / -1",
    "i % -1",
    "i / 7",
    "i % 7",
    "i / -3",
    "i % 8",
    "i / 1",
    "1000 / i",
    "1000 % i",
    "i + 9223372036854775807",
    "i == j",
    "i != j",
    "i < j",
    "i <= j",
    "i > j",
    "i >= j",
    "min(i, j)",
    "max(i, j)",
    "min(i, j, k)",
    "bitand(i, j)",
    "bitor(i, j)",
    "bitxor(i, j)",
    "shl(i, j)",
    "shr(i, j)",
    "shl(i, 0)",
    "shl(i, 63)",
    "shr(i, 63)",
    "shr(i, 5)",
    "shl(i, 64)",
    "shr(i, -1)",
    "shl(1, j)",
    "if(p, i, j)",
    "if(i < j, i, j)",
    "i + 0.5",
    "i < x",
    "if(x < y, i, j)",
    "-(i + j)",
    "math::abs(i - j)",
    "(i + j) * 0.5",
    "shr(i + j, 3)",
    "if(x < y, i + 1, j)",
];

const OF_BOOLEANS: [&str; 10] = [
    "p",
    "!p",
    "p && q",
    "p || q",
    "p == q",
    "p != q",
    "p == (x < y)",
    "if(p, q, !q)",
    "(i < j) && p",
    "if(p, x < y, i < j)",
];

/// Beside the product of two ints, which has no vector form, ints are taken one by one.
#[test]
fn operations_keep_to_their_definitions() {
    let mut generator = Generator(1);
    for text in OF_FLOATS.iter().chain(&OF_INTS).chain(&OF_BOOLEANS) {
        compare_all(text, &mut generator);
    }
}

#[test]
fn operations_one_by_one_keep_to_their_definitions() {
    let mut generator = Generator(2);
    for text in OF_INTS.iter().chain(&OF_BOOLEANS) {
        let ty = typed(text).result_type().name();
        // The product is between small numbers, so that it seldom fails.
        let beside = format!("a = bitand(k, 255) * bitand(k, 15); {text}");
        compare_all(&beside, &mut generator);
        let text = match ty {
            "int" => format!("bitand(({text}), 4095) * bitand(k, 15)"),
            "float" => format!("if(bitand(k, 255) * 3 < 100, ({text}), x)"),
            _ => format!("if(({text}) && bitand(k, 255) * 3 < 100, i, j)"),
        };
        compare_all(&text, &mut generator);
    }
}

#[test]
fn every_kernel_is_called_with_each_kind_of_argument() {
    let mut generator = Generator(3);
    for name in [
        "cbrt", "exp", "exp2", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
        "tanh", "asinh", "acosh", "atanh",
    ] {
        compare_all(&format!("math::{name}(x)"), &mut generator);
        compare_all(&format!("math::{name}(x * 0.01) + y"), &mut generator);
    }
    for text in [
        "math::hypot(x, y)",
        "math::hypot(x + 1.0, 2.0)",
        "math::pow(1.5, i)",
        "math::atan2(math::sin(x), math::cos(y))",
        "math::sin(math::sin(math::sin(x))) * x + i",
        "a = math::sin(x); b = math::cos(a * y); if(a < b, a, b) + math::exp(a - b) * (x + y)",
        "a = x * y; math::sin(a) + a",
        "a = i + j; math::sin(a) + a",
        "a = x < y; if(a, math::sin(x), math::cos(x)) + if(a && p, 1.0, 2.0)",
        "a = math::sin(x); b = i / j; a",
        "math::sin(x) < 0.5",
        "x % 1.5 + math::ln(y)",
        "x ^ 2 + y ^ 0.5",
    ] {
        compare_all(text, &mut generator);
    }
}

#[test]
fn a_formula_of_constants_alone_fills_its_rows() {
    let mut generator = Generator(4);
    for text in ["1.5", "7", "true", "false", "0.0 / 0.0", "1 / 0"] {
        compare_all(text, &mut generator);
    }
}

#[test]
fn a_failing_row_is_noticed_wherever_it_is() {
    for text in ["i * i", "i + i", "-i", "j / i", "a = i + i; math::sin(x)", "math::abs(i + 0) * 1.5"] {
        let formula = typed(text);
        let code = both(text, &formula);
        let mut generator = Generator(5);
        for rows in ROW_COUNTS {
            compare(text, &formula, &code, &mut generator, rows);
            for bad in (0..rows).step_by(97).chain(rows.checked_sub(1)) {
                let mut inputs: Vec<Vec<u64>> = formula.inputs().iter().map(|_| vec![1; rows]).collect();
                let int = formula.inputs().iter().position(|input| input.column == 3).unwrap_or_default();
                inputs[int][bad] = if text == "j / i" { 0 } else { i64::MIN as u64 };
                let wanted: Vec<Option<u64>> = (0..rows).map(|row| super::expected(&formula, &inputs, row)).collect();
                assert_eq!(wanted.iter().filter(|value| value.is_none()).count(), 1, "{text}");
                super::check(text, &code[0], &mut super::Scratch::default(), &inputs, &wanted);
            }
        }
    }
}
