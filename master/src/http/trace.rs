//! Server spans: each request that was let in has one, where traces are exported. Those that were refused have none, so
//! that a flood of them does not push others out of the queue.

use super::guard::PeerIp;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use quipu_shared::api::TRACEPARENT_HEADER;
use quipu_shared::telemetry::TraceParent;
use quipu_shared::telemetry::export::is_on;
use quipu_shared::telemetry::spans::{SpanKind, TraceSpan};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Trailers and headers of gRPC's outcome.
const GRPC_STATUS: &str = "grpc-status";

/// Traces a request. Handlers find the span's context where the caller's was: in the header.
pub(super) async fn trace(mut request: Request, next: Next) -> Response {
    if !is_on() || super::is_probe(request.uri().path()) {
        return next.run(request).await;
    }
    let mut span = begin(&request);
    if let Some(context) = span.context()
        && let Ok(value) = HeaderValue::try_from(context.to_string())
    {
        request.headers_mut().insert(TRACEPARENT_HEADER, value);
    }
    let response = next.run(request).await;
    let status = response.status();
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_str(), status.canonical_reason().unwrap_or_default());
    }
    note_grpc_status(&mut span, response.headers());
    // A stream ends with its body.
    if span.is_recording() { response.map(|body| Body::new(Traced { body, span })) } else { response }
}

fn begin(request: &Request) -> TraceSpan {
    let (method, path) = (request.method(), request.uri().path());
    let mut callers = request.headers().get_all(TRACEPARENT_HEADER).iter();
    // One that stands twice is nobody's.
    let parent = callers.next().filter(|_| callers.next().is_none());
    let parent = parent.and_then(|text| text.to_str().ok()?.parse::<TraceParent>().ok());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let grpc = is_grpc(request.headers()).then(|| path.trim_start_matches('/').split_once('/')).flatten();
    let name = match (grpc, route) {
        (Some((service, method)), Some(_)) => format!("{service}/{method}"),
        (_, Some(route)) => format!("{method} {route}"),
        (_, None) => method.to_string(),
    };
    let mut span = TraceSpan::begin(name, SpanKind::Server, parent);
    if !span.is_recording() {
        return span;
    }
    span.set("http.request.method", method.to_string());
    span.set("url.path", path.to_owned());
    if let Some(route) = route {
        span.set("http.route", route.to_owned());
    }
    let version = match request.version() {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    span.set("network.protocol.version", version);
    if let Some(PeerIp(peer)) = request.extensions().get() {
        span.set("client.address", peer.to_canonical().to_string());
    }
    if let Some((service, method)) = grpc {
        span.set("rpc.system", "grpc");
        span.set("rpc.service", service.to_owned());
        span.set("rpc.method", method.to_owned());
    }
    span
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn note_grpc_status(span: &mut TraceSpan, headers: &HeaderMap) {
    let status = headers.get(GRPC_STATUS).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    if let Some(status) = status {
        span.set("rpc.grpc.status_code", status);
    }
}

/// A body that keeps its request's span until it has been sent.
struct Traced {
    body: Body,
    span: TraceSpan,
}

impl HttpBody for Traced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    note_grpc_status(&mut self.span, trailers);
                }
            }
            Some(Err(error)) => self.span.fail("body_broken", &error.to_string()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
