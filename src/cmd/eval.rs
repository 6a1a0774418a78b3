//! `quipu eval`: a formula, or a batch of them.

use crate::cmd::args::{FormulaArgs, JobArgs, OutputArgs};
use crate::cmd::formulas::FormulaReader;
use crate::cmd::runner::{self, Submission};
use crate::cmd::{Context, Session, argv};
use crate::failure::{Exit, Failure};
use crate::output::Format;
use crate::output::destination::Destination;
use crate::output::encoder::{ByLine, Encoder};
use crate::output::eval::{EvalWriter, Item};
use clap::Args;
use quipu_shared::spec::{JobKind, JobSpec, OnError, RowFormat};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Evaluate a formula, or a batch of them
///
/// Prints one value a line, in input order. Each formula stands for itself: what one assigns, the next does not see. A
/// formula that fails leaves its line empty (plain) or has an error in its place (json, ndjson, csv), and the others
/// go on.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu eval '10 + 2 * 3'
  quipu eval 'math::sqrt(a*a + b*b)' -v a=3.0 -v b=4.0
  quipu eval -O ndjson -f formulas.txt
  printf '1 + 1\\n7 / 2\\n' | quipu eval -f -
  quipu eval -- '--x' -v x=3

With -O ndjson a line is {\"index\":0,\"type\":\"int\",\"value\":16} or
{\"index\":3,\"error\":{\"code\":\"..\",\"message\":\"..\",\"line\":1,\"column\":4}}.")]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    job: EvalJob,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is evaluated.
#[derive(Debug, Args)]
pub(crate) struct EvalJob {
    /// Formulas
    #[arg(value_name = "EXPR", required_unless_present = "file", conflicts_with = "file", value_parser = argv::formula)]
    formulas: Vec<String>,

    /// Read formulas from a file, one a line; - is standard input
    ///
    /// Blank lines are skipped and take no index.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    formula: FormulaArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

impl EvalArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let format = self.output.format_or(context, Format::Plain)?.for_text("values of formulas")?;
        self.job.check()?;
        let alone = self.job.formulas.len() == 1;
        let mut batch = self.job.batch()?;
        let session = Session::open(context).await?;
        let mut out = Destination::open(self.output.output.as_deref())?;
        session.signals.leftover(out.temporary());
        let mut writer = ByLine::new(EvalWriter::new(format, alone, Box::new(io::stderr()), context.ui.colour));
        let mut jobs = 0;
        let deadline = self.job.job.deadline().map(|time| Instant::now() + time);
        loop {
            let items = tokio::select! {
                biased;
                () = session.signals.first() => return Err(runner::interrupted()),
                items = batch.next() => items?,
            };
            if items.is_empty() {
                break;
            }
            let formulas: Vec<String> = items
                .iter()
                .filter_map(|item| match item {
                    Item::Formula(text) => Some(text.clone()),
                    Item::Unreadable(_) => None,
                })
                .collect();
            writer.inner_mut().expect(items);
            if formulas.is_empty() {
                // No line of these could be read; each has its error.
                writer.finish(&mut out).map_err(|error| out.failure(&error))?;
                continue;
            }
            let mut spec = self.job.spec(formulas)?;
            spec.deadline_ms = deadline.map(left_ms).transpose()?;
            jobs += 1;
            let submission = Submission { spec, key: self.job.job.key(jobs), no_wait: self.job.job.no_wait };
            let progress = context.ui.progress(out.is_stdout());
            runner::run(&session, submission, &mut writer, &mut out, progress).await?;
        }
        let mut writer = writer.into_inner();
        writer.end(&mut out).map_err(|error| out.failure(&error))?;
        out.commit()?;
        writer.verdict()
    }
}

impl EvalJob {
    /// Finds wrong options before anything is started.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.formula.bindings()?;
        self.job.queue().map(drop)
    }

    /// The formulas.
    pub(crate) fn batch(&self) -> Result<Batch, Failure> {
        Batch::open(self.formulas.clone(), self.file.as_deref())
    }

    /// A job of some of them.
    pub(crate) fn spec(&self, formulas: Vec<String>) -> Result<JobSpec, Failure> {
        Ok(JobSpec {
            kind: JobKind::Eval { formulas },
            bindings: self.formula.bindings()?,
            symbols: self.formula.symbols(),
            // Formulas fail one by one, and each has its own line for it.
            on_error: OnError::Null,
            reductions: Vec::new(),
            exact: false,
            format: RowFormat::Ndjson,
            deadline_ms: self.job.deadline_ms(),
            name: self.job.name(),
            queue: self.job.queue()?,
        })
    }
}

/// Time left of the command's deadline, which all of its jobs share.
fn left_ms(at: Instant) -> Result<u64, Failure> {
    let left = at.saturating_duration_since(Instant::now());
    match u64::try_from(left.as_millis()) {
        Ok(0) => Err(Failure::new(Exit::Deadline, "the deadline passed")),
        Ok(ms) => Ok(ms),
        Err(_) => Ok(u64::MAX),
    }
}

/// Where formulas come from.
pub(crate) enum Batch {
    /// The command line; taken once.
    Arguments(Vec<Item>),
    /// A file; `None` while it is being read.
    File { reader: Option<FormulaReader<Box<dyn BufRead + Send>>>, name: String },
}

impl Batch {
    fn open(formulas: Vec<String>, file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else {
            return Ok(Self::Arguments(formulas.into_iter().map(Item::Formula).collect()));
        };
        let (lines, name): (Box<dyn BufRead + Send>, String) = if path == Path::new("-") {
            (Box::new(BufReader::new(io::stdin())), "standard input".into())
        } else {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| Failure::read(&error, &name))?;
            (Box::new(BufReader::new(file)), name)
        };
        Ok(Self::File { reader: Some(FormulaReader::new(lines)), name })
    }

    /// The formulas of the next job; empty at the end.
    pub(crate) async fn next(&mut self) -> Result<Vec<Item>, Failure> {
        match self {
            Self::Arguments(items) => Ok(std::mem::take(items)),
            Self::File { reader, name } => {
                let Some(mut lines) = reader.take() else { return Ok(Vec::new()) };
                // Standard input may keep a thread waiting for as long as it likes.
                let read = tokio::task::spawn_blocking(move || (lines.next_job(), lines)).await;
                let (items, lines) =
                    read.map_err(|error| Failure::new(Exit::Internal, format!("read {name}: {error}")))?;
                *reader = Some(lines);
                items.map_err(|error| Failure::read(&error, name))
            }
        }
    }
}
