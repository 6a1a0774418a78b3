//! The cluster as it is told to all who watch, and the details of jobs and nodes.

use super::fake::{error, eval_spec};
use super::raw::{DEADLINE, request};
use super::start;
use quipu_shared::detail::{AttemptList, AttemptOutcome, AttemptView};
use quipu_shared::ids::{AttemptId, NodeId, ShardId};
use quipu_shared::service::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn watch(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request("GET", path, &[("Accept", "text/event-stream")], "").as_bytes()).await.unwrap();
    socket
}

/// Reads until what has come contains `text`.
async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let read = timeout(DEADLINE, socket.read_buf(&mut bytes)).await.unwrap_or_else(|_| panic!("no {text:?} came"));
        assert_ne!(read.unwrap(), 0, "closed before {text:?}: {:?}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn all_who_watch_are_told_by_one_look() {
    const WATCHERS: usize = 40;
    let server = start(|config| config.limits.keep_alive_interval = Duration::from_millis(50)).await;
    let job = server.fake.add(&eval_spec());
    let mut sockets = Vec::new();
    for _ in 0..WATCHERS {
        sockets.push(watch(server.address, "/v1/events").await);
    }
    for socket in &mut sockets {
        let text = read_until(socket, "\"jobs_running\":1").await;
        assert!(text.contains("text/event-stream") && text.contains("\ndata: {\"nodes\":["), "{text}");
    }
    let looks = server.fake.looks.load(Ordering::Relaxed);
    assert!(looks < WATCHERS / 2, "{looks} looks for {WATCHERS} watchers");
    // Nothing is new, so that comments are all that comes.
    let quiet = read_until(&mut sockets[0], ":\n\n").await;
    assert!(!quiet.contains("data:"), "{quiet}");
    server.fake.change(job, |view| view.rows_done = 1);
    for socket in &mut sockets {
        read_until(socket, "\"rows_done\":1").await;
    }
    drop(sockets);
    // Another watcher is told too, whether or not anybody watched in between.
    let mut again = watch(server.address, "/v1/events").await;
    read_until(&mut again, "\"rows_done\":1").await;
}

#[tokio::test]
async fn watchers_are_bounded() {
    let server = start(|config| config.limits.watchers_max = 1).await;
    let mut first = watch(server.address, "/v1/events").await;
    read_until(&mut first, "data: ").await;
    let answer = server.get("/live/overview").await;
    assert_eq!((answer.status, answer.problem()), (429, "too_many_watchers".to_owned()));
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn dashboard_gets_the_same_as_html() {
    let server = start(|_| {}).await;
    server.fake.add(&eval_spec());
    let mut socket = watch(server.address, "/live/overview").await;
    let text = read_until(&mut socket, "\n\n").await;
    let text = if text.contains("data: ") { text } else { read_until(&mut socket, "\n\n").await };
    assert!(text.contains("\"running\":\"") && text.contains("node-worker-1"), "{text}");
}

#[tokio::test]
async fn details_of_jobs_and_nodes_are_told() {
    let server = start(|_| {}).await;
    server.fake.add(&eval_spec());
    let attempt = AttemptView {
        attempt: AttemptId(3),
        shard: ShardId(0),
        node: NodeId::try_from("worker-1".to_owned()).unwrap(),
        first_row: 0,
        rows: 1,
        rows_done: 0,
        speculative: false,
        started_at_ms: 1_700_000_000_000,
        ended_at_ms: None,
        outcome: AttemptOutcome::Running,
        note: None,
    };
    *server.fake.attempts.lock().unwrap() = AttemptList { total: 1, attempts: vec![attempt] };
    let detail = server.get("/v1/jobs/1/detail").await;
    assert_eq!(detail.json()["spec"]["kind"]["eval"]["formulas"][0], "1+2");
    assert_eq!(server.get("/v1/jobs/1/shards").await.json()["cells"], serde_json::json!([{}]));
    let attempts = server.get("/v1/jobs/1/attempts").await.json();
    assert_eq!((&attempts["total"], &attempts["attempts"][0]["outcome"]), (&1.into(), &"running".into()));
    let on_node = server.get("/v1/nodes/worker-1/attempts").await.json();
    assert_eq!((&on_node["attempts"][0]["job"], &on_node["attempts"][0]["attempt"]["attempt"]), (&1.into(), &3.into()));
    for path in ["/v1/jobs/9/detail", "/v1/jobs/9/shards", "/v1/jobs/9/attempts"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(server.get("/v1/nodes/NOBODY/attempts").await.problem(), "bad_node_id");
    *server.fake.error.lock().unwrap() = Some(error(ErrorKind::Busy, "starting"));
    assert_eq!(server.get("/v1/cluster").await.status, 429);
}
