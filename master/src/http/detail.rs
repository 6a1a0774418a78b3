//! What there is to know of one job beyond its view, and of one node.

use super::jobs::{JobPath, bad_path, parse_job};
use super::refusal::Refusal;
use super::{ApiState, callers};
use axum::Json;
use axum::extract::{Extension, Path, State};
use quipu_shared::access::Caller;
use quipu_shared::detail::{AttemptList, JobDetail, NodeAttempt, NodeAttemptList, ShardMap};
use quipu_shared::ids::{JobId, NodeId};
use quipu_shared::service::{ErrorKind, JobService, ServiceError};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

type Who = Extension<Caller>;

/// `GET /v1/jobs/{id}/detail`.
pub(super) async fn detail(
    State(api): ApiState,
    Extension(caller): Who,
    path: JobPath,
) -> Result<Json<JobDetail>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    Ok(Json(api.service.job_detail(callers::visible(&api, &caller, parse_job(&segment)?).await?.id).await?))
}

/// `GET /v1/jobs/{id}/shards`.
pub(super) async fn shards(
    State(api): ApiState,
    Extension(caller): Who,
    path: JobPath,
) -> Result<Json<ShardMap>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    Ok(Json(api.service.job_shards(callers::visible(&api, &caller, parse_job(&segment)?).await?.id).await?))
}

/// `GET /v1/jobs/{id}/attempts`.
pub(super) async fn attempts(
    State(api): ApiState,
    Extension(caller): Who,
    path: JobPath,
) -> Result<Json<AttemptList>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    Ok(Json(api.service.job_attempts(callers::visible(&api, &caller, parse_job(&segment)?).await?.id).await?))
}

/// `GET /v1/nodes/{id}/attempts`.
pub(super) async fn node_attempts(
    State(api): ApiState,
    Extension(caller): Who,
    path: JobPath,
) -> Result<Json<NodeAttemptList>, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    let attempts = attempts_seen(&*api.service, &caller, parse_node(segment)?).await?;
    Ok(Json(NodeAttemptList { attempts }))
}

/// The attempts on a node, as far as they are of jobs that the caller may see.
pub(crate) async fn attempts_seen(
    service: &dyn JobService,
    caller: &Caller,
    node: NodeId,
) -> Result<Vec<NodeAttempt>, ServiceError> {
    let mut attempts = service.node_attempts(node).await?;
    if caller.namespace.is_some() {
        let mut jobs: BTreeMap<JobId, bool> = BTreeMap::new();
        for attempt in &attempts {
            if let Entry::Vacant(job) = jobs.entry(attempt.job) {
                // One that was forgotten meanwhile is nobody's.
                job.insert(service.job(attempt.job).await.is_ok_and(|view| caller.sees(&view.namespace)));
            }
        }
        attempts.retain(|attempt| jobs.get(&attempt.job) == Some(&true));
    }
    Ok(attempts)
}

/// A node's id as it stands in a path.
pub(super) fn parse_node(text: String) -> Result<NodeId, Refusal> {
    NodeId::try_from(text).map_err(|error| Refusal::new(ErrorKind::Usage, "bad_node_id", error.to_string()))
}
