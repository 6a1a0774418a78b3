//! Calls, by a client that is generated from the same definitions.

use super::fake::{error, eval_spec};
use super::raw::{DEADLINE, TOKEN};
use super::{Server, start};
use crate::access::tokens::{TokenTable, digest_of};
use crate::http::grpc::proto::evaluate_response::Outcome;
use crate::http::grpc::proto::quipu_client::QuipuClient;
use crate::http::grpc::proto::{
    CancelRequest, EvaluateRequest, Formulas, GetJobRequest, JobState, ResultsRequest, SubmitRequest, Value,
    WatchRequest, submit_request, value,
};
use crate::store::record::TokenRecord;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quipu_shared::access::AccessRole;
use quipu_shared::ids::TokenId;
use quipu_shared::service::{self, ErrorKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const READ_TOKEN: &str = "qp_read";
/// What a client of these tests takes before it reads.
const WINDOW_BYTES: u32 = 64 << 10;

async fn channel(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    endpoint.initial_stream_window_size(WINDOW_BYTES).connect().await.unwrap()
}

async fn client(server: &Server) -> QuipuClient<Channel> {
    QuipuClient::new(channel(server).await)
}

/// A message with a token.
fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}")).unwrap());
    request
}

fn ours<T>(message: T) -> Request<T> {
    with(TOKEN, message)
}

fn formulas() -> SubmitRequest {
    let job = Some(submit_request::Job::Formulas(Formulas { formulas: vec!["1+2".into()] }));
    SubmitRequest { job, idempotency_key: String::new() }
}

fn code(status: &Status) -> &str {
    status.metadata().get("quipu-code").unwrap().to_str().unwrap()
}

fn read_token() -> Arc<TokenTable> {
    let record = TokenRecord {
        name: "reader".into(),
        role: AccessRole::Read,
        namespace: None,
        digest: digest_of(READ_TOKEN),
        created_at_ms: 0,
        expires_at_ms: None,
        requests_per_s: Some(1_000_000),
    };
    Arc::new(TokenTable::new(vec![(TokenId(1), record)], 10, 1_000_000))
}

#[tokio::test]
async fn jobs_are_submitted_watched_and_read() {
    let server = start(|_| {}).await;
    let mut client = client(&server).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = ours(SubmitRequest { idempotency_key: "k1".into(), ..formulas() });
    request.metadata_mut().insert("traceparent", MetadataValue::from_static(trace));
    let job = client.submit(request).await.unwrap().into_inner();
    assert_eq!((job.id, job.kind.as_str(), job.state()), (1, "eval", JobState::Running));
    let view: service::JobView = serde_json::from_str(&job.view_json).unwrap();
    assert_eq!((view.id.0, job.rows_total), (1, view.rows_total));
    {
        let requests = server.fake.requests.lock().unwrap();
        assert_eq!(requests[0].idempotency_key.as_deref(), Some("k1"));
        assert_eq!(requests[0].traceparent.as_deref(), Some(trace));
        assert_eq!(requests[0].spec, eval_spec());
    }
    let spec_json = serde_json::to_string(&eval_spec()).unwrap();
    let json = SubmitRequest { job: Some(submit_request::Job::SpecJson(spec_json)), idempotency_key: "k1".into() };
    assert_eq!(client.submit(ours(json)).await.unwrap().into_inner().id, 1, "the same job by its key");

    let mut watched = client.watch(ours(WatchRequest { id: 1 })).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().state(), JobState::Running);
    server.fake.change(view.id, |view| (view.rows_done, view.state) = (1, service::JobState::Succeeded));
    let last = timeout(DEADLINE, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((last.state(), last.rows_done), (JobState::Succeeded, 1));
    assert!(timeout(DEADLINE, watched.message()).await.unwrap().unwrap().is_none(), "ends after the final state");

    let pieces = [Ok(Bytes::from_static(b"ab")), Ok(Bytes::from_static(b"cde"))];
    *server.fake.results.lock().unwrap() = Some(stream::iter(pieces).boxed());
    let results = client.results(ours(ResultsRequest { id: 1, offset: 1 })).await.unwrap().into_inner();
    let read: Vec<u8> = results.map(|chunk| chunk.unwrap().data).collect::<Vec<_>>().await.concat();
    assert_eq!(read, b"bcde");
    let pieces = [Ok(Bytes::from_static(b"ab")), Err(error(ErrorKind::Evaluation, "row_failed"))];
    *server.fake.results.lock().unwrap() = Some(stream::iter(pieces).boxed());
    let mut results = client.results(ours(ResultsRequest { id: 1, offset: 0 })).await.unwrap().into_inner();
    assert_eq!(&results.message().await.unwrap().unwrap().data[..], b"ab");
    let broken = results.message().await.unwrap_err();
    assert_eq!((broken.code(), code(&broken)), (Code::FailedPrecondition, "row_failed"));

    assert_eq!(client.get_job(ours(GetJobRequest { id: 1 })).await.unwrap().into_inner().id, 1);
    assert_eq!(client.cancel(ours(CancelRequest { id: 1 })).await.unwrap().into_inner().state(), JobState::Cancelled);
    let missing = client.get_job(ours(GetJobRequest { id: 9 })).await.unwrap_err();
    assert_eq!((missing.code(), code(&missing)), (Code::NotFound, "no_such_job"));
    let nothing = client.submit(ours(SubmitRequest::default())).await.unwrap_err();
    assert_eq!((nothing.code(), code(&nothing)), (Code::InvalidArgument, "no_job"));
    let bad = SubmitRequest {
        job: Some(submit_request::Job::SpecJson(r#"{"kind":{"eval":{"formulas":7}}}"#.into())),
        ..formulas()
    };
    let bad = client.submit(ours(bad)).await.unwrap_err();
    assert_eq!((bad.code(), code(&bad)), (Code::InvalidArgument, "bad_field"));
    assert!(bad.message().contains("`kind"), "{bad}");
}

#[tokio::test]
async fn refusals_of_the_guard_are_statuses() {
    let server = start(|config| {
        config.token_table = read_token();
        config.limits.request_bytes_max = 1000;
    })
    .await;
    let mut client = client(&server).await;
    let id = server.fake.add(&eval_spec());
    let job = GetJobRequest { id: id.0 };
    let none = client.get_job(job).await.unwrap_err();
    assert_eq!((none.code(), code(&none)), (Code::Unauthenticated, "no_token"));
    let wrong = client.get_job(with("wrong", job)).await.unwrap_err();
    assert_eq!((wrong.code(), code(&wrong)), (Code::Unauthenticated, "wrong_token"));
    assert_eq!(client.get_job(with(READ_TOKEN, job)).await.unwrap().into_inner().id, 1);
    assert!(client.watch(with(READ_TOKEN, WatchRequest { id: 1 })).await.is_ok());
    let submit = client.submit(with(READ_TOKEN, formulas())).await.unwrap_err();
    assert_eq!((submit.code(), code(&submit)), (Code::PermissionDenied, "role"));
    let cancel = client.cancel(with(READ_TOKEN, CancelRequest { id: 1 })).await.unwrap_err();
    assert_eq!(cancel.code(), Code::PermissionDenied);
    let evaluate = client.evaluate(with(READ_TOKEN, stream::empty())).await.unwrap_err();
    assert_eq!(evaluate.code(), Code::PermissionDenied);
    assert!(server.fake.requests.lock().unwrap().is_empty());
    let large = SubmitRequest { idempotency_key: "x".repeat(1001), ..formulas() };
    let large = client.submit(ours(large)).await.unwrap_err();
    assert_eq!(large.code(), Code::OutOfRange, "{large}");
    *server.fake.error.lock().unwrap() =
        Some(service::ServiceError { retry_after_s: Some(2), ..error(ErrorKind::Busy, "queue_full") });
    let busy = client.submit(ours(formulas())).await.unwrap_err();
    assert_eq!((busy.code(), code(&busy)), (Code::ResourceExhausted, "queue_full"));
}

#[tokio::test]
async fn requests_over_the_limits_are_statuses_too() {
    let server = start(|config| {
        config.limits.requests_in_flight_max = 1;
        config.limits.streams_max = 1;
    })
    .await;
    let id = server.fake.add(&eval_spec()).0;
    let mut client = client(&server).await;
    let _watched = client.watch(ours(WatchRequest { id })).await.unwrap();
    let more = client.watch(ours(WatchRequest { id })).await.unwrap_err();
    assert_eq!((more.code(), code(&more)), (Code::ResourceExhausted, "too_many_streams"));
    server.fake.gate.forget_permits(1000);
    let mut other = client.clone();
    let first = tokio::spawn(async move { other.submit(ours(formulas())).await });
    wait_until(|| server.fake.submitting.load(std::sync::atomic::Ordering::Relaxed) > 0).await;
    let second = client.get_job(ours(GetJobRequest { id })).await.unwrap_err();
    assert_eq!((second.code(), code(&second)), (Code::ResourceExhausted, "too_many_requests"));
    server.fake.gate.add_permits(1);
    assert!(first.await.unwrap().is_ok());
}

async fn wait_until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, wait).await.expect("in time");
}

#[tokio::test]
async fn calls_end_at_their_deadline() {
    let server = start(|_| {}).await;
    let id = server.fake.add(&eval_spec()).0;
    let mut client = client(&server).await;
    server.fake.gate.forget_permits(1000);
    let mut late = ours(formulas());
    late.set_timeout(Duration::from_millis(50));
    let late = timeout(DEADLINE, client.submit(late)).await.unwrap().unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late}");
    // The header alone, so that it is the server that ends.
    let mut watch = ours(WatchRequest { id });
    watch.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("50m"));
    let mut watched = client.watch(watch).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let over = timeout(DEADLINE, watched.message()).await.unwrap().unwrap_err();
    assert_eq!(over.code(), Code::DeadlineExceeded);
    wait_until(|| server.fake.watchers(quipu_shared::ids::JobId(id)) == 0).await;
}

fn evaluation(id: u64, formula: &str, variables: &[(&str, value::Kind)]) -> EvaluateRequest {
    let variables = variables.iter().map(|(name, kind)| ((*name).to_owned(), Value { kind: Some(kind.clone()) }));
    EvaluateRequest { id, formula: formula.into(), variables: variables.collect(), cache: false }
}

#[tokio::test]
async fn ten_thousand_formulas_go_over_one_stream() {
    const COUNT: u64 = 10_000;
    let server = start(|_| {}).await;
    let mut client = client(&server).await;
    let requests = stream::iter(0..COUNT).map(|id| match id % 3 {
        0 => evaluation(id, "x * 2", &[("x", value::Kind::Int(id as i64))]),
        1 => evaluation(id, "x / 2.0", &[("x", value::Kind::Float(id as f64))]),
        _ => evaluation(id, "nowhere + 1", &[]),
    });
    let mut answers = client.evaluate(ours(requests)).await.unwrap().into_inner();
    let mut got = BTreeMap::new();
    while let Some(answer) = timeout(DEADLINE, answers.message()).await.unwrap().unwrap() {
        assert!(got.insert(answer.id, answer.outcome.unwrap()).is_none(), "{} is answered twice", answer.id);
    }
    assert_eq!(got.len() as u64, COUNT);
    for (id, outcome) in got {
        let value = |kind| Outcome::Value(Value { kind: Some(kind) });
        match (id % 3, outcome) {
            (0, outcome) => assert_eq!(outcome, value(value::Kind::Int(2 * id as i64))),
            (1, outcome) => assert_eq!(outcome, value(value::Kind::Float(id as f64 / 2.0))),
            (_, Outcome::Error(problem)) => {
                assert_eq!((problem.code.as_str(), problem.line, problem.column), ("unknown_variable", 1, 1));
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_does_not_read_answers_is_read_no_further() {
    const COUNT: u64 = 20_000;
    let server = start(|_| {}).await;
    let mut client = client(&server).await;
    let text = value::Kind::Text("x".repeat(1000));
    let (give, taken) = mpsc::channel(1);
    let requests = stream::unfold(taken, |mut taken| async { taken.recv().await.map(|request| (request, taken)) });
    let mut answers = client.evaluate(ours(requests)).await.unwrap().into_inner();
    let mut given = 0;
    // Until nothing is taken for a while: at a thousand bytes an answer and as much a request, windows and buffers hold
    // a few hundred of them.
    while given < COUNT {
        match timeout(Duration::from_secs(2), give.send(evaluation(given, "x", &[("x", text.clone())]))).await {
            Ok(sent) => sent.unwrap(),
            Err(_) => break,
        }
        given += 1;
    }
    assert!((100..5_000).contains(&given), "{given} were taken of a client that reads nothing");
    drop(give);
    let mut read = 0;
    while timeout(DEADLINE, answers.message()).await.unwrap().unwrap().is_some() {
        read += 1;
    }
    assert_eq!(read, given, "and all of them are answered once it reads");
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = start(|_| {}).await;
    let mut reflection = ServerReflectionClient::new(channel(&server).await);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let refused = reflection.server_reflection_info(stream::iter([ask.clone()])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut answers = reflection.server_reflection_info(ours(stream::iter([ask]))).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["quipu.v1.Quipu", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test]
async fn health_follows_readiness_and_needs_no_token_to_be_asked() {
    let server = start(|_| {}).await;
    let mut health = HealthClient::new(channel(&server).await);
    let of = |service: &str| HealthCheckRequest { service: service.into() };
    for service in ["", "quipu.v1.Quipu"] {
        let answer = health.check(of(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(health.check(of("nobody")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(health.watch(of("")).await.unwrap_err().code(), Code::Unauthenticated);
    let mut watched = health.watch(ours(of(""))).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    *server.fake.unready.lock().unwrap() = Some(error(ErrorKind::Busy, "starting"));
    assert_eq!(health.check(of("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    let told = timeout(DEADLINE, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented_or_not_found() {
    let server = start(|_| {}).await;
    let mut grpc = tonic::client::Grpc::new(channel(&server).await);
    for (path, expected) in [("/quipu.v1.Quipu/Nothing", Code::Unimplemented), ("/nobody.v1/X", Code::Unimplemented)] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<GetJobRequest, GetJobRequest>::default();
        let answer = grpc.unary(ours(GetJobRequest { id: 1 }), path.parse().unwrap(), codec).await;
        assert_eq!(answer.unwrap_err().code(), expected, "{path}");
    }
    // Over HTTP/1.1 there are no trailers to say a status in.
    let answer = server.ask("POST", "/quipu.v1.Quipu/GetJob", &[("Content-Type", "application/grpc")], "").await;
    assert_eq!((answer.status, answer.problem().as_str()), (505, "http_version"));
}
