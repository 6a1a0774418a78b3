//! What each reduction costs an element, and each source of rows a row, in one thread and in cache.
//!
//! `cargo bench --bench reduce` prints nanoseconds: `reduce/NAME/4096` for blocks of 4,096 rows that all have a value,
//! `source/NAME/4096` for making them. A word after `--` keeps the lines that contain it. Timing never fails it.
#![allow(clippy::print_stdout, reason = "figures go to stdout")]

use anyhow::Context;
use quipu_shared::BLOCK_ROWS;
use quipu_shared::block::{Block, Column, RowState, Values};
use quipu_shared::reduce::{ReducerSet, parse_reductions};
use quipu_shared::source::{RowSource, SampleSource, SweepSource, parse_axis, parse_draw};
use std::hint::black_box;
use std::time::Instant;

/// Blocks of one measurement: short beside what a busy machine gives to one thread at a time.
const BLOCKS: u64 = 300;
/// The best of these is what the machine can do.
const ROUNDS: usize = 25;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(()); // Built and listed along with tests.
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let wants = |name: &str| wanted.is_none_or(|word| name.contains(word.as_str()));
    for (reductions, exact) in [
        ("count", false),
        ("sum", false),
        ("mean", false),
        ("min", false),
        ("max", false),
        ("min,max", false),
        ("argmin", false),
        ("variance", false),
        ("histogram(0,1,100)", false),
        ("quantile(0.5)", false),
        ("sum,mean,min,max", false),
        ("sum,mean,min,max,variance,quantile(0.5)", false),
        ("sum", true),
        ("variance", true),
        ("sum,mean,variance,stddev", true),
    ] {
        for data in ["float", "wide", "int", "holes"] {
            let name = format!("reduce/{data}/{reductions}{}/{BLOCK_ROWS}", if exact { " --exact" } else { "" });
            if wants(&name) {
                let figure = reduce(reductions, exact, values(data)).with_context(|| name.clone())?;
                println!("{name:<75} {figure:7.3}");
            }
        }
    }
    for reductions in ["any", "all", "count"] {
        let name = format!("reduce/boolean/{reductions}/{BLOCK_ROWS}");
        if wants(&name) {
            println!("{name:<75} {:7.3}", reduce(reductions, false, values("boolean"))?);
        }
    }
    for axis in ["x=0.0:1.0/100000001", "x=0.0:100000000.0:0.5", "x=0:100000000:3", "x=1.5,2.5,3.5", "x=0.0:1.0/5"] {
        let name = format!("source/{axis}/{BLOCK_ROWS}");
        if wants(&name) {
            let axis = parse_axis(axis)?;
            let mut axes = vec![axis];
            if axes[0].name == "x" && SweepSource::new(&axes)?.rows() < 1000 {
                axes.insert(0, parse_axis("y=0:100000000:1")?);
            }
            println!("{name:<75} {:7.3}", fill(&SweepSource::new(&axes)?));
        }
    }
    for draw in ["uniform(0,1)", "normal(0,1)", "exponential(2)", "bernoulli(0.3)", "integer(1,6)", "choice(1,2,3)"] {
        let name = format!("source/{draw}/{BLOCK_ROWS}");
        if wants(&name) {
            let draw = parse_draw(&format!("u={draw}"))?;
            println!("{name:<75} {:7.3}", fill(&SampleSource::new(&[draw], BLOCKS * BLOCK_ROWS, 7)?));
        }
    }
    let name = format!("both/x=0.0:1.0/100000001 sum/{BLOCK_ROWS}");
    if wants(&name) {
        println!("{name:<75} {:7.3}", sweep_and_sum()?);
    }
    Ok(())
}

/// A block of values: floats of one magnitude, floats of many, integers, floats with holes, or booleans.
fn values(data: &str) -> Values {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let rows = BLOCK_ROWS as usize;
    let column = match data {
        "int" => Column::Int((0..rows).map(|_| (next() * 1e6) as i64).collect()),
        "boolean" => Column::Boolean((0..rows).map(|_| next() < 0.5).collect()),
        "wide" => Column::Float((0..rows).map(|_| (next() - 0.5) * 10_f64.powf(next() * 40.0 - 20.0)).collect()),
        _ => Column::Float((0..rows).map(|_| next()).collect()),
    };
    let hole = |i: usize| data == "holes" && i.is_multiple_of(3);
    let states = (0..rows).map(|i| if hole(i) { RowState::Hole } else { RowState::Valid }).collect();
    Values { first_row: 0, column, states, errors: Vec::new() }
}

/// Nanoseconds an element.
fn reduce(reductions: &str, exact: bool, mut values: Values) -> anyhow::Result<f64> {
    let reductions = parse_reductions(reductions)?;
    let block = Block::default();
    best(|| {
        let mut set = ReducerSet::new(&reductions, &[], exact)?;
        for number in 0..BLOCKS {
            values.first_row = number * BLOCK_ROWS;
            set.push(&block, black_box(&values)).map_err(|error| anyhow::anyhow!("{}", error.message))?;
        }
        black_box(set.finish(BLOCKS * BLOCK_ROWS, 0)?);
        Ok(())
    })
}

/// Nanoseconds a row.
fn fill(source: &dyn RowSource) -> f64 {
    let mut block = Block::default();
    let best = best(|| {
        for number in 0..BLOCKS {
            source.fill(number * BLOCK_ROWS, BLOCK_ROWS as usize, &mut block);
            black_box(&block);
        }
        Ok(())
    });
    best.unwrap_or(f64::NAN)
}

/// Nanoseconds a row of a sweep whose points are added up.
fn sweep_and_sum() -> anyhow::Result<f64> {
    let source = SweepSource::new(&[parse_axis("x=0.0:1.0/100000001")?])?;
    let reductions = parse_reductions("sum")?;
    let mut block = Block::default();
    let mut values = values("float");
    best(|| {
        let mut set = ReducerSet::new(&reductions, &[], false)?;
        for number in 0..BLOCKS {
            source.fill(number * BLOCK_ROWS, BLOCK_ROWS as usize, &mut block);
            values.first_row = block.first_row;
            std::mem::swap(&mut values.column, &mut block.columns[0]);
            set.push(&block, &values).map_err(|error| anyhow::anyhow!("{}", error.message))?;
        }
        black_box(set.finish(BLOCKS * BLOCK_ROWS, 0)?);
        Ok(())
    })
}

fn best(mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best * 1e9 / (BLOCKS * BLOCK_ROWS) as f64)
}
