//! Runs one job to its end: submit, show progress, write results, cancel on Ctrl-C or when nobody reads them.

use crate::cmd::patience::Patience;
use crate::cmd::{Session, notes};
use crate::failure::{Exit, Failure};
use crate::output::destination::Destination;
use crate::output::encoder::Encoder;
use crate::output::progress::Progress;
use futures_util::StreamExt;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobService, JobView, ServiceError, SubmitRequest};
use quipu_shared::spec::JobSpec;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// A job that nobody will read is given this long to hear that it is cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an interrupted command waits for a master that is away, to cancel its job.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(3);

/// A job to be submitted.
pub(crate) struct Submission {
    /// The job.
    pub(crate) spec: JobSpec,
    /// Its idempotency key.
    pub(crate) key: String,
    /// Whether a busy cluster is a failure at once.
    pub(crate) no_wait: bool,
}

impl Submission {
    /// The request, in the trace of the command.
    pub(crate) fn request(self, session: &Session) -> SubmitRequest {
        let Self { spec, key, no_wait: _ } = self;
        SubmitRequest { spec, traceparent: Some(session.traceparent.clone()), idempotency_key: Some(key) }
    }
}

/// Submits a job, writes its results through `encoder` and returns the job as it ended.
pub(crate) async fn run(
    session: &Session,
    submission: Submission,
    encoder: &mut dyn Encoder,
    out: &mut Destination,
    progress: Progress,
) -> Result<JobView, Failure> {
    if session.ui.takes_notes() {
        for note in notes::notes(&submission.spec) {
            session.note(format_args!("note: {note}"));
        }
    }
    let mut patience = Patience::new(session, submission.no_wait);
    let job = patience.submit(submission.request(session)).await?;
    follow(session, job, encoder, out, progress, OnInterrupt::Cancel).await
}

/// What an interrupt, or a reader that has gone, does to the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// It was this command's job: it is cancelled.
    Cancel,
    /// It is somebody else's: it goes on.
    Leave,
}

/// Writes the results of a submitted job and returns it as it ended.
pub(crate) async fn follow(
    session: &Session,
    job: JobId,
    encoder: &mut dyn Encoder,
    out: &mut Destination,
    progress: Progress,
    on_interrupt: OnInterrupt,
) -> Result<JobView, Failure> {
    let service = &session.service;
    let shown = Shown::start(service, job, progress);
    let result = copy(session, job, encoder, out, on_interrupt).await;
    shown.stop().await;
    match result {
        Ok(()) => Ok(service.job(job).await?),
        Err(Trouble::Job(failure)) => Err(failure),
        Err(Trouble::Write(error)) => {
            // The job goes on for nobody; whether the service hears of it changes nothing for the user.
            if on_interrupt == OnInterrupt::Cancel {
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, service.cancel(job)).await;
            }
            Err(match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
                    Failure::new(Exit::Internal, format!("read results of job {job}: {error}"))
                }
                _ => out.failure(&error),
            })
        }
    }
}

enum Trouble {
    /// The job failed, or the service did.
    Job(Failure),
    /// Results could not be written.
    Write(io::Error),
}

async fn copy(
    session: &Session,
    job: JobId,
    encoder: &mut dyn Encoder,
    out: &mut Destination,
    on_interrupt: OnInterrupt,
) -> Result<(), Trouble> {
    let service = &session.service;
    let mut cancelled = false;
    let opened = tokio::select! {
        biased;
        () = session.signals.first() => {
            interrupt(session, job, on_interrupt).await?;
            return Err(Trouble::Job(interrupted()));
        }
        opened = service.results(job) => opened,
    };
    let mut results = opened.map_err(|error| Trouble::Job(error.into()))?;
    loop {
        let piece = tokio::select! {
            biased;
            () = session.signals.first(), if !cancelled => {
                interrupt(session, job, on_interrupt).await?;
                cancelled = true;
                continue;
            }
            piece = results.next() => piece,
        };
        match piece {
            // The job may have won the race, but the user has asked for no result.
            None | Some(Err(_)) if cancelled => return Err(Trouble::Job(interrupted())),
            Some(Ok(_)) if cancelled => {}
            Some(Ok(bytes)) => {
                encoder.push(&bytes, out).map_err(Trouble::Write)?;
                // Rows that a terminal or pipe waits for are not held back.
                if out.is_stdout() {
                    out.flush().map_err(Trouble::Write)?;
                }
            }
            Some(Err(error)) => return Err(Trouble::Job(error.into())),
            None => return encoder.finish(out).map_err(Trouble::Write),
        }
    }
}

/// Cancels the job of an interrupted command. An error where there is nothing more to wait for.
async fn interrupt(session: &Session, job: JobId, on_interrupt: OnInterrupt) -> Result<(), Trouble> {
    if on_interrupt == OnInterrupt::Leave {
        return Err(Trouble::Job(interrupted()));
    }
    session.note(format_args!("cancelling job {job}; press Ctrl-C again to leave at once"));
    match tokio::time::timeout(INTERRUPT_TIMEOUT, session.service.cancel(job)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ServiceError { kind: ErrorKind::Unreachable, .. })) | Err(_) => {
            let message = format!("interrupted; the master does not answer, so job {job} is not cancelled and goes on");
            let failure = Failure::new(Exit::Interrupted, message);
            Err(Trouble::Job(failure.hint(format!("once the master is back: quipu job cancel {job}"))))
        }
        Ok(Err(_)) => Err(Trouble::Job(interrupted())),
    }
}

/// The failure of an interrupted command.
pub(crate) fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
}

/// Progress that follows the job in a task of its own, so that slow readers don't freeze it.
struct Shown(Option<tokio::task::JoinHandle<()>>);

impl Shown {
    fn start(service: &Arc<dyn JobService>, job: JobId, progress: Progress) -> Self {
        if !progress.is_on() {
            return Self(None);
        }
        let service = Arc::clone(service);
        Self(Some(tokio::spawn(async move {
            /// Takes the bar away even where the task is aborted.
            struct Cleared(Progress);
            impl Drop for Cleared {
                fn drop(&mut self) {
                    self.0.clear();
                }
            }
            let mut shown = Cleared(progress);
            // Without a watch the job still runs; there is only nothing to show.
            if let Ok(mut views) = service.watch(job).await {
                while let Some(view) = views.next().await {
                    shown.0.update(&view);
                }
            }
        })))
    }

    async fn stop(self) {
        if let Some(task) = self.0 {
            task.abort();
            // The bar is gone once the task is; what is printed next stands on a clean line.
            let _ = task.await;
        }
    }
}

/// Rows that failed although the job did not: what to say and how to end.
pub(crate) fn failed_rows(job: &JobView) -> Result<(), Failure> {
    if job.rows_failed == 0 {
        return Ok(());
    }
    let total = job.rows_total.unwrap_or(job.rows_done);
    let mut message = format!("{} of {total} rows failed", job.rows_failed);
    if let Some(first) = job.row_errors.first() {
        message.push_str(&format!("; first: row {}: {} ({})", first.row, first.message, first.code));
    }
    for error in job.row_errors.iter().skip(1) {
        message.push_str(&format!("\n  row {}: {} ({})", error.row, error.message, error.code));
    }
    Err(Failure::new(Exit::Evaluation, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::{FakeCluster, error, session};
    use crate::output::Format;
    use crate::output::encoder::for_rows;
    use crate::output::progress::ProgressMode;
    use bytes::Bytes;
    use quipu_shared::spec::{Axis, AxisValues, JobKind, OnError, RowFormat, Scalar, SymbolPolicy};
    use std::path::Path;

    fn spec() -> JobSpec {
        let axes = vec![Axis { name: "x".into(), values: AxisValues::List(vec![Scalar::Int(1)]) }];
        JobSpec {
            kind: JobKind::Sweep { formula: "x".into(), name: "result".into(), axes },
            bindings: Vec::new(),
            symbols: SymbolPolicy::default(),
            on_error: OnError::Fail,
            reductions: Vec::new(),
            exact: false,
            format: RowFormat::Csv,
            deadline_ms: None,
            name: None,
            queue: Default::default(),
        }
    }

    fn submission() -> Submission {
        Submission { spec: spec(), key: "k".into(), no_wait: true }
    }

    fn off() -> Progress {
        Progress::new(ProgressMode::Never, true, false, false)
    }

    async fn run_into(session: &Session, path: &Path) -> Result<JobView, Failure> {
        let mut out = Destination::open(Some(path))?;
        let job = run(session, submission(), for_rows(Format::Csv).as_mut(), &mut out, off()).await?;
        out.commit()?;
        Ok(job)
    }

    fn rows(text: &'static str) -> Result<Bytes, ServiceError> {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn results_are_written_in_order_and_submitted_with_a_trace_and_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let cluster = Arc::new(FakeCluster::with(vec![rows("x,result\n"), rows("1,1\n")]));
        let (_interrupt, session) = session(Arc::clone(&cluster));
        run_into(&session, &path).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x,result\n1,1\n");
        let submitted = cluster.submitted.lock().unwrap();
        assert!(submitted[0].traceparent.as_deref().is_some_and(|t| t.len() == 55), "{submitted:?}");
        assert_eq!(submitted[0].idempotency_key.as_deref(), Some("k"));
        assert!(!cluster.was_cancelled());
    }

    #[tokio::test]
    async fn failed_job_leaves_old_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        std::fs::write(&path, "old").unwrap();
        let trouble = error(ErrorKind::Evaluation, "row 3 failed");
        let (_interrupt, session) = session(Arc::new(FakeCluster::with(vec![rows("x\n"), Err(trouble)])));
        let failure = run_into(&session, &path).await.unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Evaluation, "row 3 failed"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn refused_job_is_the_failure_of_its_kind() {
        for (kind, exit) in [
            (ErrorKind::Invalid, Exit::Data),
            (ErrorKind::Busy, Exit::TryAgain),
            (ErrorKind::Deadline, Exit::Deadline),
            (ErrorKind::Forbidden, Exit::NotAllowed),
            (ErrorKind::Unreachable, Exit::Unavailable),
        ] {
            let (_interrupt, session) = session(Arc::new(FakeCluster::refusing(error(kind, "no"))));
            let failure = run_into(&session, Path::new("/dev/null")).await.unwrap_err();
            assert_eq!(failure.exit, exit, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn interrupt_cancels_the_job_and_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let cluster = Arc::new(FakeCluster::endless(vec![rows("x,result\n")]));
        let (interrupt, session) = session(Arc::clone(&cluster));
        let streaming = Arc::clone(&cluster.streaming);
        let pressed = tokio::spawn(async move {
            while !streaming.load(std::sync::atomic::Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            interrupt.send_replace(true);
            interrupt
        });
        let failure = run_into(&session, &path).await.unwrap_err();
        pressed.await.unwrap();
        assert_eq!(failure.exit, Exit::Interrupted);
        assert!(cluster.was_cancelled());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn reader_that_has_gone_cancels_the_job() {
        struct Gone;
        impl Encoder for Gone {
            fn push(&mut self, _bytes: &[u8], _out: &mut dyn Write) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
                Ok(())
            }
        }
        let cluster = Arc::new(FakeCluster::endless(vec![rows("x\n")]));
        let (_interrupt, session) = session(Arc::clone(&cluster));
        let mut out = Destination::open(Some(Path::new("/dev/null"))).unwrap();
        let failure = run(&session, submission(), &mut Gone, &mut out, off()).await.unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::BrokenPipe, ""));
        assert!(cluster.was_cancelled());
    }

    #[tokio::test]
    async fn job_of_somebody_else_outlives_an_interrupt() {
        let cluster = Arc::new(FakeCluster::endless(Vec::new()));
        let (interrupt, session) = session(Arc::clone(&cluster));
        interrupt.send_replace(true);
        let mut out = Destination::open(Some(Path::new("/dev/null"))).unwrap();
        let mut encoder = for_rows(Format::Csv);
        let followed =
            follow(&session, JobId(1), encoder.as_mut(), &mut out, off(), OnInterrupt::Leave).await.unwrap_err();
        assert_eq!(followed.exit, Exit::Interrupted);
        assert!(!cluster.was_cancelled());
    }

    #[tokio::test]
    async fn failed_rows_are_counted_and_end_with_1() {
        let mut cluster = FakeCluster::with(Vec::new());
        cluster.rows_failed = 3;
        let (_interrupt, session) = session(Arc::new(cluster));
        let mut job = run_into(&session, Path::new("/dev/null")).await.unwrap();
        job.row_errors = (7..9)
            .map(|row| quipu_shared::block::RowError { row, code: "int_overflow".into(), message: "too large".into() })
            .collect();
        let failure = failed_rows(&job).unwrap_err();
        assert_eq!(failure.exit, Exit::Evaluation);
        assert_eq!(
            failure.message,
            "3 of 10 rows failed; first: row 7: too large (int_overflow)\n  row 8: too large (int_overflow)"
        );
    }
}
