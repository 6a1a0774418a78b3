//! `quipu sweep`: a formula over the cartesian product of axes.

use crate::cmd::args::{OutputArgs, RowJobArgs};
use crate::cmd::rows::Plan;
use crate::cmd::{Context, Session, argv, parse};
use crate::failure::Failure;
use clap::Args;
use quipu_shared::spec::{Axis, JobKind, JobSpec, RowFormat};

/// Compute a formula for each point of a grid
///
/// The grid is the product of all axes; the last axis is the fastest. Points are made where they are computed, so a
/// grid of a billion points needs no memory.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu sweep 'x * x' --over x=0:10:2
  quipu sweep 'a * x + b' --over x=0.0:1.0/5 --over a=1,2,3 -v b=10 -O table
  quipu sweep 'math::exp(-x * x)' --over x=-6.0:6.0/10000000 --reduce sum,mean,argmax
  quipu sweep '1.0 / (x * x)' --over x=1:1000001:1 --reduce sum,variance --exact
  quipu sweep 'x % 7' --over x=0:1000000:1 --reduce 'histogram(0,7,7)' -o histogram.csv")]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    job: SweepJob,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is swept.
#[derive(Debug, Args)]
pub(crate) struct SweepJob {
    /// Computed for each point
    #[arg(value_parser = argv::formula)]
    formula: String,

    /// Let a variable run over values; repeats
    ///
    /// x=START:STOP:STEP   START, START+STEP, .. below STOP; integers where all three are
    /// x=START:STOP/COUNT  COUNT evenly spaced floats with both ends
    /// x=a,b,c             these values, all of one type
    #[arg(long = "over", value_name = "AXIS", required = true, value_parser = parse::axis, verbatim_doc_comment)]
    axes: Vec<Axis>,

    #[command(flatten)]
    pub(crate) common: RowJobArgs,
}

impl SweepArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let plan = Plan::new(context, &self.job.common, self.output)?;
        let spec = self.job.spec(plan.rows())?;
        let session = Session::open(context).await?;
        plan.run(&session, spec, &self.job.common.job).await
    }
}

impl SweepJob {
    /// The job, its rows written in this form.
    pub(crate) fn spec(&self, format: RowFormat) -> Result<JobSpec, Failure> {
        let (formula, name) = (self.formula.clone(), self.common.rows.column.clone());
        self.common.spec(JobKind::Sweep { formula, name, axes: self.axes.clone() }, format)
    }
}
