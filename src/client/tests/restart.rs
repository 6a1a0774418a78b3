//! A master that goes away and comes back.

use super::{DEADLINE, Fake, Lose, TOKEN, lossy_proxy, start, stub, submit_request, timeouts};
use crate::client::{ClientConfig, ClientTimeouts, HttpClient};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quipu_master::http::HttpConfig;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobService, JobState, ServiceError};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// A client that waits so long, and what it tells of a master that is away.
fn patient(address: SocketAddr, restart_patience: Duration) -> (HttpClient, Arc<Mutex<Vec<bool>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let config = ClientConfig::new(format!("http://{address}"), Some(TOKEN.into()));
    let listener = told.clone();
    let config = ClientConfig {
        timeouts: ClientTimeouts { restart_patience, ..timeouts() },
        on_away: Some(Arc::new(move |job_goes_on| listener.lock().unwrap().push(job_goes_on))),
        ..config
    };
    (HttpClient::new(config).unwrap(), told)
}

/// So that a stream that breaks off soon has begun all the same.
fn begin_at_once(config: &mut HttpConfig) {
    config.limits.small_job_patience = Duration::ZERO;
}

fn rows(text: &'static str) -> Result<Bytes, ServiceError> {
    Ok(Bytes::from_static(text.as_bytes()))
}

fn broken() -> Result<Bytes, ServiceError> {
    Err(super::error(ErrorKind::Internal, "stream_broken"))
}

/// Lets the results come up to each of these places and break off there; the last ones are whole.
fn break_at(fake: &Arc<Fake>, breaks: &[&'static [&'static str]]) {
    let Some((first, rest)) = breaks.split_first() else { return };
    let (again, rest) = (fake.clone(), rest.to_vec());
    let is_last = rest.is_empty();
    let breaks = stream::once(async move {
        // What fails at once would be answered as an error.
        tokio::task::yield_now().await;
        break_at(&again, &rest);
        broken()
    });
    let pieces = stream::iter(first.iter().map(|text| rows(text))).chain(breaks.take(usize::from(!is_last)));
    *fake.results.lock().unwrap() = Some(pieces.boxed());
}

#[tokio::test]
async fn results_go_on_where_they_broke_off() {
    let server = start(begin_at_once).await;
    let job = server.fake.add(&submit_request().spec);
    break_at(&server.fake, &[&["x\n", "1\n"], &["x\n1", "\n2\n3"], &[], &["x\n1\n2\n", "3\n4\n"]]);
    let (client, _) = patient(server.address, DEADLINE);
    let mut results = client.results(job).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = timeout(DEADLINE, results.next()).await.unwrap() {
        all.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(String::from_utf8(all).unwrap(), "x\n1\n2\n3\n4\n");
}

#[tokio::test]
async fn a_job_that_has_failed_is_not_waited_for() {
    let server = start(begin_at_once).await;
    let job = server.fake.add(&submit_request().spec);
    break_at(&server.fake, &[&["1\n"], &["1\n", "2\n"]]);
    server.fake.change(job, |view| {
        view.state = JobState::Failed;
        view.error = Some(super::error(ErrorKind::Evaluation, "int_overflow"));
    });
    let (client, told) = patient(server.address, DEADLINE);
    let mut results = client.results(job).await.unwrap();
    assert_eq!(results.next().await.unwrap().unwrap(), "1\n");
    let ended = timeout(DEADLINE, results.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((ended.code.as_str(), told.lock().unwrap().len()), ("int_overflow", 0));
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn results_without_an_end_are_given_up() {
    let server = start(begin_at_once).await;
    let job = server.fake.add(&submit_request().spec);
    let breaks: Vec<&'static [&'static str]> = vec![&["1\n"]; 10_000];
    break_at(&server.fake, &breaks);
    let (client, _) = patient(server.address, Duration::from_millis(300));
    let mut results = client.results(job).await.unwrap();
    assert_eq!(results.next().await.unwrap().unwrap(), "1\n");
    let ended = timeout(DEADLINE, results.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((ended.kind, ended.code.as_str()), (ErrorKind::Unreachable, "results_interrupted"));
}

#[tokio::test]
async fn a_master_that_has_answered_is_waited_for() {
    for lose in [Lose::Request, Lose::Answer] {
        let server = start(|_| {}).await;
        let (proxy, connections) = lossy_proxy(server.address, 7, lose).await;
        let (client, told) = patient(proxy, DEADLINE);
        client.reached.store(true, Ordering::Relaxed);
        assert_eq!(timeout(DEADLINE, client.submit(submit_request())).await.unwrap().unwrap(), JobId(1));
        assert_eq!(connections.load(Ordering::Relaxed), 8, "more than tries_max");
        assert_eq!(*told.lock().unwrap(), [false], "no job goes on yet");
        assert_eq!(server.fake.requests.lock().unwrap().len(), 1, "its key makes it one job");
    }
}

#[tokio::test]
async fn a_master_that_never_answered_is_not() {
    let server = start(|_| {}).await;
    let (proxy, connections) = lossy_proxy(server.address, 100, Lose::Request).await;
    let (client, told) = patient(proxy, DEADLINE);
    assert_eq!(client.nodes().await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(connections.load(Ordering::Relaxed), timeouts().tries_max as usize);
    assert_eq!(told.lock().unwrap().len(), 0);
    // Nor is something else that answers in its place.
    let other = stub("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    let (client, _) = patient(other, DEADLINE);
    assert_eq!(timeout(DEADLINE, client.nodes()).await.unwrap().unwrap_err().code, "foreign_answer");
}

#[tokio::test]
async fn a_master_that_stops_is_waited_for_and_given_up() {
    let problem = r#"{"type":"urn:quipu:problem:master_stopped","title":"t","status":503,"detail":"the master stopped",
        "code":"master_stopped","kind":"unreachable"}"#;
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{problem}", problem.len()).leak();
    let (client, told) = patient(stub(answer).await, Duration::from_millis(200));
    client.reached.store(true, Ordering::Relaxed);
    let given_up = timeout(DEADLINE, client.job(JobId(1))).await.unwrap().unwrap_err();
    assert_eq!(given_up.code, "master_stopped");
    assert_eq!(*told.lock().unwrap(), [false]);
}

#[tokio::test]
async fn a_watch_goes_on_after_many_losses() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&submit_request().spec);
    let (proxy, connections) = lossy_proxy(server.address, 9, Lose::Rest).await;
    let (client, _) = patient(proxy, DEADLINE);
    let mut views = client.watch(job).await.unwrap();
    timeout(DEADLINE, async {
        while connections.load(Ordering::Relaxed) < 10 {
            views.next().await.expect("the watch goes on");
        }
    })
    .await
    .unwrap();
    server.fake.change(job, |view| view.state = JobState::Succeeded);
    let rest: Vec<_> = timeout(DEADLINE, views.collect()).await.unwrap();
    assert_eq!(rest.last().map(|view| view.state), Some(JobState::Succeeded));
}

#[tokio::test]
async fn who_follows_a_job_is_told_that_it_goes_on() {
    let server = start(|_| {}).await;
    let (proxy, _) = lossy_proxy(server.address, 3, Lose::Request).await;
    let job = server.fake.add(&submit_request().spec);
    let (client, told) = patient(proxy, DEADLINE);
    client.reached.store(true, Ordering::Relaxed);
    drop(timeout(DEADLINE, client.results(job)).await.unwrap().unwrap());
    assert_eq!(*told.lock().unwrap(), [true]);
}

#[tokio::test]
async fn an_offset_is_a_number_of_bytes() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&submit_request().spec);
    break_at(&server.fake, &[&["ab", "cd"]]);
    let (client, _) = patient(server.address, DEADLINE);
    let rest: Vec<_> = client.results_from(job, 3).await.unwrap().collect().await;
    assert_eq!(rest, [rows("d")]);
    for query in ["offset=-1", "offset=x", "offset=1&offset=2", "from=1"] {
        let refused = client.get::<serde_json::Value>(&format!("/v1/jobs/{job}/results?{query}")).await.unwrap_err();
        assert_eq!((refused.kind, refused.code.as_str()), (ErrorKind::Usage, "bad_query"), "{query}");
    }
}
