//! Options that several commands share.

use crate::cmd::{Context, parse};
use crate::failure::Failure;
use crate::output::Format;
use clap::{Args, ValueEnum};
use quipu_shared::spec::{
    ColumnType, FunctionSet, JobKind, JobSpec, OnError, QueueOptions, Reduction, RowFormat, Scalar, SymbolPolicy,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a formula sees.
#[derive(Debug, Args)]
#[command(next_help_heading = "Formula")]
pub(crate) struct FormulaArgs {
    /// Give a variable one value for all rows; repeats
    ///
    /// The value is a literal: 3, -0.5, true, "text", (1, 2).
    #[arg(short = 'v', long = "var", value_name = "NAME=VALUE", value_parser = parse::binding)]
    vars: Vec<(String, Scalar)>,

    /// Allow only these variables, and these types where given
    #[arg(long, value_name = "NAME[:TYPE],..", value_parser = parse::vars_only)]
    vars_only: Option<VarsOnly>,

    /// Allow only these functions
    #[arg(long, value_name = "SET", default_value = "all")]
    functions: FunctionsArg,
}

/// What a job is called, and how it stands among others.
#[derive(Debug, Args)]
#[command(next_help_heading = "Job")]
pub(crate) struct JobArgs {
    /// Give up after this time, such as 90s, 5m, 1h30m (exit code 124)
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    deadline: Option<Duration>,

    /// Name the job for `quipu job list`
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,

    /// Mark the job for selecting it; repeats
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse::label)]
    labels: Vec<(String, String)>,

    /// Serve the job before those of lower priority: -100 to 100
    #[arg(
        long, value_name = "N", default_value = "0", allow_negative_numbers = true, value_parser = parse::priority
    )]
    priority: i8,

    /// Never make a second job of this key: with the same command it is the same job, with another it is refused
    ///
    /// Without it, each command has a key of its own, which keeps a lost connection from making two jobs. Where a
    /// command makes several jobs, the second has -2 behind its key, and so on.
    #[arg(long, value_name = "KEY", value_parser = parse::idempotency_key)]
    idempotency_key: Option<String>,

    /// Don't wait for a place where the cluster has too many jobs (exit code 75)
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// The list of `--vars-only`, as one value for clap.
pub(crate) type VarsOnly = std::sync::Arc<[(String, Option<ColumnType>)]>;

/// [`FunctionSet`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FunctionsArg {
    /// No function
    None,
    /// math::*, min, max, floor, round, ceil, if, and bit operations
    Math,
    /// Every function
    All,
}

impl FormulaArgs {
    /// Variables with one value for all rows.
    pub(crate) fn bindings(&self) -> Result<Vec<(String, Scalar)>, Failure> {
        for (i, (name, _)) in self.vars.iter().enumerate() {
            if self.vars[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(Failure::usage(format!("variable {name} is given twice with -v")));
            }
        }
        Ok(self.vars.clone())
    }

    /// What a formula may name.
    pub(crate) fn symbols(&self) -> SymbolPolicy {
        SymbolPolicy {
            vars_only: self.vars_only.as_ref().map(|list| list.to_vec()),
            functions: match self.functions {
                FunctionsArg::None => FunctionSet::None,
                FunctionsArg::Math => FunctionSet::Math,
                FunctionsArg::All => FunctionSet::All,
            },
        }
    }
}

impl JobArgs {
    /// How long the job may run.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The same as the job's spec has it.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadline.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    /// The job's name.
    pub(crate) fn name(&self) -> Option<String> {
        self.name.clone()
    }

    /// Where the job stands among others.
    pub(crate) fn queue(&self) -> Result<QueueOptions, Failure> {
        Ok(QueueOptions { labels: parse::labels(&self.labels)?, priority: self.priority, ..QueueOptions::default() })
    }

    /// The key of the command's job of this number, from 1.
    pub(crate) fn key(&self, number: u64) -> String {
        match (&self.idempotency_key, number) {
            (None, _) => uuid::Uuid::new_v4().to_string(),
            (Some(key), 1) => key.clone(),
            (Some(key), _) => format!("{key}-{number}"),
        }
    }
}

/// What `map`, `sweep` and `sample` take beside where their rows come from.
#[derive(Debug, Args)]
pub(crate) struct RowJobArgs {
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    #[command(flatten)]
    formula: FormulaArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

impl RowJobArgs {
    /// Finds wrong options before anything is started.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.formula.bindings()?;
        self.job.queue().map(drop)
    }

    /// The job over these rows, which are written in this form.
    pub(crate) fn spec(&self, kind: JobKind, format: RowFormat) -> Result<JobSpec, Failure> {
        Ok(JobSpec {
            kind,
            bindings: self.formula.bindings()?,
            symbols: self.formula.symbols(),
            on_error: self.rows.on_error(),
            reductions: self.rows.reductions(),
            exact: self.rows.exact,
            format,
            deadline_ms: self.job.deadline_ms(),
            name: self.job.name(),
            queue: self.job.queue()?,
        })
    }
}

/// What becomes of rows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rows")]
pub(crate) struct RowArgs {
    /// Name the computed column
    #[arg(long = "as", value_name = "NAME", default_value = "result")]
    pub(crate) column: String,

    /// Reduce the rows in one pass: a list such as sum,mean,quantile(0.5); repeats
    ///
    /// count sum mean min max argmin argmax variance stddev any all
    /// histogram(LO,HI,BINS) quantile(P)
    #[arg(long, value_name = "LIST", value_parser = parse::reductions, verbatim_doc_comment)]
    reduce: Vec<Reductions>,

    /// Round sum, mean, variance and stddev once, from exact values
    ///
    /// Every element counts exactly, whatever cancels: for ill-conditioned data. Slower. The other reductions are exact
    /// anyway, but for quantile, which is refused.
    #[arg(long, requires = "reduce")]
    pub(crate) exact: bool,

    /// What a failed row does: fail the job, become null, or be left out
    ///
    /// With null and skip the output is complete, the failed rows are reported on standard error, and the exit code
    /// is 1 all the same.
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    on_error: OnErrorArg,
}

/// One `--reduce`, as one value for clap.
pub(crate) type Reductions = std::sync::Arc<[Reduction]>;

/// [`OnError`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnErrorArg {
    /// The job fails with the lowest failing row
    Fail,
    /// The row's value is null
    Null,
    /// The row is left out
    Skip,
}

impl RowArgs {
    /// All reductions in their order.
    pub(crate) fn reductions(&self) -> Vec<Reduction> {
        self.reduce.iter().flat_map(|list| list.iter().cloned()).collect()
    }

    /// What a failed row does.
    pub(crate) fn on_error(&self) -> OnError {
        match self.on_error {
            OnErrorArg::Fail => OnError::Fail,
            OnErrorArg::Null => OnError::Null,
            OnErrorArg::Skip => OnError::Skip,
        }
    }
}

/// Where output goes and in which form.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write to this file instead of standard output
    ///
    /// The file appears whole at the end, in the place of one that is there already; after a failure or Ctrl-C nothing
    /// has changed. `-` is standard output.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Form of the output
    ///
    /// Without it: by the ending of --output, or as client.output is configured; else plain for formulas, csv for rows, and for reductions table on a
    /// terminal and json elsewhere.
    #[arg(short = 'O', long, value_name = "FORM")]
    pub(crate) format: Option<Format>,
}

impl OutputArgs {
    /// The form to write: as asked for, by the file's ending, as configured, or `otherwise`.
    pub(crate) fn format_or(&self, context: &Context, otherwise: Format) -> Result<Format, Failure> {
        self.format_or_rendered(context.config().client.output.map_or(otherwise, Format::from))
    }

    /// The same for results that are there already, in the form `rendered`.
    pub(crate) fn format_or_rendered(&self, rendered: Format) -> Result<Format, Failure> {
        match (&self.format, self.file()) {
            (Some(format), _) => Ok(*format),
            (None, Some(path)) if is_ordinary(path) => Format::of_file(path),
            (None, _) => Ok(rendered),
        }
    }

    /// The file, if output does not go to standard output.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|p| *p != Path::new("-"))
    }
}

/// Whether the ending of this path means something: not that of a device or pipe.
fn is_ordinary(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |there| there.is_file())
}
