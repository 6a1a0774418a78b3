//! Batches: lines in, lines out, and what does not get in.

use super::raw::{Answer, DEADLINE, exchange, read_answer, request};
use super::{Server, start};
use quipu_shared::service::ErrorKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const NDJSON: [(&str, &str); 1] = [("Content-Type", "application/x-ndjson")];

fn line(formula: &str, key: &str) -> String {
    format!(r#"{{"spec":{{"kind":{{"eval":{{"formulas":["{formula}"]}}}}}},"idempotency_key":"{key}"}}"#)
}

async fn post(server: &Server, body: &str) -> Answer {
    server.ask("POST", "/v1/jobs:batch", &NDJSON, body).await
}

/// The lines of an answer.
fn lines(answer: &Answer) -> Vec<serde_json::Value> {
    assert_eq!((answer.status, answer.header("content-type")), (202, Some("application/x-ndjson")), "{answer:?}");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn answers_stand_in_the_order_of_the_lines() {
    let server = start(|_| {}).await;
    let body = (1..=300).map(|i| line(&format!("{i}"), &format!("k{i}")) + "\n").collect::<String>();
    let answer = lines(&post(&server, &body).await);
    assert_eq!(answer.len(), 300);
    for (i, answer) in answer.iter().enumerate() {
        assert_eq!(answer, &serde_json::json!({ "job": i + 1 }));
    }
    assert_eq!(*server.fake.batches.lock().unwrap(), [300]);
    let requests = server.fake.requests.lock().unwrap().clone();
    assert_eq!(requests[299].idempotency_key.as_deref(), Some("k300"));
    // The same lines are the same jobs.
    assert_eq!(lines(&post(&server, &body).await), answer);
}

#[tokio::test]
async fn line_that_cannot_be_used_fails_alone_and_is_named() {
    let server = start(|_| {}).await;
    let long_key = "k".repeat(129);
    let body = [
        line("1", "a").as_str(),
        "",
        r#"{"spec":{"kind":{"eval":{"formulas":["2"]}}"#,
        "not json",
        "[]",
        "\u{1}\u{2}",
        r#"{"spec":{"kind":{"eval":{"formulas":"3"}}}}"#,
        r#"{"spec":{"kind":{"eval":{"formulas":["4"]}}},"priority":1}"#,
        r#"{"spec":{"kind":{"eval":{"formulas":[]}}}}"#,
        &line("5", &long_key),
        &format!("{} {}", line("6", "b"), line("7", "c")),
        &"[".repeat(100_000),
        &line("8", "d"),
    ]
    .join("\n");
    let answer = lines(&post(&server, &body).await);
    assert_eq!(answer.len(), 12);
    assert_eq!((&answer[0]["job"], &answer[11]["job"]), (&1.into(), &2.into()));
    for (index, code, words) in [
        (1, "bad_json", "line 3, column "),
        (2, "bad_json", "line 4, column "),
        (4, "bad_json", "line 6, column "),
        (5, "bad_field", "field `spec.kind"),
        (6, "bad_field", "line 8, column "),
        (7, "no_formula", "no_formula"),
        (8, "bad_idempotency_key", "line 10: "),
        (9, "bad_json", "line 11, column "),
        (10, "bad_json", "line 12, column "),
    ] {
        let error = &answer[index]["error"];
        assert_eq!(error["code"], code, "{error}");
        assert!(error["detail"].as_str().unwrap().contains(words), "{error}");
        assert!(answer[index].get("job").is_none());
    }
    assert_eq!(*server.fake.batches.lock().unwrap(), [4 - 1]);
}

#[tokio::test]
async fn batch_without_a_good_line_asks_nobody() {
    let server = start(|_| {}).await;
    assert!(lines(&post(&server, "\n \n").await).is_empty());
    assert!(lines(&post(&server, "").await).is_empty());
    assert_eq!(lines(&post(&server, "{").await).len(), 1);
    assert!(server.fake.batches.lock().unwrap().is_empty());
}

#[tokio::test]
async fn trace_contexts_that_are_none_are_left_out() {
    let server = start(|_| {}).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (text, kept) in [(trace, Some(trace)), ("nonsense", None)] {
        let body = line("1", text).replace("idempotency_key", "traceparent");
        assert_eq!(lines(&post(&server, &body).await).len(), 1);
        assert_eq!(server.fake.requests.lock().unwrap().last().unwrap().traceparent.as_deref(), kept);
    }
}

#[tokio::test]
async fn only_ndjson_is_taken() {
    let server = start(|_| {}).await;
    for media_type in ["application/json", "text/plain", "application/x-ndjsonx", ""] {
        let headers = [("Content-Type", media_type)];
        let answer = server.ask("POST", "/v1/jobs:batch", &headers, &line("1", "a")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (415, "not_ndjson"), "{media_type}");
    }
    let headers = [("Content-Type", "Application/X-NDJSON; charset=utf-8")];
    assert_eq!(lines(&server.ask("POST", "/v1/jobs:batch", &headers, &line("1", "a")).await).len(), 1);
}

#[tokio::test]
async fn batches_over_the_limits_are_refused_whole() {
    let server = start(|config| {
        config.limits.batch_jobs_max = 3;
        config.limits.request_bytes_max = 4096;
    })
    .await;
    let three = ["1", "2", "3"].map(|formula| line(formula, formula)).join("\n\n");
    assert_eq!(lines(&post(&server, &three).await).len(), 3);
    let four = post(&server, &format!("{three}\n{}", line("4", "4"))).await;
    assert_eq!((four.status, four.problem().as_str()), (413, "batch_too_large"));
    let large = post(&server, &line(&"1".repeat(4096), "x")).await;
    assert_eq!((large.status, large.problem().as_str()), (413, "request_too_large"));
    assert_eq!(*server.fake.batches.lock().unwrap(), [3]);
}

#[tokio::test]
async fn line_of_a_gigabyte_is_refused_early() {
    let server = start(|config| config.limits.request_bytes_max = 1 << 20).await;
    // One that says so is refused before its first byte.
    let headers = [NDJSON[0], ("Content-Length", "1073741824")];
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request("POST", "/v1/jobs:batch", &headers, "").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut socket).await.problem(), "request_too_large");
    // One that does not say is refused once it is over the limit, while it is still being sent; what a client sends
    // before it looks is thrown away up to 64 MiB.
    let headers = [NDJSON[0], ("Transfer-Encoding", "chunked")];
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (mut read, mut write) = socket.into_split();
    write.write_all(request("POST", "/v1/jobs:batch", &headers, "").as_bytes()).await.unwrap();
    let sender = tokio::spawn(async move {
        let piece = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let mut sent = 0_usize;
        while sent < 1 << 30 && write.write_all(&piece).await.is_ok() {
            sent += 0x10000;
        }
        sent
    });
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer)).await.expect("an end");
    drop(read);
    let sent = timeout(DEADLINE, sender).await.expect("sending ends").unwrap();
    assert!(sent < 128 << 20, "{sent} bytes were taken");
    assert!(answer.is_empty() || super::raw::parse(&answer).problem() == "request_too_large");
}

#[tokio::test]
async fn half_a_batch_is_no_batch() {
    let server = start(|_| {}).await;
    let body = format!("{}\n{}", line("1", "a"), line("2", "b"));
    let half = &body[..body.len() - 10];
    let length = body.len().to_string();
    let headers = [NDJSON[0], ("Content-Length", length.as_str())];
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all((request("POST", "/v1/jobs:batch", &headers, "") + half).as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answer)).await.expect("an end");
    assert!(server.fake.batches.lock().unwrap().is_empty());
    assert!(answer.is_empty() || super::raw::parse(&answer).status >= 400);
}

#[tokio::test]
async fn refusal_of_all_is_the_requests() {
    let server = start(|_| {}).await;
    let busy = super::fake::error(ErrorKind::Busy, "queue_full");
    *server.fake.error.lock().unwrap() = Some(quipu_shared::service::ServiceError { retry_after_s: Some(3), ..busy });
    let answer = post(&server, &line("1", "a")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (429, "queue_full"));
    assert_eq!(answer.header("retry-after"), Some("3"));
    *server.fake.error.lock().unwrap() = None;
    // Of one line, it is the line's.
    server.fake.busy.store(1, std::sync::atomic::Ordering::Relaxed);
    let answer = lines(&post(&server, &format!("{}\n{}", line("1", "a"), line("2", "b"))).await);
    assert_eq!((&answer[0]["error"]["kind"], &answer[0]["retry_after_s"]), (&"busy".into(), &0.into()));
    assert_eq!(answer[1], serde_json::json!({ "job": 1 }));
}

#[tokio::test]
async fn batches_need_a_token() {
    let server = start(|_| {}).await;
    let headers = [NDJSON[0], ("Authorization", "Bearer wrong")];
    let answer = exchange(server.address, &request("POST", "/v1/jobs:batch", &headers, &line("1", "a"))).await;
    assert_eq!((answer.status, answer.problem().as_str()), (401, "wrong_token"));
}
