//! Tokens: make, list, revoke. The text of a token is in the answer that made it and nowhere else.

use super::ApiState;
use super::body::{parse_json, read_body, require_json};
use super::jobs::{JobPath, bad_path, location, number};
use super::refusal::Refusal;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quipu_shared::api::{TOKENS_PATH, TokenList};
use quipu_shared::ids::TokenId;
use quipu_shared::service::ErrorKind;

pub(super) async fn list(State(api): ApiState) -> Result<Json<TokenList>, Refusal> {
    Ok(Json(TokenList { tokens: api.service.tokens().await? }))
}

pub(super) async fn add(State(api): ApiState, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    require_json(&headers)?;
    let issued = api.service.add_token(parse_json(&read_body(&api, &headers, body).await?)?).await?;
    let place = [(header::LOCATION, location(TOKENS_PATH, issued.token.id.0)?)];
    Ok((StatusCode::CREATED, place, Json(&issued)).into_response())
}

pub(super) async fn revoke(State(api): ApiState, path: JobPath) -> Result<StatusCode, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    let bad =
        || Refusal::new(ErrorKind::Usage, "bad_token_id", format!("{segment:?} is not a token's id; they are numbers"));
    api.service.revoke_token(number(&segment).map(TokenId).ok_or_else(bad)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
