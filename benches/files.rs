//! A formula over a file of 1 GB, from process start to the finished output: `cargo bench --bench files -- [csv parquet]`.
//!
//! Beside it, in turns: DuckDB's `COPY (SELECT ..) TO`, polars' streaming sinks, and awk for CSV. All with two threads.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const BYTES: u64 = 1_000_000_000;
const THREADS: &str = "2";
const TURNS: usize = 3;
const FORMULA: &str = "price * qty * (1.0 - discount)";

/// Orders: a number, a price, a quantity, a discount, a quoted note.
fn write_csv(path: &Path) -> u64 {
    let mut file = BufWriter::new(File::create(path).expect("file"));
    writeln!(file, "id,price,qty,discount,note").expect("written");
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    while bytes < BYTES {
        let line = format!("{rows},{}.{:02},{},0.{:02},\"row, {rows}\"\n", rows % 991, rows % 97, rows % 13, rows % 31);
        bytes += line.len() as u64;
        rows += 1;
        file.write_all(line.as_bytes()).expect("written");
    }
    file.into_inner().expect("flushed");
    rows
}

fn seconds(command: &mut Command) -> Option<f64> {
    let start = Instant::now();
    let output = command.stderr(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| start.elapsed().as_secs_f64())
}

fn quipu(input: &Path, output: &Path, slots: &str) -> Option<f64> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    command.args(["map", FORMULA]).arg(input).args(["--as", "revenue", "--slots", slots, "-q", "-o"]).arg(output);
    seconds(&mut command)
}

/// As the peer measures it: without the start of Python.
fn peer(name: &str, input: &Path, output: &Path) -> Option<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/files.py");
    let output = Command::new("python3")
        .args([script, name, THREADS])
        .arg(input)
        .arg(output)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn awk(input: &Path, output: &Path) -> Option<f64> {
    let output = File::create(output).ok()?;
    let program = "NR == 1 { print $0 \",revenue\"; next } { print $0 \",\" $2 * $3 * (1.0 - $4) }";
    let mut command = Command::new("awk");
    let start = Instant::now();
    let status = command.args(["-F", ",", program]).arg(input).stdout(output).status().ok()?;
    status.success().then(|| start.elapsed().as_secs_f64())
}

fn compare(what: &str, rows: u64, input: &Path, folder: &Path, with_awk: bool) {
    let ending = input.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let output = |name: &str| folder.join(format!("{name}.{ending}"));
    let mut times: Vec<(&str, Vec<f64>)> =
        ["quipu", "quipu, one thread", "DuckDB", "polars", "awk"].map(|name| (name, Vec::new())).into();
    for turn in 0..TURNS {
        for (name, times) in &mut times {
            let took = match *name {
                "quipu" => quipu(input, &output("quipu"), THREADS),
                "quipu, one thread" => quipu(input, &output("one"), "1"),
                "DuckDB" => peer("duckdb", input, &output("duckdb")),
                "polars" => peer("polars", input, &output("polars")),
                // Once is enough: it takes a minute, on one thread.
                _ if with_awk && turn == 0 => awk(input, &output("awk")),
                _ => None,
            };
            times.extend(took);
        }
    }
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let ours = best(&times[0].1);
    for (name, times) in times.iter().filter(|(_, times)| !times.is_empty()) {
        let best = best(times);
        println!(
            "{what}: {name} {best:.2} s, {:.1} Mrows/s, ratio to quipu {:.2}",
            rows as f64 / best / 1e6,
            best / ours
        );
    }
    let same = Command::new("cmp").args([output("quipu"), output("one")]).status().expect("cmp").success();
    println!("{what}: outputs of one and two threads are {}", if same { "the same bytes" } else { "DIFFERENT" });
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let folder = tempfile::tempdir().expect("folder");
    let csv: PathBuf = folder.path().join("orders.csv");
    let rows = write_csv(&csv);
    if wants("csv") {
        compare("map/csv/1 GB", rows, &csv, folder.path(), true);
    }
    if wants("parquet") {
        let parquet = folder.path().join("orders.parquet");
        let copy = format!("COPY (SELECT * FROM '{}') TO '{}' (FORMAT parquet)", csv.display(), parquet.display());
        let made = Command::new("python3").args(["-c", "import duckdb, sys; duckdb.sql(sys.argv[1])", &copy]).status();
        if made.is_ok_and(|status| status.success()) {
            compare("map/parquet/1 GB of CSV", rows, &parquet, folder.path(), false);
        } else {
            println!("map/parquet: DuckDB is not here to write the input (pip install duckdb), not measured");
        }
    }
}
