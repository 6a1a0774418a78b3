//! The cluster and the master itself: nodes, drain, version, probes.

use super::guard::BUSY_RETRY_AFTER_S;
use super::jobs::{JobPath, bad_path};
use super::refusal::Refusal;
use super::{Api, ApiState};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quipu_shared::api::{NODES_PATH, NodeList, VersionView};
use quipu_shared::ids::NodeId;
use quipu_shared::service::ErrorKind;

pub(super) async fn nodes(State(api): ApiState) -> Result<Json<NodeList>, Refusal> {
    Ok(Json(NodeList { nodes: api.service.nodes().await? }))
}

/// `POST /v1/nodes/{id}:drain`.
pub(super) async fn act(State(api): ApiState, path: JobPath) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    match segment.split_once(':') {
        Some((node, "drain")) => {
            let node = NodeId::try_from(node.to_owned())
                .map_err(|error| Refusal::new(ErrorKind::Usage, "bad_node_id", error.to_string()))?;
            api.service.drain(node).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Some((_, action)) => {
            let message = format!("nodes have no action {action:?}; there is `drain`");
            Err(Refusal::new(ErrorKind::NotFound, "no_such_action", message))
        }
        None => Err(Refusal::new(
            ErrorKind::NotFound,
            "no_such_route",
            format!("nodes are at {NODES_PATH}; to drain this one, POST to {NODES_PATH}/{segment}:drain"),
        )),
    }
}

pub(super) async fn version() -> Json<VersionView> {
    Json(VersionView {
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: quipu_shared::PROTOCOL_VERSION,
        numerics: quipu_shared::NUMERICS_VERSION,
    })
}

pub(super) async fn health() -> Response {
    probe_ok()
}

pub(super) async fn ready(State(api): ApiState) -> Response {
    match readiness(&api) {
        Ok(()) => probe_ok(),
        Err(reason) => {
            let refusal = Refusal::new(ErrorKind::Unreachable, "not_ready", reason);
            refusal.retry_after_s(BUSY_RETRY_AFTER_S).into_response()
        }
    }
}

/// Whether the master takes jobs now; if not, why.
pub(super) fn readiness(api: &Api) -> Result<(), String> {
    match api.service.ready() {
        Ok(()) if (api.ready)() && !api.stop.is_cancelled() => Ok(()),
        Ok(()) => Err("the master takes no jobs now".to_owned()),
        Err(error) => Err(format!("the master takes no jobs now: {}", error.message)),
    }
}

fn probe_ok() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], "ok\n").into_response()
}
