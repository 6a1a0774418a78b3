//! `quipu sweep` and `quipu sample` end to end, on the cluster inside the process.

mod cli_support;

use cli_support::{finish, interrupt, names, quipu, run, run_in, until, wait};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn grid_runs_over_its_last_axis_first() {
    let args = ["sweep", "a * 10 + b", "--over", "a=1,2", "--over", "b=0:3:1"];
    assert_eq!(run(&args).ok(), "a,b,result\n1,0,10\n1,1,11\n1,2,12\n2,0,20\n2,1,21\n2,2,22\n");
}

#[test]
fn rows_have_every_form() {
    let sweep = |form| run(&["sweep", "x * x", "--over", "x=0.0:1.0/3", "--as", "y", "-O", form]).ok();
    assert_eq!(sweep("ndjson").lines().count(), 3);
    assert_eq!(json_of(&sweep("json")), json!([{"x":0.0,"y":0.0},{"x":0.5,"y":0.25},{"x":1.0,"y":1.0}]));
    assert_eq!(sweep("plain"), "0\n0.25\n1\n");
    let table = sweep("table");
    assert_eq!(table.lines().next().map(|l| l.split_whitespace().collect::<Vec<_>>()), Some(vec!["x", "y"]));
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn reductions_off_a_terminal_are_the_versioned_document() {
    let out = run(&["sweep", "x * x", "--over", "x=0:10:1", "--reduce", "sum,count", "--reduce", "argmax"]).ok();
    assert_eq!(
        json_of(&out),
        json!({"version":1,"rows":10,"failed":0,
               "result":{"sum":285,"count":10,"argmax":{"value":81,"row":9,"inputs":{"x":9}}}})
    );
    let plain = run(&["sweep", "x * x", "--over", "x=0:10:1", "--reduce", "sum,mean", "-O", "plain"]).ok();
    assert_eq!(plain, "285\n28.5\n");
    let csv = run(&["sweep", "x * x", "--over", "x=0:10:1", "--reduce", "sum,mean", "-O", "csv"]).ok();
    assert_eq!(csv, "reduction,value\nsum,285\nmean,28.5\n");
}

#[test]
fn exact_reductions_are_rounded_once_and_refuse_quantiles() {
    let args = ["sweep", "x", "--over", "x=1e16,0.1,0.2,-1e16", "-O", "csv", "--reduce"];
    let exact = |reductions| run(&[&args[..], &[reductions, "--exact"]].concat());
    // 0.1 + 0.2 without a rounding before the last.
    assert_eq!(exact("sum,count").ok(), "reduction,value\nsum,0.30000000000000004\ncount,4\n");
    assert_ne!(run(&[&args[..], &["sum"]].concat()).ok(), "reduction,value\nsum,0.30000000000000004\n");
    let err = exact("sum,quantile(0.5)").fails(2);
    assert!(err.contains("quantile(0.5) can't be exact") && err.contains("leave out --exact"), "{err}");
    let err = run(&["sweep", "x", "--over", "x=1,2", "--exact"]).fails(2);
    assert!(err.contains("--reduce"), "{err}");
    let sample =
        ["sample", "1.0 / u", "-n", "300000", "--draw", "u=uniform(0,1)", "--reduce", "sum,mean,variance,stddev"];
    let sample = |slots| run(&[&sample[..], &["--exact", "--slots", slots]].concat()).ok();
    assert_eq!(sample("1"), sample("4"));
}

#[test]
fn failing_row_fails_the_job_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["sweep", "10 / (x - 3)", "--over", "x=0:6:1"];
    let ran = run_in(folder.path(), &[&args[..], &["-o", "out.csv"]].concat());
    let err = ran.fails(1);
    assert!(err.contains("row 3: 10 / 0"), "{err}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn failing_rows_can_be_null_or_left_out() {
    let args = ["sweep", "10 / (x - 3)", "--over", "x=2:5:1", "--on-error"];
    let (out, err) = run(&[&args[..], &["null"]].concat()).ends(1);
    assert_eq!(out, "x,result\n2,-10\n3,\n4,10\n");
    assert!(err.contains("1 of 3 rows failed; first: row 1:") && err.contains("division_by_zero"), "{err}");
    let (out, _) = run(&[&args[..], &["skip"]].concat()).ends(1);
    assert_eq!(out, "x,result\n2,-10\n4,10\n");
}

#[test]
fn file_is_replaced_only_by_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    std::fs::write(&path, "old").unwrap();
    let failing = ["sweep", "10 / x", "--over", "x=0:3:1", "-o", "out.csv"];
    run_in(folder.path(), &failing).fails(1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    run_in(folder.path(), &["sweep", "x", "--over", "x=0:2:1", "-o", "out.csv"]).ok();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "x,result\n0,0\n1,1\n");
    assert_eq!(names(folder.path()), ["out.csv"]);
}

#[test]
fn wrong_formulas_end_with_65_and_show_where() {
    let err = run(&["sweep", "x +", "--over", "x=0:2:1"]).fails(65);
    assert!(err.contains(" | x +\n"), "{err}");
    run(&["sweep", "x + y", "--over", "x=0:2:1"]).fails(65);
    run(&["sample", "u + w", "-n", "5", "--draw", "u=uniform(0,1)"]).fails(65);
}

#[test]
fn samples_depend_on_the_seed_alone() {
    let run = |args: &[&str]| {
        let base = ["sample", "a + b", "-n", "10000", "--on-error", "fail"];
        run(&[&base[..], args].concat()).ok()
    };
    let (a, b) = ("a=uniform(0,1)", "b=normal(0,2)");
    let one = run(&["--draw", a, "--draw", b, "--seed", "7", "--slots", "1", "-O", "plain"]);
    assert_eq!(one.lines().count(), 10_000);
    assert_eq!(one, run(&["--draw", b, "--draw", a, "--seed", "7", "--slots", "3", "-O", "plain"]));
    assert_ne!(one, run(&["--draw", a, "--draw", b, "--seed", "8", "-O", "plain"]));
    let reduce = ["--draw", a, "--draw", b, "--seed", "7", "--reduce", "sum,mean,variance,quantile(0.5)"];
    let few = run(&[&reduce[..], &["--slots", "1"]].concat());
    assert_eq!(few, run(&[&reduce[..], &["--slots", "4"]].concat()));
}

#[test]
fn deadline_ends_with_124() {
    let args = ["sweep", "math::exp(x * y)", "--over", "x=0:1000000:1", "--over", "y=0:1000000:1", "--reduce", "sum"];
    let err = run(&[&args[..], &["--deadline", "300ms"]].concat()).fails(124);
    assert!(err.contains("deadline"), "{err}");
}

/// More rows than any test waits for.
const ENDLESS: [&str; 6] = ["sweep", "x + y", "--over", "x=0:1000000:1", "--over", "y=0:1000000:1"];

#[test]
fn reader_that_has_gone_ends_the_command_quietly() {
    let mut child = quipu(&ENDLESS).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "x,y,result\n");
    drop(out);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((wait(&mut child).code(), err.as_str()), (Some(141), ""));
}

#[test]
fn interrupt_cancels_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out.csv"), "old").unwrap();
    let child = quipu(&ENDLESS).args(["-o", "out.csv"]).current_dir(folder.path()).spawn().unwrap();
    until("the output is begun", || names(folder.path()).len() > 1);
    interrupt(&child);
    let (_, err) = finish(child, Vec::new()).ends(130);
    assert!(err.contains("interrupted"), "{err}");
    assert_eq!(names(folder.path()), ["out.csv"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("out.csv")).unwrap(), "old");
}

#[test]
fn second_interrupt_ends_a_command_that_is_stuck() {
    // Nobody reads standard output: the command hangs in a write.
    let mut child = quipu(&ENDLESS).stderr(Stdio::null()).spawn().unwrap();
    let mut first = [0; 1];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    let ended = std::cell::Cell::new(None);
    until("interrupts end it", || {
        interrupt(&child);
        ended.set(child.try_wait().unwrap());
        ended.get().is_some()
    });
    assert_eq!(ended.get().and_then(|status| status.code()), Some(130));
}
