//! Errors as the API writes them: RFC 9457 problem+json.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quipu_shared::api::{PROBLEM_MEDIA_TYPE, Problem, status_of};
use quipu_shared::service::{ErrorKind, ServiceError};

/// A request that is not done, with its status.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Box<ServiceError>,
}

impl Refusal {
    pub(super) fn new(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        Self::from(ServiceError { kind, code: code.into(), message: message.into(), place: None, retry_after_s: None })
    }

    /// For the statuses that say more than the error's kind.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// What it says, without its status.
    pub(super) fn into_error(self) -> ServiceError {
        *self.error
    }

    pub(super) fn retry_after_s(mut self, seconds: u64) -> Self {
        self.error.retry_after_s = Some(seconds);
        self
    }
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        let status = StatusCode::from_u16(status_of(error.kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error: Box::new(error) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.error.kind == ErrorKind::Internal {
            tracing::error!(code = self.error.code, error = self.error.message, "request failed");
        }
        let refused = Refused((*self.error).clone());
        let mut response = (self.status, Json(Problem::new(&self.error, self.status.as_u16()))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        if let Some(seconds) = self.error.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"quipu\""));
        }
        // For those who have to say it in another way.
        response.extensions_mut().insert(refused);
        response
    }
}

/// What a response refuses.
#[derive(Clone, Debug)]
pub(super) struct Refused(pub(super) ServiceError);
