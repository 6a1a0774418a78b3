//! What `map`, `sweep` and `sample` have in common: rows or their reductions go to the output.

use crate::cmd::args::{JobArgs, OutputArgs, RowJobArgs};
use crate::cmd::runner::{self, Submission};
use crate::cmd::{Context, Session};
use crate::failure::Failure;
use crate::output::Format;
use crate::output::destination::Destination;
use crate::output::encoder::for_rows;
use crate::output::reductions::for_reductions;
use quipu_shared::spec::{JobSpec, RowFormat};

/// Where the job's output goes.
pub(crate) struct Plan {
    format: Format,
    output: OutputArgs,
}

impl Plan {
    /// Finds wrong options before anything is started.
    pub(crate) fn new(context: &Context, job: &RowJobArgs, output: OutputArgs) -> Result<Self, Failure> {
        job.check()?;
        let reduced = !job.rows.reductions().is_empty();
        let otherwise = match (reduced, context.ui.stdout_terminal && output.file().is_none()) {
            (false, _) => Format::Csv,
            (true, true) => Format::Table,
            (true, false) => Format::Json,
        };
        let mut format = output.format_or(context, otherwise)?;
        if reduced {
            format = format.for_text("reductions")?;
        }
        if format.rows().is_columnar() && output.file().is_none() && context.ui.stdout_terminal {
            return Err(Failure::usage("a file in columns is not for a terminal").hint("name a file with --output"));
        }
        Ok(Self { format, output })
    }

    /// The form in which the job writes its rows.
    pub(crate) fn rows(&self) -> RowFormat {
        self.format.rows()
    }

    /// Runs the job. The output stands complete or not at all.
    pub(crate) async fn run(self, session: &Session, spec: JobSpec, job: &JobArgs) -> Result<(), Failure> {
        let Self { format, output } = self;
        let reduced = !spec.reductions.is_empty();
        let mut encoder = if reduced { for_reductions(format) } else { for_rows(format) };
        let mut out = Destination::open(output.output.as_deref())?;
        session.signals.leftover(out.temporary());
        let progress = session.ui.progress(!reduced && out.is_stdout());
        let submission = Submission { spec, key: job.key(1), no_wait: job.no_wait };
        let job = runner::run(session, submission, encoder.as_mut(), &mut out, progress).await?;
        out.commit()?;
        runner::failed_rows(&job)
    }
}
