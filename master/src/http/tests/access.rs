//! Who may do what: roles, namespaces, rates, sessions, and what the audit log has of it.

use super::fake::eval_spec;
use super::raw::{Answer, DEADLINE, TOKEN};
use super::{Server, start};
use crate::access::audit::AuditLog;
use crate::access::tokens::TokenTable;
use crate::store::record::TokenRecord;
use quipu_shared::access::AccessRole;
use quipu_shared::ids::TokenId;
use std::sync::Arc;
use std::time::Instant;

/// A token of a role, kept to a namespace where one is named.
fn record(text: &str, role: AccessRole, namespace: Option<&str>) -> TokenRecord {
    TokenRecord {
        name: text.trim_start_matches("qp_").into(),
        role,
        namespace: namespace.map(|name| name.parse().unwrap()),
        digest: *blake3::hash(text.as_bytes()).as_bytes(),
        created_at_ms: 1,
        expires_at_ms: None,
        requests_per_s: None,
    }
}

async fn start_with(records: Vec<TokenRecord>) -> Server {
    let records = records.into_iter().zip(1..).map(|(record, id)| (TokenId(id), record)).collect();
    start(|config| config.token_table = Arc::new(TokenTable::new(records, 100, 10_000))).await
}

impl Server {
    async fn with(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        self.ask(method, path, &headers, body).await
    }
}

/// Every route, with the least role that it takes.
const ROUTES: [(&str, &str, AccessRole); 23] = [
    ("GET", "/v1/jobs", AccessRole::Read),
    ("GET", "/v1/jobs/1", AccessRole::Read),
    ("GET", "/v1/jobs/1/explain", AccessRole::Read),
    ("GET", "/v1/jobs/1/events", AccessRole::Read),
    ("GET", "/v1/jobs/1/results", AccessRole::Read),
    ("GET", "/v1/schedules", AccessRole::Read),
    ("GET", "/v1/nodes", AccessRole::Read),
    ("GET", "/v1/version", AccessRole::Read),
    ("POST", "/v1/jobs", AccessRole::Submit),
    ("POST", "/v1/jobs:batch", AccessRole::Submit),
    ("POST", "/v1/jobs/1:cancel", AccessRole::Submit),
    ("POST", "/v1/jobs/1:retry", AccessRole::Submit),
    ("DELETE", "/v1/jobs/1", AccessRole::Submit),
    ("PUT", "/v1/uploads", AccessRole::Submit),
    ("POST", "/v1/schedules", AccessRole::Submit),
    ("POST", "/v1/schedules/1:pause", AccessRole::Submit),
    ("DELETE", "/v1/schedules/1", AccessRole::Submit),
    ("POST", "/v1/eval", AccessRole::Submit),
    ("POST", "/v1/nodes/worker-1:drain", AccessRole::Operate),
    ("GET", "/v1/tokens", AccessRole::Operate),
    ("POST", "/v1/tokens", AccessRole::Operate),
    ("DELETE", "/v1/tokens/1", AccessRole::Operate),
    ("GET", "/debug/pprof/heap", AccessRole::Operate),
];

#[tokio::test]
async fn a_role_opens_its_routes_and_no_others() {
    let tokens = [("qp_r", AccessRole::Read), ("qp_s", AccessRole::Submit), ("qp_o", AccessRole::Operate)];
    let server = start_with(tokens.iter().map(|(text, role)| record(text, *role, None)).collect()).await;
    let job = server.fake.add(&eval_spec());
    server.fake.change(job, |view| view.state = quipu_shared::service::JobState::Succeeded);
    for (method, path, least) in ROUTES {
        let anonymous = server.ask(method, path, &[("Authorization", "Bearer qp_x")], "").await;
        assert_eq!((anonymous.status, anonymous.problem().as_str()), (401, "wrong_token"), "{method} {path}");
        for (token, role) in tokens {
            let answer = server.with(token, method, path, "").await;
            let refused = answer.status == 403;
            assert_eq!(refused, role < least, "{method} {path} with {role}: {answer:?}");
            assert!(answer.status != 401 && (!refused || answer.problem() == "role"), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn who_has_a_namespace_sees_and_makes_what_is_in_it() {
    let records = ["a", "b"].map(|name| record(&format!("qp_{name}"), AccessRole::Operate, Some(name)));
    let server = start_with(records.into()).await;
    let body = serde_json::to_string(&eval_spec()).unwrap();
    let made = server.with("qp_a", "POST", "/v1/jobs", &body).await;
    assert_eq!((made.status, &made.json()["namespace"]), (202, &"a".into()));
    let mut spec = eval_spec();
    spec.queue.namespace = "b".parse().unwrap();
    let named = serde_json::to_string(&spec).unwrap();
    let refused = server.with("qp_a", "POST", "/v1/jobs", &named).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "other_namespace"));
    for (method, path) in [
        ("GET", "/v1/jobs/1"),
        ("GET", "/v1/jobs/1/explain"),
        ("GET", "/v1/jobs/1/events"),
        ("GET", "/v1/jobs/1/results"),
        ("POST", "/v1/jobs/1:cancel"),
        ("POST", "/v1/jobs/1:retry"),
        ("DELETE", "/v1/jobs/1"),
    ] {
        let other = server.with("qp_b", method, path, "").await;
        assert_eq!((other.status, other.problem().as_str()), (404, "unknown_job"), "{method} {path}");
    }
    assert_eq!(server.with("qp_a", "GET", "/v1/jobs/1", "").await.status, 200);
    assert_eq!(server.with(TOKEN, "GET", "/v1/jobs/1", "").await.status, 200);
    let asked = server.with("qp_b", "GET", "/v1/jobs?namespace=a", "").await;
    assert_eq!((asked.status, asked.problem().as_str()), (403, "other_namespace"));
    // A batch fails line by line.
    let line = |spec| format!("{}\n", serde_json::json!({ "spec": spec }));
    let lines = line(serde_json::to_value(eval_spec()).unwrap()) + &line(serde_json::to_value(&spec).unwrap());
    let headers = [("Authorization", "Bearer qp_a"), ("Content-Type", "application/x-ndjson")];
    let batch = server.ask("POST", "/v1/jobs:batch", &headers, &lines).await;
    let answers: Vec<serde_json::Value> = batch.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(answers[0]["job"].is_u64(), "{answers:?}");
    assert_eq!(answers[1]["error"]["code"], "other_namespace");
    // What concerns everybody is not for who is kept to a namespace.
    let drain = server.with("qp_a", "POST", "/v1/nodes/worker-1:drain", "").await;
    assert_eq!((drain.status, drain.problem().as_str()), (403, "other_namespace"));
}

#[tokio::test]
async fn schedules_of_other_namespaces_are_not_there() {
    let records = ["a", "b"].map(|name| record(&format!("qp_{name}"), AccessRole::Submit, Some(name)));
    let server = start_with(records.into()).await;
    let spec = serde_json::json!({ "cron": "@daily", "job": eval_spec() }).to_string();
    let made = server.with("qp_a", "POST", "/v1/schedules", &spec).await;
    assert_eq!(made.status, 201, "{made:?}");
    let count = |answer: Answer| answer.json()["schedules"].as_array().unwrap().len();
    assert_eq!(count(server.with("qp_a", "GET", "/v1/schedules", "").await), 1);
    assert_eq!(count(server.with("qp_b", "GET", "/v1/schedules", "").await), 0);
    for (method, path) in [("GET", "/v1/schedules/1"), ("POST", "/v1/schedules/1:pause"), ("DELETE", "/v1/schedules/1")]
    {
        assert_eq!(server.with("qp_b", method, path, "").await.status, 404, "{method} {path}");
    }
    assert_eq!(server.with("qp_a", "DELETE", "/v1/schedules/1", "").await.status, 200);
}

#[tokio::test]
async fn a_token_is_good_for_its_rate_and_until_its_end() {
    let slow = TokenRecord { requests_per_s: Some(2), ..record("qp_slow", AccessRole::Read, None) };
    let old = TokenRecord { expires_at_ms: Some(2), ..record("qp_old", AccessRole::Read, None) };
    let server = start_with(vec![slow, old]).await;
    let mut answers = Vec::new();
    // Two may come at once; that three take half a second is not to be feared.
    for _ in 0..20 {
        answers.push(server.with("qp_slow", "GET", "/v1/version", "").await);
    }
    let refused = answers.iter().find(|answer| answer.status == 429).expect("it is too fast");
    assert_eq!(refused.problem(), "token_rate");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(answers[0].status, 200);
    assert_eq!(server.with("qp_old", "GET", "/v1/version", "").await.status, 401);
    assert_eq!(server.with(TOKEN, "GET", "/v1/version", "").await.status, 200);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let server = start(|_| {}).await;
    let made = server.with(TOKEN, "POST", "/v1/tokens", r#"{"name":"ci","role":"submit","namespace":"a"}"#).await;
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/tokens/1")));
    assert!(made.json()["secret"].as_str().unwrap().starts_with("qp_"));
    let listed = server.get("/v1/tokens").await;
    assert_eq!(listed.json()["tokens"][0]["name"], "ci");
    assert!(!listed.text().contains("secret") && !listed.text().contains("digest"), "{}", listed.text());
    assert_eq!(server.ask("DELETE", "/v1/tokens/1", &[], "").await.status, 204);
    for (path, status, code) in [
        ("/v1/tokens/1", 404, "unknown_token"),
        ("/v1/tokens/01", 400, "bad_token_id"),
        ("/v1/tokens/x", 400, "bad_token_id"),
    ] {
        let answer = server.ask("DELETE", path, &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{path}");
    }
    for body in [r#"{"name":"x","role":"root"}"#, r#"{"name":"x"}"#, r#"{"name":"x","role":"read","namespace":"A"}"#] {
        assert_eq!(server.with(TOKEN, "POST", "/v1/tokens", body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn a_browser_logs_in_with_a_token_and_out_again() {
    let server = start_with(vec![record("qp_r", AccessRole::Read, None)]).await;
    let host = format!("localhost:{}", server.address.port());
    let origin = format!("http://{host}");
    let form = [("Content-Type", "application/x-www-form-urlencoded"), ("Origin", origin.as_str()), ("Host", &host)];
    let wrong = server.ask("POST", "/login", &form, "token=qp_wrong").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text().contains("role=\"alert\"") && !wrong.text().contains("qp_wrong"), "{}", wrong.text());
    let entered = server.ask("POST", "/login", &form, "token=qp_r").await;
    assert_eq!((entered.status, entered.header("location")), (303, Some("/")));
    let cookie = entered.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && cookie.contains("; Path=/"));
    let pair = cookie.split(';').next().unwrap().to_owned();
    assert!(!pair.contains("qp_r"), "the cookie is not the token");
    let session = |method: &'static str, path: &'static str, origin: Option<&str>| {
        let mut headers = vec![("Cookie", pair.clone()), ("Host", host.clone()), ("NoToken", String::new())];
        headers.extend(origin.map(|origin| ("Origin", origin.to_owned())));
        let server = &server;
        async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            server.ask(method, path, &headers, "").await
        }
    };
    assert_eq!(session("GET", "/v1/version", None).await.status, 200);
    let blind = session("POST", "/logout", None).await;
    assert_eq!((blind.status, blind.problem().as_str()), (403, "no_origin"));
    let foreign = session("POST", "/logout", Some("http://evil.example")).await;
    assert_eq!((foreign.status, foreign.problem().as_str()), (403, "origin_not_allowed"));
    let write = session("POST", "/v1/jobs/1:cancel", Some(&origin)).await;
    assert_eq!((write.status, write.problem().as_str()), (403, "role"));
    let left = session("POST", "/logout", Some(&origin)).await;
    assert_eq!((left.status, left.header("location")), (303, Some("/login")));
    assert_eq!(session("GET", "/v1/version", None).await.status, 401);
}

#[tokio::test]
async fn who_asks_for_a_page_without_a_token_gets_the_form() {
    let server = start(|_| {}).await;
    let page = server.ask("GET", "/", &[("NoToken", ""), ("Accept", "text/html,*/*")], "").await;
    assert_eq!(page.status, 401);
    assert!(page.text().contains("method=\"post\" action=\"/login\""), "{}", page.text());
    let other = server.ask("GET", "/", &[("NoToken", ""), ("Accept", "*/*")], "").await;
    assert_eq!((other.status, other.problem().as_str()), (401, "no_token"));
    assert_eq!(server.ask("GET", "/login", &[("NoToken", "")], "").await.status, 200);
}

#[tokio::test]
async fn the_audit_log_has_what_was_changed_and_who_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.ndjson");
    let log = AuditLog::open(&path, 1 << 20).unwrap();
    let reader = TokenTable::new(vec![(TokenId(7), record("qp_reader", AccessRole::Read, None))], 100, 10_000);
    let server = start(|config| {
        config.audit = Some(log);
        config.token_table = Arc::new(reader);
    })
    .await;
    server.submit(&serde_json::to_string(&eval_spec()).unwrap()).await;
    server.get("/v1/jobs").await;
    server.ask("GET", "/v1/jobs", &[("Authorization", "Bearer qp_wrong")], "").await;
    server.with("qp_reader", "POST", "/v1/jobs/1:cancel", "").await;
    server.ask("POST", "/v1/jobs/1:cancel", &[], "").await;
    let deadline = Instant::now() + DEADLINE;
    let entries = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        let entries: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if entries.len() >= 4 {
            assert!(!text.contains("qp_wrong"), "{text}");
            break entries;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::task::yield_now().await;
    };
    let told: Vec<_> = entries.iter().map(|e| (e["method"].as_str().unwrap(), e["status"].as_u64().unwrap())).collect();
    assert_eq!(told, [("POST", 202), ("GET", 401), ("POST", 403), ("POST", 202)]);
    assert_eq!((&entries[0]["caller"], &entries[0]["location"]), (&"cluster".into(), &"/v1/jobs/1".into()));
    assert_eq!((&entries[2]["caller"], &entries[2]["token"]), (&"reader".into(), &7.into()));
    assert_eq!((&entries[1]["caller"], &entries[1]["peer"]), (&serde_json::Value::Null, &"127.0.0.1".into()));
}

#[tokio::test]
async fn pages_of_other_origins_ask_only_where_that_is_configured() {
    const APP: &str = "https://app.example";
    let preflight = [("Origin", APP), ("Access-Control-Request-Method", "POST"), ("NoToken", "")];
    let closed = start(|_| {}).await;
    let refused = closed.ask("GET", "/v1/jobs", &[("Origin", APP)], "").await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "origin_not_allowed"));
    let asked = closed.ask("OPTIONS", "/v1/jobs", &preflight, "").await;
    assert!(asked.status >= 400 && asked.header("access-control-allow-origin").is_none(), "{asked:?}");
    let open = start(|config| config.cors_origins = vec![APP.into()]).await;
    let asked = open.ask("OPTIONS", "/v1/jobs", &preflight, "").await;
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (200, Some(APP)));
    assert_eq!(asked.header("access-control-allow-credentials"), None);
    let jobs = open.ask("GET", "/v1/jobs", &[("Origin", APP)], "").await;
    assert_eq!((jobs.status, jobs.header("access-control-allow-origin")), (200, Some(APP)));
    let other = open.ask("GET", "/v1/jobs", &[("Origin", "https://evil.example")], "").await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (403, None));
}
