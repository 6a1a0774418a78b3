//! Requests as parts of a trace.

use quipu_shared::api::TRACEPARENT_HEADER;
use quipu_shared::telemetry::TraceParent;
use quipu_shared::telemetry::spans::{SpanKind, TraceSpan};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Request, RequestBuilder, Response, Url};

/// Sends a request in the trace that it names, or else in this one; where traces are exported, with a span of its own,
/// which ends with the answer's head.
pub(super) async fn send(request: RequestBuilder, trace: Option<TraceParent>) -> reqwest::Result<Response> {
    let (client, request) = request.build_split();
    let mut request = request?;
    let Some(parent) = parent(request.headers()).or(trace) else { return client.execute(request).await };
    let mut span = begin(&request, parent);
    if let Some(context) = span.context()
        && let Ok(value) = HeaderValue::try_from(context.to_string())
    {
        request.headers_mut().insert(TRACEPARENT_HEADER, value);
    }
    let answer = client.execute(request).await;
    match &answer {
        Ok(response) => {
            let status = response.status();
            span.set("http.response.status_code", i64::from(status.as_u16()));
            if status.is_client_error() || status.is_server_error() {
                span.fail(status.as_str(), status.canonical_reason().unwrap_or_default());
            }
        }
        Err(error) => span.fail(if error.is_timeout() { "timeout" } else { "connection" }, &error.to_string()),
    }
    answer
}

fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT_HEADER)?.to_str().ok()?.parse().ok()
}

fn begin(request: &Request, parent: TraceParent) -> TraceSpan {
    let (method, url) = (request.method(), request.url());
    let template = template(url);
    let mut span = TraceSpan::within(format!("{method} {template}"), SpanKind::Client, Some(parent));
    if span.is_recording() {
        span.set("http.request.method", method.to_string());
        span.set("url.template", template);
        span.set("url.full", url.to_string());
        span.set("server.address", url.host_str().unwrap_or_default().to_owned());
        if let Some(port) = url.port_or_known_default() {
            span.set("server.port", i64::from(port));
        }
    }
    span
}

/// A path without what is particular to one request: ids are numbers, or stand after the nodes.
fn template(url: &Url) -> String {
    let mut template = String::new();
    let mut before = "";
    for segment in url.path().split('/').skip(1) {
        let (name, action) = segment.split_once(':').map_or((segment, None), |(name, action)| (name, Some(action)));
        let is_id = before == "nodes" || name.starts_with(|first: char| first.is_ascii_digit());
        template.push('/');
        template.push_str(if is_id { "{id}" } else { name });
        if let Some(action) = action {
            template.push(':');
            template.push_str(action);
        }
        before = segment;
    }
    template
}

#[cfg(test)]
mod tests {
    use super::template;

    #[test]
    fn templates_leave_out_what_is_particular() {
        let of = |path: &str| template(&format!("http://localhost:1{path}").parse().unwrap());
        assert_eq!(of("/v1/jobs?limit=3&name=x"), "/v1/jobs");
        assert_eq!(of("/v1/jobs/17:cancel"), "/v1/jobs/{id}:cancel");
        assert_eq!(of("/v1/jobs/17/results?offset=9"), "/v1/jobs/{id}/results");
        assert_eq!(of("/v1/nodes/worker-1:drain"), "/v1/nodes/{id}:drain");
        assert_eq!(of("/v1/jobs:batch"), "/v1/jobs:batch");
    }
}
