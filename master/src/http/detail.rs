//! What there is to know of one job beyond its view, and of one node.

use super::ApiState;
use super::jobs::{JobPath, bad_path, parse_job};
use super::refusal::Refusal;
use axum::Json;
use axum::extract::{Path, State};
use quipu_shared::detail::{AttemptList, JobDetail, NodeAttempt, ShardMap};
use quipu_shared::ids::NodeId;
use quipu_shared::service::ErrorKind;

/// `GET /v1/jobs/{id}/detail`.
pub(super) async fn detail(State(api): ApiState, path: JobPath) -> Result<Json<JobDetail>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    Ok(Json(api.service.job_detail(parse_job(&segment)?).await?))
}

/// `GET /v1/jobs/{id}/shards`.
pub(super) async fn shards(State(api): ApiState, path: JobPath) -> Result<Json<ShardMap>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    Ok(Json(api.service.job_shards(parse_job(&segment)?).await?))
}

/// `GET /v1/jobs/{id}/attempts`.
pub(super) async fn attempts(State(api): ApiState, path: JobPath) -> Result<Json<AttemptList>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    Ok(Json(api.service.job_attempts(parse_job(&segment)?).await?))
}

/// `GET /v1/nodes/{id}/attempts`.
pub(super) async fn node_attempts(State(api): ApiState, path: JobPath) -> Result<Json<Vec<NodeAttempt>>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    Ok(Json(api.service.node_attempts(parse_node(segment)?).await?))
}

/// A node's id as it stands in a path.
pub(super) fn parse_node(text: String) -> Result<NodeId, Refusal> {
    NodeId::try_from(text).map_err(|error| Refusal::new(ErrorKind::Usage, "bad_node_id", error.to_string()))
}
