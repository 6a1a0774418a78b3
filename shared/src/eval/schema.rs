//! Schemas of what is read by hand: they are told to clients, and nothing else uses them.

use super::{EvalRequest, Evaluation, Variables};
use crate::render::{EvalOutcome, ValueType};
use crate::spec::{Scalar, SymbolPolicy};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// A value that comes in: a number without point and exponent is an int, any other a float; an array is a tuple, null is
/// empty. The tagged form says what JSON can't.
#[derive(ToSchema)]
#[schema(as = Value)]
#[serde(untagged)]
#[allow(dead_code, reason = "its schema alone is of use")]
pub(super) enum PlainValue {
    Boolean(bool),
    Number(f64),
    Text(String),
    #[schema(no_recursion)]
    List(Vec<PlainValue>),
    Tagged(Scalar),
    Empty(Null),
}

pub(super) struct Null;

impl PartialSchema for Null {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(utoipa::openapi::schema::Type::Null).into()
    }
}

impl ToSchema for Null {
    fn name() -> Cow<'static, str> {
        "Null".into()
    }
}

impl PartialSchema for Variables {
    fn schema() -> RefOr<Schema> {
        BTreeMap::<String, PlainValue>::schema()
    }
}

impl ToSchema for Variables {
    fn name() -> Cow<'static, str> {
        "Variables".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((PlainValue::name().into(), PlainValue::schema()));
        PlainValue::schemas(schemas);
    }
}

/// One formula: the answer is its value, or a problem.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "its schema alone is of use")]
struct EvalOne {
    /// The formula.
    #[schema(example = "price * qty * (1.0 - discount)")]
    formula: String,
    /// Its variables.
    #[serde(default)]
    variables: Variables,
    /// What it may name.
    #[serde(default)]
    symbols: SymbolPolicy,
    /// Whether its value may be kept.
    #[serde(default)]
    cache: bool,
}

/// One formula for each row of columns: the answer is a list.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "its schema alone is of use")]
struct EvalRows {
    /// The formula.
    formula: String,
    /// Values of its variables, row by row; all columns are of one length.
    columns: BTreeMap<String, Vec<PlainValue>>,
    /// Variables with one value for all rows.
    #[serde(default)]
    variables: Variables,
    /// What it may name.
    #[serde(default)]
    symbols: SymbolPolicy,
    /// Whether values may be kept.
    #[serde(default)]
    cache: bool,
}

/// Formulas, each for itself: the answer is a list.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "its schema alone is of use")]
struct EvalMany {
    /// The formulas with their variables.
    evaluations: Vec<Evaluation>,
    /// Variables of all of them; their own hide these.
    #[serde(default)]
    variables: Variables,
    /// What they may name.
    #[serde(default)]
    symbols: SymbolPolicy,
    /// Whether values may be kept.
    #[serde(default)]
    cache: bool,
}

/// Formulas to evaluate at once.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "its schema alone is of use")]
enum EvalForms {
    One(EvalOne),
    Rows(EvalRows),
    Many(EvalMany),
}

impl PartialSchema for EvalRequest {
    fn schema() -> RefOr<Schema> {
        EvalForms::schema()
    }
}

impl ToSchema for EvalRequest {
    fn name() -> Cow<'static, str> {
        "EvalRequest".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EvalForms::schemas(schemas);
    }
}

/// The value of one formula.
#[derive(ToSchema)]
#[allow(dead_code, reason = "its schema alone is of use")]
pub struct EvalValue {
    /// Its type.
    #[serde(rename = "type")]
    ty: ValueType,
    /// The value: floats as numbers, `"NaN"`, `"inf"` or `"-inf"`, tuples as arrays, empty as null.
    value: serde_json::Value,
}

/// What became of each formula or row, in the order of the request.
#[derive(ToSchema)]
#[allow(dead_code, reason = "its schema alone is of use")]
pub struct EvalResults {
    /// The outcomes.
    results: Vec<EvalOutcome>,
}

/// What `/v1/eval` answers: a value to a request for one formula, else a list.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "its schema alone is of use")]
pub enum EvalAnswer {
    /// Of one formula.
    One(EvalValue),
    /// Of rows, or of several formulas.
    Many(EvalResults),
}
