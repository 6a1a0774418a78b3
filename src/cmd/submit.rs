//! `quipu submit`: hands jobs over, and does not stay with them.

use crate::cmd::args::JobArgs;
use crate::cmd::eval::{Batch, EvalJob};
use crate::cmd::map::MapJob;
use crate::cmd::patience::Patience;
use crate::cmd::queue::QueueArgs;
use crate::cmd::runner::{self, Submission};
use crate::cmd::sample::SampleJob;
use crate::cmd::submit_many::{self, BatchArgs};
use crate::cmd::sweep::SweepJob;
use crate::cmd::{Context, Session, job, notes};
use crate::failure::{Exit, Failure};
use crate::output::eval::Item;
use clap::{Args, Subcommand, ValueEnum};
use quipu_shared::ids::JobId;
use quipu_shared::spec::{JobSpec, RowFormat};
use serde::Serialize;
use std::io::{self, Write};

/// Hand a job over to a cluster and return at once
///
/// Prints the job's number once the job is safe on the master's disk. What is computed, and how, is said as with the
/// commands of the same names; when it runs, with --after, --at, --after-job and --cron. The result stays with the
/// cluster: quipu job result prints it.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  quipu submit sweep 'math::exp(-x * x)' --over x=-6.0:6.0/10000000 --reduce mean
  quipu submit map 'price * qty' sales.csv --name nightly --label team=pricing --priority 5
  quipu submit eval '1 + 1' --after-job last --after 10m
  quipu submit sample 'x' -n 1000 --draw 'x=uniform(0,1)' --cron '30 6 * * MON-FRI' --tz Europe/Paris
  quipu submit eval -f formulas.txt --each
  quipu submit batch jobs.ndjson")]
pub(crate) enum SubmitCommand {
    /// Evaluate formulas
    Eval(EvalSubmit),
    /// Compute a formula for each row of a table
    Map(RowsSubmit<MapJob>),
    /// Compute a formula for each point of a grid
    Sweep(RowsSubmit<SweepJob>),
    /// Compute a formula for many random draws
    Sample(RowsSubmit<SampleJob>),
    /// Submit jobs from a file, a JSON document a line
    Batch(BatchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EvalSubmit {
    #[command(flatten)]
    job: EvalJob,

    /// Make each formula a job of its own
    ///
    /// Prints a number a line, and an empty line for a formula that is refused.
    #[arg(long, conflicts_with_all = ["cron", "wait"], help_heading = "Answer")]
    each: bool,

    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    answer: AnswerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RowsSubmit<J: Args> {
    #[command(flatten)]
    job: J,

    /// Form in which the job keeps its rows; without meaning where they are reduced
    #[arg(long, value_name = "FORM", default_value = "csv", help_heading = "Answer")]
    rows_as: RowsForm,

    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// [`RowFormat`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RowsForm {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object a line
    Ndjson,
    /// The computed value alone, one a line
    Plain,
    /// Apache Parquet
    Parquet,
    /// Arrow IPC
    Arrow,
}

impl From<RowsForm> for RowFormat {
    fn from(form: RowsForm) -> Self {
        match form {
            RowsForm::Csv => Self::Csv,
            RowsForm::Ndjson => Self::Ndjson,
            RowsForm::Plain => Self::Plain,
            RowsForm::Parquet => Self::Parquet,
            RowsForm::Arrow => Self::Arrow,
        }
    }
}

/// What is said of what was submitted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answer")]
pub(crate) struct AnswerArgs {
    /// Wait for the job's end; the exit code is then that of the job
    #[arg(long, conflicts_with = "cron")]
    wait: bool,

    /// What to print: the number, or all about the job
    #[arg(short = 'O', long, value_name = "FORM", default_value = "plain")]
    format: AnswerForm,
}

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerForm {
    /// The number
    Plain,
    /// A JSON document; a line each where there are several
    Json,
}

impl SubmitCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        match self {
            Self::Eval(args) => args.run(context).await,
            Self::Batch(args) => args.run(context).await,
            Self::Sweep(args) => {
                args.job.common.check()?;
                args.queue.check()?;
                let spec = args.job.spec(args.rows_as.into())?;
                let session = Session::open(context).await?;
                submit_one(&session, spec, &args.job.common.job, &args.queue, &args.answer).await
            }
            Self::Sample(args) => {
                args.job.common.check()?;
                args.queue.check()?;
                let spec = args.job.spec(args.rows_as.into())?;
                let session = Session::open(context).await?;
                submit_one(&session, spec, &args.job.common.job, &args.queue, &args.answer).await
            }
            Self::Map(args) => {
                args.job.common.check()?;
                args.queue.check()?;
                let session = Session::open(context).await?;
                let (spec, _table) = args.job.spec(&session, args.rows_as.into()).await?;
                submit_one(&session, spec, &args.job.common.job, &args.queue, &args.answer).await
            }
        }
    }
}

impl EvalSubmit {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        self.job.check()?;
        self.queue.check()?;
        let mut batch = self.job.batch()?;
        let session = Session::open(context).await?;
        let mut base = self.job.spec(Vec::new())?;
        if self.each {
            self.queue.complete(&session, &mut base.queue).await?;
            return submit_many::each(&session, &mut batch, &base, &self.job.job, self.answer.format).await;
        }
        let mut formulas = next_formulas(&session, &mut batch).await?;
        if formulas.is_empty() {
            return Err(Failure::new(Exit::NoInput, "there is no formula to submit"));
        }
        if self.queue.cron.is_some() {
            if !next_formulas(&session, &mut batch).await?.is_empty() {
                return Err(Failure::usage("there are too many formulas for one job, and so for --cron"));
            }
            return submit_one(&session, self.job.spec(formulas)?, &self.job.job, &self.queue, &self.answer).await;
        }
        let mut jobs = Vec::new();
        while !formulas.is_empty() {
            let key = self.job.job.key(jobs.len() as u64 + 1);
            let job = submit(&session, self.job.spec(formulas)?, key, &self.job.job, &self.queue).await?;
            print_job(&session, job, self.answer.format).await?;
            jobs.push(job);
            formulas = next_formulas(&session, &mut batch).await?;
        }
        if self.answer.wait { job::wait_all(&session, &jobs).await } else { Ok(()) }
    }
}

/// The formulas of the next job; a line that can't be read is no part of a job that nobody watches.
async fn next_formulas(session: &Session, batch: &mut Batch) -> Result<Vec<String>, Failure> {
    let items = tokio::select! {
        biased;
        () = session.signals.first() => return Err(runner::interrupted()),
        items = batch.next() => items?,
    };
    let readable = |item| match item {
        Item::Formula(text) => Ok(text),
        Item::Unreadable(error) => {
            Err(Failure::new(Exit::Data, format!("a formula can't be read: {} ({})", error.message, error.code)))
        }
    };
    items.into_iter().map(readable).collect()
}

/// Submits a job or its schedule, and says what became of it.
async fn submit_one(
    session: &Session,
    spec: JobSpec,
    args: &JobArgs,
    queue: &QueueArgs,
    answer: &AnswerArgs,
) -> Result<(), Failure> {
    let spec = match queue.schedule(spec)? {
        Err(spec) => *spec,
        Ok(mut schedule) => {
            queue.complete(session, &mut schedule.job.queue).await?;
            let key = args.key(1);
            let mut patience = Patience::new(session, args.no_wait);
            let view =
                patience.call(async |service| service.add_schedule(schedule.clone(), Some(key.clone())).await).await?;
            return print(answer.format, &view.id.to_string(), &view);
        }
    };
    let job = submit(session, spec, args.key(1), args, queue).await?;
    print_job(session, job, answer.format).await?;
    if answer.wait { job::wait_all(session, &[job]).await } else { Ok(()) }
}

async fn submit(
    session: &Session,
    mut spec: JobSpec,
    key: String,
    args: &JobArgs,
    queue: &QueueArgs,
) -> Result<JobId, Failure> {
    queue.complete(session, &mut spec.queue).await?;
    if session.ui.takes_notes() {
        for note in notes::notes(&spec) {
            session.note(format_args!("note: {note}"));
        }
    }
    let submission = Submission { spec, key, no_wait: args.no_wait };
    Patience::new(session, submission.no_wait).submit(submission.request(session)).await
}

async fn print_job(session: &Session, job: JobId, form: AnswerForm) -> Result<(), Failure> {
    match form {
        AnswerForm::Plain => print(form, &job.to_string(), &()),
        AnswerForm::Json => print(form, "", &session.service.job(job).await?),
    }
}

fn print(form: AnswerForm, plain: &str, whole: &impl Serialize) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = match form {
        AnswerForm::Plain => writeln!(out, "{plain}"),
        AnswerForm::Json => {
            serde_json::to_writer(&mut out, whole).map_err(io::Error::from).and_then(|()| writeln!(out))
        }
    };
    written.and_then(|()| out.flush()).map_err(|error| Failure::write(&error, &"standard output"))
}
