//! What is asked and done about jobs that wait, recur and have ended; and whether the master takes any.

use super::fake::{error, eval_spec};
use super::raw::request;
use super::start;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobState};
use std::sync::atomic::Ordering;
use tokio::time::timeout;

#[tokio::test]
async fn lists_are_filtered_and_turned_round() {
    let server = start(|_| {}).await;
    let mut spec = eval_spec();
    for i in 0..6_u32 {
        spec.name = Some(if i < 3 { "early" } else { "late & loud" }.into());
        spec.queue.labels = [("parity".into(), (i % 2).to_string()), ("all".into(), "yes".into())].into();
        server.fake.add(&spec);
    }
    server.fake.change(JobId(2), |view| view.state = JobState::Queued);
    server.fake.change(JobId(3), |view| view.state = JobState::Failed);
    for (query, ids) in [
        ("", &[1, 2, 3, 4, 5, 6][..]),
        ("?order=newest", &[6, 5, 4, 3, 2, 1]),
        ("?order=newest&after=4&limit=2", &[3, 2]),
        ("?order=oldest&after=4", &[5, 6]),
        ("?state=queued", &[2]),
        ("?state=queued,failed", &[2, 3]),
        ("?state=queued&state=failed", &[2, 3]),
        ("?state=succeeded", &[]),
        ("?label=parity%3D1", &[2, 4, 6]),
        ("?label=parity%3D1&label=all%3Dyes&state=running", &[4, 6]),
        ("?label=parity=1&label=all=no", &[]),
        ("?name=late+%26%20loud", &[4, 5, 6]),
    ] {
        let answer = server.get(&format!("/v1/jobs{query}")).await;
        let page = answer.json();
        let found: Vec<u64> = page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }
}

#[tokio::test]
async fn retried_jobs_are_new_ones() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    server.fake.requests.lock().unwrap().push(quipu_shared::service::SubmitRequest {
        spec: eval_spec(),
        traceparent: None,
        idempotency_key: None,
    });
    server.fake.change(job, |view| view.state = JobState::Failed);
    let headers = [("Idempotency-Key", "again")];
    for _ in 0..2 {
        let answer = server.ask("POST", "/v1/jobs/1:retry", &headers, "").await;
        assert_eq!((answer.status, answer.header("location")), (202, Some("/v1/jobs/2")), "{answer:?}");
        assert_eq!((answer.json()["id"].as_u64(), answer.json()["retry_of"].as_u64()), (Some(2), Some(1)));
    }
    let answer = server.ask("POST", "/v1/jobs/1:retry", &[("Idempotency-Key", "a b")], "").await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "bad_idempotency_key"));
}

#[tokio::test]
async fn jobs_are_explained_and_forgotten() {
    let server = start(|_| {}).await;
    let job = server.fake.add(&eval_spec());
    let lines = server.get("/v1/jobs/1/explain").await.json();
    assert_eq!(lines, serde_json::json!({ "lines": ["job 1 is running", "it is a fake"] }));
    server.fake.change(job, |view| view.state = JobState::Succeeded);
    let answer = server.ask("DELETE", "/v1/jobs/1", &[], "").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(*server.fake.forgotten.lock().unwrap(), [job]);
}

#[tokio::test]
async fn schedules_live_and_go() {
    let server = start(|_| {}).await;
    let json = [("Content-Type", "application/json")];
    let body = r#"{"cron":"*/5 * * * *","job":{"kind":{"eval":{"formulas":["1"]}}}}"#;
    let added = server.ask("POST", "/v1/schedules", &json, body).await;
    assert_eq!((added.status, added.header("location")), (201, Some("/v1/schedules/1")), "{added:?}");
    let view = added.json();
    assert_eq!((&view["spec"]["time_zone"], &view["spec"]["missed"]), (&"UTC".into(), &"skip".into()));
    assert_eq!(server.get("/v1/schedules").await.json()["schedules"][0], view);
    assert_eq!(server.get("/v1/schedules/1").await.json(), view);
    for (action, paused) in [("pause", true), ("resume", false)] {
        let changed = server.ask("POST", &format!("/v1/schedules/1:{action}"), &[], "").await;
        assert_eq!((changed.status, &changed.json()["paused"]), (200, &paused.into()));
    }
    assert_eq!(server.ask("DELETE", "/v1/schedules/1", &[], "").await.json(), view);
    assert_eq!(server.get("/v1/schedules").await.json()["schedules"], serde_json::json!([]));
    for (body, code) in [("{", "bad_json"), ("{}", "bad_field"), (r#"{"cron":"@daily","jobs":1}"#, "bad_field")] {
        let refused = server.ask("POST", "/v1/schedules", &json, body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, code), "{body}");
    }
}

#[tokio::test]
async fn readiness_tells_why_it_is_red() {
    let server = start(|_| {}).await;
    assert_eq!(server.get("/readyz").await.status, 200);
    *server.fake.unready.lock().unwrap() = Some(error(ErrorKind::Internal, "disk_full"));
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "not_ready"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("disk_full happened"), "{answer:?}");
    assert_eq!(server.get("/healthz").await.status, 200);
    *server.fake.unready.lock().unwrap() = None;
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn one_client_does_not_take_every_place() {
    let server = start(|config| config.limits.requests_per_client_max = 2).await;
    server.fake.gate.forget_permits(1000);
    let post =
        request("POST", "/v1/jobs", &[("Content-Type", "application/json")], r#"{"kind":{"eval":{"formulas":["1"]}}}"#);
    let address = server.address;
    let held: Vec<_> = (0..2)
        .map(|_| {
            let post = post.clone();
            tokio::spawn(async move { super::raw::exchange(address, &post).await })
        })
        .collect();
    timeout(super::raw::DEADLINE, async {
        while server.fake.submitting.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let third = server.get("/v1/jobs").await;
    assert_eq!((third.status, third.problem().as_str()), (429, "too_many_requests_of_client"));
    assert_eq!(third.header("retry-after"), Some("1"));
    assert_eq!(server.get("/readyz").await.status, 200);
    server.fake.gate.add_permits(2);
    for held in held {
        assert_eq!(held.await.unwrap().status, 202);
    }
    assert_eq!(server.get("/v1/jobs").await.status, 200);
}
