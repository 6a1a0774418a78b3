//! Bodies: how they are read within their limits, and how JSON in them is parsed.

use super::Api;
use super::guard::single;
use super::refusal::Refusal;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use quipu_shared::service::ErrorKind;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// Forms and plain text can be sent by any page without asking; JSON can't.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    require_media_type(headers, "application/json", "not_json")
}

pub(super) fn require_media_type(headers: &HeaderMap, wanted: &str, code: &str) -> Result<(), Refusal> {
    let given = single(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let message = format!("the body's content type is {given:?}; send {wanted}");
    Err(Refusal::new(ErrorKind::Usage, code, message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, if it is within the limit.
pub(super) async fn read_body(api: &Api, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    read_body_within(api, headers, body, api.live.get().request_bytes_max).await
}

/// The whole body, if it has at most so many bytes: one that says that it is larger is not read at all.
pub(super) async fn read_body_within(api: &Api, headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, Refusal> {
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
pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // The way that remembers where it is costs as much again: it is gone once more, where there is an error to place.
    serde_json::from_slice(body).or_else(|_| located(body).map_err(|fault| fault.refusal("body, ", 1)))
}

/// Parses line `line` of a body, counted from 1.
pub(super) fn parse_json_line<T: DeserializeOwned>(text: &[u8], line: usize) -> Result<T, Refusal> {
    serde_json::from_slice(text).or_else(|_| located(text).map_err(|fault| fault.refusal("", line)))
}

/// What is wrong with JSON, and in which field.
struct Fault {
    error: serde_json::Error,
    field: Option<String>,
}

fn located<T: DeserializeOwned>(text: &[u8]) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_slice(text);
    match serde_path_to_error::deserialize(&mut json) {
        Ok(value) => json.end().map(|()| value).map_err(|error| Fault { error, field: None }),
        Err(error) => {
            let field = Some(error.path().to_string()).filter(|path| path != ".");
            Err(Fault { error: error.into_inner(), field })
        }
    }
}

impl Fault {
    fn refusal(self, what: &str, first_line: usize) -> Refusal {
        let (line, column) = (self.error.line(), self.error.column());
        let text = self.error.to_string();
        let problem = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        let field = self.field.map(|field| format!(", field `{field}`")).unwrap_or_default();
        let code = if self.error.is_data() { "bad_field" } else { "bad_json" };
        let line = line.saturating_sub(1) + first_line;
        Refusal::new(ErrorKind::Usage, code, format!("{what}line {line}, column {column}{field}: {problem}"))
    }
}
