//! Connections of HTTP/2, and what they may cost: one of them carries many requests, and a client can hold each of these
//! without a byte on the socket.
//!
//! What the protocol itself can be bent to (streams reset as soon as they are opened, heads without end, windows that are
//! never opened, pings) is bounded by hyper's settings below. Three things are watched here: a connection that asks
//! nothing, one that was told to end and does not, and a stream whose answer is not taken.

use super::HttpLimits;
use super::refusal::Refusal;
use super::server::HEADERS_MAX;
use axum::body::{Body, HttpBody};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quipu_shared::service::ErrorKind;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How TLS names it.
pub(super) const ALPN: &[u8] = b"h2";
/// What a client says first that speaks it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a client may have reset before they were looked at; then it is told to calm down and cut off.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that we reset for a fault of the client; then the same.
const FAULTS_MAX: usize = 64;
/// Bytes that a client may send on one stream and on all of them before they are read: about what a fast network carries
/// in a round trip.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of an answer that wait for the client.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// How long a client may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an idle client may take to hang up when it is told to.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection is looked at, in parts of the shortest time that counts.
const LOOKS: u32 = 4;

/// Reads as far as it takes to know whether a client speaks HTTP/2, and gives what was read.
pub(super) async fn begins_with_preface(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(BytesMut, bool)> {
    let mut said = BytesMut::with_capacity(PREFACE.len());
    while said.len() < PREFACE.len() && PREFACE.starts_with(&said) {
        if stream.read_buf(&mut said).await? == 0 {
            break;
        }
    }
    let is_h2 = said.starts_with(PREFACE);
    Ok((said, is_h2))
}

/// Serves a connection to its end, which is near when it has asked and then asks nothing for `idle_timeout`.
pub(super) async fn serve<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    service: S,
    limits: &HttpLimits,
    idle_timeout: Duration,
    stop: &CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let clocks = Arc::new(Clocks::new());
    let counted = service_fn(|request: Request<Incoming>| {
        let clock = clocks.begin();
        let answer = (request.headers().len() <= HEADERS_MAX).then(|| service.call(request));
        async move {
            let answer = match answer {
                Some(answer) => answer.await?,
                None => too_many_headers(),
            };
            Ok::<_, Infallible>(answer.map(|body| Body::new(Clocked { body, clock })))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(FAULTS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), counted);
    let mut connection = pin!(connection);
    let shortest =
        limits.head_timeout.min(limits.h2_idle_timeout).min(limits.write_stall_timeout).min(GOODBYE_PATIENCE);
    let mut look = interval((shortest / LOOKS).max(Duration::from_millis(1)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told_to_end: Option<Instant> = None;
    loop {
        let verdict = tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if told_to_end.is_none() => Verdict::Idle,
            _ = look.tick() => clocks.look(limits, idle_timeout, Instant::now()),
        };
        match (verdict, told_to_end) {
            (Verdict::Dead(why), _) => return tracing::debug!(error = why, "connection cut"),
            (Verdict::Idle, None) => {
                connection.as_mut().graceful_shutdown();
                told_to_end = Some(Instant::now());
            }
            (_, Some(since)) if since.elapsed() >= GOODBYE_PATIENCE && clocks.is_idle() => {
                return tracing::debug!("connection cut that was told to end");
            }
            _ => {}
        }
    }
}

fn too_many_headers() -> Response<Body> {
    let message = format!("the request has more than {HEADERS_MAX} headers");
    let refusal = Refusal::new(ErrorKind::TooLarge, "too_many_headers", message);
    refusal.with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).into_response()
}

/// What is to become of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Well,
    /// It asks nothing: it is told to end.
    Idle,
    /// It only costs.
    Dead(&'static str),
}

/// The times of a connection and its requests.
struct Clocks {
    begun: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    requests: Vec<Weak<Clock>>,
    active: usize,
    /// Whether it has asked anything.
    asked: bool,
    idle_since: Instant,
}

/// The time of one request.
struct Clock {
    clocks: Arc<Clocks>,
    /// Since when a piece of the answer is with the client, in milliseconds of the connection; 0 while it is with us.
    waits_since_ms: AtomicU64,
}

impl Clocks {
    fn new() -> Self {
        let begun = Instant::now();
        let inner = Inner { requests: Vec::new(), active: 0, asked: false, idle_since: begun };
        Self { begun, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Arc<Clock> {
        let clock = Arc::new(Clock { clocks: Arc::clone(self), waits_since_ms: AtomicU64::new(0) });
        let mut inner = self.lock();
        (inner.asked, inner.active) = (true, inner.active + 1);
        if inner.requests.len() >= 2 * inner.active {
            inner.requests.retain(|request| request.strong_count() > 0);
        }
        inner.requests.push(Arc::downgrade(&clock));
        clock
    }

    fn is_idle(&self) -> bool {
        self.lock().active == 0
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.begun).as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn look(&self, limits: &HttpLimits, idle_timeout: Duration, now: Instant) -> Verdict {
        let inner = self.lock();
        if inner.active == 0 {
            let idle = now.duration_since(inner.idle_since);
            return match inner.asked {
                false if idle >= limits.head_timeout => Verdict::Dead("it asks nothing"),
                true if idle >= idle_timeout => Verdict::Idle,
                _ => Verdict::Well,
            };
        }
        let stall_ms = u64::try_from(limits.write_stall_timeout.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.ms(now);
        let stalls = |clock: Arc<Clock>| match clock.waits_since_ms.load(Ordering::Relaxed) {
            0 => false,
            since_ms => now_ms.saturating_sub(since_ms) >= stall_ms,
        };
        if inner.requests.iter().filter_map(Weak::upgrade).any(stalls) {
            return Verdict::Dead("the client does not take an answer");
        }
        Verdict::Well
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let mut inner = self.clocks.lock();
        inner.active -= 1;
        inner.idle_since = Instant::now();
    }
}

/// A body that is sent only as far as the client's window goes, and says since when that is waited for.
struct Clocked {
    body: Body,
    clock: Arc<Clock>,
}

impl HttpBody for Clocked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // Asked for more only when there is room for it: what was given is with the client from now on.
        let waits_since_ms = match &frame {
            Poll::Ready(Some(Ok(_))) => self.clock.clocks.ms(Instant::now()),
            _ => 0,
        };
        self.clock.waits_since_ms.store(waits_since_ms, Ordering::Relaxed);
        frame
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

    #[tokio::test]
    async fn the_preface_is_known_by_its_bytes_and_nothing_is_lost() {
        let whole = [PREFACE, b"\0\0\0"].concat();
        for (said, expected) in [
            (&whole[..], true),
            (b"GET / HTTP/1.1", false),
            (b"PRI * HTTP/1.1\r\n", false),
            (b"PR", false),
            (b"", false),
        ] {
            let mut stream = said;
            let (mut read, is_h2) = begins_with_preface(&mut stream).await.unwrap();
            assert_eq!(is_h2, expected, "{said:?}");
            read.extend_from_slice(stream);
            assert_eq!(&read[..], said);
        }
    }

    #[test]
    fn idle_and_stalled_connections_are_told_apart() {
        let limits = HttpLimits::default();
        let clocks = Arc::new(Clocks::new());
        let at = |seconds| clocks.begun + Duration::from_secs(seconds);
        assert_eq!(clocks.look(&limits, limits.h2_idle_timeout, at(29)), Verdict::Well);
        assert_eq!(clocks.look(&limits, limits.h2_idle_timeout, at(30)), Verdict::Dead("it asks nothing"));
        let clock = clocks.begin();
        assert_eq!(clocks.look(&limits, limits.h2_idle_timeout, at(10_000)), Verdict::Well, "the answer is waited for");
        clock.waits_since_ms.store(1_000, Ordering::Relaxed);
        assert_eq!(clocks.look(&limits, limits.h2_idle_timeout, at(600)), Verdict::Well);
        assert_eq!(
            clocks.look(&limits, limits.h2_idle_timeout, at(601)),
            Verdict::Dead("the client does not take an answer")
        );
        drop(clock);
        assert_eq!(clocks.look(&limits, limits.h2_idle_timeout, at(299)), Verdict::Well);
        assert_eq!(clocks.look(&limits, limits.h2_idle_timeout, at(301)), Verdict::Idle);
        for _ in 0..1000 {
            drop(clocks.begin());
        }
        assert!(clocks.lock().requests.len() < 10, "requests that are over are forgotten");
    }
}
