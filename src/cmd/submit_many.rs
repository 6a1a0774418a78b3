//! Many jobs at once: a formula each, or a JSON document each.

use crate::cmd::args::JobArgs;
use crate::cmd::eval::Batch;
use crate::cmd::patience::Patience;
use crate::cmd::submit::AnswerForm;
use crate::cmd::{Context, Session, parse};
use crate::failure::{Exit, Failure};
use crate::output::eval::Item;
use crate::output::progress::rate;
use clap::Args;
use quipu_shared::api::BatchLine;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, ServiceError, SubmitRequest};
use quipu_shared::spec::{JobKind, JobSpec};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Jobs that are handed over at once: two requests of the client.
const JOBS_AT_ONCE: usize = 10_000;
/// Bytes of lines that are read before they are handed over.
const BYTES_AT_ONCE: usize = 16 << 20;
/// A longer line is no job.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Refused jobs that are told of one by one; `-O ndjson` has them all.
const REFUSALS_TOLD_MAX: u64 = 10;
/// Lines of progress are this far apart.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Submit jobs from a file, a JSON document a line
///
/// A line is what POST /v1/jobs:batch takes: {\"spec\":{..},\"idempotency_key\":\"..\"}, its spec as POST /v1/jobs takes it.
/// Prints a job's number for each line that is not blank, and an empty line for one that is refused.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu submit batch jobs.ndjson
  printf '%s\\n' '{\"spec\":{\"kind\":{\"eval\":{\"formulas\":[\"1 + 1\"]}}}}' | quipu submit batch -
  quipu submit batch jobs.ndjson --idempotency-key 2026-12-01")]
pub(crate) struct BatchArgs {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Key of the whole file: the job of line N has -N behind it, unless it brings its own
    ///
    /// The same file can then be submitted again after an interruption, and no job is made twice.
    #[arg(long, value_name = "KEY", value_parser = parse::idempotency_key)]
    idempotency_key: Option<String>,

    /// Don't wait for a place where the cluster has too many jobs (exit code 75)
    #[arg(long)]
    no_wait: bool,

    /// What to print: numbers, or the answer to each line
    #[arg(short = 'O', long, value_name = "FORM", default_value = "plain")]
    format: AnswerForm,
}

impl BatchArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (mut lines, name): (Box<dyn BufRead + Send>, String) = if self.file == Path::new("-") {
            (Box::new(BufReader::new(io::stdin())), "standard input".into())
        } else {
            let name = self.file.display().to_string();
            let file = File::open(&self.file).map_err(|error| Failure::read(&error, &name))?;
            (Box::new(BufReader::with_capacity(1 << 18, file)), name)
        };
        let session = Session::open(context).await?;
        let mut many = Many::new(&session, self.no_wait, self.format);
        let mut number = 0;
        loop {
            // Standard input may keep a thread waiting for as long as it likes.
            let first = number;
            let read = tokio::task::spawn_blocking(move || (read_lines(&mut lines, first), lines));
            let read = tokio::select! {
                biased;
                () = session.signals.first() => return Err(crate::cmd::runner::interrupted()),
                read = read => read,
            };
            let (read, rest) = read.map_err(|error| Failure::new(Exit::Internal, format!("read {name}: {error}")))?;
            lines = rest;
            let read = read.map_err(|error| Failure::read(&error, &name))?;
            number = read.next;
            if read.jobs.is_empty() {
                break;
            }
            let requests = read.jobs.into_iter().map(|(line, job)| {
                let mut request = job?;
                if let (None, Some(key)) = (&request.idempotency_key, &self.idempotency_key) {
                    request.idempotency_key = Some(format!("{key}-{line}"));
                }
                Ok(request)
            });
            many.submit(requests.collect()).await?;
        }
        many.finish()
    }
}

/// Lines that were read, with their numbers from 1; blank ones are left out.
struct Lines {
    jobs: Vec<(u64, Result<SubmitRequest, ServiceError>)>,
    /// The number of the last one.
    next: u64,
}

fn read_lines(lines: &mut dyn BufRead, mut number: u64) -> io::Result<Lines> {
    let (mut jobs, mut bytes, mut line) = (Vec::new(), 0, Vec::new());
    while jobs.len() < JOBS_AT_ONCE && bytes < BYTES_AT_ONCE {
        line.clear();
        let read = (&mut *lines).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        number += 1;
        bytes += read;
        if read > LINE_BYTES_MAX {
            let message = format!("line {number} is longer than {LINE_BYTES_MAX} bytes; write one job a line");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if !line.trim_ascii().is_empty() {
            let bad = |error: serde_json::Error| refusal("bad_json", place(number, &error));
            jobs.push((number, serde_json::from_slice(&line).map_err(bad)));
        }
    }
    Ok(Lines { jobs, next: number })
}

/// What is wrong with a line of JSON, and where: the parser counts lines from this one.
fn place(number: u64, error: &serde_json::Error) -> String {
    let (text, column) = (error.to_string(), error.column());
    let problem = text.strip_suffix(&format!(" at line {} column {column}", error.line())).unwrap_or(&text);
    format!("line {number}, column {column}: {problem}")
}

fn refusal(code: &str, message: String) -> ServiceError {
    ServiceError { kind: ErrorKind::Invalid, code: code.into(), message, place: None, retry_after_s: None }
}

/// Submits each formula as a job like `base`.
pub(crate) async fn each(
    session: &Session,
    batch: &mut Batch,
    base: &JobSpec,
    args: &JobArgs,
    form: AnswerForm,
) -> Result<(), Failure> {
    let mut many = Many::new(session, args.no_wait, form);
    let mut number = 0;
    loop {
        let items = tokio::select! {
            biased;
            () = session.signals.first() => return Err(crate::cmd::runner::interrupted()),
            items = batch.next() => items?,
        };
        if items.is_empty() {
            break;
        }
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let requests = items.by_ref().take(JOBS_AT_ONCE).map(|item| {
                number += 1;
                match item {
                    Item::Unreadable(error) => Err(refusal(&error.code, error.message)),
                    Item::Formula(formula) => {
                        let kind = JobKind::Eval { formulas: vec![formula] };
                        let spec = JobSpec { kind, ..base.clone() };
                        Ok(SubmitRequest { spec, traceparent: None, idempotency_key: Some(args.key(number)) })
                    }
                }
            });
            many.submit(requests.collect()).await?;
        }
    }
    many.finish()
}

/// Submits pieces of a long list, prints what became of each, and remembers the worst.
struct Many<'a> {
    session: &'a Session,
    patience: Patience<'a>,
    form: AnswerForm,
    accepted: u64,
    refused: u64,
    worst: Option<Failure>,
    begun: Instant,
    told: Instant,
}

impl<'a> Many<'a> {
    fn new(session: &'a Session, no_wait: bool, form: AnswerForm) -> Self {
        let (patience, now) = (Patience::new(session, no_wait), Instant::now());
        Self { session, patience, form, accepted: 0, refused: 0, worst: None, begun: now, told: now }
    }

    async fn submit(&mut self, jobs: Vec<Result<SubmitRequest, ServiceError>>) -> Result<(), Failure> {
        let mut requests = Vec::with_capacity(jobs.len());
        let mut refused = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Ok(mut request) => {
                    // Kept over all tries.
                    request.idempotency_key.get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
                    request.traceparent.get_or_insert_with(|| self.session.traceparent.clone());
                    requests.push(request);
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        let mut answers = match requests.is_empty() {
            true => Vec::new().into_iter(),
            false => self.patience.submit_batch(requests).await?.into_iter(),
        };
        let mut out = Vec::new();
        for error in refused {
            let answer = match error {
                Some(error) => Err(error),
                None => match answers.next() {
                    Some(answer) => answer,
                    None => return Err(Failure::new(Exit::Internal, "the cluster answered too few jobs of a batch")),
                },
            };
            self.take(answer, &mut out).map_err(|error| Failure::write(&error, &"standard output"))?;
        }
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(&out)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::write(&error, &"standard output"))?;
        self.progress();
        Ok(())
    }

    fn take(&mut self, answer: Result<JobId, ServiceError>, out: &mut Vec<u8>) -> io::Result<()> {
        match self.form {
            AnswerForm::Json => {
                serde_json::to_writer(&mut *out, &BatchLine::from(answer.clone()))?;
                out.push(b'\n');
            }
            AnswerForm::Plain => match &answer {
                Ok(job) => writeln!(out, "{job}")?,
                Err(_) => out.push(b'\n'),
            },
        }
        match answer {
            Ok(_) => self.accepted += 1,
            Err(error) => {
                self.refused += 1;
                let number = self.accepted + self.refused;
                let failure = Failure::from(error);
                if self.form == AnswerForm::Plain && self.refused <= REFUSALS_TOLD_MAX {
                    self.session.ui.say(format_args!("error: job {number} of the input: {}", failure.message));
                }
                if self.worst.as_ref().is_none_or(|worst| (worst.exit as u8) < failure.exit as u8) {
                    self.worst = Some(failure);
                }
            }
        }
        Ok(())
    }

    fn progress(&mut self) {
        if self.told.elapsed() >= PROGRESS_EVERY && !self.session.ui.quiet {
            self.told = Instant::now();
            self.session.ui.say(format_args!("progress: {} jobs submitted, {}/s", self.accepted, self.per_s()));
        }
    }

    fn per_s(&self) -> String {
        rate(self.accepted as f64 / self.begun.elapsed().as_secs_f64().max(1e-3))
    }

    fn finish(self) -> Result<(), Failure> {
        self.session.note(format_args!("{} jobs submitted, {}/s", self.accepted, self.per_s()));
        match self.worst {
            None if self.accepted == 0 => Err(Failure::new(Exit::NoInput, "there is no job to submit")),
            None => Ok(()),
            Some(worst) => {
                let message = format!("{} of {} jobs were refused", self.refused, self.accepted + self.refused);
                Err(Failure::new(worst.exit, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::{FakeCluster, session};
    use std::sync::Arc;

    const JOB: &str = r#"{"spec":{"kind":{"eval":{"formulas":["1"]}}}}"#;

    #[test]
    fn lines_are_read_in_pieces_with_their_numbers() {
        let text = format!("{JOB}\n\n \r\n{JOB}\r\nnonsense\n{JOB}");
        let mut reader = BufReader::with_capacity(3, text.as_bytes());
        let read = read_lines(&mut reader, 10).unwrap();
        let numbers: Vec<u64> = read.jobs.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers, read.next), (vec![11, 14, 15, 16], 16));
        let refused = read.jobs[2].1.as_ref().unwrap_err();
        assert_eq!(refused.message, "line 15, column 2: expected ident");
        assert!(read_lines(&mut reader, 16).unwrap().jobs.is_empty());
        let many = format!("{JOB}\n").repeat(JOBS_AT_ONCE + 1);
        let mut reader = many.as_bytes();
        assert_eq!(read_lines(&mut reader, 0).unwrap().jobs.len(), JOBS_AT_ONCE);
        assert_eq!(read_lines(&mut reader, 0).unwrap().jobs.len(), 1);
    }

    #[test]
    fn line_without_an_end_is_refused_and_not_kept() {
        let mut endless = BufReader::new(io::repeat(b'x'));
        let refused = read_lines(&mut endless, 0).err().unwrap();
        assert!(refused.to_string().contains("line 1 is longer"), "{refused}");
    }

    #[tokio::test]
    async fn every_job_has_a_key_and_the_worst_decides() {
        let cluster = Arc::new(FakeCluster::with_jobs(0));
        let (_interrupt, session) = session(Arc::clone(&cluster));
        let mut many = Many::new(&session, false, AnswerForm::Json);
        let good: SubmitRequest = serde_json::from_str(JOB).unwrap();
        let own = SubmitRequest { idempotency_key: Some("own".into()), ..good.clone() };
        many.submit(vec![Ok(good), Err(refusal("bad_json", "line 2".into())), Ok(own)]).await.unwrap();
        let submitted = cluster.submitted.lock().unwrap().clone();
        assert_eq!(submitted.len(), 2);
        assert!(submitted[0].idempotency_key.is_some() && submitted[0].traceparent.is_some());
        assert_eq!(submitted[1].idempotency_key.as_deref(), Some("own"));
        let failure = many.finish().unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Data, "1 of 3 jobs were refused"));
        assert_eq!(Many::new(&session, false, AnswerForm::Json).finish().unwrap_err().exit, Exit::NoInput);
    }
}
