//! `/metrics` and `/debug` from outside.

use super::raw::{DEADLINE, exchange, request};
use super::start;
use crate::http::tests::fake::eval_spec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const OPENMETRICS: (&str, &str) = ("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");

/// The value of a line that begins with this.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn both_forms_are_given_as_the_client_takes_them() {
    let server = start(|_| {}).await;
    let open = server.ask("GET", "/metrics", &[OPENMETRICS], "").await;
    assert_eq!(open.status, 200);
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.text().ends_with("# EOF\n"));
    assert!(open.text().contains("# TYPE quipu_rows counter\n") && open.text().contains("\nquipu_rows_total 0\n"));
    let classic = server.ask("GET", "/metrics", &[("Accept", "*/*")], "").await;
    assert_eq!(classic.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(classic.text().contains("# TYPE quipu_rows_total counter\n") && !classic.text().contains("# EOF"));
    assert_eq!(value(classic.text(), "process_threads").map(|threads| threads >= 1.0), Some(true));
    let build = format!("quipu_build_info{{version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(classic.text().lines().any(|line| line.starts_with(&build) && line.ends_with(" 1")), "{}", classic.text());
    assert_eq!(server.ask("GET", "/metrics", &[("Authorization", "Bearer wrong")], "").await.status, 401);
}

#[tokio::test]
async fn requests_are_counted_by_pattern_and_no_path_makes_a_line() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    assert_eq!(server.get(&format!("/v1/jobs/{job}")).await.status, 200);
    assert_eq!(server.get("/v1/jobs/99").await.status, 404);
    let lines = async || {
        let text = server.get("/metrics").await.text().to_owned();
        (text.lines().filter(|line| line.starts_with("quipu_http_")).count(), text)
    };
    server.get("/nowhere").await;
    lines().await;
    let (before, _) = lines().await;
    for attempt in 0..20 {
        server.get(&format!("/v1/jobs/{}", 1000 + attempt)).await;
        server.get(&format!("/nowhere/{attempt}")).await;
        exchange(server.address, &request("GET", "/v1/jobs", &[("Authorization", "Bearer wrong")], "")).await;
    }
    exchange(server.address, &request("BREW", "/v1/jobs", &[], "")).await;
    let (after, text) = lines().await;
    // New are 401 on the list, and the odd method there, which the method's own latencies come with.
    assert!(after < before + 50, "{before} and then {after} lines:\n{text}");
    let count = |route: &str, method: &str, status: u16| {
        value(&text, &format!("quipu_http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}"))
    };
    assert_eq!(count("/v1/jobs/{job}", "GET", 200), Some(1.0), "{text}");
    assert_eq!(count("/v1/jobs/{job}", "GET", 404), Some(21.0));
    assert_eq!(count("unmatched", "GET", 404), Some(21.0));
    assert_eq!(count("/v1/jobs", "GET", 401), Some(20.0));
    assert_eq!(count("/v1/jobs", "other", 405), Some(1.0));
    let latency = "quipu_http_request_duration_seconds_count{route=\"/v1/jobs/{job}\",method=\"GET\"}";
    assert_eq!(value(&text, latency), Some(22.0));
    assert_eq!(value(&text, "quipu_http_requests_in_flight"), Some(1.0), "the scrape itself");
}

#[tokio::test]
async fn evaluations_at_once_and_watchers_are_counted() {
    let server = start(|_| {}).await;
    for formula in ["1 + 2", "1 + 2", "1 / 0"] {
        let body = format!(r#"{{"formula":"{formula}"}}"#);
        server.ask("POST", "/v1/eval", &[("Content-Type", "application/json")], &body).await;
    }
    let mut watcher = TcpStream::connect(server.address).await.unwrap();
    watcher.write_all(request("GET", "/v1/events", &[], "").as_bytes()).await.unwrap();
    watcher.read_exact(&mut [0; 16]).await.unwrap();
    let text = server.get("/metrics").await.text().to_owned();
    assert_eq!(value(&text, "quipu_eval_formulas_total{outcome=\"value\"}"), Some(2.0), "{text}");
    assert_eq!(value(&text, "quipu_eval_formulas_total{outcome=\"failed\"}"), Some(1.0));
    let lookups = |result: &str| {
        value(&text, &format!("quipu_eval_cache_lookups_total{{cache=\"formula\",result=\"{result}\"}}"))
    };
    assert_eq!((lookups("miss"), lookups("hit")), (Some(2.0), Some(1.0)));
    assert_eq!(value(&text, "quipu_http_watchers"), Some(1.0));
}

#[tokio::test]
async fn open_streams_are_counted_until_they_are_closed() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    let streams = async || value(server.get("/metrics").await.text(), "quipu_http_event_streams");
    assert_eq!(streams().await, Some(0.0));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(request("GET", &format!("/v1/jobs/{job}/events"), &[], "").as_bytes()).await.unwrap();
    socket.read_exact(&mut [0; 16]).await.unwrap();
    assert_eq!(streams().await, Some(1.0));
    drop(socket);
    // The server notices when it writes to it.
    let closed = timeout(DEADLINE, async {
        while streams().await != Some(0.0) {
            server.fake.change(job, |view| view.rows_done += 1);
        }
    });
    closed.await.expect("the stream is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_come_one_at_a_time_and_within_bounds() {
    let server = start(|_| {}).await;
    for bad in ["seconds=0", "seconds=100000", "frequency=5000", "nothing=1"] {
        let answer = server.get(&format!("/debug/pprof/profile?{bad}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad_query"), "{bad}");
    }
    // Both are there long before the first one is done.
    let path = "/debug/pprof/profile?seconds=2";
    let (one, other) = tokio::join!(server.get(path), server.get(path));
    let (made, refused) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!((refused.status, refused.problem().as_str()), (429, "profile_running"));
    assert_eq!(made.header("content-type"), Some("application/octet-stream"));
    assert_eq!(made.body[..2], [0x1f, 0x8b], "gzip");
}

#[tokio::test]
async fn heap_and_threads_are_json() {
    let server = start(|_| {}).await;
    let heap = server.get("/debug/pprof/heap").await.json();
    assert_eq!(heap["version"], 1);
    assert!(heap["resident_bytes"].as_u64().unwrap() > 1 << 20, "{heap}");
    let threads = server.get("/debug/threads").await.json();
    assert!(!threads["threads"].as_array().unwrap().is_empty(), "{threads}");
}
