//! gRPC beside HTTP: on the same port, behind the same guard.
//!
//! [`router`] has the services; [`speak`] stands outside of the guard and turns what would be problem+json into the status
//! of a call, and keeps a call to its deadline. [`quipu`] answers the calls, [`health`] the probes, [`convert`] has the
//! two sides of each message.

mod convert;
mod health;
mod quipu;

/// Messages, servers and clients, as generated from `proto/quipu/v1/quipu.proto`.
#[allow(missing_docs, clippy::all, rust_2018_idioms)]
pub mod proto {
    tonic::include_proto!("quipu.v1");

    /// The definitions, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/quipu.bin"));
}

use super::Api;
use super::refusal::{Refusal, Refused};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use convert::{status_of, status_of_http};
use health::Probes;
use hyper::body::{Frame, SizeHint};
use proto::quipu_server::QuipuServer;
use quipu::Calls;
use quipu_shared::service::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic_health::pb::health_server::HealthServer;

/// The one call of the health service that needs no token, as `/readyz` needs none.
pub(super) const HEALTH_CHECK_PATH: &str = "/grpc.health.v1.Health/Check";
/// The one call whose client may be silent for as long as it likes: it holds a stream's place, and none among requests.
const EVALUATE_PATH: &str = "/quipu.v1.Quipu/Evaluate";
/// What the client says of its patience.
const TIMEOUT_HEADER: &str = "grpc-timeout";

/// The services.
pub(super) fn router(api: &Arc<Api>) -> Router {
    let max = api.limits.request_bytes_max;
    let calls = QuipuServer::new(Calls::new(Arc::clone(api))).max_decoding_message_size(max);
    let probes = HealthServer::new(Probes::new(Arc::clone(api))).max_decoding_message_size(max);
    let mut routes = tonic::service::Routes::new(calls).add_service(probes);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => routes = routes.add_service(reflection.max_decoding_message_size(max)),
        // The descriptors are part of this binary.
        Err(error) => tracing::error!(%error, "no gRPC reflection"),
    }
    // What is at no path is answered as everywhere.
    routes.into_axum_router().reset_fallback()
}

/// Until when a call's client waits.
#[derive(Clone, Copy, Debug)]
struct CallDeadline(Instant);

/// Lets calls have statuses, whoever answers them, and ends them at their deadline.
pub(super) async fn speak(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    if !is_call(request.headers()) {
        return next.run(request).await;
    }
    if request.version() < Version::HTTP_2 {
        let refusal = Refusal::new(ErrorKind::Usage, "http_version", "gRPC needs HTTP/2, which has trailers");
        return refusal.with_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED).into_response();
    }
    let deadline = request.headers().get(TIMEOUT_HEADER).and_then(|value| parse_timeout(value.to_str().ok()?));
    let deadline = deadline.and_then(|patience| Instant::now().checked_add(patience)).map(CallDeadline);
    if let Some(deadline) = deadline {
        request.extensions_mut().insert(deadline);
    }
    if request.uri().path() != EVALUATE_PATH {
        let idle = api.limits.body_idle_timeout;
        request = request.map(|body| Body::new(Unidle { body, idle, silent: None }));
    }
    let response = match deadline {
        None => next.run(request).await,
        Some(CallDeadline(at)) => match timeout_at(at, next.run(request)).await {
            Ok(response) => response,
            Err(_) => return deadline_passed().into_http(),
        },
    };
    let answers = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()));
    if answers {
        return response;
    }
    let status = match response.extensions().get::<Refused>() {
        Some(Refused(error)) if response.status() == StatusCode::NOT_FOUND => Status::unimplemented(&error.message),
        Some(Refused(error)) => status_of(error),
        None => status_of_http(response.status()),
    };
    status.into_http()
}

fn deadline_passed() -> Status {
    Status::deadline_exceeded("the call's own deadline has passed")
}

/// Whether a request is a call.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

fn is_grpc(media_type: &[u8]) -> bool {
    // gRPC-Web, which a page could send, is another one.
    media_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// At most eight digits and a unit, says the protocol.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A request's body whose client may not fall silent before its end.
struct Unidle {
    body: Body,
    idle: Duration,
    silent: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Unidle {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.silent = None;
            return Poll::Ready(frame);
        }
        let idle = self.idle;
        let silent = self.silent.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
        std::task::ready!(silent.as_mut().poll(cx));
        let message = format!("no byte of the message came for {} ms", idle.as_millis());
        Poll::Ready(Some(Err(axum::Error::new(std::io::Error::new(std::io::ErrorKind::TimedOut, message)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        assert_eq!(parse_timeout("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "1", "1s", "999999999S", "-1S", "+1S", "1é", " 1S"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn calls_are_known_by_their_media_type() {
        for (media_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(media_type.as_bytes()), expected, "{media_type}");
        }
    }
}
