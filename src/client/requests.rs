//! What requests are made of: keys, bodies, queries.

use super::fault;
use bytes::Bytes;
use quipu_shared::api::{JOBS_PATH, check_idempotency_key};
use quipu_shared::service::{ErrorKind, JobQuery, ServiceError};

/// The key that a request keeps over its tries: the given one, or a fresh one.
pub(super) fn chosen(key: Option<String>) -> Result<String, ServiceError> {
    let key = key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    check_idempotency_key(&key)?;
    Ok(key)
}

/// A body.
pub(super) fn json(what: &str, value: &impl serde::Serialize) -> Result<Bytes, ServiceError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| fault(ErrorKind::Internal, "bad_spec", format!("write the {what}: {error}")))?;
    Ok(bytes.into())
}

/// A query's value, percent-encoded.
fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => safe.push(char::from(byte)),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

/// The path of a page, but for its cursor.
pub(super) fn list_path(query: &JobQuery, limit: usize) -> String {
    let mut path = format!("{JOBS_PATH}?limit={limit}");
    if query.newest_first {
        path.push_str("&order=newest");
    }
    for state in &query.states {
        path.push_str(&format!("&state={}", state.name()));
    }
    for (key, value) in &query.labels {
        path.push_str(&format!("&label={}", encoded(&format!("{key}={value}"))));
    }
    if let Some(name) = &query.name {
        path.push_str(&format!("&name={}", encoded(name)));
    }
    if let Some(namespace) = &query.namespace {
        path.push_str(&format!("&namespace={namespace}"));
    }
    path
}
