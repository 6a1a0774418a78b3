//! What the master tells of one job, beyond its view.

use crate::jobs::opening::{gone, store_error};
use crate::service::MasterService;
use crate::store::reads::Reads;
use quipu_shared::BLOCK_ROWS;
use quipu_shared::detail::{
    AttemptList, ClusterView, FORMULAS_TOLD_MAX, FormulaForm, JobDetail, NODES_TOLD_MAX, NodeAttempt, RUNNING_TOLD_MAX,
    RunningJob, ShardMap,
};
use quipu_shared::formula::typed::TypedFormula;
use quipu_shared::formula::{Formula, FormulaLimits};
use quipu_shared::ids::{JobId, NodeId};
use quipu_shared::service::{JobState, NodeState, ServiceError};
use quipu_shared::source::{RowSource, SampleSource, SweepSource};
use quipu_shared::spec::{ColumnType, JobKind, JobSpec};

/// Attempts of one node that are told.
const NODE_ATTEMPTS_MAX: usize = 50;

impl MasterService {
    /// What was asked for, and how it is evaluated.
    pub(crate) fn detail(&self, job: JobId) -> Result<JobDetail, ServiceError> {
        let mut spec = self.spec(job)?;
        let form = form(&spec, &self.opener.admission.get().formula);
        let formulas = match &mut spec.kind {
            JobKind::Eval { formulas } => {
                let count = formulas.len() as u64;
                formulas.truncate(FORMULAS_TOLD_MAX);
                count
            }
            _ => 1,
        };
        Ok(JobDetail { spec, formulas, form })
    }

    /// How far each part of a job's rows is.
    pub(crate) fn shards(&self, job: JobId) -> Result<ShardMap, ServiceError> {
        if let Some(entry) = self.jobs.get(job) {
            let view = entry.view();
            let ranges = entry.recorded().progress.ranges.clone();
            // An input of unknown length ends, as far as is known, where the last shard does.
            let known = ranges.last().map_or(0, |&(_, end)| end).max(view.rows_done);
            let mut map = ShardMap::new(view.rows_total.unwrap_or(known), entry.admitted.plan.granule);
            self.jobs.histories.fill(job, &mut map, Some(&ranges));
            return Ok(map);
        }
        let record = self.opener.store.job(job).map_err(store_error)?.ok_or_else(|| gone(job))?;
        let rows = record.rows_total.unwrap_or(record.rows_done);
        let granule = if record.fixed.kind == "eval" { 1 } else { BLOCK_ROWS };
        let mut map = ShardMap::new(rows, granule);
        let succeeded = [(0, rows)];
        let done: Option<&[(u64, u64)]> = match record.state {
            JobState::Succeeded => Some(&succeeded),
            state if !state.is_final() => Some(&[]),
            _ => None,
        };
        if !self.jobs.histories.fill(job, &mut map, done) {
            map.cells.clear();
        }
        Ok(map)
    }

    /// The cluster as it is now.
    pub(crate) fn cluster_view(&self) -> ClusterView {
        let mut nodes = self.nodes.all();
        let nodes_total = nodes.len() as u64;
        if nodes.len() > NODES_TOLD_MAX {
            nodes.sort_by_key(|node| node.state == NodeState::Down);
            nodes.truncate(NODES_TOLD_MAX);
            nodes.sort_by(|a, b| a.id.cmp(&b.id));
        }
        let (mut jobs, mut jobs_running) = (Vec::new(), 0);
        for entry in self.jobs.active() {
            let view = entry.view();
            if view.state == JobState::Running {
                jobs_running += 1;
                if jobs.len() < RUNNING_TOLD_MAX {
                    let rows_per_s = view.rows_done as f64 * 1000.0 / view.elapsed_ms.max(1) as f64;
                    jobs.push(RunningJob { view, rows_per_s });
                }
            }
        }
        let jobs_pending = self.jobs.index(|index| index.pending_count()) as u64;
        ClusterView { nodes, nodes_total, jobs, jobs_running, jobs_pending }
    }

    /// A job's attempts.
    pub(crate) fn attempts(&self, job: JobId) -> Result<AttemptList, ServiceError> {
        self.view(job)?;
        Ok(self.jobs.histories.attempts(job))
    }

    /// The last attempts on a node.
    pub(crate) fn attempts_on(&self, node: &NodeId) -> Vec<NodeAttempt> {
        self.jobs.histories.on_node(node, NODE_ATTEMPTS_MAX)
    }
}

/// How a job's one formula is evaluated; none for several, and none for what is not understood any more.
fn form(spec: &JobSpec, limits: &FormulaLimits) -> Option<FormulaForm> {
    let of_source = |source: &dyn RowSource| -> Vec<(String, ColumnType)> {
        source.variables().iter().cloned().zip(source.column_types().iter().copied()).collect()
    };
    let (text, columns) = match &spec.kind {
        JobKind::Eval { formulas } => match &formulas[..] {
            [formula] => (formula, Vec::new()),
            _ => return None,
        },
        JobKind::Sweep { formula, axes, .. } => (formula, of_source(&SweepSource::new(axes).ok()?)),
        JobKind::Sample { formula, rows, seed, draws, .. } => {
            (formula, of_source(&SampleSource::new(draws, *rows, *seed).ok()?))
        }
        JobKind::Map { formula, schema, .. } => {
            let columns = schema.columns.iter().map(|column| (column.variable.clone(), column.ty));
            (formula, columns.collect())
        }
    };
    let formula = Formula::parse(text, limits).ok()?;
    // Only what it reads is of interest, and the typed form numbers its columns.
    let columns: Vec<_> = columns.into_iter().filter(|(name, _)| formula.variables().contains(name)).collect();
    let typed = TypedFormula::new(&formula, &columns, &spec.bindings);
    let (value_type, cost_ns, lines, because) = match &typed {
        Ok(typed) => {
            let lines = typed.to_string().lines().map(ToOwned::to_owned).collect();
            (Some(typed.result_type().name().to_owned()), typed.cost_ns(), lines, None)
        }
        Err(untyped) => (None, formula.tree_cost_ns(), Vec::new(), Some(untyped.to_string())),
    };
    let columns = columns.iter().map(|(name, ty)| format!("{name}: {}", ty.name())).collect();
    Some(FormulaForm { value_type, cost_ns, columns, lines, because })
}

#[cfg(test)]
mod tests {
    use super::form;
    use quipu_shared::formula::FormulaLimits;
    use quipu_shared::spec::JobSpec;

    fn form_of(kind: &str) -> Option<quipu_shared::detail::FormulaForm> {
        let spec: JobSpec = serde_json::from_str(&format!("{{\"kind\":{kind}}}")).unwrap();
        form(&spec, &FormulaLimits::default())
    }

    #[test]
    fn form_of_a_formula_names_its_type_its_columns_and_its_instructions() {
        let axes = r#"[{"name":"unused","values":{"list":[{"int":1}]}},
            {"name":"x","values":{"int_range":{"start":0,"stop":9,"step":1}}}]"#;
        let form = form_of(&format!(r#"{{"sweep":{{"formula":"x * 2","name":"r","axes":{axes}}}}}"#)).unwrap();
        assert_eq!(form.value_type.as_deref(), Some("int"));
        assert_eq!(form.columns, ["x: int"]);
        assert!(form.lines.iter().any(|line| line.contains("column 0")), "{:?}", form.lines);
        assert!(form.cost_ns > 0.0 && form.because.is_none());
    }

    #[test]
    fn formula_without_a_typed_form_says_why_and_several_have_none() {
        let form = form_of(r#"{"eval":{"formulas":["\"a\" + \"b\""]}}"#).unwrap();
        assert!(form.value_type.is_none() && form.lines.is_empty() && form.because.is_some());
        assert!(form_of(r#"{"eval":{"formulas":["1","2"]}}"#).is_none());
    }
}
