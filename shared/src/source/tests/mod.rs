//! Axes, draws, and the rows that come of them.

mod statistics;

use super::{RowSource, SampleSource, SourceError, SweepSource, parse_axis, parse_draw};
use crate::block::{Block, Column};
use crate::spec::{Axis, AxisValues, ColumnType, Distribution, Scalar};
use proptest::prelude::{any, prop_assert_eq, proptest};

fn axis(text: &str) -> Axis {
    parse_axis(text).unwrap_or_else(|error| panic!("{error}"))
}

fn sweep(texts: &[&str]) -> SweepSource {
    SweepSource::new(&texts.iter().map(|text| axis(text)).collect::<Vec<_>>()).unwrap()
}

fn sample(texts: &[&str], rows: u64, seed: u64) -> SampleSource {
    let draws: Vec<_> = texts.iter().map(|text| parse_draw(text).unwrap_or_else(|error| panic!("{error}"))).collect();
    SampleSource::new(&draws, rows, seed).unwrap()
}

fn rows(source: &dyn RowSource, first_row: u64, len: usize) -> Vec<Column> {
    let mut block = Block::default();
    source.fill(first_row, len, &mut block);
    assert_eq!((block.first_row, block.len), (first_row, len));
    assert!(block.nulls.iter().all(Option::is_none) && block.nulls.len() == block.columns.len());
    block.columns
}

fn points(text: &str) -> Column {
    let source = sweep(&[text]);
    rows(&source, 0, source.rows() as usize).remove(0)
}

#[test]
fn ranges_are_half_open_and_linear() {
    assert_eq!(points("x=0:10:3"), Column::Int(vec![0, 3, 6, 9]));
    assert_eq!(points("x=5:-5:-5"), Column::Int(vec![5, 0]));
    assert_eq!(points("x=0:1:0.25"), Column::Float(vec![0.0, 0.25, 0.5, 0.75]));
    // 3 * 0.1 is above 0.3, and 0.1 * 3 is what the third point would be.
    assert_eq!(points("x=0:0.3:0.1"), Column::Float(vec![0.0, 0.1, 0.2]));
    assert_eq!(points("x=1.0:3:1"), Column::Float(vec![1.0, 2.0]));
    assert_eq!(points("x=1:0:-0.5"), Column::Float(vec![1.0, 0.5]));
}

#[test]
fn counted_ranges_have_both_ends() {
    assert_eq!(points("x=0:1/5"), Column::Float(vec![0.0, 0.25, 0.5, 0.75, 1.0]));
    assert_eq!(points("x=1:0/3"), Column::Float(vec![1.0, 0.5, 0.0]));
    assert_eq!(points("x=2:7/1"), Column::Float(vec![2.0]));
    let Column::Float(values) = points("x=0:0.7/8") else { panic!("not floats") };
    assert_eq!(values[7], 0.7);
}

#[test]
fn lists_have_one_type() {
    assert_eq!(points("x=3,1,2"), Column::Int(vec![3, 1, 2]));
    assert_eq!(points("x=3, 1.5"), Column::Float(vec![3.0, 1.5]));
    assert_eq!(points("x=true,false"), Column::Boolean(vec![true, false]));
    assert_eq!(points(r#"x="a,b:c/d","\"q\"""#), Column::String(vec!["a,b:c/d".into(), "\"q\"".into()]));
}

#[test]
fn last_axis_is_the_fastest() {
    let source = sweep(&["a=1,2", "b=0:3:1"]);
    assert_eq!(source.variables(), ["a", "b"]);
    assert_eq!(source.column_types(), [ColumnType::Int, ColumnType::Int]);
    assert_eq!(rows(&source, 0, 6), [Column::Int(vec![1, 1, 1, 2, 2, 2]), Column::Int(vec![0, 1, 2, 0, 1, 2])]);
}

#[test]
fn refused_axes_name_the_fix() {
    let cases = [
        ("x", "write a name, = and values, as in x=0:10:1, x=0:1/11 or x=1,2,3"),
        (
            "x=0:10",
            "\"0:10\" has no step and no count; write 0:10:STEP for START + i*STEP below STOP, or 0:10/COUNT for COUNT points with both ends",
        ),
        ("x=0:10:0", "the step is 0; write another one, or START:STOP/COUNT"),
        ("x=0:10:-1", "it has no points: the step goes down, but 10 does not lie there; write a positive step"),
        ("x=10:0:0.5", "it has no points: the step goes up, but 0 does not lie there; write a negative step"),
        ("x=5:5:1", "it has no points: it stops at 5, before its first; write 5 for one point"),
        ("x=0:1/0", "\"0\" is no number of points; write a positive integer"),
        ("x=0:1/2.0", "\"2.0\" is no number of points; write a positive integer"),
        ("x=0:nan:1", "\"nan\" is not a finite number"),
        ("x=0:inf:1", "\"inf\" is not a finite number"),
        ("x=0::1", "a part of the range is empty; it has no defaults"),
        ("x=0:1:2:3", "\"0:1:2:3\" has too many colons; a range is START:STOP:STEP or START:STOP/COUNT"),
        (
            "x=0:9223372036854775808:1",
            "9223372036854775808 is outside the range of an int (64 bits); write 9223372036854775808.0 for a float",
        ),
        (
            "x=-9223372036854775808:9223372036854775807:1",
            "it has 18446744073709551615 points; at most 1000000000000000 are taken",
        ),
        ("x=0.0:1e300:1", "it has more than 1000000000000000 points, which is the limit; take a larger step"),
        (
            "x=1e300:2e300:1",
            "the step 1 is too small to change 1000000000000000052504760255204420248704468581108159154915854115111802457988908195786371375080447854045104307000192.0",
        ),
        ("x=1,,2", "value 2 of the list is empty"),
        ("x=1,true", "value 2 of the list is of another type than the first; a list has values of one type"),
        (
            "x=9007199254740993,0.5",
            "9007199254740993 stands beside floats, but is no float itself: 9007199254740992 is the nearest",
        ),
        ("x=-1e308:1e308/3", "the distance"),
    ];
    for (text, problem) in cases {
        match parse_axis(text) {
            Err(SourceError::Axis { input, problem: found }) => {
                assert_eq!(input, text);
                if text.starts_with("x=1e300") || text.starts_with("x=-1e308") {
                    assert!(found.starts_with(&problem[..12]), "{found}");
                } else if text == "x=1,true" {
                    assert!(found.contains("of another type than the first"), "{found}");
                } else {
                    assert_eq!(found, problem, "{text}");
                }
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn names_must_be_variables_of_the_language() {
    for name in ["", "1x", "a b", "a-b", "nan", "inf", "Infinity", "true", "x\"", "a+b", &"x".repeat(257)] {
        assert!(matches!(parse_axis(&format!("{name}=1")), Err(SourceError::Name { .. })), "{name:?}");
        assert!(matches!(parse_draw(&format!("{name}=uniform(0,1)")), Err(SourceError::Name { .. })), "{name:?}");
    }
    for name in ["x", "_", "x_1", "été", "True", "nano", "a.b", "x[0]"] {
        assert_eq!(axis(&format!("{name}=1")).name, name);
    }
    let twice = SweepSource::new(&[axis("x=1"), axis("x=2")]).unwrap_err();
    assert_eq!(twice, SourceError::Repeated("x".into()));
    assert_eq!(SweepSource::new(&[]).unwrap_err(), SourceError::Missing("axis"));
}

#[test]
fn too_many_rows_are_refused_with_the_lengths() {
    let axes = [axis("a=0:1000000:1"), axis("b=0:1000000:1"), axis("c=0:1001:1")];
    let error = SweepSource::new(&axes).unwrap_err();
    assert_eq!(error.to_string(), "1000000 x 1000000 x 1001 rows; at most 1000000000000000 are taken");
    assert_eq!(error.code(), "too_many_rows");
    assert_eq!(SweepSource::new(&axes[..2]).unwrap().rows(), 1_000_000_000_000);
}

#[test]
fn axes_of_a_spec_are_checked_too() {
    let list = |values: Vec<Scalar>| Axis { name: "x".into(), values: AxisValues::List(values) };
    for values in [
        vec![],
        vec![Scalar::Int(1), Scalar::Float(1.0)],
        vec![Scalar::Empty],
        vec![Scalar::Tuple(vec![])],
        vec![Scalar::Float(f64::NAN)],
        vec![Scalar::Int(1); 100_001],
    ] {
        assert!(matches!(SweepSource::new(&[list(values)]), Err(SourceError::Axis { .. })));
    }
    let range = AxisValues::FloatRange {
        start: Scalar::Int(0),
        stop: Scalar::Float(f64::INFINITY),
        step: Scalar::Float(f64::NAN),
    };
    assert!(SweepSource::new(&[Axis { name: "x".into(), values: range }]).is_err());
}

/// What row `row` of a product is, one division an axis.
fn naive(lists: &[Vec<i64>], row: u64) -> Vec<i64> {
    let mut rest = row;
    let mut values = Vec::new();
    for list in lists.iter().rev() {
        values.push(list[(rest % list.len() as u64) as usize]);
        rest /= list.len() as u64;
    }
    values.reverse();
    values
}

proptest! {
    #[test]
    fn any_range_of_rows_is_the_product_s(
        lists in proptest::collection::vec(proptest::collection::vec(any::<i64>(), 1..7), 1..5),
        first in 0_u64..500,
        len in 0_usize..300,
    ) {
        let axes: Vec<Axis> = lists.iter().enumerate().map(|(i, list)| Axis {
            name: format!("x{i}"),
            values: AxisValues::List(list.iter().map(|x| Scalar::Int(*x)).collect()),
        }).collect();
        let texts: Vec<Axis> = lists.iter().enumerate().map(|(i, list)| Axis {
            name: format!("x{i}"),
            values: AxisValues::List(list.iter().map(|x| Scalar::String(x.to_string())).collect()),
        }).collect();
        let (source, strings) = (SweepSource::new(&axes).unwrap(), SweepSource::new(&texts).unwrap());
        let first = first % source.rows();
        let len = len.min((source.rows() - first) as usize);
        // A block that has been used before, with other types.
        let mut block = Block { columns: vec![Column::String(vec!["old".into(); 9])], ..Block::default() };
        source.fill(first, len, &mut block);
        let columns = rows(&strings, first, len);
        for i in 0..len {
            let expected = naive(&lists, first + i as u64);
            let found: Vec<Scalar> = block.columns.iter().map(|column| column.get(i)).collect();
            prop_assert_eq!(found, expected.iter().map(|x| Scalar::Int(*x)).collect::<Vec<_>>());
            let found: Vec<Scalar> = columns.iter().map(|column| column.get(i)).collect();
            prop_assert_eq!(found, expected.iter().map(|x| Scalar::String(x.to_string())).collect::<Vec<_>>());
        }
    }

    #[test]
    fn float_points_are_start_plus_i_steps(first in 0_u64..9_990, len in 1_usize..9_000, outer in 1_i64..4) {
        let source = sweep(&[&format!("a=0:{outer}:1"), "x=-6:6/10000", "y=0:7:0.7"]);
        let first = first * 3;
        let len = len.min((source.rows() - first) as usize);
        let columns = rows(&source, first, len);
        let step = 12.0 / 9_999.0;
        for i in 0..len as u64 {
            let row = first + i;
            let k = row / 10 % 10_000;
            let x = if k == 9_999 { 6.0 } else { -6.0 + k as f64 * step };
            prop_assert_eq!(columns[1].get(i as usize), Scalar::Float(x));
            prop_assert_eq!(columns[2].get(i as usize), Scalar::Float(0.0 + (row % 10) as f64 * 0.7));
        }
    }

    #[test]
    fn parsing_any_text_gives_an_axis_or_an_error(text in "x=[-0-9.:/,\"a-z\\\\e ]{0,24}") {
        if let Ok(axis) = parse_axis(&text) {
            SweepSource::new(&[axis]).unwrap();
        }
        if let Ok(draw) = parse_draw(&text) {
            SampleSource::new(&[draw], 1, 1).unwrap();
        }
    }

    #[test]
    fn draws_depend_on_seed_name_and_row_alone(first in 0_u64..1 << 40, len in 0_usize..1200, seed in any::<u64>()) {
        let texts = ["u=uniform(-1,1)", "n=normal(0,1)", "i=integer(-5,5)", "c=choice(\"a\",\"b\",\"c\")"];
        let backwards: Vec<&str> = texts.iter().rev().copied().collect();
        let whole = rows(&sample(&texts, 1 << 41, seed), first, len);
        let reversed = rows(&sample(&backwards, 1 << 41, seed), first, len);
        for (column, again) in whole.iter().zip(reversed.iter().rev()) {
            prop_assert_eq!(column, again);
        }
        for i in [0, len / 2, len.saturating_sub(1)] {
            if i < len {
                let one = rows(&sample(&texts, 1 << 41, seed), first + i as u64, 1);
                for (column, single) in whole.iter().zip(&one) {
                    prop_assert_eq!(column.get(i), single.get(0));
                }
            }
        }
    }
}

#[test]
fn draws_are_read() {
    assert_eq!(parse_draw("u = uniform( 0 , 1.5 )").unwrap().distribution, Distribution::Uniform(0.0, 1.5));
    assert_eq!(parse_draw("k=integer(-1,6)").unwrap().distribution, Distribution::Integer(-1, 6));
    assert_eq!(
        parse_draw("c=choice(1,2.5)").unwrap().distribution,
        Distribution::Choice(vec![Scalar::Float(1.0), Scalar::Float(2.5)])
    );
    let refused = [
        ("u=uniform(1,0)", "uniform(1,0) is empty; the lower bound must be below the upper one"),
        ("u=uniform(1,1)", "uniform(1,1) is empty; the lower bound must be below the upper one"),
        ("u=uniform(-1e308,1e308)", "uniform("),
        ("u=uniform(0)", "uniform takes a lower and an upper bound, as in uniform(0,1)"),
        ("u=uniform(0,inf)", "\"inf\" is not a finite number"),
        ("u=unform(0,1)", "unknown distribution \"unform\"; did you mean uniform?; known are uniform(a,b) normal"),
        ("u=0.5", "\"0.5\" is no distribution; known are uniform(a,b)"),
        ("n=normal(0,-1)", "normal(0,-1): the standard deviation must be 0 or more, and both within range"),
        ("t=exponential(0)", "exponential(0): the rate must be above 0, and within range"),
        ("b=bernoulli(1.5)", "bernoulli(1.5): the probability must be from 0 to 1"),
        ("k=integer(6,1)", "integer(6,1) is empty; write the lower end first"),
        ("k=integer(0.5,1)", "\"0.5\" is not an int (64 bits)"),
        ("c=choice()", "value 1 of the list is empty"),
    ];
    for (text, problem) in refused {
        match parse_draw(text) {
            Err(SourceError::Draw { problem: found, .. }) => assert!(found.starts_with(problem), "{text}: {found}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
