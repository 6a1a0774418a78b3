//! `GET /metrics`, and the count of every request.

use super::ApiState;
use super::refusal::Refusal;
use crate::metrics::{Exposition, UNMATCHED_ROUTE};
use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quipu_shared::access::Caller;
use quipu_shared::service::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

/// The figures of this master: OpenMetrics, or the older text where the client does not take that.
pub(super) async fn scrape(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if let Some(namespace) = &caller.namespace {
        let message = format!("this token is kept to namespace {namespace}, and the metrics are of all of them");
        return Err(Refusal::new(ErrorKind::Forbidden, "other_namespace", message));
    }
    let exposition = exposition(&headers);
    let metrics = Arc::clone(&api.metrics);
    // Collectors look at the disk and at /proc.
    let encoded = tokio::task::spawn_blocking(move || metrics.encode(exposition)).await;
    match encoded.ok().flatten() {
        Some(text) => Ok(([(header::CONTENT_TYPE, exposition.media_type())], text).into_response()),
        None => Err(Refusal::new(ErrorKind::Internal, "metrics", "the metrics could not be written")),
    }
}

/// Prometheus names what it takes. A client that names nothing gets the current form; one that names other things (or
/// anything, as curl does) gets what every tool reads.
fn exposition(headers: &HeaderMap) -> Exposition {
    let mut accepts = headers.get_all(header::ACCEPT).iter().peekable();
    if accepts.peek().is_none() {
        return Exposition::OpenMetrics;
    }
    let named =
        accepts.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(takes_openmetrics);
    if named { Exposition::OpenMetrics } else { Exposition::Prometheus }
}

/// Whether one range of an `Accept` header is OpenMetrics in the version that there is, and not refused by its weight.
fn takes_openmetrics(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let is_type = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
    is_type
        && parts.all(|parameter| match parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("version", version)) => matches!(version.trim_matches('"'), "1.0.0" | "0.0.1"),
            Some(("q", weight)) => weight.parse::<f32>().is_ok_and(|weight| weight > 0.0),
            _ => true,
        })
}

/// Counts a request by its route, which is a pattern and never what the client wrote.
pub(super) async fn measure(State(api): ApiState, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let metrics = &api.metrics.http;
    let _open = metrics.request();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method_name(request.method());
    let response = next.run(request).await;
    let route = route.as_ref().map_or(UNMATCHED_ROUTE, MatchedPath::as_str);
    metrics.answered(route, method, response.status().as_u16(), begun.elapsed());
    response
}

/// A method, if it is one that anything here takes.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn form_is_what_the_client_takes() {
        let of = |accept: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            exposition(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (&[][..], Exposition::OpenMetrics),
            (&[prometheus], Exposition::OpenMetrics),
            (&["text/plain", "Application/OpenMetrics-Text"], Exposition::OpenMetrics),
            (&["*/*"], Exposition::Prometheus),
            (&["text/plain; version=0.0.4"], Exposition::Prometheus),
            (&["application/openmetrics-text; version=2.0.0"], Exposition::Prometheus),
            (&["application/openmetrics-text;q=0, text/plain"], Exposition::Prometheus),
        ] {
            assert_eq!(of(accept), expected, "{accept:?}");
        }
    }
}
