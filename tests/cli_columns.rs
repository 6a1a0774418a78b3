//! Tables in columns, end to end: written by one command and read by the next.

mod cli_support;

use cli_support::{names, run_in};
use std::fmt::Write;
use std::fs;
use tempfile::TempDir;

fn folder(rows: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut table = String::from("id,x,name,flag\n");
    for row in 0..rows {
        let name = if row % 7 == 3 { String::new() } else { format!("name {}", row % 100) };
        let x = if row % 5 == 1 { String::new() } else { format!("{}.5", row % 1000) };
        let _ = writeln!(table, "{row},{x},{name},{}", row % 2 == 0);
    }
    fs::write(folder.path().join("in.csv"), table).unwrap();
    folder
}

const FORMS: [&str; 2] = ["parquet", "arrow"];

#[test]
fn what_is_written_in_columns_reads_back_as_it_was() {
    let folder = folder(10_000);
    let run = |args: &[&str]| run_in(folder.path(), args).ok();
    let expected = run(&["map", "x * 2.0 + id", "in.csv", "-O", "csv"]);
    let expected = expected.lines().map(|line| format!("{line},true\n")).collect::<String>();
    let expected = expected.replacen("result,true", "result,again", 1);
    for form in FORMS {
        let file = format!("out.{form}");
        run(&["map", "x * 2.0 + id", "in.csv", "-o", &file]);
        assert!(run(&["map", "true", &file, "--as", "again", "-O", "csv"]) == expected, "{form}");
        // From columns to columns, of the same form and the other one.
        for other in FORMS {
            let copy = format!("copy.{other}");
            run(&["map", "true", &file, "--as", "again", "-o", &copy]);
            let one = ["map", "1", &copy, "--as", "one", "-O", "csv"];
            assert!(run(&one) == run(&[&one[..], &["--slots", "3"]].concat()), "{form} {other}");
            let both = run(&["map", "result == x * 2.0 + id", &copy, "--as", "same", "--reduce", "all,count"]);
            assert!(both.contains(r#""all":true"#) && both.contains(r#""count":8000"#), "{both}");
        }
    }
    assert_eq!(names(folder.path()), ["copy.arrow", "copy.parquet", "in.csv", "out.arrow", "out.parquet"]);
}

#[test]
fn files_in_columns_do_not_depend_on_executors() {
    let folder = folder(300_000);
    let sweep = ["sweep", "math::sin(x) * y", "--over", "y=1,2", "--over", "x=0.0:1.0/200001"];
    let sample = ["sample", "u > 0.5", "-n", "150000", "--seed", "3", "--draw", "u=uniform(0,1)"];
    let map = ["map", "x / 3.0", "in.csv", "--where", "id % 3 != 1", "--as", "third"];
    for form in FORMS {
        for (name, job) in [("sweep", &sweep[..]), ("sample", &sample[..]), ("map", &map[..])] {
            let bytes = ["1", "2", "5"].map(|slots| {
                let file = format!("{name}.{form}");
                run_in(folder.path(), &[job, &["-o", &file, "--slots", slots]].concat()).ok();
                fs::read(folder.path().join(file)).unwrap()
            });
            assert!(bytes[0].len() > 10_000 && bytes[0] == bytes[1] && bytes[0] == bytes[2], "{name}.{form}");
        }
        let mapped = format!("map.{form}");
        let again = ["1", "4"].map(|slots| {
            let file = format!("again.{form}");
            run_in(folder.path(), &["map", "third + 1.0", &mapped, "-o", &file, "--slots", slots]).ok();
            fs::read(folder.path().join(file)).unwrap()
        });
        assert!(again[0] == again[1], "{form}");
        let counted = run_in(folder.path(), &["map", "id", &mapped, "--reduce", "count,sum"]).ok();
        assert!(counted.contains(r#""count":200000"#), "{counted}");
    }
}

#[test]
fn computed_columns_have_the_types_of_their_formulas() {
    let folder = folder(10);
    let run = |args: &[&str]| run_in(folder.path(), args);
    let types = |formula: &str| {
        run(&["map", formula, "in.csv", "-o", "t.parquet"]).ok();
        let (_, err) = run(&["map", "1", "t.parquet", "--as", "one", "-O", "plain", "--verbose"]).ends(0);
        let line = err.lines().next().unwrap_or_default().to_owned();
        line.rsplit("result ").next().unwrap_or_default().to_owned()
    };
    assert_eq!(types("id + 1"), "int");
    assert_eq!(types("id / 2.0"), "float");
    assert_eq!(types("id > 3"), "boolean");
    assert_eq!(types("name + \"!\""), "string");
    // Of no one type: text.
    assert_eq!(types("if(id > 3, 1, 2.5)"), "string");
    let out = run(&["map", "result", "t.parquet", "--as", "r", "-O", "plain"]).ok();
    assert!(out.starts_with("2.5\n2.5\n2.5\n2.5\n1\n"), "{out}");
}

#[test]
fn failed_rows_and_empty_results_are_files_too() {
    let folder = folder(20);
    let run = |args: &[&str]| run_in(folder.path(), args);
    for form in FORMS {
        let file = format!("e.{form}");
        run(&["map", "id", "in.csv", "--where", "id < 0", "-o", &file]).ok();
        assert_eq!(run(&["map", "id", &file, "--as", "r", "-O", "csv"]).ok(), "id,x,name,flag,result,r\n");
        let skip = run(&["map", "12 / (id - 3)", "in.csv", "--on-error", "skip", "-o", &file]).fails(1);
        assert!(skip.contains("1 of 20 rows failed"), "{skip}");
        assert!(run(&["map", "id", &file, "--as", "r", "--reduce", "count"]).ok().contains(r#""count":19"#));
        run(&["map", "12 / (id - 3)", "in.csv", "-o", "new.parquet"]).fails(1);
    }
    assert_eq!(names(folder.path()), ["e.arrow", "e.parquet", "in.csv"]);
}

#[test]
fn what_columns_can_not_be_is_refused_at_once() {
    let folder = folder(20);
    let run = |args: &[&str]| run_in(folder.path(), args);
    run(&["map", "id", "in.csv", "--reduce", "sum", "-o", "r.parquet"]).fails(2);
    run(&["eval", "1", "-o", "r.parquet"]).fails(2);
    for form in FORMS {
        let file = format!("t.{form}");
        run(&["map", "id", "in.csv", "-o", &file]).ok();
        assert!(run(&["map", "id", &file, "--as", "r", "--types", "name=int"]).fails(2).contains("name"));
        assert!(run(&["map", "id", &file]).fails(2).contains("--as"));
        let bytes = fs::read(folder.path().join(&file)).unwrap();
        fs::write(folder.path().join(&file), &bytes[..bytes.len() - 20]).unwrap();
        assert!(run(&["map", "id", &file, "--as", "r"]).fails(65).contains("cut off"));
        // Its form tells, whatever its name.
        fs::write(folder.path().join("noname"), &bytes).unwrap();
        assert!(run(&["map", "id", "noname", "--as", "r", "-O", "plain"]).ok().starts_with("0\n1\n2\n"));
    }
}

#[test]
fn pages_that_are_broken_end_the_job_with_their_reason() {
    let folder = folder(20);
    let run = |args: &[&str]| run_in(folder.path(), args);
    run(&["map", "id", "in.csv", "-o", "t.parquet"]).ok();
    let mut bytes = fs::read(folder.path().join("t.parquet")).unwrap();
    // Of the data, not of the footer: the row groups are where they should be, and hold nonsense.
    bytes[8..200].fill(0xa5);
    fs::write(folder.path().join("t.parquet"), &bytes).unwrap();
    let (out, err) = run(&["map", "id + 1", "t.parquet", "--as", "r"]).ends(70);
    assert!(out.is_empty() && err.contains("t.parquet: the table is no valid Parquet"), "{err}");
}
