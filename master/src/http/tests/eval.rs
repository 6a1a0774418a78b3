//! Formulas that are answered at once.

use super::{Answer, Server, start};

impl Server {
    async fn eval(&self, body: &str) -> Answer {
        self.ask("POST", "/v1/eval", &[("Content-Type", "application/json")], body).await
    }

    async fn check(&self, body: &str) -> Answer {
        self.ask("POST", "/v1/check", &[("Content-Type", "application/json")], body).await
    }
}

#[tokio::test]
async fn one_formula_gives_a_value() {
    let server = start(|_| ()).await;
    for (body, expected) in [
        (r#"{"formula":"10 + 2 * 3"}"#, r#"{"type":"int","value":16}"#),
        (r#"{"formula":"a / b","variables":{"a":1.0,"b":3}}"#, r#"{"type":"float","value":0.3333333333333333}"#),
        (r#"{"formula":"a","variables":{"a":9223372036854775807}}"#, r#"{"type":"int","value":9223372036854775807}"#),
        (r#"{"formula":"0.0 / 0"}"#, r#"{"type":"float","value":"NaN"}"#),
        (
            r#"{"formula":"(1, (2.0, \"x\"), a > 1)","variables":{"a":2}}"#,
            r#"{"type":"tuple","value":[1,[2.0,"x"],true]}"#,
        ),
        (r#"{"formula":"()"}"#, r#"{"type":"empty","value":null}"#),
    ] {
        let answer = server.eval(body).await;
        assert_eq!((answer.status, answer.text()), (200, expected), "{body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn a_formula_without_a_value_is_a_problem_with_its_place() {
    let server = start(|_| ()).await;
    for (body, code, kind, column) in [
        (r#"{"formula":"1 +"}"#, "unexpected_end", "invalid", 4),
        (r#"{"formula":"2 * x"}"#, "unknown_variable", "invalid", 5),
        (r#"{"formula":"1 / 0"}"#, "division_by_zero", "evaluation", 3),
        (r#"{"formula":"min(1,2)","symbols":{"functions":"none"}}"#, "function_not_allowed", "invalid", 1),
    ] {
        let answer = server.eval(body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (422, code), "{body}");
        let problem = answer.json();
        assert_eq!((problem["kind"].as_str(), problem["place"]["column"].as_u64()), (Some(kind), Some(column)));
        assert!(problem["place"]["formula"].is_string());
    }
}

#[tokio::test]
async fn several_formulas_fail_one_by_one() {
    let server = start(|_| ()).await;
    let answer = server
        .eval(r#"{"evaluations":[{"formula":"1 + 1"},{"formula":"k * a","variables":{"a":2}},{"formula":"1 / 0"}],"variables":{"k":0.5}}"#)
        .await;
    assert_eq!(answer.status, 200);
    let results = answer.json()["results"].take();
    assert_eq!(results[0], serde_json::json!({ "index": 0, "type": "int", "value": 2 }));
    assert_eq!(results[1], serde_json::json!({ "index": 1, "type": "float", "value": 1.0 }));
    assert_eq!(
        (results[2]["index"].as_u64(), results[2]["error"]["code"].as_str()),
        (Some(2), Some("division_by_zero"))
    );
    let rows = server.eval(r#"{"formula":"a * 2","columns":{"a":[1,2.5]}}"#).await.json();
    assert_eq!(rows["results"][1], serde_json::json!({ "index": 1, "type": "float", "value": 5.0 }));
    assert_eq!(server.eval(r#"{"evaluations":[]}"#).await.text(), r#"{"results":[]}"#);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let server = start(|config| config.limits.eval_bytes_max = 1_000).await;
    for (body, status, code) in [
        ("{", 400, "bad_json"),
        ("[]", 400, "bad_field"),
        ("{}", 400, "bad_field"),
        (r#"{"formula":1}"#, 400, "bad_field"),
        (r#"{"formula":"1","variables":{"a":{"flot":1}}}"#, 400, "bad_field"),
        (&format!(r#"{{"formula":"{}"}}"#, "x".repeat(1_000)), 413, "request_too_large"),
        (&format!(r#"{{"formula":"1","variables":{{"a":{}1{}}}}}"#, "[".repeat(200), "]".repeat(200)), 400, "bad_json"),
    ] {
        for answer in [server.eval(body).await, server.check(body).await] {
            assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{body}");
        }
    }
    let answer = server.ask("POST", "/v1/eval", &[("Content-Type", "text/plain")], r#"{"formula":"1"}"#).await;
    assert_eq!((answer.status, answer.problem().as_str()), (415, "not_json"));
    assert_eq!(server.get("/v1/eval").await.status, 405);
}

#[tokio::test]
async fn a_check_answers_whether_or_not_the_formula_is_good() {
    let server = start(|_| ()).await;
    let good = server.check(r#"{"formula":"n / 2","types":{"n":"int"}}"#).await;
    assert_eq!(good.status, 200);
    let good = good.json();
    assert_eq!((good["valid"].as_bool(), good["type"].as_str()), (Some(true), Some("int")));
    assert_eq!(good["columns"], serde_json::json!([{ "name": "n", "type": "int" }]));
    let bad = server.check(r#"{"formula":"n /"}"#).await;
    assert_eq!((bad.status, bad.json()["error"]["code"].as_str()), (200, Some("unexpected_end")));
}
