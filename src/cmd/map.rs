//! `quipu map`: a formula over each row of a table.

use crate::cmd::args::{OutputArgs, RowJobArgs};
use crate::cmd::input::{InputArgs, Table};
use crate::cmd::rows::Plan;
use crate::cmd::{Context, Session, argv};
use crate::failure::Failure;
use clap::Args;
use quipu_shared::spec::{JobKind, JobSpec, RowFormat};

/// Compute a formula for each row of a table
///
/// Columns are variables. The output has the table's columns and the computed one. Types are inferred from the first
/// 10,000 rows and shown; a later cell that does not fit fails its row. An empty cell is null, and a formula that reads
/// a null gives null.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu map 'price * qty * (1.0 - discount)' sales.csv --as revenue -o revenue.csv
  quipu map 'price * qty' sales.csv --where 'country == \"IS\"' --reduce sum,mean
  quipu map 'a + b' log.ndjson --types a=float -O ndjson
  zcat big.csv.gz | quipu map 'x * 2' - -o doubled.csv

A file named by --output is replaced; until the job has succeeded, what stands there stays.")]
pub(crate) struct MapArgs {
    #[command(flatten)]
    job: MapJob,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is mapped.
#[derive(Debug, Args)]
pub(crate) struct MapJob {
    /// Computed for each row
    #[arg(value_parser = argv::formula)]
    formula: String,

    /// Leave out rows for which this formula is not true
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,

    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    pub(crate) common: RowJobArgs,
}

impl MapArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let plan = Plan::new(context, &self.job.common, self.output)?;
        let session = Session::open(context).await?;
        // The table, which may be a temporary file, lives until the job has ended.
        let (spec, _table) = self.job.spec(&session, plan.rows()).await?;
        plan.run(&session, spec, &self.job.common.job).await
    }
}

impl MapJob {
    /// The job, its rows written in this form, and the table that it reads.
    pub(crate) async fn spec(&self, session: &Session, format: RowFormat) -> Result<(JobSpec, Table), Failure> {
        let column = &self.common.rows.column;
        let table = Table::open(session, &self.input, column).await?;
        table.tell(session, self.input.verbose);
        let kind = JobKind::Map {
            formula: self.formula.clone(),
            condition: self.condition.clone(),
            name: column.clone(),
            schema: table.schema.clone(),
            input: table.hand_over(session).await?,
        };
        Ok((self.common.spec(kind, format)?, table))
    }
}
