//! Values at the edges, types that don't fit, and the shape of the document.

use super::{NUMERIC, TestBlock, booleans, floats, ints, push, reduced, result, set};
use crate::reduce::{ReduceError, ReducerSet};
use crate::spec::{Reduction, Scalar};
use serde_json::json;

#[test]
fn document_has_results_in_order() {
    let set = reduced("sum,mean,argmin,histogram(0,4,2),quantile(0.5)", &[ints(&[3, 1, 2])]);
    assert_eq!(
        set.finish(5, 2).unwrap().to_string(),
        r#"{"version":1,"rows":5,"failed":2,"result":{"sum":6,"mean":2.0,"argmin":{"value":1,"row":1,"inputs":{"n":1,"s":null}},"histogram":{"edges":[0.0,2.0,4.0],"counts":[1,2],"under":0,"over":0,"nan":0},"quantile(0.5)":2.001951219512195}}"#
    );
}

#[test]
fn no_values_have_the_documented_results() {
    let nothing = json!({
        "count": 0, "sum": 0, "mean": null, "min": null, "max": null, "argmin": null, "argmax": null, "variance": null,
        "stddev": null,
        "histogram": { "edges": result(set(NUMERIC))["histogram"]["edges"], "counts": [0, 0, 0, 0, 0, 0, 0],
            "under": 0, "over": 0, "nan": 0 },
        "quantile(0)": null, "quantile(0.5)": null, "quantile(1)": null,
    });
    assert_eq!(result(set(NUMERIC)), nothing);
    assert_eq!(result(reduced(NUMERIC, &[TestBlock { number: 3, rows: vec![None; 100] }])), nothing);
    assert_eq!(result(reduced(NUMERIC, &[TestBlock { number: 3, rows: vec![] }])), nothing);
}

#[test]
fn one_value_has_no_variance() {
    let found = result(reduced("variance,stddev,mean", &[floats(&[2.5])]));
    assert_eq!(found, json!({ "variance": null, "stddev": null, "mean": 2.5 }));
}

#[test]
fn nan_goes_through_extremes_from_its_first_row() {
    let found = result(reduced("min,max,argmin,argmax", &[floats(&[1.0, -f64::NAN, f64::NEG_INFINITY, f64::NAN])]));
    assert_eq!((&found["min"], &found["max"]), (&json!("NaN"), &json!("NaN")));
    assert_eq!((&found["argmin"]["row"], &found["argmax"]["row"]), (&json!(1), &json!(1)));
}

#[test]
fn negative_zero_is_below_zero() {
    let found = result(reduced("argmin,argmax,sum", &[floats(&[0.0, -0.0, 0.0])]));
    assert_eq!(found["argmin"]["value"].to_string(), "-0.0");
    assert_eq!(found["argmin"]["row"], 1);
    assert_eq!(found["argmax"]["value"].to_string(), "0.0");
    assert_eq!(found["argmax"]["row"], 0);
    assert_eq!(found["sum"].to_string(), "0.0");
    // Also where the zero that is found last is the better one, in a later block.
    let later = [floats(&[0.0]), TestBlock { number: 1, ..floats(&[-0.0]) }];
    assert_eq!(result(reduced("min", &later))["min"].to_string(), "-0.0");
    let later = [floats(&[-0.0]), TestBlock { number: 1, ..floats(&[0.0]) }];
    assert_eq!(result(reduced("max", &later))["max"].to_string(), "0.0");
}

#[test]
fn ints_stay_ints_at_the_edges_of_their_range() {
    let found = result(reduced("min,max", &[ints(&[i64::MAX, i64::MIN])]));
    assert_eq!(found, json!({ "min": i64::MIN, "max": i64::MAX }));
}

#[test]
fn tie_of_int_and_float_goes_to_the_lowest_row() {
    let mixed = |values: &[Scalar]| TestBlock { number: 0, rows: values.iter().cloned().map(Some).collect() };
    let found = result(reduced("min,argmax", &[mixed(&[Scalar::Float(1.0), Scalar::Int(1)])]));
    assert_eq!((found["min"].to_string(), &found["argmax"]["row"]), ("1.0".into(), &json!(0)));
    let found = result(reduced("min,argmax", &[mixed(&[Scalar::Int(1), Scalar::Float(1.0)])]));
    assert_eq!((found["min"].to_string(), &found["argmax"]["row"]), ("1".into(), &json!(0)));
}

#[test]
fn infinite_extremes_are_found() {
    let found = result(reduced("argmin,argmax", &[floats(&[f64::INFINITY, f64::INFINITY])]));
    assert_eq!((&found["argmin"]["value"], &found["argmin"]["row"]), (&json!("inf"), &json!(0)));
    assert_eq!((&found["argmax"]["value"], &found["argmax"]["row"]), (&json!("inf"), &json!(0)));
}

#[test]
fn variance_of_equal_values_is_zero_however_large() {
    for x in [0.1, 1e300, -1e308, 5e-324] {
        assert_eq!(result(reduced("variance", &[floats(&[x; 100])])), json!({ "variance": 0.0 }), "{x}");
    }
    let apart = [floats(&[1e308; 50]), TestBlock { number: 9, ..floats(&[1e308; 50]) }];
    assert_eq!(result(reduced("variance", &apart)), json!({ "variance": 0.0 }));
}

#[test]
fn variance_beyond_floats_is_infinite_and_of_nan_is_nan() {
    let variance = |blocks: &[TestBlock]| result(reduced("variance", blocks))["variance"].clone();
    assert_eq!(variance(&[floats(&[1e308, -1e308, 0.0])]), "inf");
    assert_eq!(variance(&[floats(&[f64::MAX, -f64::MAX]), TestBlock { number: 1, ..floats(&[1.0]) }]), "inf");
    assert_eq!(variance(&[floats(&[f64::MAX]), TestBlock { number: 1, ..floats(&[-f64::MAX]) }]), "inf");
    assert_eq!(variance(&[floats(&[1.0, f64::NAN])]), "NaN");
    assert_eq!(variance(&[floats(&[1.0, f64::INFINITY, 2.0])]), "NaN");
    assert_eq!(variance(&[floats(&[1e308, -1e308]), TestBlock { number: 1, ..floats(&[f64::NAN]) }]), "NaN");
}

#[test]
fn variance_keeps_its_digits_beside_a_large_offset() {
    let values: Vec<f64> = [4.0, 7.0, 13.0, 16.0].iter().map(|x| x + 1e9).collect();
    let blocks: Vec<TestBlock> = (0..).zip(&values).map(|(number, x)| TestBlock { number, ..floats(&[*x]) }).collect();
    assert_eq!(result(reduced("variance", &[floats(&values)])), json!({ "variance": 30.0 }));
    assert_eq!(result(reduced("variance", &blocks)), json!({ "variance": 30.0 }));
}

#[test]
fn quantiles_count_infinities_but_no_nan() {
    let quantile = |p: &str, values: &[f64]| result(reduced(p, &[floats(values)]))[p].clone();
    let values = [f64::NEG_INFINITY, -2.0, 0.0, 2.0, f64::INFINITY, f64::NAN];
    assert_eq!(quantile("quantile(0)", &values), "-inf");
    assert_eq!(quantile("quantile(0.25)", &values), -2.0);
    assert_eq!(quantile("quantile(0.5)", &values), 0.0);
    assert_eq!(quantile("quantile(0.75)", &values), 2.0);
    assert_eq!(quantile("quantile(1)", &values), "inf");
    assert_eq!(quantile("quantile(0.5)", &[f64::NAN]), "NaN");
    assert_eq!(quantile("quantile(0.5)", &[-0.0]).to_string(), "0.0");
    assert_eq!(quantile("quantile(0.5)", &[5e-324]), 5e-324);
}

#[test]
fn value_of_another_type_is_named_and_leaves_no_trace() {
    let mut numbers = reduced(NUMERIC, &[ints(&[1, 2])]);
    let before = numbers.to_bytes();
    let error = push(&mut numbers, &TestBlock { number: 1, ..booleans(&[true]) }).unwrap_err();
    assert_eq!((error.row, error.code.as_str()), (4096, "not_a_number"));
    assert_eq!(
        error.message,
        "sum takes numbers, but the value of row 4096 is a boolean; write if(.., 1, 0) around the formula"
    );
    let mixed = TestBlock { number: 2, rows: vec![None, Some(Scalar::Int(1)), Some(Scalar::String("x".into()))] };
    let error = push(&mut numbers, &mixed).unwrap_err();
    assert_eq!((error.row, error.message.as_str()), (8194, "sum takes numbers, but the value of row 8194 is a string"));
    assert_eq!(numbers.to_bytes(), before);

    let mut truths = set("any");
    let error = push(&mut truths, &floats(&[0.0])).unwrap_err();
    assert_eq!((error.row, error.code.as_str()), (0, "not_a_boolean"));
    assert_eq!(error.message, "any takes booleans, but the value of row 0 is a float; compare it, as in x > 0");
}

#[test]
fn count_takes_values_of_every_type() {
    let values = [Scalar::Int(1), Scalar::String("x".into()), Scalar::Tuple(vec![]), Scalar::Boolean(true)];
    let block = TestBlock { number: 0, rows: values.into_iter().map(Some).chain([None]).collect() };
    assert_eq!(result(reduced("count", &[block])), json!({ "count": 4 }));
}

#[test]
fn same_block_twice_is_refused() {
    let mut set = reduced("variance", &[ints(&[1])]);
    assert_eq!(push(&mut set, &ints(&[2])).unwrap_err().code, "repeated_rows");
    let (mut one, other) = (reduced("variance", &[ints(&[1])]), reduced("variance", &[ints(&[2])]));
    assert_eq!(one.merge(other), Err(ReduceError::Overlap { row: 0 }));
}

#[test]
fn specs_with_bad_reductions_are_refused() {
    let new = |reductions: &[Reduction]| ReducerSet::new(reductions, &[], false).map(|_| ());
    assert_eq!(new(&[]), Err(ReduceError::Empty));
    assert!(new(&[Reduction::Quantile(f64::NAN)]).is_err());
    assert!(new(&[Reduction::Histogram { lo: f64::NAN, hi: 1.0, bins: 3 }]).is_err());
    assert!(new(&[Reduction::Histogram { lo: -1e308, hi: 1e308, bins: 3 }]).is_err());
    assert!(new(&[Reduction::Histogram { lo: 1e16, hi: 1e16 + 8.0, bins: 100 }]).is_err());
    assert!(new(&[Reduction::Histogram { lo: 0.0, hi: 5e-324, bins: 1 }]).is_err());
    assert!(new(&[Reduction::Histogram { lo: 0.0, hi: 1.0, bins: u32::MAX }]).is_err());
}
