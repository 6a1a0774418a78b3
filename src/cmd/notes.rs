//! Notes on what surprises people in a formula: `7 / 2` is 3.

use quipu_shared::formula::{Formula, FormulaLimits, Symbols};
use quipu_shared::source::{RowSource, SampleSource, SweepSource};
use quipu_shared::spec::{ColumnType, JobKind, JobSpec};

/// Formulas of a batch that are looked at; one that surprises is enough.
const FORMULAS_LOOKED_AT: usize = 100;

/// Notes on the job's formula; on the first formula of a batch that deserves any. None where a formula does not parse:
/// the cluster says that better.
pub(crate) fn notes(spec: &JobSpec) -> Vec<String> {
    let (formulas, inputs): (&[String], _) = match &spec.kind {
        JobKind::Eval { formulas } => (&formulas[..formulas.len().min(FORMULAS_LOOKED_AT)], Vec::new()),
        JobKind::Map { formula, schema, .. } => {
            let inputs = schema.columns.iter().map(|column| (column.variable.clone(), Some(column.ty))).collect();
            (std::slice::from_ref(formula), inputs)
        }
        JobKind::Sweep { formula, axes, .. } => {
            (std::slice::from_ref(formula), SweepSource::new(axes).map(|source| typed(&source)).unwrap_or_default())
        }
        JobKind::Sample { formula, rows, seed, draws, .. } => {
            let source = SampleSource::new(draws, *rows, *seed);
            (std::slice::from_ref(formula), source.map(|source| typed(&source)).unwrap_or_default())
        }
    };
    let bindings = spec.bindings.iter().map(|(name, value)| (name.clone(), value.column_type()));
    let symbols = Symbols { variables: inputs.into_iter().chain(bindings).collect(), policy: spec.symbols.clone() };
    let of = |formula: &String| Some(Formula::parse(formula, &FormulaLimits::default()).ok()?.notes(&symbols));
    formulas.iter().filter_map(of).find(|notes| !notes.is_empty()).unwrap_or_default()
}

fn typed(source: &dyn RowSource) -> Vec<(String, Option<ColumnType>)> {
    source.variables().iter().cloned().zip(source.column_types().iter().copied().map(Some)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_shared::spec::{OnError, RowFormat, Scalar, SymbolPolicy};

    fn spec(kind: JobKind, bindings: Vec<(String, Scalar)>) -> JobSpec {
        JobSpec {
            kind,
            bindings,
            symbols: SymbolPolicy::default(),
            on_error: OnError::Fail,
            reductions: Vec::new(),
            exact: false,
            format: RowFormat::Csv,
            deadline_ms: None,
            name: None,
            queue: Default::default(),
        }
    }

    fn eval(formulas: &[&str], bindings: Vec<(String, Scalar)>) -> Vec<String> {
        let formulas = formulas.iter().map(|f| (*f).to_string()).collect();
        notes(&spec(JobKind::Eval { formulas }, bindings))
    }

    fn sweep(formula: &str, axis: &str) -> Vec<String> {
        let axes = vec![quipu_shared::source::parse_axis(axis).unwrap()];
        notes(&spec(JobKind::Sweep { formula: formula.into(), name: "result".into(), axes }, Vec::new()))
    }

    #[test]
    fn integer_division_is_noted_once() {
        assert_eq!(eval(&["1 +", "7.0 / 2.0", "7 / 2", "9 / 2"], Vec::new()).len(), 1);
        assert_eq!(eval(&["a / 2"], vec![("a".into(), Scalar::Int(7))]).len(), 1);
        assert_eq!(eval(&["a / 2"], vec![("a".into(), Scalar::Float(7.0))]), Vec::<String>::new());
    }

    #[test]
    fn types_of_inputs_count() {
        assert_eq!(sweep("x / 2", "x=0:10:1").len(), 1);
        assert_eq!(sweep("x / 2", "x=0.0:1.0/5"), Vec::<String>::new());
    }
}
