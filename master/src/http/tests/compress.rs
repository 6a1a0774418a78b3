//! Compressed answers, and what must not be.

use super::fake::eval_spec;
use super::raw::{DEADLINE, request};
use super::start;
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::{StreamExt, stream};
use quipu_shared::service::JobState;
use quipu_shared::spec::{JobSpec, RowFormat};
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

const GZIP: [(&str, &str); 1] = [("Accept-Encoding", "gzip")];

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(Vec::new());
    decoder.write_all(bytes).unwrap();
    decoder.finish().unwrap()
}

/// A job whose results are of a format.
fn spec(format: RowFormat) -> JobSpec {
    let kind = r#"{"sweep":{"formula":"x","name":"y","axes":[{"name":"x","values":{"list":[{"int":1}]}}]}}"#;
    JobSpec { kind: serde_json::from_str(kind).unwrap(), format, ..eval_spec() }
}

#[tokio::test]
async fn text_is_compressed_for_those_who_take_it() {
    let server = start(|_| ()).await;
    for _ in 0..50 {
        server.fake.add(&eval_spec());
    }
    let plain = server.get("/v1/jobs").await;
    assert_eq!(plain.header("content-encoding"), None);
    let answer = server.ask("GET", "/v1/jobs", &GZIP, "").await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(gunzip(&answer.body), plain.body);
    assert!(answer.header("vary").is_some_and(|vary| vary.eq_ignore_ascii_case("accept-encoding")));
    let answer = server.ask("GET", "/v1/jobs", &[("Accept-Encoding", "gzip;q=0.5, zstd")], "").await;
    assert_eq!(answer.header("content-encoding"), Some("zstd"));
    assert_eq!(answer.body[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    // What fits a packet, and what nobody takes, stays as it is.
    for (path, headers) in [("/v1/version", GZIP), ("/v1/jobs", [("Accept-Encoding", "br")])] {
        let answer = server.ask("GET", path, &headers, "").await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, None), "{path}");
    }
}

#[tokio::test]
async fn columns_and_events_are_not_compressed() {
    let server = start(|_| ()).await;
    for format in [RowFormat::Arrow, RowFormat::Parquet] {
        let job = server.fake.add(&spec(format));
        *server.fake.results.lock().unwrap() = Some(stream::iter([Ok(Bytes::from(vec![1; 10_000]))]).boxed());
        let answer = server.ask("GET", &format!("/v1/jobs/{job}/results"), &GZIP, "").await;
        assert_eq!((answer.status, answer.header("content-encoding"), answer.body.len()), (200, None, 10_000));
    }
    let job = server.fake.add(&eval_spec());
    server.fake.change(job, |view| view.state = JobState::Succeeded);
    let answer = server.ask("GET", &format!("/v1/jobs/{job}/events"), &GZIP, "").await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    assert!(answer.text().contains("succeeded"), "{answer:?}");
}

#[tokio::test]
async fn compressed_results_come_as_they_are_made() {
    let server = start(|_| ()).await;
    let job = server.fake.add(&spec(RowFormat::Csv));
    let (sender, receiver) = mpsc::unbounded_channel();
    let pieces = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    *server.fake.results.lock().unwrap() = Some(pieces.boxed());
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let get = request("GET", &format!("/v1/jobs/{job}/results"), &GZIP, "");
    socket.write_all(get.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let mut decoder = GzDecoder::new(Vec::new());
    let mut taken = None;
    for count in 1..=3 {
        sender.send(Ok(Bytes::from(format!("{count},piece\n")))).unwrap();
        let wanted: String = (1..=count).map(|count| format!("{count},piece\n")).collect();
        timeout(DEADLINE, async {
            while decoder.get_ref() != wanted.as_bytes() {
                assert!(socket.read_buf(&mut received).await.unwrap() > 0, "closed after {:?}", decoder.get_ref());
                let head = received.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
                let Some(head) = head else { continue };
                let at: &mut usize = taken.get_or_insert(head);
                // Whole chunks alone.
                while let Some(end) = received[*at..].windows(2).position(|w| w == b"\r\n") {
                    let size = usize::from_str_radix(std::str::from_utf8(&received[*at..*at + end]).unwrap(), 16);
                    let (from, size) = (*at + end + 2, size.unwrap());
                    let Some(chunk) = received.get(from..from + size + 2) else { break };
                    decoder.write_all(&chunk[..size]).unwrap();
                    decoder.flush().unwrap();
                    *at = from + size + 2;
                }
            }
        })
        .await
        .expect("each piece comes while the next is not made yet");
    }
    let head = String::from_utf8_lossy(&received);
    assert!(head.contains("content-encoding: gzip"), "{head}");
}

#[tokio::test]
async fn compressed_results_that_break_off_have_no_end() {
    let server = start(|_| ()).await;
    let job = server.fake.add(&spec(RowFormat::Csv));
    let gone = super::fake::error(quipu_shared::service::ErrorKind::Internal, "worker_gone");
    let pieces = stream::iter([Ok(Bytes::from(vec![b'x'; 5_000]))]).chain(stream::once(async move { Err(gone) }));
    *server.fake.results.lock().unwrap() = Some(pieces.boxed());
    let answer = server.ask("GET", &format!("/v1/jobs/{job}/results"), &GZIP, "").await;
    assert_eq!((answer.status, answer.complete), (200, false));
}
