//! Results of `eval`: one JSON object a formula, and what is made from it.

use super::{Cell, end_csv_line, write_csv_text, write_json, write_json_text, write_plain};
use crate::formula::FormulaError;
use crate::spec::Scalar;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;
use utoipa::ToSchema;

/// Why a formula has no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvalFailure {
    /// Stable code, such as `unknown_variable`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Line in the formula, from 1, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in characters, from 1, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl From<&FormulaError> for EvalFailure {
    fn from(error: &FormulaError) -> Self {
        Self {
            code: error.code.as_str().to_owned(),
            message: error.message.clone(),
            line: error.line,
            column: error.column,
        }
    }
}

/// Errors that a formula meets while it is evaluated; with every other it does not come so far.
const EVALUATION_CODES: [&str; 8] = [
    "wrong_type",
    "int_overflow",
    "division_by_zero",
    "shift_out_of_range",
    "substring_out_of_range",
    "value_too_large",
    "value_too_deep",
    "too_much_work",
];

impl EvalFailure {
    /// Whether the formula does not parse or is refused, and so is not evaluated at all.
    pub fn is_refusal(&self) -> bool {
        !EVALUATION_CODES.contains(&self.code.as_str())
    }
}

/// A type as results name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ValueType {
    Int,
    Float,
    Boolean,
    String,
    Tuple,
    Empty,
}

impl ValueType {
    /// The type as evalexpr's `typeof` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Tuple => "tuple",
            Self::Empty => "empty",
        }
    }
}

/// A line of `eval`'s results, read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvalOutcome {
    /// Which formula, from 0.
    pub index: u64,
    /// What became of it.
    #[serde(flatten)]
    pub result: EvalResult,
}

/// What became of a formula.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EvalResult {
    /// It has a value.
    Value {
        /// The value's type.
        #[serde(rename = "type")]
        ty: ValueType,
        /// The value as JSON.
        value: Value,
    },
    /// It has none.
    Failed {
        /// Why.
        error: EvalFailure,
    },
}

/// Writes a line: `{"index":0,"type":"int","value":16}` or
/// `{"index":3,"error":{"code":"..","message":"..","line":1,"column":3}}`.
pub fn write_eval_line(out: &mut Vec<u8>, index: u64, result: &Result<Scalar, EvalFailure>) {
    write_eval_object(out, index, result);
    out.push(b'\n');
}

/// Writes what such a line holds.
pub fn write_eval_object(out: &mut Vec<u8>, index: u64, result: &Result<Scalar, EvalFailure>) {
    out.extend_from_slice(b"{\"index\":");
    out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
    out.push(b',');
    match result {
        Ok(value) => write_typed_value(out, value),
        Err(EvalFailure { code, message, line, column }) => {
            out.extend_from_slice(b"\"error\":{\"code\":");
            write_json_text(out, code);
            out.extend_from_slice(b",\"message\":");
            write_json_text(out, message);
            for (key, number) in [("line", line), ("column", column)] {
                if let Some(number) = number {
                    out.extend_from_slice(format!(",\"{key}\":{number}").as_bytes());
                }
            }
            out.push(b'}');
        }
    }
    out.push(b'}');
}

/// Writes the members of a value, as in `"type":"int","value":16`.
pub fn write_typed_value(out: &mut Vec<u8>, value: &Scalar) {
    out.extend_from_slice(b"\"type\":\"");
    out.extend_from_slice(super::type_name(value).as_bytes());
    out.extend_from_slice(b"\",\"value\":");
    write_json(out, value);
}

/// The value that a line holds; `None` where the line does not fit its own type.
fn scalar_of(ty: ValueType, value: &Value) -> Option<Scalar> {
    match ty {
        ValueType::Int => value.as_i64().map(Scalar::Int),
        ValueType::Float => float_of(value).map(Scalar::Float),
        ValueType::Boolean => value.as_bool().map(Scalar::Boolean),
        ValueType::String => value.as_str().map(|text| Scalar::String(text.to_string())),
        ValueType::Tuple => value.as_array().map(|values| Scalar::Tuple(values.iter().map(element_of).collect())),
        ValueType::Empty => value.is_null().then_some(Scalar::Empty),
    }
}

fn float_of(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// A tuple's element, whose type JSON tells but for one thing: a text of `NaN` or `inf` is taken for the float.
fn element_of(value: &Value) -> Scalar {
    match value {
        Value::Null | Value::Object(_) => Scalar::Empty,
        Value::Bool(value) => Scalar::Boolean(*value),
        Value::Array(values) => Scalar::Tuple(values.iter().map(element_of).collect()),
        Value::Number(number) if number.is_i64() => Scalar::Int(number.as_i64().unwrap_or_default()),
        Value::Number(number) => Scalar::Float(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => match float_of(value) {
            Some(float) => Scalar::Float(float),
            None => Scalar::String(text.clone()),
        },
    }
}

/// The value for a person, without a line end; empty for a formula that failed.
pub fn plain_of(outcome: &EvalOutcome) -> String {
    let EvalResult::Value { ty, value } = &outcome.result else { return String::new() };
    let Some(scalar) = scalar_of(*ty, value) else { return value.to_string() };
    let mut out = Vec::new();
    write_plain(&mut out, &scalar);
    String::from_utf8_lossy(&out).into_owned()
}

/// First line of results as CSV.
pub const EVAL_CSV_HEADER: &str = "index,type,value,code,message\n";

/// The outcome as a CSV record, with its line end: index, type, value, and code and message of a failure.
pub fn csv_of(outcome: &EvalOutcome) -> String {
    let mut out = outcome.index.to_string().into_bytes();
    out.push(b',');
    match &outcome.result {
        EvalResult::Value { ty, value } => {
            out.extend_from_slice(ty.name().as_bytes());
            out.push(b',');
            match scalar_of(*ty, value) {
                Some(scalar) => Cell::from(&scalar).csv(&mut out, b','),
                None => write_csv_text(&mut out, value.to_string().as_bytes(), b','),
            }
            out.extend_from_slice(b",,");
        }
        EvalResult::Failed { error } => {
            out.extend_from_slice(b",,");
            write_csv_text(&mut out, error.code.as_bytes(), b',');
            out.push(b',');
            write_csv_text(&mut out, error.message.as_bytes(), b',');
        }
    }
    end_csv_line(&mut out, 0);
    String::from_utf8_lossy(&out).into_owned()
}

/// The outcomes as a table for a terminal, with a heading; control characters in texts are escaped.
pub fn table_of(outcomes: &[EvalOutcome]) -> String {
    let heading = "index";
    let digits = outcomes.iter().map(|outcome| outcome.index.to_string().len()).max().unwrap_or(0).max(heading.len());
    let mut out = format!("{heading:>digits$}  {:<7}  value\n", "type");
    for outcome in outcomes {
        let (ty, text) = match &outcome.result {
            EvalResult::Value { ty, .. } => (ty.name(), plain_of(outcome)),
            EvalResult::Failed { error } => ("error", failure_text(error)),
        };
        let line = format!("{:>digits$}  {ty:<7}  {}", outcome.index, escape_controls(&text));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn failure_text(error: &EvalFailure) -> String {
    match (error.line, error.column) {
        (Some(line), Some(column)) => format!("{} (line {line}, column {column})", error.message),
        (Some(line), None) => format!("{} (line {line})", error.message),
        _ => error.message.clone(),
    }
}

fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{EvalFailure, EvalOutcome, EvalResult, ValueType, csv_of, plain_of, table_of, write_eval_line};
    use crate::spec::Scalar;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn line(index: u64, result: Result<Scalar, EvalFailure>) -> String {
        let mut out = Vec::new();
        write_eval_line(&mut out, index, &result);
        String::from_utf8(out).unwrap()
    }

    fn outcome(result: Result<Scalar, EvalFailure>) -> EvalOutcome {
        serde_json::from_str(&line(7, result)).unwrap()
    }

    fn failure(line: Option<u32>, column: Option<u32>) -> EvalFailure {
        EvalFailure { code: "div_by_zero".into(), message: "1/0, \"really\"".into(), line, column }
    }

    #[test]
    fn lines_are_as_documented() {
        assert_eq!(line(0, Ok(Scalar::Int(16))), "{\"index\":0,\"type\":\"int\",\"value\":16}\n");
        assert_eq!(line(1, Ok(Scalar::Float(1.0))), "{\"index\":1,\"type\":\"float\",\"value\":1.0}\n");
        assert_eq!(line(2, Ok(Scalar::Empty)), "{\"index\":2,\"type\":\"empty\",\"value\":null}\n");
        assert_eq!(
            line(3, Err(failure(Some(1), Some(3)))),
            "{\"index\":3,\"error\":{\"code\":\"div_by_zero\",\"message\":\"1/0, \\\"really\\\"\",\"line\":1,\"column\":3}}\n"
        );
        assert!(line(3, Err(failure(None, None))).ends_with("really\\\"\"}}\n"));
    }

    #[test]
    fn lines_read_back() {
        let value = outcome(Ok(Scalar::Float(f64::INFINITY)));
        assert_eq!(value.result, EvalResult::Value { ty: ValueType::Float, value: "inf".into() });
        assert_eq!(outcome(Ok(Scalar::Empty)).index, 7);
        let failed = outcome(Err(failure(Some(2), None)));
        assert_eq!(failed.result, EvalResult::Failed { error: failure(Some(2), None) });
        let again: EvalOutcome = serde_json::from_str(&serde_json::to_string(&failed).unwrap()).unwrap();
        assert_eq!(again, failed);
        assert!(serde_json::from_str::<EvalOutcome>("{\"index\":1}").is_err());
    }

    #[test]
    fn forms_are_made_from_the_line_alone() {
        let tuple = Scalar::Tuple(vec![
            Scalar::Int(1),
            Scalar::Float(2.0),
            Scalar::Float(f64::NAN),
            Scalar::String("a\"b".into()),
            Scalar::Tuple(vec![Scalar::Empty]),
        ]);
        let table = [
            (Scalar::Int(i64::MIN), "-9223372036854775808", "-9223372036854775808"),
            (Scalar::Float(8.0), "8", "8.0"),
            (Scalar::Float(-0.0), "-0", "-0.0"),
            (Scalar::Float(f64::NAN), "NaN", "NaN"),
            (Scalar::Float(f64::NEG_INFINITY), "-inf", "-inf"),
            (Scalar::Boolean(true), "true", "true"),
            (Scalar::String("NaN".into()), "NaN", "NaN"),
            (Scalar::String("a,b".into()), "a,b", "\"a,b\""),
            (Scalar::Empty, "", ""),
            (tuple, "(1, 2, NaN, \"a\\\"b\", (()))", "\"(1, 2, NaN, \"\"a\\\"\"b\"\", (()))\""),
        ];
        for (value, plain, csv) in table {
            let ty = super::super::type_name(&value);
            let outcome = outcome(Ok(value));
            assert_eq!(plain_of(&outcome), plain);
            assert_eq!(csv_of(&outcome), format!("7,{ty},{csv},,\n"));
        }
        let failed = outcome(Err(failure(None, None)));
        assert_eq!(plain_of(&failed), "");
        assert_eq!(csv_of(&failed), "7,,,div_by_zero,\"1/0, \"\"really\"\"\"\n");
    }

    #[test]
    fn lines_that_contradict_themselves_are_shown_as_json() {
        let outcome: EvalOutcome = serde_json::from_str(r#"{"index":0,"type":"int","value":"x"}"#).unwrap();
        assert_eq!(plain_of(&outcome), "\"x\"");
        assert_eq!(csv_of(&outcome), "0,int,\"\"\"x\"\"\",,\n");
    }

    #[test]
    fn tables_line_up_and_escape_controls() {
        let outcomes = [
            outcome(Ok(Scalar::String("a\x1b[1m\nb".into()))),
            outcome(Err(failure(Some(1), Some(3)))),
            outcome(Ok(Scalar::Empty)),
        ];
        assert_eq!(
            table_of(&outcomes),
            "index  type     value\n    7  string   a\\u{1b}[1m\\nb\n    7  error    1/0, \"really\" (line 1, column 3)\n    7  empty\n"
        );
    }

    proptest! {
        #[test]
        fn floats_and_ints_keep_every_bit(int in any::<i64>(), float in any::<f64>()) {
            prop_assert_eq!(plain_of(&outcome(Ok(Scalar::Int(int)))), int.to_string());
            let plain: f64 = plain_of(&outcome(Ok(Scalar::Float(float)))).parse().unwrap();
            prop_assert_eq!(plain.is_nan(), float.is_nan());
            prop_assert!(float.is_nan() || plain.to_bits() == float.to_bits());
        }

        #[test]
        fn texts_survive(text in any::<String>()) {
            prop_assert_eq!(plain_of(&outcome(Ok(Scalar::String(text.clone())))), text);
        }
    }

    use proptest::prelude::prop_assert;
}
