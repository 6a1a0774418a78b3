//! `quipu map` end to end, on the cluster inside the process: tables as people have them.

mod cli_support;

use cli_support::{names, run_in, run_with};
use std::fmt::Write;
use std::fs;
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Output of `map` over one table.
fn map(table: &str, formula: &str, options: &[&str]) -> String {
    let folder = folder(&[("in.csv", table)]);
    run_in(folder.path(), &[&["map", formula, "in.csv"], options].concat()).ok()
}

#[test]
fn columns_are_variables_and_stay_in_the_output() {
    let sales = "item,price,qty\npen,1.5,4\ncup,3.0,2\n";
    assert_eq!(
        map(sales, "price * qty", &["--as", "revenue"]),
        "item,price,qty,revenue\npen,1.5,4,6.0\ncup,3.0,2,6.0\n"
    );
    assert_eq!(map(sales, "qty + n", &["-v", "n=1", "-O", "plain"]), "5\n3\n");
    assert_eq!(map(sales, "qty", &["--where", "price > 2.0", "-O", "plain"]), "2\n");
    assert!(map(sales, "price * qty", &["--reduce", "sum,count"]).contains(r#""result":{"sum":12.0,"count":2}"#));
}

#[test]
fn text_comes_back_as_it_was() {
    let table = "name,\"a \"\"b\"\"\",n\n\"x,y\",\"line\nbreak\",1\n\"q\"\"q\",\u{e9}\u{6570},2\n";
    let out = map(table, "n * 2", &[]);
    assert_eq!(out, "name,\"a \"\"b\"\"\",n,result\n\"x,y\",\"line\nbreak\",1,2\n\"q\"\"q\",\u{e9}\u{6570},2,4\n");
}

#[test]
fn line_ends_and_byte_order_marks_are_understood() {
    assert_eq!(map("\u{feff}x\r\n1\r\n2\r\n", "x + 1", &["-O", "plain"]), "2\n3\n");
    assert_eq!(map("x\n1\n2", "x + 1", &["-O", "plain"]), "2\n3\n");
    assert_eq!(map("x\n", "x + 1", &["-O", "plain"]), "");
}

#[test]
fn empty_cells_are_null() {
    assert_eq!(map("x,y\n1,2\n,3\n4,\n", "x + y", &[]), "x,y,result\n1,2,3\n,3,\n4,,\n");
    assert_eq!(map("x,y\n1,2\n,3\n", "y", &["-O", "plain"]), "2\n3\n");
}

#[test]
fn cells_that_do_not_fit_fail_their_row() {
    let mut table = String::from("x\n");
    for i in 0..10_000 {
        let _ = writeln!(table, "{i}");
    }
    table.push_str("oops\n7\n");
    let folder = folder(&[("in.csv", &table)]);
    let err = run_in(folder.path(), &["map", "x + 1", "in.csv", "-o", "out.csv"]).fails(1);
    assert!(err.contains("row 10000") && err.contains("--types"), "{err}");
    assert_eq!(names(folder.path()), ["in.csv"]);
    let args = ["map", "x + 1", "in.csv", "-o", "out.csv", "--on-error", "skip"];
    let err = run_in(folder.path(), &args).fails(1);
    assert!(err.contains("1 of 10002 rows failed; first: row 10000:"), "{err}");
    let out = fs::read_to_string(folder.path().join("out.csv")).unwrap();
    assert_eq!((out.lines().count(), out.lines().last()), (10_002, Some("7,8")));
}

#[test]
fn types_can_be_set() {
    assert_eq!(map("x\n1\n2\n", "x / 2", &["-O", "plain"]), "0\n1\n");
    assert_eq!(map("x\n1\n2\n", "x / 2", &["-O", "plain", "--types", "x=float"]), "0.5\n1\n");
    let folder = folder(&[("in.csv", "x\n1\n")]);
    let err = run_in(folder.path(), &["map", "x", "in.csv", "--types", "y=int"]).fails(2);
    assert!(err.contains("\"y\""), "{err}");
}

#[test]
fn other_separators_and_forms_are_read() {
    let folder = folder(&[
        ("a.tsv", "x\ty\n1\t2\n"),
        ("b.txt", "x;y\n1;2\n"),
        ("c.ndjson", "{\"x\":1,\"y\":2}\n\n{\"y\":3,\"x\":null}\n"),
    ]);
    let map = |args: &[&str]| run_in(folder.path(), &[&["map", "x + y"], args, &["-O", "plain"]].concat()).ok();
    assert_eq!(map(&["a.tsv"]), "3\n");
    assert_eq!(map(&["b.txt", "--delimiter", ";"]), "3\n");
    assert_eq!(map(&["c.ndjson"]), "3\n\n");
}

#[test]
fn standard_input_is_a_table_too() {
    assert_eq!(run_with(&["map", "x * x", "-"], "x\n3\n4\n").ok(), "x,result\n3,9\n4,16\n");
    assert_eq!(run_with(&["map", "x * x", "-", "-O", "plain"], "{\"x\":3}\n").ok(), "9\n");
    run_with(&["map", "x", "-"], "").fails(65);
}

#[test]
fn output_may_replace_the_input() {
    let folder = folder(&[("t.csv", "x\n1\n2\n")]);
    run_in(folder.path(), &["map", "x + 1", "t.csv", "-o", "t.csv"]).ok();
    assert_eq!(fs::read_to_string(folder.path().join("t.csv")).unwrap(), "x,result\n1,2\n2,3\n");
    assert_eq!(names(folder.path()), ["t.csv"]);
}

#[test]
fn wrong_inputs_have_their_exit_codes() {
    let folder = folder(&[("in.csv", "x,y\n1,2\n"), ("p.parquet", "PAR1"), ("d.json", "[]")]);
    let run = |args: &[&str]| run_in(folder.path(), args);
    assert!(run(&["map", "x", "missing.csv"]).fails(66).contains("missing.csv"));
    assert!(run(&["map", "x", "p.parquet"]).fails(65).contains("Parquet"));
    run(&["map", "x", "d.json"]).fails(2);
    assert!(run(&["map", "x + z", "in.csv"]).fails(65).contains('z'));
    run(&["map", "x +", "in.csv"]).fails(65);
    run(&["map", "x", "in.csv", "--where", "y >"]).fails(65);
    assert!(run(&["map", "x", "in.csv", "--as", "y"]).fails(2).contains("--as"));
    run(&["map", "x", "in.csv", "-o", "no/such/folder.csv"]).fails(2);
    assert_eq!(names(folder.path()), ["d.json", "in.csv", "p.parquet"]);
}

#[test]
fn types_and_notes_are_shown_when_asked_for() {
    let folder = folder(&[("in.csv", "x,y z\n1,2.5\n")]);
    let (out, err) = run_in(folder.path(), &["map", "x", "in.csv", "-O", "plain", "--verbose"]).ends(0);
    assert_eq!(out, "1\n");
    assert!(err.starts_with("columns: x int, y_z float\n"), "{err}");
}

#[test]
fn many_rows_keep_their_order_on_any_number_of_executors() {
    let table = (0..200_000).fold(String::from("x\n"), |mut table, i| {
        let _ = writeln!(table, "{i}");
        table
    });
    let folder = folder(&[("in.csv", &table)]);
    for slots in ["1", "4"] {
        run_in(folder.path(), &["map", "x % 97", "in.csv", "-o", "out.csv", "--slots", slots]).ok();
        let out = fs::read_to_string(folder.path().join("out.csv")).unwrap();
        let mut lines = out.lines();
        assert_eq!(lines.next(), Some("x,result"));
        for i in 0..200_000 {
            assert_eq!(lines.next(), Some(format!("{i},{}", i % 97).as_str()), "{slots} slots");
        }
        assert_eq!(lines.next(), None);
    }
}
