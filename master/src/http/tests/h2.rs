//! HTTP/2: as it should be, and frames that no well-behaved client sends.

use super::fake::eval_spec;
use super::raw::{DEADLINE, TOKEN};
use super::{Server, start};
use axum::body::Body;
use axum::http::{Request, Version};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::body::Body as _;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SOON: Duration = Duration::from_millis(100);
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header that is neither indexed nor compressed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127, "a length of one byte");
        field.push(u8::try_from(text.len()).unwrap());
        field.extend(text.as_bytes());
    }
    field
}

/// A whole head.
fn head(method: &str, path: &str) -> Vec<u8> {
    let bearer = format!("Bearer {TOKEN}");
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("authorization", &bearer),
    ];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A socket on which HTTP/2 has begun.
async fn begun(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    socket
}

/// The kinds of frames that come until the server closes.
async fn frames_until_closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(DEADLINE, socket.read_to_end(&mut bytes)).await.expect("the server closes");
    let (mut kinds, mut rest) = (Vec::new(), &bytes[..]);
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        kinds.push(rest[3]);
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    kinds
}

/// Others are still answered.
async fn assert_well(server: &Server) {
    let answer = timeout(DEADLINE, server.get("/v1/jobs")).await.expect("in time");
    assert_eq!(answer.status, 200);
}

async fn well_behaved(server: &Server) -> SendRequest<Body> {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
    let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    let request = Request::get(format!("http://localhost{path}")).header("authorization", format!("Bearer {TOKEN}"));
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn everything_is_served_over_http_2_too() {
    let server = start(|_| {}).await;
    let mut client = well_behaved(&server).await;
    let id = server.fake.add(&eval_spec());
    for (request, status) in [
        (get("/v1/jobs/1"), 200),
        (get("/nowhere"), 404),
        (Request::get("http://localhost/v1/jobs").body(Body::empty()).unwrap(), 401),
        (Request::get("http://evil.example/healthz").body(Body::empty()).unwrap(), 403),
    ] {
        let what = format!("{request:?}");
        let answer = client.send_request(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (status, Version::HTTP_2), "{what}");
    }
    let submit = Request::post("http://localhost/v1/jobs").header("authorization", format!("Bearer {TOKEN}"));
    let submit = submit.header("content-type", "application/json");
    let body = r#"{"kind":{"eval":{"formulas":["1+2"]}}}"#;
    assert_eq!(client.send_request(submit.body(Body::from(body)).unwrap()).await.unwrap().status(), 202);
    // Many on one connection, beside an open stream.
    let events = client.send_request(get("/v1/jobs/1/events")).await.unwrap();
    let answers = (0..50).map(|_| client.send_request(get("/healthz")));
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    drop(events);
    let gone = async {
        while server.fake.watchers(id) > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone).await.expect("a stream that is reset is given up");
}

#[tokio::test]
async fn shutdown_ends_connections_of_http_2() {
    let server = start(|_| {}).await;
    server.fake.add(&eval_spec());
    let mut client = well_behaved(&server).await;
    let events = client.send_request(get("/v1/jobs/1/events")).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(DEADLINE, server.task).await.expect("in time").unwrap();
    drop(events);
}

#[tokio::test]
async fn silent_clients_are_cut_off() {
    let server = start(|config| config.limits.head_timeout = SOON).await;
    let whole = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    // A part of the preface, no settings, no request.
    for said in [&PREFACE[..7], PREFACE, &whole] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(said).await.unwrap();
        frames_until_closed(&mut socket).await;
    }
}

#[tokio::test]
async fn idle_connections_are_told_to_end_and_cut_if_they_do_not() {
    let server = start(|config| config.limits.h2_idle_timeout = SOON).await;
    let mut socket = begun(&server).await;
    socket.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/healthz"))).await.unwrap();
    let kinds = frames_until_closed(&mut socket).await;
    assert!(kinds.contains(&HEADERS) && kinds.contains(&GOAWAY), "answered, then told: {kinds:?}");
}

#[tokio::test]
async fn pings_keep_no_idle_connection() {
    let server = start(|config| config.limits.head_timeout = SOON).await;
    let socket = begun(&server).await;
    let (mut read, mut write) = socket.into_split();
    let pings = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            if write.write_all(&frame(PING, 0, 0, b"12345678")).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = Vec::new();
    let _ = timeout(DEADLINE, read.read_to_end(&mut bytes)).await.expect("the server closes");
    drop(read);
    timeout(DEADLINE, pings).await.expect("writing fails").unwrap();
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_nothing_else() {
    let server = start(|_| {}).await;
    let mut socket = begun(&server).await;
    let mut flood = Vec::new();
    for stream in (1..20_001).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("GET", "/v1/jobs")));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // It may be cut while it is still sent.
    let _ = socket.write_all(&flood).await;
    let kinds = frames_until_closed(&mut socket).await;
    assert!(kinds.contains(&GOAWAY) || kinds.len() < 10_000, "{} frames", kinds.len());
    assert_well(&server).await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let server = start(|config| {
        config.limits.h2_streams_max = 10;
        config.limits.head_timeout = Duration::from_secs(1);
        config.limits.body_idle_timeout = Duration::from_secs(1);
        config.limits.h2_idle_timeout = SOON;
    })
    .await;
    let mut socket = begun(&server).await;
    for stream in (1..61).step_by(2) {
        // Without its end: each waits for a body.
        let mut head = head("POST", "/v1/jobs");
        head.extend(field("content-type", "application/json"));
        socket.write_all(&frame(HEADERS, END_HEADERS, stream, &head)).await.unwrap();
    }
    assert_well(&server).await;
    let kinds = frames_until_closed(&mut socket).await;
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!(count(HEADERS), 10, "the first ten are answered when they stall: {kinds:?}");
    assert!(count(RST_STREAM) >= 20, "{kinds:?}");
}

#[tokio::test]
async fn heads_without_end_are_not_read() {
    let server = start(|_| {}).await;
    let mut socket = begun(&server).await;
    let mut sent = frame(HEADERS, END_STREAM, 1, &head("GET", "/healthz"));
    let piece: Vec<u8> = (0..100).flat_map(|_| field("x-long", &"x".repeat(120))).collect();
    for _ in 0..1_000 {
        sent.extend(frame(CONTINUATION, 0, 1, &piece));
    }
    let _ = socket.write_all(&sent).await;
    frames_until_closed(&mut socket).await;
    assert_well(&server).await;
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let server = start(|_| {}).await;
    let mut client = well_behaved(&server).await;
    let mut request = get("/healthz");
    for number in 0..80 {
        let name = axum::http::HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, axum::http::HeaderValue::from_static("1"));
    }
    assert_eq!(client.send_request(request).await.unwrap().status(), 431);
    let mut request = get("/healthz");
    request.headers_mut().insert("x-long", "x".repeat(40 << 10).parse().unwrap());
    let answer = client.send_request(request).await;
    assert!(answer.as_ref().is_err() || answer.is_ok_and(|answer| answer.status() == 431));
}

#[tokio::test]
async fn answers_that_are_not_taken_hold_no_place() {
    let server = start(|config| {
        config.limits.streams_max = 1;
        config.limits.write_stall_timeout = SOON;
    })
    .await;
    server.fake.add(&eval_spec());
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![b'x'; 10_000]))).boxed();
    *server.fake.results.lock().unwrap() = Some(endless);
    let mut client = well_behaved(&server).await;
    let mut answer = client.send_request(get("/v1/jobs/1/results")).await.unwrap();
    let first = std::future::poll_fn(|cx| Pin::new(answer.body_mut()).poll_frame(cx)).await;
    assert!(first.unwrap().is_ok());
    // The connection stays open and answers pings; only the window is never opened again.
    let freed = async { while server.get("/v1/jobs/1/results").await.status != 200 {} };
    timeout(DEADLINE, freed).await.expect("the place is free again");
    drop(answer);
}
