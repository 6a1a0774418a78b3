//! `quipu job`: jobs of a cluster.

use crate::cmd::args::OutputArgs;
use crate::cmd::runner::{self, OnInterrupt};
use crate::cmd::{Context, Session};
use crate::failure::{Exit, Failure, sanitise};
use crate::output::Format;
use crate::output::destination::Destination;
use crate::output::encoder::for_rows;
use crate::output::reductions::for_reductions;
use crate::output::table::Table;
use clap::{Args, Subcommand};
use futures_util::StreamExt;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobQuery, JobState, JobView};
use quipu_shared::spec::ResultFormat;
use std::io::{self, Write};

/// List, watch and end jobs of a cluster
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  quipu job list
  quipu job wait 17 && quipu job result 17 -o result.csv
  quipu job cancel 17")]
pub(crate) enum JobCommand {
    /// List jobs, oldest first
    List(ListArgs),
    /// Show everything about a job
    Show(ShowArgs),
    /// Cancel jobs; one that has ended stays as it is
    Cancel {
        /// Jobs, by number
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<u64>,
    },
    /// Wait for a job's end; the exit code is that of the job
    Wait {
        /// A job, by number
        #[arg(value_name = "JOB")]
        job: u64,
    },
    /// Print a job's result, waiting for it where it is not there yet
    Result(ResultArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only jobs with higher numbers
    #[arg(long, value_name = "JOB")]
    after: Option<u64>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Form of the output: table, json, ndjson or csv
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A job, by number
    #[arg(value_name = "JOB")]
    job: u64,
    /// Form of the output: table or json
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    /// A job, by number
    #[arg(value_name = "JOB")]
    job: u64,
    #[command(flatten)]
    output: OutputArgs,
}

impl JobCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        let session = Session::open(context).await?;
        match self {
            Self::List(args) => list(&session, &args).await,
            Self::Show(args) => show(&session, &args).await,
            Self::Cancel { jobs } => {
                for job in jobs {
                    session.service.cancel(JobId(job)).await?;
                }
                Ok(())
            }
            Self::Wait { job } => wait(&session, JobId(job)).await,
            Self::Result(args) => result(&session, &args).await,
        }
    }
}

/// Jobs that are asked for at once.
const PAGE: usize = 100;

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let (mut jobs, mut after) = (Vec::new(), args.after.map(JobId));
    let limit = args.limit as usize;
    while jobs.len() < limit {
        let page = session.service.jobs(JobQuery { after, limit: PAGE.min(limit - jobs.len()), ..JobQuery::default() }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        jobs.extend(page);
    }
    let mut out = io::stdout().lock();
    let header = ["job", "kind", "state", "rows", "failed", "seconds", "name"];
    print_list(args.format, &jobs, &header, list_cells, &mut out)
        .map_err(|error| Failure::write(&error, &"standard output"))
}

fn list_cells(job: &JobView) -> Vec<String> {
    let rows = match job.rows_total {
        Some(total) if job.state == JobState::Succeeded || total == job.rows_done => total.to_string(),
        Some(total) => format!("{} of {total}", job.rows_done),
        None => job.rows_done.to_string(),
    };
    vec![
        job.id.to_string(),
        job.kind.clone(),
        job.state.name().to_owned(),
        rows,
        job.rows_failed.to_string(),
        seconds(job.elapsed_ms),
        job.name.clone().unwrap_or_default(),
    ]
}

/// A list of things that are JSON objects for machines and rows for people.
pub(crate) fn print_list<T: serde::Serialize>(
    format: Format,
    things: &[T],
    header: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, things)?;
            writeln!(out)
        }
        Format::Ndjson => things.iter().try_for_each(|thing| {
            serde_json::to_writer(&mut *out, thing)?;
            writeln!(out)
        }),
        Format::Csv => {
            let line = |cells: Vec<String>| {
                cells.iter().map(|c| crate::output::reductions::csv_cell(c)).collect::<Vec<_>>().join(",")
            };
            writeln!(out, "{}", header.join(","))?;
            things.iter().try_for_each(|thing| writeln!(out, "{}", line(cells(thing))))
        }
        Format::Plain => things
            .iter()
            .try_for_each(|thing| writeln!(out, "{}", sanitise(cells(thing).first().map_or("", String::as_str)))),
        Format::Table => {
            let mut table = Table::new(header.iter().copied());
            for thing in things {
                table.row(cells(thing), out)?;
            }
            table.finish(out)
        }
        Format::Parquet | Format::Arrow => {
            Err(io::Error::other("a list is not written in columns; give -O json or csv"))
        }
    }
}

async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let job = session.service.job(JobId(args.job)).await?;
    let mut out = io::stdout().lock();
    print_job(args.format, &job, &mut out).map_err(|error| Failure::write(&error, &"standard output"))
}

fn print_job(format: Format, job: &JobView, out: &mut dyn Write) -> io::Result<()> {
    if format != Format::Table {
        let header = ["job", "kind", "state", "rows", "failed", "seconds", "name"];
        return if format == Format::Json {
            serde_json::to_writer_pretty(&mut *out, job)?;
            writeln!(out)
        } else {
            print_list(format, std::slice::from_ref(job), &header, list_cells, out)
        };
    }
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("kind", job.kind.clone()),
        ("name", job.name.clone().unwrap_or_default()),
        ("state", job.state.name().to_owned()),
        ("seconds", seconds(job.elapsed_ms)),
        ("rows", job.rows_total.map_or_else(|| "not known yet".into(), |n| n.to_string())),
        ("rows done", job.rows_done.to_string()),
        ("rows failed", job.rows_failed.to_string()),
        ("shards done", job.shards.done.to_string()),
        ("shards leased", job.shards.leased.to_string()),
        ("shards waiting", job.shards.queued.to_string()),
        ("attempts retried", job.shards.retried.to_string()),
        ("attempts speculative", job.shards.speculative.to_string()),
        ("trace", job.traceparent.clone().unwrap_or_default()),
    ];
    lines.extend(job.error.iter().map(|error| ("error", format!("{} ({})", error.message, error.code))));
    let row = |e: &quipu_shared::block::RowError| format!("row {}: {} ({})", e.row, e.message, e.code);
    lines.extend(job.row_errors.iter().map(|error| ("failed row", row(error))));
    for (name, value) in lines {
        writeln!(out, "{name:<21} {}", sanitise(&value))?;
    }
    Ok(())
}

async fn wait(session: &Session, id: JobId) -> Result<(), Failure> {
    let mut views = session.service.watch(id).await?;
    let mut progress = session.ui.progress(false);
    let mut last = None;
    loop {
        let view = tokio::select! {
            biased;
            // The job is not this command's: it goes on.
            () = session.signals.first() => {
                progress.clear();
                return Err(runner::interrupted());
            }
            view = views.next() => view,
        };
        let Some(view) = view else { break };
        progress.update(&view);
        last = Some(view);
    }
    progress.clear();
    let job = match last {
        Some(view) if view.state.is_final() => view,
        _ => session.service.job(id).await?,
    };
    ended(&job)
}

/// The exit code of a job that has ended.
fn ended(job: &JobView) -> Result<(), Failure> {
    match (job.state, &job.error) {
        (JobState::Succeeded, _) => runner::failed_rows(job),
        (JobState::Failed | JobState::Cancelled, Some(error)) => Err(error.clone().into()),
        (JobState::Cancelled, None) => Err(Failure::new(Exit::Interrupted, format!("job {} was cancelled", job.id))),
        (JobState::Failed, None) => Err(Failure::new(Exit::Internal, format!("job {} failed", job.id))),
        (JobState::Scheduled | JobState::Waiting | JobState::Queued | JobState::Running, _) => {
            Err(Failure::new(Exit::Unavailable, format!("the cluster stopped reporting job {}", job.id)))
        }
    }
}

async fn result(session: &Session, args: &ResultArgs) -> Result<(), Failure> {
    let id = JobId(args.job);
    let rendered = session.service.job(id).await?.format;
    let as_rendered = match rendered {
        ResultFormat::Csv => Format::Csv,
        ResultFormat::Ndjson => Format::Ndjson,
        ResultFormat::Plain => Format::Plain,
        ResultFormat::Json => Format::Json,
        ResultFormat::Parquet => Format::Parquet,
        ResultFormat::Arrow => Format::Arrow,
    };
    let format = args.output.format_or_rendered(as_rendered)?;
    let mut encoder = match rendered {
        ResultFormat::Json => for_reductions(format.for_text("reductions")?),
        _ if format == as_rendered
            || (rendered == ResultFormat::Ndjson
                && matches!(format, Format::Json | Format::Ndjson | Format::Table)) =>
        {
            for_rows(format)
        }
        _ => {
            return Err(Failure::usage(format!(
                "job {id} has its rows as {}; they can't be written as {}",
                form_name(as_rendered),
                form_name(format)
            ))
            .hint("rows as ndjson can be written as ndjson, json or table; other forms stay what they are"));
        }
    };
    let mut out = Destination::open(args.output.output.as_deref())?;
    session.signals.leftover(out.temporary());
    let progress = session.ui.progress(out.is_stdout());
    let job = runner::follow(session, id, encoder.as_mut(), &mut out, progress, OnInterrupt::Leave).await?;
    out.commit()?;
    runner::failed_rows(&job)
}

fn form_name(format: Format) -> String {
    use clap::ValueEnum;
    format.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
