//! Many jobs at once: cut into requests that a master takes, each sent again exactly as it was.

use super::{Busy, HttpClient, chosen, fault};
use bytes::Bytes;
use quipu_shared::api::{BATCH_PATH, BatchLine, NDJSON_MEDIA_TYPE};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, ServiceError, SubmitRequest};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

/// Jobs of one request: half of what a master takes by default.
const REQUEST_JOBS_MAX: usize = 5_000;
/// Bytes of one request: half of what a master takes by default. A single job may be larger.
const REQUEST_BYTES_MAX: usize = 8 << 20;

type Answers = Vec<Result<JobId, ServiceError>>;

/// Submits in requests one after the other, so that jobs are numbered as they are given. Where one fails as a whole, so
/// does each job of it and of what follows: what was accepted before is still told.
pub(super) async fn submit(client: &HttpClient, mut requests: Vec<SubmitRequest>) -> Result<Answers, ServiceError> {
    let mut answers = Vec::with_capacity(requests.len());
    let (mut left, mut body, mut jobs) = (requests.len(), Vec::new(), 0);
    // With its key in place before the first try, a request that is sent again makes no second job.
    for request in &mut requests {
        request.idempotency_key = Some(chosen(request.idempotency_key.take())?);
        client.place(&mut request.spec.queue.namespace);
    }
    for request in requests {
        let before = body.len();
        write(&mut body, &request)?;
        if jobs > 0 && (jobs == REQUEST_JOBS_MAX || body.len() > REQUEST_BYTES_MAX) {
            let next = body.split_off(before);
            if let Err(error) = send(client, std::mem::replace(&mut body, next), jobs, &mut answers).await {
                return told(answers, left, error);
            }
            left -= jobs;
            jobs = 0;
        }
        jobs += 1;
    }
    if jobs > 0
        && let Err(error) = send(client, body, jobs, &mut answers).await
    {
        return told(answers, left, error);
    }
    Ok(answers)
}

/// Accepted jobs must not be lost with an error that came after them.
fn told(mut answers: Answers, left: usize, error: ServiceError) -> Result<Answers, ServiceError> {
    if answers.is_empty() {
        return Err(error);
    }
    answers.extend(std::iter::repeat_n(Err(error), left));
    Ok(answers)
}

fn write(body: &mut Vec<u8>, request: &SubmitRequest) -> Result<(), ServiceError> {
    serde_json::to_writer(&mut *body, request)
        .map_err(|error| fault(ErrorKind::Internal, "bad_spec", format!("write the job's spec: {error}")))?;
    body.push(b'\n');
    Ok(())
}

async fn send(client: &HttpClient, body: Vec<u8>, jobs: usize, answers: &mut Answers) -> Result<(), ServiceError> {
    let body = Bytes::from(body);
    let make = || {
        let request = client.request(Method::POST, BATCH_PATH);
        request.header(CONTENT_TYPE, NDJSON_MEDIA_TYPE).body(body.clone())
    };
    let answer = client.ask_bytes(make, Busy::Tell).await?;
    let bad = |problem: &str| {
        let message = format!("read the answer of {}: {problem}; is it a Quipu master of this version?", client.base);
        fault(ErrorKind::Internal, "bad_answer", message)
    };
    let mut read = Vec::with_capacity(jobs);
    for line in answer.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let line: BatchLine = serde_json::from_slice(line).map_err(|error| bad(&error.to_string()))?;
        read.push(line.into_result().ok_or_else(|| bad("a line has neither a job nor an error"))?);
    }
    if read.len() != jobs {
        return Err(bad(&format!("{} lines for {jobs} jobs", read.len())));
    }
    answers.extend(read);
    Ok(())
}
