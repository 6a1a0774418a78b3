//! Many jobs in one request: a line each, and one wait for the disk for all of them.

use super::body::{parse_json_line, read_body, require_media_type};
use super::guard::single;
use super::refusal::Refusal;
use super::{ApiState, callers};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quipu_shared::access::Caller;
use quipu_shared::api::{BatchLine, NDJSON_MEDIA_TYPE, TRACEPARENT_HEADER, check_idempotency_key, is_traceparent};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, ServiceError, SubmitRequest};
use std::io::Write;

/// Lines between which other requests get their turn: about a millisecond of parsing.
const LINES_BETWEEN_YIELDS: usize = 256;
/// What an answer with a job takes, about.
const ANSWER_BYTES: usize = 16;

/// Takes lines of requests; answers a line each, in their order. A line that can't be used fails alone.
pub(super) async fn submit(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    require_media_type(&headers, NDJSON_MEDIA_TYPE, "not_ndjson")?;
    let body = read_body(&api, &headers, body).await?;
    let max = api.live.get().batch_jobs_max;
    let count = lines(&body).count();
    if count > max {
        let message = format!("the batch has {count} jobs, more than {max} (limits.batch_jobs_max); split it");
        return Err(Refusal::new(ErrorKind::TooLarge, "batch_too_large", message));
    }
    let traceparent = single(&headers, &HeaderName::from_static(TRACEPARENT_HEADER))?;
    let traceparent = traceparent.filter(|text| is_traceparent(text)).map(str::to_owned);
    let mut requests = Vec::with_capacity(count);
    // Where there is a request, its answer will stand.
    let mut refused: Vec<Option<ServiceError>> = Vec::with_capacity(count);
    for (number, line) in lines(&body) {
        match parse(&caller, line, number) {
            Ok(mut request) => {
                request.traceparent = request.traceparent.or_else(|| traceparent.clone());
                requests.push(request);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
        if refused.len().is_multiple_of(LINES_BETWEEN_YIELDS) {
            tokio::task::yield_now().await;
        }
    }
    drop(body);
    let asked = requests.len();
    let mut answers = if asked == 0 { Vec::new() } else { api.service.submit_batch(requests).await? }.into_iter();
    if answers.len() != asked {
        let message = format!("{asked} jobs were handed over, and {} answers came", answers.len());
        return Err(Refusal::new(ErrorKind::Internal, "batch_answers", message));
    }
    let mut out = Vec::with_capacity(count * ANSWER_BYTES);
    for error in refused {
        match error.map_or_else(|| answers.next(), |error| Some(Err(error))) {
            Some(Ok(job)) => write_job(&mut out, job),
            Some(Err(error)) => write_error(&mut out, error)?,
            None => {}
        }
    }
    Ok((StatusCode::ACCEPTED, [(header::CONTENT_TYPE, NDJSON_MEDIA_TYPE)], out).into_response())
}

/// Lines that are not blank, with their numbers from 1.
fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = body.split(|b| *b == b'\n').enumerate();
    lines.map(|(index, line)| (index + 1, line.trim_ascii())).filter(|(_, line)| !line.is_empty())
}

fn parse(caller: &Caller, line: &[u8], number: usize) -> Result<SubmitRequest, ServiceError> {
    let mut request: SubmitRequest = parse_json_line(line, number).map_err(Refusal::into_error)?;
    callers::place(caller, &mut request.spec.queue.namespace).map_err(Refusal::into_error)?;
    if let Some(key) = &request.idempotency_key {
        check_idempotency_key(key)
            .map_err(|error| ServiceError { message: format!("line {number}: {}", error.message), ..error })?;
    }
    request.traceparent = request.traceparent.filter(|text| is_traceparent(text));
    Ok(request)
}

/// The same bytes as [`BatchLine`] would be, without its detour.
fn write_job(out: &mut Vec<u8>, job: JobId) {
    // A vector takes all that is written to it.
    let _ = writeln!(out, "{{\"job\":{job}}}");
}

fn write_error(out: &mut Vec<u8>, error: ServiceError) -> Result<(), Refusal> {
    serde_json::to_writer(&mut *out, &BatchLine::from(Err(error))).map_err(|error| {
        Refusal::new(ErrorKind::Internal, "batch_answers", format!("write the answer of a batch: {error}"))
    })?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BatchLine, JobId, lines, write_job};

    #[test]
    fn blank_lines_are_counted_and_left_out() {
        let found: Vec<_> = lines(b"{}\r\n\n  \n[]\n").collect();
        assert_eq!(found, [(1, &b"{}"[..]), (4, b"[]")]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"x").count(), 1);
    }

    #[test]
    fn jobs_are_written_as_the_api_says() {
        let mut out = Vec::new();
        write_job(&mut out, JobId(17));
        let expected = serde_json::to_string(&BatchLine::from(Ok(JobId(17)))).unwrap() + "\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
