//! Browsers: the form that takes a token, and the cookie that stands for it afterwards.

use super::body::require_media_type;
use super::callers::{SESSION_COOKIE, cookie, holder_of};
use super::refusal::Refusal;
use super::{Api, ApiState};
use crate::ui::login;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quipu_shared::service::ErrorKind;
use std::time::Instant;
use tokio::time::timeout;

/// Bytes of the form: a token and its name.
const FORM_BYTES_MAX: usize = 4 << 10;

/// `GET /login`.
pub(super) async fn form() -> Response {
    login::response(StatusCode::OK, None)
}

/// `POST /login`: a form with the field `token`.
pub(super) async fn log_in(State(api): ApiState, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    require_media_type(&headers, "application/x-www-form-urlencoded", "not_a_form")?;
    let read = timeout(api.limits.body_idle_timeout, axum::body::to_bytes(body, FORM_BYTES_MAX)).await;
    let Ok(Ok(form)) = read else {
        let message = format!("the form is larger than {FORM_BYTES_MAX} bytes, or did not come");
        return Err(Refusal::new(ErrorKind::TooLarge, "form_too_large", message));
    };
    let token = form_urlencoded::parse(&form).find(|(name, _)| name == "token").map(|(_, value)| value);
    let Some(holder) = token.and_then(|token| holder_of(&api, token.trim())) else {
        let error = "That token is not one of this cluster's, or is no longer good.";
        return Ok(login::response(StatusCode::UNAUTHORIZED, Some(error)));
    };
    let id = api
        .sessions
        .open(holder.credential(), Instant::now())
        .map_err(|error| Refusal::new(ErrorKind::Internal, "no_random", format!("open a session: {error}")))?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, HeaderValue::from_static("/"))], [set_cookie(&api, &id, "")?])
        .into_response())
}

/// `POST /logout`.
pub(super) async fn log_out(State(api): ApiState, headers: HeaderMap) -> Result<Response, Refusal> {
    if let Some(id) = cookie(&headers) {
        api.sessions.close(id);
    }
    let place = [(header::LOCATION, HeaderValue::from_static("/login"))];
    Ok((StatusCode::SEE_OTHER, place, [set_cookie(&api, "", "; Max-Age=0")?]).into_response())
}

fn set_cookie(api: &Api, id: &str, end: &str) -> Result<(header::HeaderName, HeaderValue), Refusal> {
    let secure = if api.secure { "; Secure" } else { "" };
    let cookie = format!("{SESSION_COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict{secure}{end}");
    let mut value = HeaderValue::try_from(cookie)
        .map_err(|error| Refusal::new(ErrorKind::Internal, "bad_cookie", format!("write a cookie: {error}")))?;
    value.set_sensitive(true);
    Ok((header::SET_COOKIE, value))
}
