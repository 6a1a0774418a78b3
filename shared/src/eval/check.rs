//! What can be said of a formula before it is evaluated: `quipu explain`, without who evaluates it.

use super::Variables;
use crate::formula::typed::TypedFormula;
use crate::formula::{Formula, FormulaError, FormulaLimits, Symbols};
use crate::render::EvalFailure;
use crate::spec::{ColumnType, SymbolPolicy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A formula to look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The formula.
    pub formula: String,
    /// Types of its columns; those that are not given are floats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, ColumnType>,
    /// Variables with one value for all rows.
    #[serde(default, skip_serializing_if = "Variables::is_empty")]
    pub variables: Variables,
    /// What the formula may name.
    #[serde(default)]
    pub symbols: SymbolPolicy,
}

/// What is known of a formula. Where `error` is there, the formula is refused, and only what it names is told besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckAnswer {
    /// Whether it parses and keeps to what it may name.
    pub valid: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<EvalFailure>,
    /// The type of its value, where that does not depend on the row.
    #[serde(rename = "type")]
    pub ty: Option<ColumnType>,
    /// Why it has no typed form: evalexpr evaluates it row by row then.
    pub because: Option<String>,
    /// Estimated nanoseconds a row on one core, in a long run.
    pub cost_ns_per_row: Option<f64>,
    /// What it reads that has no one value for all rows.
    pub columns: Vec<CheckedColumn>,
    /// The typed form, one instruction a line.
    pub typed_form: Option<Vec<String>>,
    /// What surprises people in it.
    pub notes: Vec<String>,
}

/// A column that a formula reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckedColumn {
    /// The variable.
    pub name: String,
    /// Its type, as given or taken for granted.
    #[serde(rename = "type")]
    pub ty: ColumnType,
}

impl CheckAnswer {
    /// Looks at a formula.
    pub fn of(request: &CheckRequest, limits: &FormulaLimits) -> Self {
        let formula = match Formula::parse(&request.formula, limits) {
            Ok(formula) => formula,
            Err(error) => return Self::refused(&error, Vec::new()),
        };
        let bindings = &request.variables.0;
        let bound = |name: &str| bindings.iter().any(|(known, _)| known == name);
        let columns: Vec<(String, ColumnType)> = formula
            .variables()
            .iter()
            .filter(|name| !bound(name))
            .map(|name| (name.clone(), request.types.get(name).copied().unwrap_or(ColumnType::Float)))
            .collect();
        let shown = columns.iter().map(|(name, ty)| CheckedColumn { name: name.clone(), ty: *ty }).collect();
        let types = bindings.iter().map(|(name, value)| (name.clone(), value.column_type()));
        let symbols = Symbols {
            variables: columns.iter().map(|(name, ty)| (name.clone(), Some(*ty))).chain(types).collect(),
            policy: request.symbols.clone(),
        };
        if let Err(error) = formula.check(&symbols) {
            return Self::refused(&error, shown);
        }
        let typed = TypedFormula::new(&formula, &columns, bindings);
        Self {
            valid: true,
            error: None,
            ty: typed.as_ref().ok().map(|typed| typed.result_type().column_type()),
            because: typed.as_ref().err().map(ToString::to_string),
            cost_ns_per_row: Some(typed.as_ref().map_or_else(|_| formula.tree_cost_ns(), TypedFormula::cost_ns)),
            columns: shown,
            typed_form: typed.ok().map(|typed| typed.to_string().lines().map(ToOwned::to_owned).collect()),
            notes: formula.notes(&symbols),
        }
    }

    fn refused(error: &FormulaError, columns: Vec<CheckedColumn>) -> Self {
        Self { error: Some(EvalFailure::from(error)), columns, ..Self::default() }
    }
}
