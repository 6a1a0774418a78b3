//! `quipu eval` end to end, on the cluster inside the process.

mod cli_support;

use cli_support::{run, run_in, run_with};
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

#[test]
fn one_formula_prints_its_value() {
    for (formula, value) in [
        ("10 + 2 * 3", "16"),
        ("7 / 2", "3"),
        ("1.0", "1"),
        ("-2^2", "-4"),
        ("1 == 1.0", "false"),
        ("\"a\" + \"b\"", "ab"),
        ("math::sqrt(2.0)", "1.4142135623730951"),
        ("a = 3; a * a", "9"),
    ] {
        assert_eq!(run(&["eval", formula]).ok(), format!("{value}\n"), "{formula}");
    }
}

#[test]
fn one_formula_that_does_not_parse_ends_with_65_and_shows_where() {
    let (out, err) = run(&["eval", "1 +"]).ends(65);
    assert_eq!(out, "");
    assert!(err.starts_with("error: "), "{err}");
    assert!(err.contains(" | 1 +\n"), "{err}");
    assert!(err.lines().any(|line| line.trim_end().ends_with("| \u{20}  ^") || line.ends_with('^')), "{err}");
}

#[test]
fn one_formula_that_is_refused_ends_with_65() {
    run(&["eval", "nobody + 1"]).fails(65);
    run(&["eval", "nothing(1)"]).fails(65);
    run(&["eval", "math::sin(1.0)", "--functions", "none"]).fails(65);
    run(&["eval", "a + b", "-v", "a=1", "-v", "b=2", "--vars-only", "a"]).fails(65);
}

#[test]
fn one_formula_that_fails_ends_with_1() {
    for formula in ["1 / 0", "9223372036854775807 + 1", "\"a\" * 2"] {
        let (out, err) = run(&["eval", formula]).ends(1);
        assert_eq!(out, "", "{formula}");
        assert!(err.starts_with("error: "), "{formula}: {err}");
    }
}

#[test]
fn variables_keep_their_types() {
    assert_eq!(run(&["eval", "a * 2", "-v", "a=3"]).ok(), "6\n");
    assert_eq!(run(&["eval", "a * 2", "-v", "a=-3.5"]).ok(), "-7\n");
    assert_eq!(run(&["eval", "a && true", "-v", "a=true"]).ok(), "true\n");
    assert_eq!(run(&["eval", "a + \"!\"", "-v", "a=\"hi\""]).ok(), "hi!\n");
}

#[test]
fn batch_prints_one_object_a_line_in_input_order() {
    let ran = run_with(&["eval", "-O", "ndjson", "-f", "-"], "10 + 2 * 3\n\n1 +\r\n  \n1 / 0\n2.5\n");
    let (out, err) = ran.ends(1);
    let rows = lines(&out);
    assert_eq!(out.lines().next(), Some(r#"{"index":0,"type":"int","value":16}"#));
    assert_eq!(rows.iter().map(|r| r["index"].clone()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(rows[1]["error"]["code"].is_string() && rows[1]["error"]["message"].is_string(), "{out}");
    assert_eq!((&rows[1]["error"]["line"], &rows[1]["error"]["column"]), (&json!(1), &json!(4)), "{out}");
    assert_eq!(rows[2]["error"]["code"], "division_by_zero", "{out}");
    assert_eq!((&rows[3]["type"], &rows[3]["value"]), (&json!("float"), &json!(2.5)), "{out}");
    assert!(err.contains("2 of 4 formulas failed; first: formula 1:"), "{err}");
}

#[test]
fn formulas_of_a_batch_do_not_see_each_other() {
    let (out, _) = run_with(&["eval", "-f", "-"], "a = 5; a\na\n").ends(1);
    assert_eq!(out, "5\n\n");
}

#[test]
fn every_form_has_every_outcome() {
    let args = |form| ["eval", "1 + 1", "\"x,\\\"y\\\"\"", "1 +", "-O", form];
    let (json, _) = run(&args("json")).ends(1);
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.as_array().map(Vec::len), Some(3));
    assert_eq!(rows[1]["value"], "x,\"y\"");
    let (csv, _) = run(&args("csv")).ends(1);
    assert_eq!(csv.lines().next(), Some("index,type,value,code,message"));
    assert_eq!(csv.lines().nth(2), Some("1,string,\"x,\"\"y\"\"\",,"));
    let (table, _) = run(&args("table")).ends(1);
    assert_eq!(table.lines().count(), 4, "{table}");
    let (plain, err) = run(&args("plain")).ends(1);
    assert_eq!(plain, "2\nx,\"y\"\n\n");
    assert!(err.contains("formula 2") && err.contains("| 1 +"), "{err}");
}

#[test]
fn unreadable_lines_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = b"\xef\xbb\xbf1\n\xff\xfe\n2\n".to_vec();
    text.extend(std::iter::repeat_n(b'1', 2 << 20));
    text.extend_from_slice(b"\n3");
    std::fs::write(folder.path().join("formulas.txt"), text).unwrap();
    let (out, _) = run_in(folder.path(), &["eval", "-f", "formulas.txt", "-O", "ndjson"]).ends(1);
    let rows = lines(&out);
    let seen: Vec<_> =
        rows.iter().map(|r| if r["value"].is_null() { &r["error"]["code"] } else { &r["value"] }).collect();
    assert_eq!(seen, [&json!(1), &json!("invalid_utf8"), &json!(2), &json!("formula_too_long"), &json!(3)]);
    assert_eq!(rows[4]["index"], 4);
}

#[test]
fn batch_of_unreadable_lines_has_an_error_for_each() {
    let (out, err) = run_with(&["eval", "-O", "ndjson", "-f", "-"], b"\xff\n\xfe\n".as_slice()).ends(1);
    assert_eq!(lines(&out).iter().filter(|row| row["error"]["code"] == "invalid_utf8").count(), 2, "{out}");
    assert!(err.contains("2 of 2 formulas failed"), "{err}");
}

#[test]
fn missing_files_end_with_66() {
    let err = run(&["eval", "-f", "no-such-file"]).fails(66);
    assert!(err.contains("no-such-file"), "{err}");
}

#[test]
fn empty_batch_is_no_failure() {
    assert_eq!(run_with(&["eval", "-f", "-"], "").ok(), "");
    assert_eq!(run_with(&["eval", "-f", "-", "-O", "json"], "\n\n").ok(), "[]\n");
}

#[test]
fn output_goes_to_a_file_whole() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_in(folder.path(), &["eval", "1 + 1", "2.5", "-o", "out.ndjson"]).ok(), "");
    let text = std::fs::read_to_string(folder.path().join("out.ndjson")).unwrap();
    assert_eq!(lines(&text).len(), 2);
    assert_eq!(cli_support::names(folder.path()), ["out.ndjson"]);
}

#[test]
fn hundred_thousand_formulas_keep_their_order() {
    use std::fmt::Write;
    const N: u64 = 100_000;
    let text = (0..N).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "{i} * 2 + 1");
        text
    });
    let out = run_with(&["eval", "-f", "-"], text).ok();
    let mut count = 0;
    for (i, line) in (0..N).zip(out.lines()) {
        assert_eq!(line, (i * 2 + 1).to_string());
        count += 1;
    }
    assert_eq!((count, out.lines().count() as u64), (N, N));
}

#[test]
fn hostile_formulas_hurt_nobody() {
    let mut batch = Vec::new();
    let mut cases = 0;
    for (name, formula) in quipu_shared::formula::hostile::cases() {
        // A formula of a batch is one line; on the command line the kernel limits an argument to 128 KiB.
        if formula.len() < 100_000 && !formula.contains('\0') {
            let ran = run(&["eval", "--", &formula]);
            assert!(matches!(ran.code, Some(0 | 1 | 65)), "{name}: {:?} {}", ran.code, ran.err);
            assert!(!ran.err.contains("panicked"), "{name}: {}", ran.err);
        }
        if !formula.contains('\n') {
            batch.extend_from_slice(b"1 + 1\n");
            batch.extend_from_slice(formula.as_bytes());
            batch.extend_from_slice(b"\n2 + 2\n");
            cases += 1;
        }
    }
    let ran = run_with(&["eval", "-f", "-", "-O", "ndjson"], batch);
    let rows = lines(&ran.out);
    assert_eq!(rows.len(), 3 * cases);
    for three in rows.chunks(3) {
        assert_eq!((&three[0]["value"], &three[2]["value"]), (&json!(2), &json!(4)), "{three:?}");
    }
}
