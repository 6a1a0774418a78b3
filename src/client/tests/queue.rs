//! Batches, jobs that have ended, schedules, and a master that has too much to do.

use super::{DEADLINE, Lose, Server, client, lossy_proxy, page, start, stub, submit_request};
use quipu_shared::ids::{JobId, ScheduleId};
use quipu_shared::service::{ErrorKind, JobQuery, JobService, JobState, ScheduleChange, SubmitRequest};
use quipu_shared::spec::{JobKind, ScheduleSpec};
use std::sync::atomic::Ordering;
use tokio::time::timeout;

pub(super) fn schedule() -> ScheduleSpec {
    serde_json::from_str(r#"{"cron":"@daily","job":{"kind":{"eval":{"formulas":["1"]}}}}"#).unwrap()
}

fn formula(text: String) -> SubmitRequest {
    let mut request = submit_request();
    request.spec.kind = JobKind::Eval { formulas: vec![text] };
    request
}

fn batches(server: &Server) -> Vec<usize> {
    server.fake.batches.lock().unwrap().clone()
}

#[tokio::test]
async fn batches_are_cut_into_requests_and_keep_their_order() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let requests: Vec<_> = (0..5_003).map(|i| formula(i.to_string())).collect();
    let answers = client.submit_batch(requests).await.unwrap();
    assert_eq!(batches(&server), [5_000, 3]);
    let jobs: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(jobs, (1..=5_003).map(JobId).collect::<Vec<_>>());
    let taken = server.fake.requests.lock().unwrap().clone();
    assert!(taken.iter().all(|request| request.idempotency_key.as_ref().is_some_and(|key| key.len() == 36)));
    assert_eq!(taken[5_002].spec.kind, JobKind::Eval { formulas: vec!["5002".into()] });
    assert!(client.submit_batch(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn large_jobs_go_in_requests_of_their_own() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let requests = [3 << 20, 3 << 20, 3 << 20, 9 << 20, 10].map(|bytes| formula("1".repeat(bytes)));
    let answers = client.submit_batch(requests.into()).await.unwrap();
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), (1..=5).map(JobId).collect::<Vec<_>>());
    assert_eq!(batches(&server), [2, 1, 1, 1]);
}

#[tokio::test]
async fn jobs_of_a_batch_fail_alone() {
    let server = start(|_| {}).await;
    let mut requests = vec![formula("1".into()), submit_request(), formula("2".into())];
    requests[1].spec.kind = JobKind::Eval { formulas: Vec::new() };
    let answers = client(server.address).submit_batch(requests).await.unwrap();
    assert_eq!((&answers[0], &answers[2]), (&Ok(JobId(1)), &Ok(JobId(2))));
    let refused = answers[1].as_ref().unwrap_err();
    assert_eq!((refused.kind, refused.code.as_str()), (ErrorKind::Invalid, "no_formula"));
}

#[tokio::test]
async fn lost_batches_make_no_second_jobs() {
    for lose in [Lose::Request, Lose::Answer] {
        let server = start(|_| {}).await;
        let (proxy, connections) = lossy_proxy(server.address, 2, lose).await;
        let answers = client(proxy).submit_batch(vec![formula("1".into()), formula("2".into())]).await.unwrap();
        assert_eq!(answers, [Ok(JobId(1)), Ok(JobId(2))]);
        assert_eq!(connections.load(Ordering::Relaxed), 3);
        assert_eq!(server.fake.requests.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn accepted_jobs_are_told_before_the_error_that_came_after() {
    let server = start(|config| config.limits.batch_jobs_max = 4_999).await;
    let client = client(server.address);
    let many = |count| (0..count).map(|i: usize| formula(i.to_string())).collect::<Vec<_>>();
    assert_eq!(client.submit_batch(many(5_000)).await.unwrap_err().code, "batch_too_large");
    // A large first job has a request of its own; the next request is refused.
    let mut requests = vec![formula("1".repeat(9 << 20))];
    requests.extend(many(5_000));
    let answers = client.submit_batch(requests).await.unwrap();
    assert_eq!((answers.len(), &answers[0]), (5_001, &Ok(JobId(1))));
    assert!(answers[1..].iter().all(|answer| answer.as_ref().unwrap_err().code == "batch_too_large"));
}

#[tokio::test]
async fn answers_that_do_not_fit_the_batch_are_refused() {
    for answer in [
        "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{\"job\":1}\n",
        "HTTP/1.1 202 Accepted\r\nContent-Length: 6\r\n\r\n{}\n{}\n",
        "HTTP/1.1 202 Accepted\r\nContent-Length: 6\r\n\r\n<html>",
    ] {
        let client = client(stub(answer).await);
        let refused = client.submit_batch(vec![formula("1".into()), formula("2".into())]).await.unwrap_err();
        assert_eq!((refused.kind, refused.code.as_str()), (ErrorKind::Internal, "bad_answer"), "{answer}");
    }
}

#[tokio::test]
async fn busy_master_is_asked_again_but_a_submit_is_told() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let job = client.submit(submit_request()).await.unwrap();
    server.fake.busy.store(3, Ordering::Relaxed);
    assert_eq!(timeout(DEADLINE, client.job(job)).await.unwrap().unwrap().id, job);
    assert_eq!(server.fake.busy.load(Ordering::Relaxed), 0);
    server.fake.busy.store(1, Ordering::Relaxed);
    let told = client.submit(submit_request()).await.unwrap_err();
    assert_eq!((told.kind, told.retry_after_s), (ErrorKind::Busy, Some(0)));
    server.fake.busy.store(1, Ordering::Relaxed);
    let told = client.submit_batch(vec![submit_request()]).await.unwrap();
    assert_eq!(told[0].as_ref().unwrap_err().retry_after_s, Some(0));
}

#[tokio::test]
async fn queries_reach_the_service_whole() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let mut spec = submit_request().spec;
    spec.name = Some("a&b=c 100 % é".into());
    spec.queue.labels = [("k".into(), "v=w&x#+".into()), ("other".into(), String::new())].into();
    for _ in 0..1_200 {
        server.fake.add(&spec);
    }
    server.fake.add(&submit_request().spec);
    server.fake.change(JobId(7), |view| view.state = JobState::Queued);
    let query = JobQuery { name: spec.name.clone(), labels: spec.queue.labels.clone(), ..page(None, 2_000) };
    assert_eq!(client.jobs(query.clone()).await.unwrap().len(), 1_200);
    let newest = client.jobs(JobQuery { newest_first: true, ..query.clone() }).await.unwrap();
    assert_eq!(newest.len(), 1_200);
    assert!(newest.is_sorted_by(|a, b| a.id > b.id));
    let states = vec![JobState::Queued, JobState::Failed];
    let queued = client.jobs(JobQuery { states, ..query.clone() }).await.unwrap();
    assert_eq!(queued.iter().map(|view| view.id).collect::<Vec<_>>(), [JobId(7)]);
    assert!(client.jobs(JobQuery { name: Some("a".into()), ..query }).await.unwrap().is_empty());
}

#[tokio::test]
async fn ended_jobs_are_retried_explained_and_forgotten() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let job = client.submit(submit_request()).await.unwrap();
    assert_eq!(client.retry(job, None).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(client.forget(job).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(client.explain(job).await.unwrap(), server.fake.explain(job).await.unwrap());
    server.fake.change(job, |view| view.state = JobState::Failed);
    let again = client.retry(job, Some("again".into())).await.unwrap();
    assert_eq!(client.retry(job, Some("again".into())).await.unwrap(), again);
    assert_eq!(client.job(again).await.unwrap().retry_of, Some(job));
    assert_eq!(client.retry(job, Some("a b".into())).await.unwrap_err().code, "bad_idempotency_key");
    client.forget(job).await.unwrap();
    assert_eq!(*server.fake.forgotten.lock().unwrap(), [job]);
    // The key is chosen before the first try here too.
    let (proxy, _) = lossy_proxy(server.address, 1, Lose::Answer).await;
    let third = super::client(proxy).retry(job, None).await.unwrap();
    assert_eq!((third, client.jobs(page(None, 10)).await.unwrap().len()), (JobId(3), 3));
}

#[tokio::test]
async fn schedules_round_trip() {
    let server = start(|_| {}).await;
    let client = client(server.address);
    let view = client.add_schedule(schedule(), Some("k".into())).await.unwrap();
    assert_eq!((view.id, &view.spec), (ScheduleId(1), &schedule()));
    assert_eq!(client.schedules().await.unwrap().as_slice(), std::slice::from_ref(&view));
    assert!(client.change_schedule(view.id, ScheduleChange::Pause).await.unwrap().paused);
    assert!(!client.change_schedule(view.id, ScheduleChange::Resume).await.unwrap().paused);
    assert_eq!(client.change_schedule(view.id, ScheduleChange::Remove).await.unwrap(), view);
    let gone = client.change_schedule(view.id, ScheduleChange::Remove).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound);
}
