//! Events, results and uploads.

use super::fake::{digest_of, error, eval_spec};
use super::raw::{DEADLINE, exchange, parse, read_answer, request};
use super::start;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quipu_shared::service::{ErrorKind, JobState};
use quipu_shared::spec::{Reduction, RowFormat};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Reads until what has come contains `text`.
async fn read_until(socket: &mut TcpStream, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let read = timeout(DEADLINE, socket.read_buf(&mut bytes)).await.unwrap_or_else(|_| panic!("no {text:?} came"));
        assert_ne!(read.unwrap(), 0, "closed before {text:?}: {:?}", String::from_utf8_lossy(&bytes));
    }
    bytes
}

#[tokio::test]
async fn events_end_after_the_final_state() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request("GET", "/v1/jobs/1/events", &[], "").as_bytes()).await.unwrap();
    let mut bytes = read_until(&mut socket, "\"running\"").await;
    server.fake.change(job, |view| view.rows_done = 1);
    bytes.extend(read_until(&mut socket, "\"rows_done\":1").await);
    server.fake.change(job, |view| view.state = JobState::Succeeded);
    timeout(DEADLINE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let answer = parse(&bytes);
    assert!(answer.complete);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let ids: Vec<_> = answer.text().lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["1", "2", "3-final"]);
    let data = answer.text().lines().filter_map(|line| line.strip_prefix("data: "));
    let states: Vec<_> =
        data.map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap()["state"].clone()).collect();
    assert_eq!(states, ["running", "running", "succeeded"]);
    assert_eq!(server.fake.watchers(job), 0);
}

#[tokio::test]
async fn events_continue_after_the_last_one_seen() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    server.fake.change(job, |view| view.state = JobState::Failed);
    let answer = server.ask("GET", "/v1/jobs/1/events", &[("Last-Event-ID", "41")], "").await;
    assert!(answer.text().contains("id: 42-final"), "{answer:?}");
    let answer = server.ask("GET", "/v1/jobs/1/events", &[("Last-Event-ID", "42-final")], "").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
}

#[tokio::test]
async fn silent_event_streams_carry_comments() {
    let server = start(|config| config.limits.keep_alive_interval = Duration::from_millis(20)).await;
    server.fake.add(&eval_spec());
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request("GET", "/v1/jobs/1/events", &[], "").as_bytes()).await.unwrap();
    read_until(&mut socket, "\n:\n\n").await;
}

#[tokio::test]
async fn watcher_that_leaves_is_forgotten() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request("GET", "/v1/jobs/1/events", &[], "").as_bytes()).await.unwrap();
    read_until(&mut socket, "\"running\"").await;
    assert_eq!(server.fake.watchers(job), 1);
    drop(socket);
    timeout(DEADLINE, async {
        while server.fake.watchers(job) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the watch is dropped");
}

#[tokio::test]
async fn results_have_the_media_type_of_their_form() {
    let server = start(|_| {}).await;
    let mut spec = eval_spec();
    server.fake.add(&spec);
    spec.kind = serde_json::from_str(
        r#"{"sweep":{"formula":"x","name":"y","axes":[{"name":"x","values":{"int_range":{"start":0,"stop":9,"step":1}}}]}}"#,
    )
    .unwrap();
    for format in [RowFormat::Csv, RowFormat::Ndjson, RowFormat::Plain] {
        spec.format = format;
        server.fake.add(&spec);
    }
    spec.reductions = vec![Reduction::Sum];
    server.fake.add(&spec);
    for (job, media_type) in [
        (1, "application/x-ndjson"),
        (2, "text/csv; charset=utf-8"),
        (3, "application/x-ndjson"),
        (4, "text/plain; charset=utf-8"),
        (5, "application/json"),
    ] {
        let pieces = [Bytes::from_static(b"a"), Bytes::from_static(b"bc")].map(Ok);
        *server.fake.results.lock().unwrap() = Some(stream::iter(pieces).boxed());
        let answer = server.get(&format!("/v1/jobs/{job}/results")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type)));
        assert_eq!((answer.text(), answer.complete), ("abc", true));
    }
}

#[tokio::test]
async fn results_that_fail_on_the_way_never_look_complete() {
    let server = start(|_| {}).await;
    server.fake.add(&eval_spec());
    let pieces = [Ok(Bytes::from_static(b"1\n")), Err(error(ErrorKind::Evaluation, "int_overflow"))];
    *server.fake.results.lock().unwrap() = Some(stream::iter(pieces).boxed());
    let answer = server.get("/v1/jobs/1/results").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.complete, "{answer:?}");
}

#[tokio::test]
async fn results_that_fail_at_once_are_a_problem() {
    let server = start(|_| {}).await;
    server.fake.add(&eval_spec());
    let failure = || Err(error(ErrorKind::Evaluation, "int_overflow"));
    let soon = async move {
        tokio::task::yield_now().await;
        failure()
    };
    for pieces in [stream::iter([failure()]).boxed(), stream::once(soon).boxed()] {
        *server.fake.results.lock().unwrap() = Some(pieces);
        let answer = server.get("/v1/jobs/1/results").await;
        assert_eq!((answer.status, answer.problem().as_str()), (422, "int_overflow"));
    }
}

#[tokio::test]
async fn results_need_a_version_with_chunks() {
    let server = start(|_| {}).await;
    server.fake.add(&eval_spec());
    let old = request("GET", "/v1/jobs/1/results", &[], "").replace("HTTP/1.1", "HTTP/1.0");
    let answer = exchange(server.address, &old).await;
    assert_eq!((answer.status, answer.problem().as_str()), (505, "http_version"));
}

#[tokio::test]
async fn results_flow_no_faster_than_they_are_read() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 1000;
    let server = start(|config| config.limits.write_stall_timeout = Duration::from_millis(300)).await;
    server.fake.add(&eval_spec());
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let pieces = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from(vec![b'x'; PIECE]))
    });
    *server.fake.results.lock().unwrap() = Some(pieces.take(PIECES).boxed());
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request("GET", "/v1/jobs/1/results", &[], "").as_bytes()).await.unwrap();
    // Nothing is read until the server has given up; then only what the sockets held is there.
    timeout(DEADLINE, async {
        while Arc::strong_count(&taken) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the stalled stream is dropped");
    assert!(taken.load(Ordering::Relaxed) < PIECES, "all was taken though nothing was read");
    let answer = read_answer(&mut socket).await;
    assert!(!answer.complete && answer.body.len() < PIECE * PIECES);
}

#[tokio::test]
async fn uploads_arrive_whole() {
    let server = start(|_| {}).await;
    let answer = server.ask("PUT", "/v1/uploads", &[], "a,b\n1,2\n").await;
    assert_eq!((answer.status, &answer.json()["bytes"]), (200, &8.into()));
    assert_eq!(answer.json()["digest"], digest_of(b"a,b\n1,2\n"));
    let chunked = [("Transfer-Encoding", "chunked")];
    let answer = server.ask("PUT", "/v1/uploads", &chunked, "3\r\na,b\r\n5\r\n\n1,2\n\r\n0\r\n\r\n").await;
    assert_eq!(answer.json()["digest"], digest_of(b"a,b\n1,2\n"));
    assert_eq!(*server.fake.uploaded.lock().unwrap(), b"a,b\n1,2\n");
}

#[tokio::test]
async fn upload_that_breaks_off_is_not_taken() {
    let server = start(|_| {}).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let half = request("PUT", "/v1/uploads", &[("Content-Length", "100")], "");
    socket.write_all((half + "a,b\n").as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, socket.read_to_end(&mut rest)).await.expect("the server closes");
    assert!(rest.is_empty() || parse(&rest).status == 400, "{:?}", String::from_utf8_lossy(&rest));
    assert!(server.fake.uploaded.lock().unwrap().is_empty());
}
