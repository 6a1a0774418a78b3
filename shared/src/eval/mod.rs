//! What is evaluated at once, without a job: requests and their answers, as HTTP and gRPC take them.
//!
//! Values are written as `quipu eval -O json` writes them. Values that come in are plain JSON: a number without point and
//! exponent is an int, any other a float, an array a tuple, null empty. Where JSON can't say it, or a client's JSON can't
//! (JavaScript writes `2.0` as `2`), the tagged form of [`Scalar`] does: `{"float": 2}`, `{"float": "NaN"}`.

mod check;
mod schema;
#[cfg(test)]
mod tests;
mod value;

pub use check::{CheckAnswer, CheckRequest, CheckedColumn};
pub use schema::EvalAnswer;

use crate::render::EvalFailure;
use crate::spec::{Scalar, SymbolPolicy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Variables of one evaluation at most: each is looked up by name, and named in messages.
pub const VARIABLES_MAX: usize = 1_000;

/// What became of one formula.
pub type Outcome = Result<Scalar, EvalFailure>;

/// Formulas to evaluate at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "EvalBody", into = "EvalBody")]
pub struct EvalRequest {
    /// The formulas, or one with its rows.
    pub subject: EvalSubject,
    /// Variables of every evaluation; its own hide them.
    pub variables: Variables,
    /// What the formulas may name.
    pub symbols: SymbolPolicy,
    /// Whether values may be kept for the next request that asks for the same: it pays for formulas that take long.
    pub cache: bool,
}

/// What a request evaluates.
#[derive(Clone, Debug, PartialEq)]
pub enum EvalSubject {
    /// One formula.
    One(String),
    /// One formula for each row of columns, which are all of one length.
    Rows(String, Vec<(String, Vec<Scalar>)>),
    /// Formulas, each for itself.
    Many(Vec<Evaluation>),
}

/// One formula of several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The formula.
    pub formula: String,
    /// Its variables.
    #[serde(default, skip_serializing_if = "Variables::is_empty")]
    pub variables: Variables,
}

/// Variables with their values, in the order in which they were given; no name stands twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variables(pub Vec<(String, Scalar)>);

impl Variables {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl EvalRequest {
    /// A request for one formula.
    pub fn one(formula: impl Into<String>, variables: Variables) -> Self {
        Self { subject: EvalSubject::One(formula.into()), variables, symbols: SymbolPolicy::default(), cache: false }
    }

    /// How many evaluations it asks for.
    pub fn evaluations(&self) -> usize {
        match &self.subject {
            EvalSubject::One(_) => 1,
            EvalSubject::Rows(_, columns) => columns.first().map_or(0, |(_, values)| values.len()),
            EvalSubject::Many(evaluations) => evaluations.len(),
        }
    }
}

/// A request as JSON has it: which members are there says what it asks for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvalBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    formula: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<value::Columns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evaluations: Option<Vec<Evaluation>>,
    #[serde(default, skip_serializing_if = "Variables::is_empty")]
    variables: Variables,
    #[serde(default)]
    symbols: SymbolPolicy,
    #[serde(default)]
    cache: bool,
}

impl TryFrom<EvalBody> for EvalRequest {
    type Error = &'static str;

    fn try_from(body: EvalBody) -> Result<Self, Self::Error> {
        let subject = match (body.formula, body.columns, body.evaluations) {
            (Some(formula), None, None) => EvalSubject::One(formula),
            (Some(formula), Some(value::Columns(columns)), None) => {
                let rows = columns.first().map(|(_, values)| values.len());
                let Some(rows) = rows else { return Err("`columns` names no column") };
                if columns.iter().any(|(_, values)| values.len() != rows) {
                    return Err("`columns` are not all of one length");
                }
                EvalSubject::Rows(formula, columns)
            }
            (None, None, Some(evaluations)) => EvalSubject::Many(evaluations),
            _ => return Err("give `formula`, or `formula` and `columns`, or `evaluations`"),
        };
        Ok(Self { subject, variables: body.variables, symbols: body.symbols, cache: body.cache })
    }
}

impl From<EvalRequest> for EvalBody {
    fn from(request: EvalRequest) -> Self {
        let EvalRequest { subject, variables, symbols, cache } = request;
        let (formula, columns, evaluations) = match subject {
            EvalSubject::One(formula) => (Some(formula), None, None),
            EvalSubject::Rows(formula, columns) => (Some(formula), Some(value::Columns(columns)), None),
            EvalSubject::Many(evaluations) => (None, None, Some(evaluations)),
        };
        Self { formula, columns, evaluations, variables, symbols, cache }
    }
}
