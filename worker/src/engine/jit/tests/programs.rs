//! Random formulas, long ones, and many threads.

use super::generator::Generator;
use super::{Checks, Compiled, Scratch, both, compare, expected, limits, typed};
use crate::engine::jit::{COMPILED_WORK_MAX, JitError};
use quipu_shared::formula::Formula;
use quipu_shared::formula::typed::ValueType;

const FORMULAS: u64 = 600;

#[test]
fn random_formulas_keep_to_the_definitions() {
    let mut compared = 0;
    for seed in 0..FORMULAS {
        let mut generator = Generator(seed << 20);
        let ty = [ValueType::Float, ValueType::Int, ValueType::Boolean][(seed % 3) as usize];
        let text = generator.formula(ty, 2 + seed as usize % 4);
        if Formula::parse(&text, &limits()).is_err() {
            continue;
        }
        let formula = typed(&text);
        let code = both(&text, &formula);
        for rows in [1, 5, 67, 1026] {
            compare(&text, &formula, &code, &mut generator, rows);
        }
        compared += 1;
    }
    assert!(compared > FORMULAS / 2, "{compared} formulas were compared");
}

/// A sum of products of different constants, of about so many instructions.
fn long(instructions: usize) -> String {
    let terms: Vec<String> = (0..instructions / 3).map(|n| format!("(x * {n}.25)")).collect();
    terms.join(" + ")
}

#[test]
fn formulas_are_compiled_up_to_the_cap() {
    let text = long(COMPILED_WORK_MAX - 10);
    let formula = typed(&text);
    assert!(formula.instructions().len() > COMPILED_WORK_MAX - 100, "{}", formula.instructions().len());
    compare("long", &formula, &both("long", &formula), &mut Generator(1), 129);
    let formula = typed(&long(COMPILED_WORK_MAX + 100));
    let refused = Compiled::new(&formula, Checks::Checked).map(|_| ()).map_err(|error| error.to_string());
    let message = format!(
        "the formula is too long for machine code: its operations count {} where {COMPILED_WORK_MAX} are allowed (one on \
         ints that may overflow counts 5)",
        formula.instructions().len()
    );
    assert_eq!(refused, Err(message));
    assert!(matches!(Compiled::new(&formula, Checks::Proven), Err(JitError::TooLong { .. })));
}

#[test]
fn checked_ints_count_more_towards_the_cap() {
    let terms: Vec<String> = (0..COMPILED_WORK_MAX / 10).map(|n| format!("(i * {n})")).collect();
    let formula = typed(&terms.join(" + "));
    assert!(matches!(Compiled::new(&formula, Checks::Checked), Err(JitError::TooLong { .. })));
    let proven = Compiled::new(&formula, Checks::Proven).unwrap();
    let inputs = [vec![1_000_003; 70]];
    let wanted: Vec<Option<u64>> = (0..70).map(|row| expected(&formula, &inputs, row)).collect();
    super::check("proven", &proven, &mut Scratch::default(), &inputs, &wanted);
}

#[test]
fn many_values_across_kernels_fit_small_chunks() {
    let sums: Vec<String> = (0..200).map(|n| format!("a{n} = math::sin(x + {n}.5)")).collect();
    let all: Vec<String> = (0..200).map(|n| format!("a{n}")).collect();
    let text = format!("{}; math::cos({}) + a0", sums.join("; "), all.join(" + "));
    let formula = typed(&text);
    let code = both(&text, &formula);
    for rows in [1, 100, 4096] {
        compare("many", &formula, &code, &mut Generator(9), rows);
    }
}

#[test]
fn threads_share_one_code() {
    let formula = typed("a = math::sin(x) * y + i; if(a < 0.5, a, x * y) + j");
    let code = Compiled::new(&formula, Checks::Checked).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (code, formula) = (&code, &formula);
            scope.spawn(move || {
                let mut generator = Generator(seed);
                let mut scratch = Scratch::default();
                for _ in 0..20 {
                    let rows = 1500;
                    let inputs: Vec<Vec<u64>> = formula
                        .inputs()
                        .iter()
                        .map(|input| (0..rows).map(|_| generator.value(input.ty)).collect())
                        .collect();
                    let wanted: Vec<Option<u64>> = (0..rows).map(|row| expected(formula, &inputs, row)).collect();
                    super::check("threads", code, &mut scratch, &inputs, &wanted);
                }
            });
        }
    });
}

#[test]
fn one_scratch_serves_formulas_of_any_shape() {
    let mut scratch = Scratch::default();
    for text in ["math::sin(math::cos(x) + y) * z", "x", "i * j", "math::exp(x) + math::sin(y) * math::cos(z)"] {
        let formula = typed(text);
        let code = Compiled::new(&formula, Checks::Checked).unwrap();
        let inputs: Vec<Vec<u64>> = formula.inputs().iter().map(|_| vec![3; 1031]).collect();
        let wanted: Vec<Option<u64>> = (0..1031).map(|row| expected(&formula, &inputs, row)).collect();
        super::check(text, &code, &mut scratch, &inputs, &wanted);
    }
}
