//! What docs/FORMULAS.md says is so.

use super::eval;
use crate::formula::{ErrorCode, FUNCTIONS, FormulaLimits};
use crate::spec::Scalar;

const PAGE: &str = include_str!("../../../../docs/FORMULAS.md");

/// The cells of every row of the table under a heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).expect("the heading stands");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let row = row.replace("\\|", "\u{1}");
        row.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    })
    .collect()
}

/// The code within a cell's backticks.
fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// A result as the page writes it.
fn written(value: &Scalar) -> String {
    match value {
        Scalar::Int(int) => int.to_string(),
        Scalar::Float(float) => format!("{float:?}"),
        Scalar::Boolean(boolean) => boolean.to_string(),
        Scalar::String(string) => format!("\"{string}\""),
        Scalar::Tuple(elements) => format!("({})", elements.iter().map(written).collect::<Vec<_>>().join(", ")),
        Scalar::Empty => "()".into(),
    }
}

#[test]
fn surprises_are_as_documented() {
    let rows = table("What surprises");
    assert!(rows.len() > 20);
    for row in rows {
        let found = match eval(code(&row[0])) {
            Ok(value) => written(&value),
            Err(error) => error.code.to_string(),
        };
        assert_eq!(found, code(&row[1]), "{}", row[0]);
    }
}

#[test]
fn every_function_is_documented() {
    let rows = table("Functions");
    assert_eq!(rows.len(), FUNCTIONS.len());
    for (row, info) in rows.iter().zip(FUNCTIONS) {
        let set = if info.math { "math" } else { "all" };
        assert_eq!((code(&row[0]), row[2].as_str(), row[3].as_str()), (info.name, set, info.summary));
    }
}

#[test]
fn every_error_code_is_documented() {
    let rows = table("Errors");
    let documented: Vec<&str> = rows.iter().map(|row| code(&row[0])).collect();
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(documented, codes);
}

#[test]
fn every_limit_is_documented() {
    let json = |limits: &FormulaLimits| serde_json::to_value(limits).expect("limits are plain data");
    let (defaults, ceilings) = (json(&FormulaLimits::default()), json(&FormulaLimits::CEILING));
    let rows = table("Limits");
    assert_eq!(Some(rows.len()), defaults.as_object().map(serde_json::Map::len));
    for row in rows {
        let key = code(&row[0]);
        assert_eq!((row[1].clone(), row[2].clone()), (defaults[key].to_string(), ceilings[key].to_string()), "{key}");
    }
}
