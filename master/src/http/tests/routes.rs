//! Routes, statuses, errors, and who gets in.

use super::fake::{error, eval_spec};
use super::raw::{DEADLINE, TOKEN, exchange};
use super::start;
use crate::http::{HttpConfig, HttpError, serve};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobState, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::timeout;

const EVAL: &str = r#"{"kind":{"eval":{"formulas":["1+2"]}},"bindings":[["x",{"float":1.5}]]}"#;

#[tokio::test]
async fn every_route_answers() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    server.fake.change(job, |view| view.state = JobState::Succeeded);
    for (method, path, status) in [
        ("GET", "/v1/jobs", 200),
        ("GET", "/v1/jobs?after=0&limit=1000", 200),
        ("GET", "/v1/jobs/1", 200),
        ("HEAD", "/v1/jobs/1", 200),
        ("GET", "/v1/jobs/1/events", 200),
        ("GET", "/v1/jobs/1/results", 200),
        ("POST", "/v1/jobs/1:cancel", 202),
        ("POST", "/v1/jobs/1%3Acancel", 202),
        ("POST", "/v1/jobs/1:retry", 202),
        ("GET", "/v1/jobs/1/explain", 200),
        ("DELETE", "/v1/jobs/1", 204),
        ("GET", "/v1/schedules", 200),
        ("PUT", "/v1/uploads", 200),
        ("GET", "/v1/nodes", 200),
        ("POST", "/v1/nodes/worker-1:drain", 204),
        ("GET", "/v1/tokens", 200),
        ("GET", "/login", 200),
        ("GET", "/v1/version", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(server.fake.drained.lock().unwrap()[0].as_str(), "worker-1");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let server = start(|_| {}).await;
    server.fake.add(&eval_spec());
    for (method, path, status, code) in [
        ("GET", "/nowhere", 404, "no_such_route"),
        ("GET", "/v1/jobs/", 404, "no_such_route"),
        ("GET", "/v1/jobs/9", 404, "no_such_job"),
        ("GET", "/v1/jobs/9/events", 404, "no_such_job"),
        ("GET", "/v1/jobs/9/results", 404, "no_such_job"),
        ("POST", "/v1/jobs/9:cancel", 404, "no_such_job"),
        ("POST", "/v1/jobs/1:explode", 404, "no_such_action"),
        ("POST", "/v1/nodes/nobody:drain", 404, "no_such_node"),
        ("POST", "/v1/nodes/worker-1:feed", 404, "no_such_action"),
        ("POST", "/v1/nodes/worker-1", 404, "no_such_route"),
        ("POST", "/v1/nodes/Worker:drain", 400, "bad_node_id"),
        ("GET", "/v1/jobs/abc", 400, "bad_job_id"),
        ("GET", "/v1/jobs/01", 400, "bad_job_id"),
        ("GET", "/v1/jobs/+1", 400, "bad_job_id"),
        ("GET", "/v1/jobs/18446744073709551616", 400, "bad_job_id"),
        ("GET", "/v1/jobs/%ff", 400, "bad_path"),
        ("GET", "/v1/jobs?limit=0", 400, "bad_query"),
        ("GET", "/v1/jobs?limit=1001", 400, "bad_query"),
        ("GET", "/v1/jobs?after=x", 400, "bad_query"),
        ("GET", "/v1/jobs?page=2", 400, "bad_query"),
        ("GET", "/v1/jobs?limit=1&limit=2", 400, "bad_query"),
        ("GET", "/v1/jobs?order=random", 400, "bad_query"),
        ("GET", "/v1/jobs?state=done", 400, "bad_query"),
        ("GET", "/v1/jobs?state=queued,", 400, "bad_query"),
        ("GET", "/v1/jobs?label=a", 400, "bad_query"),
        ("GET", "/v1/jobs?label=%3Db", 400, "bad_query"),
        ("GET", "/v1/jobs?label=a%3Db&label=a%3Dc", 400, "bad_query"),
        ("GET", "/v1/jobs/1:nothing", 400, "bad_job_id"),
        ("GET", "/v1/jobs/9/explain", 404, "no_such_job"),
        ("POST", "/v1/jobs/9:retry", 404, "no_such_job"),
        ("POST", "/v1/jobs/1:retry", 409, "not_ended"),
        ("DELETE", "/v1/jobs/1", 409, "not_ended"),
        ("DELETE", "/v1/jobs/9", 404, "no_such_job"),
        ("DELETE", "/v1/jobs/1:cancel", 405, "method_not_allowed"),
        ("GET", "/v1/jobs:batch", 405, "method_not_allowed"),
        ("GET", "/v1/schedules/1", 404, "unknown_schedule"),
        ("GET", "/v1/schedules/x", 400, "bad_schedule_id"),
        ("POST", "/v1/schedules/1:pause", 404, "unknown_schedule"),
        ("POST", "/v1/schedules/1:run", 404, "no_such_action"),
        ("DELETE", "/v1/schedules/1", 404, "unknown_schedule"),
        ("POST", "/v1/schedules/1", 405, "method_not_allowed"),
        ("GET", "/v1/schedules/1:pause", 405, "method_not_allowed"),
        ("POST", "/v1/schedules", 415, "not_json"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("PUT", "/v1/jobs/1", 405, "method_not_allowed"),
        ("POST", "/v1/jobs/1", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/1:cancel", 405, "method_not_allowed"),
        ("POST", "/v1/uploads", 405, "method_not_allowed"),
        ("POST", "/v1/jobs/1/results", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{method} {path}: {answer:?}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn every_kind_of_error_has_its_status() {
    let server = start(|_| {}).await;
    for (kind, status) in [
        (ErrorKind::Usage, 400),
        (ErrorKind::Invalid, 422),
        (ErrorKind::NotFound, 404),
        (ErrorKind::Conflict, 409),
        (ErrorKind::Evaluation, 422),
        (ErrorKind::Cancelled, 409),
        (ErrorKind::Deadline, 422),
        (ErrorKind::Busy, 429),
        (ErrorKind::TooLarge, 413),
        (ErrorKind::Unauthenticated, 401),
        (ErrorKind::Forbidden, 403),
        (ErrorKind::Unreachable, 503),
        (ErrorKind::Internal, 500),
    ] {
        let mut told = error(kind, "some_code");
        told.place = Some(Place { formula: "1 +".into(), line: 1, column: 3 });
        told.retry_after_s = (kind == ErrorKind::Busy).then_some(9);
        *server.fake.error.lock().unwrap() = Some(told);
        let answer = server.submit(EVAL).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, "some_code"));
        assert_eq!(answer.json()["kind"], serde_json::to_value(kind).unwrap());
        assert_eq!(answer.json()["place"]["formula"], "1 +");
        assert_eq!(answer.header("retry-after"), (kind == ErrorKind::Busy).then_some("9"));
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
}

#[tokio::test]
async fn submit_answers_the_job_and_its_place() {
    let server = start(|_| {}).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers =
        [("Content-Type", "application/json; charset=utf-8"), ("Idempotency-Key", "k1"), ("Traceparent", trace)];
    for _ in 0..2 {
        let answer = server.ask("POST", "/v1/jobs", &headers, EVAL).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.header("location"), Some("/v1/jobs/1"));
        assert_eq!((&answer.json()["id"], &answer.json()["format"]), (&1.into(), &"ndjson".into()));
    }
    let other = EVAL.replace("1+2", "1+3");
    let answer = server.ask("POST", "/v1/jobs", &headers, &other).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "key_reused"));
    let requests = server.fake.requests.lock().unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].idempotency_key.as_deref(), requests[0].traceparent.as_deref()), (Some("k1"), Some(trace)));
    assert_eq!(requests[0].spec, serde_json::from_str(EVAL).unwrap());
}

#[tokio::test]
async fn unusable_trace_contexts_are_ignored() {
    let server = start(|_| {}).await;
    let headers = [("Content-Type", "application/json"), ("Traceparent", "00-0-0-00")];
    assert_eq!(server.ask("POST", "/v1/jobs", &headers, EVAL).await.status, 202);
    assert_eq!(server.fake.requests.lock().unwrap()[0].traceparent, None);
}

#[tokio::test]
async fn jobs_come_in_pages() {
    let server = start(|_| {}).await;
    for _ in 0..5 {
        server.fake.add(&eval_spec());
    }
    let mut seen = Vec::new();
    let mut path = "/v1/jobs?limit=2".to_owned();
    loop {
        let page = server.get(&path).await.json();
        seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap()));
        match page["next"].as_u64() {
            Some(next) => path = format!("/v1/jobs?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn body_errors_name_line_column_and_field() {
    let server = start(|_| {}).await;
    for (body, code, parts) in [
        ("{\"kind\":\n {\"eval\"", "bad_json", vec!["line 2", "column"]),
        ("", "bad_json", vec!["line 1", "EOF"]),
        (r#"{"kind":{"eval":{"formulas":["1",2]}}}"#, "bad_field", vec!["line 1", "`kind.eval.formulas[1]`", "string"]),
        (r#"{"kind":{"eval":{"formulas":["1"]}},"speed":9}"#, "bad_field", vec!["unknown field `speed`", "on_error"]),
        (r#"{"kind":{"brew":{}}}"#, "bad_field", vec!["unknown variant `brew`", "sweep"]),
        (r#"{"name":"x"}"#, "bad_field", vec!["missing field `kind`"]),
        (r#"{"kind":{"eval":{"formulas":["1"]}}} x"#, "bad_json", vec!["column 38", "trailing"]),
    ] {
        let answer = server.submit(body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, code), "{body}");
        let json = answer.json();
        let detail = json["detail"].as_str().unwrap();
        for part in parts {
            assert!(detail.contains(part), "{part:?} is not in {detail:?}");
        }
    }
    assert_eq!(server.submit(r#"{"kind":{"eval":{"formulas":[]}}}"#).await.problem(), "no_formula");
}

#[tokio::test]
async fn other_media_types_and_bad_keys_are_refused() {
    let server = start(|_| {}).await;
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let answer = server.ask("POST", "/v1/jobs", &[("Content-Type", media_type)], EVAL).await;
        assert_eq!((answer.status, answer.problem().as_str()), (415, "not_json"));
    }
    assert_eq!(server.ask("POST", "/v1/jobs", &[], EVAL).await.status, 415);
    let json = ("Content-Type", "application/json");
    for (headers, code) in [
        ([json, ("Idempotency-Key", "a b")].as_slice(), "bad_idempotency_key"),
        (&[json, ("Idempotency-Key", "")], "bad_idempotency_key"),
        (&[json, ("Idempotency-Key", "a"), ("Idempotency-Key", "b")], "bad_header"),
        (&[json, json], "bad_header"),
    ] {
        let answer = server.ask("POST", "/v1/jobs", headers, EVAL).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, code), "{headers:?}");
    }
    assert!(server.fake.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn everything_but_the_probes_needs_the_token() {
    let server = start(|_| {}).await;
    let good = format!("bearer  {TOKEN}");
    assert_eq!(server.ask("GET", "/v1/version", &[("Authorization", &good)], "").await.status, 200);
    let bearer = format!("Bearer {TOKEN}");
    let longer = format!("Bearer {TOKEN}x");
    let basic = format!("Basic {TOKEN}");
    for authorization in [
        [("Authorization", longer.as_str())].as_slice(),
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Bearer")],
        &[("Authorization", TOKEN)],
        &[("Authorization", &basic)],
        &[("Authorization", "")],
    ] {
        for (method, path) in [
            ("GET", "/v1/jobs"),
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs/1/results"),
            ("PUT", "/v1/uploads"),
            ("GET", "/v1/nodes"),
            ("GET", "/v1/version"),
            ("GET", "/nothing/here"),
            ("DELETE", "/v1/jobs"),
            ("GET", "/healthz/"),
        ] {
            let answer = server.ask(method, path, authorization, "").await;
            assert_eq!(answer.status, 401, "{method} {path} {authorization:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"quipu\""));
            assert!(answer.problem().ends_with("_token"));
            assert!(!answer.text().contains(TOKEN), "{}", answer.text());
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(server.ask("GET", path, authorization, "").await.status, 200);
        }
    }
    let twice = [("Authorization", bearer.as_str()), ("Authorization", "Bearer other")];
    assert_eq!(server.ask("GET", "/v1/version", &twice, "").await.problem(), "bad_header");
    let none =
        exchange(server.address, "GET /v1/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!((none.status, none.problem().as_str()), (401, "no_token"));
}

#[tokio::test]
async fn hosts_and_origins_of_other_sites_are_refused() {
    let server = start(|config| config.allowed_hosts = vec!["quipu.example".into()]).await;
    let own = server.address.to_string();
    for (headers, status, code) in [
        ([("Host", own.as_str())].as_slice(), 200, ""),
        (&[("Host", "quipu.example:443")], 200, ""),
        (&[("Host", "evil.example")], 403, "host_not_allowed"),
        (&[("Host", "192.0.2.1")], 403, "host_not_allowed"),
        (&[("Host", "")], 400, "bad_host"),
        (&[("Host", "a b")], 400, "bad_host"),
        (&[("Host", "user@localhost")], 400, "bad_host"),
        (&[("Host", "localhost"), ("Host", "evil.example")], 400, "bad_header"),
        (&[("Host", "localhost:7700"), ("Origin", "http://localhost:7700")], 200, ""),
        (&[("Host", "quipu.example"), ("Origin", "https://quipu.example")], 200, ""),
        (&[("Host", "localhost:7700"), ("Origin", "http://localhost:7701")], 403, "origin_not_allowed"),
        (&[("Host", "localhost"), ("Origin", "https://evil.example")], 403, "origin_not_allowed"),
        (&[("Host", "localhost"), ("Origin", "null")], 403, "origin_not_allowed"),
        (&[("Host", "localhost"), ("Origin", "ftp://localhost")], 403, "origin_not_allowed"),
    ] {
        for path in ["/v1/version", "/healthz"] {
            let answer = server.ask("GET", path, headers, "").await;
            assert_eq!(answer.status, status, "{headers:?}");
            if status != 200 {
                assert_eq!(answer.problem(), code, "{headers:?}");
            }
        }
    }
    let nameless = exchange(server.address, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!((nameless.status, nameless.problem().as_str()), (400, "bad_host"));
    // An absolute request line counts before the header.
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(server.address, absolute).await.problem(), "host_not_allowed");
}

#[tokio::test]
async fn readiness_is_the_masters() {
    let ready = Arc::new(AtomicBool::new(false));
    let probe = ready.clone();
    let server = start(|config| config.ready = Arc::new(move || probe.load(Ordering::Relaxed))).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "not_ready"));
    assert_eq!(server.get("/healthz").await.status, 200);
    ready.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn panic_costs_its_own_request_only() {
    let server = start(|_| {}).await;
    let answer = server.submit(&EVAL.replace("{\"kind\"", "{\"name\":\"panic\",\"kind\"")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (500, "panic"));
    assert!(!answer.text().contains("told to"), "{}", answer.text());
    assert_eq!(server.submit(EVAL).await.status, 202);
    assert!(!server.task.is_finished());
}

#[tokio::test]
async fn plain_http_stays_on_loopback() {
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let config = HttpConfig::new(bind.parse().unwrap(), Arc::new(|_| true));
        let refused = serve(config, Arc::new(super::Fake::default()), std::future::pending()).await.unwrap_err();
        assert!(matches!(refused, HttpError::PlainBeyondLoopback(_)), "{bind}: {refused}");
    }
}

#[tokio::test]
async fn taken_address_is_named() {
    let server = start(|_| {}).await;
    let config = HttpConfig::new(server.address, Arc::new(|_| true));
    let refused = serve(config, server.fake.clone(), std::future::pending()).await.unwrap_err().to_string();
    assert!(refused.contains(&server.address.to_string()), "{refused}");
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_ends_streams() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    server.fake.gate.forget_permits(1000);
    let (address, fake) = (server.address, server.fake.clone());
    let post = super::request("POST", "/v1/jobs", &[("Content-Type", "application/json")], EVAL);
    let slow = tokio::spawn(async move { exchange(address, &post).await });
    let events =
        tokio::spawn(async move { exchange(address, &super::request("GET", "/v1/jobs/1/events", &[], "")).await });
    timeout(DEADLINE, async {
        while fake.watchers(job) == 0 || fake.submitting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    server.stop.send(()).unwrap();
    let events = events.await.unwrap();
    assert!(events.complete && events.text().contains("\"state\":\"running\""), "{events:?}");
    server.fake.gate.add_permits(1);
    assert_eq!(slow.await.unwrap().status, 202);
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
    assert_eq!(server.fake.requests.lock().unwrap().len(), 1);
    assert_eq!(job, JobId(1));
}
