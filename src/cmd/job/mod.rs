//! `quipu job`: jobs of a cluster.

mod print;

pub(crate) use print::print_list;

use crate::cmd::args::OutputArgs;
use crate::cmd::patience::Patience;
use crate::cmd::runner::{self, OnInterrupt};
use crate::cmd::select::{self, FilterArgs, Selector, Selectors, resolve, resolve_one};
use crate::cmd::{Context, Session};
use crate::failure::{Exit, Failure, sanitise};
use crate::output::Format;
use crate::output::destination::Destination;
use crate::output::encoder::for_rows;
use crate::output::reductions::for_reductions;
use clap::{Args, Subcommand};
use futures_util::StreamExt;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobQuery, JobState, JobView};
use quipu_shared::spec::ResultFormat;
use std::io::{self, Write};

/// List, watch and end jobs of a cluster
///
/// A JOB is a number (17), a range (3-9), last, last:5 for the newest five, all, or a list of these (3,7-9,last).
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  quipu job list --state queued,running --newest -n 20
  quipu job wait last && quipu job result last -o result.csv
  quipu job explain 17
  quipu job cancel all --label team=pricing
  quipu job retry 100-200 --state failed
  quipu job forget all --state succeeded")]
pub(crate) enum JobCommand {
    /// List jobs, oldest first
    List(ListArgs),
    /// Show everything about a job
    Show(ShowArgs),
    /// Wait for the ends of jobs; the exit code is that of the worst
    ///
    /// The worst is the one with the greatest exit code.
    Wait(SelectArgs),
    /// Print a job's result, waiting for it where it is not there yet
    Result(ResultArgs),
    /// Say why a job stands where it stands
    Explain {
        /// The job
        #[arg(value_name = "JOB", value_parser = select::selectors)]
        job: Selectors,
    },
    /// Cancel jobs; one that has ended stays as it is
    ///
    /// Ranges, last and all mean jobs that have not ended, unless --state says which.
    Cancel(SelectArgs),
    /// Submit ended jobs again, as new ones, and print their numbers
    ///
    /// Ranges, last and all mean jobs that failed or were cancelled, unless --state says which.
    Retry(SelectArgs),
    /// Forget ended jobs and their results
    ///
    /// Ranges, last and all mean jobs that have ended, unless --state says which.
    Forget(SelectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only jobs that come after this one in the list
    #[arg(long, value_name = "JOB")]
    after: Option<u64>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Newest first
    #[arg(long)]
    newest: bool,
    /// Form of the output: table, json, ndjson or csv
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The job
    #[arg(value_name = "JOB", value_parser = select::selectors)]
    job: Selectors,
    /// Form of the output: table or json
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    /// The job
    #[arg(value_name = "JOB", value_parser = select::selectors)]
    job: Selectors,
    #[command(flatten)]
    output: OutputArgs,
}

/// Some jobs.
#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    /// Jobs: 17, 3-9, last, last:5, all, or lists of these
    #[arg(required = true, value_name = "JOB", value_parser = select::selectors)]
    jobs: Vec<Selectors>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl SelectArgs {
    /// The jobs: those that are named by their numbers, and others in `states` where none is asked for.
    async fn resolve(self, session: &Session, states: &[JobState]) -> Result<Selected, Failure> {
        let several = self.jobs.iter().flat_map(|s| s.iter()).any(|s| !matches!(s, Selector::One(_)));
        let filter = if several { self.filter.or_states(states) } else { self.filter };
        let jobs = resolve(session, &self.jobs, &filter).await?;
        Ok(Selected { several: several || jobs.len() > 1, jobs })
    }
}

/// Jobs that something is done with.
struct Selected {
    jobs: Vec<JobId>,
    /// Whether the user is told how many they were.
    several: bool,
}

const UNENDED: [JobState; 4] = [JobState::Scheduled, JobState::Waiting, JobState::Queued, JobState::Running];
const ENDED: [JobState; 3] = [JobState::Succeeded, JobState::Failed, JobState::Cancelled];
const UNDONE: [JobState; 2] = [JobState::Failed, JobState::Cancelled];

impl JobCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.require_cluster()?;
        let session = Session::open(context).await?;
        self.run_in(&session).await
    }

    async fn run_in(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(args) => list(session, &args).await,
            Self::Show(args) => {
                let job = session.service.job(resolve_one(session, &args.job).await?).await?;
                print::job(args.format, &job, &mut io::stdout().lock())
                    .map_err(|error| Failure::write(&error, &"standard output"))
            }
            Self::Wait(args) => {
                let jobs = args.resolve(session, &[]).await?.jobs;
                wait_all(session, &jobs).await
            }
            Self::Result(args) => result(session, &args).await,
            Self::Explain { job } => {
                let lines = session.service.explain(resolve_one(session, &job).await?).await?;
                let text: String = lines.iter().map(|line| format!("{}\n", sanitise(line))).collect();
                write(&text)
            }
            Self::Cancel(args) => {
                let selected = args.resolve(session, &UNENDED).await?;
                each(session, &selected, "cancelled", async |job| Ok(session.service.cancel(job).await?)).await
            }
            Self::Retry(args) => {
                let selected = args.resolve(session, &UNDONE).await?;
                let mut patience = Patience::new(session, false);
                let retry = async |job| {
                    let key = uuid::Uuid::new_v4().to_string();
                    let new = patience.call(async |service| service.retry(job, Some(key.clone())).await).await?;
                    write(&format!("{new}\n"))
                };
                each(session, &selected, "submitted again", retry).await
            }
            Self::Forget(args) => {
                let selected = args.resolve(session, &ENDED).await?;
                each(session, &selected, "forgotten", async |job| Ok(session.service.forget(job).await?)).await
            }
        }
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::write(&error, &"standard output"))
}

/// Does something with each job; one that it can't be done with does not stop the others.
async fn each(
    session: &Session,
    selected: &Selected,
    done: &str,
    mut act: impl AsyncFnMut(JobId) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut count, mut worst) = (0_u64, None);
    for &job in &selected.jobs {
        let acted = tokio::select! {
            biased;
            () = session.signals.first() => return Err(runner::interrupted()),
            acted = act(job) => acted,
        };
        match acted {
            Ok(()) => count += 1,
            Err(failure) => worsen(session, &mut worst, failure, selected.several.then_some(job)),
        }
    }
    if selected.several && !session.ui.quiet {
        session.ui.say(format_args!("{count} {} {done}", if count == 1 { "job" } else { "jobs" }));
    }
    worst.map_or(Ok(()), Err)
}

/// Keeps the failure with the greatest exit code. Where there are several jobs, each failure is told with its job.
fn worsen(session: &Session, worst: &mut Option<Failure>, failure: Failure, job: Option<JobId>) {
    let failure = match job {
        Some(job) => {
            if !failure.message.is_empty() {
                session.ui.say(format_args!("error: job {job}: {}", failure.message));
            }
            Failure::silent(failure.exit)
        }
        None => failure,
    };
    if worst.as_ref().is_none_or(|worst| (worst.exit as u8) < failure.exit as u8) {
        *worst = Some(failure);
    }
}

async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let query =
        JobQuery { after: args.after.map(JobId), newest_first: args.newest, ..args.filter.query(args.limit as usize)? };
    let jobs = select::list(session, query, |_| true).await?;
    print::jobs(args.format, &jobs, &mut io::stdout().lock())
        .map_err(|error| Failure::write(&error, &"standard output"))
}

/// Waits for the ends of all; the failure is that of the worst.
pub(crate) async fn wait_all(session: &Session, jobs: &[JobId]) -> Result<(), Failure> {
    let mut worst = None;
    for &job in jobs {
        match ended(&wait(session, job).await?) {
            Ok(()) => {}
            Err(failure) => worsen(session, &mut worst, failure, (jobs.len() > 1).then_some(job)),
        }
    }
    worst.map_or(Ok(()), Err)
}

/// Waits for a job's end; gives it as it is then.
async fn wait(session: &Session, id: JobId) -> Result<JobView, Failure> {
    let job = session.service.job(id).await?;
    if job.state.is_final() {
        return Ok(job);
    }
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
    match last {
        Some(view) if view.state.is_final() => Ok(view),
        _ => Ok(session.service.job(id).await?),
    }
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
    let id = resolve_one(session, &args.job).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::{FakeCluster, error, session};
    use quipu_shared::service::ErrorKind;
    use std::sync::Arc;

    fn some(text: &str) -> SelectArgs {
        SelectArgs { jobs: vec![select::selectors(text).unwrap()], filter: FilterArgs::default() }
    }

    /// Jobs 1 to 6: two succeeded, one failed, one cancelled, two running.
    fn cluster() -> Arc<FakeCluster> {
        let cluster = FakeCluster::with_jobs(6);
        cluster.change(3, |job| {
            job.state = JobState::Failed;
            job.error = Some(error(ErrorKind::Deadline, "too late"));
        });
        cluster.change(4, |job| job.state = JobState::Cancelled);
        cluster.change(5, |job| job.state = JobState::Running);
        cluster.change(6, |job| job.state = JobState::Running);
        Arc::new(cluster)
    }

    async fn run(command: JobCommand) -> (Vec<String>, Result<(), Exit>) {
        let cluster = cluster();
        let (_interrupt, session) = session(Arc::clone(&cluster));
        let result = command.run_in(&session).await.map_err(|failure| failure.exit);
        let done = cluster.done.lock().unwrap().clone();
        (done, result)
    }

    #[tokio::test]
    async fn all_means_those_that_it_can_be_done_with() {
        assert_eq!(run(JobCommand::Cancel(some("all"))).await, (vec!["cancel 5".into(), "cancel 6".into()], Ok(())));
        assert_eq!(run(JobCommand::Retry(some("1-6"))).await, (vec!["retry 3".into(), "retry 4".into()], Ok(())));
        let forgotten = ["forget 1", "forget 2", "forget 3", "forget 4"].map(String::from).to_vec();
        assert_eq!(run(JobCommand::Forget(some("all"))).await, (forgotten, Ok(())));
        let mut succeeded = some("all");
        succeeded.filter.states = vec![JobState::Succeeded];
        assert_eq!(run(JobCommand::Retry(succeeded)).await.0, ["retry 1", "retry 2"]);
    }

    #[tokio::test]
    async fn job_that_is_named_is_tried_and_the_others_go_on() {
        assert_eq!(run(JobCommand::Cancel(some("1"))).await, (vec!["cancel 1".into()], Ok(())));
        assert_eq!(run(JobCommand::Forget(some("5"))).await, (vec![], Err(Exit::Data)));
        assert_eq!(run(JobCommand::Retry(some("99"))).await, (vec![], Err(Exit::NoInput)));
        let (done, result) = run(JobCommand::Forget(some("1,5,99,2"))).await;
        assert_eq!((done, result), (vec!["forget 1".into(), "forget 2".into()], Err(Exit::NoInput)));
    }

    #[tokio::test]
    async fn worst_end_decides() {
        for (jobs, exit) in [
            ("1,2", Ok(())),
            ("1,3", Err(Exit::Deadline)),
            ("3,4,1", Err(Exit::Interrupted)),
            ("99", Err(Exit::NoInput)),
        ] {
            assert_eq!(run(JobCommand::Wait(some(jobs))).await.1, exit, "{jobs}");
        }
    }

    #[tokio::test]
    async fn commands_for_one_job_take_one() {
        let explain = |text: &str| JobCommand::Explain { job: select::selectors(text).unwrap() };
        assert_eq!(run(explain("last")).await.1, Ok(()));
        assert_eq!(run(explain("1-2")).await.1, Err(Exit::Usage));
        assert_eq!(run(explain("99")).await.1, Err(Exit::NoInput));
    }
}
