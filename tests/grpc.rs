//! gRPC against a real master: a job from its submission to its results, and formulas over a stream that nobody reads.

mod support;

use futures_util::{StreamExt, stream};
use quipu_master::http::grpc::proto::evaluate_response::Outcome;
use quipu_master::http::grpc::proto::quipu_client::QuipuClient;
use quipu_master::http::grpc::proto::{
    EvaluateRequest, Formulas, JobState, ResultsRequest, SubmitRequest, Value, WatchRequest, submit_request, value,
};
use std::time::Duration;
use support::{Cluster, START_PATIENCE};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

/// What a master with nothing to do and its buffers stays under.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}")).expect("ASCII"));
    request
}

/// Runs a client of a cluster, with the cluster's own token.
fn within<F: Future<Output = ()>>(cluster: &Cluster, client: impl FnOnce(QuipuClient<Channel>, String) -> F) {
    let token = cluster.output(&["secret", "token"]).trim().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let endpoint = Endpoint::from_shared(cluster.master.address("http")).expect("a URL");
        let channel = endpoint.connect().await.expect("connects");
        client(QuipuClient::new(channel), token).await;
    });
}

#[test]
fn a_job_is_submitted_watched_and_read() {
    let cluster = Cluster::start(1);
    within(&cluster, |client, token| async move { follow_a_job(client, &token).await });
}

async fn follow_a_job(mut client: QuipuClient<Channel>, token: &str) {
    let job = submit_request::Job::Formulas(Formulas { formulas: vec!["6 * 7".into(), "1.5 + 1".into()] });
    let submit = SubmitRequest { job: Some(job), idempotency_key: "once".into() };
    let job = client.submit(with(token, submit.clone())).await.expect("is accepted").into_inner();
    assert_eq!(client.submit(with(token, submit)).await.expect("is known").into_inner().id, job.id);
    let mut watched = client.watch(with(token, WatchRequest { id: job.id })).await.expect("is watched").into_inner();
    let mut last = job;
    while let Some(next) = timeout(START_PATIENCE, watched.message()).await.expect("in time").expect("no error") {
        last = next;
    }
    assert_eq!((last.state(), last.rows_done), (JobState::Succeeded, 2));
    let results = client.results(with(token, ResultsRequest { id: last.id, offset: 0 })).await.expect("are read");
    let pieces: Vec<_> = results.into_inner().map(|piece| piece.expect("no error").data).collect().await;
    let expected = "{\"index\":0,\"type\":\"int\",\"value\":42}\n{\"index\":1,\"type\":\"float\",\"value\":2.5}\n";
    assert_eq!(String::from_utf8(pieces.concat()).expect("UTF-8"), expected);
}

#[test]
fn a_reader_that_does_not_read_costs_a_master_no_memory() {
    let cluster = Cluster::master();
    within(&cluster, |client, token| async move { ask_without_reading(client, &token).await });
    assert!(cluster.master.peak_memory() < MEMORY_MAX, "{} bytes", cluster.master.peak_memory());
}

async fn ask_without_reading(mut client: QuipuClient<Channel>, token: &str) {
    const COUNT: u64 = 500_000;
    let (give, taken) = mpsc::channel(1);
    let requests = stream::unfold(taken, |mut taken| async { taken.recv().await.map(|request| (request, taken)) });
    let answers = client.evaluate(with(token, requests)).await.expect("is opened");
    let mut answers = answers.into_inner();
    // A thousand bytes each: half a gigabyte, were it all taken.
    let text = Value { kind: Some(value::Kind::Text("x".repeat(1000))) };
    let request = |id| EvaluateRequest {
        id,
        formula: "x".into(),
        variables: [("x".to_owned(), text.clone())].into(),
        cache: false,
    };
    let mut given = 0;
    while given < COUNT && timeout(Duration::from_secs(2), give.send(request(given))).await.is_ok() {
        given += 1;
    }
    assert!((100..100_000).contains(&given), "{given} were taken of a client that reads nothing");
    drop(give);
    let mut read = 0;
    while let Some(answer) = timeout(START_PATIENCE, answers.message()).await.expect("in time").expect("no error") {
        assert!(matches!(answer.outcome, Some(Outcome::Value(value)) if value == text), "{}", answer.id);
        read += 1;
    }
    assert_eq!(read, given);
}
