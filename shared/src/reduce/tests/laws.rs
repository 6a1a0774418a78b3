//! Whatever the shards and the order of merging, the same bits; and each law against a naive form of it.

use super::{NUMERIC, TestBlock, any_blocks, any_number, booleans, floats, reduced, result, set};
use crate::reduce::ReducerSet;
use crate::spec::Scalar;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use serde_json::json;

fn as_float(value: &Scalar) -> f64 {
    match value {
        Scalar::Int(x) => *x as f64,
        Scalar::Float(x) => *x,
        other => panic!("{other:?} is no number"),
    }
}

/// Cuts blocks into shards and merges these in an order, all by the numbers given.
fn merged(reductions: &str, blocks: &[TestBlock], cuts: &[bool], order: &[u64], travel: bool) -> ReducerSet {
    let mut shards: Vec<ReducerSet> = vec![set(reductions)];
    for (i, block) in blocks.iter().enumerate() {
        if cuts[i % cuts.len()] {
            shards.push(set(reductions));
        }
        super::push(shards.last_mut().unwrap(), block).unwrap();
    }
    if travel {
        shards = shards.iter().map(|shard| ReducerSet::from_bytes(&shard.to_bytes()).unwrap()).collect();
    }
    let mut turn = 0;
    while shards.len() > 1 {
        let pick = |k: usize, n: usize| (order[k % order.len()] % n as u64) as usize;
        let one = shards.swap_remove(pick(turn, shards.len()));
        let other = pick(turn + 1, shards.len());
        shards[other].merge(one).unwrap();
        turn += 2;
    }
    shards.remove(0)
}

proptest! {
    #[test]
    fn shards_and_order_of_merging_change_no_bit(
        blocks in any_blocks(),
        cuts in proptest::collection::vec(any::<bool>(), 1..12),
        order in proptest::collection::vec(any::<u64>(), 1..24),
        travel in any::<bool>(),
    ) {
        let whole = reduced(NUMERIC, &blocks);
        let split = merged(NUMERIC, &blocks, &cuts, &order, travel);
        prop_assert_eq!(whole.to_bytes(), split.to_bytes());
        prop_assert_eq!(format!("{:?}", whole.finish(7, 1)), format!("{:?}", split.finish(7, 1)));
    }

    #[test]
    fn order_of_pushing_changes_no_bit(blocks in any_blocks(), order in proptest::collection::vec(any::<u64>(), 12)) {
        let mut shuffled: Vec<_> = blocks.iter().cloned().zip(order).collect();
        shuffled.sort_by_key(|(_, key)| *key);
        let shuffled: Vec<TestBlock> = shuffled.into_iter().map(|(block, _)| block).collect();
        prop_assert_eq!(reduced(NUMERIC, &blocks).to_bytes(), reduced(NUMERIC, &shuffled).to_bytes());
    }

    #[test]
    fn block_without_values_changes_no_result(blocks in any_blocks()) {
        let some: Vec<TestBlock> = blocks.iter().filter(|block| block.rows().next().is_some()).cloned().collect();
        let (all, some) = (reduced(NUMERIC, &blocks), reduced(NUMERIC, &some));
        prop_assert_eq!(format!("{:?}", all.finish(0, 0)), format!("{:?}", some.finish(0, 0)));
    }

    #[test]
    fn count_and_extremes_are_those_of_the_rows(blocks in any_blocks()) {
        let rows: Vec<(u64, &Scalar)> = blocks.iter().flat_map(TestBlock::rows).collect();
        let found = result(reduced("count,min,max,argmin,argmax", &blocks));
        prop_assert_eq!(&found["count"], &json!(rows.len()));
        // A total order by brute force: floats by their bits, ints as i128 beside them.
        let nan = rows.iter().find(|(_, value)| as_float(value).is_nan());
        for (name, sign) in [("argmin", 1), ("argmax", -1)] {
            let best = nan.or_else(|| rows.iter().min_by(|a, b| order(a.1, b.1, sign).then(a.0.cmp(&b.0))));
            match best {
                None => prop_assert_eq!(&found[name], &json!(null)),
                Some((row, value)) => {
                    prop_assert_eq!(&found[name]["row"], &json!(row));
                    prop_assert_eq!(&found[name]["value"], &json_of(value));
                    let text = if row % 2 == 1 { json!(null) } else { json!("text") };
                    prop_assert_eq!(&found[name]["inputs"], &json!({ "n": row, "s": text }));
                    prop_assert_eq!(&found[&name[3..]], &found[name]["value"]);
                }
            }
        }
    }

    #[test]
    fn variance_is_near_the_two_pass_one(values in proptest::collection::vec(-1e3..1e3_f64, 2..300), offset in -1e6..1e6_f64) {
        let values: Vec<f64> = values.into_iter().map(|x| x + offset).collect();
        let blocks: Vec<TestBlock> = (0..).zip(values.chunks(20)).map(|(number, chunk)| TestBlock { number, ..floats(chunk) }).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let expected = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
        let found = result(reduced("variance,stddev", &blocks));
        let variance = found["variance"].as_f64().unwrap();
        prop_assert!((variance - expected).abs() <= 1e-9 * expected + 1e-12, "{variance} is not near {expected}");
        prop_assert_eq!(found["stddev"].as_f64(), Some(variance.sqrt()));
    }

    #[test]
    fn bin_has_the_values_between_its_edges(
        values in proptest::collection::vec(any_number(), 0..60),
        near in proptest::collection::vec((0..=30_usize, -2..=2_i32), 0..30),
    ) {
        let reductions = "histogram(-0.3,29.1,30)";
        let edges = result(set(reductions))["histogram"]["edges"].clone();
        let edges: Vec<f64> = edges.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        prop_assert_eq!((edges.len(), edges[0], edges[30]), (31, -0.3, 29.1));
        let mut values: Vec<f64> = values.iter().map(as_float).collect();
        values.extend(near.iter().map(|(edge, ulps)| match ulps {
            0 => edges[*edge],
            up if *up > 0 => (0..*up).fold(edges[*edge], |x, _| x.next_up()),
            down => (0..-down).fold(edges[*edge], |x, _| x.next_down()),
        }));
        values.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        let found = result(reduced(reductions, &[floats(&values)]))["histogram"].clone();
        let count = |test: &dyn Fn(f64) -> bool| json!(values.iter().filter(|x| test(**x)).count());
        for bin in 0..30 {
            let inside = |x: f64| x >= edges[bin] && (x < edges[bin + 1] || (bin == 29 && x == edges[30]));
            prop_assert_eq!(&found["counts"][bin], &count(&inside), "bin {}", bin);
        }
        prop_assert_eq!(&found["under"], &count(&|x| x < -0.3));
        prop_assert_eq!(&found["over"], &count(&|x| x > 29.1));
        prop_assert_eq!(&found["nan"], &json!(1));
    }

    #[test]
    fn quantile_is_within_a_tenth_of_a_percent(
        values in proptest::collection::vec(any_number(), 1..200),
        percent in 0..=100_u32,
    ) {
        let mut values: Vec<f64> = values.iter().map(as_float).collect();
        let name = format!("quantile({})", f64::from(percent) / 100.0);
        let mut block = floats(&values);
        block.rows.push(Some(Scalar::Float(f64::NAN)));
        let found = result(reduced(&name, &[block]))[&name].as_f64().unwrap();
        values.sort_by(f64::total_cmp);
        let rank = f64::from(percent) / 100.0 * (values.len() - 1) as f64;
        let exact = values[rank as usize];
        prop_assert!((found - exact).abs() <= exact.abs() * 1e-3 || (found - exact).abs() <= 5e-324, "{found} is not near {exact}");
    }
}

/// Compares through 256 bits of fixed point, or what is as good: the sign, then magnitudes as (exponent, mantissa).
fn order(a: &Scalar, b: &Scalar, sign: i32) -> std::cmp::Ordering {
    let key = |value: &Scalar| -> (i32, i32, u128) {
        let (negative, magnitude) = match value {
            Scalar::Int(x) => (*x < 0, (i128::from(*x).unsigned_abs(), 0)),
            Scalar::Float(x) if x.is_infinite() => (*x < 0.0, (1, 2000)),
            Scalar::Float(x) => {
                let bits = x.abs().to_bits();
                let exponent = (bits >> 52) as i32;
                let mantissa = u128::from(bits & ((1 << 52) - 1)) | if exponent > 0 { 1 << 52 } else { 0 };
                (x.is_sign_negative(), (mantissa, exponent.max(1) - 1075))
            }
            other => panic!("{other:?} is no number"),
        };
        let (mantissa, exponent) = magnitude;
        let shift = mantissa.leading_zeros();
        let (mantissa, exponent) =
            if mantissa == 0 { (0, i32::MIN) } else { (mantissa << shift, exponent + 128 - shift as i32) };
        (if negative { -1 } else { 1 }, exponent, mantissa)
    };
    let (a, b) = (key(a), key(b));
    let magnitudes = (a.1, a.2).cmp(&(b.1, b.2));
    let natural = a.0.cmp(&b.0).then(if a.0 < 0 { magnitudes.reverse() } else { magnitudes });
    if sign < 0 { natural.reverse() } else { natural }
}

fn json_of(value: &Scalar) -> serde_json::Value {
    match value {
        Scalar::Int(x) => json!(x),
        Scalar::Float(x) if x.is_nan() => json!("NaN"),
        Scalar::Float(x) if x.is_infinite() => json!(if *x > 0.0 { "inf" } else { "-inf" }),
        Scalar::Float(x) => json!(x),
        other => panic!("{other:?} is no number"),
    }
}

#[test]
fn any_and_all_are_those_of_booleans() {
    let both = |values: &[bool]| result(reduced("any,all,count", &[booleans(values)]));
    assert_eq!(both(&[true, false]), json!({ "any": true, "all": false, "count": 2 }));
    assert_eq!(both(&[false]), json!({ "any": false, "all": false, "count": 1 }));
    assert_eq!(both(&[true, true]), json!({ "any": true, "all": true, "count": 2 }));
    assert_eq!(both(&[]), json!({ "any": false, "all": true, "count": 0 }));
    // A null is neither.
    let mut block = booleans(&[true, true, true]);
    block.rows[1] = None;
    assert_eq!(result(reduced("any,all,count", &[block])), json!({ "any": true, "all": true, "count": 2 }));
}
