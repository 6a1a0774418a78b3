//! The schema of values, whose JSON is written by hand: it is told to clients.

use super::Scalar;
use std::borrow::Cow;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

/// One value of a formula, with its type.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "its schema alone is of use")]
enum TaggedValue {
    /// evalexpr's `int`.
    Int(i64),
    /// evalexpr's `float`.
    Float(Float),
    /// evalexpr's `boolean`.
    Boolean(bool),
    /// evalexpr's `string`.
    String(String),
    /// evalexpr's `tuple`.
    #[schema(no_recursion)]
    Tuple(Vec<Scalar>),
    /// evalexpr's `empty`; also a null.
    Empty,
}

/// A float: a number, or the name of one that JSON has no number for.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "its schema alone is of use")]
enum Float {
    Number(f64),
    Name(FloatName),
}

/// Floats that JSON has no number for.
#[derive(ToSchema)]
#[allow(dead_code, reason = "its schema alone is of use")]
enum FloatName {
    NaN,
    #[schema(rename = "inf")]
    Infinity,
    #[schema(rename = "-inf")]
    NegativeInfinity,
}

impl PartialSchema for Scalar {
    fn schema() -> RefOr<Schema> {
        TaggedValue::schema()
    }
}

impl ToSchema for Scalar {
    fn name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Float::name().into(), Float::schema()));
        Float::schemas(schemas);
    }
}
