//! Results that outlive their connection, and a restart of the master.

use super::failure::{fault, root_cause};
use super::{Busy, HttpClient};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use quipu_shared::api::JOBS_PATH;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobState, JobView, ServiceError};
use reqwest::Method;
use std::time::Instant;

/// How often to ask why results broke off while the job still seems to run.
const REASON_TRIES: u32 = 3;
/// Code of results that broke off though the job did not fail.
const INTERRUPTED: &str = "results_interrupted";

type Pieces = BoxStream<'static, reqwest::Result<Bytes>>;

/// A position in a job's results. They are the same bytes whenever they are asked for, so that a lost connection goes
/// on where it was.
struct Results {
    client: HttpClient,
    job: JobId,
    /// None once they have ended.
    pieces: Option<Pieces>,
    /// Bytes that were passed on.
    offset: u64,
    /// Since when none has come, and how often the connection was lost since.
    lost: Option<(Instant, u32)>,
}

/// The results from a byte on. What is wrong with the first connection is an error.
pub(super) async fn results(
    client: HttpClient,
    job: JobId,
    offset: u64,
) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, ServiceError> {
    let client = client.following();
    let pieces = Some(open(&client, job, offset).await?);
    let results = Results { client, job, pieces, offset, lost: None };
    let pieces = stream::unfold(results, |mut results| async {
        let piece = results.next().await?;
        Some((piece, results))
    });
    Ok(pieces.boxed())
}

async fn open(client: &HttpClient, job: JobId, offset: u64) -> Result<Pieces, ServiceError> {
    let path = match offset {
        0 => format!("{JOBS_PATH}/{job}/results"),
        _ => format!("{JOBS_PATH}/{job}/results?offset={offset}"),
    };
    let response = client.send(|| client.request(Method::GET, &path), Busy::Wait).await?;
    Ok(response.bytes_stream().boxed())
}

impl Results {
    async fn next(&mut self) -> Option<Result<Bytes, ServiceError>> {
        loop {
            let error = match self.pieces.as_mut()?.next().await {
                Some(Ok(piece)) => {
                    self.offset += piece.len() as u64;
                    self.lost = None;
                    return Some(Ok(piece));
                }
                Some(Err(error)) => error,
                None => {
                    self.pieces = None;
                    return None;
                }
            };
            self.pieces = None;
            match self.reopen(&error).await {
                Ok(pieces) => self.pieces = Some(pieces),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn reopen(&mut self, error: &reqwest::Error) -> Result<Pieces, ServiceError> {
        let (since, losses) = self.lost.map_or((Instant::now(), 1), |(since, losses)| (since, losses + 1));
        self.lost = Some((since, losses));
        let reason = self.why_broken(error).await;
        if reason.code != INTERRUPTED || since.elapsed() >= self.client.timeouts.restart_patience {
            return Err(reason);
        }
        tracing::debug!(job_id = %self.job, offset = self.offset, losses, error = %error, "results lost");
        self.client.back_off(losses).await;
        open(&self.client, self.job, self.offset).await
    }

    /// Why the results broke off with `error`.
    async fn why_broken(&mut self, error: &reqwest::Error) -> ServiceError {
        use quipu_shared::service::JobService;
        let job = self.job;
        for tries in 1..=REASON_TRIES {
            match self.client.job(job).await {
                Err(error) => return error,
                // A job that is tried again says why, and has not failed.
                Ok(JobView { error: Some(error), state, .. }) if state.is_final() || state == JobState::Running => {
                    return error;
                }
                Ok(JobView { state: JobState::Cancelled, .. }) => {
                    return fault(ErrorKind::Cancelled, "cancelled", format!("job {job} was cancelled"));
                }
                Ok(view) if view.state.is_final() => break,
                // The stream may end a moment before the job does.
                Ok(_) => self.client.back_off(tries).await,
            }
        }
        let cause = root_cause(error);
        let message =
            format!("the results of job {job} broke off ({cause}), but the job did not fail: ask for them again");
        fault(ErrorKind::Unreachable, INTERRUPTED, message)
    }
}
