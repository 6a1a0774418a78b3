//! How fast formulas are evaluated: `cargo bench --bench engine -- [columns sweep] [alone]`.
//!
//! `columns`: four formulas over 10^7 rows in memory, results written to memory, on one and on two threads: a loop by
//! hand with the same functions and checks, each tier, plain evalexpr, and (where Python has them) numexpr, DuckDB,
//! polars, numpy and numba over the same columns (not with `alone`). `sweep`: generated rows, evaluated and summed in cache.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use evalexpr::{ContextWithMutableVariables, HashMapContext, Node, Value};
use multiversion::multiversion;
use quipu_shared::BLOCK_ROWS;
use quipu_shared::block::{Block, Column, Values};
use quipu_shared::config::TierChoice;
use quipu_shared::formula::{Evaluator, Formula, FormulaLimits};
use quipu_shared::math::Function1;
use quipu_shared::reduce::{ReducerSet, parse_reductions};
use quipu_shared::source::{RowSource, SweepSource, parse_axis};
use quipu_shared::spec::{ColumnType, OnError, Scalar};
use quipu_worker::engine::{Engine, Plan};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

const ROWS: usize = 10_000_000;
const NAMES: [&str; 9] = ["a", "b", "c", "x", "y", "i", "j", "k", "n"];
const FORMULAS: [(&str, &str); 4] = [
    ("polynomial", "a * x * x + b * x + c"),
    ("wave", "math::sqrt(x * x + y * y) * math::sin(x)"),
    (
        "branches",
        "if(x > 0.5 && y < 0.25, a * x + b * y, if(x * y >= 0.1 || a < b, (x - y) * (x + y) / (c + 1.0), b * x * x - c * y + 2.0 * a))",
    ),
    ("integers", "i * n * n + j * n + k"),
];

fn columns() -> Vec<(String, ColumnType)> {
    NAMES
        .iter()
        .enumerate()
        .map(|(at, name)| ((*name).into(), if at < 5 { ColumnType::Float } else { ColumnType::Int }))
        .collect()
}

/// Columns of uniform floats in [0, 1) and ints in -1000..1000, made by a counter.
fn data() -> Vec<Column> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    };
    (0..9)
        .map(|at| match at {
            0..5 => Column::Float((0..ROWS).map(|_| next() as f64 / (1_u64 << 53) as f64).collect()),
            _ => Column::Int((0..ROWS).map(|_| (next() % 2000) as i64 - 1000).collect()),
        })
        .collect()
}

/// The data in blocks, as sources give them.
fn blocks(data: &[Column]) -> Vec<Block> {
    (0..ROWS)
        .step_by(BLOCK_ROWS as usize)
        .map(|start| {
            let end = (start + BLOCK_ROWS as usize).min(ROWS);
            let part = |column: &Column| match column {
                Column::Float(values) => Column::Float(values[start..end].to_vec()),
                Column::Int(values) => Column::Int(values[start..end].to_vec()),
                _ => unreachable!("numbers only"),
            };
            let columns: Vec<Column> = data.iter().map(part).collect();
            Block {
                first_row: start as u64,
                len: end - start,
                nulls: vec![None; columns.len()],
                columns,
                bad_rows: vec![],
            }
        })
        .collect()
}

fn floats(column: &Column) -> &[f64] {
    match column {
        Column::Float(values) => values,
        _ => unreachable!("a float column"),
    }
}

fn ints(column: &Column) -> &[i64] {
    match column {
        Column::Int(values) => values,
        _ => unreachable!("an int column"),
    }
}

fn polynomial(a: &[f64], b: &[f64], c: &[f64], x: &[f64], out: &mut [f64]) {
    for ((((out, a), b), c), x) in out.iter_mut().zip(a).zip(b).zip(c).zip(x) {
        *out = a * x * x + b * x + c;
    }
}

fn wave_end(x: &[f64], y: &[f64], out: &mut [f64]) {
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out *= (x * x + y * y).sqrt();
    }
}

fn wave(x: &[f64], y: &[f64], out: &mut [f64]) {
    for ((out, x), y) in out.chunks_mut(1024).zip(x.chunks(1024)).zip(y.chunks(1024)) {
        Function1::Sin.over(x, out);
        wave_end(x, y, out);
    }
}

fn branches(a: &[f64], b: &[f64], c: &[f64], x: &[f64], y: &[f64], out: &mut [f64]) {
    for (((((out, a), b), c), x), y) in out.iter_mut().zip(a).zip(b).zip(c).zip(x).zip(y) {
        let (first, second, third) = (a * x + b * y, (x - y) * (x + y) / (c + 1.0), b * x * x - c * y + 2.0 * a);
        let inner = if (x * y >= 0.1) | (a < b) { second } else { third };
        *out = if (*x > 0.5) & (*y < 0.25) { first } else { inner };
    }
}

fn integers(i: &[i64], j: &[i64], k: &[i64], n: &[i64], out: &mut [i64]) -> bool {
    let mut failed = false;
    for ((((out, i), j), k), n) in out.iter_mut().zip(i).zip(j).zip(k).zip(n) {
        let (first, e1) = i.overflowing_mul(*n);
        let (first, e2) = first.overflowing_mul(*n);
        let (second, e3) = j.overflowing_mul(*n);
        let (sum, e4) = first.overflowing_add(second);
        let (sum, e5) = sum.overflowing_add(*k);
        failed |= e1 | e2 | e3 | e4 | e5;
        *out = sum;
    }
    failed
}

/// The loop by hand, over whole columns.
fn by_hand(name: &str, data: &[Column], out: &mut [f64], int_out: &mut [i64], start: usize) {
    let end = start + out.len().max(int_out.len());
    let f = |at: usize| &floats(&data[at])[start..end];
    let i = |at: usize| &ints(&data[at])[start..end];
    match name {
        "polynomial" => polynomial(f(0), f(1), f(2), f(3), out),
        "wave" => wave(f(3), f(4), out),
        "branches" => branches(f(0), f(1), f(2), f(3), f(4), out),
        _ => assert!(!integers(i(5), i(6), i(7), i(8), int_out), "nothing overflows"),
    }
}

/// Rows a second, the best of five.
fn rate(rows: usize, mut run: impl FnMut()) -> f64 {
    let seconds = (0..5).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    rows as f64 / seconds.fold(f64::INFINITY, f64::min)
}

/// evalexpr as its documentation shows it: one tree, a context of named variables, a row at a time.
fn plain_evalexpr(text: &str, blocks: &[Block]) {
    let tree: Node = evalexpr::build_operator_tree(text).expect("a formula");
    let mut context: HashMapContext = HashMapContext::new();
    for block in blocks {
        for row in 0..block.len {
            for (name, column) in NAMES.iter().zip(&block.columns).filter(|(name, _)| text.contains(*name)) {
                let value = match column {
                    Column::Float(values) => Value::Float(values[row]),
                    Column::Int(values) => Value::Int(values[row]),
                    _ => unreachable!("numbers only"),
                };
                context.set_value((*name).into(), value).expect("a variable");
            }
            black_box(tree.eval_with_context(&context).expect("a value"));
        }
    }
}

/// Runs a part of the blocks on each thread.
fn on_threads(threads: usize, plan: &Arc<Plan>, blocks: &[Block], values: &mut [Values]) {
    let part = blocks.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (blocks, values) in blocks.chunks(part).zip(values.chunks_mut(part)) {
            scope.spawn(move || {
                let mut engine = Engine::new(plan);
                for (block, values) in blocks.iter().zip(values) {
                    engine.evaluate(block, None, OnError::Fail, values);
                }
            });
        }
    });
}

fn peers(data: &[Column], threads: usize) -> BTreeMap<String, f64> {
    let folder = tempfile::tempdir().expect("folder");
    for (name, column) in NAMES.iter().zip(data) {
        let mut file = std::io::BufWriter::new(std::fs::File::create(folder.path().join(name)).expect("file"));
        match column {
            Column::Float(values) => values.iter().for_each(|x| file.write_all(&x.to_le_bytes()).expect("written")),
            Column::Int(values) => values.iter().for_each(|x| file.write_all(&x.to_le_bytes()).expect("written")),
            _ => unreachable!("numbers only"),
        }
    }
    if std::env::args().any(|arg| arg == "alone") {
        return BTreeMap::new();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/columns.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .args([ROWS.to_string(), threads.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output();
    match output {
        Ok(output) if output.status.success() => serde_json::from_slice(&output.stdout).unwrap_or_default(),
        _ => {
            println!("columns: no peers (pip install numpy numexpr duckdb polars numba pyarrow)");
            BTreeMap::new()
        }
    }
}

fn over_columns() {
    let data = data();
    let blocks = blocks(&data);
    let limits = FormulaLimits::default();
    for threads in [1, 2] {
        let peers = peers(&data, threads);
        if let Some(rate) = peers.get("sweep/duckdb") {
            println!("sweep/sum/{threads} threads: DuckDB's range() {:.0} Mrows/s", rate / 1e6);
        }
        for (name, text) in FORMULAS {
            let formula = Formula::parse(text, &limits).expect("a formula");
            let is_int = name == "integers";
            let mut out = vec![0.0; if is_int { 0 } else { ROWS }];
            let mut int_out = vec![0; if is_int { ROWS } else { 0 }];
            let part = ROWS.div_ceil(threads);
            let hand = rate(ROWS, || {
                std::thread::scope(|scope| {
                    let data = &data;
                    if is_int {
                        for (at, int_out) in int_out.chunks_mut(part).enumerate() {
                            scope.spawn(move || by_hand(name, data, &mut [], int_out, at * part));
                        }
                    } else {
                        for (at, out) in out.chunks_mut(part).enumerate() {
                            scope.spawn(move || by_hand(name, data, out, &mut [], at * part));
                        }
                    }
                });
            });
            let mut best: f64 = 0.0;
            let mut line = format!("columns/{name}/{threads} threads: by hand {:.0} Mrows/s", hand / 1e6);
            for (tier, choice) in
                [("interpreter", TierChoice::Interpreter), ("jit", TierChoice::Jit), ("auto", TierChoice::Auto)]
            {
                let plan = Arc::new(Plan::new(&formula, &columns(), &[], &limits, choice));
                let mut values: Vec<Values> = blocks.iter().map(|_| Values::default()).collect();
                let rate = rate(ROWS, || on_threads(threads, &plan, &blocks, &mut values));
                line += &format!(", {tier} {:.0} ({:.2} of it)", rate / 1e6, rate / hand);
                best = if tier == "auto" { rate } else { best };
                let last = values.last().expect("a block").column.get(0);
                let expected = ROWS - blocks.last().expect("a block").len;
                let by_hand = if is_int { Scalar::Int(int_out[expected]) } else { Scalar::Float(out[expected]) };
                assert_eq!(last, by_hand, "{tier}");
            }
            println!("{line}");
            if threads == 1 {
                let names: Vec<String> = columns().into_iter().map(|(name, _)| name).collect();
                let mut evaluator = Evaluator::new(&formula, &names, &[], &limits);
                let few = &blocks[..20];
                let ours = rate(few.len() * BLOCK_ROWS as usize, || {
                    for block in few {
                        black_box(evaluator.evaluate(block, OnError::Fail));
                    }
                });
                let plain = rate(few.len() * BLOCK_ROWS as usize, || plain_evalexpr(text, few));
                println!(
                    "columns/{name}: plain evalexpr {:.2} Mrows/s, ratio {:.0} (aim: 100); our evaluator on it {:.2}, ratio {:.0}",
                    plain / 1e6,
                    best / plain,
                    ours / 1e6,
                    best / ours
                );
            }
            for (peer, theirs) in
                peers.iter().filter_map(|(key, rate)| Some((key.strip_prefix(name)?.strip_prefix('/')?, rate)))
            {
                println!(
                    "columns/{name}/{threads} threads: {peer} {:.0} Mrows/s, ratio {:.2}",
                    theirs / 1e6,
                    best / theirs
                );
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl", "x86_64+avx2"))]
fn sweep_wide(rows: u64, start: f64, step: f64) -> f64 {
    sweep_by_hand(rows, start, step)
}

#[inline(always)]
fn sweep_by_hand(rows: u64, start: f64, step: f64) -> f64 {
    let mut lanes = [0.0; 16];
    let mut total = 0.0;
    let mut row = 0;
    while row < rows {
        let end = (row + BLOCK_ROWS).min(rows);
        while row < end {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                let x = start + (row as f64 + lane as f64) * step;
                *sum += 1.1 * x * x + 2.2 * x + 3.3;
            }
            row = row.wrapping_add(16);
        }
        total += lanes.iter().sum::<f64>();
        lanes = [0.0; 16];
    }
    total
}

/// Generated rows, evaluated and summed.
fn sweep() {
    const POINTS: u64 = 4096 * 5000;
    let limits = FormulaLimits::default();
    let formula = Formula::parse("1.1 * x * x + 2.2 * x + 3.3", &limits).expect("a formula");
    let source = SweepSource::new(&[parse_axis(&format!("x=0.0:2.0/{POINTS}")).expect("an axis")]).expect("a sweep");
    let reductions = parse_reductions("sum").expect("reductions");
    let step = 2.0 / (POINTS - 1) as f64;
    let hand = rate(POINTS as usize, || {
        black_box(sweep_by_hand(black_box(POINTS), 0.0, black_box(step)));
    });
    let wide = rate(POINTS as usize, || {
        black_box(sweep_wide(black_box(POINTS), 0.0, black_box(step)));
    });
    let mut line = format!(
        "sweep/sum/1 thread: by hand {:.0} Mrows/s with 128-bit vectors, {:.0} with this machine's widest",
        hand / 1e6,
        wide / 1e6
    );
    for (tier, choice) in
        [("interpreter", TierChoice::Interpreter), ("jit", TierChoice::Jit), ("auto", TierChoice::Auto)]
    {
        let plan = Arc::new(Plan::new(&formula, &[("x".into(), ColumnType::Float)], &[], &limits, choice));
        let rate = rate(POINTS as usize, || {
            let mut engine = Engine::new(&plan);
            let mut reducers = ReducerSet::new(&reductions, &["x".into()], false).expect("reducers");
            let (mut block, mut values) = (Block::default(), Values::default());
            for first in (0..POINTS).step_by(BLOCK_ROWS as usize) {
                source.fill(first, BLOCK_ROWS as usize, &mut block);
                engine.evaluate(&block, None, OnError::Fail, &mut values);
                reducers.push(&block, &values).expect("numbers");
            }
            black_box(reducers.finish(POINTS, 0).expect("a sum"));
        });
        line += &format!(", {tier} {:.0} ({:.2} and {:.2} of it)", rate / 1e6, rate / hand, rate / wide);
    }
    println!("{line}");
    for slots in ["1", "2"] {
        let seconds = (0..3).map(|_| {
            let start = Instant::now();
            let sweep = ["sweep", "1.1 * x * x + 2.2 * x + 3.3", "--over", "x=0.0:2.0/1000000000", "--reduce", "sum"];
            let output = Command::new(env!("CARGO_BIN_EXE_quipu")).args(sweep).args(["--slots", slots]).output();
            assert!(output.is_ok_and(|output| output.status.success()), "the sweep succeeds");
            start.elapsed().as_secs_f64()
        });
        let seconds = seconds.fold(f64::INFINITY, f64::min);
        println!(
            "sweep/1e9 points/{slots} threads: {seconds:.2} s from process start to end, {:.0} Mrows/s",
            1e3 / seconds
        );
    }
}

fn main() {
    let benches: [(&str, fn()); 2] = [("columns", over_columns), ("sweep", sweep)];
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, run) in benches {
        if chosen.iter().all(|chosen| chosen == "alone") || chosen.iter().any(|chosen| chosen == name) {
            run();
        }
    }
}
