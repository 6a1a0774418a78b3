//! Where formulas are split.

use super::typed;
use crate::engine::jit::plan::{Call, Plan, Source, Step};

/// Steps in short: `code` with its number of operations, kernels with their arguments and slot.
fn shown(text: &str) -> Vec<String> {
    let plan = Plan::new(&typed(text)).unwrap();
    let source = |source: Source| match source {
        Source::Input(index) => format!("column {index}"),
        Source::Slot(slot) => format!("slot {slot}"),
        Source::Constant(value) => format!("{value:?}"),
    };
    plan.steps
        .iter()
        .map(|step| match step {
            Step::Segment(segment) => {
                format!("code {}{}", segment.computed.len(), if segment.writes_result { ", result" } else { "" })
            }
            Step::Kernel(kernel) => match kernel.call {
                Call::One(function, a) => format!("{function:?} {} to slot {}", source(a), kernel.out),
                Call::Two(function, a, b) => {
                    format!("{function:?} {}, {} to slot {}", source(a), source(b), kernel.out)
                }
            },
        })
        .collect()
}

#[test]
fn a_formula_without_kernels_is_one_piece() {
    assert_eq!(shown("x * y + 1.5"), ["code 2, result"]);
    assert_eq!(shown("x"), ["code 0, result"]);
}

#[test]
fn what_only_the_end_reads_is_computed_there() {
    assert_eq!(shown("math::sqrt(x*x + y*y) * math::sin(x)"), ["Sin column 0 to slot 0", "code 5, result"]);
}

#[test]
fn values_pass_through_slots_and_slots_are_used_again() {
    assert_eq!(
        shown("math::sin(math::cos(x + 1.0) * 2.0) + y"),
        ["code 1", "Cos slot 0 to slot 1", "code 1", "Sin slot 0 to slot 1", "code 1, result"]
    );
    let chain = format!("{}x{}", "math::sin(".repeat(50), ")".repeat(50));
    assert_eq!(Plan::new(&typed(&chain)).unwrap().slots, 2);
}

#[test]
fn constants_go_to_kernels_as_such() {
    assert_eq!(shown("x ^ 2.0"), ["Pow column 0, 2.0 to slot 0", "code 0, result"]);
}
