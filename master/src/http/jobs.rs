//! Jobs: submit, list, show, cancel, retry, explain, forget.

use super::body::{parse_json, read_body, require_json};
use super::guard::single;
use super::refusal::Refusal;
use super::{ApiState, callers};
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use quipu_shared::access::Caller;
use quipu_shared::api::{
    BATCH_PATH, Explanation, IDEMPOTENCY_KEY_HEADER, JOBS_PATH, JobPage, NODES_PATH, PAGE_JOBS_DEFAULT, PAGE_JOBS_MAX,
    SCHEDULES_PATH, TRACEPARENT_HEADER, check_idempotency_key, is_traceparent,
};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobQuery, JobState, SubmitRequest};
use quipu_shared::spec::JobSpec;

/// What can be done to a job, behind its id and a colon.
const ACTIONS: [&str; 2] = ["cancel", "retry"];

/// Methods of one job or schedule.
pub(super) const OF_ONE: &str = "GET, HEAD, DELETE";

pub(super) async fn submit(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    require_json(&headers)?;
    let idempotency_key = idempotency_key(&headers)?;
    let traceparent = single(&headers, &HeaderName::from_static(TRACEPARENT_HEADER))?.filter(|t| is_traceparent(t));
    let mut spec: JobSpec = parse_json(&read_body(&api, &headers, body).await?)?;
    callers::place(&caller, &mut spec.queue.namespace)?;
    let request = SubmitRequest { idempotency_key, traceparent: traceparent.map(Into::into), spec };
    let job = api.service.submit(request).await?;
    accepted(&api, job).await
}

/// The key with which a client names its attempt.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let key = single(headers, &HeaderName::from_static(IDEMPOTENCY_KEY_HEADER))?;
    if let Some(key) = key {
        check_idempotency_key(key)?;
    }
    Ok(key.map(Into::into))
}

/// Says that a new job was accepted, and where it is.
async fn accepted(api: &super::Api, job: JobId) -> Result<Response, Refusal> {
    let view = api.service.job(job).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location(JOBS_PATH, job.0)?)], Json(view)).into_response())
}

/// The place of a thing, as a header has it.
pub(super) fn location(path: &str, id: u64) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(format!("{path}/{id}"))
        .map_err(|error| Refusal::new(ErrorKind::Internal, "bad_location", format!("name the place of {id}: {error}")))
}

/// The members of a query in their order; some may stand more than once.
pub(super) type ListQuery = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) async fn list(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    query: ListQuery,
) -> Result<Json<JobPage>, Refusal> {
    let Query(members) = query.map_err(|rejection| bad_query(rejection.body_text()))?;
    let mut query = parse_query(&members)?;
    match (&caller.namespace, &mut query.namespace) {
        (_, Some(asked)) => callers::place(&caller, asked)?,
        (own, asked) => *asked = own.clone(),
    }
    let limit = query.limit;
    let jobs = api.service.jobs(query).await?;
    let next = if jobs.len() < limit { None } else { jobs.last().map(|job| job.id) };
    Ok(Json(JobPage { jobs, next }))
}

fn parse_query(members: &[(String, String)]) -> Result<JobQuery, Refusal> {
    let mut query = JobQuery { limit: PAGE_JOBS_DEFAULT, ..JobQuery::default() };
    let mut once = Vec::new();
    for (name, value) in members {
        if matches!(name.as_str(), "after" | "limit" | "order" | "name" | "namespace") {
            if once.contains(&name) {
                return Err(bad_query(format!("`{name}` stands more than once in the query")));
            }
            once.push(name);
        }
        match name.as_str() {
            "after" => match value.parse() {
                Ok(job) => query.after = Some(JobId(job)),
                Err(_) => return Err(bad_query(format!("after={value:?} is not a job id"))),
            },
            "limit" => match value.parse() {
                Ok(limit) if (1..=PAGE_JOBS_MAX).contains(&limit) => query.limit = limit,
                _ => return Err(bad_query(format!("limit={value:?} is not a number between 1 and {PAGE_JOBS_MAX}"))),
            },
            "order" => match value.as_str() {
                "newest" => query.newest_first = true,
                "oldest" => query.newest_first = false,
                _ => return Err(bad_query(format!("order={value:?} is neither newest nor oldest"))),
            },
            "name" => query.name = Some(value.clone()),
            "namespace" => {
                query.namespace = Some(value.parse().map_err(|problem| bad_query(format!("namespace: {problem}")))?);
            }
            "state" => {
                for name in value.split(',') {
                    let Some(state) = JobState::ALL.into_iter().find(|state| state.name() == name) else {
                        let known = JobState::ALL.map(JobState::name).join(", ");
                        return Err(bad_query(format!("state={name:?} is no state of a job; there are {known}")));
                    };
                    if !query.states.contains(&state) {
                        query.states.push(state);
                    }
                }
            }
            "label" => match value.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    if query.labels.insert(key.into(), value.into()).is_some_and(|before| before != value) {
                        return Err(bad_query(format!("no job has two values of label {key:?}")));
                    }
                }
                _ => return Err(bad_query(format!("label={value:?} is not KEY=VALUE"))),
            },
            _ => {
                let message = format!(
                    "the query takes `after`, `limit`, `order`, `state`, `label`, `name` and `namespace`, not `{name}`"
                );
                return Err(bad_query(message));
            }
        }
    }
    Ok(query)
}

pub(super) fn bad_query(message: String) -> Refusal {
    Refusal::new(ErrorKind::Usage, "bad_query", message)
}

pub(super) async fn show(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    if let Some(response) = action_takes_post(&segment, &ACTIONS) {
        return Ok(response);
    }
    Ok(Json(callers::visible(&api, &caller, parse_job(&segment)?).await?).into_response())
}

/// `POST /v1/jobs/{id}:cancel` and `:retry`.
pub(super) async fn act(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    match segment.split_once(':') {
        Some((job, "cancel")) => {
            let job = callers::visible(&api, &caller, parse_job(job)?).await?.id;
            api.service.cancel(job).await?;
            Ok((StatusCode::ACCEPTED, Json(api.service.job(job).await?)).into_response())
        }
        Some((job, "retry")) => {
            let job = callers::visible(&api, &caller, parse_job(job)?).await?.id;
            let job = api.service.retry(job, idempotency_key(&headers)?).await?;
            accepted(&api, job).await
        }
        Some((_, action)) => {
            let message = format!("jobs have no action {action:?}; there are `cancel` and `retry`");
            Err(Refusal::new(ErrorKind::NotFound, "no_such_action", message))
        }
        None => {
            let message = format!("a job takes GET and DELETE; to cancel it, POST to {JOBS_PATH}/{segment}:cancel");
            Ok(not_allowed(OF_ONE, message))
        }
    }
}

/// `DELETE /v1/jobs/{id}`.
pub(super) async fn forget(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    if let Some(response) = action_takes_post(&segment, &ACTIONS) {
        return Ok(response);
    }
    api.service.forget(callers::visible(&api, &caller, parse_job(&segment)?).await?.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn explain(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
) -> Result<Json<Explanation>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    let job = callers::visible(&api, &caller, parse_job(&segment)?).await?.id;
    Ok(Json(Explanation { lines: api.service.explain(job).await? }))
}

/// The answer to who asks for an action in another way; none where it is no action.
pub(super) fn action_takes_post(segment: &str, actions: &[&str]) -> Option<Response> {
    let (_, action) = segment.split_once(':').filter(|(_, action)| actions.contains(action))?;
    Some(not_allowed("POST", format!("{action} is an action; it takes POST")))
}

/// What is allowed on a path whose last segment is an id, or an action: the router knows both by one route, and so of no
/// difference between them. Of every other path it knows it itself.
pub(super) fn allowed(path: &str) -> Option<[(header::HeaderName, HeaderValue); 1]> {
    let (parent, id) = path.rsplit_once('/')?;
    let methods = match parent {
        _ if path == BATCH_PATH => return None,
        JOBS_PATH | SCHEDULES_PATH | NODES_PATH if id.contains(':') => "POST",
        JOBS_PATH | SCHEDULES_PATH => OF_ONE,
        _ => return None,
    };
    Some([(header::ALLOW, HeaderValue::from_static(methods))])
}

/// 405, with what would be allowed.
pub(super) fn not_allowed(allow: &'static str, message: String) -> Response {
    let refusal = Refusal::new(ErrorKind::Usage, "method_not_allowed", message);
    let refusal = refusal.with_status(StatusCode::METHOD_NOT_ALLOWED);
    ([(header::ALLOW, HeaderValue::from_static(allow))], refusal).into_response()
}

/// The path segment that names a job.
pub(super) type JobPath = Result<Path<String>, PathRejection>;

pub(super) fn bad_path(rejection: PathRejection) -> Refusal {
    Refusal::new(ErrorKind::Usage, "bad_path", rejection.body_text())
}

pub(super) fn parse_job(text: &str) -> Result<JobId, Refusal> {
    let bad = || Refusal::new(ErrorKind::Usage, "bad_job_id", format!("{text:?} is not a job id; they are numbers"));
    number(text).map(JobId).ok_or_else(bad)
}

/// An id as it stands in a path. Only one spelling: no sign, no leading zeros.
pub(super) fn number(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|id| id.to_string() == text)
}
