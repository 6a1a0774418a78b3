//! The client against the real server over a fake service, straight and through a proxy that loses connections.

#[path = "../../master/src/http/tests/fake.rs"]
mod fake;
mod queue;
mod restart;

use super::{ClientConfig, ClientTimeouts, HttpClient};
use bytes::Bytes;
use fake::{Fake, digest_of, error, eval_spec, node};
use futures_util::{StreamExt, TryStreamExt, stream};
use quipu_master::http::{HttpConfig, serve};
use quipu_shared::ids::{JobId, NodeId, ScheduleId};
use quipu_shared::service::{
    ErrorKind, JobQuery, JobService, JobState, Place, ScheduleChange, ServiceError, SubmitRequest,
};
use quipu_shared::spec::Scalar;
use quipu_shared::trust::{Authority, crypto_provider};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

const TOKEN: &str = "s3cret-token";
const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    fake: Arc<Fake>,
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

async fn start(configure: impl FnOnce(&mut HttpConfig)) -> Server {
    let fake = Arc::new(Fake::default());
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap(), Arc::new(|token| token == TOKEN));
    configure(&mut config);
    let (stop, stopped) = oneshot::channel::<()>();
    let (address, _) = serve(config, fake.clone(), async { drop(stopped.await) }).await.unwrap();
    Server { fake, address, _stop: stop }
}

fn timeouts() -> ClientTimeouts {
    let restart_patience = Duration::ZERO;
    ClientTimeouts { backoff: Duration::from_millis(5), restart_patience, ..ClientTimeouts::default() }
}

fn client(address: SocketAddr) -> HttpClient {
    let config = ClientConfig::new(format!("http://{address}"), Some(TOKEN.into()));
    HttpClient::new(ClientConfig { timeouts: timeouts(), ..config }).unwrap()
}

fn submit_request() -> SubmitRequest {
    SubmitRequest { spec: eval_spec(), traceparent: None, idempotency_key: None }
}

/// What the proxy does with a connection that it is to lose.
#[derive(Clone, Copy)]
enum Lose {
    /// Before anything is sent on.
    Request,
    /// Once the server has begun to answer.
    Answer,
    /// Some time after the answer began: all of its first piece is passed on.
    Rest,
}

/// Loses the first `losses` connections, and passes on the others; gives its address and the count of connections.
async fn lossy_proxy(server: SocketAddr, losses: usize, lose: Lose) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let index = counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                let mut buffer = vec![0; 64 << 10];
                if index >= losses {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    return;
                }
                let read = near.read(&mut buffer).await.unwrap();
                if matches!(lose, Lose::Request) {
                    return;
                }
                far.write_all(&buffer[..read]).await.unwrap();
                let read = far.read(&mut buffer).await.unwrap();
                if matches!(lose, Lose::Rest) {
                    near.write_all(&buffer[..read]).await.unwrap();
                }
            });
        }
    });
    (address, count)
}

/// Answers every connection with these bytes.
async fn stub(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                let _ = socket.read(&mut buffer).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn every_method_round_trips() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let mut request = submit_request();
    request.spec.bindings = vec![
        ("a".into(), Scalar::Float(0.1)),
        ("b".into(), Scalar::Float(f64::INFINITY)),
        ("c".into(), Scalar::Tuple(vec![Scalar::Int(i64::MIN), Scalar::Empty, Scalar::String("é\n".into())])),
    ];
    request.idempotency_key = Some("k".into());
    request.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let job = client.submit(request.clone()).await.unwrap();
    {
        let requests = server.fake.requests.lock().unwrap();
        assert_eq!(requests[0].spec, request.spec);
        assert_eq!(
            (&requests[0].idempotency_key, &requests[0].traceparent),
            (&request.idempotency_key, &request.traceparent)
        );
    }
    assert_eq!(client.job(job).await.unwrap(), server.fake.job(job).await.unwrap());
    assert_eq!(client.jobs(page(None, 10)).await.unwrap(), server.fake.jobs(page(None, 10)).await.unwrap());
    let pieces = [Bytes::from_static(b"1\n"), Bytes::from_static(b"2\n")].map(Ok);
    *server.fake.results.lock().unwrap() = Some(stream::iter(pieces).boxed());
    let rows: Vec<Bytes> = client.results(job).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows.concat(), b"1\n2\n");
    client.cancel(job).await.unwrap();
    let views: Vec<_> = client.watch(job).await.unwrap().collect().await;
    assert_eq!(views.iter().map(|view| view.state).collect::<Vec<_>>(), [JobState::Cancelled]);
    let pieces = stream::iter([Bytes::from_static(b"a\n"), Bytes::from_static(b"1\n")].map(Ok));
    let upload = client.upload(pieces.boxed()).await.unwrap();
    assert_eq!((upload.bytes, upload.digest), (4, digest_of(b"a\n1\n")));
    assert_eq!(client.nodes().await.unwrap(), [node()]);
    client.drain(node().id).await.unwrap();
    assert_eq!(*server.fake.drained.lock().unwrap(), [node().id]);
    assert_eq!(client.version().await.unwrap().protocol, quipu_shared::PROTOCOL_VERSION);
}

#[tokio::test]
async fn every_kind_of_error_round_trips_through_every_method() {
    let server = start(|_| {}).await;
    // There is no time to wait as long as is said.
    let timeouts = ClientTimeouts { retry_within: Duration::from_secs(2), ..timeouts() };
    let config = ClientConfig::new(format!("http://{}", server.address), Some(TOKEN.into()));
    let client = HttpClient::new(ClientConfig { timeouts, ..config }).unwrap();
    for kind in [
        ErrorKind::Usage,
        ErrorKind::Invalid,
        ErrorKind::NotFound,
        ErrorKind::Conflict,
        ErrorKind::Evaluation,
        ErrorKind::Cancelled,
        ErrorKind::Deadline,
        ErrorKind::Busy,
        ErrorKind::TooLarge,
        ErrorKind::Unauthenticated,
        ErrorKind::Forbidden,
        ErrorKind::Unreachable,
        ErrorKind::Internal,
    ] {
        let told = ServiceError {
            place: Some(Place { formula: "é +".into(), line: 1, column: 4 }),
            retry_after_s: Some(3),
            ..error(kind, "some_code")
        };
        *server.fake.error.lock().unwrap() = Some(told.clone());
        let job = JobId(1);
        let empty = stream::empty().boxed();
        let errors = [
            client.submit(submit_request()).await.map(drop),
            client.cancel(job).await,
            client.job(job).await.map(drop),
            client.jobs(page(None, 1)).await.map(drop),
            client.watch(job).await.map(drop),
            client.results(job).await.map(drop),
            client.upload(empty).await.map(drop),
            client.nodes().await.map(drop),
            client.drain(node().id).await,
            client.submit_batch(vec![submit_request()]).await.map(drop),
            client.retry(job, None).await.map(drop),
            client.forget(job).await,
            client.explain(job).await.map(drop),
            client.add_schedule(queue::schedule(), None).await.map(drop),
            client.schedules().await.map(drop),
            client.change_schedule(ScheduleId(1), ScheduleChange::Pause).await.map(drop),
        ];
        for (index, result) in errors.into_iter().enumerate() {
            assert_eq!(result.unwrap_err(), told, "method {index}");
        }
    }
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let server = start(|_| {}).await;
    for _ in 0..1500 {
        server.fake.add(&eval_spec());
    }
    let client = client(server.address);
    for (after, limit, first, count) in [(None, 1200, 1, 1200), (Some(JobId(400)), 5000, 401, 1100), (None, 0, 0, 0)] {
        let jobs = client.jobs(page(after, limit)).await.unwrap();
        assert_eq!((jobs.len(), jobs.first().map_or(0, |job| job.id.0)), (count, first));
    }
}

#[tokio::test]
async fn lost_connections_never_make_a_second_job() {
    for lose in [Lose::Request, Lose::Answer] {
        let server = start(|_| {}).await;
        let (proxy, connections) = lossy_proxy(server.address, 2, lose).await;
        assert_eq!(client(proxy).submit(submit_request()).await.unwrap(), JobId(1));
        assert_eq!(connections.load(Ordering::Relaxed), 3);
        let requests = server.fake.requests.lock().unwrap();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].idempotency_key.is_some());
    }
}

#[tokio::test]
async fn unreachable_clusters_are_named_with_a_fix() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = client(address).job(JobId(1)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unreachable);
    for part in [&address.to_string(), "refused", "is a master running"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    let server = start(|_| {}).await;
    let (proxy, connections) = lossy_proxy(server.address, usize::MAX, Lose::Request).await;
    let lost = client(proxy).submit(submit_request()).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::Unreachable);
    assert_eq!(connections.load(Ordering::Relaxed), timeouts().tries_max as usize);
}

#[tokio::test]
async fn silent_server_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ClientConfig::new(format!("http://{}", listener.local_addr().unwrap()), None);
    let timeouts = ClientTimeouts { request: Duration::from_millis(50), tries_max: 2, ..timeouts() };
    let client = HttpClient::new(ClientConfig { timeouts, ..config }).unwrap();
    let silent = timeout(DEADLINE, client.job(JobId(1))).await.unwrap().unwrap_err();
    assert_eq!((silent.kind, silent.code.as_str()), (ErrorKind::Unreachable, "no_answer"));
}

#[tokio::test]
async fn foreign_answers_are_no_masters() {
    for (answer, kind) in [
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\n<p/>", ErrorKind::Unreachable),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ErrorKind::NotFound),
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", ErrorKind::Internal),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", ErrorKind::Internal),
        (
            "HTTP/1.1 429 Too\r\nRetry-After: 8\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}",
            ErrorKind::Busy,
        ),
    ] {
        let client = client(stub(answer).await);
        let foreign = client.job(JobId(1)).await.unwrap_err();
        assert_eq!(foreign.kind, kind, "{foreign}");
        assert!(foreign.message.contains(client.url()), "{foreign}");
        assert_eq!(foreign.retry_after_s, (kind == ErrorKind::Busy).then_some(8));
    }
}

#[tokio::test]
async fn broken_results_end_with_the_jobs_reason() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let reason = error(ErrorKind::Evaluation, "int_overflow");
    let job = server.fake.add(&eval_spec());
    for (state, told, kind) in [
        (JobState::Failed, Some(reason.clone()), ErrorKind::Evaluation),
        (JobState::Cancelled, None, ErrorKind::Cancelled),
        (JobState::Succeeded, None, ErrorKind::Unreachable),
        (JobState::Running, None, ErrorKind::Unreachable),
    ] {
        let pieces = [Ok(Bytes::from_static(b"1\n")), Err(error(ErrorKind::Internal, "stream_broken"))];
        *server.fake.results.lock().unwrap() = Some(stream::iter(pieces).boxed());
        server.fake.change(job, |view| {
            view.state = state;
            view.error = told;
        });
        let mut rows = client.results(job).await.unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap(), "1\n");
        assert_eq!(rows.next().await.unwrap().unwrap_err().kind, kind, "{state:?}");
        assert!(rows.next().await.is_none());
    }
    // One that is known to have failed is told at once.
    *server.fake.results.lock().unwrap() = Some(stream::iter([Err(reason.clone())]).boxed());
    assert_eq!(client.results(job).await.map(drop).unwrap_err(), reason);
}

#[tokio::test]
async fn watch_survives_lost_connections() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    let (proxy, connections) = lossy_proxy(server.address, 2, Lose::Rest).await;
    let mut views = client(proxy).watch(job).await.unwrap();
    assert_eq!(views.next().await.unwrap().state, JobState::Running);
    timeout(DEADLINE, async {
        while connections.load(Ordering::Relaxed) < 3 {
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
async fn watch_of_a_lost_cluster_ends() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    let (proxy, connections) = lossy_proxy(server.address, usize::MAX, Lose::Rest).await;
    let views: Vec<_> = timeout(DEADLINE, client(proxy).watch(job).await.unwrap().collect()).await.unwrap();
    assert!(views.iter().all(|view| view.state == JobState::Running));
    assert!(connections.load(Ordering::Relaxed) <= timeouts().tries_max as usize);
}

#[tokio::test]
async fn dropped_watch_frees_the_server() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    let mut views = client(server.address).watch(job).await.unwrap();
    views.next().await.unwrap();
    assert_eq!(server.fake.watchers(job), 1);
    drop(views);
    timeout(DEADLINE, async {
        while server.fake.watchers(job) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the server's watch is dropped");
}

#[tokio::test]
async fn upload_over_the_limit_is_told_while_it_is_sent() {
    let server = start(|config| config.limits.upload_bytes_max = 1 << 20).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let endless = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from(vec![b'x'; 64 << 10]))
    });
    let refused = timeout(DEADLINE, client(server.address).upload(endless.boxed())).await.unwrap().unwrap_err();
    assert_eq!((refused.kind, refused.code.as_str()), (ErrorKind::TooLarge, "upload_too_large"));
    assert!(taken.load(Ordering::Relaxed) > 16, "the limit was reached");
}

#[tokio::test]
async fn upload_source_that_fails_is_named() {
    let server = start(|_| {}).await;
    let pieces = [Ok(Bytes::from_static(b"a\n")), Err(std::io::Error::other("disk on fire"))];
    let failed = client(server.address).upload(stream::iter(pieces).boxed()).await.unwrap_err();
    assert_eq!((failed.kind, failed.code.as_str()), (ErrorKind::Invalid, "upload_source"));
    assert!(failed.message.contains("disk on fire"), "{failed}");
    assert!(server.fake.uploaded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_not_repeated() {
    let server = start(|_| {}).await;
    for token in [None, Some("wr0ng-token".to_owned())] {
        let client = HttpClient::new(ClientConfig::new(format!("http://{}", server.address), token)).unwrap();
        let refused = client.nodes().await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unauthenticated);
        assert!(!format!("{refused:?} {client:?}").contains("wr0ng"), "{refused:?}");
    }
}

#[test]
fn unusable_configurations_are_refused() {
    for (url, token, code) in [
        ("127.0.0.1:7700", None, "bad_url"),
        ("localhost:7700", None, "bad_url"),
        ("ftp://localhost", None, "bad_url"),
        ("", None, "bad_url"),
        ("https://user:pa55@quipu.example", None, "bad_url"),
        ("https://quipu.example/?x=1", None, "bad_url"),
        ("http://quipu.example:7700", None, "plain_http"),
        ("http://192.0.2.1", None, "plain_http"),
        ("https://localhost", Some("two\nlines"), "bad_token"),
    ] {
        let config = ClientConfig::new(url, token.map(Into::into));
        assert!(!format!("{config:?}").contains("lines"));
        let refused = HttpClient::new(config).unwrap_err();
        assert_eq!((refused.kind, refused.code.as_str()), (ErrorKind::Usage, code), "{url}");
        assert!(!refused.message.contains("pa55") && !refused.message.contains("lines"), "{refused}");
    }
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let config = ClientConfig::new("https://localhost", None);
        let refused = HttpClient::new(ClientConfig { ca_pem: Some(pem.into()), ..config }).unwrap_err();
        assert_eq!((refused.kind, refused.code.as_str()), (ErrorKind::Usage, "bad_ca"), "{refused}");
    }
    for url in ["http://localhost:1", "http://[::1]:1", "http://127.9.9.9", "https://quipu.example/prefix"] {
        let ca_pem = Some(Authority::from_seed([7; 32], "test").unwrap().pem().into_bytes());
        let client = HttpClient::new(ClientConfig { ca_pem, ..ClientConfig::new(url, None) }).unwrap();
        assert!(client.url().ends_with('/'));
    }
}

#[tokio::test]
async fn tls_is_checked_and_its_faults_are_named() {
    let authority = Authority::from_seed([7; 32], "test").unwrap();
    let signed = authority.sign_http(&["127.0.0.1".into()], SystemTime::now()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.certificate], signed.key)
        .unwrap();
    let server = start(|config| {
        // With TLS it may leave loopback.
        config.bind = "0.0.0.0:0".parse().unwrap();
        config.tls = Some(Arc::new(tls));
    })
    .await;
    let port = server.address.port();
    let client = |url: String, seed: u8| {
        let ca_pem = Some(Authority::from_seed([seed; 32], "test").unwrap().pem().into_bytes());
        let config = ClientConfig::new(url, Some(TOKEN.into()));
        HttpClient::new(ClientConfig { ca_pem, timeouts: timeouts(), ..config }).unwrap()
    };
    let good = client(format!("https://127.0.0.1:{port}"), 7);
    let job = good.submit(submit_request()).await.unwrap();
    assert_eq!(good.job(job).await.unwrap().id, job);
    let pieces = [Ok(Bytes::from_static(b"1\n")), Err(error(ErrorKind::Internal, "stream_broken"))];
    *server.fake.results.lock().unwrap() = Some(stream::iter(pieces).boxed());
    server.fake.change(job, |view| view.error = Some(error(ErrorKind::Evaluation, "int_overflow")));
    let broken = good.results(job).await.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(broken.code, "int_overflow");

    for (url, seed, fix) in [
        (format!("https://127.0.0.1:{port}"), 8, "--ca-file"),
        (format!("https://localhost:{port}"), 7, "a name that its certificate has"),
        (format!("http://127.0.0.1:{port}"), 7, "https://"),
    ] {
        let failed = client(url.clone(), seed).nodes().await.unwrap_err();
        assert_eq!(failed.kind, ErrorKind::Unreachable, "{url}");
        assert!(failed.message.contains(fix) && failed.message.contains(&url), "{failed}");
    }
    let plain = start(|_| {}).await;
    let failed = client(format!("https://{}", plain.address), 7).nodes().await.unwrap_err();
    assert!(failed.message.contains("does the server speak TLS"), "{failed}");
}

#[tokio::test]
async fn node_ids_fit_a_path() {
    let server = start(|_| {}).await;
    let nobody = NodeId::try_from("nobody".to_owned()).unwrap();
    assert_eq!(client(server.address).drain(nobody).await.unwrap_err().code, "no_such_node");
}

fn page(after: Option<JobId>, limit: usize) -> JobQuery {
    JobQuery { after, limit, ..JobQuery::default() }
}
