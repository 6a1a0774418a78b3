//! Recurring jobs: add, list, show, pause, resume, remove.

use super::body::{parse_json, read_body, require_json};
use super::jobs::{JobPath, OF_ONE, action_takes_post, bad_path, idempotency_key, location, not_allowed, number};
use super::refusal::Refusal;
use super::{Api, ApiState, callers};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use quipu_shared::access::Caller;
use quipu_shared::api::{SCHEDULES_PATH, ScheduleList};
use quipu_shared::ids::ScheduleId;
use quipu_shared::service::{ErrorKind, ScheduleChange, ScheduleView};
use quipu_shared::spec::ScheduleSpec;

/// What can be done to a schedule, behind its id and a colon.
const ACTIONS: [&str; 2] = ["pause", "resume"];

pub(super) async fn list(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ScheduleList>, Refusal> {
    Ok(Json(ScheduleList { schedules: visible(&api, &caller).await? }))
}

/// The schedules of the caller's namespace.
async fn visible(api: &Api, caller: &Caller) -> Result<Vec<ScheduleView>, Refusal> {
    let mut schedules = api.service.schedules().await?;
    schedules.retain(|schedule| caller.sees(&schedule.spec.job.queue.namespace));
    Ok(schedules)
}

pub(super) async fn add(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    require_json(&headers)?;
    let key = idempotency_key(&headers)?;
    let mut spec: ScheduleSpec = parse_json(&read_body(&api, &headers, body).await?)?;
    callers::place(&caller, &mut spec.job.queue.namespace)?;
    let view = api.service.add_schedule(spec, key).await?;
    let place = [(header::LOCATION, location(SCHEDULES_PATH, view.id.0)?)];
    Ok((StatusCode::CREATED, place, Json(view)).into_response())
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
    Ok(Json(find(&api, &caller, parse_schedule(&segment)?).await?).into_response())
}

async fn find(api: &Api, caller: &Caller, schedule: ScheduleId) -> Result<ScheduleView, Refusal> {
    let found = visible(api, caller).await?.into_iter().find(|view| view.id == schedule);
    found.ok_or_else(|| {
        let message = format!("there is no schedule {schedule}; GET {SCHEDULES_PATH} lists them");
        Refusal::new(ErrorKind::NotFound, "unknown_schedule", message)
    })
}

/// `POST /v1/schedules/{id}:pause` and `:resume`.
pub(super) async fn act(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    let changed = match segment.split_once(':') {
        Some((schedule, "pause")) => change(&api, &caller, schedule, ScheduleChange::Pause).await?,
        Some((schedule, "resume")) => change(&api, &caller, schedule, ScheduleChange::Resume).await?,
        Some((_, action)) => {
            let message = format!("schedules have no action {action:?}; there are `pause` and `resume`");
            return Err(Refusal::new(ErrorKind::NotFound, "no_such_action", message));
        }
        None => {
            let message =
                format!("a schedule takes GET and DELETE; to pause it, POST to {SCHEDULES_PATH}/{segment}:pause");
            return Ok(not_allowed(OF_ONE, message));
        }
    };
    Ok(changed.into_response())
}

/// `DELETE /v1/schedules/{id}`: gives it as it was.
pub(super) async fn remove(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    if let Some(response) = action_takes_post(&segment, &ACTIONS) {
        return Ok(response);
    }
    Ok(change(&api, &caller, &segment, ScheduleChange::Remove).await?.into_response())
}

async fn change(
    api: &Api,
    caller: &Caller,
    schedule: &str,
    change: ScheduleChange,
) -> Result<Json<ScheduleView>, Refusal> {
    let schedule = find(api, caller, parse_schedule(schedule)?).await?.id;
    Ok(Json(api.service.change_schedule(schedule, change).await?))
}

fn parse_schedule(text: &str) -> Result<ScheduleId, Refusal> {
    let bad = || {
        let message = format!("{text:?} is not a schedule's id; they are numbers");
        Refusal::new(ErrorKind::Usage, "bad_schedule_id", message)
    };
    number(text).map(ScheduleId).ok_or_else(bad)
}
