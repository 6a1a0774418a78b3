//! Recurring jobs: add, list, show, pause, resume, remove.

use super::body::{parse_json, read_body, require_json};
use super::jobs::{JobPath, action_takes_post, bad_path, idempotency_key, location, not_allowed, number};
use super::refusal::Refusal;
use super::{Api, ApiState};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quipu_shared::api::{SCHEDULES_PATH, ScheduleList};
use quipu_shared::ids::ScheduleId;
use quipu_shared::service::{ErrorKind, ScheduleChange, ScheduleView};
use quipu_shared::spec::ScheduleSpec;

pub(super) async fn list(State(api): ApiState) -> Result<Json<ScheduleList>, Refusal> {
    Ok(Json(ScheduleList { schedules: api.service.schedules().await? }))
}

pub(super) async fn add(State(api): ApiState, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    require_json(&headers)?;
    let key = idempotency_key(&headers)?;
    let spec: ScheduleSpec = parse_json(&read_body(&api, &headers, body).await?)?;
    let view = api.service.add_schedule(spec, key).await?;
    let place = [(header::LOCATION, location(SCHEDULES_PATH, view.id.0)?)];
    Ok((StatusCode::CREATED, place, Json(view)).into_response())
}

pub(super) async fn show(State(api): ApiState, path: JobPath) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    if segment.contains(':') {
        return Ok(action_takes_post(&segment));
    }
    let schedule = parse_schedule(&segment)?;
    let found = api.service.schedules().await?.into_iter().find(|view| view.id == schedule);
    let missing = || {
        let message = format!("there is no schedule {schedule}; GET {SCHEDULES_PATH} lists them");
        Refusal::new(ErrorKind::NotFound, "no_such_schedule", message)
    };
    Ok(Json(found.ok_or_else(missing)?).into_response())
}

/// `POST /v1/schedules/{id}:pause` and `:resume`.
pub(super) async fn act(State(api): ApiState, path: JobPath) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    let changed = match segment.split_once(':') {
        Some((schedule, "pause")) => change(&api, schedule, ScheduleChange::Pause).await?,
        Some((schedule, "resume")) => change(&api, schedule, ScheduleChange::Resume).await?,
        Some((_, action)) => {
            let message = format!("schedules have no action {action:?}; there are `pause` and `resume`");
            return Err(Refusal::new(ErrorKind::NotFound, "no_such_action", message));
        }
        None => {
            let message =
                format!("a schedule takes GET and DELETE; to pause it, POST to {SCHEDULES_PATH}/{segment}:pause");
            return Ok(not_allowed("GET, DELETE", message));
        }
    };
    Ok(changed.into_response())
}

/// `DELETE /v1/schedules/{id}`: gives it as it was.
pub(super) async fn remove(State(api): ApiState, path: JobPath) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    if segment.contains(':') {
        return Ok(action_takes_post(&segment));
    }
    Ok(change(&api, &segment, ScheduleChange::Remove).await?.into_response())
}

async fn change(api: &Api, schedule: &str, change: ScheduleChange) -> Result<Json<ScheduleView>, Refusal> {
    Ok(Json(api.service.change_schedule(parse_schedule(schedule)?, change).await?))
}

fn parse_schedule(text: &str) -> Result<ScheduleId, Refusal> {
    let bad = || {
        let message = format!("{text:?} is not a schedule's id; they are numbers");
        Refusal::new(ErrorKind::Usage, "bad_schedule_id", message)
    };
    number(text).map(ScheduleId).ok_or_else(bad)
}
