//! Jobs: submit, list, show, cancel.

use super::guard::single;
use super::refusal::Refusal;
use super::{Api, ApiState};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use quipu_shared::api::{
    IDEMPOTENCY_KEY_HEADER, JOBS_PATH, JobPage, PAGE_JOBS_DEFAULT, PAGE_JOBS_MAX, TRACEPARENT_HEADER,
    check_idempotency_key, is_traceparent,
};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobQuery, SubmitRequest};
use quipu_shared::spec::JobSpec;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub(super) async fn submit(State(api): ApiState, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    require_json(&headers)?;
    let idempotency_key = single(&headers, &HeaderName::from_static(IDEMPOTENCY_KEY_HEADER))?;
    if let Some(key) = idempotency_key {
        check_idempotency_key(key)?;
    }
    let traceparent = single(&headers, &HeaderName::from_static(TRACEPARENT_HEADER))?.filter(|t| is_traceparent(t));
    let request = SubmitRequest {
        idempotency_key: idempotency_key.map(Into::into),
        traceparent: traceparent.map(Into::into),
        spec: parse_json::<JobSpec>(&read_body(&api, &headers, body).await?)?,
    };
    let job = api.service.submit(request).await?;
    let view = api.service.job(job).await?;
    let location = HeaderValue::try_from(format!("{JOBS_PATH}/{job}")).map_err(|error| {
        Refusal::new(ErrorKind::Internal, "bad_location", format!("name the place of job {job}: {error}"))
    })?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(view)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(api): ApiState,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<JobPage>, Refusal> {
    let bad = |message: String| Refusal::new(ErrorKind::Usage, "bad_query", message);
    let Query(ListQuery { after, limit }) =
        query.map_err(|rejection| bad(format!("the query takes `after` and `limit`: {}", rejection.body_text())))?;
    let limit = limit.unwrap_or(PAGE_JOBS_DEFAULT);
    if !(1..=PAGE_JOBS_MAX).contains(&limit) {
        return Err(bad(format!("limit {limit} is not between 1 and {PAGE_JOBS_MAX}")));
    }
    let jobs = api.service.jobs(JobQuery { after: after.map(JobId), limit, ..JobQuery::default() }).await?;
    let next = if jobs.len() < limit { None } else { jobs.last().map(|job| job.id) };
    Ok(Json(JobPage { jobs, next }))
}

pub(super) async fn show(State(api): ApiState, path: JobPath) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    if segment.contains(':') {
        let message = format!("{segment:?} is an action; it takes POST");
        let refusal = Refusal::new(ErrorKind::Usage, "method_not_allowed", message);
        let refusal = refusal.with_status(StatusCode::METHOD_NOT_ALLOWED);
        return Ok(([(header::ALLOW, HeaderValue::from_static("POST"))], refusal).into_response());
    }
    Ok(Json(api.service.job(parse_job(&segment)?).await?).into_response())
}

/// `POST /v1/jobs/{id}:cancel`.
pub(super) async fn act(State(api): ApiState, path: JobPath) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    match segment.split_once(':') {
        Some((job, "cancel")) => {
            let job = parse_job(job)?;
            api.service.cancel(job).await?;
            Ok((StatusCode::ACCEPTED, Json(api.service.job(job).await?)).into_response())
        }
        Some((_, action)) => {
            let message = format!("jobs have no action {action:?}; there is `cancel`");
            Err(Refusal::new(ErrorKind::NotFound, "no_such_action", message))
        }
        None => {
            let message = format!("a job takes GET; to cancel it, POST to {JOBS_PATH}/{segment}:cancel");
            let refusal = Refusal::new(ErrorKind::Usage, "method_not_allowed", message);
            let refusal = refusal.with_status(StatusCode::METHOD_NOT_ALLOWED);
            Ok(([(header::ALLOW, HeaderValue::from_static("GET"))], refusal).into_response())
        }
    }
}

/// The path segment that names a job.
pub(super) type JobPath = Result<Path<String>, PathRejection>;

pub(super) fn bad_path(rejection: PathRejection) -> Refusal {
    Refusal::new(ErrorKind::Usage, "bad_path", rejection.body_text())
}

pub(super) fn parse_job(text: &str) -> Result<JobId, Refusal> {
    // Only one spelling: no sign, no leading zeros.
    match text.parse::<u64>() {
        Ok(id) if id.to_string() == text => Ok(JobId(id)),
        _ => Err(Refusal::new(ErrorKind::Usage, "bad_job_id", format!("{text:?} is not a job id; they are numbers"))),
    }
}

/// Forms and plain text can be sent by any page without asking; JSON can't.
fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = single(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("the body's content type is {given:?}; send application/json");
    Err(Refusal::new(ErrorKind::Usage, "not_json", message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read_body(api: &Api, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let max = api.limits.request_bytes_max;
    let too_large =
        || Refusal::new(ErrorKind::TooLarge, "request_too_large", format!("the body is larger than {max} bytes"));
    if content_length(headers).is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max)) {
        return Err(too_large());
    }
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::new();
    loop {
        match timeout(api.limits.body_idle_timeout, pieces.next()).await {
            Err(_) => return Err(body_stalled(api)),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(error))) => return Err(body_broken(&error)),
            Ok(Some(Ok(piece))) if whole.len() + piece.len() > max => return Err(too_large()),
            Ok(Some(Ok(piece))) => whole.extend_from_slice(&piece),
        }
    }
}

pub(super) fn body_stalled(api: &Api) -> Refusal {
    let message = format!("no byte of the body came for {} ms", api.limits.body_idle_timeout.as_millis());
    Refusal::new(ErrorKind::Busy, "body_stalled", message).with_status(StatusCode::REQUEST_TIMEOUT)
}

pub(super) fn body_broken(error: &axum::Error) -> Refusal {
    Refusal::new(ErrorKind::Usage, "body_broken", format!("the body broke off: {error}"))
}

/// Parses a whole body; errors name line, column and field.
fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json);
    parsed
        .map_err(|error| bad_json(error.inner(), Some(error.path().to_string()).filter(|path| path != ".")))
        .and_then(|value| json.end().map(|()| value).map_err(|error| bad_json(&error, None)))
}

fn bad_json(error: &serde_json::Error, field: Option<String>) -> Refusal {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let field = field.map(|field| format!(", field `{field}`")).unwrap_or_default();
    let code = if error.is_data() { "bad_field" } else { "bad_json" };
    Refusal::new(ErrorKind::Usage, code, format!("body, line {line}, column {column}{field}: {what}"))
}
