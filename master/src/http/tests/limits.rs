//! What a client may cost: sizes, times, numbers.

use super::fake::eval_spec;
use super::raw::{DEADLINE, exchange, parse, read_answer, request};
use super::start;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const EVAL: &str = r#"{"kind":{"eval":{"formulas":["1+2"]}}}"#;
const SOON: Duration = Duration::from_millis(50);

/// Sends, and gives what comes until the server closes.
async fn until_closed(socket: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("the server closes");
    answer
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let server = start(|config| {
        config.limits.request_bytes_max = 1000;
        config.limits.upload_bytes_max = 1000;
    })
    .await;
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")];
    let told = [("Content-Type", "application/json")];
    for (size, upload, submit) in [(1000, 200, 400), (1001, 413, 413), (300_000, 413, 413)] {
        let body = "x".repeat(size);
        let pieces = format!("{size:x}\r\n{body}\r\n0\r\n\r\n");
        for (headers, body) in [(&told[..], &body), (&chunked[..], &pieces)] {
            let answer = server.ask("PUT", "/v1/uploads", headers, body).await;
            assert_eq!(answer.status, upload, "{size} {headers:?}: {answer:?}");
            if upload == 413 {
                assert_eq!(answer.problem(), "upload_too_large");
            }
            let answer = server.ask("POST", "/v1/jobs", headers, body).await;
            assert_eq!(answer.status, submit, "{size} {headers:?}: {answer:?}");
            if submit == 413 {
                assert_eq!(answer.problem(), "request_too_large");
            }
        }
    }
}

#[tokio::test]
async fn heads_over_the_limit_are_refused() {
    let server = start(|config| config.limits.head_bytes_max = 8 << 10).await;
    let long = "x".repeat(9 << 10);
    assert_eq!(server.ask("GET", "/healthz", &[("X-Long", &long)], "").await.status, 431);
    let many = [("X-Many", "1"); 80];
    assert_eq!(server.ask("GET", "/healthz", &many, "").await.status, 431);
}

#[tokio::test]
async fn slow_and_idle_connections_are_closed() {
    let server = start(|config| config.limits.head_timeout = SOON).await;
    // Nothing at all, half a head, and a head that never ends.
    for start in ["", "GET /healthz HTTP/1.1\r\nHost: local", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let answer = until_closed(&mut socket, start.as_bytes()).await;
        assert!(answer.is_empty() || parse(&answer).status == 408, "{:?}", String::from_utf8_lossy(&answer));
    }
    // An idle one after its answer.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let answer = until_closed(&mut socket, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(parse(&answer).status, 200);
}

#[tokio::test]
async fn head_that_trickles_in_is_not_waited_for() {
    let server = start(|config| config.limits.head_timeout = Duration::from_millis(200)).await;
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (mut read, mut write) = socket.into_split();
    // One byte every few milliseconds would keep an idle timer alive for ever.
    let trickle = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            if write.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, read.read_to_end(&mut answer)).await.expect("the server closes");
    drop(read);
    timeout(DEADLINE, trickle).await.expect("writing fails").unwrap();
}

#[tokio::test]
async fn stalled_bodies_are_given_up() {
    let server = start(|config| config.limits.body_idle_timeout = SOON).await;
    for (method, path) in [("POST", "/v1/jobs"), ("PUT", "/v1/uploads")] {
        let headers = [("Content-Type", "application/json"), ("Content-Length", "100")];
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all((request(method, path, &headers, "") + "{").as_bytes()).await.unwrap();
        let answer = read_answer(&mut socket).await;
        assert_eq!((answer.status, answer.problem().as_str()), (408, "body_stalled"), "{path}");
    }
}

#[tokio::test]
async fn requests_over_the_limit_are_told_to_try_again() {
    let server = start(|config| config.limits.requests_in_flight_max = 1).await;
    server.fake.gate.forget_permits(1000);
    let post = request("POST", "/v1/jobs", &[("Content-Type", "application/json")], EVAL);
    let address = server.address;
    let first = tokio::spawn(async move { exchange(address, &post).await });
    timeout(DEADLINE, async {
        while server.fake.submitting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let second = server.get("/v1/jobs").await;
    assert_eq!((second.status, second.problem().as_str()), (429, "too_many_requests"));
    assert_eq!(second.header("retry-after"), Some("1"));
    assert_eq!(server.get("/healthz").await.status, 200);
    server.fake.gate.add_permits(1);
    assert_eq!(first.await.unwrap().status, 202);
    assert_eq!(server.get("/v1/jobs").await.status, 200);
}

#[tokio::test]
async fn streams_over_the_limit_are_told_to_try_again() {
    let server = start(|config| config.limits.streams_max = 1).await;
    server.fake.add(&eval_spec());
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request("GET", "/v1/jobs/1/events", &[], "").as_bytes()).await.unwrap();
    let mut byte = [0];
    timeout(DEADLINE, socket.read_exact(&mut byte)).await.unwrap().unwrap();
    for path in ["/v1/jobs/1/events", "/v1/jobs/1/results"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.problem().as_str()), (429, "too_many_streams"));
    }
    assert_eq!(server.get("/v1/jobs").await.status, 200);
    drop(socket);
    timeout(DEADLINE, async { while server.get("/v1/jobs/1/results").await.status != 200 {} }).await.unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_get_one_answer() {
    let server = start(|config| config.limits.connections_max = 1).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let keep = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    first.write_all(keep).await.unwrap();
    let mut byte = [0];
    timeout(DEADLINE, first.read_exact(&mut byte)).await.unwrap().unwrap();
    let address = server.address;
    for _ in 0..300 {
        let mut second = TcpStream::connect(address).await.unwrap();
        let answer = until_closed(&mut second, request("GET", "/v1/jobs", &[], "").as_bytes()).await;
        let answer = parse(&answer);
        assert_eq!((answer.status, answer.problem().as_str()), (429, "too_many_connections"));
        assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
    }
    // Who asks whether the master lives is told.
    let mut probe = TcpStream::connect(address).await.unwrap();
    assert_eq!(parse(&until_closed(&mut probe, keep).await).status, 200);
    drop(first);
    let get = request("GET", "/v1/jobs", &[], "");
    timeout(DEADLINE, async { while exchange(address, &get).await.status != 200 {} }).await.unwrap();
}
