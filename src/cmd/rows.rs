//! What `map`, `sweep` and `sample` have in common: rows or their reductions go to the output.

use crate::cmd::args::{FormulaArgs, OutputArgs, RowArgs};
use crate::cmd::{Context, Session, runner};
use crate::failure::Failure;
use crate::output::Format;
use crate::output::destination::Destination;
use crate::output::encoder::for_rows;
use crate::output::reductions::for_reductions;
use quipu_shared::spec::{JobKind, JobSpec, OnError, Reduction, Scalar, SymbolPolicy};

/// What is known of the job before its rows are.
pub(crate) struct Plan {
    spec: SpecRest,
    format: Format,
    output: OutputArgs,
}

struct SpecRest {
    bindings: Vec<(String, Scalar)>,
    symbols: SymbolPolicy,
    on_error: OnError,
    reductions: Vec<Reduction>,
    exact: bool,
    deadline_ms: Option<u64>,
    name: Option<String>,
}

impl Plan {
    /// Finds wrong options before anything is started.
    pub(crate) fn new(
        context: &Context,
        formula: &FormulaArgs,
        rows: &RowArgs,
        output: OutputArgs,
    ) -> Result<Self, Failure> {
        let reductions = rows.reductions();
        let otherwise = match (reductions.is_empty(), context.ui.stdout_terminal && output.file().is_none()) {
            (true, _) => Format::Csv,
            (false, true) => Format::Table,
            (false, false) => Format::Json,
        };
        let mut format = output.format_or(context, otherwise)?;
        if !reductions.is_empty() {
            format = format.for_text("reductions")?;
        }
        if format.rows().is_columnar() && output.file().is_none() && context.ui.stdout_terminal {
            return Err(Failure::usage("a file in columns is not for a terminal").hint("name a file with --output"));
        }
        let spec = SpecRest {
            bindings: formula.bindings()?,
            symbols: formula.symbols(),
            on_error: rows.on_error(),
            reductions,
            exact: rows.exact,
            deadline_ms: formula.deadline_ms(),
            name: formula.name(),
        };
        Ok(Self { spec, format, output })
    }

    /// Runs the job over these rows. The output stands complete or not at all.
    pub(crate) async fn run(self, session: &Session, kind: JobKind) -> Result<(), Failure> {
        let Self { spec, format, output } = self;
        let SpecRest { bindings, symbols, on_error, reductions, exact, deadline_ms, name } = spec;
        let reduced = !reductions.is_empty();
        let rows = format.rows();
        let spec = JobSpec { kind, bindings, symbols, on_error, reductions, exact, format: rows, deadline_ms, name, queue: Default::default() };
        let mut encoder = if reduced { for_reductions(format) } else { for_rows(format) };
        let mut out = Destination::open(output.output.as_deref())?;
        session.signals.leftover(out.temporary());
        let progress = session.ui.progress(!reduced && out.is_stdout());
        let job = runner::run(session, spec, encoder.as_mut(), &mut out, progress).await?;
        out.commit()?;
        runner::failed_rows(&job)
    }
}
