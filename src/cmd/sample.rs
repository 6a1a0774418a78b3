//! `quipu sample`: a formula over random draws.

use crate::cmd::args::{OutputArgs, RowJobArgs};
use crate::cmd::rows::Plan;
use crate::cmd::{Context, Session, argv, parse};
use crate::failure::Failure;
use clap::Args;
use quipu_shared::spec::{Draw, JobKind, JobSpec, RowFormat};

/// Compute a formula for many random draws
///
/// Draw i of a variable depends on the seed, the variable's name and i alone: the same command gives the same rows on
/// any cluster, in any order of the options.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu sample 'if(x*x + y*y <= 1.0, 4.0, 0.0)' -n 10000000 --seed 7 --reduce mean,stddev \\
      --draw 'x=uniform(0,1)' --draw 'y=uniform(0,1)'
  quipu sample 'a + b' -n 5 --seed 1 --draw 'a=integer(1,6)' --draw 'b=integer(1,6)' -O table
  quipu sample 's * math::exp(z)' -n 1_000_000 --seed 3 -v s=100.0 --draw 'z=normal(0,0.2)' \\
      --reduce 'quantile(0.05),quantile(0.95)'")]
pub(crate) struct SampleArgs {
    #[command(flatten)]
    job: SampleJob,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is drawn.
#[derive(Debug, Args)]
pub(crate) struct SampleJob {
    /// Computed for each draw
    #[arg(value_parser = argv::formula)]
    formula: String,

    /// How many draws
    #[arg(short = 'n', long = "rows", value_name = "N", value_parser = parse::count)]
    n: u64,

    /// Let a variable be random; repeats
    ///
    /// NAME=uniform(A,B)      floats from A up to B
    /// NAME=normal(MEAN,SD)   NAME=exponential(RATE)
    /// NAME=bernoulli(P)      true with probability P
    /// NAME=integer(LO,HI)    integers, both ends included
    /// NAME=choice(a,b,..)    one of these values
    #[arg(long = "draw", value_name = "DRAW", required = true, value_parser = parse::draw, verbatim_doc_comment)]
    draws: Vec<Draw>,

    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    pub(crate) common: RowJobArgs,
}

impl SampleArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let plan = Plan::new(context, &self.job.common, self.output)?;
        let spec = self.job.spec(plan.rows())?;
        let session = Session::open(context).await?;
        plan.run(&session, spec, &self.job.common.job).await
    }
}

impl SampleJob {
    /// The job, its rows written in this form.
    pub(crate) fn spec(&self, format: RowFormat) -> Result<JobSpec, Failure> {
        let kind = JobKind::Sample {
            formula: self.formula.clone(),
            name: self.common.rows.column.clone(),
            rows: self.n,
            seed: self.seed,
            draws: self.draws.clone(),
        };
        self.common.spec(kind, format)
    }
}
